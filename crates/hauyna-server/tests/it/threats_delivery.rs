//! Threats in delivery and time, rows 49 to 53 of `SECURITY.md`. Tests that need their own handler, policy or
//! deadline run the library in this process, over the same sockets.

use crate::common::{
    CLOSE, Client, PING, PONG, Server, TEXT, TIMEOUT, eventually, frame, header, measured,
    raise_descriptor_limit, raw_frame,
};
use hauyna::broker::{LocalBroker, LocalBrokerOptions};
use hauyna::channel::ClientEvents;
use hauyna::{
    ChannelOptions, CloseReason, Context, Handler, Heartbeat, HistoryRange, Hub, Reject, Router, SlowConsumer,
};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A server in this process with one route, `/`. Dropping it ends the server.
struct Local {
    hub: Hub,
    address: SocketAddr,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Local {
    fn start(hub: Hub, handler: Handler) -> Self {
        raise_descriptor_limit();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let handler = handler.identify(|request| request.query("user").ok_or(Reject::unauthorized("who?")));
        let server = Router::new(hub.clone()).websocket("/", handler).into_server();
        let stopped = hub.clone();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                server.serve_listener(listener).await.unwrap();
                stopped.shutdown(Duration::from_secs(1)).await.unwrap(); // its connections live on this runtime
            });
        });
        Self { hub, address, thread: Some(thread) }
    }

    fn open(&self, user: &str) -> Client {
        Client::open(self.address, &format!("/?user={user}"), "")
    }

    /// Connects a client with a small receive buffer.
    fn open_narrow(&self, user: &str) -> Client {
        let mut client = narrow(self.address);
        client.send(crate::common::upgrade(&format!("/?user={user}"), "").as_bytes());
        client.upgraded();
        client
    }

    fn publish(&self, channel: &str, content: &Value) {
        runtime().block_on(async { self.hub.channel(channel).broadcast(content).await }).unwrap();
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let hub = self.hub.clone();
        runtime().block_on(hub.shutdown(Duration::from_secs(2))).unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn narrow(address: SocketAddr) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    Client::of(stream)
}

#[test]
fn row_49_a_slow_handler_delays_its_own_connection_alone_and_keeps_its_order() {
    let gate = Arc::new(Semaphore::new(0));
    let handler = Handler::new().state(gate.clone()).on("slow", |cx: Context, _: Value| async move {
        cx.state::<Arc<Semaphore>>().acquire().await.map_err(hauyna::Error::other)?.forget();
        Ok(())
    });
    let server = Local::start(Hub::new(), handler);
    let (mut waiting, mut other) = (server.open("a"), server.open("b"));
    for (kind, id) in [("slow", 1), ("ping", 2), ("slow", 3), ("ping", 4)] {
        waiting.say(&json!({ "type": kind, "id": id }));
    }
    for id in 0..200 {
        assert_eq!(other.verdict(json!({ "type": "ping", "id": id })), "pong");
    }
    assert!(waiting.is_silent(Duration::from_millis(50)), "nothing overtakes a request that is not answered");
    gate.add_permits(2);
    let answers = [(); 4].map(|()| waiting.frame().json()["id"].clone());
    assert_eq!(answers, [1, 2, 3, 4]);
}

#[test]
fn row_49_a_handler_that_never_ends_is_a_timeout_of_its_request() {
    let handler = Handler::new()
        .callback_timeout(Duration::from_millis(200))
        .on("never", |_: Context, _: Value| async { std::future::pending::<hauyna::Result>().await });
    let server = Local::start(Hub::new(), handler);
    let mut client = server.open("a");
    let start = Instant::now();
    assert_eq!(client.verdict(json!({ "type": "never", "id": 1 })), "timeout");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(client.verdict(json!({ "type": "ping", "id": 2 })), "pong");
}

#[test]
fn row_50_panics_of_callbacks_cost_one_request_or_one_connection() {
    let hub = Hub::builder()
        .channels(
            "panics",
            ChannelOptions::new().authorize_subscribe(|_, _| -> bool { panic!("in authorize") }),
        )
        .channels("{*any}", ChannelOptions::new())
        .build();
    let handler = Handler::new()
        .on("at once", |_: Context, _: Value| -> std::future::Ready<hauyna::Result> { panic!("at once") })
        .on("later", |_: Context, _: Value| async {
            tokio::task::yield_now().await;
            panic!("later");
            #[expect(unreachable_code, reason = "says what it would return")]
            hauyna::Result::<()>::Ok(())
        })
        .on_open(|cx: Context| async move {
            assert!(*cx.user() != "bad", "in on_open");
            Ok(())
        })
        .on_close(|cx: Context, _| async move {
            assert!(*cx.user() != "worse", "in on_close");
            Ok(())
        });
    let server = Local::start(hub.clone(), handler);
    let mut good = server.open("good");
    good.subscribe("c");
    let mut client = server.open("worse");
    client.subscribe("c");
    assert_eq!(client.verdict(json!({ "type": "later", "id": 1 })), "internal_error");
    client.say(&json!({ "type": "at once", "id": 2 }));
    let end = client.frame();
    assert!(end.opcode() == CLOSE || end.json()["error_type"] == "internal_error", "{end:?}");
    drop(client);
    assert_eq!(server.open("bad").closed_with(), 1011);
    let mut third = server.open("third");
    third.say(&json!({ "type": "subscribe_channel", "id": 3, "channel": "panics" }));
    let end = third.frame();
    assert!(end.opcode() == CLOSE || end.json()["error_type"] == "internal_error", "{end:?}");
    drop(third);
    eventually("the panicked are gone", TIMEOUT, || hub.connections().count() == 1);
    let publish = json!({ "type": "channel_message", "id": 1, "channel": "c", "content": "still here" });
    assert_eq!(good.verdict(publish), "ack");
    drop(good);
    eventually("all are gone", TIMEOUT, || hub.stats().connections == 0 && hub.stats().channels == 0);
    let stats = hub.stats();
    assert_eq!(stats.subscriptions, 0);
    assert!(stats.panics >= 3, "{}", stats.panics);
}

#[test]
fn row_36_at_the_end_no_channel_is_left_in_the_hub() {
    let hub = Hub::builder().channels("{*any}", ChannelOptions::new()).build();
    let server = Local::start(hub.clone(), Handler::new());
    let mut client = server.open("a");
    for n in 0..5000 {
        client.say(&json!({ "type": "subscribe_channel", "channel": format!("c{n}") }));
        client.say(&json!({ "type": "unsubscribe_channel", "channel": format!("c{}", n - n % 3) }));
        if n % 100 == 99 {
            // More than 128 at a time would be refused, which another test covers.
            drop(std::mem::replace(&mut client, server.open("a")));
        }
    }
    drop(client);
    eventually("the map is empty", TIMEOUT, || hub.stats().channels == 0 && hub.stats().subscriptions == 0);
}

#[test]
fn row_51_stalled_readers_are_cut_and_healthy_ones_get_everything() {
    const STALLED: usize = 50;
    let server = Server::start();
    let idle = server.settled_fds();
    let mut healthy: Vec<Client> = (0..10).map(|n| server.chat(&format!("healthy{n}"))).collect();
    healthy.iter_mut().for_each(|client| drop(client.subscribe("news")));
    let with_healthy = idle + healthy.len();
    let mut stalled: Vec<Client> = (0..STALLED)
        .map(|n| {
            let mut client = narrow(server.address);
            client.send(crate::common::upgrade(&format!("/chat?user_id=stalled{n}"), "").as_bytes());
            client.upgraded();
            client.subscribe("news");
            client
        })
        .collect();
    let rss = server.rss();
    let content = "n".repeat(8 * 1024);
    let mut slowest = Duration::ZERO;
    for offset in 1..=1000 {
        let start = Instant::now();
        healthy[0].say(&json!({ "type": "channel_message", "channel": "news", "content": content }));
        for client in &mut healthy {
            assert_eq!(client.message("message")["offset"], offset);
        }
        slowest = slowest.max(start.elapsed());
    }
    let grown = server.rss() - rss;
    assert!(slowest < Duration::from_secs(2), "the slowest of 1,000 took {slowest:?}");
    // 8 MiB were published. They are shared, and at most 256 KiB are held for the slowest. A release build
    // needs 2 MiB.
    let cut = eventually("the stalled are cut", Duration::from_secs(20), || server.fds() == with_healthy);
    measured(
        "50 stalled readers",
        format!("{grown} KiB, slowest round {slowest:?}, cut {cut:?} after the last"),
    );
    assert!(grown < 32 * 1024, "{grown} KiB");
    stalled.iter_mut().for_each(Client::ended);
    // One of them reconnects and learns that it has missed too much.
    let recover = json!({ "epoch": "AAAAAAAAAAA", "offset": 1 });
    let mut back = server.chat("stalled0");
    let request = json!({ "type": "subscribe_channel", "id": 1, "channel": "news", "recover": recover });
    assert_eq!(back.ask(request)["data"]["recovered"], false);
}

#[test]
fn sigterm_ends_the_program_in_time_whatever_its_clients_do() {
    let mut server = Server::start_with(&["--shards", "2", "--drain", "500ms"]);
    let mut stalled = narrow(server.address);
    stalled.send(crate::common::upgrade("/echo", "").as_bytes());
    stalled.upgraded();
    stalled.flood(&frame(TEXT, &[b'x'; 1 << 20]), 20);
    let (silent, mut begun, mut http) = (server.connect(), server.connect(), server.connect());
    begun.send(b"GET /chat HT");
    http.send(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut unfinished = server.echo();
    unfinished.send(&header(0x81, 1000));
    let mut healthy = server.chat("healthy");
    healthy.subscribe("c");
    let start = Instant::now();
    server.terminate();
    healthy.message("reconnect");
    let close = healthy.frame();
    assert!(close.opcode() == CLOSE && close.payload[..2] == 3001_u16.to_be_bytes(), "{close:?}");
    healthy.send(&frame(CLOSE, &close.payload));
    healthy.ended();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let mut code = None;
    eventually("it has ended", Duration::from_millis(6500).saturating_sub(start.elapsed()), || {
        code = server.exit_code();
        code.is_some()
    });
    measured("after SIGTERM", format!("ended after {:?}", start.elapsed()));
    assert_eq!(code, Some(0));
    drop((stalled, silent, begun, http, unfinished));
}

#[test]
fn row_51_a_slow_consumer_is_told_and_recovers_what_it_missed() {
    let options = ChannelOptions::new().history(1000, Duration::from_secs(60));
    let hub = Hub::builder().channels("{*any}", options).outbox(64 * 1024, 64).build();
    let server = Local::start(hub.clone(), Handler::new());
    let mut slow = server.open_narrow("slow");
    let epoch = slow.subscribe("c")["epoch"].clone();
    let mut top = 0;
    while hub.stats().slow_consumers == 0 {
        top += 1;
        assert!(top < 5000, "it is never slow");
        server.publish("c", &json!({ "n": top, "text": "x".repeat(4 * 1024) }));
    }
    let mut last = 0;
    loop {
        let frame = slow.frame();
        if frame.opcode() == CLOSE {
            assert_eq!(frame.payload[..2], 3008_u16.to_be_bytes());
            break;
        }
        let offset = frame.json()["offset"].as_u64().unwrap();
        assert_eq!(offset, last + 1);
        last = offset;
    }
    assert!(last < top, "it has missed nothing");
    let mut back = server.open("slow");
    let recover = json!({ "epoch": epoch, "offset": last });
    back.say(&json!({ "type": "subscribe_channel", "id": 1, "channel": "c", "recover": recover }));
    assert_eq!(back.frame().json()["data"]["recovered"], true);
    for offset in last + 1..=top {
        assert_eq!(back.message("message")["offset"], offset);
    }
}

#[test]
fn client_events_of_many_senders_wait_within_bounds_for_stalled_readers_and_close_none() {
    const STALLED: usize = 10;
    let events = (0..16).fold(ClientEvents::new(), |all, kind| all.event(&format!("e{kind}"), 1000));
    let channels = ChannelOptions::new().client_events(events);
    let hub = Hub::builder().channels("{*any}", channels).build();
    let server = Local::start(hub.clone(), Handler::new().write_timeout(Duration::from_secs(60)));
    let mut stalled: Vec<Client> = (0..STALLED).map(|n| server.open_narrow(&format!("stalled{n}"))).collect();
    let mut senders: Vec<Client> = (0..20).map(|n| server.open(&format!("sender{n}"))).collect();
    for client in stalled.iter_mut().chain(&mut senders) {
        client.subscribe("c");
    }
    let mut healthy = server.open("healthy");
    healthy.subscribe("c");
    let (mut sent, padding) = (0_u64, "x".repeat(4000));
    // There are 320 kinds of events; the latest of each kind together are 1.3 MB.
    let is_full = || {
        let dropped = hub.stats().client_events_dropped;
        dropped > 1000 * STALLED as u64
    };
    while !is_full() {
        assert!(sent < 50_000, "nobody is stalled");
        for (n, sender) in senders.iter_mut().enumerate() {
            let event = json!({ "type": "client_event", "channel": "c", "event": format!("e{}", sent % 16), "id": n, "data": padding });
            assert_eq!(sender.verdict(event), "ack");
            assert_eq!(healthy.message("client_event")["user"], format!("sender{n}"));
        }
        sent += 1;
    }
    for n in 0..STALLED {
        let waiting = hub.connections().of_user(format!("stalled{n}"))[0].backlog();
        assert!(waiting <= 64 * 1024 + 8192, "{waiting} bytes wait");
    }
    let stats = hub.stats();
    assert_eq!((stats.slow_consumers, stats.dropped, stats.connections), (0, 0, STALLED + 21));
}

#[test]
fn row_52_a_burst_beyond_the_outbox_is_a_gap_or_a_close_never_silence() {
    const BURST: u64 = 1000;
    for policy in [SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Conflate] {
        let options = ChannelOptions::new().slow_consumer(policy);
        let hub = Hub::builder().channels("{*any}", options).outbox(64 * 1024, 8).build();
        let server = Local::start(hub, Handler::new());
        let mut client = server.open_narrow("slow");
        let mut swift = server.open("swift");
        client.subscribe("c");
        swift.subscribe("c");
        for n in 1..=BURST {
            server.publish("c", &json!({ "n": n, "text": "x".repeat(16 * 1024) }));
            assert_eq!(swift.message("message")["offset"], n, "{policy:?}");
        }
        let (mut got, mut missed, mut last) = (0, 0, 0);
        while got + missed < BURST {
            let message = client.frame().json();
            let offset = message["offset"].as_u64().unwrap();
            match message["type"].as_str() {
                Some("gap") => missed += message["missed"].as_u64().unwrap(),
                _ => {
                    assert!(offset > last, "{policy:?}: {offset} after {last}");
                    (got, last) = (got + 1, offset);
                }
            }
        }
        assert_eq!(got + missed, BURST, "{policy:?}");
        assert!(missed > 0, "{policy:?}: it was never slow");
        assert!(
            policy == SlowConsumer::DropNewest || last == BURST,
            "{policy:?}: the latest is kept, not {last}"
        );
        server.publish("c", &json!({ "n": BURST + 1 }));
        assert_eq!(client.message("message")["offset"], BURST + 1, "{policy:?}: later publications arrive");
    }
}

#[test]
fn row_53_half_open_connections_are_gone_after_ping_and_pong_with_one_leave_each() {
    const DEAD: usize = 1_000;
    const INTERVAL: Duration = Duration::from_secs(1);
    const PONG_TIMEOUT: Duration = Duration::from_secs(1);
    let hub = Hub::builder().channels("c", ChannelOptions::new().announce_subscribers()).build();
    let closed = Arc::new(Mutex::new(Vec::new()));
    let reasons = closed.clone();
    let handler = Handler::new().heartbeat(Heartbeat::every(INTERVAL).timeout(PONG_TIMEOUT)).on_close(
        move |_, reason| {
            reasons.lock().unwrap().push(reason);
            async { Ok(()) }
        },
    );
    let server = Local::start(hub.clone(), handler);
    let mut watcher = server.open("watcher");
    watcher.subscribe("c");
    // The watcher reads while they connect: it must answer its pings, and the first leave before the last has
    // joined.
    let watching = std::thread::spawn(move || {
        let mut leaves = Vec::new();
        while leaves.len() < DEAD {
            let frame = watcher.frame();
            match frame.opcode() {
                PING => watcher.send(&crate::common::frame(PONG, &frame.payload)),
                _ if frame.json()["event"] == "subscription_removed" => {
                    leaves.push((frame.json()["user"].as_str().unwrap().to_owned(), Instant::now()));
                }
                _ => {}
            }
        }
        (watcher, leaves)
    });
    let mut fell_silent = HashMap::new();
    let mut dead: Vec<Client> = (0..DEAD)
        .map(|n| {
            let user = format!("dead{n}");
            let mut client = server.open(&user);
            client.say(&json!({ "type": "subscribe_channel", "channel": "c" }));
            fell_silent.insert(user, Instant::now());
            client
        })
        .collect();
    let (mut watcher, leaves) = watching.join().unwrap();
    let users: HashSet<&String> = leaves.iter().map(|(user, _)| user).collect();
    assert_eq!((users.len(), leaves.len()), (DEAD, DEAD), "one leave each");
    let lasted = leaves.iter().map(|(user, gone)| gone.duration_since(fell_silent[user]));
    let longest = lasted.max().unwrap();
    measured(&format!("{DEAD} half-open connections"), format!("each gone within {longest:?}"));
    assert!(longest < 2 * (INTERVAL + PONG_TIMEOUT), "{longest:?}"); // a second more on a machine with time for it
    assert_eq!(hub.stats().heartbeat_timeouts, DEAD as u64);
    eventually("on_close has run", TIMEOUT, || closed.lock().unwrap().len() == DEAD);
    assert!(closed.lock().unwrap().iter().all(|reason| *reason == CloseReason::Heartbeat));
    assert_eq!(dead[0].closed_with(), 3012, "a client that can still read gets the close code");
    assert_eq!(watcher.verdict(json!({ "type": "ping", "id": 1 })), "pong", "a client that answers stays");
}

#[test]
fn cve_2026_48779_a_message_without_end_is_closed_at_its_deadline() {
    let handler = Handler::new().read_timeout(Duration::from_millis(400));
    let server = Local::start(Hub::new(), handler);
    // Pairs of a start and what follows it: bytes of a frame, pings between fragments, bytes of a ping.
    let kinds = [
        (header(0x81, 60_000), b" ".to_vec()),
        (raw_frame(TEXT, b"{"), frame(PONG, b"")),
        (header(0x89, 125), b"p".to_vec()),
    ];
    for (begun, more) in kinds {
        let mut client = server.open("a");
        let start = Instant::now();
        client.send(&begun);
        while client.is_silent(Duration::from_millis(30)) {
            client.send(&more);
            assert!(start.elapsed() < Duration::from_secs(3), "trickled bytes extend the deadline");
        }
        // Deadlines are checked at quarters of their length.
        assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
    }
}

#[test]
fn the_first_connections_of_a_hub_that_was_idle_have_their_whole_deadline() {
    let handler = Handler::new().read_timeout(Duration::from_millis(800));
    let server = Local::start(Hub::new(), handler);
    let idle = Instant::now();
    eventually("the hub was idle for longer than the deadline", TIMEOUT, || {
        idle.elapsed().as_millis() > 1000
    });
    for _ in 0..4 {
        let mut client = server.open("a"); // each may be the first of its shard
        client.send(&raw_frame(TEXT, b"{"));
        assert!(client.is_silent(Duration::from_millis(400)));
    }
}

#[test]
fn a_busy_client_whose_reads_always_end_within_a_message_is_not_closed() {
    let handler = Handler::new().read_timeout(Duration::from_millis(200));
    let server = Local::start(Hub::new(), handler);
    let mut client = server.open("a");
    let one = frame(TEXT, br#"{"type":"ping","id":1}"#);
    let (first, second) = one.split_at(10);
    let start = Instant::now();
    client.send(first);
    while start.elapsed() < Duration::from_millis(1000) {
        client.send(&[second, first].concat());
        assert_eq!(client.frame().json()["type"], "pong", "after {:?}", start.elapsed());
    }
}

#[test]
fn twenty_thousand_subscriptions_raced_by_disconnects_leave_the_hub_empty() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let hub = Hub::builder().channels("{*any}", ChannelOptions::new().announce_subscribers()).build();
    let handler = Handler::new().authorize_subscribe(|_, _| async {
        // Some wait a turn or more, so that disconnects happen before, during and after.
        for _ in 0..ASKED.fetch_add(1, Ordering::Relaxed) % 4 {
            tokio::task::yield_now().await;
        }
        Ok(())
    });
    let server = Local::start(hub.clone(), handler);
    let requests: Vec<u8> = (0..100)
        .flat_map(|n| {
            frame(
                TEXT,
                json!({ "type": "subscribe_channel", "channel": format!("c{n}") }).to_string().as_bytes(),
            )
        })
        .collect();
    for round in 0..200 {
        let mut client = server.open("a");
        client.send(&requests[..requests.len() - 40 * (round % 50)]);
        if round % 3 == 0 {
            client.reset();
        }
    }
    eventually("the hub is empty", TIMEOUT, || {
        let stats = hub.stats();
        stats.connections == 0 && stats.channels == 0 && stats.subscriptions == 0
    });
    assert_eq!(hub.stats().opened, hub.stats().closed);
}

#[test]
fn a_quiet_channel_is_not_forgotten_under_its_subscriber() {
    let options = LocalBrokerOptions::new().position_age(Duration::from_millis(100));
    let channels = ChannelOptions::new().history(64, Duration::from_millis(100));
    let hub = Hub::builder().channels("{*any}", channels).broker(LocalBroker::new(options)).build();
    let server = Local::start(hub.clone(), Handler::new());
    for n in 0..10 {
        server.publish("quiet", &json!(n));
        server.publish("deserted", &json!(n));
    }
    let mut client = server.open("a");
    assert_eq!(client.subscribe("quiet")["offset"], 10);
    let top = |channel: &str| {
        runtime().block_on(async { hub.channel(channel).history(HistoryRange::top()).await }).unwrap().top
    };
    let (kept, lost) = (top("quiet").epoch, top("deserted").epoch);
    eventually("the other one is forgotten", TIMEOUT, || top("deserted").epoch != lost);
    assert_eq!(top("quiet").epoch, kept);
    server.publish("quiet", &json!("after a quiet hour"));
    let message = client.message("message");
    assert_eq!((&message["content"], &message["offset"]), (&json!("after a quiet hour"), &json!(11)));
}
