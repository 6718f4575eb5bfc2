//! The broker and the directory of one node on the engine in memory.

use super::delivery::{self, Delivery};
use super::engine::{MemoryEngine, pause};
use hauyna::broker::{
    Answer, Beat, Broker, BrokerError, Change, Directory, Field, Followers, HistoryPage, HistoryRead,
    MapName, MapPage, MapRange, NodeId, Nodes, Publish, Published, Put, Relay, Swept,
};
use hauyna::channel::Draft;
use hauyna::{ChannelName, HistoryRange, Position};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// The broker of one node, from [`MemoryEngine::broker`](super::MemoryEngine::broker).
#[derive(Debug)]
pub struct MemoryBroker {
    node: Arc<Node>,
    receiver: Mutex<Option<mpsc::Receiver<Delivery>>>,
}

/// One node on the engine.
#[derive(Debug)]
pub(super) struct Node {
    id: NodeId,
    engine: MemoryEngine,
    link: OnceLock<Link>,
    runtime: Handle,
}

#[derive(Debug)]
struct Link {
    relay: Relay,
    followers: Followers,
}

impl MemoryBroker {
    pub(super) fn new(engine: MemoryEngine, id: NodeId, receiver: mpsc::Receiver<Delivery>) -> Self {
        let node = Arc::new(Node { id, engine, link: OnceLock::new(), runtime: Handle::current() });
        Self { node, receiver: Mutex::new(Some(receiver)) }
    }

    /// Returns the identifier of the node, for [`MemoryEngine::cut`](super::MemoryEngine::cut).
    pub fn id(&self) -> NodeId {
        self.node.id
    }
}

impl Drop for MemoryBroker {
    fn drop(&mut self) {
        self.node.engine.leave(self.node.id);
    }
}

impl Broker for MemoryBroker {
    fn start(&self, relay: Relay) {
        let Some(receiver) = self.receiver.lock().take() else { return };
        let followers = Followers::new(relay.clone());
        let _ = self.node.link.set(Link { relay, followers });
        let node = Arc::downgrade(&self.node);
        self.node.runtime.spawn(delivery::run(self.node.engine.clone(), node.clone(), receiver));
        self.node.runtime.spawn(verify_in_intervals(node));
    }

    fn publish(&self, publish: Publish) -> Answer<Result<Published, BrokerError>> {
        let node = self.node.clone();
        Answer::later(
            async move { node.engine.call(node.id, |state, now| state.publish(publish, now)).await },
        )
    }

    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), BrokerError>> {
        let (node, channel) = (self.node.clone(), channel.clone());
        node.link().followers.follow(&channel);
        node.engine.subscribe(node.id, &channel);
        Answer::later(async move {
            node.engine.call(node.id, |_, _| ()).await?;
            let Some(read) = node.link().followers.begin(&channel) else { return Ok(()) };
            // In a task of its own, as this answer may be dropped.
            let reader = node.clone();
            let reading = node.runtime.spawn(async move { reader.read(&read).await });
            reading.await.unwrap_or_else(|_| Err(BrokerError::new("the runtime has ended")))?;
            // The answer promises that whatever is published from now on is relayed, so the follower has to
            // have begun. Another subscription may have replaced the read.
            while node.link().followers.position(&channel).is_none() && node.is_subscribed(&channel) {
                pause(READ_AGAIN).await;
            }
            Ok(())
        })
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.node.engine.unsubscribe(self.node.id, channel);
        self.node.link().followers.forget(channel);
    }

    fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Answer<Result<HistoryPage, BrokerError>> {
        let (node, channel) = (self.node.clone(), channel.clone());
        Answer::later(async move { node.history(&channel, range).await })
    }

    fn directory(&self) -> Option<Arc<dyn Directory>> {
        Some(self.node.clone())
    }

    fn is_ready(&self) -> bool {
        !self.node.engine.lock().is_cut(self.node.id)
    }
}

impl Node {
    fn link(&self) -> &Link {
        self.link.get().expect("the broker is started before it is used")
    }

    pub(super) fn relay(&self) -> &Relay {
        &self.link().relay
    }

    pub(super) fn receive(self: &Arc<Self>, draft: Draft, position: Option<Position>) {
        let publication = Arc::new(draft.publication(position));
        if position.is_none() {
            // Nobody numbers it, so nobody can tell whether it is in order.
            return self.relay().relay(&publication);
        }
        let read = self.link().followers.receive(publication);
        self.spawn_reading(read);
    }

    /// The link was cut: whatever was relayed meanwhile is read from the history.
    pub(super) fn link_back(self: &Arc<Self>) {
        for channel in self.link().followers.channels() {
            match channel.map() {
                Some(map) => self.relay().map_outdated(&map),
                None => {
                    let read = self.link().followers.begin(&channel);
                    self.spawn_reading(read);
                }
            }
        }
    }

    async fn history(&self, channel: &ChannelName, range: HistoryRange) -> Result<HistoryPage, BrokerError> {
        self.engine.call(self.id, |state, now| state.history(channel, range, now)).await
    }

    /// Compares every channel with the top of its stream, so that also the loss of a last publication is
    /// found.
    async fn verify(self: &Arc<Self>) {
        let followers = &self.link().followers;
        for channel in followers.channels() {
            let Some(asked) = followers.position(&channel) else { continue };
            if let Ok(page) = self.history(&channel, HistoryRange::top()).await {
                let read = followers.verify(&channel, asked, page.top);
                self.spawn_reading(read);
            }
        }
    }

    fn is_subscribed(&self, channel: &ChannelName) -> bool {
        self.engine.lock().is_subscribed(self.id, channel)
    }

    /// Does one read, and leaves those that follow to a task.
    async fn read(self: &Arc<Self>, read: &HistoryRead) -> Result<(), BrokerError> {
        let followers = &self.link().followers;
        let result = self.history(&read.channel, read.range).await;
        let next = match &result {
            Ok(page) => followers.page(read, page),
            Err(_) => followers.read_failed(read),
        };
        self.spawn_reading(next);
        result.map(drop)
    }

    /// Reads what a follower asks for, until it asks for nothing more, is forgotten, or the broker is
    /// dropped.
    fn spawn_reading(self: &Arc<Self>, read: Option<HistoryRead>) {
        let Some(mut read) = read else { return };
        let node = Arc::downgrade(self);
        self.runtime.spawn(async move {
            while let Some(node) = node.upgrade() {
                let followers = &node.link().followers;
                let page = match node.relay().is_congested_for(&read.channel) {
                    true => None,
                    false => node.history(&read.channel, read.range).await.ok(),
                };
                let next = match &page {
                    Some(page) => followers.page(&read, page),
                    None => followers.read_failed(&read),
                };
                let Some(next) = next else { return };
                read = next;
                drop(node); // the broker may be dropped during the pause
                if page.is_none() {
                    pause(READ_AGAIN).await;
                }
            }
        });
    }
}

impl Directory for Node {
    fn node(&self) -> NodeId {
        self.id
    }

    fn put(&self, put: Put) -> Answer<Result<Change, BrokerError>> {
        let (engine, id) = (self.engine.clone(), self.id);
        Answer::later(async move {
            engine
                .call(id, |state, now| {
                    let (map, epoch) = (put.map.clone(), state.new_epoch());
                    let (change, relayed) = state.maps.put(put, id, now, epoch);
                    relayed.into_iter().for_each(|relayed| state.relay_change(&map, relayed));
                    change
                })
                .await
        })
    }

    fn remove(&self, map: &MapName, field: &Field) -> Answer<Result<Change, BrokerError>> {
        let (engine, id, map, field) = (self.engine.clone(), self.id, map.clone(), field.clone());
        Answer::later(async move {
            engine
                .call(id, |state, _| {
                    let epoch = state.new_epoch();
                    let (change, relayed) = state.maps.remove(&map, &field, epoch);
                    relayed.into_iter().for_each(|relayed| state.relay_change(&map, relayed));
                    change
                })
                .await
        })
    }

    fn read(&self, map: &MapName, range: MapRange) -> Answer<Result<MapPage, BrokerError>> {
        let (engine, id, map) = (self.engine.clone(), self.id, map.clone());
        Answer::later(async move {
            engine
                .call(id, |state, _| {
                    let epoch = state.new_epoch();
                    state.maps.read(&map, &range, epoch)
                })
                .await
        })
    }

    fn maps(
        &self,
        kind: &str,
        after: Option<&MapName>,
        limit: u32,
    ) -> Answer<Result<Vec<MapName>, BrokerError>> {
        let (engine, id, kind, after) = (self.engine.clone(), self.id, kind.to_owned(), after.cloned());
        Answer::later(async move {
            engine.call(id, |state, _| state.maps.names(&kind, after.as_ref(), limit as usize)).await
        })
    }

    fn sweep(&self, node: NodeId, limit: u32) -> Answer<Result<Swept, BrokerError>> {
        let (engine, id) = (self.engine.clone(), self.id);
        Answer::later(async move { engine.call(id, |state, _| state.sweep(node, limit)).await })
    }

    fn beat(&self, beat: Beat) -> Answer<Result<Nodes, BrokerError>> {
        let (engine, id) = (self.engine.clone(), self.id);
        Answer::later(async move {
            engine
                .call(id, |state, now| {
                    let since = state.connected_since(id).unwrap_or(now);
                    state.nodes.beat(id, beat, since, now)
                })
                .await
        })
    }
}

async fn verify_in_intervals(node: Weak<Node>) {
    loop {
        tokio::time::sleep(VERIFY_EVERY).await;
        let Some(node) = node.upgrade() else { return };
        node.verify().await;
    }
}

/// How often channels are compared with the tops of their streams.
const VERIFY_EVERY: Duration = Duration::from_secs(60);
/// The pause before a read is tried again.
const READ_AGAIN: Duration = Duration::from_millis(20);
