//! Bursts by every verb: clients that read everything receive everything, even if messages wait for a moment.

use crate::support::{
    eventually, registered, registered_as, session_client, subscriber, user_handler, wait_for_connections,
};
use hauyna::connection::{ConnectionState, RetryPolicy};
use hauyna::{ChannelOptions, ErrorType, Handler, Hub, HubBuilder, Presence, SlowConsumer, json};
use hauyna_test::{Client, MemoryServer, TestServer};
use parking_lot::Mutex;
use serde_json::Value;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::oneshot;

const POLICIES: [SlowConsumer; 4] =
    [SlowConsumer::Disconnect, SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Conflate];

fn open_to_all() -> Handler {
    user_handler().authorize_broadcast(|_, _| async { Ok(()) }).write_timeout(Duration::from_secs(60))
}

/// Returns a hub whose channels keep no history, so that dropped messages are lost.
fn hub(policy: SlowConsumer) -> HubBuilder {
    Hub::builder().channels("{*any}", ChannelOptions::new().no_history().slow_consumer(policy))
}

/// Returns requests as one write of masked frames (RFC 6455 §5.3, the mask is 0).
fn packet(requests: impl Iterator<Item = Value>) -> Vec<u8> {
    let mut packet = Vec::new();
    for request in requests {
        let text = request.to_string();
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("short");
        packet.extend_from_slice(&[0x81, 0x80 | length, 0, 0, 0, 0]);
        packet.extend_from_slice(text.as_bytes());
    }
    packet
}

async fn expect_numbers(client: &mut Client, kind: &str, field: &str, count: u64) {
    for number in 0..count {
        assert_eq!(client.wait_for(kind).await[field]["n"], number, "{kind}");
    }
}

#[tokio::test]
async fn burst_of_private_requests_closes_no_reader() {
    let server = TestServer::start(hub(SlowConsumer::Disconnect).build(), open_to_all());
    let mut bob = server.json("/?user=bob").await;
    let mut alice = server.json("/?user=alice").await;
    let burst =
        packet((0..1300).map(|number| json!({ "type": "private", "to": "bob", "message": { "n": number } })));
    alice.send_raw(&burst).await;
    expect_numbers(&mut bob, "private", "message", 1300).await;
}

#[tokio::test]
async fn burst_of_broadcast_requests_closes_nobody() {
    let server = TestServer::start(hub(SlowConsumer::Disconnect).build(), open_to_all());
    let mut bob = server.json("/?user=bob").await;
    let mut alice = server.json("/?user=alice").await;
    let burst = packet((0..1300).map(|number| json!({ "type": "broadcast", "message": { "n": number } })));
    alice.send_raw(&burst).await;
    expect_numbers(&mut bob, "broadcast", "message", 1300).await;
    expect_numbers(&mut alice, "broadcast", "message", 1300).await;
}

#[tokio::test]
async fn broadcasts_in_a_row_close_nobody() {
    let hub = hub(SlowConsumer::Disconnect).build();
    let server = TestServer::start(hub.clone(), open_to_all());
    let mut clients = [server.json("/?user=a").await, server.json("/?user=b").await];
    let padding = "x".repeat(60_000);
    for number in 0..5 {
        hub.connections().broadcast(json!({ "n": number, "padding": padding })).await.unwrap();
    }
    for client in &mut clients {
        expect_numbers(client, "broadcast", "message", 5).await;
    }
    for number in 0..1100 {
        hub.connections().broadcast(json!({ "n": number })).await.unwrap();
    }
    for client in &mut clients {
        expect_numbers(client, "broadcast", "message", 1100).await;
    }
}

#[tokio::test]
async fn one_message_in_each_of_many_channels_closes_nobody() {
    for policy in POLICIES {
        let hub = hub(policy).build();
        let server = TestServer::start(hub.clone(), open_to_all());
        let mut client = server.json("/").await;
        for channel in 0..128 {
            client.subscribe(&format!("c-{channel}")).await;
        }
        let padding = "x".repeat(2100);
        for number in 0..128 {
            hub.channel(format!("c-{number}"))
                .broadcast(json!({ "n": number, "padding": padding }))
                .await
                .unwrap();
        }
        expect_numbers(&mut client, "message", "content", 128).await;
        assert_eq!(hub.stats().dropped, 0, "{policy:?}");
    }
}

#[tokio::test]
async fn status_changes_in_many_shared_channels_close_nobody() {
    let channels = ChannelOptions::new().no_history().presence(Presence::each());
    let hub = Hub::builder().channels("{*any}", channels).build();
    let server = TestServer::start(hub.clone(), open_to_all());
    let mut clients = Vec::new();
    for user in 0..6 {
        let mut client = server.json(&format!("/?user=u-{user}")).await;
        for channel in 0..100 {
            client.subscribe(&format!("c-{channel}")).await;
        }
        clients.push(client);
    }
    let padding = "x".repeat(3900);
    for status in ["one", "two", "three"] {
        let request = json!({ "type": "update_status", "status": status, "padding": padding });
        clients[0].send(request).await;
    }
    for client in &mut clients {
        let mut left = 100;
        while left > 0 {
            let change = client.wait_for("presence_change").await;
            left -= usize::from(change["status"] == "three");
        }
    }
    assert_eq!((hub.stats().slow_consumers, hub.stats().dropped), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_subscriber_of_two_channels_loses_nothing() {
    for policy in POLICIES {
        let hub = hub(policy).build();
        let server = TestServer::start(hub.clone(), open_to_all());
        let mut client = subscriber(&server, "reader", "a").await;
        client.subscribe("b").await;
        let reading = tokio::spawn(async move {
            for number in 0..6000 {
                assert_eq!(client.wait_for("message").await["content"]["n"], number, "{policy:?}");
            }
        });
        for number in 0..6000 {
            let channel = if number % 2 == 0 { "a" } else { "b" };
            hub.channel(channel).publish(json!({ "n": number })).conflate(&number.to_string()).await.unwrap();
        }
        reading.await.unwrap();
        assert_eq!((hub.stats().slow_consumers, hub.stats().dropped), (0, 0), "{policy:?}");
    }
}

#[tokio::test]
async fn sends_in_a_loop_reach_a_client_that_reads() {
    let hub = hub(SlowConsumer::Disconnect).build();
    let server = TestServer::start(hub.clone(), open_to_all());
    let mut client = session_client(&server, "/").await;
    let connection = hub.connections().all().remove(0);
    for round in 0..2 {
        // The order must also hold after a publication.
        hub.connections().broadcast(json!({ "round": round })).await.unwrap();
        for number in 0..5000 {
            connection.send(json!({ "type": "own", "content": { "n": number } })).unwrap();
        }
        assert_eq!(client.next().await["type"], "broadcast");
        expect_numbers(&mut client, "own", "content", 5000).await;
    }
}

#[tokio::test]
async fn sends_in_a_loop_reach_a_client_on_a_task_stream() {
    let hub = hub(SlowConsumer::Disconnect).build();
    let server = MemoryServer::start(hub.clone(), open_to_all());
    let mut client = server.json("/").await;
    client.expect("session").await;
    let connection = hub.connections().all().remove(0);
    // More frames than an outbox holds, in fewer bytes than the stream accepts.
    for number in 0..2000 {
        connection.send(json!({ "n": number })).unwrap();
    }
    for number in 0..2000 {
        assert_eq!(client.next().await["n"], number);
    }
    assert_eq!(hub.stats().slow_consumers, 0);
}

/// A stream that accepts one frame at a time, so that a burst uses up the task's budget in tokio.
struct OneByOne(DuplexStream);

impl AsyncRead for OneByOne {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for OneByOne {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn task_over_its_budget_has_no_slow_client() {
    let hub = hub(SlowConsumer::Disconnect).outbox(1024 * 1024, 256).build();
    let (mut client, connection) = registered_as(&hub, "u", &open_to_all().share(), OneByOne).await;
    for number in 0..1000 {
        connection.send(json!({ "n": number })).unwrap();
    }
    for number in 0..1000 {
        assert_eq!(client.next().await["n"], number);
    }
    assert_eq!(hub.stats().slow_consumers, 0);
}

#[tokio::test]
async fn sender_waits_for_a_connection_task_that_has_not_run() {
    let hub = hub(SlowConsumer::Disconnect).shards(1).build();
    let handler = open_to_all().share();
    // The shard runs on this thread, the task of the late connection on another one.
    let (_other, _) = registered(&hub, "other", &handler).await;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (sender, has_come) = oneshot::channel();
    let own = hub.clone();
    let thread = std::thread::spawn(move || {
        runtime.block_on(async {
            let (mut client, connection) = registered(&own, "late", &handler).await;
            sender.send(()).unwrap();
            while connection.backlog() < 512 * 1024 {
                std::thread::yield_now(); // keeps the connection's task from running
            }
            expect_numbers(&mut client, "private", "message", 2000).await;
        });
    });
    has_come.await.unwrap();
    let padding = "x".repeat(2000);
    for number in 0..2000 {
        hub.user("late").send(json!({ "n": number, "padding": padding })).await.unwrap();
    }
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    assert_eq!(hub.stats().slow_consumers, 0);
}

#[tokio::test]
async fn two_large_messages_close_no_stream_before_its_task_runs() {
    for policy in POLICIES {
        let hub = hub(policy).build();
        let server = MemoryServer::start(hub.clone(), open_to_all());
        let mut client = server.json("/").await;
        client.expect("session").await;
        client.subscribe("x").await;
        for round in 0..3 {
            for number in 0..2 {
                let content = json!({ "n": number, "padding": "x".repeat(2_000_000) });
                hub.channel("x").broadcast(content).await.unwrap();
            }
            expect_numbers(&mut client, "message", "content", 2).await;
            assert_eq!((hub.stats().slow_consumers, hub.stats().dropped), (0, 0), "{policy:?} {round}");
        }
    }
}

/// Publishes messages of 60 kB, more than a stream may queue before its task runs.
async fn burst(hub: &Hub, channel: &str, count: u64) {
    let padding = "x".repeat(60_000);
    for number in 0..count {
        hub.channel(channel).broadcast(json!({ "n": number, "padding": padding })).await.unwrap();
    }
}

async fn joined(client: &mut Client, channel: &str) {
    client.send(json!({ "type": "subscribe_channel", "channel": channel, "id": channel })).await;
    client.answer(&json!(channel)).await.unwrap();
}

#[tokio::test]
async fn synchronous_send_closes_no_stream_before_its_task_runs() {
    for policy in POLICIES {
        let hub = hub(policy).shards(1).build();
        let handler = open_to_all().share();
        let (mut client, _connection) = registered(&hub, "reader", &handler).await;
        joined(&mut client, "x").await;
        let (_other, other) = registered(&hub, "other", &handler).await;
        burst(&hub, "x", 100).await;
        other.close(hauyna::CloseCode::NORMAL, ""); // processes what was posted before
        expect_numbers(&mut client, "message", "content", 100).await;
        assert_eq!((hub.stats().slow_consumers, hub.stats().dropped), (0, 0), "{policy:?}");
    }
}

#[tokio::test]
async fn burst_in_one_channel_closes_no_stream_before_its_task_runs() {
    for policy in POLICIES {
        let hub = hub(policy).shards(1).build();
        let (mut client, _connection) = registered(&hub, "reader", &open_to_all().share()).await;
        joined(&mut client, "x").await;
        joined(&mut client, "y").await;
        burst(&hub, "x", 60).await;
        hub.channel("y").broadcast(json!({ "n": 60 })).await.unwrap();
        expect_numbers(&mut client, "message", "content", 61).await;
        assert_eq!((hub.stats().slow_consumers, hub.stats().dropped), (0, 0), "{policy:?}");
    }
}

#[tokio::test]
async fn queue_of_a_resuming_stream_is_bounded() {
    let hub = hub(SlowConsumer::Disconnect).build();
    let server = MemoryServer::start(hub.clone(), user_handler());
    let mut client = server.json("/?user=alice").await;
    let session = client.expect("session").await;
    client.vanish();
    wait_for_connections(&hub, 0).await;
    let token = session["resume"]["token"].as_str().unwrap();
    let _client = server.json(&format!("/?user=alice&resume={token}")).await;
    let connection = hub.user("alice").connections().remove(0);
    let padding = "x".repeat(1000);
    for number in 0..10_000 {
        hub.user("alice").send(json!({ "n": number, "padding": padding })).await.unwrap();
        let waiting = connection.backlog();
        assert!(waiting < 2 << 20, "{waiting} bytes wait");
    }
}

/// A socket that accepts nothing while its gate is shut.
struct Gated {
    socket: DuplexStream,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    is_shut: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Gate {
    fn open(&self) {
        self.is_shut.store(false, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.gate.is_shut.load(Ordering::SeqCst) {
            *self.gate.waker.lock() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn stream_is_not_judged_by_its_state_before_the_queue_drained() {
    let hub = hub(SlowConsumer::DropOldest).shards(1).build();
    let gate = Arc::new(Gate::default());
    let wrap = |socket| Gated { socket, gate: gate.clone() };
    let (mut client, connection) = registered_as(&hub, "reader", &open_to_all().share(), wrap).await;
    joined(&mut client, "x").await;
    gate.is_shut.store(true, Ordering::SeqCst);
    burst(&hub, "x", 20).await;
    eventually("its stream accepts nothing more", || hub.stats().dropped > 0).await;
    hub.channel("x").unsubscribe(&connection).unwrap();
    eventually("its queue is empty", || connection.backlog() == 0).await;
    gate.open();
    tokio::task::yield_now().await;
    let padding = "x".repeat(60_000);
    for number in 0..10 {
        hub.user("reader").send(json!({ "n": number, "padding": padding })).await.unwrap();
    }
    expect_numbers(&mut client, "private", "message", 10).await;
    assert_eq!(hub.stats().slow_consumers, 0);
}

#[tokio::test]
async fn burst_does_not_close_a_resuming_client() {
    let hub = hub(SlowConsumer::Disconnect).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut client = server.json("/?user=alice").await;
    let session = client.expect("session").await;
    client.vanish();
    wait_for_connections(&hub, 0).await;
    let token = session["resume"]["token"].as_str().unwrap();
    let mut client = server.json(&format!("/?user=alice&resume={token}")).await;
    for number in 0..2000 {
        hub.user("alice").send(json!({ "n": number })).await.unwrap();
    }
    client.send(json!({ "type": "resume" })).await;
    assert_eq!(client.expect("session").await["resumed"], true);
    expect_numbers(&mut client, "private", "message", 2000).await;
    assert_eq!(hub.stats().slow_consumers, 0);
}

#[tokio::test]
async fn state_changes_in_a_loop_close_no_stream_before_its_task_runs() {
    let hub = hub(SlowConsumer::Disconnect).build();
    let server = MemoryServer::start(hub.clone(), open_to_all());
    let mut client = server.json("/").await;
    client.expect("session").await;
    let connection = hub.connections().all().remove(0);
    let states = [ConnectionState::Idle, ConnectionState::Connected];
    let changed = states.into_iter().cycle().take_while(|state| connection.set_state(*state).is_ok()).count();
    assert!((1024..100_000).contains(&changed), "{changed} messages waited");
    let error = connection.set_state(states[changed % 2]).unwrap_err();
    assert_eq!(error.error_type(), ErrorType::Unavailable);
    assert_eq!(connection.state(), states[(changed + 1) % 2], "nothing changed");
    assert!(connection.set_retry_policy(RetryPolicy::aggressive()).is_err());
    assert_eq!(connection.retry_policy(), RetryPolicy::default());
    for state in states.into_iter().cycle().take(changed) {
        assert_eq!(client.expect("connection_state").await["state"], state.name());
    }
    connection.set_state(states[changed % 2]).unwrap();
    assert_eq!(hub.stats().slow_consumers, 0);
}

#[tokio::test]
async fn subscriptions_in_a_loop_close_no_stream_before_its_task_runs() {
    let hub = hub(SlowConsumer::Disconnect).build();
    let server = MemoryServer::start(hub.clone(), open_to_all());
    let mut other = server.json("/?user=other").await;
    other.subscribe("x").await; // the broker is already subscribed, so nothing waits
    let mut client = server.json("/?user=client").await;
    client.expect("session").await;
    let reading = tokio::spawn(async move {
        for _ in 0..5000 {
            client.expect("subscribed").await;
            client.expect("unsubscribed").await;
        }
    });
    let connection = hub.connections().of_user("client").remove(0);
    for _ in 0..5000 {
        hub.channel("x").subscribe(&connection, ()).await.unwrap();
        hub.channel("x").unsubscribe(&connection).unwrap();
    }
    reading.await.unwrap();
    assert_eq!(hub.stats().slow_consumers, 0);
}

#[tokio::test]
async fn only_messages_that_were_written_count_as_delivered() {
    let hub = hub(SlowConsumer::DropNewest).outbox(64 * 1024, 16).build();
    let server = TestServer::start(hub.clone(), open_to_all());
    let mut slow = server.client("/?user=slow").receive_buffer(4096).connect().await;
    slow.subscribe("x").await;
    let padding = "x".repeat(16 * 1024);
    let mut published = 0;
    while hub.stats().dropped < 20 {
        hub.channel("x").broadcast(json!({ "padding": padding })).await.unwrap();
        tokio::task::yield_now().await;
        published += 1;
        assert!(published < 10_000, "nothing was dropped");
    }
    let stats = hub.stats();
    assert!(stats.delivered <= published - stats.dropped, "{} of {published} delivered", stats.delivered);
}
