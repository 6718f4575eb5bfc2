//! Other transports than the fast path: hyper's upgrade over any byte stream, a keep-alive connection,
//! deflate.

use crate::support::{now, open_hub, serve, subscriber, user_handler, wait_for_connections};
use hauyna::{Handler, Heartbeat, Hub, Router, SlowConsumer, json};
use hauyna_test::{Client, Frame, MemoryServer, TestServer};
use hauyna_websocket::{Compression, DeflateConfig, FrameHead, OpCode};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

/// A stream other than TCP that reads and writes few bytes at a time, and counts the writes, as TLS may.
struct Narrow {
    inner: DuplexStream,
    writes: Arc<AtomicU64>,
}

impl AsyncRead for Narrow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut few = [0; 7];
        let mut part = ReadBuf::new(&mut few[..buffer.remaining().min(7)]);
        let polled = Pin::new(&mut self.inner).poll_read(cx, &mut part);
        buffer.put_slice(part.filled());
        polled
    }
}

impl AsyncWrite for Narrow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let few = bytes.len().min(11);
        Pin::new(&mut self.inner).poll_write(cx, &bytes[..few])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Serves a router over one stream in memory, through the tower service and hyper.
async fn in_memory(router: Router, client: hauyna_test::Connect) -> Client {
    let (near, far) = tokio::io::duplex(256);
    let far = Narrow { inner: far, writes: Arc::default() };
    let service = TowerToHyperService::new(router.into_service());
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(connection.with_upgrades());
    client.over(near).await.unwrap()
}

#[tokio::test]
async fn non_tcp_stream_serves_the_whole_protocol() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut tcp = subscriber(&server, "tcp", "x").await;
    let router = Router::new(hub.clone()).websocket("/", user_handler());
    let first = json!({ "type": "subscribe_channel", "id": "first", "channel": "x" });
    let connect = Client::to("ws://memory/?user=memory").message_pack().first(&first);
    let mut memory = in_memory(router, connect).await;
    assert_eq!(memory.expect("session").await["user"], "memory");
    let mut position = memory.answer(&json!("first")).await.unwrap();
    for number in 0..50 {
        memory
            .request(json!({ "type": "channel_message", "channel": "x", "content": number }))
            .await
            .unwrap();
        assert_eq!(tcp.expect("message").await["content"], number);
    }
    for number in 0..50 {
        let message = memory.expect("message").await;
        assert_eq!(message["content"], number);
        position["offset"] = message["offset"].clone();
    }
    memory.request(json!({ "type": "unsubscribe_channel", "channel": "x" })).await.unwrap();
    let big = "x".repeat(20_000);
    for _ in 0..5 {
        hub.channel("x").broadcast(&big).await.unwrap();
    }
    assert_eq!(memory.recover("x", &position).await["recovered"], true);
    assert_eq!(memory.expect_in_order("x", 5).await, vec![big; 5]);
    memory.ping(b"p").await;
    assert_eq!(memory.next_frame().await, Frame::Pong(b"p".to_vec()));
    memory.close(1000, "").await;
    wait_for_connections(&hub, 1).await;
}

#[tokio::test]
async fn deadlines_and_policies_apply_to_non_tcp_streams() {
    let channels = hauyna::ChannelOptions::new().slow_consumer(SlowConsumer::Disconnect);
    let hub = Hub::builder().channels("{*any}", channels).outbox(16 * 1024, 64).build();
    let heartbeat = Heartbeat::every(Duration::from_millis(80)).timeout(Duration::from_millis(80));
    let router = || Router::new(hub.clone()).websocket("/", user_handler().heartbeat(heartbeat));
    let mut mute = in_memory(router(), Client::to("ws://memory/").without_pongs()).await;
    assert!(matches!(mute.next_frame().await, Frame::Ping(_)));
    mute.expect_end().await;
    assert_eq!(hub.stats().heartbeat_timeouts, 1);
    let mut slow = in_memory(router(), Client::to("ws://memory/")).await;
    slow.subscribe("x").await;
    for _ in 0..20 {
        hub.channel("x").broadcast("x".repeat(4096)).await.unwrap();
    }
    // It does not read before this.
    crate::support::eventually("the client is a slow consumer", || hub.stats().slow_consumers == 1).await;
    assert_eq!(slow.expect_close().await.0, 3008);
    drop(slow);
    crate::support::wait_until_empty(&hub).await;
}

#[tokio::test]
async fn upgrade_after_plain_http_on_one_connection_works() {
    let hub = open_hub().build();
    let handler = hauyna::Handler::new().identify(|request: hauyna::ConnectRequest| async move {
        Ok::<_, hauyna::Reject>(request.peer().map(|peer| peer.ip().to_string()))
    });
    let server = TestServer::start(hub.clone(), handler);
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer[..read]));
    let mut client = Client::to("ws://x/").json().over(stream).await.unwrap();
    assert_eq!(client.expect("session").await["user"], "127.0.0.1");
    client.subscribe("x").await;
    hub.channel("x").broadcast(1).await.unwrap();
    client.expect("message").await;
    client.close(1000, "").await;
}

#[tokio::test]
async fn service_answers_requests_that_it_cannot_upgrade() {
    use tower_service::Service;
    let mut service = Router::new(Hub::new()).websocket("/chat", user_handler()).into_service();
    let mut ask = async |path: &str| {
        let mut request = http::Request::builder().uri(path);
        for (name, value) in [
            ("host", "x"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            request = request.header(name, value);
        }
        service.call(request.body(String::new()).unwrap()).await.unwrap().status().as_u16()
    };
    assert_eq!(ask("/other").await, 404);
    assert_eq!(ask("/chat").await, 501, "nothing below can be upgraded");
}

#[tokio::test]
async fn compressed_messages_work_in_both_directions() {
    let hub = open_hub().build();
    let handler =
        || user_handler().deflate().on_message(async |_, value: serde_json::Value| Ok(value["text"].clone()));
    let server = TestServer::start(hub.clone(), handler());
    let text = "news, news, ".repeat(500);
    for encoding in hauyna_protocol::Encoding::ALL {
        let mut client = server.client("/").encoding(encoding).deflate().connect().await;
        assert!(
            client.headers()["sec-websocket-extensions"].to_str().unwrap().starts_with("permessage-deflate")
        );
        client.expect("session").await;
        client.send_deflated(json!({ "type": "say", "id": 1, "text": text })).await;
        assert_eq!(client.answer(&json!(1)).await.unwrap(), text.as_str());
        client.subscribe("x").await;
        hub.channel("x").broadcast(&text).await.unwrap();
        assert_eq!(client.expect("message").await["content"], text);
        client.close(1000, "").await;
    }
    let plain = TestServer::start(open_hub().build(), Handler::new());
    let client = plain.client("/").deflate().connect().await;
    assert!(!client.headers().contains_key("sec-websocket-extensions"));
}

#[tokio::test]
async fn deflate_bomb_closes_with_1009_and_garbage_with_1007() {
    let server = TestServer::start(Hub::new(), user_handler().deflate());
    let mut bomb = server.client("/").deflate().connect().await;
    bomb.send_deflated(json!({ "type": "ping", "x": "x".repeat(10 << 20) })).await;
    assert_eq!(bomb.expect_close().await.0, 1009);
    let mut garbage = server.client("/").deflate().connect().await;
    let head = FrameHead { compression: Compression::Deflated, ..FrameHead::of(OpCode::Text) };
    garbage.send_frame(head, &[0xff; 100]).await;
    assert_eq!(garbage.expect_close().await.0, 1007);
    let mut plain = server.connect("/").await;
    plain.send_frame(head, &[0; 4]).await;
    assert_eq!(plain.expect_close().await.0, 1002, "nothing was negotiated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_with_a_runtime_per_core_is_one_hub() {
    let hub = open_hub().shards(4).build();
    let server = Router::new(hub.clone()).websocket("/", user_handler()).into_server();
    let (sender, ready) = tokio::sync::oneshot::channel();
    let serving = tokio::task::spawn_blocking(move || {
        server.serve_per_core("127.0.0.1:0".parse().unwrap(), 4, |address| sender.send(address).unwrap())
    });
    let url = format!("ws://{}/", ready.await.unwrap());
    let mut clients = Vec::new();
    for _ in 0..32 {
        let mut client = Client::connect(&url).await;
        client.subscribe("x").await;
        clients.push(client);
    }
    for number in 0..100 {
        let writer = number % 32;
        let sent = json!({ "type": "channel_message", "channel": "x", "content": number });
        clients[writer].send(sent).await;
        hub.connections().broadcast(number).await.unwrap();
        for client in &mut clients {
            let mut both = [client.next().await, client.next().await];
            both.sort_by_key(|message| message["type"].to_string());
            assert_eq!((&both[0]["message"], &both[1]["content"]), (&json!(number), &json!(number)));
        }
    }
    let stopping = hub.clone();
    let shutdown = tokio::spawn(async move { stopping.shutdown(Duration::from_secs(10)).await });
    for mut client in clients {
        assert_eq!(client.expect_close().await.0, 3000);
        client.send_close(3000, "").await;
    }
    shutdown.await.unwrap().unwrap();
    serving.await.unwrap().unwrap();
    assert_eq!(hub.stats().connections, 0);
}

/// Returns the first bytes that the server sends next.
async fn first_byte(stream: &mut DuplexStream) -> u8 {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.unwrap();
    let length = match header[1] {
        126 => usize::from(u16::from_be_bytes([header[2], header[3]])),
        short => usize::from(short) - 2,
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.unwrap();
    header[0]
}

#[tokio::test]
async fn clients_with_a_smaller_window_get_uncompressed_broadcasts() {
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), user_handler().deflate());
    let small = DeflateConfig { max_window_bits: 9, threshold: 0, ..DeflateConfig::default() };
    let mut narrow = server.client("/").deflate_with(small).connect().await;
    let mut wide = server.client("/").deflate().connect().await;
    let mut plain = server.connect("/").await;
    let text = "news, news, ".repeat(500);
    for client in [&mut narrow, &mut wide, &mut plain] {
        client.subscribe("x").await;
    }
    for _ in 0..3 {
        hub.channel("x").broadcast(&text).await.unwrap();
        for client in [&mut narrow, &mut wide, &mut plain] {
            assert_eq!(client.expect("message").await["content"], text);
        }
    }
    // On the wire: one is compressed (RSV1), the other is not.
    for (extensions, first) in
        [("permessage-deflate", 0xc1), ("permessage-deflate; server_max_window_bits=9", 0x81)]
    {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let service = TowerToHyperService::new(
            Router::new(hub.clone()).websocket("/", user_handler().deflate()).into_service(),
        );
        let builder = hyper::server::conn::http1::Builder::new();
        tokio::spawn(builder.serve_connection(TokioIo::new(far), service).with_upgrades());
        let request = format!(
            "GET /?user=raw HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: {extensions}\r\n\r\n"
        );
        near.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(near.read_u8().await.unwrap());
        }
        crate::support::eventually("the client is connected", || now(hub.user("raw").is_connected())).await;
        hub.user("raw").send(&text).await.unwrap();
        assert_eq!(first_byte(&mut near).await, first, "{extensions}");
        drop(near);
        crate::support::eventually("the connection has closed", || !now(hub.user("raw").is_connected()))
            .await;
    }
}

#[tokio::test]
async fn client_requests_in_callbacks_work_over_any_stream() {
    let handler = user_handler().on("ask", async |cx: hauyna::Context, _: serde_json::Value| {
        cx.request::<serde_json::Value>("choose", ()).await
    });
    let router = Router::new(Hub::new()).websocket("/", handler);
    let mut memory = in_memory(router, Client::to("ws://memory/")).await;
    memory.send(json!({ "type": "ask", "id": 1 })).await;
    let question = memory.expect("request").await;
    memory.send(json!({ "type": "ping", "id": 2 })).await;
    memory.send(json!({ "type": "ack", "id": question["id"], "data": "yes" })).await;
    assert_eq!(memory.expect("ack").await["data"], "yes");
    assert_eq!(memory.expect("pong").await["id"], 2);
}

#[tokio::test]
async fn resume_closes_the_old_socket_with_3013_over_any_stream() {
    let server = MemoryServer::start(Hub::new(), user_handler());
    let mut old = server.json("/?user=ann").await;
    let session = old.expect("session").await;
    let token = session["resume"]["token"].as_str().unwrap();
    let mut new = server.json(&format!("/?user=ann&resume={token}")).await;
    new.send(json!({ "type": "resume" })).await;
    assert_eq!(new.expect("session").await["resumed"], true);
    assert_eq!(old.expect_close().await.0, 3013);
}
