//! States of connections: how silence, failure and the end change them, how an application changes them, and
//! who is notified in which order.

use crate::support::{eventually, registered, user_handler, wait_until_empty};
use hauyna::connection::ConnectionState::{self, Connected, Disconnected, Error, Idle, Reconnecting};
use hauyna::error::ErrorKind;
use hauyna::{CloseCode, Connection, Context, Handler, Heartbeat, Hub, HubBuilder, json};
use hauyna_test::{Client, Frame, TestServer};
use hauyna_websocket::{FrameHead, OpCode};
use serde_json::Value;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

const BUSY: ConnectionState = ConnectionState::custom("busy");

type Changes = mpsc::Receiver<(String, ConnectionState, ConnectionState)>;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Returns a hub that reports every state change.
fn hub_with_changes(builder: HubBuilder) -> (Hub, Changes) {
    let (sender, changes) = mpsc::channel(64);
    let hub =
        builder.on_state_change(move |connection: Connection, old, new| {
            let sender = sender.clone();
            async move {
                sender.send((connection.user().to_string(), old, new)).await.map_err(hauyna::Error::other)
            }
        });
    (hub.build(), changes)
}

/// Returns the next state change of any connection.
async fn next(changes: &mut Changes) -> (ConnectionState, ConnectionState) {
    let change = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
    let (_, old, new) = change.expect("a change").expect("a hub");
    (old, new)
}

fn only(server: &TestServer) -> Connection {
    server.hub().connections().all().pop().expect("a connection")
}

async fn connected(server: &TestServer, target: &str) -> (Client, Connection) {
    let mut client = server.connect(target).await;
    client.expect_nothing().await;
    (client, only(server))
}

/// Returns what a client that never pongs receives until it is closed.
async fn received_states(client: &mut Client) -> Vec<String> {
    let mut received_states = Vec::new();
    loop {
        match client.next_frame().await {
            Frame::Ping(_) => received_states.push("ping".to_owned()),
            Frame::Text(text) => {
                let message: Value = serde_json::from_str(&text).unwrap();
                assert_eq!((&message["type"], &message["user"]), (&json!("connection_state"), &json!("u")));
                assert!(message["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
                received_states.push(message["state"].as_str().unwrap().to_owned());
            }
            Frame::Close(Some((code, _))) => {
                received_states.push(code.to_string());
                return received_states;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn silent_peer_is_pinged_then_idle_then_closed() {
    let (hub, mut changes) = hub_with_changes(Hub::builder());
    let heartbeat = Heartbeat::every(ms(300)).timeout(ms(600));
    let server = TestServer::start(hub, user_handler().heartbeat(heartbeat));
    let began = Instant::now();
    let mut mute = server.client("/?user=u").without_pongs().connect().await;
    assert_eq!(mute.next_frame().await, Frame::Ping(Vec::new()));
    assert!(began.elapsed() >= ms(250), "the first ping after {:?}", began.elapsed());
    assert_eq!(only(&server).state(), Connected);
    assert_eq!(next(&mut changes).await, (Connected, Idle));
    assert!(began.elapsed() >= ms(550), "idle after {:?}", began.elapsed());
    let mut received_states = received_states(&mut mute).await;
    assert!(began.elapsed() >= ms(850), "closed after {:?}", began.elapsed());
    // If the sweep runs in between, a third ping is sent before the first one times out.
    if received_states.len() == 4 {
        assert_eq!(received_states.remove(2), "ping");
    }
    assert_eq!(received_states, ["idle", "ping", "3012"]);
    assert_eq!(next(&mut changes).await, (Idle, Disconnected));
}

#[tokio::test(start_paused = true)]
async fn silent_peer_is_idle_at_60_and_closed_at_90_seconds() {
    let heartbeat = Heartbeat::every(Duration::from_secs(30)).timeout(Duration::from_secs(60));
    let hub = Hub::new();
    let began = tokio::time::Instant::now();
    let (mut mute, connection) = registered(&hub, "u", &Handler::new().heartbeat(heartbeat).share()).await;
    let mut received_states = Vec::new();
    loop {
        let frame = mute.next_frame().await;
        let second = began.elapsed().as_secs();
        match frame {
            Frame::Ping(_) => received_states.push((second / 10 * 10, "ping".to_owned())),
            Frame::Text(text) if text.contains("\"idle\"") => {
                received_states.push((second / 10 * 10, "idle".to_owned()));
            }
            Frame::Close(Some((3012, _))) => {
                break assert!((90..=92).contains(&second), "closed at {second}");
            }
            other => panic!("{other:?} at {second}"),
        }
        assert!((0..=2).contains(&(second % 30)), "{received_states:?} at {second}");
    }
    received_states.retain(|(second, _)| *second < 90);
    let expected = [(30, "ping"), (60, "idle"), (60, "ping")];
    assert_eq!(received_states, expected.map(|(second, what)| (second, what.to_owned())));
    eventually("the connection has closed", || connection.state() == Disconnected).await;
}

#[tokio::test(start_paused = true)]
async fn timeout_counts_from_the_first_unanswered_ping() {
    let heartbeat = Heartbeat::every(Duration::from_secs(10)).timeout(Duration::from_secs(35));
    let hub = Hub::new();
    let (mut late, _) = registered(&hub, "u", &Handler::new().heartbeat(heartbeat).share()).await;
    // It answers only every third ping, and stays connected.
    for number in 1..=30 {
        while !matches!(late.next_frame().await, Frame::Ping(_)) {}
        if number % 3 == 0 {
            late.send_frame(FrameHead::of(OpCode::Pong), b"").await;
        }
    }
    let stopped = tokio::time::Instant::now();
    assert_eq!(late.expect_close().await.0, 3012);
    let lived = stopped.elapsed().as_secs();
    assert!((44..=48).contains(&lived), "10 s to the first unanswered ping and 35 from there: {lived}");
}

#[tokio::test(start_paused = true)]
async fn state_duration_is_known_for_24_days() {
    let (hub, day) = (Hub::new(), Duration::from_secs(24 * 60 * 60));
    let handler = Handler::new().no_heartbeat().share();
    let (_client, connection) = registered(&hub, "u", &handler).await;
    for days in 1..=120 {
        // The sweeps in between keep ticks from wrapping unnoticed.
        for _ in 0..2 {
            tokio::time::advance(day / 2).await;
            tokio::task::yield_now().await;
            tokio::time::timeout(Duration::from_secs(3), std::future::pending::<()>()).await.unwrap_err();
        }
        let since = connection.state_since().elapsed().unwrap();
        let expected = day * days.min(24);
        assert!(since.abs_diff(expected) < day / 100, "{since:?} after {days} days");
    }
}

#[tokio::test]
async fn any_received_frame_ends_idleness_and_both_changes_are_sent() {
    let (hub, mut changes) = hub_with_changes(Hub::builder());
    let server =
        TestServer::start(hub, user_handler().heartbeat(Heartbeat::every(ms(60)).timeout(ms(9_000))));
    let mut client = server.client("/?user=u").without_pongs().connect().await;
    for _ in 0..2 {
        assert_eq!(next(&mut changes).await, (Connected, Idle));
        let connection = only(&server);
        assert_eq!(connection.state(), Idle);
        assert!(connection.last_heard() < connection.state_since());
        assert_eq!(server.hub().connections().in_state(Idle), [connection]);
        client.send_frame(FrameHead::of(OpCode::Pong), b"").await;
        assert_eq!(next(&mut changes).await, (Idle, Connected));
        assert!(server.hub().connections().in_state(Idle).is_empty());
    }
    only(&server).close(CloseCode::NORMAL, "");
    let mut received_states = received_states(&mut client).await;
    received_states.retain(|event| event != "ping");
    assert_eq!(received_states, ["idle", "connected", "idle", "connected", "1000"]);
}

#[tokio::test]
async fn only_messages_end_idleness_with_idle_after() {
    let (hub, mut changes) = hub_with_changes(Hub::builder());
    let handler = user_handler().heartbeat(Heartbeat::every(ms(300)).timeout(ms(9_000))).idle_after(ms(450));
    let server = TestServer::start(hub, handler.on("note", async |_, _: Value| Ok(())));
    let mut client = server.client("/?user=u").without_pongs().connect().await;
    let began = Instant::now();
    let pongs = async {
        loop {
            if let Frame::Ping(_) = client.next_frame().await {
                client.send_frame(FrameHead::of(OpCode::Pong), b"").await;
            }
        }
    };
    tokio::select! {
        () = pongs => {}
        change = next(&mut changes) => assert_eq!(change, (Connected, Idle)),
    }
    assert!(began.elapsed() >= ms(400), "{:?}", began.elapsed());
    for _ in 0..3 {
        client.send_frame(FrameHead::of(OpCode::Pong), b"").await;
        client.ping(b"").await;
        while !matches!(client.next_frame().await, Frame::Pong(_)) {}
    }
    assert_eq!(only(&server).state(), Idle, "pongs and pings are no messages");
    client.send(json!({ "type": "note" })).await;
    assert_eq!(next(&mut changes).await, (Idle, Connected));
}

#[tokio::test]
async fn callback_sees_its_connection_active() {
    let handler = user_handler()
        .no_heartbeat()
        .idle_after(ms(40))
        .on("state", async |cx: hauyna::Context, _: Value| Ok(cx.connection().state()));
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/").await;
    eventually("the connection is idle", || server.hub().stats().states.of(Idle) == 1).await;
    let state = client.request(json!({ "type": "state" })).await.unwrap();
    assert_eq!(state, "connected");
    assert_eq!(client.expect("connection_state").await["state"], "idle");
    assert_eq!(client.expect("connection_state").await["state"], "connected");
}

#[tokio::test]
async fn application_changes_states_only_as_the_table_allows() {
    let (hub, mut changes) =
        hub_with_changes(Hub::builder().allow_transition(Connected, BUSY).allow_transition(BUSY, Connected));
    let server = TestServer::start(hub, user_handler());
    let (mut client, connection) = connected(&server, "/?user=u").await;
    let refused = |to| match connection.set_state(to).map_err(|error| error.kind()) {
        Err(ErrorKind::Transition { from, to: refused }) => (from, refused) == (connection.state(), to),
        _ => false,
    };
    assert!(refused(Reconnecting) && refused(ConnectionState::custom("unknown")));
    let before = SystemTime::now();
    for state in [BUSY, Connected, Error, Reconnecting, Disconnected, Reconnecting, Connected, BUSY] {
        connection.set_state(state).unwrap();
        connection.set_state(state).unwrap(); // nothing happens
        assert_eq!(connection.state(), state);
        assert!(connection.state_since() >= before - ms(50));
        assert_eq!(next(&mut changes).await.1, state);
        assert_eq!(client.expect("connection_state").await["state"], state.name());
        let stats = server.hub().stats();
        assert_eq!(stats.states.of(state), 1, "{stats:?}");
        assert_eq!(stats.states.iter().map(|(_, count)| count).sum::<usize>(), 1);
    }
    assert!(refused(Idle) && refused(Disconnected) && refused(Error));
    assert_eq!(server.hub().connections().in_state(BUSY), std::slice::from_ref(&connection));
    client.close(1000, "").await;
    assert_eq!(next(&mut changes).await, (BUSY, Disconnected));
    wait_until_empty(server.hub()).await;
    assert_eq!(connection.state(), Disconnected);
    assert_eq!(connection.set_state(Reconnecting).unwrap_err().kind(), ErrorKind::Closed);
    assert!(server.hub().stats().states.iter().all(|(_, count)| count == 0));
}

#[tokio::test]
async fn state_names_may_be_read_at_run_time() {
    let config: Value = serde_json::from_str(r#"[["connected", "on call"], ["on call", "idle"]]"#).unwrap();
    let state = |name: &Value| name.as_str().unwrap().parse::<ConnectionState>().unwrap();
    let mut builder = Hub::builder();
    for step in config.as_array().unwrap() {
        builder = builder.allow_transition(state(&step[0]), state(&step[1]));
    }
    let (hub, mut changes) = hub_with_changes(builder);
    let server = TestServer::start(hub, user_handler());
    let (mut client, connection) = connected(&server, "/?user=u").await;
    let on_call = state(&config[0][1]);
    connection.set_state(on_call).unwrap();
    assert_eq!(next(&mut changes).await, (Connected, on_call));
    assert_eq!(client.expect("connection_state").await["state"], "on call");
    assert_eq!(serde_json::to_value(server.hub().stats().states).unwrap()["on call"], 1);
    connection.set_state(Idle).unwrap();
    assert_eq!(next(&mut changes).await, (on_call, Idle));
}

#[tokio::test]
async fn silence_does_not_change_a_state_without_idleness() {
    let hub = Hub::builder().allow_transition(Connected, BUSY).build();
    let handler = user_handler().idle_after(ms(60)).on_open(|cx| async move {
        if cx.user() == "busy" { cx.connection().set_state(BUSY) } else { Ok(()) }
    });
    let server = TestServer::start(hub, handler);
    let mut busy = server.connect("/?user=busy").await;
    assert_eq!(busy.expect("connection_state").await["state"], "busy");
    let _other = server.connect("/?user=other").await;
    eventually("the other connection is idle", || server.hub().stats().states.of(Idle) == 1).await;
    assert_eq!(server.hub().connections().of_user("busy")[0].state(), BUSY);
    busy.expect_nothing().await;
}

#[tokio::test]
async fn failures_pass_through_the_error_state_and_losses_do_not() {
    let (hub, mut changes) = hub_with_changes(Hub::builder());
    let handler = user_handler().on_open(|cx| async move {
        if cx.user() == "unwanted" { Err(hauyna::Error::application("no")) } else { Ok(()) }
    });
    let server = TestServer::start(hub, handler);
    let (mut broken, connection) = connected(&server, "/?user=broken").await;
    broken.send_raw(&[0xff, 0x80, 0, 0, 0, 0]).await;
    assert_eq!(broken.expect_close().await.0, 1002);
    assert_eq!(connection.state(), Error, "until the socket has closed");
    assert_eq!(next(&mut changes).await, (Connected, Error));
    drop(broken);
    assert_eq!(next(&mut changes).await, (Error, Disconnected));
    let mut unwanted = server.connect("/?user=unwanted").await;
    assert_eq!(unwanted.expect_close().await.0, 1011);
    drop(unwanted);
    assert_eq!(next(&mut changes).await, (Connected, Error));
    assert_eq!(next(&mut changes).await, (Error, Disconnected));
    connected(&server, "/?user=lost").await.0.vanish();
    assert_eq!(next(&mut changes).await, (Connected, Disconnected));
    wait_until_empty(server.hub()).await;
    assert_eq!(connection.state(), Disconnected);
}

#[tokio::test]
async fn write_timeout_passes_through_the_error_state() {
    let (hub, mut changes) = hub_with_changes(Hub::builder().outbox(64 * 1024 * 1024, 100_000));
    let server = TestServer::start(hub, user_handler().write_timeout(ms(100)));
    let mut client = server.client("/?user=u").receive_buffer(4096).connect().await;
    client.expect_nothing().await;
    let connection = only(&server);
    let padding = "x".repeat(64 * 1024);
    for _ in 0..200 {
        let _ = connection.send(&padding);
    }
    assert_eq!(next(&mut changes).await, (Connected, Error));
    assert_eq!(next(&mut changes).await, (Error, Disconnected));
}

#[tokio::test]
async fn state_callbacks_run_in_order_and_a_panic_affects_nobody() {
    const ROUNDS: usize = 200;
    let builder = Hub::builder()
        .on_state_change(|_, _, new| async move {
            assert_ne!(new, Idle, "on purpose");
            Err(hauyna::Error::application("on purpose, too"))
        })
        .allow_transition(BUSY, Connected)
        .allow_transition(Connected, BUSY);
    let (hub, mut changes) = hub_with_changes(builder);
    let server = TestServer::start(hub, user_handler());
    let (mut client, connection) = connected(&server, "/?user=u").await;
    let setting = [BUSY, Idle].map(|state| {
        let connection = connection.clone();
        tokio::task::spawn_blocking(move || {
            for _ in 0..ROUNDS {
                let _ = connection.set_state(state);
                let _ = connection.set_state(Connected);
            }
        })
    });
    let mut state = Connected;
    let mut received_states = Vec::new();
    let follow = async {
        for one in setting {
            one.await.unwrap();
        }
        connection.close(CloseCode::NORMAL, "");
        loop {
            let (old, new) = next(&mut changes).await;
            assert_eq!(old, state, "each change starts from the previous state");
            state = new;
            if new == Disconnected {
                return;
            }
            received_states.push(new.to_string());
        }
    };
    let read = async {
        let mut received = Vec::new();
        loop {
            match client.next_frame().await {
                Frame::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    received.push(message["state"].as_str().unwrap().to_owned());
                }
                Frame::Close(_) => {
                    client.send_close(1000, "").await;
                    return received;
                }
                Frame::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let (received, ()) = tokio::join!(read, follow);
    assert!(received.len() >= 2);
    assert!(received == received_states, "the client gets the same changes as the callbacks");
}

#[tokio::test]
async fn handler_without_the_protocol_has_states_but_sends_none() {
    let server = TestServer::start(Hub::new(), Handler::echo().no_heartbeat().idle_after(ms(40)));
    let mut client = server.connect("/").await;
    eventually("the connection is idle", || server.hub().stats().states.of(Idle) == 1).await;
    client.send_text("x").await;
    assert_eq!(client.next_text().await, "x");
    assert_eq!(only(&server).state(), Connected);
}

#[tokio::test]
async fn connection_reports_its_address_and_opening_time() {
    let before = SystemTime::now() - ms(2);
    let server = TestServer::start(Hub::new(), user_handler());
    let (client, connection) = connected(&server, "/").await;
    assert_eq!(connection.peer(), client.local_address());
    assert_eq!(connection.address(), client.local_address().map(|peer| peer.ip()));
    assert!(connection.connected_at() >= before && connection.connected_at() <= SystemTime::now());
    client.vanish();
    wait_until_empty(server.hub()).await;
    assert!(connection.peer().is_some(), "also after the connection has closed");
}

#[test]
fn state_with_a_bad_name_is_refused() {
    for name in ["", "a\u{7}b", &"x".repeat(33)] {
        let error = name.parse::<ConnectionState>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
}

#[tokio::test]
async fn refused_transition_is_named_in_the_error() {
    let handler = user_handler().on("come_back", |cx: Context, _: Value| async move {
        cx.connection().set_state(Reconnecting).map(|_| ())
    });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/?user=u").await;
    let refused = client.request(json!({ "type": "come_back" })).await.unwrap_err();
    assert_eq!(refused["error_type"], "application_error");
    assert_eq!(refused["message"], "a connection does not go from `connected` to `reconnecting`");
}
