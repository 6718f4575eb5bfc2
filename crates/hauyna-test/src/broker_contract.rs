//! What every broker promises, as tests that its author runs. [`run`] runs them all, each on a fresh broker;
//! the promises are those of [`Broker`], one function each.

#![expect(clippy::missing_panics_doc, reason = "a broken promise is a panic: said once, at `run`")]

mod fixture;
mod history;

pub use fixture::BrokerFixture;
pub use history::{
    a_known_position_is_continued_whole, a_position_is_refused_with_the_reason,
    history_is_kept_up_to_its_age, history_is_kept_up_to_its_count, history_is_read_from_either_end,
    no_range_is_too_large_and_none_too_small, scrolling_back_ends_at_the_oldest_that_is_kept,
    without_retention_there_is_no_position_and_no_history,
};

use fixture::{channel, number, numbers, offset, position, publish};
use hauyna::broker::{Broker, Continuity, Epoch, Repeat, Retention};
use hauyna::{HistoryRange, Position};
use std::collections::HashSet;
use std::ops::AsyncFn;
use std::time::Duration;

/// Holds a broker against its whole contract. `make` makes one that has no memory yet.
///
/// Run it in a runtime of several threads: some promises are about publishers that race.
///
/// # Panics
///
/// Where a promise is broken.
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

/// The first publication of a channel has offset 1, and each one more than the last; channels count apart.
pub async fn offsets_begin_at_1_and_grow_by_one<B: Broker>(bench: BrokerFixture<B>) {
    let (a, b) = (channel("a"), channel("b"));
    for expected in 1..=20 {
        assert_eq!(offset(bench.publish(&a, 0, KEEP).await), expected);
    }
    assert_eq!(offset(bench.publish(&b, 0, KEEP).await), 1);
}

/// Content, channel and position arrive at the relay as they were answered, once.
pub async fn what_is_relayed_is_what_was_published<B: Broker>(mut bench: BrokerFixture<B>) {
    let a = channel("a");
    bench.subscribe(&a).await;
    for count in 1..=20 {
        let published = bench.publish(&a, count, KEEP).await;
        let relayed = bench.next().await;
        assert_eq!((relayed.channel(), number(&relayed)), (&a, count));
        assert_eq!(relayed.position(), published.position);
        assert_eq!(published.repeat, Repeat::No);
    }
    assert!(bench.drain(&a).await.is_empty(), "something was relayed twice");
}

/// Who reads the history after the answer, or after the relay, finds the publication there.
pub async fn a_publication_is_in_the_history_first<B: Broker>(mut bench: BrokerFixture<B>) {
    let a = channel("a");
    bench.subscribe(&a).await;
    for count in 1..=20 {
        let position = bench.publish(&a, count, KEEP).await.position;
        let page = bench.history(&a, HistoryRange::all()).await;
        assert_eq!(Some(page.top), position);
        assert_eq!(page.publications.last().and_then(|last| last.position()), position);
    }
    let racing = bench.broker.clone();
    let name = a.clone();
    let publisher = tokio::spawn(async move {
        for count in 21..=60 {
            publish(&*racing, &name, count, (KEEP, None)).await;
        }
    });
    for _ in 1..=60 {
        let relayed = bench.next().await;
        let page = bench.history(&a, HistoryRange::all()).await;
        assert!(page.top.offset >= relayed.position().map_or(0, |position| position.offset));
        assert!(numbers(&page).contains(&number(&relayed)));
    }
    publisher.await.expect("the publisher");
}

/// All publications of one life of a stream have one epoch, that of its history; none is the unknown one.
pub async fn an_epoch_lasts_as_long_as_the_numbering<B: Broker>(bench: BrokerFixture<B>) {
    let a = channel("a");
    let before = bench.history(&a, HistoryRange::top()).await.top;
    assert_eq!(before.offset, 0);
    let first = position(bench.publish(&a, 1, KEEP).await);
    assert_eq!(before.epoch, first.epoch, "what was told before the first publication can be recovered from");
    assert_ne!(first.epoch, Epoch::UNKNOWN);
    for _ in 0..20 {
        assert_eq!(position(bench.publish(&a, 1, KEEP).await).epoch, first.epoch);
    }
    assert_eq!(bench.history(&a, HistoryRange::top()).await.top, Position { epoch: first.epoch, offset: 21 });
}

/// Whatever else is published and forgotten: what a subscriber was told of its stream holds, also where nothing had
/// been published, and for a while after the last one left.
pub async fn a_stream_with_subscribers_keeps_its_epoch<B: Broker>(bench: BrokerFixture<B>) {
    let (quiet, silent) = (channel("quiet"), channel("silent"));
    for name in [&quiet, &silent] {
        bench.subscribe(name).await;
    }
    let first = position(bench.publish(&quiet, 1, KEEP).await);
    let told = bench.history(&silent, HistoryRange::top()).await.top;
    // Many, so that some share whatever the broker divides its channels by; they are empty at once.
    let short = Some(Retention { messages: 1, age: Duration::ZERO });
    for count in 0..200 {
        bench.publish(&channel(&format!("c{count}")), count, short).await;
    }
    bench.broker.sweep();
    assert_eq!(position(bench.publish(&quiet, 2, KEEP).await), Position { offset: 2, ..first });
    assert_eq!(position(bench.publish(&silent, 1, KEEP).await), Position { offset: 1, ..told });
    bench.broker.unsubscribe(&silent);
    bench.broker.sweep();
    let page = bench.history(&silent, HistoryRange::after(told)).await;
    assert_eq!((numbers(&page), page.continuity), (vec![1], Continuity::Whole));
}

/// Of `subscribe` and `unsubscribe` the one that was called last holds, however often the other one was.
pub async fn the_last_word_about_a_subscription_counts<B: Broker>(mut bench: BrokerFixture<B>) {
    let a = channel("a");
    for count in 1..=10 {
        bench.subscribe(&a).await;
        bench.subscribe(&a).await;
        bench.broker.unsubscribe(&a);
        bench.subscribe(&a).await;
        bench.publish(&a, count, KEEP).await;
        let relayed = bench.next().await;
        assert_eq!(number(&relayed), count);
    }
}

/// Eight publishers at once: relayed in the order of offsets, none left out, none twice.
pub async fn concurrent_publishers_share_one_order<B: Broker>(mut bench: BrokerFixture<B>) {
    const EACH: u32 = 200;
    let a = channel("a");
    bench.subscribe(&a).await;
    let publishers = (0..8_u32).map(|publisher| {
        let (broker, a) = (bench.broker.clone(), a.clone());
        tokio::spawn(async move {
            let mut offsets = Vec::new();
            for count in 0..EACH {
                offsets.push(offset(publish(&*broker, &a, publisher * EACH + count, (KEEP, None)).await));
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
        let relayed = bench.next().await;
        assert_eq!(relayed.position().map(|position| position.offset), Some(expected));
        contents.insert(number(&relayed));
    }
    assert_eq!(contents.len(), 8 * EACH as usize);
}

/// A key that was published before publishes nothing: same position, `Repeat::Yes`, no relay.
pub async fn a_repeated_key_answers_with_the_first_result<B: Broker>(mut bench: BrokerFixture<B>) {
    let a = channel("a");
    bench.subscribe(&a).await;
    let first = bench.keyed(&a, 1, (KEEP, "alice\0k")).await;
    bench.publish(&a, 2, KEEP).await;
    let second = bench.keyed(&a, 3, (KEEP, "alice\0k")).await;
    assert_eq!((first.repeat, second.repeat), (Repeat::No, Repeat::Yes));
    assert_eq!(first.position, second.position);
    assert_eq!(offset(bench.keyed(&a, 4, (KEEP, "bob\0k")).await), 3, "another user's key is another one");
    let unnumbered = bench.keyed(&a, 5, (None, "alice\0u")).await;
    let again = bench.keyed(&a, 6, (None, "alice\0u")).await;
    assert_eq!((unnumbered.position, again.position, again.repeat), (None, None, Repeat::Yes));
    let relayed: Vec<u32> = bench.drain(&a).await.iter().map(|publication| number(publication)).collect();
    assert_eq!(relayed, [1, 2, 4, 5]);
    assert_eq!(numbers(&bench.history(&a, HistoryRange::all()).await), [1, 2, 4]);
}

/// The same key in another channel is another publication.
pub async fn a_key_belongs_to_its_channel<B: Broker>(bench: BrokerFixture<B>) {
    // Many, so that some share whatever the broker divides its channels by.
    for count in 0..200 {
        let name = channel(&format!("c{count}"));
        assert_eq!(bench.keyed(&name, count, (KEEP, "alice\0k")).await.repeat, Repeat::No, "{name}");
    }
}

/// Of eight that race with one key, one publishes.
pub async fn racing_repetitions_of_a_key_publish_once<B: Broker>(mut bench: BrokerFixture<B>) {
    let a = channel("a");
    bench.subscribe(&a).await;
    for round in 0..50_u32 {
        let key = format!("alice\0{round}");
        let racers = (0..8).map(|_| {
            let (broker, a, key) = (bench.broker.clone(), a.clone(), key.clone());
            tokio::spawn(async move { publish(&*broker, &a, round, (KEEP, Some(&key))).await })
        });
        let mut answers = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            answers.push(racer.await.expect("the publisher"));
        }
        assert_eq!(answers.iter().filter(|answer| answer.repeat == Repeat::No).count(), 1);
        assert!(answers.iter().all(|answer| answer.position == answers[0].position));
        let relayed = bench.next().await;
        assert_eq!(number(&relayed), round);
    }
    assert!(bench.drain(&a).await.is_empty());
}

/// No name is a pattern, a separator or a command of what stands below.
pub async fn names_are_taken_literally<B: Broker>(mut bench: BrokerFixture<B>) {
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
        bench.subscribe(&channel(name)).await;
        assert_eq!(offset(bench.publish(&channel(name), count, KEEP).await), 1, "{name}");
        let relayed = bench.next().await;
        assert_eq!((relayed.channel().as_str(), number(&relayed)), (name, count));
    }
    for (count, name) in (0..).zip(names) {
        assert_eq!(numbers(&bench.history(&channel(name), HistoryRange::all()).await), [count], "{name}");
    }
}

/// One that publishes says that it can.
pub async fn a_working_broker_is_ready<B: Broker>(bench: BrokerFixture<B>) {
    bench.publish(&channel("a"), 1, KEEP).await;
    assert!(bench.broker.is_ready());
}

const KEEP: Option<Retention> = Some(Retention { messages: 10_000, age: HOUR });
const HOUR: Duration = Duration::from_secs(3600);
