//! Order, history and recovery under load: no gap, no duplicate, nothing before the answer.

use crate::support::{Random, eventually, open_hub, serve, subscriber, wait_for_connections};
use hauyna::broker::Answer;
use hauyna::{ChannelOptions, Hub, json};
use hauyna_test::{Client, TestServer, WrappedBroker};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

fn offset(message: &Value) -> u64 {
    message["offset"].as_u64().unwrap_or_else(|| panic!("no offset: {message}"))
}

#[tokio::test]
async fn recovery_delivers_exactly_the_missed_publications_then_new_ones() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut first = subscriber(&server, "u", "x").await;
    let mut position = server.connect("/").await.subscribe("x").await;
    for number in 1..=5 {
        hub.channel("x").broadcast(number).await.unwrap();
        position["offset"] = first.expect("message").await["offset"].clone();
    }
    first.vanish();
    for number in 6..=30 {
        hub.channel("x").broadcast(number).await.unwrap();
    }
    for mut again in [server.connect("/").await, server.message_pack("/").await] {
        if again.protocol().is_some() {
            again.expect("session").await;
        }
        let answer = again.recover("x", &position).await;
        assert_eq!(
            (&answer["recovered"], offset(&answer), &answer["epoch"]),
            (&json!(true), 30, &position["epoch"])
        );
        for number in 6..=30 {
            let message = again.expect("message").await;
            assert_eq!((offset(&message), &message["content"]), (number, &json!(number)));
        }
        again.expect_nothing().await;
    }
}

#[tokio::test]
async fn failed_recovery_has_a_reason_and_the_subscription_is_live() {
    let channels = ChannelOptions::new().history(10, Duration::from_secs(600));
    let hub = Hub::builder().channels("{*any}", channels).recovery_limit(5).build();
    let server = serve(&hub);
    for number in 0..20 {
        hub.channel("x").broadcast(number).await.unwrap();
    }
    let mut top = server.connect("/").await.subscribe("x").await;
    for (since, epoch, reason) in [
        (-15, None, "too_old"),
        (-8, None, "too_many"),
        (-2, Some("AAAAAAAAAAE"), "epoch_changed"),
        (-2, Some("of another make"), "epoch_changed"),
        (1, None, "epoch_changed"),
        (1 << 52, None, "epoch_changed"),
    ] {
        let mut client = server.connect("/").await;
        let since = offset(&top).checked_add_signed(since).unwrap();
        let epoch = epoch.map_or(top["epoch"].clone(), |epoch| json!(epoch));
        let answer = client.recover("x", &json!({ "epoch": epoch, "offset": since })).await;
        assert_eq!((&answer["recovered"], &answer["reason"]), (&json!(false), &json!(reason)), "{since}");
        assert_eq!(answer["offset"], top["offset"]);
        client.expect_nothing().await;
        let published = hub.channel("x").broadcast("live").await.unwrap();
        let message = client.expect("message").await;
        assert_eq!(offset(&message), published.position.unwrap().offset);
        assert_eq!(offset(&message), offset(&answer) + 1);
        top["offset"] = message["offset"].clone();
    }
}

#[tokio::test]
async fn subscription_waits_for_the_broker_even_if_the_first_subscriber_leaves() {
    for first_leaves in [false, true] {
        let (is_subscribed, gate) = (Arc::<AtomicBool>::default(), Arc::<Notify>::default());
        let (relays, subscribed, opened) = (is_subscribed.clone(), is_subscribed, gate.clone());
        let broker = WrappedBroker::default()
            .on_relay(move |relay, publication| {
                if relays.load(Ordering::SeqCst) {
                    relay.relay(publication);
                }
            })
            .on_subscribe(move |_, _| {
                let (subscribed, opened) = (subscribed.clone(), opened.clone());
                Answer::later(async move {
                    opened.notified().await;
                    subscribed.store(true, Ordering::SeqCst);
                    Ok(())
                })
            })
            .on_unsubscribe(|_, _| {});
        let hub = open_hub().broker(broker).build();
        let server = serve(&hub);
        let request = json!({ "type": "subscribe_channel", "id": "s", "channel": "x" });
        let (mut first, mut second) = (server.connect("/?user=first").await, server.connect("/").await);
        first.send(request.clone()).await;
        eventually("the broker got the subscription", || hub.stats().requests == 1).await;
        second.send(request).await;
        eventually("both subscriptions wait", || hub.stats().requests == 2).await;
        hub.channel("x").broadcast("not relayed").await.unwrap();
        if first_leaves {
            hub.connections().of_user("first")[0].close(hauyna::CloseCode(4000), "");
            first.expect_close().await;
            first.vanish();
            wait_for_connections(&hub, 1).await;
        }
        gate.notify_one();
        let answer = second.answer(&json!("s")).await.unwrap();
        assert_eq!(offset(&answer), 1, "the answer includes the publication that was not relayed");
        hub.channel("x").broadcast("relayed").await.unwrap();
        follow(&mut second, 1, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn broker_is_unsubscribed_before_it_is_subscribed_again() {
    let calls = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
    let (subscribing, unsubscribing) = (calls.clone(), calls.clone());
    let broker = WrappedBroker::default()
        .on_subscribe(move |_, _| {
            subscribing.0.lock().unwrap().push("subscribe");
            subscribing.1.notify_all();
            Answer::now(Ok(()))
        })
        .on_unsubscribe(move |_, _| {
            // The next subscriber arrives meanwhile; the hub must not subscribe for it before this returns.
            let (calls, timeout) = (unsubscribing.0.lock().unwrap(), Duration::from_millis(300));
            let waited = unsubscribing.1.wait_timeout_while(calls, timeout, |calls| calls.len() < 2);
            waited.unwrap().0.push("unsubscribe");
        });
    let hub = open_hub().broker(broker).build();
    let server = serve(&hub);
    let (mut first, mut second) = (server.connect("/").await, server.connect("/").await);
    first.subscribe("x").await;
    first.send(json!({ "type": "unsubscribe_channel", "id": "u", "channel": "x" })).await;
    eventually("the channel has ended", || hub.stats().channels == 0).await;
    second.subscribe("x").await;
    first.answer(&json!("u")).await.unwrap();
    assert_eq!(*calls.0.lock().unwrap(), ["subscribe", "unsubscribe", "subscribe"]);
}

#[tokio::test]
async fn publications_during_a_history_read_arrive_exactly_once() {
    let (asked, gate) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let (asks, opened) = (asked.clone(), gate.clone());
    // The history is read at once, and answered when the gate opens.
    let broker = WrappedBroker::default().on_history(move |local, channel, range| {
        let (page, opened) = (local.history(channel, range), opened.clone());
        asks.notify_one();
        Answer::later(async move {
            opened.notified().await;
            page.await
        })
    });
    let hub = open_hub().broker(broker).build();
    let server = serve(&hub);
    let mut epoch = Value::Null;
    for (round, recover) in [None, Some(0), Some(3), None, Some(11)].into_iter().enumerate() {
        let mut client = server.connect("/").await;
        let mut request = json!({ "type": "subscribe_channel", "id": "s", "channel": "x" });
        if let Some(since) = recover {
            request["recover"] = json!({ "epoch": epoch, "offset": since });
        }
        client.send(request).await;
        asked.notified().await;
        for number in 0..3 {
            hub.channel("x").broadcast(number).await.unwrap();
        }
        gate.notify_one();
        let answer = client.answer(&json!("s")).await.unwrap();
        let top = 3 * (round as u64 + 1);
        assert_eq!(offset(&answer), top);
        epoch = answer["epoch"].clone();
        if let Some(since) = recover {
            assert_eq!(answer["recovered"], true);
            // Publications after the page was read are read with the next page.
            asked.notified().await;
            gate.notify_one();
            follow(&mut client, since, top - since).await;
        }
        client.expect_nothing().await;
        client.close(1000, "").await;
    }
}

/// Publishes from several tasks until the flag is set.
fn publish_concurrently(
    hub: &Hub,
    channel: &'static str,
) -> (Arc<AtomicBool>, Vec<tokio::task::JoinHandle<()>>) {
    let done = Arc::new(AtomicBool::new(false));
    let publishers = (0..4).map(|_| {
        let (hub, done) = (hub.clone(), done.clone());
        tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_micros(500)); // slow enough for the clients
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut number = 0_u64;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                hub.channel(channel).broadcast(number).await.unwrap();
                if number.is_multiple_of(16) {
                    pace.tick().await;
                } else {
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    let publishers = publishers.collect();
    (done, publishers)
}

/// Reads some messages; they must follow `seen` one by one.
async fn follow(client: &mut Client, mut seen: u64, count: u64) -> u64 {
    for _ in 0..count {
        let message = client.expect("message").await;
        assert_eq!(offset(&message), seen + 1, "a gap or a duplicate");
        seen += 1;
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn repeated_recoveries_see_every_publication_once_under_load() {
    let hub = open_hub().recovery_limit(1_000_000).outbox(64 << 20, 1 << 20).build();
    let server = Arc::new(serve(&hub));
    let (done, publishers) = publish_concurrently(&hub, "x");
    let clients = (0..6_u64).map(|seed| {
        let server = server.clone();
        tokio::spawn(async move { resubscribe_at_random(&server, seed).await })
    });
    let clients: Vec<_> = clients.collect();
    for client in clients {
        client.await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

const ROUNDS: u64 = 100;
const PUBLICATIONS: u64 = 10_000;

/// Unsubscribes or reconnects at random and continues from its last position.
async fn resubscribe_at_random(server: &TestServer, seed: u64) {
    let mut random = Random(seed);
    let mut client = server.connect("/").await;
    let mut position = client.subscribe("x").await;
    let mut rounds = 0;
    while rounds < ROUNDS || server.hub().stats().published < PUBLICATIONS {
        rounds += 1;
        let count = random.below(20);
        let seen = follow(&mut client, offset(&position), count).await;
        position["offset"] = json!(seen);
        if random.below(2) == 0 {
            client.vanish();
            client = server.connect("/").await;
        } else {
            // Messages that arrive before the answer still count.
            client.send(json!({ "type": "unsubscribe_channel", "id": "u", "channel": "x" })).await;
            let seen = until_answered(&mut client, offset(&position)).await;
            position["offset"] = json!(seen);
        }
        client
            .send(json!({ "type": "subscribe_channel", "id": "s", "channel": "x",
            "recover": { "epoch": position["epoch"], "offset": position["offset"] } }))
            .await;
        let answer = client.next().await;
        assert_eq!(answer["type"], "ack", "a message arrived before the answer: {answer}");
        assert_eq!(answer["data"]["recovered"], true, "{answer}");
    }
    follow(&mut client, offset(&position), 10).await;
}

async fn until_answered(client: &mut Client, mut seen: u64) -> u64 {
    loop {
        let message = client.next().await;
        match message["type"].as_str() {
            Some("ack") => return seen,
            _ => assert_eq!(offset(&message), seen + 1, "a gap or a duplicate"),
        }
        seen += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn resubscribing_at_once_gets_no_message_before_the_answer() {
    for others in [0, 1] {
        resubscribe_at_once(others).await;
    }
}

/// Unsubscribes from and subscribes to a busy channel, with `others` further subscriptions.
async fn resubscribe_at_once(others: u32) {
    let hub = open_hub().outbox(64 << 20, 1 << 20).build();
    let server = serve(&hub);
    let (done, publishers) = publish_concurrently(&hub, "x");
    let mut client = server.connect("/").await;
    // With a second channel, publications are queued before they are written.
    for other in 0..others {
        client.subscribe(&format!("other{other}")).await;
    }
    let mut top = offset(&client.subscribe("x").await);
    for _ in 0..200 {
        // Both in one write: the second subscription begins while messages of the first one are being sent.
        client.send(json!({ "type": "unsubscribe_channel", "id": "u", "channel": "x" })).await;
        client.send(json!({ "type": "subscribe_channel", "id": "s", "channel": "x" })).await;
        let left = loop {
            let message = client.next().await;
            match message["type"].as_str() {
                Some("ack") => break message,
                _ => assert!(offset(&message) > top),
            }
        };
        assert_eq!(left["id"], "u");
        let joined = client.next().await;
        assert_eq!(joined["id"], "s", "after the answer to unsubscribe came {joined}");
        top = offset(&joined["data"]);
        let message = client.expect("message").await;
        assert_eq!(offset(&message), top + 1, "the first message after the answer");
    }
    done.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_subscribers_see_one_order_of_concurrent_publishers() {
    const EACH: u64 = 250;
    let hub = open_hub().outbox(64 << 20, 1 << 20).build();
    let server = serve(&hub);
    let mut readers = Vec::new();
    for number in 0..4 {
        readers.push(subscriber(&server, &format!("r{number}"), "x").await);
    }
    let mut clients = Vec::new();
    for writer in 0..8 {
        clients.push(subscriber(&server, &format!("w{writer}"), "x").await);
    }
    let mut writers = Vec::new();
    for (writer, mut client) in clients.into_iter().enumerate() {
        writers.push(tokio::spawn(async move {
            for number in 0..EACH {
                let content = json!([writer, number]);
                client.send(json!({ "type": "channel_message", "channel": "x", "content": content })).await;
            }
            client.expect_in_order("x", 8 * EACH as usize).await;
        }));
    }
    let mut orders = Vec::new();
    for reader in &mut readers {
        let mut order = Vec::new();
        for expected in 1..=8 * EACH {
            let message = reader.expect("message").await;
            assert_eq!(offset(&message), expected);
            order.push(message["content"].clone());
        }
        orders.push(order);
    }
    assert!(orders.iter().all(|order| *order == orders[0]));
    for writer in 0..8 {
        let own = orders[0]
            .iter()
            .filter(|content| content[0] == writer)
            .map(|content| content[1].as_u64().unwrap());
        assert!(own.eq(0..EACH), "messages of one writer keep their order");
    }
    for writer in writers {
        writer.await.unwrap();
    }
}
