//! The bounds of the local broker, on paused time. Its promises to everybody are in the contract suite.

use super::*;
use crate::channel::Draft;
use crate::{Order, Retention};

fn broker(options: LocalOptions) -> LocalBroker {
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

/// Names that share a lock, and with it a budget.
fn neighbours(broker: &LocalBroker, count: usize) -> Vec<ChannelName> {
    let first = name("n0");
    let names = (0..).map(|number| name(&format!("n{number}")));
    names.filter(|other| std::ptr::eq(broker.part(other).0, broker.part(&first).0)).take(count).collect()
}

/// What the accounts say must be what is there.
fn audit(broker: &LocalBroker) {
    for part in &broker.parts {
        let part = part.lock();
        let streams = || part.streams.iter().map(|(_, named)| &named.stream);
        let listed: usize = streams().map(|stream| (stream.first()..=stream.top().offset).count()).sum();
        assert_eq!(part.live, listed);
        assert_eq!(part.index.len(), part.streams.len());
        let all = HistoryRange { since: None, limit: u32::MAX, order: Order::Forward };
        let pages = streams().map(|stream| stream.page(all));
        let weights = pages.flat_map(|page| page.publications).map(|publication| publication.weight());
        assert_eq!(part.bytes, weights.sum::<usize>());
        assert!(part.oldest.len() <= 2 * part.live + 65);
    }
}

#[tokio::test(start_paused = true)]
async fn total_bytes_evict_the_oldest_first_whatever_its_channel() {
    let one = Draft::new(name("x"), &"x".repeat(1000)).unwrap().publication(None).weight();
    let broker = broker(LocalOptions { history_bytes: PARTS * 10 * one, ..LocalOptions::default() });
    let names = neighbours(&broker, 3);
    for round in 0..5 {
        for channel in &names {
            assert_eq!(publish(&broker, channel, 1000).await.offset, round + 1);
        }
    }
    // Ten of fifteen fit: the five that came first are gone.
    assert_eq!(kept(&broker, &names[0]).await, [3, 4, 5]);
    assert_eq!(kept(&broker, &names[1]).await, [3, 4, 5]);
    assert_eq!(kept(&broker, &names[2]).await, [2, 3, 4, 5]);
    audit(&broker);
    for _ in 0..9 {
        publish(&broker, &names[2], 1000).await;
    }
    assert_eq!((kept(&broker, &names[0]).await, kept(&broker, &names[1]).await), (vec![], vec![]));
    assert_eq!(publish(&broker, &names[0], 1000).await.offset, 6, "the numbering outlives the history");
    audit(&broker);
}

#[tokio::test(start_paused = true)]
async fn channels_without_number_are_forgotten_but_not_those_in_use() {
    let broker = broker(LocalOptions { channels: PARTS * 16, ..LocalOptions::default() });
    let names = neighbours(&broker, 200);
    let (busy, others) = names.split_first().unwrap();
    let first = publish(&broker, busy, 10).await;
    for (round, other) in others.iter().enumerate() {
        tokio::time::advance(Duration::from_millis(1)).await;
        publish(&broker, other, 10).await;
        tokio::time::advance(Duration::from_millis(1)).await;
        let position = publish(&broker, busy, 10).await;
        assert_eq!(position, Position { offset: round as u64 + 2, ..first });
        assert!(broker.part(busy).0.lock().streams.len() <= 21);
        audit(&broker);
    }
    assert_eq!(kept(&broker, &others[0]).await, Vec::<u64>::new());
    assert_ne!(publish(&broker, &others[0], 10).await.epoch, first.epoch, "its offsets begin anew");
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_the_budget_is_numbered_and_not_kept() {
    let broker = broker(LocalOptions { history_bytes: PARTS * 1000, ..LocalOptions::default() });
    let first = publish(&broker, &name("x"), 10_000).await;
    assert!(kept(&broker, &name("x")).await.is_empty());
    let range = HistoryRange { since: Some(Position { offset: 0, ..first }), ..HistoryRange::all() };
    assert_eq!(broker.history(&name("x"), range).await.unwrap().continuity, Continuity::TooOld);
    audit(&broker);
}

#[tokio::test(start_paused = true)]
async fn age_frees_memory_even_where_nobody_reads() {
    let broker = broker(LocalOptions::default());
    for number in 0..100 {
        publish(&broker, &name(&format!("c{number}")), 100).await;
    }
    tokio::time::advance(Duration::from_secs(61)).await;
    broker.sweep();
    assert_eq!(broker.parts.iter().map(|part| part.lock().bytes).sum::<usize>(), 0);
    assert_eq!(broker.parts.iter().map(|part| part.lock().oldest.len()).sum::<usize>(), 0);
    audit(&broker);
}

#[tokio::test(start_paused = true)]
async fn keys_are_remembered_for_their_age() {
    let broker = broker(LocalOptions::default());
    let first = keyed(&broker, &name("x"), 1, Some("k")).await;
    tokio::time::advance(Duration::from_secs(299)).await;
    broker.sweep();
    assert_eq!(keyed(&broker, &name("x"), 1, Some("k")).await, Published { repeat: Repeat::Yes, ..first });
    tokio::time::advance(Duration::from_secs(2)).await;
    broker.sweep();
    assert_eq!(keyed(&broker, &name("x"), 1, Some("k")).await.repeat, Repeat::No);
}

#[tokio::test(start_paused = true)]
async fn so_many_keys_are_remembered_and_the_oldest_go_first() {
    let broker = broker(LocalOptions { keys: PARTS * 3, ..LocalOptions::default() });
    for key in ["1", "2", "3", "4"] {
        keyed(&broker, &name("x"), 1, Some(key)).await;
    }
    for key in ["4", "3", "2"] {
        assert_eq!(keyed(&broker, &name("x"), 1, Some(key)).await.repeat, Repeat::Yes, "{key}");
    }
    assert_eq!(keyed(&broker, &name("x"), 1, Some("1")).await.repeat, Repeat::No);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_forgotten_begins_anew_under_another_epoch() {
    let broker = broker(LocalOptions { position_age: Duration::from_secs(100), ..LocalOptions::default() });
    let names = neighbours(&broker, 2);
    let (quiet, busy) = (&names[0], &names[1]);
    let before = publish(&broker, quiet, 1).await;
    let other = publish(&broker, busy, 1).await;
    tokio::time::advance(Duration::from_secs(99)).await;
    broker.sweep();
    assert_eq!(publish(&broker, busy, 1).await, Position { offset: 2, ..other });
    let range = HistoryRange { since: Some(before), ..HistoryRange::all() };
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
    let one = Draft::new(name("x"), &"").unwrap().publication(None).weight();
    let broker = broker(LocalOptions {
        history_bytes: PARTS * 20 * one,
        position_age: Duration::from_secs(70),
        ..LocalOptions::default()
    });
    let names = neighbours(&broker, 5);
    let mut random = 7_u64;
    for step in 0..5_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let channel = &names[(random >> 33) as usize % names.len()];
        match (random >> 45) % 10 {
            0 => tokio::time::advance(Duration::from_secs((random >> 50) % 40)).await,
            1 => broker.sweep(),
            2 => drop(kept(&broker, channel).await),
            _ => drop(publish(&broker, channel, (random >> 50) as usize % 400).await),
        }
        if step % 50 == 0 {
            audit(&broker);
        }
    }
    audit(&broker);
}
