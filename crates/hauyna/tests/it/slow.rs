//! Clients that do not read: the effect of each policy, the messages about it, and that others are not
//! affected.

use crate::support::{eventually, subscriber, user_handler, wait_for_connections};
use hauyna::events::{SystemEvent, SystemKind};
use hauyna::{ChannelOptions, Hub, SlowConsumer, json};
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const PAYLOAD: usize = 16 * 1024;

fn hub(policy: SlowConsumer) -> Hub {
    let channels = ChannelOptions::new().history(100_000, Duration::from_secs(600)).slow_consumer(policy);
    Hub::builder().channels("{*any}", channels).outbox(256 * 1024, 64).build()
}

/// Returns a subscriber whose kernel buffers little.
async fn stalled(server: &TestServer, channel: &str) -> Client {
    let mut client = server.client("/?user=stalled").receive_buffer(4096).connect().await;
    client.subscribe(channel).await;
    client
}

/// Publishes while a reading client confirms that each message was delivered.
async fn publish(hub: &Hub, good: &mut Client, numbers: std::ops::RangeInclusive<u64>) {
    let padding = "x".repeat(PAYLOAD);
    for number in numbers {
        let value = json!({ "number": number, "padding": padding });
        hub.channel("x").broadcast(value).await.unwrap();
        assert_eq!(good.expect("message").await["content"]["number"], number);
    }
}

#[tokio::test]
async fn slow_consumer_is_closed_with_3008_and_others_still_receive() {
    let hub = hub(SlowConsumer::Disconnect);
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
    let mut slow = stalled(&server, "x").await;
    let mut good = subscriber(&server, "good", "x").await;
    let mut last = 0;
    while hub.stats().slow_consumers == 0 {
        publish(&hub, &mut good, last + 1..=last + 10).await;
        last += 10;
        assert!(last < 10_000, "no slow consumer");
    }
    publish(&hub, &mut good, last + 1..=last + 10).await;
    assert_eq!(slow.expect_close().await, (3008, "slow consumer".to_owned()));
    slow.send_close(3008, "").await;
    slow.expect_end().await;
    wait_for_connections(&hub, 1).await;
    // It reconnects and misses nothing.
    let mut back = server.connect("/").await;
    let answer = back.request(json!({ "type": "history", "channel": "x" })).await;
    assert_eq!(answer.unwrap_err()["error_type"], "not_subscribed");
}

/// What a client received: the offsets of its messages in order, and its gaps.
struct Seen {
    offsets: Vec<u64>,
    gaps: Vec<(u64, u64)>,
}

/// Reads up to the message with this offset.
async fn read_up_to(client: &mut Client, last: u64) -> Seen {
    let mut seen = Seen { offsets: Vec::new(), gaps: Vec::new() };
    while seen.offsets.last() != Some(&last) {
        let message = client.next().await;
        let offset = message["offset"].as_u64().unwrap();
        match message["type"].as_str().unwrap() {
            "gap" => {
                assert_eq!((&message["channel"], message["epoch"].is_string()), (&json!("x"), true));
                seen.gaps.push((offset, message["missed"].as_u64().unwrap()));
            }
            _ => seen.offsets.push(offset),
        }
    }
    seen
}

/// Lets a stalled client's outbox overflow, then reads on. Returns what it received, and the number
/// published.
async fn overflow(policy: SlowConsumer) -> (Seen, u64) {
    let hub = hub(policy);
    let gaps = count_gaps(&hub);
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
    let mut slow = stalled(&server, "x").await;
    let mut good = subscriber(&server, "good", "x").await;
    let mut last = 0;
    while hub.stats().dropped < 50 {
        publish(&hub, &mut good, last + 1..=last + 10).await;
        last += 10;
        assert!(last < 10_000, "nothing was dropped");
    }
    // One more message that cannot be dropped: it arrives when there is room again.
    let reading = tokio::spawn(async move {
        let mut seen = read_up_to_quiet(&mut slow).await;
        let after =
            slow.request(json!({ "type": "history", "channel": "x", "limit": 1, "reverse": true })).await;
        let top = after.unwrap()["offset"].as_u64().unwrap();
        hub.channel("x").broadcast(json!({ "number": "last" })).await.unwrap();
        let rest = read_up_to(&mut slow, top + 1).await;
        seen.offsets.extend(rest.offsets);
        seen.gaps.extend(rest.gaps);
        assert_eq!(hub.stats().slow_consumers, 0);
        (seen, top + 1, hub.stats().dropped)
    });
    let (seen, published, dropped) = reading.await.unwrap();
    let missed: u64 = seen.gaps.iter().map(|(_, missed)| missed).sum();
    assert!(seen.offsets.is_sorted_by(|a, b| a < b), "in order, each once");
    assert_eq!(seen.offsets.len() as u64 + missed, published, "delivered and missed publications add up");
    assert_eq!(missed, dropped);
    eventually("listeners learn of each gap once", || gaps.load(Ordering::Relaxed) == seen.gaps.len()).await;
    (seen, published)
}

/// Counts the gaps of the stalled client that listeners learn.
fn count_gaps(hub: &Hub) -> Arc<AtomicUsize> {
    let gaps = Arc::new(AtomicUsize::new(0));
    let count = gaps.clone();
    hub.events().on_system([SystemKind::MessagesDropped], move |_, event| {
        if let SystemEvent::MessagesDropped { connection, channel, .. } = event {
            assert_eq!((connection.user().as_str(), channel.as_str()), ("stalled", "x"));
            count.fetch_add(1, Ordering::Relaxed);
        }
        std::future::ready(Ok(()))
    });
    gaps
}

/// Reads everything available: up to the answer to a ping and what was queued behind it.
async fn read_up_to_quiet(client: &mut Client) -> Seen {
    let mut seen = Seen { offsets: Vec::new(), gaps: Vec::new() };
    client.send(json!({ "type": "ping", "id": "p" })).await;
    loop {
        let message: Value = client.next().await;
        match message["type"].as_str().unwrap() {
            "pong" => return seen,
            "gap" => {
                seen.gaps.push((message["offset"].as_u64().unwrap(), message["missed"].as_u64().unwrap()));
            }
            _ => seen.offsets.push(message["offset"].as_u64().unwrap()),
        }
    }
}

/// Checks that each gap covers the missing offsets right after its own.
fn gaps_are_where_offsets_are_missing(seen: &Seen, published: u64) {
    let mut missing: Vec<u64> = (1..=published).filter(|offset| !seen.offsets.contains(offset)).collect();
    for (after, missed) in &seen.gaps {
        let own: Vec<u64> =
            missing.iter().copied().filter(|offset| offset > after).take(*missed as usize).collect();
        assert_eq!(own.len() as u64, *missed);
        assert_eq!(own[0], after + 1, "a gap begins after its offset");
        missing.retain(|offset| !own.contains(offset));
    }
    assert!(missing.is_empty(), "missing without a gap: {missing:?}");
}

#[tokio::test]
async fn drop_oldest_keeps_the_newest_and_reports_the_gap() {
    let (seen, published) = overflow(SlowConsumer::DropOldest).await;
    gaps_are_where_offsets_are_missing(&seen, published);
    assert!(seen.offsets.contains(&(published - 1)), "the newest but one was delivered");
}

#[tokio::test]
async fn drop_newest_keeps_the_oldest_and_reports_the_gap() {
    let (seen, published) = overflow(SlowConsumer::DropNewest).await;
    gaps_are_where_offsets_are_missing(&seen, published);
    assert!(!seen.offsets.contains(&(published - 1)));
}

#[tokio::test]
async fn conflation_keeps_the_latest_while_the_subscriber_lags() {
    let (seen, published) = overflow(SlowConsumer::Conflate).await;
    assert!(seen.offsets.contains(&(published - 1)), "the latest was delivered");
    let missing = published - seen.offsets.len() as u64;
    assert_eq!(missing, seen.gaps.iter().map(|(_, missed)| missed).sum::<u64>());
}

#[tokio::test]
async fn reading_pauses_while_the_client_does_not_read_its_answers() {
    let server = TestServer::start(Hub::new(), user_handler().write_timeout(Duration::from_secs(60)));
    let client = server.client("/").receive_buffer(4096).timeout(Duration::from_secs(30)).connect().await;
    let (hub, mut client) = (server.hub().clone(), client);
    let id = "x".repeat(60);
    let mut sent = 0_u64;
    // The server stops reading when its answers are not read, and then the kernel stops accepting ours.
    loop {
        let text = format!("{{\"type\":\"ping\",\"id\":\"{id}\"}}");
        let batch = async {
            for _ in 0..1000 {
                client.send_text(&text).await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(500), batch).await.is_err() {
            break;
        }
        sent += 1000;
        assert!(sent < 1_000_000, "the server never stops reading");
    }
    let handled = hub.stats().requests;
    let backlog = hub.connections().all()[0].backlog();
    assert!(backlog < 256 * 1024, "{backlog} bytes of answers wait");
    assert!(handled <= sent + 1000);
}

#[tokio::test]
async fn client_that_reads_nothing_is_cut_after_the_write_timeout() {
    let hub = hub(SlowConsumer::DropOldest);
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_millis(200)));
    let slow = stalled(&server, "x").await;
    let mut good = subscriber(&server, "good", "x").await;
    let mut last = 0;
    while hub.stats().dropped == 0 {
        publish(&hub, &mut good, last + 1..=last + 10).await;
        last += 10;
    }
    wait_for_connections(&hub, 1).await;
    assert_eq!(hub.stats().slow_consumers, 1);
    drop(slow);
}
