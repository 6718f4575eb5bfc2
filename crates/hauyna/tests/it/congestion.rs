//! Publishers that are faster than their subscribers wait, and do not fill the memory of the server.

use crate::support::{eventually, now, poll_once, registered, subscriber, user_handler};
use hauyna::connection::RetryPolicy;
use hauyna::groups::Roles;
use hauyna::{ChannelOptions, CloseCode, Connection, Hub, Presence, SlowConsumer, json};
use hauyna_test::{Client, MemoryServer, TestServer, WrappedBroker};
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::oneshot;

fn hub() -> Hub {
    let channels = ChannelOptions::new().no_history().slow_consumer(SlowConsumer::DropOldest);
    Hub::builder().shards(1).channels("{*any}", channels).build()
}

#[tokio::test]
async fn publication_waits_for_an_overloaded_shard() {
    let hub = hub();
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
    let mut reader = subscriber(&server, "reader", "x").await;
    let published = Arc::new(AtomicU64::new(0));
    let mut publisher = Box::pin({
        let (hub, published) = (hub.clone(), published.clone());
        async move {
            for number in 0..100_000_u64 {
                hub.channel("x").broadcast(json!({ "n": number })).await.unwrap();
                published.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    // Nothing else runs on this thread until a publication waits.
    poll_fn(|cx| {
        assert!(publisher.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    let before = published.load(Ordering::Relaxed);
    assert!((1..20_000).contains(&before), "{before} publications without a pause");
    // It continues as soon as the shard does.
    let reading = tokio::spawn(async move { while reader.next().await["content"]["n"] != 99_999 {} });
    publisher.await;
    reading.await.unwrap();
}

#[tokio::test]
async fn broker_learns_that_a_channel_is_congested() {
    let relays = Arc::new(parking_lot::Mutex::new(None));
    let seen = relays.clone();
    let broker = WrappedBroker::default().on_relay(move |relay, publication| {
        *seen.lock() = Some(relay.clone());
        relay.relay(publication);
    });
    let channels = ChannelOptions::new().no_history().slow_consumer(SlowConsumer::DropOldest);
    let hub = Hub::builder().shards(1).channels("{*any}", channels).broker(broker).build();
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
    let mut reader = subscriber(&server, "reader", "x").await;
    // The shard does not run before this test waits.
    assert!((0..100_000).any(|number| poll_once(hub.channel("x").publish(number)).is_pending()));
    let relay = relays.lock().take().expect("a publication was relayed");
    let channel = |name| hauyna::ChannelName::new(name).unwrap();
    assert!(relay.is_congested_for(&channel("x")));
    assert!(!relay.is_congested_for(&channel("y")), "a channel without subscribers is not");
    let reading = tokio::spawn(async move { while reader.next().await["type"] != "pong" {} });
    eventually("the shard has caught up", || !relay.is_congested_for(&channel("x"))).await;
    reading.abort();
}

#[tokio::test]
async fn busy_publisher_closes_nobody() {
    let hub = hub();
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
    let mut readers = Vec::new();
    for number in 0..20 {
        readers.push(subscriber(&server, &format!("r-{number}"), "x").await);
    }
    let mut publisher = subscriber(&server, "publisher", "x").await;
    let text = json!({ "type": "channel_message", "channel": "x", "content": "x".repeat(60) }).to_string();
    let mut packet = Vec::new();
    for _ in 0..500 {
        packet.extend_from_slice(&[0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0]);
        packet.extend_from_slice(text.as_bytes());
    }
    for _ in 0..40 {
        publisher.send_raw(&packet).await;
    }
    eventually("all messages are published", || hub.stats().published >= 20_000).await;
    assert_eq!((hub.stats().slow_consumers, hub.stats().connections), (0, 21));
}

/// Publishes until the server stops reading. Returns how many publications it accepted.
async fn publish_until_not_read(hub: &Hub, publisher: &mut Client) -> u64 {
    let text = json!({ "type": "channel_message", "channel": "x", "content": 1 }).to_string();
    let mut packet = Vec::new();
    for _ in 0..100 {
        packet.extend_from_slice(&[0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0]);
        packet.extend_from_slice(text.as_bytes());
    }
    for _ in 0..1000 {
        let mut sending = pin!(publisher.send_raw(&packet));
        let mut turns = 0;
        while poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await.is_pending() {
            turns += 1;
            if turns == 1000 {
                return hub.stats().published; // the task of the publisher has run often enough
            }
            tokio::task::yield_now().await;
        }
    }
    panic!("the server still reads after {} publications", hub.stats().published);
}

#[tokio::test]
async fn connection_is_not_read_while_its_publications_cannot_be_written() {
    let (hub, handler) = (hub(), user_handler().share());
    // The shard runs on this thread.
    let (mut reader, _) = registered(&hub, "reader", &handler).await;
    reader.subscribe("x").await;
    let (sender, has_begun) = oneshot::channel();
    let publishing = std::thread::spawn({
        let hub = hub.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut publisher, _) = registered(&hub, "publisher", &handler).await;
                publisher.subscribe("x").await;
                sender.send(()).unwrap();
                publish_until_not_read(&hub, &mut publisher).await
            })
        }
    });
    has_begun.await.unwrap();
    // Nothing runs on this thread until the other one has ended.
    let published = publishing.join().unwrap();
    assert!((1000..10_000).contains(&published), "{published} publications");
}

#[tokio::test]
async fn publisher_does_not_wait_for_an_ended_runtime() {
    let hub = hub();
    let other = hub.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = TestServer::start(other, user_handler());
            drop(subscriber(&server, "lost", "x").await);
        });
    })
    .join()
    .unwrap();
    for number in 0..20_000 {
        hub.connections().broadcast(json!({ "n": number })).await.unwrap();
        hub.channel("x").broadcast(json!({ "n": number })).await.unwrap();
    }
    assert_eq!(hub.stats().subscriptions, 0);
}

/// Returns a hub with one member of a channel with presence; only the test drives the runtime.
async fn member(hub: &Hub) -> (TestServer, Client, Connection) {
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
    let client = subscriber(&server, "member", "x").await;
    let connection = hub.connections().of_user("member").remove(0);
    (server, client, connection)
}

fn hub_with_presence() -> Hub {
    let channels = ChannelOptions::new().presence(Presence::each()).slow_consumer(SlowConsumer::DropOldest);
    Hub::builder().shards(1).channels("{*any}", channels).build()
}

#[tokio::test]
async fn presence_change_waits_for_an_overloaded_shard() {
    let hub = hub_with_presence();
    let _scene = member(&hub).await;
    let (changed, presence) = (Arc::new(AtomicU64::new(0)), hub.presence().of("member"));
    let mut changing = Box::pin({
        let changed = changed.clone();
        async move {
            for number in 0..100_000_u64 {
                presence.update(json!({ "n": number })).await.unwrap();
                changed.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    poll_fn(|cx| {
        assert!(changing.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    let changed = changed.load(Ordering::Relaxed);
    assert!((1..20_000).contains(&changed), "{changed} changes without a pause");
}

#[tokio::test]
async fn callers_that_cannot_wait_process_their_own_messages() {
    let hub = hub_with_presence();
    let (_server, _client, connection) = member(&hub).await;
    let written = || hub.stats().bytes_sent;
    let before = written();
    for number in 0..10_000 {
        hub.channel("x").update_metadata(&connection, json!({ "n": number })).unwrap();
    }
    assert!(written() > before, "nothing was written in the meantime");
}

#[tokio::test]
async fn retry_policies_in_a_loop_overload_no_shard() {
    let hub = hub_with_presence();
    let (_server, _client, connection) = member(&hub).await;
    for _ in 0..6000 {
        connection.set_retry_policy(RetryPolicy::aggressive()).unwrap();
    }
    let mut publication = Box::pin(hub.channel("x").publish("x").into_future());
    poll_fn(|cx| {
        assert!(publication.as_mut().poll(cx).is_ready(), "the publication waits for the shard");
        Poll::Ready(())
    })
    .await;
}

#[test]
fn publisher_does_not_wait_for_an_idle_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (idle, hub) = (runtime(), hub());
    let _kept = idle.block_on(async {
        let server = TestServer::start(hub.clone(), user_handler());
        let client = subscriber(&server, "idle", "x").await;
        (server, client)
    });
    runtime().block_on(async {
        for number in 0..10_000 {
            hub.channel("x").broadcast(json!({ "n": number })).await.unwrap();
        }
    });
}

#[test]
fn publisher_without_timers_does_not_wait_for_an_idle_runtime() {
    let (idle, hub) = (tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(), hub());
    let _kept = idle.block_on(async {
        let server = TestServer::start(hub.clone(), user_handler());
        let client = subscriber(&server, "idle", "x").await;
        (server, client)
    });
    let (done, is_done) = std::sync::mpsc::sync_channel(1);
    let publishing = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            for number in 0..10_000 {
                hub.channel("x").broadcast(json!({ "n": number })).await.unwrap();
            }
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(30)).expect("the publication continues");
    publishing.join().unwrap();
}

#[tokio::test]
async fn inboxes_processed_in_a_row_close_no_memory_reader() {
    let hub = Hub::builder().shards(1).channels("{*any}", ChannelOptions::new().no_history()).build();
    let server = MemoryServer::start(hub.clone(), user_handler());
    let mut reader = server.json("/?user=reader").await;
    reader.expect("session").await;
    reader.subscribe("x").await;
    let mut others = Vec::new();
    for number in 0..12 {
        let mut other = server.json(&format!("/?user=other-{number}")).await;
        other.expect("session").await;
        others.push(other);
    }
    let reading = tokio::spawn(async move { while reader.next().await["content"] != 23_999 {} });
    for number in 0..24_000 {
        hub.channel("x").broadcast(number).await.unwrap();
        if number % 2000 == 1999 {
            // It cannot wait, so it processes what was published before.
            hub.user(format!("other-{}", number / 2000)).connections()[0].close(CloseCode(4000), "");
        }
    }
    reading.await.unwrap();
    assert_eq!(hub.stats().slow_consumers, 0);
}

/// Changes the client's status until a change waits. Returns the number of changes before that.
async fn change_until_one_waits(client: &mut Client) -> u64 {
    let patience = Duration::from_millis(300);
    for changed in 0..50_000 {
        client.send(json!({ "type": "update_status", "status": format!("busy-{changed}"), "id": 1 })).await;
        // An answer that does not come at once is one that waits.
        if tokio::time::timeout(patience, client.expect("ack")).await.is_err() {
            return changed;
        }
    }
    panic!("no change waits");
}

#[tokio::test]
async fn status_change_waits_for_the_shards_of_other_connections() {
    let channels = ChannelOptions::new().presence(Presence::each()).slow_consumer(SlowConsumer::DropOldest);
    let (hub, handler) =
        (Hub::builder().shards(2).channels("{*any}", channels).build(), user_handler().share());
    // Connections get shards in turn; the task of this shard runs on this thread.
    let (mut reader, _) = registered(&hub, "reader", &handler).await;
    let (_of_the_other_shard, _) = registered(&hub, "nobody", &handler).await;
    let (mut shown, _) = registered(&hub, "ann", &handler).await;
    reader.subscribe("x").await;
    shown.subscribe("x").await;
    let changing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut unseen, _) = registered(&hub, "ann", &handler).await;
            change_until_one_waits(&mut unseen).await
        })
    });
    // Nothing runs on this thread until the other one has ended.
    let changed = changing.join().unwrap();
    assert!((1000..20_000).contains(&changed), "{changed} changes");
}

#[tokio::test]
async fn a_change_of_status_that_waits_is_not_made_after_the_rights_are_gone() {
    let channels = ChannelOptions::new().presence(Presence::each()).slow_consumer(SlowConsumer::DropOldest);
    let (hub, handler) =
        (Hub::builder().shards(2).channels("{*any}", channels).build(), user_handler().share());
    let (mut reader, _) = registered(&hub, "reader", &handler).await;
    let (_of_the_other_shard, _) = registered(&hub, "nobody", &handler).await;
    let (mut shown, _) = registered(&hub, "ann", &handler).await;
    reader.subscribe("x").await;
    shown.subscribe("x").await;
    let status = |hub: &Hub| now(hub.presence().get("ann")).unwrap().metadata["status"].clone();
    let (is_waiting, waiting) = std::sync::mpsc::sync_channel(1);
    let other = hub.clone();
    let changing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut unseen, connection) = registered(&other, "ann", &handler).await;
            let changed = change_until_one_waits(&mut unseen).await;
            connection.close(CloseCode::REVOKED, "");
            is_waiting.send(changed).unwrap();
            let late = json!(format!("busy-{changed}"));
            let is_done = || other.stats().refused > 0 || status(&other) == late;
            eventually("it is refused or made", is_done).await;
        });
    });
    // Nothing runs here until the other thread waits.
    let changed = waiting.recv().unwrap();
    tokio::task::spawn_blocking(|| changing.join().unwrap()).await.unwrap();
    assert_eq!(status(&hub), format!("busy-{}", changed - 1));
}

/// Publishes to the shard of `reader`, whose thread does nothing, until it is congested.
fn congest(hub: &Hub) {
    let is_congested = |number| poll_once(hub.channel("reader").publish(number)).is_pending();
    assert!((0..100_000).any(is_congested), "no publication waits");
}

#[tokio::test]
async fn waiting_publications_fail_after_their_permission_has_ended() {
    let channels = ChannelOptions::new().no_history().slow_consumer(SlowConsumer::DropOldest);
    let roles = Roles::new().define("member", ["send"]).default_role("member");
    let hub = Hub::builder().shards(2).channels("{*any}", channels).roles("g", roles).build();
    let handler = user_handler().share();
    // Connections get shards in turn; the task of this shard runs on this thread.
    let (mut reader, _) = registered(&hub, "reader", &handler).await;
    for channel in ["reader", "x"] {
        reader.subscribe(channel).await;
    }
    for user in ["reader", "eve"] {
        hub.groups().add(user, "g").await.unwrap();
    }
    let publishing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut eve, connection) = registered(&hub, "eve", &handler).await;
            eve.subscribe("x").await;
            for (request, error_type) in [
                (json!({ "type": "channel_message", "channel": "x", "content": 1 }), "not_subscribed"),
                (json!({ "type": "group", "room": "g", "message": 1 }), "permission_denied"),
            ] {
                congest(&hub);
                let answer = {
                    let mut answer = Box::pin(eve.request(request));
                    let early = tokio::time::timeout(Duration::from_millis(300), &mut answer).await;
                    assert!(early.is_err(), "it does not wait: {early:?}");
                    match error_type {
                        "not_subscribed" => hub.channel("x").unsubscribe(&connection).unwrap(),
                        _ => assert!(hub.groups().remove("eve", "g").await),
                    }
                    answer.await
                };
                assert_eq!(answer.unwrap_err()["error_type"], error_type);
            }
        });
    });
    // Nothing runs on this thread until the other one has ended.
    publishing.join().unwrap();
}
