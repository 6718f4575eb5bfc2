//! The contract of [`Broker`] as tests that the author of a broker runs: one function per promise. [`run`]
//! runs them all, each on a new broker; [`run_shared`] those of a broker that connects nodes.

#![expect(clippy::missing_panics_doc, reason = "a broken promise is a panic: said once, at `run`")]

mod fixture;
mod history;
mod shared;

pub use fixture::BrokerFixture;
pub use history::{
    a_known_position_is_continued_whole, a_position_is_refused_with_the_reason,
    history_is_kept_up_to_its_age, history_is_kept_up_to_its_count, history_is_read_from_either_end,
    no_range_is_too_large_and_none_too_small, scrolling_back_ends_at_the_oldest_that_is_kept,
    without_retention_there_is_no_position_and_no_history,
};

pub use shared::{
    TwoBrokers, a_key_is_known_on_every_node, a_name_is_heard_only_where_it_is_subscribed,
    a_subscription_begins_at_the_top, history_is_the_same_on_every_node,
    publications_reach_every_node_that_has_subscribed, publishers_on_two_nodes_share_one_order, run_shared,
    what_is_for_everybody_reaches_every_node,
};

use fixture::{channel, number, numbers, offset, position, publish};
use hauyna::broker::{Broker, Continuity, Epoch, Repeat, Retention};
use hauyna::{HistoryRange, Position};
use std::collections::HashSet;
use std::ops::AsyncFn;
use std::time::Duration;

/// Tests a broker against the whole contract. `make` returns a new broker with no history.
///
/// Call it in a multi-threaded runtime: some promises are about concurrent publishers.
///
/// # Panics
///
/// Panics if a promise is broken.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// hauyna_test::broker_contract::run(async || hauyna::broker::LocalBroker::default()).await;
/// # }
/// ```
pub async fn run<B: Broker>(make: impl AsyncFn() -> B) {
    offsets_begin_at_1_and_grow_by_one(BrokerFixture::new(make().await)).await;
    what_is_relayed_is_what_was_published(BrokerFixture::new(make().await)).await;
    a_publication_is_in_the_history_first(BrokerFixture::new(make().await)).await;
    an_epoch_lasts_as_long_as_the_numbering(BrokerFixture::new(make().await)).await;
    a_stream_with_subscribers_keeps_its_epoch(BrokerFixture::new(make().await)).await;
    the_last_word_about_a_subscription_counts(BrokerFixture::new(make().await)).await;
    concurrent_publishers_share_one_order(BrokerFixture::new(make().await)).await;
    a_repeated_key_answers_with_the_first_result(BrokerFixture::new(make().await)).await;
    a_key_belongs_to_its_channel(BrokerFixture::new(make().await)).await;
    racing_repetitions_of_a_key_publish_once(BrokerFixture::new(make().await)).await;
    history_is_kept_up_to_its_count(BrokerFixture::new(make().await)).await;
    history_is_kept_up_to_its_age(BrokerFixture::new(make().await)).await;
    history_is_read_from_either_end(BrokerFixture::new(make().await)).await;
    scrolling_back_ends_at_the_oldest_that_is_kept(BrokerFixture::new(make().await)).await;
    no_range_is_too_large_and_none_too_small(BrokerFixture::new(make().await)).await;
    a_known_position_is_continued_whole(BrokerFixture::new(make().await)).await;
    a_position_is_refused_with_the_reason(BrokerFixture::new(make().await)).await;
    without_retention_there_is_no_position_and_no_history(BrokerFixture::new(make().await)).await;
    names_are_taken_literally(BrokerFixture::new(make().await)).await;
    a_working_broker_is_ready(BrokerFixture::new(make().await)).await;
}

/// Checks that the first publication of a channel has offset 1, and each further one is one higher. Channels
/// count separately.
pub async fn offsets_begin_at_1_and_grow_by_one<B: Broker>(fixture: BrokerFixture<B>) {
    let (a, b) = (channel("a"), channel("b"));
    for expected in 1..=20 {
        assert_eq!(offset(fixture.publish(&a, 0, KEEP).await), expected);
    }
    assert_eq!(offset(fixture.publish(&b, 0, KEEP).await), 1);
}

/// Checks that content, channel and position arrive at the relay exactly once, with the position of the
/// answer.
pub async fn what_is_relayed_is_what_was_published<B: Broker>(mut fixture: BrokerFixture<B>) {
    let a = channel("a");
    fixture.subscribe(&a).await;
    for count in 1..=20 {
        let published = fixture.publish(&a, count, KEEP).await;
        let relayed = fixture.next().await;
        assert_eq!((relayed.channel(), number(&relayed)), (&a, count));
        assert_eq!(relayed.position(), published.position);
        assert_eq!(published.repeat, Repeat::No);
    }
    assert!(fixture.drain(&a).await.is_empty(), "something was relayed twice");
}

/// Checks that after the answer, and after the relay, the publication is in the history.
pub async fn a_publication_is_in_the_history_first<B: Broker>(mut fixture: BrokerFixture<B>) {
    let a = channel("a");
    fixture.subscribe(&a).await;
    for count in 1..=20 {
        let position = fixture.publish(&a, count, KEEP).await.position;
        let page = fixture.history(&a, HistoryRange::all()).await;
        assert_eq!(Some(page.top), position);
        assert_eq!(page.publications.last().and_then(|last| last.position()), position);
    }
    let racing = fixture.broker.clone();
    let name = a.clone();
    let publisher = tokio::spawn(async move {
        for count in 21..=60 {
            publish(&*racing, &name, count, KEEP, None).await;
        }
    });
    for _ in 1..=60 {
        let relayed = fixture.next().await;
        let page = fixture.history(&a, HistoryRange::all()).await;
        assert!(page.top.offset >= relayed.position().map_or(0, |position| position.offset));
        assert!(numbers(&page).contains(&number(&relayed)));
    }
    publisher.await.expect("the publisher");
}

/// Checks that all publications of one life of a stream have the epoch of its history, which is not the
/// unknown epoch.
pub async fn an_epoch_lasts_as_long_as_the_numbering<B: Broker>(fixture: BrokerFixture<B>) {
    let a = channel("a");
    let before = fixture.history(&a, HistoryRange::top()).await.top;
    assert_eq!(before.offset, 0);
    let first = position(fixture.publish(&a, 1, KEEP).await);
    assert_eq!(before.epoch, first.epoch, "the position before the first publication can be recovered from");
    assert_ne!(first.epoch, Epoch::UNKNOWN);
    for _ in 0..20 {
        assert_eq!(position(fixture.publish(&a, 1, KEEP).await).epoch, first.epoch);
    }
    assert_eq!(
        fixture.history(&a, HistoryRange::top()).await.top,
        Position { epoch: first.epoch, offset: 21 }
    );
}

/// Checks that a subscriber's position stays valid whatever else is published and dropped, also where nothing
/// was published, and for a while after the last subscriber has left.
pub async fn a_stream_with_subscribers_keeps_its_epoch<B: Broker>(fixture: BrokerFixture<B>) {
    let (quiet, silent) = (channel("quiet"), channel("silent"));
    for name in [&quiet, &silent] {
        fixture.subscribe(name).await;
    }
    let first = position(fixture.publish(&quiet, 1, KEEP).await);
    let silent_top = fixture.history(&silent, HistoryRange::top()).await.top;
    // Many, so that some share a stripe or node of the broker with the others. They are empty at once.
    let short = Some(Retention { messages: 1, age: Duration::ZERO });
    for count in 0..200 {
        fixture.publish(&channel(&format!("c{count}")), count, short).await;
    }
    fixture.broker.sweep();
    assert_eq!(position(fixture.publish(&quiet, 2, KEEP).await), Position { offset: 2, ..first });
    assert_eq!(position(fixture.publish(&silent, 1, KEEP).await), Position { offset: 1, ..silent_top });
    fixture.broker.unsubscribe(&silent);
    fixture.broker.sweep();
    let page = fixture.history(&silent, HistoryRange::after(silent_top)).await;
    assert_eq!((numbers(&page), page.continuity), (vec![1], Continuity::Whole));
}

/// Checks that the last call of `subscribe` or `unsubscribe` decides, however often the other was called.
pub async fn the_last_word_about_a_subscription_counts<B: Broker>(mut fixture: BrokerFixture<B>) {
    let a = channel("a");
    for count in 1..=10 {
        fixture.subscribe(&a).await;
        fixture.subscribe(&a).await;
        fixture.broker.unsubscribe(&a);
        fixture.subscribe(&a).await;
        fixture.publish(&a, count, KEEP).await;
        let relayed = fixture.next().await;
        assert_eq!(number(&relayed), count);
    }
}

/// Publications of eight concurrent publishers are relayed once each, in the order of offsets, without gaps.
pub async fn concurrent_publishers_share_one_order<B: Broker>(mut fixture: BrokerFixture<B>) {
    const EACH: u32 = 200;
    let a = channel("a");
    fixture.subscribe(&a).await;
    let publishers = (0..8_u32).map(|publisher| {
        let (broker, a) = (fixture.broker.clone(), a.clone());
        tokio::spawn(async move {
            let mut offsets = Vec::new();
            for count in 0..EACH {
                offsets.push(offset(publish(&*broker, &a, publisher * EACH + count, KEEP, None).await));
                tokio::task::yield_now().await;
            }
            assert!(offsets.is_sorted(), "one publisher's offsets grow");
            offsets
        })
    });
    let mut answered = HashSet::new();
    for publisher in publishers.collect::<Vec<_>>() {
        answered.extend(publisher.await.expect("the publisher"));
    }
    assert_eq!(answered.len(), 8 * EACH as usize, "every publication has an offset of its own");
    let mut contents = HashSet::new();
    for expected in 1..=u64::from(8 * EACH) {
        let relayed = fixture.next().await;
        assert_eq!(relayed.position().map(|position| position.offset), Some(expected));
        contents.insert(number(&relayed));
    }
    assert_eq!(contents.len(), 8 * EACH as usize);
}

/// Checks that a repeated key publishes nothing: it returns the same position and `Repeat::Yes`, without a
/// relay.
pub async fn a_repeated_key_answers_with_the_first_result<B: Broker>(mut fixture: BrokerFixture<B>) {
    let a = channel("a");
    fixture.subscribe(&a).await;
    let first = fixture.keyed(&a, 1, KEEP, "alice\0k").await;
    fixture.publish(&a, 2, KEEP).await;
    let second = fixture.keyed(&a, 3, KEEP, "alice\0k").await;
    assert_eq!((first.repeat, second.repeat), (Repeat::No, Repeat::Yes));
    assert_eq!(first.position, second.position);
    assert_eq!(offset(fixture.keyed(&a, 4, KEEP, "bob\0k").await), 3, "another user's key is another one");
    let unnumbered = fixture.keyed(&a, 5, None, "alice\0u").await;
    let again = fixture.keyed(&a, 6, None, "alice\0u").await;
    assert_eq!((unnumbered.position, again.position, again.repeat), (None, None, Repeat::Yes));
    let relayed: Vec<u32> = fixture.drain(&a).await.iter().map(|publication| number(publication)).collect();
    assert_eq!(relayed, [1, 2, 4, 5]);
    assert_eq!(numbers(&fixture.history(&a, HistoryRange::all()).await), [1, 2, 4]);
}

/// Checks that the same key in another channel is another publication.
pub async fn a_key_belongs_to_its_channel<B: Broker>(fixture: BrokerFixture<B>) {
    // Many, so that some share a stripe or node of the broker.
    for count in 0..200 {
        let name = channel(&format!("c{count}"));
        assert_eq!(fixture.keyed(&name, count, KEEP, "alice\0k").await.repeat, Repeat::No, "{name}");
    }
}

/// Checks that of eight concurrent publishers with one key, exactly one publishes.
pub async fn racing_repetitions_of_a_key_publish_once<B: Broker>(mut fixture: BrokerFixture<B>) {
    let a = channel("a");
    fixture.subscribe(&a).await;
    for round in 0..50_u32 {
        let key = format!("alice\0{round}");
        let racers = (0..8).map(|_| {
            let (broker, a, key) = (fixture.broker.clone(), a.clone(), key.clone());
            tokio::spawn(async move { publish(&*broker, &a, round, KEEP, Some(&key)).await })
        });
        let mut answers = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            answers.push(racer.await.expect("the publisher"));
        }
        assert_eq!(answers.iter().filter(|answer| answer.repeat == Repeat::No).count(), 1);
        assert!(answers.iter().all(|answer| answer.position == answers[0].position));
        let relayed = fixture.next().await;
        assert_eq!(number(&relayed), round);
    }
    assert!(fixture.drain(&a).await.is_empty());
}

/// Checks that no channel name acts as a pattern, a separator or a command of the underlying system.
pub async fn names_are_taken_literally<B: Broker>(mut fixture: BrokerFixture<B>) {
    let longest = "\u{10ffff}".repeat(63);
    let names = [
        "*",
        ">",
        "a.b",
        "a.*",
        "a b",
        "news.[ab]",
        "news.a",
        "{x}",
        "x",
        "@user:a",
        "$1",
        "é",
        "e\u{301}",
        &longest,
    ];
    for (count, name) in (0..).zip(names) {
        fixture.subscribe(&channel(name)).await;
        assert_eq!(offset(fixture.publish(&channel(name), count, KEEP).await), 1, "{name}");
        let relayed = fixture.next().await;
        assert_eq!((relayed.channel().as_str(), number(&relayed)), (name, count));
    }
    for (count, name) in (0..).zip(names) {
        assert_eq!(numbers(&fixture.history(&channel(name), HistoryRange::all()).await), [count], "{name}");
    }
}

/// Checks that a broker that publishes is ready.
pub async fn a_working_broker_is_ready<B: Broker>(fixture: BrokerFixture<B>) {
    fixture.publish(&channel("a"), 1, KEEP).await;
    assert!(fixture.broker.is_ready());
}

const KEEP: Option<Retention> = Some(Retention { messages: 10_000, age: HOUR });
const HOUR: Duration = Duration::from_secs(3600);
