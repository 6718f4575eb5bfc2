//! Deadlines: heartbeats, the close handshake, unfinished messages, slow handshakes.

use crate::support::{eventually, open_hub, user_handler, wait_for_connections};
use hauyna::{CloseCode, CloseReason, Handler, Heartbeat, Hub, Router, json};
use hauyna_test::{Frame, TestServer};
use hauyna_websocket::{Fragment, FrameHead, OpCode};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

fn with_heartbeat(interval: u64, timeout: u64) -> Handler {
    user_handler()
        .heartbeat(Heartbeat::every(Duration::from_millis(interval)).timeout(Duration::from_millis(timeout)))
}

#[tokio::test]
async fn peer_that_never_pongs_is_pinged_then_closed_with_3012() {
    let server = TestServer::start(Hub::new(), with_heartbeat(100, 100));
    let began = Instant::now();
    let mut mute = server.client("/").without_pongs().connect().await;
    assert_eq!(mute.next_frame().await, Frame::Ping(Vec::new()));
    assert_eq!(mute.expect_close().await, (3012, "heartbeat timeout".to_owned()));
    mute.expect_end().await;
    let lived = began.elapsed();
    assert!(lived >= Duration::from_millis(150), "{lived:?}");
    assert_eq!(server.hub().stats().heartbeat_timeouts, 1);
    wait_for_connections(server.hub(), 0).await;
}

#[tokio::test]
async fn peer_that_pongs_or_sends_anything_stays_connected() {
    let server = TestServer::start(Hub::new(), with_heartbeat(60, 400));
    let mut ponging = server.client("/").without_pongs().connect().await;
    for _ in 0..6 {
        assert_eq!(ponging.next_frame().await, Frame::Ping(Vec::new()));
        ponging.send_frame(FrameHead::of(OpCode::Pong), b"").await;
    }
    ponging.close(1000, "").await;
    // This one never sends a pong, and stays connected because it sends messages.
    let mut talking = server.client("/").without_pongs().connect().await;
    let began = Instant::now();
    let mut pings = 0;
    while began.elapsed() < Duration::from_millis(1500) || pings == 0 {
        match talking.next_frame().await {
            Frame::Ping(_) => {
                pings += 1;
                talking.send(json!({ "type": "ping" })).await;
            }
            other => assert!(matches!(other, Frame::Text(_)), "{other:?}"),
        }
    }
    assert_eq!(server.hub().stats().heartbeat_timeouts, 0);
}

#[tokio::test]
async fn client_that_sends_without_reading_is_still_pinged() {
    let server =
        TestServer::start(Hub::new(), with_heartbeat(100, 400).on("note", async |_, _: Value| Ok(())));
    let mut talking = server.client("/").without_pongs().connect().await;
    let pinged = async {
        loop {
            talking.send(json!({ "type": "note" })).await;
            tokio::task::yield_now().await;
            if let Ok(Frame::Ping(_)) =
                tokio::time::timeout(Duration::from_millis(5), talking.next_frame()).await
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), pinged).await.expect("a ping arrived");
}

#[tokio::test]
async fn session_message_has_the_silence_after_which_a_connection_is_lost() {
    let server = TestServer::start(Hub::new(), with_heartbeat(25_000, 8_000));
    let session = server.json("/").await.expect("session").await;
    assert_eq!(session["heartbeat"], json!({ "interval": 25_000, "timeout": 33_000 }));
    let server = TestServer::start(Hub::new(), user_handler().no_heartbeat());
    assert!(server.json("/").await.expect("session").await.get("heartbeat").is_none());
}

#[tokio::test]
async fn frames_after_a_close_frame_are_ignored() {
    let server = TestServer::start(open_hub().build(), user_handler());
    let mut client = server.connect("/").await;
    client.send_close(1000, "bye").await;
    client.send(json!({ "type": "subscribe_channel", "id": 1, "channel": "x" })).await;
    assert_eq!(client.next_frame().await, Frame::Close(Some((1000, String::new()))));
    client.expect_end().await;
    assert_eq!(server.hub().stats().requests, 0);
}

#[tokio::test]
async fn requests_after_our_close_frame_are_ignored() {
    let server = TestServer::start(open_hub().build(), user_handler());
    let mut client = server.connect("/").await;
    client.subscribe("x").await;
    server.hub().connections().all()[0].close(CloseCode(4001), "later");
    assert_eq!(client.expect_close().await, (4001, "later".to_owned()));
    let before = server.hub().stats().requests;
    client.send(json!({ "type": "channel_message", "channel": "x", "content": 1 })).await;
    client.send_close(4001, "").await;
    client.expect_end().await;
    assert_eq!(server.hub().stats().requests, before);
}

#[tokio::test]
async fn peer_that_never_answers_the_close_frame_is_cut_after_five_seconds() {
    let server = TestServer::start(Hub::new(), user_handler());
    let mut client = server.connect("/").await;
    wait_for_connections(server.hub(), 1).await;
    let began = Instant::now();
    server.hub().connections().all()[0].close(CloseCode::NORMAL, "");
    assert_eq!(client.expect_close().await.0, 1000);
    client.expect_end().await;
    let took = began.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(8)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn trickle_does_not_extend_the_deadline_of_a_message() {
    let (sender, mut reasons) = mpsc::channel(1);
    let handler = user_handler().read_timeout(Duration::from_millis(200)).on_close(move |_, reason| {
        let sender = sender.clone();
        async move { sender.send(reason).await.map_err(hauyna::Error::other) }
    });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/").await;
    let began = Instant::now();
    client.send_frame(FrameHead { fragment: Fragment::More, ..FrameHead::of(OpCode::Text) }, b"{").await;
    let closed = loop {
        let more = FrameHead { fragment: Fragment::More, ..FrameHead::of(OpCode::Continuation) };
        client.send_frame(more, b" ").await;
        client.ping(b"").await;
        match client.next_frame().await {
            Frame::Pong(_) => {}
            Frame::Close(close) => break close,
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(5), "a trickle extends the deadline");
    };
    assert_eq!(closed.map(|(code, _)| code), Some(3501));
    drop(client);
    assert_eq!(reasons.recv().await, Some(CloseReason::Protocol));
}

#[tokio::test]
async fn client_whose_segments_end_within_messages_is_not_slow() {
    let server = TestServer::start(Hub::new(), user_handler().read_timeout(Duration::from_millis(600)));
    let mut client = server.connect("/").await;
    let mut whole = Vec::new();
    hauyna_websocket::encode_into(&mut whole, OpCode::Text, b"{\"type\":\"ping\"}", Some([1, 2, 3, 4]));
    let (head, tail) = whole.split_at(7);
    let turn = [tail, head].concat();
    client.send_raw(head).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        client.send_raw(&turn).await;
        client.expect("pong").await;
    }
}

#[tokio::test]
async fn trickle_does_not_extend_the_deadline_of_a_handshake() {
    let hub = Hub::new();
    let server = Router::new(hub.clone()).websocket("/", user_handler()).into_server();
    let server = TestServer::serve(hub.clone(), server.handshake_timeout(Duration::from_millis(300)));
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    let mut trickling = TcpStream::connect(server.address()).await.unwrap();
    let began = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    let trickle = async {
        let mut text = "GET / HTTP/1.1\r\nhost: x\r\nx: ".bytes().chain(std::iter::repeat(b'x'));
        while trickling.write_all(&[text.next().unwrap()]).await.is_ok() {
            pace.tick().await;
        }
    };
    let mut buffer = [0; 64];
    let (read, ()) = tokio::time::timeout(Duration::from_secs(5), async {
        tokio::join!(silent.read(&mut buffer), trickle)
    })
    .await
    .expect("both connections are cut");
    assert!(matches!(read, Ok(0) | Err(_)));
    assert!(began.elapsed() >= Duration::from_millis(250));
    assert_eq!(hub.stats().handshakes_refused, 2);
}

#[tokio::test]
async fn shutdown_writes_queued_messages_then_closes_with_3000() {
    let hub = open_hub().build();
    let server = Arc::new(TestServer::start(hub.clone(), user_handler()));
    let mut client = server.client("/").receive_buffer(4096).connect().await;
    client.subscribe("x").await;
    let padding = "x".repeat(1000);
    for number in 0..100 {
        hub.channel("x").broadcast(json!({ "number": number, "padding": padding })).await.unwrap();
    }
    eventually("the shard has all messages", || hub.stats().delivered == 100).await;
    let stopping = hub.clone();
    let shutdown = tokio::spawn(async move { stopping.shutdown(Duration::from_secs(10)).await });
    for number in 0..100 {
        assert_eq!(client.expect("message").await["content"]["number"], number);
    }
    assert_eq!(client.expect_close().await, (3000, "shutdown".to_owned()));
    client.send_close(3000, "").await;
    shutdown.await.unwrap().unwrap();
    assert_eq!((hub.stats().connections, hub.is_ready()), (0, false));
    eventually("the server does not listen any more", || {
        std::net::TcpStream::connect(server.address()).is_err()
    })
    .await;
}

#[tokio::test]
async fn shutdown_waits_no_longer_than_its_timeout() {
    let server = TestServer::start(Hub::new(), user_handler());
    let client = server.connect("/").await;
    let began = Instant::now();
    server.hub().shutdown(Duration::from_millis(200)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2));
    wait_for_connections(server.hub(), 0).await;
    drop(client);
}
