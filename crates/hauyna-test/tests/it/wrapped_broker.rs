//! The wrapped broker: what is not replaced reaches the broker inside, and a replaced method decides alone.

use hauyna::broker::{Answer, Broker, BrokerError, Continuity, Epoch, LocalBroker, Relay};
use hauyna::{ChannelName, ChannelOptions, ErrorType, HistoryRange, Hub, Position};
use hauyna_test::{WrappedBroker, broker_contract};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrapped_broker_without_closures_fulfils_the_contract() {
    broker_contract::run(async || WrappedBroker::new(WrappedBroker::default())).await;
}

#[tokio::test]
async fn replaced_methods_decide_alone() {
    let (sweeps, unsubscribed) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (count, names) = (sweeps.clone(), unsubscribed.clone());
    let broker = WrappedBroker::new(LocalBroker::default())
        .on_publish(|_, _| Answer::now(Err(BrokerError::new("full"))))
        .on_subscribe(|_, _| Answer::now(Err(BrokerError::new("full"))))
        .on_history(|_, _, _| Answer::later(async { Err(BrokerError::new("full")) }))
        .on_unsubscribe(move |_, channel| names.lock().unwrap().push(channel.to_string()))
        .on_sweep(move |_| _ = count.fetch_add(1, Ordering::Relaxed))
        .on_is_ready(|broker| !broker.is_ready());
    let channel = ChannelName::new("x").unwrap();
    assert!(broker.subscribe(&channel).await.is_err());
    broker.unsubscribe(&channel);
    broker.sweep();
    assert_eq!((sweeps.load(Ordering::Relaxed), broker.is_ready()), (1, false));
    assert_eq!(*unsubscribed.lock().unwrap(), ["x"]);
    let hub = Hub::builder().channels("{*any}", ChannelOptions::new()).broker(broker).build();
    assert_eq!(hub.channel("x").broadcast(1).await.unwrap_err().error_type(), ErrorType::Unavailable);
    let history = hub.channel("x").history(HistoryRange::all()).await;
    assert_eq!(history.unwrap_err().error_type(), ErrorType::Unavailable);
}

/// A broker that reports a changed epoch as soon as it starts.
#[derive(Debug)]
struct TurnsAtStart;

impl Broker for TurnsAtStart {
    fn start(&self, relay: Relay) {
        let position = Position { epoch: Epoch::new(2), offset: 7 };
        relay.turned(&ChannelName::new("x").unwrap(), position, Continuity::Whole);
    }

    fn publish(&self, _: hauyna::broker::Publish) -> Answer<Result<hauyna::broker::Published, BrokerError>> {
        Answer::later(std::future::pending())
    }

    fn subscribe(&self, _: &ChannelName) -> Answer<Result<(), BrokerError>> {
        Answer::now(Ok(()))
    }

    fn unsubscribe(&self, _: &ChannelName) {}

    fn history(
        &self,
        _: &ChannelName,
        _: HistoryRange,
    ) -> Answer<Result<hauyna::broker::HistoryPage, BrokerError>> {
        Answer::later(std::future::pending())
    }
}

#[test]
fn changes_of_the_epoch_are_passed_on() {
    let turns = Arc::new(Mutex::new(Vec::new()));
    let seen = turns.clone();
    let relay = Relay::to(|_| {}).on_turn(move |channel, position, _| {
        seen.lock().unwrap().push((channel.to_string(), position.offset));
    });
    WrappedBroker::new(TurnsAtStart).on_relay(|_, _| {}).start(relay);
    assert_eq!(*turns.lock().unwrap(), [("x".to_owned(), 7)]);
}
