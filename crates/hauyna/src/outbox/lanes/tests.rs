//! Tests of the order of the lanes, of what the slow-consumer policies drop and report, and of writes that
//! are cut at any byte.

use super::*;
use crate::Handler;
use crate::Hub;
use crate::channel::{ChannelCore, ChannelOptions, SlowConsumer};
use crate::connection::{ConnectInfo, ConnectionCore, ConnectionParts, Encoding};
use crate::counters::Traffic;
use crate::outbox::latest::ReadingPace;
use crate::outbox::queue::OutboxFull;
use crate::outbox::{Outbox, Outgoing, Widening};
use crate::transport::Socket;
use hauyna_broker::{ChannelName, ConnectionId, Draft, PublicationKind, UserId, Wire};
use hauyna_protocol::Epoch;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU8, AtomicU32};

fn subscription(channel: &str, policy: SlowConsumer) -> Arc<Subscription> {
    let identity = ConnectionParts {
        id: ConnectionId::new(1),
        shard: 0,
        user: UserId::new("u").unwrap(),
        wire: Wire::new(Encoding::Json, false),
        connect_info: ConnectInfo::new(None, None, "/"),
        attached: None,
        session_key: None,
    };
    let endpoint = Arc::new(Handler::new().into_endpoint());
    let connection = ConnectionCore::new(Hub::new().0, endpoint, identity, Outbox::new(Socket::Gone));
    let options = Arc::new(ChannelOptions::new().slow_consumer(policy));
    Arc::new(Subscription {
        channel: Arc::new(ChannelCore::new(ChannelName::new(channel).unwrap(), options, 1)),
        connection: Arc::new(connection),
        metadata: Mutex::default(),
        phase: AtomicU8::new(0),
        index: AtomicU32::new(0),
    })
}

fn publication(subscription: &Subscription, offset: u64, key: &str) -> Arc<Publication> {
    let mut draft = Draft::new(subscription.channel.name.clone(), &json!(offset)).unwrap();
    draft.conflate = Some(key.into());
    Arc::new(draft.publication(Some(Position { epoch: Epoch::new(9), offset })))
}

/// Lanes with bounds in frames, and the counters of what they dropped.
struct Bench {
    lanes: Lanes,
    traffic: Traffic,
    frames: usize,
}

impl Bench {
    fn new(frames: usize) -> Self {
        Self { lanes: Lanes::default(), traffic: Traffic::default(), frames }
    }

    fn out(traffic: &Traffic, frames: usize) -> Outgoing<'_> {
        let bounds = QueueBounds { bytes: 1 << 20, frames };
        let (wire, bounds_kind) = (Wire::new(Encoding::Json, false), Widening::Short);
        Outgoing { wire, deflate: None, bounds, bounds_kind, may_conflate: true, traffic }
    }

    fn push(&mut self, subscription: &Arc<Subscription>, offset: u64, key: &str) -> Result<(), OutboxFull> {
        let out = Self::out(&self.traffic, self.frames);
        self.lanes.push_publication(&publication(subscription, offset, key), Some(subscription), out)
    }

    /// Writes everything, at most `step` bytes at a time; returns the payloads.
    fn written(&mut self, step: usize) -> Vec<u8> {
        let out = Self::out(&self.traffic, self.frames);
        self.lanes.render_gaps(out);
        let mut all = Vec::new();
        while !self.lanes.is_empty() {
            let waiting = self.lanes.bytes();
            let mut taken = 0;
            let mut write = |slices: &[IoSlice<'_>]| {
                for byte in slices.iter().flat_map(|slice| slice.iter()).take(step) {
                    all.push(*byte);
                    taken += 1;
                }
                Ok(taken)
            };
            let written = self.lanes.gather(out, &mut write).unwrap();
            self.lanes.advance(written, out);
            assert_eq!(self.lanes.bytes(), waiting - written);
        }
        all
    }

    /// Returns what a client reads: offsets of publications, and `after+missed` of gaps.
    fn read(&mut self) -> Vec<String> {
        let bytes = self.written(usize::MAX);
        frames(&bytes).iter().map(summary).collect()
    }
}

fn frames(mut bytes: &[u8]) -> Vec<Value> {
    let mut messages = Vec::new();
    while let [_, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            short => (usize::from(*short), rest),
        };
        messages.push(serde_json::from_slice(&rest[..length]).unwrap());
        bytes = &rest[length..];
    }
    messages
}

fn summary(message: &Value) -> String {
    match message["type"].as_str() {
        Some("gap") => {
            format!("{}: {}+{}", message["channel"].as_str().unwrap(), message["offset"], message["missed"])
        }
        _ => message["offset"].to_string(),
    }
}

#[test]
fn disconnecting_says_full_and_takes_one_message_of_any_size() {
    let subscription = subscription("x", SlowConsumer::Disconnect);
    let mut bench = Bench::new(2);
    for offset in 1..=2 {
        bench.push(&subscription, offset, "").unwrap();
    }
    assert_eq!(bench.push(&subscription, 3, ""), Err(OutboxFull));
    let big = Arc::new(
        Draft::new(subscription.channel.name.clone(), &"x".repeat(2 << 20)).unwrap().publication(None),
    );
    let mut empty = Bench::new(2);
    let out = Bench::out(&empty.traffic, 2);
    assert_eq!(empty.lanes.push_publication(&big, Some(&subscription), out), Ok(()));
}

#[test]
fn dropping_the_oldest_leaves_one_gap_before_the_newest() {
    let subscription = subscription("x", SlowConsumer::DropOldest);
    let mut bench = Bench::new(3);
    for offset in 1..=9 {
        bench.push(&subscription, offset, "").unwrap();
    }
    assert_eq!(bench.read(), ["x: 0+7", "8", "9"]);
    assert_eq!(bench.traffic.dropped.value(), 7);
}

#[test]
fn dropping_the_newest_leaves_one_gap_behind_the_oldest() {
    let subscription = subscription("x", SlowConsumer::DropNewest);
    let mut bench = Bench::new(3);
    for offset in 1..=9 {
        bench.push(&subscription, offset, "").unwrap();
    }
    assert_eq!(bench.read(), ["1", "2", "3", "x: 3+6"]);
    assert_eq!(bench.traffic.dropped.value(), 6);
}

#[test]
fn conflating_keeps_the_latest_of_each_key() {
    let subscription = subscription("x", SlowConsumer::Conflate);
    let mut bench = Bench::new(100);
    for (offset, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "b"), (6, "c")] {
        bench.push(&subscription, offset, key).unwrap();
    }
    let read = bench.read();
    let gone: u64 = read.iter().filter_map(|entry| entry.split_once('+')?.1.parse::<u64>().ok()).sum();
    let offsets: Vec<_> = read.iter().filter(|entry| !entry.contains('+')).collect();
    assert_eq!(offsets, ["4", "5", "6"]);
    assert_eq!(gone, 3);
    assert!(read[0].starts_with("x: 0+"), "{read:?}");
}

#[test]
fn channels_that_overflow_in_turn_queue_one_gap_each() {
    for policy in [SlowConsumer::DropNewest, SlowConsumer::DropOldest] {
        let (a, b) = (subscription("a", policy), subscription("b", policy));
        let mut bench = Bench::new(4);
        for offset in 1..=1000 {
            bench.push(&a, offset, "").unwrap();
            bench.push(&b, offset, "").unwrap();
        }
        assert!(bench.lanes.data.len() <= 6, "{policy:?}: {} entries wait", bench.lanes.data.len());
        let read = bench.read();
        let missed: u64 = read.iter().filter_map(|entry| entry.split_once('+')?.1.parse::<u64>().ok()).sum();
        let delivered = read.iter().filter(|entry| !entry.contains('+')).count() as u64;
        assert_eq!((missed + delivered, bench.traffic.dropped.value()), (2000, missed), "{policy:?}");
    }
}

#[test]
fn forgetting_a_subscription_leaves_the_others_alone() {
    let (a, b) = (subscription("a", SlowConsumer::DropOldest), subscription("b", SlowConsumer::DropOldest));
    let mut bench = Bench::new(4);
    bench.push(&b, 1, "").unwrap();
    for offset in 1..=10 {
        bench.push(&a, offset, "").unwrap();
    }
    let out = Bench::out(&bench.traffic, 4);
    bench.lanes.remove_subscription(&a, out);
    assert_eq!(bench.read(), ["1"]);
    assert_eq!((bench.lanes.data_bytes, bench.lanes.gaps), (0, 0));
}

#[test]
fn control_goes_before_publications_and_the_close_frame_last() {
    let subscription = subscription("x", SlowConsumer::Disconnect);
    let mut bench = Bench::new(10);
    bench.push(&subscription, 1, "").unwrap();
    bench.lanes.push_last(Bytes::from_static(b"close"));
    bench.lanes.set_pong(Bytes::from_static(b"old"));
    bench.lanes.set_pong(Bytes::from_static(b"pong"));
    bench.lanes.push_control(Bytes::from_static(b"first"));
    bench.lanes.push_control(Bytes::from_static(b"second"));
    let bytes = bench.written(usize::MAX);
    assert!(bytes.starts_with(b"firstsecondpong\x81") && bytes.ends_with(b"}close"));
}

#[test]
fn a_write_may_be_cut_at_any_byte_and_what_comes_then_does_not_split_a_frame() {
    let subscription = subscription("x", SlowConsumer::Disconnect);
    let fill = || {
        let mut bench = Bench::new(100);
        bench.lanes.push_control(Bytes::from_static(b"control"));
        for offset in 1..=3 {
            let publication = Draft::new(subscription.channel.name.clone(), &json!(offset)).unwrap();
            let mut publication = publication;
            publication.timestamp = 1;
            let publication =
                Arc::new(publication.publication(Some(Position { epoch: Epoch::new(9), offset })));
            let out = Bench::out(&bench.traffic, 100);
            bench.lanes.push_publication(&publication, Some(&subscription), out).unwrap();
        }
        bench
    };
    let whole = fill().written(usize::MAX);
    for step in 1..whole.len() {
        assert_eq!(fill().written(step), whole, "{step} bytes at a time");
    }
    for cut in 8..whole.len() {
        let mut bench = fill();
        let out = Bench::out(&bench.traffic, 100);
        bench.lanes.advance(cut, out);
        bench.lanes.push_control(Bytes::from_static(b"\x81\x04true"));
        let rest = bench.written(usize::MAX);
        let received = [&whole[7..cut], &rest].concat();
        let late = frames(&received).iter().filter(|message| **message == json!(true)).count();
        assert_eq!((frames(&received).len(), late), (4, 1), "cut at {cut}");
    }
}

fn client_event(subscription: &Subscription, sender: u64, data: &Value) -> Arc<Publication> {
    let mut draft = Draft::new(subscription.channel.name.clone(), data).unwrap();
    draft.kind = PublicationKind::ClientEvent;
    (draft.except, draft.conflate) = (Some(ConnectionId::new(sender)), Some("cursor".into()));
    Arc::new(draft.publication(None))
}

#[test]
fn client_events_from_before_the_consumer_lagged_give_way_to_the_latest() {
    let subscription = subscription("x", SlowConsumer::Disconnect);
    let mut bench = Bench::new(1000);
    let out = Bench::out(&bench.traffic, 1000);
    for x in 0..10 {
        for sender in [1, 2] {
            bench.lanes.events.push(
                &client_event(&subscription, sender, &json!(x)),
                &subscription,
                out,
                ReadingPace::Unknown,
            );
        }
    }
    assert_eq!(bench.lanes.events.frames(out).count(), 20);
    bench.lanes.events.push(
        &client_event(&subscription, 1, &json!(10)),
        &subscription,
        out,
        ReadingPace::Lagging,
    );
    assert_eq!(bench.lanes.events.frames(out).count(), 11);
    bench.lanes.events.push(
        &client_event(&subscription, 2, &json!(10)),
        &subscription,
        out,
        ReadingPace::Lagging,
    );
    assert_eq!(bench.traffic.client_events_dropped.value(), 20);
    let bytes = bench.written(usize::MAX);
    let data: Vec<_> = frames(&bytes).iter().map(|event| event["data"].clone()).collect();
    assert_eq!(data, [10, 10]);
}

#[test]
fn client_events_of_any_number_of_senders_wait_within_bounds() {
    let subscription = subscription("x", SlowConsumer::Disconnect);
    for (pace, bytes, count) in
        [(ReadingPace::Lagging, 64 * 1024, 256), (ReadingPace::Unknown, 1 << 20, 4096)]
    {
        for size in [1, 1000] {
            let mut bench = Bench::new(10_000);
            let out = Bench::out(&bench.traffic, 10_000);
            for sender in 0..5000 {
                let event = client_event(&subscription, sender, &json!("x".repeat(size)));
                bench.lanes.events.push(&event, &subscription, out, pace);
                assert!(bench.lanes.bytes() <= bytes && bench.lanes.events.frames(out).count() <= count);
            }
            let waiting = bench.lanes.events.frames(out).count() as u64;
            assert_eq!(bench.traffic.client_events_dropped.value(), 5000 - waiting);
            bench.lanes.events.push(
                &client_event(&subscription, 9, &json!("x".repeat(2 << 20))),
                &subscription,
                out,
                pace,
            );
            assert_eq!(bench.lanes.events.frames(out).count(), 1, "a large one is queued alone");
            bench.lanes.remove_subscription(&subscription, out);
            assert!(bench.lanes.is_unused() && bench.lanes.bytes() == 0);
        }
    }
}
