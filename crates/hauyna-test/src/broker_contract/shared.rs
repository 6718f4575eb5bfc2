//! The promises of a broker that connects nodes: what two nodes see of one stream.

#![expect(clippy::missing_panics_doc, reason = "a broken promise is a panic: said once, at `run`")]

use super::KEEP;
use super::fixture::{BrokerFixture, channel, number, numbers, offset, position, publish};
use hauyna::HistoryRange;
use hauyna::broker::{Broker, Repeat};
use std::collections::HashSet;
use std::ops::AsyncFn;

/// The brokers of two nodes that are connected.
#[derive(Debug)]
pub struct TwoBrokers<B> {
    one: BrokerFixture<B>,
    other: BrokerFixture<B>,
}

impl<B: Broker> TwoBrokers<B> {
    /// Creates a fixture for each broker, and starts it.
    pub fn new(one: B, other: B) -> Self {
        Self { one: BrokerFixture::new(one), other: BrokerFixture::new(other) }
    }
}

/// Tests a broker that connects nodes against the promises that need two of them. `make` returns the brokers
/// of two nodes, connected to each other, with no history. [`run`](super::run) has the others.
///
/// # Panics
///
/// Panics if a promise is broken.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use hauyna_test::{MemoryEngine, broker_contract};
///
/// broker_contract::run_shared(async || {
///     let engine = MemoryEngine::new();
///     (engine.broker(), engine.broker())
/// })
/// .await;
/// # }
/// ```
pub async fn run_shared<B: Broker>(make: impl AsyncFn() -> (B, B)) {
    let nodes = async || {
        let (one, other) = make().await;
        TwoBrokers::new(one, other)
    };
    publications_reach_every_node_that_has_subscribed(nodes().await).await;
    publishers_on_two_nodes_share_one_order(nodes().await).await;
    a_name_is_heard_only_where_it_is_subscribed(nodes().await).await;
    what_is_for_everybody_reaches_every_node(nodes().await).await;
    a_subscription_begins_at_the_top(nodes().await).await;
    a_key_is_known_on_every_node(nodes().await).await;
    history_is_the_same_on_every_node(nodes().await).await;
}

/// Checks that a publication reaches both nodes once, with its position.
pub async fn publications_reach_every_node_that_has_subscribed<B: Broker>(nodes: TwoBrokers<B>) {
    let TwoBrokers { mut one, mut other } = nodes;
    let a = channel("a");
    one.subscribe(&a).await;
    other.subscribe(&a).await;
    for count in 0..20 {
        let publisher = if count % 2 == 0 { &one } else { &other };
        let published = publisher.publish(&a, count, KEEP).await;
        for node in [&mut one, &mut other] {
            let relayed = node.next().await;
            assert_eq!((number(&relayed), relayed.position()), (count, published.position));
        }
    }
    assert!(one.drain(&a).await.is_empty() && other.next().await.position().is_none(), "relayed twice");
}

/// Checks that publications of publishers on both nodes are relayed on both in the order of their offsets.
pub async fn publishers_on_two_nodes_share_one_order<B: Broker>(nodes: TwoBrokers<B>) {
    let TwoBrokers { mut one, mut other } = nodes;
    const EACH: u32 = 100;
    let a = channel("a");
    one.subscribe(&a).await;
    other.subscribe(&a).await;
    let publishers = (0..8_u32).map(|publisher| {
        let broker = if publisher % 2 == 0 { one.broker.clone() } else { other.broker.clone() };
        let a = a.clone();
        tokio::spawn(async move {
            for count in 0..EACH {
                publish(&*broker, &a, publisher * EACH + count, KEEP, None).await;
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.expect("the publisher");
    }
    let mut contents = HashSet::new();
    for expected in 1..=u64::from(8 * EACH) {
        let (here, there) = (one.next().await, other.next().await);
        assert_eq!((here.offset(), there.offset()), (expected, expected));
        assert_eq!(number(&here), number(&there));
        contents.insert(number(&here));
    }
    assert_eq!(contents.len(), 8 * EACH as usize);
}

/// Checks that a node that has not subscribed, or no longer, hears nothing; also in channels of users and
/// groups.
pub async fn a_name_is_heard_only_where_it_is_subscribed<B: Broker>(nodes: TwoBrokers<B>) {
    let TwoBrokers { mut one, mut other } = nodes;
    let last = channel("last");
    one.subscribe(&last).await;
    other.subscribe(&last).await;
    for name in ["a", "@user:ann", "@group:staff"] {
        let name = channel(name);
        one.subscribe(&name).await;
        other.publish(&name, 1, None).await;
        assert_eq!(number(&*one.next().await), 1, "{name}");
        one.broker.unsubscribe(&name);
    }
    assert!(other.drain(&last).await.is_empty(), "a node heard what it had not subscribed to");
}

/// Checks that a publication for everybody needs no subscription.
pub async fn what_is_for_everybody_reaches_every_node<B: Broker>(nodes: TwoBrokers<B>) {
    let TwoBrokers { mut one, mut other } = nodes;
    one.publish(&channel("@all"), 1, None).await;
    assert_eq!((number(&*one.next().await), number(&*other.next().await)), (1, 1));
}

/// Checks that what was published before a subscription is not relayed, and everything after its answer is.
pub async fn a_subscription_begins_at_the_top<B: Broker>(nodes: TwoBrokers<B>) {
    let TwoBrokers { one, mut other } = nodes;
    let a = channel("a");
    for count in 1..=10 {
        one.publish(&a, count, KEEP).await;
    }
    other.subscribe(&a).await;
    let next = position(one.publish(&a, 11, KEEP).await);
    let relayed = other.next().await;
    assert_eq!((number(&relayed), relayed.position()), (11, Some(next)));
}

/// Checks that a key that was published on one node is a repetition on the other.
pub async fn a_key_is_known_on_every_node<B: Broker>(nodes: TwoBrokers<B>) {
    let TwoBrokers { one, other } = nodes;
    let a = channel("a");
    let first = one.keyed(&a, 1, KEEP, "alice\0k").await;
    let second = other.keyed(&a, 2, KEEP, "alice\0k").await;
    assert_eq!((first.repeat, second.repeat), (Repeat::No, Repeat::Yes));
    assert_eq!(first.position, second.position);
}

/// Checks that both nodes read the same history, with the same positions.
pub async fn history_is_the_same_on_every_node<B: Broker>(nodes: TwoBrokers<B>) {
    let TwoBrokers { one, other } = nodes;
    let a = channel("a");
    for count in 1..=10 {
        let publisher = if count % 2 == 0 { &one } else { &other };
        assert_eq!(offset(publisher.publish(&a, count, KEEP).await), u64::from(count));
    }
    let (here, there) =
        (one.history(&a, HistoryRange::all()).await, other.history(&a, HistoryRange::all()).await);
    assert_eq!(here.top, there.top);
    assert_eq!(numbers(&here), (1..=10).collect::<Vec<_>>());
    assert_eq!(numbers(&here), numbers(&there));
}
