//! The engine in memory: it keeps the contracts, also while it loses, repeats and reorders.

use hauyna::broker::{Broker, Directory, Lease, MapName, Publish, Put, Relay, Repeat, Retention};
use hauyna::channel::Draft;
use hauyna::{ChannelName, HistoryRange, json};
use hauyna_test::{EngineFaults, MemoryBroker, MemoryEngine, advance, broker_contract, directory_contract};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_keeps_the_contract_of_brokers() {
    broker_contract::run(async || MemoryEngine::new().broker()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_keeps_the_contract_of_shared_brokers() {
    broker_contract::run_shared(two_nodes).await;
}

#[tokio::test(start_paused = true)]
async fn the_engine_keeps_the_contract_of_directories() {
    directory_contract::run(two_nodes, Duration::from_secs(15)).await;
}

#[tokio::test(start_paused = true)]
async fn the_relay_is_exact_while_deliveries_are_lost_repeated_and_overtaken() {
    for seed in 0..8 {
        let faulty = async || {
            let engine = MemoryEngine::with_seed(seed);
            let delay = Duration::from_millis(5);
            engine.set_faults(EngineFaults::none().lose(100).repeat(200).reorder(200).max_delay(delay));
            (engine.broker(), engine.broker())
        };
        let nodes = faulty().await;
        let relayed = [collect(&nodes.0), collect(&nodes.1)];
        for broker in [&nodes.0, &nodes.1] {
            broker.subscribe(&channel()).await.unwrap();
        }
        for count in 0..200 {
            publish(if count % 2 == 0 { &nodes.0 } else { &nodes.1 }, count).await;
        }
        settle(&relayed, 200).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_relayed_while_the_link_was_cut_is_read_from_the_history() {
    let engine = MemoryEngine::new();
    let (one, other) = (engine.broker(), engine.broker());
    let relayed = [collect(&one), collect(&other)];
    for broker in [&one, &other] {
        broker.subscribe(&channel()).await.unwrap();
    }
    publish(&one, 0).await;
    engine.cut(other.id());
    for count in 1..300 {
        publish(&one, count).await;
    }
    assert!(other.history(&channel(), HistoryRange::all()).await.is_err());
    assert!(!other.is_ready());
    engine.heal(other.id());
    assert!(other.is_ready());
    settle(&relayed, 300).await;
}

#[tokio::test(start_paused = true)]
async fn a_roll_back_is_reported_before_anything_later_is_relayed() {
    let engine = MemoryEngine::new();
    let broker = engine.broker();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (events, turns) = (seen.clone(), seen.clone());
    broker.start(
        Relay::to(move |publication| events.lock().push(format!("{}", publication.offset())))
            .on_turn(move |_, to, continuity| turns.lock().push(format!("{continuity:?} to {}", to.offset))),
    );
    broker.subscribe(&channel()).await.unwrap();
    for count in 0..5 {
        publish(&broker, count).await;
    }
    engine.roll_back(0);
    publish(&broker, 5).await;
    advance(Duration::from_secs(1)).await;
    engine.roll_back(2);
    publish(&broker, 6).await;
    advance(Duration::from_secs(1)).await;
    assert_eq!(*seen.lock(), ["1", "2", "3", "4", "5", "Whole to 5", "6", "EpochChanged to 5"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_link_was_down_takes_nobody_for_dead_at_once() {
    let engine = MemoryEngine::new();
    let (one, other) = (engine.broker(), engine.broker());
    let directory = |broker: &MemoryBroker| {
        broker.start(Relay::to(|_| {}));
        broker.directory().unwrap()
    };
    let (first, second): (Arc<dyn Directory>, Arc<dyn Directory>) = (directory(&one), directory(&other));
    first.beat(hauyna::broker::Beat::default()).await.unwrap();
    let put = Put::new(MapName::new("test", "a"), hauyna::broker::Field::new("f", ""), "1");
    first.put(put.lease(Lease::OfNode)).await.unwrap();
    for id in [one.id(), other.id()] {
        engine.cut(id);
    }
    advance(Duration::from_secs(60)).await;
    engine.heal(other.id());
    assert!(second.beat(hauyna::broker::Beat::default()).await.unwrap().gone.is_empty());
    advance(Duration::from_secs(10)).await;
    assert!(second.beat(hauyna::broker::Beat::default()).await.unwrap().gone.is_empty());
    advance(Duration::from_secs(10)).await;
    assert_eq!(second.beat(hauyna::broker::Beat::default()).await.unwrap().gone, [one.id()]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_answered_has_begun() {
    for seed in 0..32 {
        let engine = MemoryEngine::with_seed(seed);
        let (one, other) = (engine.broker(), engine.broker());
        let relayed = [collect_any(&one)];
        other.start(Relay::to(|_| {}));
        let delay = Duration::from_millis(100);
        engine.set_faults(EngineFaults::none().max_delay(delay));
        // The first may be reading the top of the history, or be dropped while it does.
        let mut first = Box::pin(one.subscribe(&channel()).into_future());
        let first_answer = tokio::time::timeout(delay, &mut first).await;
        let mut first = Some(first).filter(|_| seed % 2 == 0 && first_answer.is_err());
        let second = one.subscribe(&channel()).into_future();
        match &mut first {
            Some(first) => tokio::select! {
                answer = first => answer.unwrap(),
                answer = second => answer.unwrap(),
            },
            None => second.await.unwrap(),
        }
        // The publication arrives, and a read that is on its way comes later.
        engine.set_faults(EngineFaults::none());
        let top = other.history(&channel(), HistoryRange::top()).await.unwrap().top.offset;
        assert_eq!(top, 0);
        publish(&other, 0).await;
        settle(&relayed, 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_dropped_while_it_reads_is_gone() {
    let engine = MemoryEngine::new();
    let broker = engine.broker();
    let relays = Arc::new(());
    let captured = relays.clone();
    broker.start(Relay::to(move |_| _ = &captured));
    broker.subscribe(&channel()).await.unwrap();
    engine.set_faults(EngineFaults::none().refuse(1000));
    engine.cut(broker.id());
    engine.heal(broker.id());
    advance(Duration::from_secs(1)).await;
    drop(broker);
    advance(Duration::from_secs(120)).await;
    assert_eq!(Arc::strong_count(&relays), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_lost_together_with_its_publication() {
    let engine = MemoryEngine::new();
    let broker = engine.broker();
    let relayed = collect_any(&broker);
    broker.subscribe(&channel()).await.unwrap();
    let publish_key = async |key: &str| {
        let draft = Draft::new(channel(), &json!(key)).unwrap();
        let retention = Some(Retention { messages: 1000, age: Duration::from_secs(3600) });
        broker.publish(Publish { draft, retention, key: Some(key.into()) }).await.unwrap().repeat
    };
    for key in ["kept", "lost"] {
        assert_eq!(publish_key(key).await, Repeat::No);
    }
    engine.roll_back(1);
    assert_eq!(publish_key("kept").await, Repeat::Yes);
    assert_eq!(publish_key("lost").await, Repeat::No);
    let page = broker.history(&channel(), HistoryRange::all()).await.unwrap();
    assert_eq!(page.publications.len(), 2);
    advance(Duration::from_secs(1)).await;
    assert!(relayed.lock().len() >= 2);
}

async fn two_nodes() -> (MemoryBroker, MemoryBroker) {
    let engine = MemoryEngine::new();
    (engine.broker(), engine.broker())
}

/// Starts a broker and collects the numbers that it relays, checking that their offsets grow by one.
fn collect(broker: &MemoryBroker) -> Arc<Mutex<Vec<u64>>> {
    let relayed = Arc::new(Mutex::new(Vec::new()));
    let sink = relayed.clone();
    broker.start(Relay::to(move |publication| {
        let mut relayed = sink.lock();
        assert_eq!(publication.offset(), relayed.len() as u64 + 1);
        relayed.push(publication.offset());
    }));
    relayed
}

/// Starts a broker and collects the offsets that it relays.
fn collect_any(broker: &MemoryBroker) -> Arc<Mutex<Vec<u64>>> {
    let relayed = Arc::new(Mutex::new(Vec::new()));
    let sink = relayed.clone();
    broker.start(Relay::to(move |publication| sink.lock().push(publication.offset())));
    relayed
}

/// Waits until every node has relayed everything.
async fn settle(relayed: &[Arc<Mutex<Vec<u64>>>], count: usize) {
    for node in relayed {
        for _ in 0..200 {
            if node.lock().len() == count {
                break;
            }
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(node.lock().len(), count);
    }
}

async fn publish(broker: &MemoryBroker, number: u32) {
    let draft = Draft::new(channel(), &json!(number)).unwrap();
    let retention = Some(Retention { messages: 1000, age: Duration::from_secs(3600) });
    broker.publish(Publish { draft, retention, key: None }).await.unwrap();
}

fn channel() -> ChannelName {
    ChannelName::new("a").unwrap()
}
