//! A broker whose answers arrive at random moments or get lost: the local broker behind a bad network. Its
//! relays arrive in order and late. `interleavings` uses it, on a runtime with one thread.

use crate::support::Random;
use hauyna::broker::{Answer, Broker, BrokerError, HistoryPage, LocalBroker, Publish, Published, Relay};
use hauyna::channel::Publication;
use hauyna::{ChannelName, HistoryRange};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// What it does to publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Slow,
    /// One in four fails: before it is stored, after, or it is never answered.
    Lossy,
}

#[derive(Debug, Clone)]
pub(crate) struct UnreliableBroker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    local: LocalBroker,
    network: Network,
    is_calm: AtomicBool,
    random: Mutex<Random>,
    relay: OnceLock<Relay>,
    /// In the order of offsets.
    waiting: Arc<Mutex<VecDeque<Arc<Publication>>>>,
}

impl UnreliableBroker {
    pub(crate) fn new(seed: u64, network: Network) -> Self {
        Self(Arc::new(Inner {
            local: LocalBroker::default(),
            network,
            is_calm: AtomicBool::new(false),
            random: Mutex::new(Random(seed)),
            relay: OnceLock::new(),
            waiting: Arc::default(),
        }))
    }

    /// Nothing is lost any more.
    pub(crate) fn calm(&self) {
        self.0.is_calm.store(true, Ordering::Relaxed);
    }

    fn draw(&self, below: u64) -> u64 {
        self.0.random.lock().unwrap().below(below)
    }

    /// Relays what waits longest, after a while.
    fn relay_later(&self) {
        let (own, count) = (self.clone(), self.draw(TURNS));
        tokio::spawn(async move {
            turns(count).await;
            let next = own.0.waiting.lock().unwrap().pop_front();
            if let (Some(publication), Some(relay)) = (next, own.0.relay.get()) {
                relay.relay(&publication);
            }
        });
    }

    fn scattered<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&LocalBroker) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let (own, before, after) = (self.clone(), self.draw(TURNS), self.draw(TURNS));
        Answer::later(async move {
            turns(before).await;
            let answer = ask(&own.0.local).await;
            turns(after).await;
            answer
        })
    }
}

impl Broker for UnreliableBroker {
    fn start(&self, relay: Relay) {
        self.0.relay.set(relay).unwrap();
        let waiting = self.0.waiting.clone();
        self.0
            .local
            .start(Relay::to(move |publication| waiting.lock().unwrap().push_back(publication.clone())));
    }

    fn publish(&self, publish: Publish) -> Answer<Result<Published, BrokerError>> {
        let is_lossy = self.0.network == Network::Lossy && !self.0.is_calm.load(Ordering::Relaxed);
        let (own, fate, count) = (self.clone(), if is_lossy { self.draw(16) } else { 15 }, self.draw(TURNS));
        Answer::later(async move {
            turns(count).await;
            if fate == 0 {
                return Err(BrokerError::from_source("refused before it was stored"));
            }
            let published = own.0.local.publish(publish).await;
            // One for each publication, those whose key was known included: they find nothing to relay.
            own.relay_later();
            turns(own.draw(TURNS)).await;
            match fate {
                1 | 2 => Err(BrokerError::from_source("lost after it was stored")),
                3 => std::future::pending().await,
                _ => published,
            }
        })
    }

    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), BrokerError>> {
        let channel = channel.clone();
        self.scattered(move |local| local.subscribe(&channel))
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.0.local.unsubscribe(channel);
    }

    fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Answer<Result<HistoryPage, BrokerError>> {
        let channel = channel.clone();
        self.scattered(move |local| local.history(&channel, range))
    }
}

/// Lets others have so many turns.
pub(crate) async fn turns(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

const TURNS: u64 = 8;
