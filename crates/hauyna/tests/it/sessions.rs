//! Sessions over real sockets: what a lost client finds after a resume, what others see meanwhile, and what
//! happens if it does not reconnect.

use crate::support::{eventually, user_handler, wait_for_connections};
use hauyna::auth::Revocation;
use hauyna::connection::{ConnectionState, RetryPolicy};
use hauyna::events::{SystemEvent, SystemKind};
use hauyna::{
    ChannelOptions, CloseCode, CloseReason, Connection, Context, Handler, Hub, HubBuilder, Presence,
    SessionOptions, json,
};
use hauyna_protocol::Encoding;
use hauyna_test::{Client, TestServer};
use hauyna_websocket::{FrameHead, OpCode};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn hub() -> HubBuilder {
    Hub::builder()
        .channels("room:{id}", ChannelOptions::new().presence(Presence::each()).announce_subscribers())
        .channels("live:{id}", ChannelOptions::new().no_history())
        .channels("{*any}", ChannelOptions::new().history(1000, Duration::from_secs(600)))
}

/// Returns a window that a test can wait for.
fn short(window: Duration) -> SessionOptions {
    SessionOptions::new().window(window)
}

pub(crate) async fn connect_user(server: &TestServer, user: &str) -> (Client, Value) {
    connect_user_in(server, user, Encoding::Json).await
}

async fn connect_user_in(server: &TestServer, user: &str, encoding: Encoding) -> (Client, Value) {
    let mut client = server.client(&format!("/?user={user}")).encoding(encoding).connect().await;
    let session = client.expect("session").await;
    assert_eq!(session["resumed"], false);
    assert!(session["resume"]["token"].is_string() && session["resume"]["window"].as_u64().unwrap() > 0);
    (client, session)
}

/// Reconnects with a token, and sends positions.
pub(crate) async fn resume(
    server: &TestServer,
    user: &str,
    session: &Value,
    positions: &Value,
) -> (Client, Value) {
    let mut client = connect_with_token(server, user, session, Encoding::Json).await;
    client.send(json!({ "type": "resume", "positions": positions })).await;
    let session = client.expect("session").await;
    (client, session)
}

pub(crate) async fn connect_with_token(
    server: &TestServer,
    user: &str,
    session: &Value,
    encoding: Encoding,
) -> Client {
    let token = session["resume"]["token"].as_str().unwrap();
    server.client(&format!("/?user={user}&resume={token}")).encoding(encoding).connect().await
}

pub(crate) fn position(place: &Value) -> Value {
    json!({ "epoch": place["epoch"], "offset": place["offset"] })
}

pub(crate) async fn lose(hub: &Hub, client: Client) {
    let waiting = hub.stats().sessions;
    client.vanish();
    eventually("the session waits", || hub.stats().sessions == waiting + 1).await;
}

pub(crate) async fn publish(hub: &Hub, channel: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        hub.channel(channel).broadcast(json!(number)).await.unwrap();
    }
}

pub(crate) async fn expect_numbers(client: &mut Client, channel: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let message = client.expect("message").await;
        assert_eq!((&message["channel"], &message["content"]), (&json!(channel), &json!(number)));
    }
}

#[tokio::test]
async fn resumed_client_has_its_subscriptions_and_missed_publications() {
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let hub = hub().build();
        let server = TestServer::start(hub.clone(), user_handler());
        let (mut ann, session) = connect_user_in(&server, "ann", encoding).await;
        let news = ann.subscribe("news").await;
        ann.subscribe("other").await;
        publish(&hub, "news", 0..3).await;
        expect_numbers(&mut ann, "news", 0..3).await;
        lose(&hub, ann).await;
        publish(&hub, "news", 3..6).await;

        let mut ann = connect_with_token(&server, "ann", &session, encoding).await;
        let seen = json!({ "news": { "epoch": news["epoch"], "offset": 3 } });
        ann.send(json!({ "type": "resume", "id": 9, "positions": seen })).await;
        let resumed = ann.expect("session").await;
        assert_eq!((&resumed["resumed"], &resumed["user"]), (&json!(true), &json!("ann")));
        assert_ne!(resumed["resume"]["token"], session["resume"]["token"], "a token works once");
        assert_ne!(resumed["connection_id"], session["connection_id"]);
        let subscriptions = resumed["subscriptions"].as_array().unwrap();
        let of = |name: &str| subscriptions.iter().find(|one| one["channel"] == name).unwrap();
        assert_eq!((&of("news")["recovered"], &of("news")["offset"]), (&json!(true), &json!(6)));
        assert_eq!(
            (&of("other")["recovered"], &of("other")["reason"]),
            (&json!(false), &json!("unknown_position"))
        );
        assert_eq!(ann.expect("ack").await["id"], 9);
        expect_numbers(&mut ann, "news", 3..6).await;
        publish(&hub, "news", 6..8).await;
        expect_numbers(&mut ann, "news", 6..8).await;
        publish(&hub, "other", 0..1).await;
        expect_numbers(&mut ann, "other", 0..1).await;
        assert_eq!((hub.stats().resumed, hub.stats().sessions, hub.stats().subscriptions), (1, 0, 2));
    }
}

#[tokio::test]
async fn half_open_socket_is_evicted_by_a_resume() {
    let hub = hub().max_connections_per_user(1).max_connections(1).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut ann, session) = connect_user(&server, "ann").await;
    let news = ann.subscribe("news").await;
    publish(&hub, "news", 0..2).await;
    let (mut again, resumed) = resume(&server, "ann", &session, &json!({ "news": position(&news) })).await;
    assert_eq!(resumed["resumed"], true);
    expect_numbers(&mut again, "news", 0..2).await;
    assert_eq!(ann.expect_close().await.0, 3013);
    assert_eq!((hub.connections().count(), hub.stats().sessions), (1, 0));
    publish(&hub, "news", 2..3).await;
    expect_numbers(&mut again, "news", 2..3).await;
    again.expect_nothing().await;
}

#[tokio::test]
async fn resume_token_works_once_and_only_for_its_user() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (ann, session) = connect_user(&server, "ann").await;
    lose(&hub, ann).await;
    let (_eve, stolen) = resume(&server, "eve", &session, &json!({})).await;
    assert_eq!((&stolen["resumed"], &stolen["user"]), (&json!(false), &json!("eve")));
    assert_eq!(hub.stats().sessions, 1, "the session still waits for its user");
    let (mut ann, resumed) = resume(&server, "ann", &session, &json!({})).await;
    assert_eq!(resumed["resumed"], true);
    ann.request(json!({ "type": "ping" })).await.unwrap();
    let (mut third, late) = resume(&server, "ann", &session, &json!({})).await;
    assert_eq!(late["resumed"], false);
    assert!(third.request(json!({ "type": "ping" })).await.is_ok(), "a new session can be resumed");
    for token in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let mut client = server.client(&format!("/?user=ann&resume={token}")).json().connect().await;
        assert_eq!(client.expect("session").await["resumed"], false, "{token}");
    }
}

#[tokio::test]
async fn resume_token_may_be_a_sub_protocol_and_is_removed_from_the_target() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (ann, session) = connect_user(&server, "ann").await;
    lose(&hub, ann).await;
    let item = format!("hauyna.resume.{}", session["resume"]["token"].as_str().unwrap());
    let mut ann = server.client("/?user=ann").protocol("hauyna.v1.json").protocol(&item).connect().await;
    ann.send(json!({ "type": "resume" })).await;
    let session = ann.expect("session").await;
    assert_eq!((ann.protocol(), &session["resumed"]), (Some("hauyna.v1.json"), &json!(true)));

    let target = Arc::new(Mutex::new(String::new()));
    let seen = target.clone();
    let handler = user_handler().on_reconnect(move |cx: Context, _| {
        *seen.lock() = format!("{:?} {:?}", cx.query("resume"), cx.query("user"));
        async { Ok(()) }
    });
    let server = TestServer::start(hub.clone(), handler);
    let (ann, session) = connect_user(&server, "ann").await;
    lose(&hub, ann).await;
    let (mut ann, _) = resume(&server, "ann", &session, &json!({})).await;
    ann.request(json!({ "type": "ping" })).await.unwrap();
    assert_eq!(*target.lock(), r#"None Some("ann")"#);
}

#[tokio::test]
async fn resume_causes_no_leave_and_is_announced_in_the_channel() {
    let hub = hub().presence_grace(Duration::ZERO).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut bob, _) = connect_user(&server, "bob").await;
    bob.subscribe("room:1").await;
    let (mut ann, session) = connect_user(&server, "ann").await;
    let request =
        json!({ "type": "subscribe_channel", "channel": "room:1", "metadata": { "device": "phone" } });
    ann.request(request).await.unwrap();
    bob.wait_for("presence_change").await;
    bob.wait_for("channel_event").await;
    lose(&hub, ann).await;
    bob.expect_nothing().await;
    assert!(hub.channel("room:1").presence().await.iter().any(|entry| entry.user == "ann"));

    let (mut ann, resumed) = resume(&server, "ann", &session, &json!({})).await;
    assert_eq!(resumed["resumed"], true);
    let event = bob.next().await;
    assert_eq!(
        (&event["type"], &event["event"]),
        (&json!("channel_event"), &json!("subscription_reconnected"))
    );
    assert_eq!((&event["user"], &event["metadata"]), (&json!("ann"), &json!({ "device": "phone" })));
    bob.expect_nothing().await;
    let state = ann.expect("presence_state").await;
    assert_eq!(state["count"], 2);
    let connections = state["users"]["ann"]["connections"].as_array().unwrap();
    assert_eq!((connections.len(), &connections[0]["metadata"]), (1, &json!({ "device": "phone" })));
    ann.close(1000, "").await;
    assert_eq!(bob.expect("presence_change").await["event"], "leave");
}

#[tokio::test]
async fn resume_moves_extensions_state_policy_and_groups() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let write = |log: &Arc<Mutex<Vec<String>>>, line: String| log.lock().push(line);
    let (opened, back_again, closed) = (log.clone(), log.clone(), log.clone());
    let handler = user_handler()
        .on_open(move |cx: Context| {
            write(&opened, format!("open {}", cx.user()));
            async move {
                cx.connection().with_extensions(|all| all.insert(7_u32));
                cx.connection().set_retry_policy(RetryPolicy::default().max_attempts(3))?;
                cx.presence().track(json!({ "status": "online" })).await?;
                cx.subscribe("mine", json!({ "by": "the server" })).await
            }
        })
        .on_reconnect(move |cx: Context, old: Connection| {
            let is_other = old != cx.connection() && !old.is_open();
            let (own, number) = (cx.connection(), cx.extension::<u32>());
            let policy = own.retry_policy().max_attempts.unwrap();
            let what = format!("{is_other} {number:?} {policy} {:?} {}", own.channels(), own.state());
            write(&back_again, format!("reconnect {what}"));
            async { Ok(()) }
        })
        .on_close(move |cx: Context, reason: CloseReason| {
            write(&closed, format!("close {} {}", cx.user(), reason.as_str()));
            async { Ok(()) }
        });
    let busy = ConnectionState::custom("busy");
    let hub = hub().allow_transition(ConnectionState::Connected, busy).build();
    let server = TestServer::start(hub.clone(), handler);
    let (mut ann, session) = connect_user(&server, "ann").await;
    let mine = ann.wait_for("subscribed").await;
    assert_eq!((&mine["channel"], &mine["recoverable"]), (&json!("mine"), &json!(true)));
    hub.groups().add("ann", "editors").await.unwrap();
    hub.connections().all()[0].set_state(busy).unwrap();
    lose(&hub, ann).await;
    assert!(hub.presence().is_present("ann").await);
    assert_eq!(hub.stats().states.of(ConnectionState::Reconnecting), 1);

    publish(&hub, "mine", 0..2).await;
    let (mut ann, resumed) = resume(&server, "ann", &session, &json!({ "mine": position(&mine) })).await;
    assert_eq!(resumed["retry"]["max_attempts"], 3);
    assert_eq!(ann.wait_for("connection_state").await["state"], "busy");
    expect_numbers(&mut ann, "mine", 0..2).await;
    hub.groups().send("editors", "hello").await.unwrap();
    ann.expect("group").await;
    ann.request(json!({ "type": "ping" })).await.unwrap();
    assert_eq!(hub.stats().states.of(ConnectionState::Reconnecting), 0);
    assert_eq!(hub.presence().get("ann").await.unwrap().connections.len(), 1);
    ann.close(1000, "").await;
    eventually("on_close", || log.lock().len() == 3).await;
    assert_eq!(
        *log.lock(),
        ["open ann", r#"reconnect true Some(7) 3 ["mine"] busy"#, "close ann client"].map(str::to_owned)
    );
    assert!(!hub.presence().is_present("ann").await);
}

#[tokio::test]
async fn expired_session_ends_and_is_announced() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (closed, states) = (log.clone(), log.clone());
    let handler = user_handler().on_close(move |cx: Context, reason: CloseReason| {
        closed.lock().push(format!("close {} {}", cx.user(), reason.as_str()));
        async { Ok(()) }
    });
    let hub = hub()
        .sessions(short(Duration::from_millis(300)))
        .on_state_change(move |connection, old, new| {
            states.lock().push(format!("{} {old} to {new}", connection.user()));
            async { Ok(()) }
        })
        .build();
    let server = TestServer::start(hub.clone(), handler);
    let (mut bob, _) = connect_user(&server, "bob").await;
    bob.subscribe("room:1").await;
    let (mut ann, session) = connect_user(&server, "ann").await;
    ann.subscribe("room:1").await;
    while bob.wait_for("presence_change").await["user"] != "ann" {}
    while bob.wait_for("channel_event").await["user"] != "ann" {}
    ann.vanish();
    let change = bob.wait_for("presence_change").await;
    assert_eq!((&change["event"], &change["user"]), (&json!("leave"), &json!("ann")));
    assert_eq!(bob.expect("channel_event").await["event"], "subscription_removed");
    let expected = [
        "ann connected to disconnected",
        "ann disconnected to reconnecting",
        "ann reconnecting to error",
        "close ann lost",
    ];
    eventually("all events are delivered", || log.lock().len() == 4).await;
    log.lock().sort();
    let mut sorted = expected.map(str::to_owned);
    sorted.sort();
    assert_eq!(*log.lock(), sorted);
    assert_eq!((hub.stats().sessions, hub.stats().sessions_ended), (0, 1));
    assert_eq!(hub.stats().states.of(ConnectionState::Reconnecting), 0);
    let (_ann, late) = resume(&server, "ann", &session, &json!({})).await;
    assert_eq!(late["resumed"], false);
}

#[tokio::test]
async fn clients_that_close_leave_no_session() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    for code in [1000, 1001, 3503] {
        let (client, session) = connect_user(&server, "ann").await;
        client.close(code, "").await;
        wait_for_connections(&hub, 0).await;
        assert_eq!(hub.stats().sessions, 0, "{code}");
        assert_eq!(resume(&server, "ann", &session, &json!({})).await.1["resumed"], false, "{code}");
        hub.user("ann").disconnect(CloseCode(3503), "").await;
        wait_for_connections(&hub, 0).await;
    }
    let (mut client, _) = connect_user(&server, "ann").await;
    hub.user("ann").disconnect(CloseCode(4000), "come back").await;
    assert_eq!(client.expect_close().await.0, 4000);
    drop(client);
    eventually("a session", || hub.stats().sessions == 1).await;
    let plain = server.connect("/?user=ann").await;
    wait_for_connections(&hub, 1).await;
    plain.vanish();
    wait_for_connections(&hub, 0).await;
    assert_eq!(hub.stats().sessions, 1, "a plain client has none");
}

#[tokio::test]
async fn sessions_end_with_the_rights_of_their_user_and_with_the_hub() {
    let hub = hub().build();
    let closed = Arc::new(Mutex::new(Vec::new()));
    let seen = closed.clone();
    let handler = user_handler().on_close(move |cx: Context, _| {
        let seen = seen.clone();
        async move {
            // It takes some time, as a callback that writes to a database does.
            tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await.unwrap_err();
            seen.lock().push(cx.user().to_string());
            Ok(())
        }
    });
    let server = TestServer::start(hub.clone(), handler);
    for user in ["ann", "bob", "eve"] {
        let (client, _) = connect_user(&server, user).await;
        lose(&hub, client).await;
    }
    hub.user("ann").disconnect(CloseCode(3503), "").await;
    assert_eq!(hub.stats().sessions, 2);
    hub.revoke(Revocation::user("bob")).await;
    assert_eq!(hub.stats().sessions, 1);
    hub.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!((hub.stats().sessions, hub.stats().sessions_ended), (0, 3));
    closed.lock().sort();
    assert_eq!(*closed.lock(), ["ann", "bob", "eve"], "the shutdown waits for on_close");
}

/// Loses `count` clients that were in the same room.
async fn lose_clients(count: usize, options: SessionOptions) -> (Hub, TestServer, Vec<(String, Value)>) {
    let hub = hub().sessions(options).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut sessions = Vec::new();
    for number in 0..count {
        let user = format!("u{number}");
        let (mut client, session) = connect_user(&server, &user).await;
        client.subscribe("room:1").await;
        client.vanish();
        sessions.push((user, session));
        wait_for_connections(&hub, 0).await;
    }
    (hub, server, sessions)
}

#[tokio::test]
async fn sessions_are_limited_in_number_and_bytes_oldest_first() {
    let max_bytes = {
        let (hub, _, _) = lose_clients(2, SessionOptions::default()).await;
        let two = hub.stats().memory.sessions;
        let (hub, _, _) = lose_clients(3, SessionOptions::default()).await;
        let three = hub.stats().memory.sessions;
        three + (three - two) / 2
    };
    let by_number = SessionOptions::new().max_sessions(3);
    let by_bytes = SessionOptions::new().max_bytes(max_bytes);
    for (options, most_bytes) in [(by_number, usize::MAX), (by_bytes, max_bytes)] {
        let (hub, server, sessions) = lose_clients(8, options).await;
        let count = hub.stats().sessions;
        assert!(count == 3 && hub.stats().memory.sessions <= most_bytes, "{count}");
        assert_eq!(hub.stats().sessions_evicted, 5);
        let present = hub.channel("room:1").presence().await.len();
        assert_eq!(present, 3, "users without a session are not present");
        let mut there = Vec::new();
        for (number, (user, session)) in sessions.iter().enumerate() {
            let (client, answer) = resume(&server, user, session, &json!({})).await;
            assert_eq!(answer["resumed"], number >= 5, "{user}");
            there.push(client);
        }
    }
}

#[tokio::test]
async fn client_of_a_hub_without_sessions_starts_anew() {
    let hub = hub().sessions(SessionOptions::none()).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut ann = server.json("/?user=ann").await;
    let session = ann.expect("session").await;
    assert_eq!((&session["resumed"], session.get("resume")), (&json!(false), None));
    ann.vanish();
    wait_for_connections(&hub, 0).await;
    assert_eq!(hub.stats().sessions, 0);
}

#[tokio::test]
async fn resumed_anonymous_client_keeps_its_name() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), Handler::new());
    let mut client = server.json("/").await;
    let session = client.expect("session").await;
    lose(&hub, client).await;
    let (_client, resumed) = resume(&server, "", &session, &json!({})).await;
    assert_eq!((&resumed["resumed"], &resumed["user"]), (&json!(true), &session["user"]));
}

#[tokio::test]
async fn listeners_learn_both_connections_of_a_resume() {
    let hub = hub().build();
    let pairs = Arc::new(Mutex::new(Vec::new()));
    let reports = pairs.clone();
    hub.events().on_system([SystemKind::Resumed], move |_, event: SystemEvent| {
        if let SystemEvent::Resumed { connection, old, .. } = event {
            reports.lock().push((connection.id().to_string(), old.id().to_string()));
        }
        async { Ok(()) }
    });
    let server = TestServer::start(hub.clone(), user_handler());
    let (ann, session) = connect_user(&server, "ann").await;
    lose(&hub, ann).await;
    let (_ann, resumed) = resume(&server, "ann", &session, &json!({})).await;
    eventually("told", || pairs.lock().len() == 1).await;
    let id = |session: &Value| session["connection_id"].as_str().unwrap().to_owned();
    assert_eq!(pairs.lock()[0], (id(&resumed), id(&session)));
}

#[tokio::test]
async fn closing_connection_cannot_be_resumed_and_gets_its_reason() {
    let hub = hub().build();
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let seen = reasons.clone();
    let handler = user_handler().on_close(move |_, reason: CloseReason| {
        seen.lock().push(reason);
        async { Ok(()) }
    });
    let server = TestServer::start(hub.clone(), handler);
    let (mut ann, session) = connect_user(&server, "ann").await;
    // The client does not answer the close frame: the connection exists for a while.
    hub.user("ann").disconnect(CloseCode(3503), "enough").await;
    assert_eq!(hub.connections().count(), 1);
    let (_again, fresh) = resume(&server, "ann", &session, &json!({})).await;
    assert_eq!(fresh["resumed"], false);
    assert_eq!(ann.expect_close().await.0, 3503);
    ann.vanish();
    eventually("on_close", || !reasons.lock().is_empty()).await;
    assert_eq!(*reasons.lock(), [CloseReason::Application(3503)]);
}

#[tokio::test]
async fn row_50_failing_on_reconnect_affects_only_its_session() {
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let seen = reasons.clone();
    let handler = user_handler()
        .on_reconnect(|cx: Context, _| async move {
            match cx.user().as_str() {
                "ann" => panic!("on purpose"),
                "bob" => Err(hauyna::Error::application("not any more")),
                _ => Ok(()),
            }
        })
        .on_close(move |cx: Context, reason: CloseReason| {
            seen.lock().push((cx.user().to_string(), reason));
            async { Ok(()) }
        });
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), handler);
    let (mut eve, session_of_eve) = connect_user(&server, "eve").await;
    eve.subscribe("room:1").await;
    for (user, code) in [("ann", 1011), ("bob", 1011)] {
        let (mut client, session) = connect_user(&server, user).await;
        client.subscribe("room:1").await;
        lose(&hub, client).await;
        let (mut client, resumed) = resume(&server, user, &session, &json!({})).await;
        assert_eq!(resumed["resumed"], true);
        assert_eq!(client.expect_close().await.0, code, "{user}");
        client.vanish();
        wait_for_connections(&hub, 1).await;
    }
    lose(&hub, eve).await;
    let (_eve, resumed) = resume(&server, "eve", &session_of_eve, &json!({})).await;
    assert_eq!(resumed["resumed"], true);
    let expected = [("ann", CloseReason::Failed), ("bob", CloseReason::Failed)];
    assert_eq!(*reasons.lock(), expected.map(|(user, reason)| (user.to_owned(), reason)));
    assert_eq!(
        (hub.stats().panics, hub.stats().sessions, hub.channel("room:1").presence().await.len()),
        (1, 0, 1)
    );
}

#[tokio::test]
async fn oversized_message_closes_the_connection_and_keeps_the_session() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut ann, session) = connect_user(&server, "ann").await;
    assert_eq!(session["limits"], json!({ "max_message": 65_536 }));
    let news = ann.subscribe("news").await;
    ann.send_frame(FrameHead::of(OpCode::Text), &vec![b' '; 64 * 1024 + 1]).await;
    assert_eq!(ann.wait_for("error").await["error_type"], "payload_too_large");
    assert_eq!(ann.expect_close().await.0, 1009);
    ann.vanish();
    eventually("the session waits", || hub.stats().sessions == 1).await;
    publish(&hub, "news", 0..2).await;
    let (mut ann, resumed) = resume(&server, "ann", &session, &json!({ "news": position(&news) })).await;
    assert_eq!(resumed["resumed"], true);
    expect_numbers(&mut ann, "news", 0..2).await;
}
