//! The shared state of the engine in memory, the calls of its nodes, and what a test does to it.

use super::MemoryBroker;
use super::delivery::Delivery;
use super::faults::{CallFault, EngineFaults};
use super::maps::Maps;
use super::nodes::{NodeTable, TIME_TO_LIVE};
use super::stream::EngineStream;
use crate::Random;
use hauyna::ChannelName;
use hauyna::broker::{
    BrokerError, Change, Epoch, HistoryPage, HistoryRange, MapChange, MapName, NodeId, Publish, Published,
    Repeat, Swept,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// An engine in memory, which connects several hubs in one process as Redis or NATS connect processes. Each
/// [`MemoryEngine::broker`] is the broker of one node.
///
/// Without faults it loses nothing. [`MemoryEngine::set_faults`] makes it lose, repeat, delay and reorder
/// what it delivers, and refuse calls or lose their answers; [`MemoryEngine::cut`],
/// [`MemoryEngine::roll_back`] and [`MemoryEngine::flush`] are the failures of a whole system. What happens
/// is decided by random numbers from a seed, and all times are those of Tokio's clock, which a test can
/// pause.
///
/// # Examples
///
/// ```
/// use hauyna::{ChannelOptions, Handler, Hub, json};
/// use hauyna_test::{MemoryEngine, TestServer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let engine = MemoryEngine::new();
/// let node = || Hub::builder().channels("news", ChannelOptions::new()).broker(engine.broker()).build();
/// let (here, there) = (node(), node());
/// let server = TestServer::start(here, Handler::new());
/// let mut reader = server.json("/").await;
/// reader.expect("session").await;
/// reader.subscribe("news").await;
///
/// there.channel("news").broadcast(json!("from the other node")).await.unwrap();
/// assert_eq!(reader.expect("message").await["content"], "from the other node");
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryEngine(Arc<Mutex<State>>);

pub(super) struct State {
    random: Random,
    faults: EngineFaults,
    next_epoch: u64,
    next_node: u32,
    streams: HashMap<ChannelName, EngineStream>,
    keys: HashMap<(ChannelName, Box<str>), PublishedKey>,
    pub(super) maps: Maps,
    pub(super) nodes: NodeTable,
    links: BTreeMap<NodeId, EngineLink>,
}

#[derive(Debug, Clone, Copy)]
struct PublishedKey {
    at: Instant,
    published: Published,
}

/// The way from the engine to one node.
struct EngineLink {
    subscribed: HashSet<ChannelName>,
    sender: mpsc::Sender<Delivery>,
    is_cut: bool,
    connected_since: Instant,
}

impl MemoryEngine {
    /// Creates an engine without faults.
    pub fn new() -> Self {
        Self::with_seed(0)
    }

    /// Creates an engine without faults, whose later faults are decided by random numbers from a seed.
    pub fn with_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random(seed),
            faults: EngineFaults::none(),
            next_epoch: 1,
            next_node: 1,
            streams: HashMap::new(),
            keys: HashMap::new(),
            maps: Maps::default(),
            nodes: NodeTable::default(),
            links: BTreeMap::new(),
        })))
    }

    /// Creates the broker of a new node.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime, and after 16,777,215 nodes.
    pub fn broker(&self) -> MemoryBroker {
        let (sender, receiver) = mpsc::channel(LINK_CAPACITY);
        let mut state = self.0.lock();
        let node = NodeId::new(state.next_node).expect("fewer nodes than identifiers");
        state.next_node += 1;
        let link = EngineLink {
            subscribed: HashSet::new(),
            sender,
            is_cut: false,
            connected_since: Instant::now() - TIME_TO_LIVE,
        };
        state.links.insert(node, link);
        drop(state);
        MemoryBroker::new(self.clone(), node, receiver)
    }

    /// Sets the faults from now on.
    pub fn set_faults(&self, faults: EngineFaults) {
        self.0.lock().faults = faults;
    }

    /// Cuts the link of a node: its calls are refused, and what is relayed meanwhile is lost.
    pub fn cut(&self, node: NodeId) {
        if let Some(link) = self.0.lock().links.get_mut(&node) {
            link.is_cut = true;
        }
    }

    /// Brings the link of a node back. A link on which too much is on its way still stays cut.
    pub fn heal(&self, node: NodeId) {
        if let Some(link) = self.0.lock().links.get_mut(&node)
            && link.is_cut
            && link.sender.try_send(Delivery::LinkBack).is_ok()
        {
            link.is_cut = false;
            link.connected_since = Instant::now();
        }
    }

    /// Loses the newest `count` publications of every stream and their keys, as a system does that comes back
    /// from a copy, and continues each under another epoch. 0 loses nothing, which nobody can know.
    pub fn roll_back(&self, count: u64) {
        let mut state = self.0.lock();
        let state = &mut *state;
        for stream in state.streams.values_mut() {
            let epoch = next_epoch(&mut state.next_epoch);
            stream.roll_back(count, epoch);
        }
        let State { streams, keys, .. } = state;
        keys.retain(|(channel, _), key| {
            let top = streams.get(channel).map(EngineStream::top);
            key.published.position.zip(top).is_none_or(|(at, top)| at.offset <= top.offset)
        });
    }

    /// Loses everything: streams, keys, maps and leases.
    pub fn flush(&self) {
        let mut state = self.0.lock();
        state.streams.clear();
        state.keys.clear();
        state.maps.clear();
        state.nodes.clear();
    }

    pub(super) fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Does one call of a node: it takes its time on both ways, and its faults happen to it.
    pub(super) async fn call<T>(
        &self,
        node: NodeId,
        run: impl FnOnce(&mut State, Instant) -> T,
    ) -> Result<T, BrokerError> {
        let (way_there, way_back, fault) = {
            let mut state = self.0.lock();
            let State { random, faults, .. } = &mut *state;
            (faults.draw_delay(random), faults.draw_delay(random), faults.draw_call(random))
        };
        pause(way_there).await;
        let done = {
            let mut state = self.0.lock();
            if fault == CallFault::Refused || state.is_cut(node) {
                return Err(BrokerError::new("the engine is not reachable"));
            }
            let now = Instant::now();
            state.expire(now);
            run(&mut state, now)
        };
        pause(way_back).await;
        if fault == CallFault::AnswerLost || self.0.lock().is_cut(node) {
            return Err(BrokerError::unknown("the engine did not answer"));
        }
        Ok(done)
    }

    /// Subscribes a node at once; [`MemoryEngine::call`] says whether the engine has confirmed it.
    pub(super) fn subscribe(&self, node: NodeId, channel: &ChannelName) {
        if let Some(link) = self.0.lock().links.get_mut(&node) {
            link.subscribed.insert(channel.clone());
        }
    }

    pub(super) fn unsubscribe(&self, node: NodeId, channel: &ChannelName) {
        if let Some(link) = self.0.lock().links.get_mut(&node) {
            link.subscribed.remove(channel);
        }
    }

    /// Ends the link of a node whose broker is dropped.
    pub(super) fn leave(&self, node: NodeId) {
        self.0.lock().links.remove(&node);
    }

    pub(super) fn delivery_fault(&self) -> (super::faults::DeliveryFault, Duration) {
        let mut state = self.0.lock();
        let State { random, faults, .. } = &mut *state;
        (faults.draw_delivery(random), faults.draw_delay(random))
    }
}

impl State {
    pub(super) fn is_cut(&self, node: NodeId) -> bool {
        self.links.get(&node).is_none_or(|link| link.is_cut)
    }

    pub(super) fn is_subscribed(&self, node: NodeId, channel: &ChannelName) -> bool {
        self.links.get(&node).is_some_and(|link| link.subscribed.contains(channel))
    }

    pub(super) fn connected_since(&self, node: NodeId) -> Option<Instant> {
        self.links.get(&node).map(|link| link.connected_since)
    }

    pub(super) fn new_epoch(&mut self) -> Epoch {
        next_epoch(&mut self.next_epoch)
    }

    pub(super) fn publish(&mut self, publish: Publish, now: Instant) -> Published {
        let Publish { draft, retention, key } = publish;
        let channel = draft.channel().clone();
        let key = key.map(|key| (channel.clone(), key));
        if let Some(earlier) = key.as_ref().and_then(|key| self.keys.get(key)) {
            return Published { repeat: Repeat::Yes, ..earlier.published };
        }
        let position = retention.map(|retention| {
            let next_epoch_number = &mut self.next_epoch;
            let stream = self
                .streams
                .entry(channel.clone())
                .or_insert_with(|| EngineStream::new(next_epoch(next_epoch_number)));
            stream.append(draft.clone(), retention, now)
        });
        self.deliver(&channel, &Delivery::Publication(draft, position));
        let published = Published { position, repeat: Repeat::No };
        if let Some(key) = key {
            self.keys.insert(key, PublishedKey { at: now, published });
        }
        published
    }

    pub(super) fn history(
        &mut self,
        channel: &ChannelName,
        range: HistoryRange,
        now: Instant,
    ) -> HistoryPage {
        let number = &mut self.next_epoch;
        let stream =
            self.streams.entry(channel.clone()).or_insert_with(|| EngineStream::new(next_epoch(number)));
        stream.page(range, now)
    }

    pub(super) fn relay_change(&mut self, map: &MapName, change: MapChange) {
        let channel = ChannelName::of_map(map);
        self.deliver(&channel, &Delivery::MapChange(map.clone(), change));
    }

    pub(super) fn sweep(&mut self, node: NodeId, limit: u32) -> Swept {
        if !self.nodes.is_gone(node) {
            return Swept::default();
        }
        let (removed, has_more) = self.maps.sweep(node, limit as usize);
        let removed: Vec<(MapName, hauyna::broker::Field, Change)> = removed
            .into_iter()
            .map(|(map, change, relayed)| {
                let field = relayed.field.clone();
                self.relay_change(&map, relayed);
                (map, field, change)
            })
            .collect();
        if !self.maps.has_fields_of(node) {
            self.nodes.forget(node);
        }
        Swept::new(removed, has_more)
    }

    /// Puts a delivery on the way to every node that has subscribed. A node that does not keep up loses its
    /// link, as at the output limit of a real system.
    fn deliver(&mut self, channel: &ChannelName, delivery: &Delivery) {
        let is_for_all = *channel == ChannelName::everybody();
        for link in self.links.values_mut().filter(|link| !link.is_cut) {
            if (is_for_all || link.subscribed.contains(channel))
                && link.sender.try_send(delivery.clone()).is_err()
            {
                link.is_cut = true;
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        self.keys.retain(|_, key| now - key.at < KEY_AGE);
        for (map, change) in self.maps.expire(now) {
            self.relay_change(&map, change);
        }
    }
}

/// Returns the next epoch, spread over all values so that no two engines with different numbers of streams
/// have the same ones.
fn next_epoch(number: &mut u64) -> Epoch {
    *number += 1;
    Epoch::new(Random(*number).next().max(1))
}

/// Waits, or lets other tasks run where there is no time to wait.
pub(super) async fn pause(time: Duration) {
    if time.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(time).await;
    }
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("MemoryEngine")
            .field("nodes", &state.links.len())
            .field("subscriptions", &state.links.values().map(|link| link.subscribed.len()).sum::<usize>())
            .field("streams", &state.streams.len())
            .finish_non_exhaustive()
    }
}

/// How long an idempotency key is known.
const KEY_AGE: Duration = Duration::from_secs(300);
/// Number of deliveries that may be on their way to a node.
const LINK_CAPACITY: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use hauyna::broker::{Broker, Relay, Retention};
    use hauyna::channel::Draft;
    use hauyna::json;

    #[tokio::test(start_paused = true)]
    async fn a_link_that_is_healed_while_it_is_full_loses_nothing_silently() {
        let engine = MemoryEngine::new();
        let broker = engine.broker();
        let (relayed, map) = (Arc::new(Mutex::new(0)), MapName::new("test", "a"));
        let outdated = relayed.clone();
        broker.start(Relay::to(|_| {}).on_map_outdated(move |_| *outdated.lock() += 1));
        let (channel, changes) = (ChannelName::new("a").unwrap(), ChannelName::of_map(&map));
        for channel in [&channel, &changes] {
            broker.subscribe(channel).await.unwrap();
        }
        for number in 0..=LINK_CAPACITY {
            let draft = Draft::new(channel.clone(), &json!(number)).unwrap();
            let retention = Some(Retention { messages: 10, age: Duration::from_secs(60) });
            engine.lock().publish(Publish { draft, retention, key: None }, Instant::now());
        }
        engine.heal(broker.id());
        crate::advance(Duration::from_secs(1)).await;
        engine.heal(broker.id());
        crate::advance(Duration::from_secs(1)).await;
        assert!(*relayed.lock() > 0, "changes of the map were lost while the link was full");
        assert!(broker.is_ready());
    }
}
