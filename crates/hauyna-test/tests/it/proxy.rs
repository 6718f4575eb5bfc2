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

async fn says(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
}

async fn hears(stream: &mut TcpStream, bytes: &[u8]) {
    let mut heard = vec![0; bytes.len()];
    timeout(TIMEOUT, stream.read_exact(&mut heard)).await.expect("the bytes arrive in time").unwrap();
    assert_eq!(heard, bytes);
}

/// Checks that nothing arrives for a moment.
async fn hears_nothing(stream: &mut TcpStream) {
    let read = timeout(MOMENT, stream.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}

async fn is_reset(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.expect("the stream ends in time");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

async fn is_ended(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.expect("the stream ends in time").unwrap();
}

#[tokio::test]
async fn what_is_not_disturbed_passes_whole_and_ends_as_it_would_without() {
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
    says(&mut server, b"still here").await;
    hears(&mut client, b"still here").await;
    drop(server);
    is_ended(&mut client).await;
    assert_eq!((proxy.faults().links, proxy.faults().cuts), (1, 0));
}

#[tokio::test]
async fn a_cut_is_a_reset_or_an_end_to_both_sides_and_to_nobody_else() {
    for cut in [Cut::Reset, Cut::Fin] {
        let (proxy, listener) = proxied().await;
        let (mut client, mut server) = through(&proxy, &listener).await;
        let (mut other, mut other_server) = through(&proxy, &listener).await;
        // Bytes that unreachable reads must not turn an end into a reset.
        says(&mut client, b"lost?").await;
        hears(&mut server, b"lost?").await;
        proxy.link_of(client.local_addr().unwrap()).unwrap().cut(cut);
        for end in [&mut client, &mut server] {
            match cut {
                Cut::Reset => is_reset(end).await,
                Cut::Fin => is_ended(end).await,
            }
        }
        says(&mut other, b"unharmed").await;
        hears(&mut other_server, b"unharmed").await;
        proxy.cut_all(cut);
        assert!(matches!(timeout(TIMEOUT, other_server.read(&mut [0])).await, Ok(Ok(0) | Err(_))));
        assert_eq!(proxy.faults().cuts, 2);
        assert!(proxy.links().is_empty());
    }
}

#[tokio::test]
async fn a_connection_is_cut_after_exactly_so_many_bytes() {
    let (proxy, listener) = proxied().await;
    proxy.set_next(Behaviour::new().cut_after(Direction::Down, 10, Cut::Fin));
    let (mut client, mut server) = through(&proxy, &listener).await;
    says(&mut client, b"up is not counted").await;
    hears(&mut server, b"up is not counted").await;
    says(&mut server, b"0123").await;
    hears(&mut client, b"0123").await;
    says(&mut server, b"456789 and more").await;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"456789");
}

#[tokio::test]
async fn a_stalled_direction_keeps_everything_and_gives_it_when_it_goes_on() {
    let (proxy, listener) = proxied().await;
    let (mut client, mut server) = through(&proxy, &listener).await;
    proxy.set_all(Behaviour::new().stall(Direction::Up));
    says(&mut client, b"held").await;
    hears_nothing(&mut server).await;
    says(&mut server, b"down").await;
    hears(&mut client, b"down").await;
    // The end of the stream is not forwarded either.
    client.shutdown().await.unwrap();
    hears_nothing(&mut server).await;
    proxy.set_all(Behaviour::new());
    hears(&mut server, b"held").await;
    is_ended(&mut server).await;
}

#[tokio::test]
async fn slices_arrive_in_order_and_delays_are_kept() {
    let (proxy, listener) = proxied().await;
    let (mut client, mut server) = through(&proxy, &listener).await;
    proxy.set_all(Behaviour::new().slice(3));
    let text = "sliced into threes ".repeat(200);
    says(&mut client, text.as_bytes()).await;
    hears(&mut server, text.as_bytes()).await;
    let latency = Duration::from_millis(60);
    proxy.set_all(Behaviour::new().delay(latency, Duration::from_millis(20)));
    let began = Instant::now();
    for number in 0..50 {
        says(&mut client, &[number]).await;
    }
    hears(&mut server, &(0..50).collect::<Vec<u8>>()).await;
    // All bytes are in transit at once, and none arrives too early.
    let took = began.elapsed();
    assert!(took >= latency && took < latency * 20, "{took:?}");
}

#[tokio::test]
async fn a_proxy_that_refuses_resets_new_connections_and_keeps_the_old_ones() {
    let (proxy, listener) = proxied().await;
    let (mut client, mut server) = through(&proxy, &listener).await;
    proxy.refuse();
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    is_reset(&mut refused).await;
    says(&mut client, b"old").await;
    hears(&mut server, b"old").await;
    proxy.admit();
    through(&proxy, &listener).await;
    assert_eq!((proxy.faults().links, proxy.faults().refused), (2, 1));
}

#[tokio::test]
async fn a_target_that_is_not_there_is_a_reset_until_another_one_is_set() {
    let (proxy, listener) = proxied().await;
    let unreachable: SocketAddr = "127.0.0.1:1".parse().unwrap();
    proxy.set_target(unreachable);
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    is_reset(&mut client).await;
    proxy.set_target(listener.local_addr().unwrap());
    let (mut client, mut server) = through(&proxy, &listener).await;
    says(&mut client, b"moved").await;
    hears(&mut server, b"moved").await;
}

#[tokio::test]
async fn a_schedule_strikes_until_the_proxy_rests() {
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
        says(&mut client, &[byte]).await;
        hears(&mut client, &[byte]).await;
    }
    assert_eq!((proxy.faults().cuts, proxy.faults().disturbed), (before.cuts, before.disturbed));
    echo.abort();
}

const TIMEOUT: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(50);
