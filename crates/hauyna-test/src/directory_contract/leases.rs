//! The promises of a directory about nodes: who lives, and what ends with a node.

#![expect(clippy::missing_panics_doc, reason = "a broken promise is a panic: said once, at `run`")]

use super::TwoDirectories;
use super::fixture::{DirectoryFixture, field, put, values};
use hauyna::broker::{Broker, Lease, MapRange};
use std::time::Duration;

/// Checks that a beat returns the nodes that live, with what they said about themselves.
pub async fn nodes_know_each_other<B: Broker>(nodes: TwoDirectories<B>) {
    let TwoDirectories { one, other } = nodes;
    one.beat().await;
    let seen = other.beat().await;
    let mut live: Vec<_> = [&one, &other].map(|node| node.directory.node()).into();
    live.sort_unstable();
    assert_eq!(seen.live.iter().map(|(node, _)| *node).collect::<Vec<_>>(), live);
    assert!(seen.live.iter().all(|(node, info)| *info == node.to_string()));
    assert!(seen.gone.is_empty() && !seen.was_lost);
}

/// Checks that the leased fields of a node stay while it beats, and end once each after it stops.
pub async fn leased_fields_end_with_their_node<B: Broker>(nodes: TwoDirectories<B>, time: Duration) {
    let TwoDirectories { one, mut other } = nodes;
    one.beat().await;
    for count in 0..5 {
        one.put(put("a", &format!("f{count}"), "1").lease(Lease::OfNode)).await;
    }
    other.put(put("a", "own", "1").lease(Lease::OfNode)).await;
    for _ in 0..4 {
        tokio::time::sleep(time / 2).await;
        one.beat().await;
        assert!(other.beat().await.gone.is_empty(), "a node that beats is taken for dead");
    }
    assert!(other.sweep(&one, 100).await.removed.is_empty(), "a live node is swept");
    other.follow("a").await;
    let before = other.read("a", MapRange::size()).await.version.number;
    wait_until_gone(&one, &other, time).await;
    let first = other.sweep(&one, 3).await;
    assert_eq!((first.removed.len(), first.has_more), (3, true));
    let second = other.sweep(&one, 100).await;
    assert_eq!((second.removed.len(), second.has_more), (2, false));
    assert!(other.sweep(&one, 100).await.removed.is_empty(), "a field is swept twice");
    for count in 1..=5 {
        let (_, relayed) = other.next().await;
        assert_eq!((relayed.value, relayed.version.number), (None, before + count));
    }
    assert_eq!(values(&other.read("a", MapRange::all()).await), ["own=1"]);
}

/// Checks that fields without a lease stay when their node is gone.
pub async fn kept_fields_outlive_their_node<B: Broker>(nodes: TwoDirectories<B>, time: Duration) {
    let TwoDirectories { one, other } = nodes;
    one.beat().await;
    one.put(put("a", "kept", "1")).await;
    one.put(put("a", "leased", "1").lease(Lease::OfNode)).await;
    other.beat().await;
    wait_until_gone(&one, &other, time).await;
    while other.sweep(&one, 100).await.has_more {}
    assert_eq!(values(&other.read("a", MapRange::all()).await), ["kept=1"]);
}

/// Checks that a node that was taken for dead is told so by its next beat, and only by that one, whether it
/// was swept or not.
pub async fn a_node_that_comes_back_is_told<B: Broker>(nodes: TwoDirectories<B>, time: Duration) {
    let TwoDirectories { one, other } = nodes;
    assert!(!one.beat().await.was_lost);
    one.put(put("a", "f", "1").lease(Lease::OfNode)).await;
    wait_until_gone(&one, &other, time).await;
    assert!(one.beat().await.was_lost);
    assert!(!one.beat().await.was_lost);
    assert!(other.beat().await.gone.is_empty());
    one.put(put("a", "f", "2").lease(Lease::OfNode)).await;
    wait_until_gone(&one, &other, time).await;
    while other.sweep(&one, 100).await.has_more {}
    assert!(other.beat().await.gone.is_empty(), "nothing is left of the node");
    assert!(one.beat().await.was_lost, "it does not know that everything was swept");
    assert!(!one.beat().await.was_lost);
}

/// Checks that a field with a time is there before its end, and not after it.
pub async fn a_field_with_a_time_ends_after_it<B: Broker>(nodes: TwoDirectories<B>, time: Duration) {
    let TwoDirectories { one, other } = nodes;
    one.put(put("a", "f", "1").lease(Lease::For(time))).await;
    assert_eq!(values(&other.read("a", MapRange::all()).await), ["f=1"]);
    tokio::time::sleep(time + time / 2).await;
    assert!(other.read("a", MapRange::all()).await.fields.is_empty());
    assert!(other.remove_field("a", &field("f", "")).await.before.is_none());
}

/// Lets `other` beat alone until it takes `one` for dead.
async fn wait_until_gone<B: Broker>(one: &DirectoryFixture<B>, other: &DirectoryFixture<B>, time: Duration) {
    for _ in 0..12 {
        if other.beat().await.gone.contains(&one.directory.node()) {
            return;
        }
        tokio::time::sleep(time / 4).await;
    }
    panic!("a node that does not beat is never taken for dead");
}
