//! Recoveries of large histories: read page by page as the socket accepts them, and never counted as lag.

use crate::support::{eventually, open_hub, session_client, user_handler};
use hauyna::broker::{Answer, BrokerError, LocalBroker, LocalBrokerOptions};
use hauyna::events::{SystemEvent, SystemKind};
use hauyna::{ChannelOptions, Hub, Presence, SlowConsumer, json};
use hauyna_test::{Client, MemoryServer, TestServer, WrappedBroker};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

const POLICIES: [SlowConsumer; 4] =
    [SlowConsumer::Disconnect, SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Conflate];

/// Returns a hub whose histories are longer than what kernels buffer.
fn hub(policy: SlowConsumer, messages: u32) -> Hub {
    let channels = ChannelOptions::new().history(messages, Duration::from_secs(600)).slow_consumer(policy);
    let options = LocalBrokerOptions::new().max_history_bytes(16 << 30);
    let builder = Hub::builder().channels("{*any}", channels).recovery_limit(10_000);
    builder.broker(LocalBroker::new(options)).build()
}

async fn publish(hub: &Hub, channel: &str, numbers: std::ops::RangeInclusive<u64>, bytes: usize) {
    let padding = "x".repeat(bytes);
    for number in numbers {
        hub.channel(channel).broadcast(json!({ "n": number, "padding": padding })).await.unwrap();
    }
}

/// Returns the position before the first publication.
async fn start(server: &TestServer, channel: &str) -> Value {
    let mut client = session_client(server, "/?user=first").await;
    client.subscribe(channel).await
}

async fn expect_offsets(client: &mut Client, channel: &str, offsets: std::ops::RangeInclusive<u64>) {
    for offset in offsets {
        let message = client.wait_for("message").await;
        assert_eq!((&message["channel"], &message["offset"]), (&json!(channel), &json!(offset)));
    }
}

#[tokio::test]
async fn long_recovery_over_a_slow_link_becomes_live_with_every_policy() {
    for policy in POLICIES {
        let hub = hub(policy, 10_000);
        let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
        let position = start(&server, "x").await;
        publish(&hub, "x", 1..=1000, 6000).await;
        let mut slow = server.client("/?user=slow").receive_buffer(4096).json().connect().await;
        slow.expect("session").await;
        let answer = slow.recover("x", &position).await;
        assert_eq!((&answer["recovered"], &answer["offset"]), (&json!(true), &json!(1000)));
        // Live publications while the client reads nothing.
        publish(&hub, "x", 1001..=1200, 6000).await;
        tokio::task::yield_now().await;
        let waiting = hub.connections().of_user("slow")[0].backlog();
        assert!(waiting < 300_000, "{policy:?}: {waiting} bytes wait");
        expect_offsets(&mut slow, "x", 1..=1200).await;
        publish(&hub, "x", 1201..=1201, 10).await;
        expect_offsets(&mut slow, "x", 1201..=1201).await;
        assert_eq!((hub.stats().slow_consumers, hub.stats().dropped), (0, 0), "{policy:?}");
    }
}

#[tokio::test]
async fn publications_that_expire_during_recovery_are_reported_as_gap() {
    let hub = hub(SlowConsumer::Disconnect, 1000);
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
    let position = start(&server, "x").await;
    publish(&hub, "x", 1..=1000, 6000).await;
    let mut slow = server.client("/?user=slow").receive_buffer(4096).json().connect().await;
    slow.expect("session").await;
    slow.recover("x", &position).await;
    publish(&hub, "x", 1001..=3000, 6000).await;
    let (mut at, mut missed) = (0, 0);
    while at < 3000 {
        let message = slow.next().await;
        let offset = message["offset"].as_u64().unwrap();
        if message["type"] == "gap" {
            assert_eq!(offset, at, "a gap names the position before it");
            missed += message["missed"].as_u64().unwrap();
            at += message["missed"].as_u64().unwrap();
        } else {
            assert_eq!(offset, at + 1);
            at = offset;
        }
    }
    assert!(missed > 0, "nothing expired");
}

#[tokio::test]
async fn presence_changes_during_a_recovery_close_nobody() {
    for policy in POLICIES {
        let channels = ChannelOptions::new().history(10_000, Duration::from_secs(600)).slow_consumer(policy);
        let channels = channels.presence(Presence::each());
        let hub = Hub::builder().channels("{*any}", channels).recovery_limit(10_000).build();
        let dropped = Arc::new(Mutex::new(Vec::new()));
        let channels_with_drops = dropped.clone();
        hub.events().on_system([SystemKind::MessagesDropped], move |_, event| {
            if let SystemEvent::MessagesDropped { channel, .. } = event {
                channels_with_drops.lock().push(channel.as_str().to_owned());
            }
            std::future::ready(Ok(()))
        });
        let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
        let position = start(&server, "x").await;
        publish(&hub, "x", 1..=1000, 6000).await;
        let mut member = server.json("/?user=member").await;
        member.subscribe("x").await;
        let reading = tokio::spawn(async move { while member.next().await["type"] != "broadcast" {} });
        let mut slow = server.client("/?user=slow").receive_buffer(4096).json().connect().await;
        slow.expect("session").await;
        slow.subscribe("y").await;
        slow.recover("x", &position).await;
        for number in 0..2000 {
            hub.presence().of("member").update(json!({ "n": number })).await.unwrap();
            tokio::task::yield_now().await;
        }
        expect_offsets(&mut slow, "x", 1..=1000).await;
        let (mut changes, mut last) = (0, slow.next().await);
        while last["type"] == "presence_change" {
            (changes, last) = (changes + 1, slow.next().await);
        }
        assert!(changes > 1000, "{policy:?}: {changes} changes waited");
        assert_eq!(last, json!({ "type": "gap", "channel": "x", "missed": 0 }), "{policy:?}");
        publish(&hub, "y", 1..=1, 10).await;
        slow.wait_for("message").await;
        assert_eq!(hub.stats().slow_consumers, 0, "{policy:?}");
        eventually("the gap is reported", || *dropped.lock() == ["x"]).await;
        hub.connections().broadcast(json!(1)).await.unwrap();
        reading.await.unwrap();
    }
}

#[tokio::test]
async fn many_recoveries_in_one_packet_hold_one_page() {
    let hub = hub(SlowConsumer::Disconnect, 10_000);
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
    let mut positions = Vec::new();
    for channel in 0..40 {
        let name = format!("c-{channel}");
        positions.push(start(&server, &name).await);
        publish(&hub, &name, 1..=40, 6000).await;
    }
    let mut slow = server.client("/?user=slow").receive_buffer(4096).json().connect().await;
    slow.expect("session").await;
    for (channel, position) in positions.iter().enumerate() {
        let recover = json!({ "epoch": position["epoch"], "offset": position["offset"] });
        let channel = format!("c-{channel}");
        slow.send(json!({ "type": "subscribe_channel", "channel": channel, "recover": recover })).await;
    }
    let connection = hub.connections().of_user("slow").remove(0);
    let mut seen = [0; 40];
    for _ in 0..40 * 40 {
        let message = slow.wait_for("message").await;
        let waiting = connection.backlog();
        assert!(waiting < 300_000, "{waiting} bytes wait");
        let channel: usize = message["channel"].as_str().unwrap()[2..].parse().unwrap();
        seen[channel] += 1;
        assert_eq!(message["offset"], seen[channel], "in order, once");
    }
}

#[tokio::test]
async fn recovery_over_a_task_stream_is_complete() {
    let hub = open_hub().broker(LocalBroker::default()).build();
    let server = MemoryServer::start(hub.clone(), user_handler());
    let mut first = server.json("/").await;
    first.expect("session").await;
    let position = first.subscribe("x").await;
    publish(&hub, "x", 1..=900, 1000).await;
    let mut second = server.json("/").await;
    second.expect("session").await;
    second.recover("x", &position).await;
    publish(&hub, "x", 901..=950, 1000).await;
    expect_offsets(&mut second, "x", 1..=950).await;
}

#[tokio::test]
async fn ended_subscription_stops_its_replay() {
    let hub = hub(SlowConsumer::Disconnect, 10_000);
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
    let position = start(&server, "x").await;
    publish(&hub, "x", 1..=1000, 6000).await;
    let mut slow = server.client("/?user=slow").receive_buffer(4096).json().connect().await;
    slow.expect("session").await;
    slow.recover("x", &position).await;
    slow.send(json!({ "type": "unsubscribe_channel", "channel": "x", "id": "u" })).await;
    let mut last = 0;
    loop {
        let message = slow.next().await;
        match message["type"].as_str().unwrap() {
            "message" => last = message["offset"].as_u64().unwrap(),
            "ack" => break,
            other => panic!("{other}"),
        }
    }
    assert!(last < 1000, "everything was replayed");
    let again = slow.recover("x", &json!({ "epoch": position["epoch"], "offset": 990 })).await;
    assert_eq!(again["recovered"], true);
    // Messages written before the end of the first subscription may still arrive.
    let mut offset = slow.wait_for("message").await["offset"].as_u64().unwrap();
    while offset != 991 {
        assert!(offset <= last, "a late publication of the first subscription");
        offset = slow.wait_for("message").await["offset"].as_u64().unwrap();
    }
    expect_offsets(&mut slow, "x", 992..=1000).await;
}

/// Lets the tasks of this thread run.
async fn let_others_run() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn messages_queued_behind_a_replay_are_not_lag() {
    let history = ChannelOptions::new().history(10_000, Duration::from_secs(600)).presence(Presence::each());
    let builder = Hub::builder().shards(1).channels("x", history).channels("{*any}", ChannelOptions::new());
    let hub = builder.recovery_limit(10_000).build();
    let server = MemoryServer::start(hub.clone(), user_handler());
    let mut member = server.json("/?user=member").await;
    let position = member.subscribe("x").await;
    publish(&hub, "x", 1..=200, 6000).await;
    let reading = tokio::spawn(async move { while member.next().await["type"] != "broadcast" {} });
    let mut slow = server.json("/?user=slow").await;
    slow.expect("session").await;
    slow.subscribe("y").await;
    slow.recover("x", &position).await;
    // More than may wait behind the replay.
    for number in 0..2000 {
        hub.presence().of("member").update(json!({ "n": number })).await.unwrap();
        tokio::task::yield_now().await;
    }
    // It reads as fast as others publish.
    for number in 1..=1600 {
        publish(&hub, "y", number..=number, 0).await;
        let_others_run().await;
        slow.next().await;
    }
    assert_eq!(hub.stats().slow_consumers, 0);
    hub.connections().broadcast(json!(1)).await.unwrap();
    reading.await.unwrap();
}

#[tokio::test]
async fn recovering_client_may_be_subscribed_by_the_application() {
    let hub = hub(SlowConsumer::Disconnect, 10_000);
    let server = MemoryServer::start(hub.clone(), user_handler());
    let mut first = server.json("/").await;
    first.expect("session").await;
    let position = first.subscribe("x").await;
    drop(first);
    publish(&hub, "x", 1..=4, 500_000).await;
    let mut slow = server.json("/?user=slow").await;
    slow.expect("session").await;
    slow.recover("x", &position).await;
    let connection = hub.user("slow").connections().remove(0);
    for number in 0..4 {
        let_others_run().await;
        assert!(connection.backlog() > 256 * 1024, "{} bytes wait", connection.backlog());
        hub.channel(format!("y-{number}")).subscribe(&connection, ()).await.unwrap();
    }
    expect_offsets(&mut slow, "x", 1..=4).await;
    assert_eq!(hub.stats().slow_consumers, 0);
}

#[tokio::test]
async fn failed_page_of_an_ended_subscription_closes_nobody() {
    let (entered, proceed) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (enters, may_proceed) = (entered.clone(), proceed.clone());
    let broker = WrappedBroker::default().on_history(move |local, channel, range| {
        let is_second_page = range.since.is_some_and(|since| since.offset > 0);
        if !is_second_page {
            return local.history(channel, range);
        }
        let (enters, may_proceed) = (enters.clone(), may_proceed.clone());
        Answer::later(async move {
            enters.add_permits(1);
            may_proceed.acquire().await.unwrap().forget();
            Err(BrokerError::from_source("timeout"))
        })
    });
    let hub = open_hub().broker(broker).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let position = start(&server, "x").await;
    publish(&hub, "x", 1..=200, 10).await;
    for is_of_application in [false, true] {
        let mut ann = session_client(&server, "/?user=ann").await;
        ann.recover("x", &position).await;
        entered.acquire().await.unwrap().forget();
        match is_of_application {
            true => hub.channel("x").unsubscribe(&hub.user("ann").connections()[0]).unwrap(),
            false => {
                ann.request(json!({ "type": "unsubscribe_channel", "channel": "x" })).await.unwrap();
            }
        }
        proceed.add_permits(1);
        ann.subscribe("y").await;
        hub.channel("y").broadcast("still here").await.unwrap();
        while ann.wait_for("message").await["channel"] != "y" {}
        assert_eq!(hub.user("ann").connections().len(), 1);
        drop(ann);
        eventually("ann is gone", || hub.user("ann").connections().is_empty()).await;
    }
}
