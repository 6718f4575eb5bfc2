//! What an idle connection costs, and a session that waits. A binary of its own: it counts every allocation
//! of the process. The clients are bare sockets of the standard library, which hold nothing on the heap.

use hauyna::{ChannelOptions, Context, Handler, Hub, Presence, json};
use hauyna_test::TestServer;
use hauyna_test::alloc::{COUNTING, Counting, live_bytes};
use hauyna_websocket::OpCode;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting = COUNTING;

/// Whoever counts is alone.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Connects by hand and subscribes; returns when the answer is there.
fn subscribed(address: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let request = format!(
        "GET /?user=user-{number} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut bytes = request.into_bytes();
    let subscribe = br#"{"type":"subscribe_channel","id":1,"channel":"general"}"#;
    hauyna_websocket::encode_into(&mut bytes, hauyna_websocket::OpCode::Text, subscribe, Some([1, 2, 3, 4]));
    stream.write_all(&bytes)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.ends_with(b"}}") {
        let read = stream.read(&mut buffer)?;
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..read]);
    }
    Ok(stream)
}

fn connect(address: SocketAddr, numbers: std::ops::Range<usize>) -> io::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(numbers.len());
    for number in numbers {
        streams.push(subscribed(address, number)?);
    }
    Ok(streams)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heap_per_idle_subscribed_connection_is_small() {
    let _alone = ALONE.lock().await;
    const CONNECTIONS: usize = 4_000;
    let hub = Hub::builder().channels("general", ChannelOptions::new()).build();
    let handler =
        Handler::new().identify(|request| request.query("user").ok_or(hauyna::Reject::denied("who?")));
    let server = TestServer::start(hub.clone(), handler);
    let address = server.address();
    // Buffers of threads, pools and the first tables are there before it counts.
    let warm = tokio::task::spawn_blocking(move || connect(address, 0..200)).await.unwrap().unwrap();
    hub.channel("general").broadcast("warm").await.unwrap();
    let before = live_bytes();
    let crowd =
        tokio::task::spawn_blocking(move || connect(address, 200..200 + CONNECTIONS)).await.unwrap().unwrap();
    assert_eq!(hub.stats().subscriptions as usize, 200 + CONNECTIONS);
    let own = crowd.capacity() * size_of::<TcpStream>();
    let bytes = (live_bytes() - before - own) / CONNECTIONS;
    println!("{bytes} bytes of heap per idle subscribed connection");
    assert!(bytes <= 1536, "{bytes} bytes per connection");
    drop((warm, crowd));
}

/// Connects by hand as a client that has a session, sends requests, and returns when the last one is
/// answered.
fn with_session(address: SocketAddr, user: &str, requests: &[String]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let request = format!(
        "GET /?user={user} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Protocol: hauyna.v1.json\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut bytes = request.into_bytes();
    for request in requests.iter().map(String::as_str).chain([r#"{"type":"ping","id":"the last"}"#]) {
        hauyna_websocket::encode_into(&mut bytes, OpCode::Text, request.as_bytes(), Some([1, 2, 3, 4]));
    }
    stream.write_all(&bytes)?;
    let last = br#"{"type":"pong","id":"the last"}"#;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // A message of another client's may follow the last answer in the same read.
    while !answer.windows(last.len()).any(|part| part == last) {
        answer.drain(..answer.len().saturating_sub(256));
        let read = stream.read(&mut buffer)?;
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..read]);
    }
    Ok(stream)
}

/// The live bytes once they have stayed the same for a while: what an earlier hub still frees must not be
/// counted here.
async fn settled_bytes() -> usize {
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    let (mut bytes, mut unchanged) = (live_bytes(), 0);
    let settled = async {
        while unchanged < 20 {
            looks.tick().await;
            let now = live_bytes();
            unchanged = if now == bytes { unchanged + 1 } else { 0 };
            bytes = now;
        }
    };
    // Whether it settles decides about nothing but the precision.
    let _ = tokio::time::timeout(Duration::from_secs(10), settled).await;
    bytes
}

/// Loses clients that have asked for all of this; returns the bytes that are held for each, and what the hub
/// says of it.
async fn heap_of_lost(
    hub: &Hub,
    address: SocketAddr,
    requests: impl Fn(usize) -> Vec<String>,
) -> (usize, usize) {
    const CLIENTS: usize = 200;
    let lose = async |range: std::ops::Range<usize>| {
        let requests: Vec<_> = range.clone().map(&requests).collect();
        let waiting = hub.stats().sessions + range.len();
        let clients = tokio::task::spawn_blocking(move || {
            for (number, requests) in range.zip(requests) {
                drop(with_session(address, &format!("user-{number}"), &requests).expect("a client"));
            }
        });
        clients.await.expect("all clients");
        let mut looks = tokio::time::interval(Duration::from_millis(1));
        let lost = async {
            while hub.stats().sessions != waiting {
                looks.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), lost).await.expect("all are lost");
    };
    lose(0..50).await;
    let (before, told) = (settled_bytes().await, hub.stats().memory.sessions);
    lose(50..50 + CLIENTS).await;
    let held = settled_bytes().await.saturating_sub(before) / CLIENTS;
    (held, (hub.stats().memory.sessions - told) / CLIENTS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_wait_are_weighed_as_what_they_are() {
    let _alone = ALONE.lock().await;
    let many = |count: usize, pattern: &'static str| {
        move |client: usize| {
            let one = |number: usize| {
                let channel = pattern.replace("{c}", &client.to_string()).replace("{n}", &number.to_string());
                let metadata = if pattern.starts_with("told") { "x".repeat(400) } else { String::new() };
                format!(
                    r#"{{"type":"subscribe_channel","channel":"{channel}","metadata":{{"text":"{metadata}"}}}}"#
                )
            };
            (0..count).map(one).collect::<Vec<_>>()
        }
    };
    type Requests = Box<dyn Fn(usize) -> Vec<String>>;
    let kinds: [(&str, Requests); 7] = [
        ("nothing", Box::new(|_| Vec::new())),
        ("128 plain channels", Box::new(many(128, "plain:{c}-{n}"))),
        ("60 channels with metadata", Box::new(many(60, "told:{c}-{n}"))),
        ("128 rooms of their own", Box::new(many(128, "room:{c}-{n}"))),
        ("128 rooms with everybody", Box::new(many(128, "room:all-{n}"))),
        ("values", Box::new(|_| vec![r#"{"type":"attach","id":1}"#.to_owned()])),
        ("presence over the hub", Box::new(|_| vec![r#"{"type":"track","id":1}"#.to_owned()])),
    ];
    for (what, requests) in kinds {
        let hub = Hub::builder()
            .channels(
                "room:{id}",
                ChannelOptions::new().no_history().presence(Presence::each().each_up_to(1).list_up_to(1)),
            )
            .channels("{*any}", ChannelOptions::new().no_history())
            .build();
        let handler = Handler::new()
            .identify(|request| Ok(request.query("user")))
            .rate_limit(hauyna::handler::RateLimit::new().messages(hauyna::Rate::per_second(100_000)))
            .on("attach", async |cx: Context, _: Value| {
                cx.connection().with_extensions(|all| {
                    all.insert([0_u8; 5000]);
                    all.insert("x".repeat(5000));
                    all.insert(vec![0_u8; 5000]);
                });
                Ok(())
            })
            .on("track", async |cx: Context, _: Value| {
                cx.presence().track(json!({ "text": "x".repeat(1000) })).await
            });
        let server = TestServer::start(hub.clone(), handler);
        let (held, told) = heap_of_lost(&hub, server.address(), requests).await;
        println!("{what}: {held} bytes are held, {told} are told");
        let ratio = told as f64 / held as f64;
        assert!((0.75..=1.5).contains(&ratio), "{what}: {held} bytes are held, {told} are told");
    }
}
