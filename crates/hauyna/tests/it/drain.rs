//! The drain of a hub: messages to the clients, the time of each close, and what still works meanwhile. The
//! drain ends whatever clients, callbacks and callers do.

use crate::support::{eventually, open_hub, registered, serve, subscriber, user_handler};
use hauyna::events::SystemEvent;
use hauyna::inspect::Readiness;
use hauyna::{CloseReason, Context, Drain, ErrorType, Handler, Hub, Router, json};
use hauyna_test::{Client, Frame, TestServer};
use parking_lot::Mutex;
use serde_json::Value;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads up to the close frame and answers it. Returns its code and reason.
async fn wait_until_closed(client: &mut Client) -> (u16, String) {
    let close = client.expect_close().await;
    client.send_close(close.0, "").await;
    close
}

fn drained() -> (u16, String) {
    (3001, "drain".to_owned())
}

fn draining(hub: &Hub, drain: Drain) -> tokio::task::JoinHandle<()> {
    let hub = hub.clone();
    tokio::spawn(async move { hub.drain(drain).await.unwrap() })
}

#[tokio::test(start_paused = true)]
async fn drain_notifies_all_at_once_and_closes_evenly_in_random_order() {
    let (hub, handler) = (Hub::new(), user_handler().share());
    let began = Instant::now();
    let (sender, mut closed) = mpsc::channel(500);
    for number in 0..500 {
        let (mut client, _) = registered(&hub, "u", &handler).await;
        let sender = sender.clone();
        tokio::spawn(async move {
            let reconnect = client.expect("reconnect").await;
            assert_eq!((&reconnect["after"], &reconnect["reason"]), (&json!([0, 10_000]), &json!("drain")));
            assert_eq!(
                began.elapsed().as_millis(),
                0,
                "all clients are notified before the first one closes"
            );
            assert_eq!(wait_until_closed(&mut client).await, drained());
            sender.send((number, began.elapsed().as_millis())).await.unwrap();
        });
    }
    hub.drain(Drain::over(Duration::from_secs(10))).await.unwrap();
    assert!(began.elapsed() <= Duration::from_millis(10_010), "{:?}", began.elapsed());
    let (mut seconds, mut order) = ([0; 10], Vec::new());
    for _ in 0..500 {
        let (number, millis) = closed.recv().await.unwrap();
        seconds[(millis / 1000).min(9) as usize] += 1;
        order.push(number);
    }
    assert!(seconds.iter().all(|count| (45..=55).contains(count)), "{seconds:?}");
    let in_order = order.windows(2).filter(|two| two[0] < two[1]).count();
    assert!((180..320).contains(&in_order), "{in_order} of 499 pairs in the order of opening");
    assert_eq!(hub.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn running_callbacks_answer_before_their_connections_close() {
    let handler = user_handler().on("work", async |_: Context, seconds: Value| {
        let _ = timeout(Duration::from_secs(seconds["for"].as_u64().unwrap()), pending::<()>()).await;
        Ok("done")
    });
    let (hub, handler) = (Hub::new(), handler.share());
    let mut clients = Vec::new();
    for number in 0..21 {
        let (mut client, _) = registered(&hub, "u", &handler).await;
        let seconds = if number == 20 { 100 } else { 9 };
        client.send(json!({ "type": "work", "id": 1, "for": seconds })).await;
        // Read together with the previous request, and answered after it.
        client.send(json!({ "type": "ping", "id": 2 })).await;
        clients.push(client);
    }
    let began = Instant::now();
    let end = draining(&hub, Drain::over(Duration::from_secs(10)));
    let mut endless = clients.pop().unwrap();
    for mut client in clients {
        client.expect("reconnect").await;
        let ack = client.expect("ack").await;
        assert_eq!((&ack["id"], &ack["data"]), (&json!(1), &json!("done")));
        assert_eq!(client.expect("pong").await["id"], 2);
        assert_eq!(wait_until_closed(&mut client).await, drained());
    }
    endless.expect("reconnect").await;
    assert_eq!(
        endless.next_frame().await,
        Frame::Close(Some(drained())),
        "the drain lasts as long as its window"
    );
    assert_eq!(began.elapsed().as_secs(), 10);
    endless.vanish();
    end.await.unwrap();
}

#[tokio::test]
async fn queued_messages_are_written_before_the_close() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut client = server.client("/").receive_buffer(4096).connect().await;
    client.subscribe("x").await;
    let padding = "x".repeat(10_000);
    for number in 0..20 {
        hub.channel("x").broadcast(json!({ "number": number, "padding": padding })).await.unwrap();
    }
    eventually("the shard has all messages", || hub.stats().delivered == 20).await;
    let end = draining(&hub, Drain::over(Duration::from_millis(50)).silent());
    for number in 0..20 {
        assert_eq!(client.expect("message").await["content"]["number"], number);
    }
    assert_eq!(wait_until_closed(&mut client).await, drained());
    end.await.unwrap();
    eventually("the server does not listen any more", || {
        std::net::TcpStream::connect(server.address()).is_err()
    })
    .await;
}

#[tokio::test]
async fn draining_hub_refuses_new_connections_and_serves_existing_ones() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut client = subscriber(&server, "ann", "x").await;
    assert_eq!(hub.readiness(), Readiness::Ready);
    let end = draining(&hub, Drain::over(DAY).reason("deploy"));
    assert_eq!(client.expect("reconnect").await["reason"], "deploy");
    assert_eq!((hub.readiness(), hub.is_ready(), hub.is_stopping()), (Readiness::Draining, false, true));
    let refused = server.client("/").try_connect().await.unwrap_err();
    assert_eq!((refused.status.as_u16(), &refused.json()["error_type"]), (503, &json!("unavailable")));
    assert!(refused.head.to_lowercase().contains("\r\nretry-after: "), "{}", refused.head);
    let (socket, _peer) = tokio::io::duplex(1024);
    let refused = hub.connections().register(socket, "bob", &user_handler().share()).unwrap_err();
    assert_eq!(refused.error_type(), ErrorType::Unavailable);
    hub.channel("x").broadcast("still").await.unwrap();
    assert_eq!(client.expect("message").await["content"], "still");
    let publish = json!({ "type": "channel_message", "channel": "x", "content": "here" });
    client.request(publish).await.unwrap();
    // A client that disconnects by itself is not closed, and a drain without clients ends at once.
    client.close(1000, "").await;
    end.await.unwrap();
    assert_eq!(hub.readiness(), Readiness::Stopped);
    eventually("the server does not listen any more", || {
        std::net::TcpStream::connect(server.address()).is_err()
    })
    .await;
}

#[tokio::test]
async fn drain_continues_without_its_caller_and_a_second_one_waits() {
    let hub = Hub::new();
    let server = serve(&hub);
    let mut client = server.connect("/").await;
    let first = draining(&hub, Drain::over(DAY));
    client.expect("reconnect").await;
    first.abort();
    let mut second = draining(&hub, Drain::over(Duration::ZERO));
    client.expect_nothing().await;
    assert!(timeout(Duration::from_millis(50), &mut second).await.is_err(), "the first window applies");
    client.close(1000, "").await;
    second.await.unwrap();
    hub.drain(Drain::default()).await.unwrap();
}

#[tokio::test]
async fn another_caller_continues_the_drain_of_an_ended_runtime() {
    let hub = Hub::new();
    let server = serve(&hub);
    let mut client = server.connect("/").await;
    let other = hub.clone();
    let brief = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(Duration::from_millis(200), other.drain(Drain::over(DAY))).await })
    });
    client.expect("reconnect").await;
    assert!(tokio::task::spawn_blocking(|| brief.join().unwrap()).await.unwrap().is_err());
    let end = draining(&hub, Drain::default());
    let again = client.expect("reconnect").await;
    assert!(again["after"][1].as_u64().unwrap() > 80_000_000, "rest of the first window: {again}");
    client.close(1000, "").await;
    timeout(Duration::from_secs(5), end).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_cuts_a_drain_short() {
    let hub = Hub::new();
    let server = serve(&hub);
    let mut client = server.connect("/").await;
    let end = draining(&hub, Drain::over(DAY));
    client.expect("reconnect").await;
    let stopping = hub.clone();
    let shutdown = tokio::spawn(async move { stopping.shutdown(Duration::from_secs(10)).await });
    assert_eq!(wait_until_closed(&mut client).await.0, 3000);
    shutdown.await.unwrap().unwrap();
    end.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silent_clients_are_cut_five_seconds_after_the_window() {
    let (hub, reasons) = (Hub::new(), Arc::new(Mutex::new(Vec::new())));
    let notes = reasons.clone();
    hub.events().on_system([hauyna::events::SystemKind::Closed], move |_, event| {
        if let SystemEvent::Closed { reason, .. } = event {
            notes.lock().push(reason);
        }
        async { Ok(()) }
    });
    let (mut client, _) = registered(&hub, "u", &user_handler().share()).await;
    let began = Instant::now();
    hub.drain(Drain::over(Duration::from_secs(3))).await.unwrap();
    let took = began.elapsed();
    assert!((5..=8).contains(&took.as_secs()) && took <= Duration::from_secs(8), "{took:?}");
    assert_eq!(hub.stats().connections, 0);
    assert_eq!(client.expect_close().await, drained());
    eventually("listeners got the event", || !reasons.lock().is_empty()).await;
    assert_eq!(*reasons.lock(), [CloseReason::Drain]);
}

#[tokio::test(start_paused = true)]
async fn silent_drain_notifies_nobody_and_echo_connections_only_close() {
    let window = Duration::from_secs(10);
    for (handler, drain) in
        [(user_handler(), Drain::over(window).silent()), (Handler::echo(), Drain::over(window))]
    {
        let hub = Hub::new();
        let (mut client, _) = registered(&hub, "u", &handler.share()).await;
        let end = draining(&hub, drain);
        assert_eq!(client.next_frame().await, Frame::Close(Some(drained())));
        client.send_close(3001, "").await;
        end.await.unwrap();
    }
}

#[tokio::test]
async fn handshake_in_progress_when_the_drain_begins_closes_with_3001() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (asked, released) = (begun.clone(), go_on.clone());
    let slow = Handler::new().identify(move |_| {
        let (asked, released) = (asked.clone(), released.clone());
        async move {
            asked.notify_one();
            released.notified().await;
            Ok("late".to_owned())
        }
    });
    let hub = Hub::new();
    let server = TestServer::route(hub.clone(), |router| {
        router.websocket("/", user_handler()).websocket("/slow", slow)
    });
    let mut early = server.connect("/").await;
    let late = server.client("/slow");
    let late = tokio::spawn(async move { late.connect().await });
    begun.notified().await;
    let end = draining(&hub, Drain::over(DAY));
    early.expect("reconnect").await;
    go_on.notify_one();
    assert_eq!(wait_until_closed(&mut late.await.unwrap()).await, drained());
    early.close(1000, "").await;
    end.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_reaches_the_connections_of_every_runtime() {
    let hub = open_hub().shards(4).build();
    let server = Router::new(hub.clone()).websocket("/", user_handler()).into_server();
    let (sender, ready) = tokio::sync::oneshot::channel();
    let serving = tokio::task::spawn_blocking(move || {
        server.serve_per_core("127.0.0.1:0".parse().unwrap(), 4, |address| sender.send(address).unwrap())
    });
    let url = format!("ws://{}/", ready.await.unwrap());
    let mut clients = Vec::new();
    for _ in 0..64 {
        let mut client = Client::connect(&url).await;
        client.subscribe("x").await;
        clients.push(tokio::spawn(async move {
            let latest = client.expect("reconnect").await["after"][1].as_u64().unwrap();
            assert!((300..=500).contains(&latest), "rest of the window: {latest}");
            wait_until_closed(&mut client).await
        }));
    }
    let began = Instant::now();
    hub.drain(Drain::over(Duration::from_millis(500))).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for client in clients {
        assert_eq!(client.await.unwrap(), drained());
    }
    serving.await.unwrap().unwrap();
    assert_eq!(hub.stats().connections, 0);
}
