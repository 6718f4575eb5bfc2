//! A local broker behind a bad network: its answers arrive at random moments or get lost, and what it relays
//! arrives in order and late. `interleavings` uses it, on a runtime with one thread.

use crate::support::Random;
use hauyna::broker::{Answer, Broker, BrokerError, Publish, Published, Relay};
use hauyna::channel::Publication;
use hauyna_test::WrappedBroker;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// How the network treats publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Slow,
    /// One in four fails: before it is stored, after, or it is never answered.
    Lossy,
}

/// The network between the hub and the broker.
#[derive(Clone)]
pub(crate) struct UnreliableBroker(Arc<Inner>);

struct Inner {
    network: Network,
    is_calm: AtomicBool,
    random: Mutex<Random>,
    /// Publications that wait to be relayed, in the order of offsets.
    waiting: Mutex<VecDeque<(Relay, Arc<Publication>)>>,
}

impl UnreliableBroker {
    pub(crate) fn new(seed: u64, network: Network) -> Self {
        Self(Arc::new(Inner {
            network,
            is_calm: AtomicBool::new(false),
            random: Mutex::new(Random(seed)),
            waiting: Mutex::default(),
        }))
    }

    /// Returns the local broker behind this network.
    pub(crate) fn broker(&self) -> WrappedBroker {
        let [publishing, subscribing, reading, relaying] = [(); 4].map(|()| self.clone());
        WrappedBroker::default()
            .on_publish(move |local, publish| publishing.publish(local.clone(), publish))
            .on_subscribe(move |local, channel| {
                let (local, channel) = (local.clone(), channel.clone());
                subscribing.delayed(move || local.subscribe(&channel))
            })
            .on_history(move |local, channel, range| {
                let (local, channel) = (local.clone(), channel.clone());
                reading.delayed(move || local.history(&channel, range))
            })
            .on_relay(move |relay, publication| {
                relaying.0.waiting.lock().unwrap().push_back((relay.clone(), publication.clone()));
            })
    }

    /// Stops losing calls.
    pub(crate) fn calm(&self) {
        self.0.is_calm.store(true, Ordering::Relaxed);
    }

    fn draw(&self, below: u64) -> u64 {
        self.0.random.lock().unwrap().below(below)
    }

    /// Relays the oldest waiting publication after some turns.
    fn relay_later(&self) {
        let (own, count) = (self.clone(), self.draw(TURNS));
        tokio::spawn(async move {
            turns(count).await;
            let next = own.0.waiting.lock().unwrap().pop_front();
            if let Some((relay, publication)) = next {
                relay.relay(&publication);
            }
        });
    }

    /// Answers after some turns, before and after the call.
    fn delayed<T: Send + 'static>(&self, ask: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
        let (before, after) = (self.draw(TURNS), self.draw(TURNS));
        Answer::later(async move {
            turns(before).await;
            let answer = ask().await;
            turns(after).await;
            answer
        })
    }

    fn publish(&self, local: Arc<dyn Broker>, publish: Publish) -> Answer<Result<Published, BrokerError>> {
        let is_lossy = self.0.network == Network::Lossy && !self.0.is_calm.load(Ordering::Relaxed);
        let (own, fate, count) = (self.clone(), if is_lossy { self.draw(16) } else { 15 }, self.draw(TURNS));
        Answer::later(async move {
            turns(count).await;
            if fate == 0 {
                return Err(BrokerError::from_source("refused before it was stored"));
            }
            let published = local.publish(publish).await;
            // One for each publication, also if its key was known: then there is nothing to relay.
            own.relay_later();
            turns(own.draw(TURNS)).await;
            match fate {
                1 | 2 => Err(BrokerError::from_source("lost after it was stored")),
                3 => std::future::pending().await,
                _ => published,
            }
        })
    }
}

/// Lets other tasks run this many times.
pub(crate) async fn turns(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

const TURNS: u64 = 8;
