//! Tests of the local broker's bounds, on paused time. The contract suite tests what every broker promises.

use super::*;
use crate::broker::{Continuity, Retention};
use hauyna_broker::Draft;
use hauyna_protocol::Position;

fn broker(options: LocalBrokerOptions) -> LocalBroker {
    let broker = LocalBroker::new(options);
    broker.start(Relay::to(|_| {}));
    broker
}

async fn publish(broker: &LocalBroker, channel: &ChannelName, bytes: usize) -> Position {
    keyed(broker, channel, bytes, None).await.position.unwrap()
}

async fn keyed(broker: &LocalBroker, channel: &ChannelName, bytes: usize, key: Option<&str>) -> Published {
    let draft = Draft::new(channel.clone(), &"x".repeat(bytes)).unwrap();
    let retention = Some(Retention { messages: 1000, age: Duration::from_secs(60) });
    broker.publish(Publish { draft, retention, key: key.map(Into::into) }).await.unwrap()
}

async fn kept(broker: &LocalBroker, channel: &ChannelName) -> Vec<u64> {
    let page = broker.history(channel, HistoryRange::all()).await.unwrap();
    page.publications.iter().map(|publication| publication.offset()).collect()
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

/// Returns names that share a lock, and with it the epoch of channels that do not exist.
fn neighbours(broker: &LocalBroker, count: usize) -> Vec<ChannelName> {
    let first = name("n0");
    let names = (0..).map(|number| name(&format!("n{number}")));
    names.filter(|other| broker.stripe_of(other).0 == broker.stripe_of(&first).0).take(count).collect()
}

fn names(count: usize) -> Vec<ChannelName> {
    (0..count).map(|number| name(&format!("n{number}"))).collect()
}

/// Returns the weight of a publication of this size.
fn weight(bytes: usize) -> usize {
    Draft::new(name("x"), &"x".repeat(bytes)).unwrap().publication(None).weight()
}

async fn tick() {
    tokio::time::advance(Duration::from_millis(1)).await;
}

/// Checks that the totals match what the stripes hold.
fn audit(broker: &LocalBroker) {
    let mut sum = Amounts::default();
    for stripe in &broker.stripes {
        let streams = stripe.streams.lock();
        let amounts = streams.audit();
        sum.history_bytes += amounts.history_bytes;
        sum.streams += amounts.streams;
        sum.keys += amounts.keys;
        sum.key_bytes += amounts.key_bytes;
        let oldest = [streams.oldest_publication(), streams.oldest_stream(), streams.keys.oldest()];
        for (kind, at) in
            [BoundKind::Publications, BoundKind::Streams, BoundKind::Keys].into_iter().zip(oldest)
        {
            assert_eq!(stripe.oldest(kind), at.unwrap_or(NO_TIME), "{kind:?}");
        }
    }
    let totals = &broker.totals;
    assert_eq!(totals.history_bytes.load(Ordering::Relaxed), sum.history_bytes);
    assert_eq!(totals.streams.load(Ordering::Relaxed), sum.streams);
    assert_eq!(totals.keys.load(Ordering::Relaxed), sum.keys);
    assert_eq!(totals.key_bytes.load(Ordering::Relaxed), sum.key_bytes);
}

#[tokio::test(start_paused = true)]
async fn total_bytes_evict_the_oldest_first_whatever_its_channel() {
    let broker = broker(LocalBrokerOptions::new().max_history_bytes(100 * weight(1000)));
    let names = names(30);
    for round in 0..5 {
        for channel in &names {
            tick().await;
            assert_eq!(publish(&broker, channel, 1000).await.offset, round + 1);
        }
    }
    // Of 150 about 100 fit: the first two rounds are gone, or almost.
    for (index, channel) in names.iter().enumerate() {
        let expected: &[u64] = if index < 20 { &[3, 4, 5] } else { &[2, 3, 4, 5] };
        assert_eq!(kept(&broker, channel).await, expected, "{channel}");
    }
    audit(&broker);
    for _ in 0..100 {
        tick().await;
        publish(&broker, &names[2], 1000).await;
    }
    assert!(kept(&broker, &names[0]).await.is_empty());
    assert_eq!(kept(&broker, &names[2]).await.len(), 100);
    assert_eq!(publish(&broker, &names[0], 1000).await.offset, 6, "the numbering outlives the history");
    audit(&broker);
}

#[tokio::test(start_paused = true)]
async fn one_channel_may_take_the_whole_budget() {
    let broker = broker(LocalBrokerOptions::new().max_history_bytes(1000 * weight(1000)));
    for _ in 0..1000 {
        publish(&broker, &name("x"), 1000).await;
    }
    assert_eq!(kept(&broker, &name("x")).await, (1..=1000).collect::<Vec<_>>());
    audit(&broker);
}

#[tokio::test]
async fn racing_publishers_keep_to_the_budget_without_waiting_for_each_other() {
    let options =
        LocalBrokerOptions::new().max_history_bytes(200 * weight(1000)).max_channels(50).max_keys(100);
    let broker = Arc::new(broker(options));
    let publishers = (0..4_usize).map(|publisher| {
        let broker = broker.clone();
        std::thread::spawn(move || {
            for number in 0..2_000_usize {
                let channel = name(&format!("c{}", number * 7 % 90 + publisher));
                let draft = Draft::new(channel, &"x".repeat(1000)).unwrap();
                let retention = Some(Retention { messages: 1000, age: Duration::from_secs(60) });
                let key = Some(format!("{publisher} {number}").into());
                assert!(matches!(broker.publish(Publish { draft, retention, key }), Answer::Ready(Ok(_))));
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.join().unwrap();
    }
    audit(&broker);
    let totals = &broker.totals;
    assert!(totals.history_bytes.load(Ordering::Relaxed) <= 200 * weight(1000));
    assert!(totals.streams.load(Ordering::Relaxed) <= 50);
    assert!(totals.keys.load(Ordering::Relaxed) <= 100);
}

#[tokio::test(start_paused = true)]
async fn channels_without_number_are_forgotten_but_not_those_in_use() {
    let broker = broker(LocalBrokerOptions::new().max_channels(16));
    let names = names(200);
    let (busy, others) = names.split_first().unwrap();
    let first = publish(&broker, busy, 10).await;
    for (round, other) in others.iter().enumerate() {
        tick().await;
        let old = publish(&broker, other, 10).await;
        assert_eq!(old.offset, 1);
        tick().await;
        let position = publish(&broker, busy, 10).await;
        assert_eq!(position, Position { offset: round as u64 + 2, ..first });
        assert!(broker.totals.streams.load(Ordering::Relaxed) <= 16);
        audit(&broker);
    }
    assert_eq!(kept(&broker, &others[0]).await, Vec::<u64>::new());
    let (last, newest) = (&others[others.len() - 15], others.last().unwrap());
    assert_eq!(
        (kept(&broker, last).await, kept(&broker, newest).await),
        (vec![1], vec![1]),
        "the others remain"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_subscribers_is_never_forgotten() {
    let options = LocalBrokerOptions::new().max_channels(4).position_age(Duration::from_secs(100));
    let broker = broker(options);
    let neighbours = neighbours(&broker, 40);
    let (quiet, rest) = neighbours.split_first().unwrap();
    let (silent, others) = rest.split_first().unwrap();
    let first = publish(&broker, quiet, 1).await;
    for channel in [quiet, silent] {
        broker.subscribe(channel).await.unwrap();
    }
    let told = broker.history(silent, HistoryRange::top()).await.unwrap().top;
    for other in others {
        tick().await;
        publish(&broker, other, 1).await;
    }
    tokio::time::advance(Duration::from_secs(7200)).await;
    broker.sweep();
    assert_eq!(broker.totals.streams.load(Ordering::Relaxed), 2, "nothing else is remembered");
    assert_eq!(publish(&broker, quiet, 1).await, Position { offset: 2, ..first });
    assert_eq!(publish(&broker, silent, 1).await, Position { offset: 1, ..told });
    audit(&broker);
}

#[tokio::test(start_paused = true)]
async fn a_position_is_remembered_for_its_age_after_the_last_subscriber_left() {
    let broker = broker(LocalBrokerOptions::new().position_age(Duration::from_secs(100)));
    let channel = name("x");
    broker.subscribe(&channel).await.unwrap();
    let first = publish(&broker, &channel, 1).await;
    tokio::time::advance(Duration::from_secs(7200)).await;
    broker.sweep();
    broker.unsubscribe(&channel);
    tokio::time::advance(Duration::from_secs(99)).await;
    broker.sweep();
    let range = HistoryRange::after(first);
    assert_eq!(broker.history(&channel, range).await.unwrap().continuity, Continuity::Whole);
    tokio::time::advance(Duration::from_secs(2)).await;
    broker.sweep();
    assert_eq!(broker.history(&channel, range).await.unwrap().continuity, Continuity::EpochChanged);
    assert_eq!(broker.totals.streams.load(Ordering::Relaxed), 0);
    audit(&broker);
}

#[tokio::test(start_paused = true)]
async fn names_that_were_only_subscribed_to_leave_nothing_behind() {
    let broker = broker(LocalBrokerOptions::default());
    for channel in names(1000) {
        broker.subscribe(&channel).await.unwrap();
        let told = broker.history(&channel, HistoryRange::top()).await.unwrap().top;
        broker.unsubscribe(&channel);
        assert_eq!(broker.history(&channel, HistoryRange::top()).await.unwrap().top, told);
    }
    assert_eq!(broker.totals.streams.load(Ordering::Relaxed), 0);
    audit(&broker);
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_the_budget_is_numbered_and_not_kept() {
    let broker = broker(LocalBrokerOptions::new().max_history_bytes(1000));
    let first = publish(&broker, &name("x"), 10_000).await;
    assert!(kept(&broker, &name("x")).await.is_empty());
    let range = HistoryRange::after(Position { offset: 0, ..first });
    assert_eq!(broker.history(&name("x"), range).await.unwrap().continuity, Continuity::TooOld);
    audit(&broker);
}

#[tokio::test(start_paused = true)]
async fn age_frees_memory_even_where_nobody_reads() {
    let broker = broker(LocalBrokerOptions::default());
    for number in 0..100 {
        publish(&broker, &name(&format!("c{number}")), 100).await;
    }
    tokio::time::advance(Duration::from_secs(61)).await;
    broker.sweep();
    assert_eq!(broker.totals.history_bytes.load(Ordering::Relaxed), 0);
    assert!(broker.stripes.iter().all(|place| place.oldest(BoundKind::Publications) == NO_TIME));
    audit(&broker);
}

#[tokio::test(start_paused = true)]
async fn keys_are_remembered_for_their_age() {
    let broker = broker(LocalBrokerOptions::default());
    let first = keyed(&broker, &name("x"), 1, Some("k")).await;
    tokio::time::advance(Duration::from_secs(299)).await;
    broker.sweep();
    assert_eq!(keyed(&broker, &name("x"), 1, Some("k")).await, Published { repeat: Repeat::Yes, ..first });
    // A hub without connections is not swept.
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(keyed(&broker, &name("x"), 1, Some("k")).await.repeat, Repeat::No);
}

#[tokio::test(start_paused = true)]
async fn so_many_keys_are_remembered_and_the_oldest_go_first() {
    let by_number = LocalBrokerOptions::new().max_keys(30);
    // The key includes the channel's name and a NUL.
    let by_bytes = LocalBrokerOptions::new().max_key_bytes(30 * 5);
    for options in [by_number, by_bytes] {
        let broker = broker(options);
        let channels = ["a", "b", "c", "d"].map(name);
        for key in 10..50 {
            tick().await;
            keyed(&broker, &channels[key % 4], 1, Some(&format!("k{key}"))).await;
        }
        audit(&broker);
        for key in (20..50).rev() {
            let again = keyed(&broker, &channels[key % 4], 1, Some(&format!("k{key}"))).await;
            assert_eq!(again.repeat, Repeat::Yes, "{key}");
        }
        assert_eq!(keyed(&broker, &channels[3], 1, Some("k19")).await.repeat, Repeat::No);
        audit(&broker);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_forgotten_begins_anew_under_another_epoch() {
    let broker = broker(LocalBrokerOptions::new().position_age(Duration::from_secs(100)));
    let names = neighbours(&broker, 2);
    let (quiet, busy) = (&names[0], &names[1]);
    let before = publish(&broker, quiet, 1).await;
    let other = publish(&broker, busy, 1).await;
    tokio::time::advance(Duration::from_secs(99)).await;
    broker.sweep();
    assert_eq!(publish(&broker, busy, 1).await, Position { offset: 2, ..other });
    let range = HistoryRange::after(before);
    assert_eq!(
        broker.history(quiet, range).await.unwrap().continuity,
        Continuity::Whole,
        "nothing was missed"
    );
    tokio::time::advance(Duration::from_secs(2)).await;
    broker.sweep();
    assert_eq!(broker.history(quiet, range).await.unwrap().continuity, Continuity::EpochChanged);
    let after = publish(&broker, quiet, 1).await;
    assert_eq!(after.offset, 1);
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(publish(&broker, busy, 1).await, Position { offset: 3, ..other }, "others go on");
}

#[tokio::test(start_paused = true)]
async fn the_accounts_are_right_after_any_history() {
    let broker = broker(
        LocalBrokerOptions::new()
            .max_history_bytes(20 * weight(0))
            .position_age(Duration::from_secs(70))
            .max_channels(6),
    );
    let mut names = neighbours(&broker, 5);
    names.extend((0..5).map(|number| name(&format!("m{number}"))));
    let mut random = 7_u64;
    for step in 0..5_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let channel = &names[(random >> 33) as usize % names.len()];
        match (random >> 45) % 12 {
            0 => tokio::time::advance(Duration::from_secs((random >> 50) % 40)).await,
            1 => broker.sweep(),
            2 => drop(kept(&broker, channel).await),
            3 => broker.subscribe(channel).await.unwrap(),
            4 => broker.unsubscribe(channel),
            _ => drop(publish(&broker, channel, (random >> 50) as usize % 400).await),
        }
        if step % 50 == 0 {
            audit(&broker);
        }
    }
    audit(&broker);
}

#[tokio::test(start_paused = true)]
async fn no_range_is_too_large_and_none_too_small() {
    let broker = broker(LocalBrokerOptions::default());
    let channel = name("x");
    for _ in 0..3 {
        publish(&broker, &channel, 1).await;
    }
    let top = broker.history(&channel, HistoryRange::top()).await.unwrap().top;
    for offset in [0, 1, 3, 4, 5, u64::MAX - 1, u64::MAX] {
        for limit in [0, 1, 2, u32::MAX] {
            let position = Position { offset, ..top };
            let after = broker.history(&channel, HistoryRange::after(position).limit(limit)).await.unwrap();
            let before = broker.history(&channel, HistoryRange::before(position).limit(limit)).await.unwrap();
            let newer = 3_u64.saturating_sub(offset).min(limit.into());
            let older = if offset > 4 { 0 } else { offset.saturating_sub(1).min(3).min(limit.into()) };
            assert_eq!(after.publications.len() as u64, newer, "after {offset}, {limit}");
            assert_eq!(before.publications.len() as u64, older, "before {offset}, {limit}");
            assert_eq!(after.continuity == Continuity::EpochChanged, offset > 3);
            assert_eq!(before.continuity == Continuity::EpochChanged, offset > 4);
            assert_eq!((after.oldest, before.oldest), (1, 1));
        }
    }
}
