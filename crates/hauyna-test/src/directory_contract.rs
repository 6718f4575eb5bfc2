//! The contract of [`Directory`](hauyna::broker::Directory) as tests that the author of an engine runs: one
//! function per promise. [`run`] runs them all, each on two new nodes.

#![expect(clippy::missing_panics_doc, reason = "a broken promise is a panic: said once, at `run`")]

mod fixture;
mod leases;

pub use fixture::DirectoryFixture;
pub use leases::{
    a_field_with_a_time_ends_after_it, a_node_that_comes_back_is_told, kept_fields_outlive_their_node,
    leased_fields_end_with_their_node, nodes_know_each_other,
};

use fixture::{field, map, put, values};
use hauyna::broker::{Broker, Lease, MapRange, Only, Put};
use std::ops::AsyncFn;
use std::time::Duration;

/// Tests a directory against the whole contract. `make` returns the brokers of two nodes on one new engine
/// without maps; `time_to_live` is how long a node lives after its last beat.
///
/// The promises about leases wait for a few times `time_to_live`; pause Tokio's clock if the engine uses it.
///
/// # Panics
///
/// Panics if a promise is broken, or a broker has no directory.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use hauyna_test::{MemoryEngine, directory_contract};
/// use std::time::Duration;
///
/// let make = async || {
///     let engine = MemoryEngine::new();
///     (engine.broker(), engine.broker())
/// };
/// directory_contract::run(make, Duration::from_secs(15)).await;
/// # }
/// ```
pub async fn run<B: Broker>(make: impl AsyncFn() -> (B, B), time_to_live: Duration) {
    let nodes = async || {
        let (one, other) = make().await;
        TwoDirectories::new(one, other)
    };
    every_change_is_one_version(nodes().await).await;
    a_change_says_what_was_there_and_how_many_are(nodes().await).await;
    of_racing_puts_of_an_absent_field_one_is_applied(nodes().await).await;
    a_put_for_another_version_changes_nothing(nodes().await).await;
    a_field_takes_the_place_of_another_in_one_step(nodes().await).await;
    of_racing_removals_one_gets_the_field(nodes().await).await;
    a_repeated_call_changes_nothing(nodes().await).await;
    changes_are_relayed_where_the_map_is_followed(nodes().await).await;
    a_map_is_read_page_by_page(nodes().await).await;
    maps_are_listed_by_kind(nodes().await).await;
    names_fields_and_values_are_taken_literally(nodes().await).await;
    nodes_know_each_other(nodes().await).await;
    leased_fields_end_with_their_node(nodes().await, time_to_live).await;
    kept_fields_outlive_their_node(nodes().await, time_to_live).await;
    a_node_that_comes_back_is_told(nodes().await, time_to_live).await;
    a_field_with_a_time_ends_after_it(nodes().await, time_to_live).await;
}

/// The directories of two nodes on one engine.
#[derive(Debug)]
pub struct TwoDirectories<B> {
    one: DirectoryFixture<B>,
    other: DirectoryFixture<B>,
}

impl<B: Broker> TwoDirectories<B> {
    /// Creates a fixture for each node, and starts its broker.
    ///
    /// # Panics
    ///
    /// Panics if a broker has no directory.
    pub fn new(one: B, other: B) -> Self {
        Self { one: DirectoryFixture::new(one), other: DirectoryFixture::new(other) }
    }
}

/// Checks that each change makes the version one higher, on whichever node it is made.
pub async fn every_change_is_one_version<B: Broker>(nodes: TwoDirectories<B>) {
    let TwoDirectories { one, other } = nodes;
    let mut last = one.read("a", MapRange::size()).await.version.number;
    for count in 0..20 {
        let node = if count % 2 == 0 { &one } else { &other };
        let name = format!("f{}", count % 7);
        let change = match count % 5 {
            4 => node.remove("a", &name).await,
            _ => node.put(put("a", &name, &count.to_string())).await,
        };
        last += u64::from(change.is_applied);
        assert_eq!(change.version.number, last);
        assert_eq!(one.read("a", MapRange::size()).await.version, change.version);
    }
}

/// Checks the parts of an answer: the value before, the number of classes, the number of fields of the class.
pub async fn a_change_says_what_was_there_and_how_many_are<B: Broker>(nodes: TwoDirectories<B>) {
    let TwoDirectories { one, other } = nodes;
    for (class, id, before, size, class_size) in [
        ("ann", "1", None, 1, 1),
        ("ann", "2", None, 1, 2),
        ("bob", "1", None, 2, 1),
        ("ann", "1", Some("ann1"), 2, 2),
    ] {
        let value = format!("{class}{id}{}", if before.is_some() { "again" } else { "" });
        let change = one.put(Put::new(map("a"), field(class, id), value)).await;
        assert!(change.is_applied);
        assert_eq!(change.before.as_deref(), before.map(str::as_bytes), "{class} {id}");
        assert_eq!((change.size, change.class_size), (size, class_size), "{class} {id}");
    }
    let change = other.remove_field("a", &field("bob", "1")).await;
    assert_eq!((change.before.as_deref(), change.size, change.class_size), (Some(&b"bob1"[..]), 1, 0));
    let change = other.remove_field("a", &field("ann", "2")).await;
    assert_eq!((change.size, change.class_size), (1, 1));
}

/// Checks that of eight concurrent puts of a field that is not there, exactly one is applied.
pub async fn of_racing_puts_of_an_absent_field_one_is_applied<B: Broker>(nodes: TwoDirectories<B>) {
    let TwoDirectories { one, other } = nodes;
    for round in 0..20 {
        let name = format!("f{round}");
        let racers = (0..8).map(|racer| {
            let directory = if racer % 2 == 0 { one.directory.clone() } else { other.directory.clone() };
            let put = put("a", &name, &racer.to_string()).only(Only::Absent);
            tokio::spawn(async move { directory.put(put).await.expect("an answer").is_applied })
        });
        let mut applied = 0;
        for racer in racers.collect::<Vec<_>>() {
            applied += u32::from(racer.await.expect("the racer"));
        }
        assert_eq!(applied, 1);
    }
}

/// Checks that a put with the condition of an earlier version changes nothing and says what is there.
pub async fn a_put_for_another_version_changes_nothing<B: Broker>(nodes: TwoDirectories<B>) {
    let TwoDirectories { one, other } = nodes;
    let first = one.put(put("a", "f", "1")).await;
    let second = other.put(put("a", "f", "2").only(Only::Version(first.version))).await;
    assert!(second.is_applied);
    let third = one.put(put("a", "f", "3").only(Only::Version(first.version))).await;
    assert!(!third.is_applied);
    assert_eq!((third.version, third.before.as_deref()), (second.version, Some(&b"2"[..])));
    assert_eq!(values(&other.read("a", MapRange::all()).await), ["f=2"]);
}

/// Checks that a field takes another one's place with one version, and not where the other is gone.
pub async fn a_field_takes_the_place_of_another_in_one_step<B: Broker>(nodes: TwoDirectories<B>) {
    let TwoDirectories { one, other } = nodes;
    let first = one.put(put("a", "old", "1")).await;
    let second = other.put(put("a", "new", "2").instead_of(field("old", ""))).await;
    assert_eq!((second.is_applied, second.version.number), (true, first.version.number + 1));
    assert_eq!(values(&one.read("a", MapRange::all()).await), ["new=2"]);
    let third = one.put(put("a", "late", "3").instead_of(field("old", ""))).await;
    assert!(!third.is_applied, "somebody else took the place");
    assert_eq!(values(&one.read("a", MapRange::all()).await), ["new=2"]);
}

/// Checks that of eight concurrent removals of a field, exactly one gets its value.
pub async fn of_racing_removals_one_gets_the_field<B: Broker>(nodes: TwoDirectories<B>) {
    let TwoDirectories { one, other } = nodes;
    for round in 0..20 {
        let name = format!("f{round}");
        one.put(put("a", &name, "1")).await;
        let racers = (0..8).map(|racer| {
            let directory = if racer % 2 == 0 { one.directory.clone() } else { other.directory.clone() };
            let field = field(&name, "");
            tokio::spawn(async move { directory.remove(&map("a"), &field).await.expect("an answer").before })
        });
        let mut got = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            got.extend(racer.await.expect("the racer"));
        }
        assert_eq!(got, ["1".as_bytes()]);
    }
}

/// Checks that putting the same value again, and removing again, change no version.
pub async fn a_repeated_call_changes_nothing<B: Broker>(nodes: TwoDirectories<B>) {
    let TwoDirectories { one, other } = nodes;
    for lease in [Lease::Kept, Lease::OfNode] {
        let first = one.put(put("a", "f", "1").lease(lease)).await;
        let again = one.put(put("a", "f", "1").lease(lease)).await;
        assert_eq!((again.is_applied, again.version), (false, first.version), "{lease:?}");
    }
    let removed = other.remove("a", "f").await;
    let again = one.remove("a", "f").await;
    assert_eq!((again.is_applied, again.before, again.version), (false, None, removed.version));
}

/// Checks that a node that follows a map gets each change with its version, after the change is in the map;
/// and one that does not follow it gets nothing.
pub async fn changes_are_relayed_where_the_map_is_followed<B: Broker>(nodes: TwoDirectories<B>) {
    let TwoDirectories { mut one, mut other } = nodes;
    one.follow("a").await;
    other.follow("b").await;
    let before = one.read("a", MapRange::size()).await.version.number;
    for count in 1..=20 {
        let change = other.put(put("a", "f", &count.to_string())).await;
        let (name, relayed) = one.next().await;
        assert_eq!((name, relayed.version), (map("a"), change.version));
        assert_eq!(relayed.version.number, before + count);
        assert_eq!(relayed.value.as_deref(), Some(count.to_string().as_bytes()));
        assert!(one.read("a", MapRange::size()).await.version.number >= relayed.version.number);
    }
    other.put(put("a", "g", "1").instead_of(field("f", ""))).await;
    let (_, relayed) = one.next().await;
    assert_eq!((relayed.field, relayed.instead_of), (field("g", ""), Some(field("f", ""))));
    other.remove("a", "g").await;
    let (_, relayed) = one.next().await;
    assert_eq!((relayed.field, relayed.value), (field("g", ""), None));
    other.put(put("b", "last", "1")).await;
    assert_eq!(other.next().await.0, map("b"), "a node got a change of a map that it does not follow");
}

/// Checks that a map is read in the order of the fields' bytes, page by page and by class, with one version.
pub async fn a_map_is_read_page_by_page<B: Broker>(nodes: TwoDirectories<B>) {
    let TwoDirectories { one, other } = nodes;
    for count in (0..25).rev() {
        one.put(Put::new(map("a"), field(&format!("user{:02}", count / 2), &count.to_string()), "1")).await;
    }
    let whole = other.read("a", MapRange::all()).await;
    assert_eq!((whole.fields.len(), whole.size, whole.has_more), (25, 13, false));
    assert!(whole.fields.is_sorted_by(|(one, _), (other, _)| one < other));
    let (mut seen, mut range) = (Vec::new(), MapRange::all().limit(7));
    loop {
        let page = other.read("a", range.clone()).await;
        assert_eq!((page.version, page.size), (whole.version, 13));
        seen.extend(page.fields.iter().cloned());
        let Some((last, _)) = page.fields.last().filter(|_| page.has_more) else { break };
        range = range.after(last.clone());
    }
    assert_eq!(seen, whole.fields);
    let of_class = other.read("a", MapRange::class("user03")).await;
    assert_eq!(of_class.fields.len(), 2);
    assert!(other.read("none", MapRange::all()).await.fields.is_empty());
}

/// Checks that maps with fields are listed by kind, page by page.
pub async fn maps_are_listed_by_kind<B: Broker>(nodes: TwoDirectories<B>) {
    let TwoDirectories { one, other } = nodes;
    for name in ["c", "a", "b", "empty"] {
        one.put(put(name, "f", "1")).await;
    }
    one.remove("empty", "f").await;
    let first = other.maps(None, 2).await;
    let rest = other.maps(first.last(), 100).await;
    assert_eq!([first, rest].concat(), [map("a"), map("b"), map("c")]);
}

/// Checks that nothing in a name, a field or a value is a pattern, a separator or a command.
pub async fn names_fields_and_values_are_taken_literally<B: Broker>(nodes: TwoDirectories<B>) {
    let TwoDirectories { mut one, other } = nodes;
    let texts = ["*", "a.b", "{x}", ":", "a:b", "a\0b", "", "\u{10ffff}", "é", "e\u{301}", "%00", "$1"];
    for (count, text) in (1..).zip(texts) {
        one.follow(&format!("m{text}")).await;
        let change = other.put(Put::new(map(&format!("m{text}")), field(text, text), text.to_owned())).await;
        assert_eq!((change.size, change.before), (1, None), "{text:?}");
        let (name, relayed) = one.next().await;
        assert_eq!((name, relayed.field), (map(&format!("m{text}")), field(text, text)));
        assert_eq!(one.maps(None, 100).await.len(), count);
    }
}
