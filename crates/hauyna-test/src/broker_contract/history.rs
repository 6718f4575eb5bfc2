//! The promises of a broker about history: what is kept, how it is read, and when it can be continued from a
//! position.

#![expect(clippy::missing_panics_doc, reason = "a broken promise is a panic: said once, at `run`")]

use super::fixture::{BrokerFixture, TIMEOUT, channel, numbers, offset, position};
use super::{HOUR, KEEP};
use hauyna::broker::{Broker, Continuity, Epoch, Order, Retention};
use hauyna::{HistoryRange, Position};
use std::time::Duration;

/// Checks that the newest `messages` publications are kept, in order.
pub async fn history_is_kept_up_to_its_count<B: Broker>(fixture: BrokerFixture<B>) {
    let a = channel("a");
    for count in 1..=25 {
        fixture.publish(&a, count, Some(Retention { messages: 10, age: HOUR })).await;
    }
    let page = fixture.history(&a, HistoryRange::all()).await;
    assert_eq!((page.top.offset, page.continuity), (25, Continuity::Whole));
    assert_eq!(numbers(&page), (16..=25).collect::<Vec<_>>());
}

/// Publications older than `age` are gone; the numbering continues.
pub async fn history_is_kept_up_to_its_age<B: Broker>(fixture: BrokerFixture<B>) {
    let a = channel("a");
    let first = position(fixture.publish(&a, 1, Some(Retention { messages: 10, age: SHORT })).await);
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while !fixture.history(&a, HistoryRange::all()).await.publications.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "a publication outlives its age");
        tokio::time::sleep(SHORT / 10).await;
        fixture.broker.sweep();
    }
    let page = fixture.history(&a, HistoryRange::after(Position { offset: 0, ..first }));
    assert_eq!(page.await.continuity, Continuity::TooOld);
    let second = position(fixture.publish(&a, 2, KEEP).await);
    assert_eq!(second, Position { epoch: first.epoch, offset: 2 });
}

/// Checks that history is read forward from the oldest or after a position, or in reverse from the newest or
/// before a position, up to the limit.
pub async fn history_is_read_from_either_end<B: Broker>(fixture: BrokerFixture<B>) {
    let a = channel("a");
    for count in 1..=10 {
        fixture.publish(&a, count, KEEP).await;
    }
    let read = async |since: Option<u64>, limit, order| {
        let top = fixture.history(&a, HistoryRange::top()).await.top;
        let mut range = HistoryRange::all().limit(limit);
        (range.since, range.order) = (since.map(|offset| Position { offset, ..top }), order);
        numbers(&fixture.history(&a, range).await)
    };
    assert_eq!(read(None, 3, Order::Forward).await, [1, 2, 3]);
    assert_eq!(read(None, 3, Order::Reverse).await, [10, 9, 8]);
    assert_eq!(read(Some(4), 2, Order::Forward).await, [5, 6]);
    assert_eq!(read(Some(8), 3, Order::Reverse).await, [7, 6, 5]);
    assert_eq!(read(Some(3), 100, Order::Reverse).await, [2, 1]);
    assert!(read(Some(1), 100, Order::Reverse).await.is_empty());
    assert!(read(None, 0, Order::Forward).await.is_empty());
    assert!(read(Some(10), 100, Order::Forward).await.is_empty());
}

/// Checks that reading page by page, newest first, ends at the oldest publication that is kept. Missing older
/// ones are no failure, and each page names the oldest offset.
pub async fn scrolling_back_ends_at_the_oldest_that_is_kept<B: Broker>(fixture: BrokerFixture<B>) {
    let a = channel("a");
    assert_eq!(fixture.history(&a, HistoryRange::newest()).await.oldest, 1);
    for count in 1..=20 {
        fixture.publish(&a, count, Some(Retention { messages: 12, age: HOUR })).await;
    }
    let mut seen = Vec::new();
    let mut range = HistoryRange::newest().limit(5);
    loop {
        let page = fixture.history(&a, range).await;
        assert_eq!((page.oldest, page.top.offset), (9, 20));
        seen.extend(numbers(&page));
        let last = page.publications.last().and_then(|last| last.position()).expect("a position");
        let remaining = last.offset - page.oldest;
        let is_first = range.since.is_none();
        let expected = if remaining > 0 && !is_first { Continuity::TooMany } else { Continuity::Whole };
        assert_eq!(page.continuity, expected, "before {:?}", range.since);
        range = HistoryRange::before(last).limit(5);
        if remaining == 0 {
            break;
        }
    }
    assert_eq!(seen, (9..=20).rev().collect::<Vec<_>>());
    for offset in [9, 4, 0] {
        range.since = range.since.map(|since| Position { offset, ..since });
        let page = fixture.history(&a, range).await;
        assert_eq!((page.publications.len(), page.oldest, page.continuity), (0, 9, Continuity::Whole));
    }
}

/// Checks that any offset and any limit that a client may ask for is answered.
pub async fn no_range_is_too_large_and_none_too_small<B: Broker>(fixture: BrokerFixture<B>) {
    let a = channel("a");
    for count in 1..=3 {
        fixture.publish(&a, count, KEEP).await;
    }
    let top = fixture.history(&a, HistoryRange::top()).await.top;
    for offset in [0, 1, 3, 4, 5, u64::MAX - 1, u64::MAX] {
        for limit in [0, 1, u32::MAX] {
            let position = Position { offset, ..top };
            let after = fixture.history(&a, HistoryRange::after(position).limit(limit)).await;
            let before = fixture.history(&a, HistoryRange::before(position).limit(limit)).await;
            assert_eq!(after.publications.len() as u64, 3_u64.saturating_sub(offset).min(limit.into()));
            let older = if offset > 4 { 0 } else { offset.saturating_sub(1) };
            assert_eq!(before.publications.len() as u64, older.min(limit.into()), "before {offset}");
            assert_eq!(after.continuity == Continuity::EpochChanged, offset > 3);
            assert_eq!(before.continuity == Continuity::EpochChanged, offset > 4);
        }
    }
}

/// Checks that a page after a covered position holds everything after it.
pub async fn a_known_position_is_continued_whole<B: Broker>(fixture: BrokerFixture<B>) {
    let a = channel("a");
    let start = fixture.history(&a, HistoryRange::top()).await.top;
    for count in 1..=10 {
        fixture.publish(&a, count, KEEP).await;
    }
    for since in 0..=10 {
        let range = HistoryRange::after(Position { offset: since, ..start });
        let page = fixture.history(&a, range).await;
        assert_eq!(page.continuity, Continuity::Whole);
        let expected: Vec<u32> = (1..=10).filter(|count| u64::from(*count) > since).collect();
        assert_eq!(numbers(&page), expected);
    }
}

/// Checks that too old, another epoch, beyond the top, more than the limit: each has its own reason and is
/// never `Whole`.
pub async fn a_position_is_refused_with_the_reason<B: Broker>(fixture: BrokerFixture<B>) {
    let a = channel("a");
    for count in 1..=10 {
        fixture.publish(&a, count, Some(Retention { messages: 4, age: HOUR })).await;
    }
    let top = fixture.history(&a, HistoryRange::top()).await.top;
    let ask = async |since: Position, limit| {
        let range = HistoryRange::after(since).limit(limit);
        fixture.history(&a, range).await.continuity
    };
    assert_eq!(ask(Position { offset: 5, ..top }, 100).await, Continuity::TooOld);
    assert_eq!(ask(Position { offset: 6, ..top }, 100).await, Continuity::Whole);
    assert_eq!(ask(Position { offset: 6, ..top }, 3).await, Continuity::TooMany);
    assert_eq!(ask(Position { epoch: Epoch::UNKNOWN, offset: 6 }, 100).await, Continuity::EpochChanged);
    assert_eq!(ask(Position { offset: 11, ..top }, 100).await, Continuity::EpochChanged);
    assert_eq!(ask(Position { offset: u64::MAX, ..top }, 100).await, Continuity::EpochChanged);
}

/// Checks that without retention nothing is numbered or kept, and earlier history stays unchanged.
pub async fn without_retention_there_is_no_position_and_no_history<B: Broker>(mut fixture: BrokerFixture<B>) {
    let a = channel("a");
    fixture.subscribe(&a).await;
    assert_eq!(fixture.publish(&a, 1, None).await.position, None);
    assert_eq!(fixture.next().await.position(), None);
    let page = fixture.history(&a, HistoryRange::all()).await;
    assert_eq!((page.top.offset, page.publications.len()), (0, 0));
    assert_eq!(offset(fixture.publish(&a, 2, KEEP).await), 1);
    fixture.publish(&a, 3, None).await;
    assert_eq!(offset(fixture.publish(&a, 4, KEEP).await), 2);
    assert_eq!(numbers(&fixture.history(&a, HistoryRange::all()).await), [2, 4]);
}

/// Age short enough for a test to wait for.
const SHORT: Duration = Duration::from_millis(300);
