//! What an idle connection costs. A binary of its own: it counts every allocation of the process. The
//! clients are bare sockets of the standard library, which hold nothing on the heap.

use hauyna::{Channels, Handler, Hub};
use hauyna_test::TestServer;
use hauyna_test::alloc::{COUNTING, Counting, live_bytes};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting = COUNTING;

/// Connects by hand and subscribes; returns when the answer is there.
fn subscribed(address: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
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
    const CONNECTIONS: usize = 4_000;
    let hub = Hub::builder().channels("general", Channels::new()).build();
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
