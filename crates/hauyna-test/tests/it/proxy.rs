//! The fault proxy: what both ends see of each fault.

use hauyna_test::{Behaviour, Cut, Direction, Fault, FaultProxy, Schedule};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// Returns a proxy in front of a listener; the test accepts the connections itself.
async fn proxied() -> (FaultProxy, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = FaultProxy::start(listener.local_addr().unwrap()).await;
    (proxy, listener)
}

/// Returns both ends of a new connection through the proxy.
async fn through(proxy: &FaultProxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    client.set_nodelay(true).unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let address = client.local_addr().unwrap();
    while proxy.link_of(address).is_none() {
        tokio::task::yield_now().await;
    }
    (client, server)
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
}

async fn expect_bytes(stream: &mut TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    timeout(TIMEOUT, stream.read_exact(&mut received)).await.expect("the bytes arrive in time").unwrap();
    assert_eq!(received, bytes);
}

/// Checks that nothing arrives for a moment.
async fn expect_no_bytes(stream: &mut TcpStream) {
    let read = timeout(MOMENT, stream.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}

async fn expect_reset(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.expect("the stream ends in time");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

async fn expect_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.expect("the stream ends in time").unwrap();
}

#[tokio::test]
async fn undisturbed_connections_pass_unchanged() {
    let (proxy, listener) = proxied().await;
    let (mut client, mut server) = through(&proxy, &listener).await;
    let long = vec![7; 3 << 20];
    let (sent, mut received) = (long.clone(), Vec::new());
    let sending = tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        client
    });
    server.read_to_end(&mut received).await.unwrap();
    assert!(received == long, "{} of {} bytes", received.len(), long.len());
    let mut client = sending.await.unwrap();
    // One direction has ended, the other continues.
    send(&mut server, b"still here").await;
    expect_bytes(&mut client, b"still here").await;
    drop(server);
    expect_end(&mut client).await;
    assert_eq!((proxy.faults().links, proxy.faults().cuts), (1, 0));
}

#[tokio::test]
async fn cut_resets_or_ends_both_sides_of_one_connection() {
    for cut in [Cut::Reset, Cut::Fin] {
        let (proxy, listener) = proxied().await;
        let (mut client, mut server) = through(&proxy, &listener).await;
        let (mut other, mut other_server) = through(&proxy, &listener).await;
        // Bytes that unreachable reads must not turn an end into a reset.
        send(&mut client, b"lost?").await;
        expect_bytes(&mut server, b"lost?").await;
        proxy.link_of(client.local_addr().unwrap()).unwrap().cut(cut);
        for end in [&mut client, &mut server] {
            match cut {
                Cut::Reset => expect_reset(end).await,
                Cut::Fin => expect_end(end).await,
            }
        }
        send(&mut other, b"unharmed").await;
        expect_bytes(&mut other_server, b"unharmed").await;
        proxy.cut_all(cut);
        assert!(matches!(timeout(TIMEOUT, other_server.read(&mut [0])).await, Ok(Ok(0) | Err(_))));
        assert_eq!(proxy.faults().cuts, 2);
        assert!(proxy.links().is_empty());
    }
}

#[tokio::test]
async fn connection_is_cut_after_an_exact_number_of_bytes() {
    let (proxy, listener) = proxied().await;
    proxy.set_next(Behaviour::new().cut_after(Direction::Down, 10, Cut::Fin));
    let (mut client, mut server) = through(&proxy, &listener).await;
    send(&mut client, b"up is not counted").await;
    expect_bytes(&mut server, b"up is not counted").await;
    send(&mut server, b"0123").await;
    expect_bytes(&mut client, b"0123").await;
    send(&mut server, b"456789 and more").await;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"456789");
}

#[tokio::test]
async fn stalled_direction_keeps_all_bytes_until_it_continues() {
    let (proxy, listener) = proxied().await;
    let (mut client, mut server) = through(&proxy, &listener).await;
    proxy.set_all(Behaviour::new().stall(Direction::Up));
    send(&mut client, b"held").await;
    expect_no_bytes(&mut server).await;
    send(&mut server, b"down").await;
    expect_bytes(&mut client, b"down").await;
    // The end of the stream is not forwarded either.
    client.shutdown().await.unwrap();
    expect_no_bytes(&mut server).await;
    proxy.set_all(Behaviour::new());
    expect_bytes(&mut server, b"held").await;
    expect_end(&mut server).await;
}

#[tokio::test]
async fn slices_arrive_in_order_after_their_delay() {
    let (proxy, listener) = proxied().await;
    let (mut client, mut server) = through(&proxy, &listener).await;
    proxy.set_all(Behaviour::new().slice(3));
    let text = "sliced into threes ".repeat(200);
    send(&mut client, text.as_bytes()).await;
    expect_bytes(&mut server, text.as_bytes()).await;
    let latency = Duration::from_millis(60);
    proxy.set_all(Behaviour::new().delay(latency, Duration::from_millis(20)));
    let began = Instant::now();
    for number in 0..50 {
        send(&mut client, &[number]).await;
    }
    expect_bytes(&mut server, &(0..50).collect::<Vec<u8>>()).await;
    // All bytes are in transit at once, and none arrives too early.
    let took = began.elapsed();
    assert!(took >= latency && took < latency * 20, "{took:?}");
}

#[tokio::test]
async fn refusing_proxy_resets_new_connections_and_keeps_old_ones() {
    let (proxy, listener) = proxied().await;
    let (mut client, mut server) = through(&proxy, &listener).await;
    proxy.refuse();
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    expect_reset(&mut refused).await;
    send(&mut client, b"old").await;
    expect_bytes(&mut server, b"old").await;
    proxy.admit();
    through(&proxy, &listener).await;
    assert_eq!((proxy.faults().links, proxy.faults().refused), (2, 1));
}

#[tokio::test]
async fn missing_target_resets_connections_until_another_is_set() {
    let (proxy, listener) = proxied().await;
    let unreachable: SocketAddr = "127.0.0.1:1".parse().unwrap();
    proxy.set_target(unreachable);
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    expect_reset(&mut client).await;
    proxy.set_target(listener.local_addr().unwrap());
    let (mut client, mut server) = through(&proxy, &listener).await;
    send(&mut client, b"moved").await;
    expect_bytes(&mut server, b"moved").await;
}

#[tokio::test]
async fn schedule_disturbs_connections_until_the_proxy_stops_it() {
    let (proxy, listener) = proxied().await;
    let echo = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let faults = [Fault::Cut(Cut::Reset), Fault::Behaviour(Behaviour::new().stall_both())];
    let schedule = Schedule::new(7).faults(faults).every(Duration::from_millis(2));
    proxy.follow(schedule.duration(Duration::from_millis(5)));
    let mut echoed = 0_u8;
    // A client that reconnects after each cut gets through in the end.
    while proxy.faults().cuts < 5 || proxy.faults().disturbed < 5 {
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        while client.write_all(&[echoed]).await.is_ok() && client.read_u8().await.is_ok() {
            echoed = echoed.wrapping_add(1);
        }
    }
    proxy.undisturbed();
    let before = proxy.faults();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    for byte in 0..200 {
        send(&mut client, &[byte]).await;
        expect_bytes(&mut client, &[byte]).await;
    }
    assert_eq!((proxy.faults().cuts, proxy.faults().disturbed), (before.cuts, before.disturbed));
    echo.abort();
}

const TIMEOUT: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(50);
