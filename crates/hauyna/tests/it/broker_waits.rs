//! A broker that hangs or panics: every call gets an answer in time, and nothing accumulates until then.

use crate::support::{registered, user_handler};
use hauyna::broker::{Answer, BrokerError};
use hauyna::error::ErrorKind;
use hauyna::{ChannelOptions, ErrorType, HistoryRange, Hub, json};
use hauyna_test::WrappedBroker;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How the broker treats a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Answers,
    Hangs,
    Panics,
}

/// Counts a call of the broker that waits for an answer.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Behaviour {
    fn apply<T: Send + 'static>(
        self,
        waiting: &Arc<AtomicUsize>,
        ask: impl FnOnce() -> Answer<Result<T, BrokerError>>,
    ) -> Answer<Result<T, BrokerError>> {
        match self {
            Self::Answers => ask(),
            Self::Panics => Answer::later(async { panic!("in an answer") }),
            Self::Hangs => {
                let waiting = Waiting::new(waiting);
                Answer::later(async move {
                    let _waiting = waiting;
                    pending().await
                })
            }
        }
    }
}

const TIMEOUT: Duration = Duration::from_secs(7);

/// How a broker treats each kind of call.
#[derive(Debug, Clone, Copy)]
struct Behaviours {
    publish: Behaviour,
    subscribe: Behaviour,
    history: Behaviour,
}

/// Returns a hub on a broker with these behaviours, and the number of calls that wait for an answer.
fn hub(behaviours: Behaviours) -> (Hub, Arc<AtomicUsize>) {
    let waiting = Arc::new(AtomicUsize::new(0));
    let [publishing, subscribing, reading] = [waiting.clone(), waiting.clone(), waiting.clone()];
    let Behaviours { publish, subscribe, history } = behaviours;
    let broker = WrappedBroker::default()
        .on_publish(move |local, draft| publish.apply(&publishing, || local.publish(draft)))
        .on_subscribe(move |local, channel| subscribe.apply(&subscribing, || local.subscribe(channel)))
        .on_history(move |local, channel, range| history.apply(&reading, || local.history(channel, range)));
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
async fn calls_to_a_hanging_broker_time_out() {
    let (hub, waiting) =
        hub(Behaviours { publish: Behaviour::Hangs, subscribe: Behaviour::Hangs, history: Behaviour::Hangs });
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
async fn subscriptions_to_a_hanging_broker_fail_together() {
    for (subscribe, history) in
        [(Behaviour::Hangs, Behaviour::Answers), (Behaviour::Answers, Behaviour::Hangs)]
    {
        let (hub, waiting) = hub(Behaviours { publish: Behaviour::Answers, subscribe, history });
        let handler = user_handler().share();
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
        assert_eq!(start.elapsed().as_secs(), TIMEOUT.as_secs(), "no timeout adds to another one");
        assert_eq!((hub.stats().channels, waiting.load(Ordering::Relaxed)), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn abandoned_subscription_leaves_nothing_behind() {
    let (hub, waiting) = hub(Behaviours {
        publish: Behaviour::Answers,
        subscribe: Behaviour::Answers,
        history: Behaviour::Hangs,
    });
    let (_client, connection) = registered(&hub, "alice", &user_handler().share()).await;
    let channel = hub.channel("x");
    let given_up = tokio::time::timeout(Duration::from_secs(1), channel.subscribe(&connection, ())).await;
    assert!(given_up.is_err());
    assert_eq!((hub.stats().channels, waiting.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn announcements_do_not_accumulate_while_the_broker_hangs() {
    let (hub, waiting) = hub(Behaviours {
        publish: Behaviour::Hangs,
        subscribe: Behaviour::Answers,
        history: Behaviour::Answers,
    });
    let (_client, connection) = registered(&hub, "alice", &user_handler().share()).await;
    for _ in 0..2_000 {
        hub.channel("x").subscribe(&connection, json!({ "a": 1 })).await.unwrap();
        hub.channel("x").unsubscribe(&connection).unwrap();
    }
    assert_eq!(waiting.load(Ordering::Relaxed), 0, "announcements do not use the broker");
}

#[tokio::test]
async fn panic_in_the_answer_of_a_broker_is_a_failure() {
    let (hub, _) = hub(Behaviours {
        publish: Behaviour::Panics,
        subscribe: Behaviour::Panics,
        history: Behaviour::Panics,
    });
    let (_client, connection) = registered(&hub, "alice", &user_handler().share()).await;
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
