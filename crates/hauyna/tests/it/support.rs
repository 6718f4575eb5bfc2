//! Shared helpers of the test modules: hubs, subscribed clients, and waiting for a state of the hub.

use hauyna::broker::{Answer, BrokerError};
use hauyna::connection::RetryPolicy;
use hauyna::handler::SharedHandler;
use hauyna::{ChannelOptions, Connection, Handler, Hub, HubBuilder, json};
use hauyna_protocol::Encoding;
pub(crate) use hauyna_test::Random;
use hauyna_test::{Client, TestServer, WrappedBroker};
use hauyna_websocket::OpCode;
use hauyna_websocket::handshake::{HeadReader, check};
use serde_json::Value;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

/// Returns a builder whose channels are all open, with a long history.
pub(crate) fn open_hub() -> HubBuilder {
    Hub::builder().channels("{*any}", ChannelOptions::new().history(100_000, Duration::from_secs(600)))
}

/// Returns a handler that identifies users by the query parameter `user`, or as `anybody` without it.
pub(crate) fn user_handler() -> Handler {
    Handler::new().identify(|request| Ok(request.query("user").unwrap_or_else(|| "anybody".to_owned())))
}

pub(crate) fn serve(hub: &Hub) -> TestServer {
    TestServer::start(hub.clone(), user_handler())
}

/// Connects a client of `hauyna.v1.json` and reads its `session` message.
pub(crate) async fn session_client(server: &TestServer, target: &str) -> Client {
    let mut client = server.json(target).await;
    client.expect("session").await;
    client
}

/// Connects a client of this encoding and user, and reads its `session` message.
pub(crate) async fn client(server: &TestServer, encoding: Encoding, user: &str) -> Client {
    let mut client = server.client(&format!("/?user={user}")).encoding(encoding).connect().await;
    assert_eq!(client.expect("session").await["user"], user);
    client
}

/// Connects a client of `hauyna.v1.json` and one of `hauyna.v1.msgpack`, and reads their `session` messages.
pub(crate) async fn session_clients(server: &TestServer, target: &str) -> [Client; 2] {
    let mut clients = [server.json(target).await, server.message_pack(target).await];
    for client in &mut clients {
        client.expect("session").await;
    }
    clients
}

/// Connects a client of `hauyna.v1.json` and subscribes it.
pub(crate) async fn subscriber(server: &TestServer, user: &str, channel: &str) -> Client {
    let mut client = session_client(server, &format!("/?user={user}")).await;
    client.subscribe(channel).await;
    client
}

/// Returns a retry policy as `session` and `retry_policy` contain it.
pub(crate) fn retry_terms(policy: RetryPolicy) -> Value {
    let mut terms = json!({
        "base_delay": policy.base_delay.as_millis() as u64,
        "max_delay": policy.max_delay.as_millis() as u64,
        "backoff_multiplier": policy.backoff_multiplier,
        "jitter": policy.jitter,
    });
    if let Some(max_attempts) = policy.max_attempts {
        terms["max_attempts"] = json!(max_attempts);
    }
    terms
}

/// Returns text frames of a client, one after the other, to be sent as one packet.
pub(crate) fn packet(texts: impl IntoIterator<Item = String>) -> Vec<u8> {
    let mut packet = Vec::new();
    for text in texts {
        hauyna_websocket::encode_into(&mut packet, OpCode::Text, text.as_bytes(), Some([0; 4]));
    }
    packet
}

/// Polls until a condition of the hub holds, since there is no event for it.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        looks.tick().await;
    }
}

/// Waits until the hub has this number of connections.
pub(crate) async fn wait_for_connections(hub: &Hub, count: usize) {
    eventually(&format!("the hub has {count} connections"), || hub.stats().connections == count).await;
}

/// Polls once, outside of any runtime.
pub(crate) fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Returns the result of a future that does not wait.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match poll_once(future) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future is not ready"),
    }
}

/// Waits until the hub has no connections, channels and subscriptions.
pub(crate) async fn wait_until_empty(hub: &Hub) {
    eventually("the hub is empty", || {
        let stats = hub.stats();
        stats.connections == 0
            && stats.channels == 0
            && stats.subscriptions == 0
            && stats.opened == stats.closed
    })
    .await;
}

/// Hides panics whose text starts with `in `: printing a trace for each takes longer than the test.
pub(crate) fn hide_expected_panics() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let owned = payload.downcast_ref::<String>().map(String::as_str);
        let text = owned.or(payload.downcast_ref::<&str>().copied());
        if !text.is_some_and(|text| text.starts_with("in ")) {
            others(panic);
        }
    }));
}

/// Returns a local broker that is unreachable while the flag is set.
pub(crate) fn failing_broker() -> (WrappedBroker, Arc<AtomicBool>) {
    fn unless_down<T>(
        is_down: &AtomicBool,
        ask: impl FnOnce() -> Answer<Result<T, BrokerError>>,
    ) -> Answer<Result<T, BrokerError>> {
        match is_down.load(Ordering::Relaxed) {
            true => Answer::now(Err(BrokerError::from_source("redis://10.0.0.7: connection refused"))),
            false => ask(),
        }
    }
    let is_down = Arc::new(AtomicBool::new(false));
    let [publishing, subscribing, reading] = [is_down.clone(), is_down.clone(), is_down.clone()];
    let broker = WrappedBroker::default()
        .on_publish(move |local, publish| unless_down(&publishing, || local.publish(publish)))
        .on_subscribe(move |local, channel| unless_down(&subscribing, || local.subscribe(channel)))
        .on_history(move |local, channel, range| unless_down(&reading, || local.history(channel, range)));
    (broker, is_down)
}

/// Registers a client over a socket in memory whose handshake the test has answered.
pub(crate) async fn registered(hub: &Hub, user: &str, handler: &SharedHandler) -> (Client, Connection) {
    registered_as(hub, user, handler, |socket| socket).await
}

/// Registers a client as [`registered`] does, and wraps the application's end of the stream.
pub(crate) async fn registered_as<S>(
    hub: &Hub,
    user: &str,
    handler: &SharedHandler,
    wrap: impl FnOnce(DuplexStream) -> S,
) -> (Client, Connection)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut socket, peer) = tokio::io::duplex(64 * 1024);
    let answered = async {
        let (mut reader, mut buffer) = (HeadReader::new(), [0; 4096]);
        let head = loop {
            let read = socket.read(&mut buffer).await.unwrap();
            if let Some(head) = reader.push(&buffer[..read]).unwrap() {
                break head;
            }
        };
        let (parts, ()) = head.request.into_parts();
        let mut answer = Vec::new();
        check(&parts).unwrap().write_response(None, None, &mut answer);
        socket.write_all(&answer).await.unwrap();
        hub.connections().register(wrap(socket), user, handler).unwrap()
    };
    let client = Client::to("ws://memory/").without_pongs().timeout(Duration::from_secs(600)).over(peer);
    let (client, connection) = tokio::join!(client, answered);
    (client.unwrap_or_else(|refused| panic!("{refused:?}")), connection)
}
