//! A broker that hangs or panics: every call gets an answer in time, and nothing accumulates until then.

use crate::support::{named, registered};
use hauyna::broker::{Answer, Broker, BrokerError, HistoryPage, LocalBroker, Publish, Published, Relay};
use hauyna::error::ErrorKind;
use hauyna::{ChannelName, ChannelOptions, ErrorType, HistoryRange, Hub, json};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What the broker does with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conduct {
    Answers,
    Hangs,
    Panics,
}

/// A broker that does not answer some of its questions, and counts those that wait.
#[derive(Debug)]
struct Stuck {
    local: LocalBroker,
    publish: Conduct,
    subscribe: Conduct,
    history: Conduct,
    waiting: Arc<AtomicUsize>,
}

struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stuck {
    fn new(publish: Conduct, subscribe: Conduct, history: Conduct) -> Self {
        Self { local: LocalBroker::default(), publish, subscribe, history, waiting: Arc::default() }
    }

    fn answer<T: Send + 'static>(
        &self,
        conduct: Conduct,
        ask: impl FnOnce() -> Answer<hauyna::Result<T, BrokerError>>,
    ) -> Answer<hauyna::Result<T, BrokerError>> {
        match conduct {
            Conduct::Answers => ask(),
            Conduct::Panics => Answer::later(async { panic!("in an answer") }),
            Conduct::Hangs => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let waiting = Waiting(self.waiting.clone());
                Answer::later(async move {
                    let _waiting = waiting;
                    pending().await
                })
            }
        }
    }
}

impl Broker for Stuck {
    fn start(&self, relay: Relay) {
        self.local.start(relay);
    }

    fn publish(&self, publish: Publish) -> Answer<hauyna::Result<Published, BrokerError>> {
        self.answer(self.publish, || self.local.publish(publish))
    }

    fn subscribe(&self, channel: &ChannelName) -> Answer<hauyna::Result<(), BrokerError>> {
        self.answer(self.subscribe, || self.local.subscribe(channel))
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.local.unsubscribe(channel);
    }

    fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Answer<hauyna::Result<HistoryPage, BrokerError>> {
        self.answer(self.history, || self.local.history(channel, range))
    }
}

const TIMEOUT: Duration = Duration::from_secs(7);

fn hub(broker: Stuck) -> (Hub, Arc<AtomicUsize>) {
    let waiting = broker.waiting.clone();
    let channels = ChannelOptions::new().announce_subscribers();
    let hub = Hub::builder().channels("{*any}", channels).broker_timeout(TIMEOUT).broker(broker).build();
    (hub, waiting)
}

fn protocol(error: &hauyna::Error) -> ErrorType {
    match error.kind() {
        ErrorKind::Protocol(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_a_broker_that_hangs_is_answered_in_time() {
    let (hub, waiting) = hub(Stuck::new(Conduct::Hangs, Conduct::Hangs, Conduct::Hangs));
    let start = Instant::now();
    let channel = hub.channel("x");
    let published = channel.broadcast(1).await.unwrap_err();
    assert_eq!(protocol(&published), ErrorType::Timeout, "it may have been published");
    let read = channel.history(HistoryRange::all()).await.unwrap_err();
    assert_eq!(protocol(&read), ErrorType::Unavailable);
    assert_eq!(protocol(&hub.inspect().channel("x").await.unwrap_err()), ErrorType::Unavailable);
    assert_eq!(protocol(&hub.user("alice").send(1).await.unwrap_err()), ErrorType::Timeout);
    assert_eq!(protocol(&hub.groups().send("g", 1).await.unwrap_err()), ErrorType::Timeout);
    assert_eq!(protocol(&hub.connections().broadcast(1).await.unwrap_err()), ErrorType::Timeout);
    assert_eq!(start.elapsed().as_secs(), 6 * TIMEOUT.as_secs());
    assert_eq!(waiting.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_that_wait_for_a_broker_that_hangs_end_together() {
    for (subscribe, history) in [(Conduct::Hangs, Conduct::Answers), (Conduct::Answers, Conduct::Hangs)] {
        let (hub, waiting) = hub(Stuck::new(Conduct::Answers, subscribe, history));
        let handler = named().share();
        let mut connections = Vec::new();
        for _ in 0..10 {
            connections.push(registered(&hub, "alice", &handler).await);
        }
        let start = Instant::now();
        let asked = connections.iter().map(|(_, connection)| {
            let (channel, connection) = (hub.channel("x"), connection.clone());
            tokio::spawn(async move { channel.subscribe(&connection, ()).await })
        });
        for asked in asked.collect::<Vec<_>>() {
            assert_eq!(protocol(&asked.await.unwrap().unwrap_err()), ErrorType::Unavailable);
        }
        assert_eq!(start.elapsed().as_secs(), TIMEOUT.as_secs(), "nobody waits for another's time");
        assert_eq!((hub.stats().channels, waiting.load(Ordering::Relaxed)), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_given_up_leaves_nothing_behind() {
    let (hub, waiting) = hub(Stuck::new(Conduct::Answers, Conduct::Answers, Conduct::Hangs));
    let (_client, connection) = registered(&hub, "alice", &named().share()).await;
    let channel = hub.channel("x");
    let given_up = tokio::time::timeout(Duration::from_secs(1), channel.subscribe(&connection, ())).await;
    assert!(given_up.is_err());
    assert_eq!((hub.stats().channels, waiting.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn announcements_for_a_broker_that_hangs_do_not_gather() {
    let (hub, waiting) = hub(Stuck::new(Conduct::Hangs, Conduct::Answers, Conduct::Answers));
    let (_client, connection) = registered(&hub, "alice", &named().share()).await;
    for _ in 0..2_000 {
        hub.channel("x").subscribe(&connection, json!({ "a": 1 })).await.unwrap();
        hub.channel("x").unsubscribe(&connection).unwrap();
    }
    assert_eq!(waiting.load(Ordering::Relaxed), 0, "it is not asked to announce");
}

#[tokio::test]
async fn a_broker_that_panics_in_its_answer_has_failed() {
    let (hub, _) = hub(Stuck::new(Conduct::Panics, Conduct::Panics, Conduct::Panics));
    let (_client, connection) = registered(&hub, "alice", &named().share()).await;
    let channel = hub.channel("x");
    assert_eq!(
        protocol(&channel.broadcast(1).await.unwrap_err()),
        ErrorType::Timeout,
        "it may have been published"
    );
    assert_eq!(protocol(&channel.history(HistoryRange::all()).await.unwrap_err()), ErrorType::Unavailable);
    assert_eq!(protocol(&channel.subscribe(&connection, ()).await.unwrap_err()), ErrorType::Unavailable);
    assert_eq!((hub.stats().channels, hub.stats().panics), (0, 3));
}
