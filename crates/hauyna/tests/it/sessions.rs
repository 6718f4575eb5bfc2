//! Sessions over real sockets: what a client that was lost finds again, what the others see meanwhile, and what
//! happens where it does not come back.

use crate::support::{eventually, named, subscribe};
use hauyna::{
    Channels, CloseCode, CloseReason, Connection, ConnectionState, Context, Handler, Hub, HubBuilder,
    Presence, RetryPolicy, Revocation, SessionOptions, SystemEvent, SystemKind, json,
};
use hauyna_protocol::Encoding;
use hauyna_test::{Client, MemoryServer, TestServer};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

fn hub() -> HubBuilder {
    Hub::builder()
        .channels("room:{id}", Channels::new().presence(Presence::each()).announce_subscribers())
        .channels("live:{id}", Channels::new().no_history())
        .channels("{*any}", Channels::new().history(1000, Duration::from_secs(600)))
}

/// A window that a test can wait for: one attempt of 1 ms, and 10 s for it, cut to this.
fn short(window: Duration) -> SessionOptions {
    SessionOptions { window, ..SessionOptions::default() }
}

async fn enter(server: &TestServer, user: &str) -> (Client, Value) {
    enter_in(server, user, Encoding::Json).await
}

async fn enter_in(server: &TestServer, user: &str, encoding: Encoding) -> (Client, Value) {
    let mut client = server.client(&format!("/?user={user}")).encoding(encoding).connect().await;
    let session = client.expect("session").await;
    assert_eq!(session["resumed"], false);
    assert!(session["resume"]["token"].is_string() && session["resume"]["window"].as_u64().unwrap() > 0);
    (client, session)
}

/// Comes back with a token, and says where it stands.
async fn back(server: &TestServer, user: &str, session: &Value, positions: &Value) -> (Client, Value) {
    let mut client = begin(server, user, session, Encoding::Json).await;
    client.send(json!({ "type": "resume", "positions": positions })).await;
    let session = client.expect("session").await;
    (client, session)
}

async fn begin(server: &TestServer, user: &str, session: &Value, encoding: Encoding) -> Client {
    let token = session["resume"]["token"].as_str().unwrap();
    server.client(&format!("/?user={user}&resume={token}")).encoding(encoding).connect().await
}

fn position(place: &Value) -> Value {
    json!({ "epoch": place["epoch"], "offset": place["offset"] })
}

async fn lost(hub: &Hub, client: Client) {
    let waiting = hub.stats().sessions;
    client.vanish();
    eventually("the session waits", || hub.stats().sessions == waiting + 1).await;
}

async fn publish(hub: &Hub, channel: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        hub.channel(channel).broadcast(json!(number)).await.unwrap();
    }
}

async fn expect_numbers(client: &mut Client, channel: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let message = client.expect("message").await;
        assert_eq!((&message["channel"], &message["content"]), (&json!(channel), &json!(number)));
    }
}

#[tokio::test]
async fn a_client_that_was_lost_finds_its_subscriptions_and_what_it_missed() {
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let hub = hub().build();
        let server = TestServer::start(hub.clone(), named());
        let (mut ann, session) = enter_in(&server, "ann", encoding).await;
        let news = subscribe(&mut ann, "news").await;
        subscribe(&mut ann, "other").await;
        publish(&hub, "news", 0..3).await;
        expect_numbers(&mut ann, "news", 0..3).await;
        lost(&hub, ann).await;
        publish(&hub, "news", 3..6).await;

        let mut ann = begin(&server, "ann", &session, encoding).await;
        let seen = json!({ "news": { "epoch": news["epoch"], "offset": 3 } });
        ann.send(json!({ "type": "resume", "id": 9, "positions": seen })).await;
        let resumed = ann.expect("session").await;
        assert_eq!((&resumed["resumed"], &resumed["user"]), (&json!(true), &json!("ann")));
        assert_ne!(resumed["resume"]["token"], session["resume"]["token"], "a token serves once");
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
async fn a_half_open_socket_is_evicted_and_never_the_reason_to_refuse() {
    let hub = hub().max_connections_per_user(1).max_connections(1).build();
    let server = TestServer::start(hub.clone(), named());
    let (mut ann, session) = enter(&server, "ann").await;
    let news = subscribe(&mut ann, "news").await;
    publish(&hub, "news", 0..2).await;
    let (mut again, resumed) = back(&server, "ann", &session, &json!({ "news": position(&news) })).await;
    assert_eq!(resumed["resumed"], true);
    expect_numbers(&mut again, "news", 0..2).await;
    assert_eq!(ann.expect_close().await.0, 3013);
    assert_eq!((hub.connections().count(), hub.stats().sessions), (1, 0));
    publish(&hub, "news", 2..3).await;
    expect_numbers(&mut again, "news", 2..3).await;
    again.expect_nothing().await;
}

#[tokio::test]
async fn a_token_serves_once_and_only_its_own_user() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), named());
    let (ann, session) = enter(&server, "ann").await;
    lost(&hub, ann).await;
    let (_eve, stolen) = back(&server, "eve", &session, &json!({})).await;
    assert_eq!((&stolen["resumed"], &stolen["user"]), (&json!(false), &json!("eve")));
    assert_eq!(hub.stats().sessions, 1, "it still waits for its own");
    let (mut ann, resumed) = back(&server, "ann", &session, &json!({})).await;
    assert_eq!(resumed["resumed"], true);
    ann.request(json!({ "type": "ping" })).await.unwrap();
    let (mut third, late) = back(&server, "ann", &session, &json!({})).await;
    assert_eq!(late["resumed"], false);
    assert!(third.request(json!({ "type": "ping" })).await.is_ok(), "a fresh session is a good one");
    for token in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let mut client = server.client(&format!("/?user=ann&resume={token}")).json().connect().await;
        assert_eq!(client.expect("session").await["resumed"], false, "{token}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_heard_has_its_new_token_however_soon_that_is() {
    let server = MemoryServer::start(hub().build(), named());
    let mut clients = vec![server.json("/?user=ann").await];
    let session = clients[0].expect("session").await;
    let token = session["resume"]["token"].as_str().unwrap();
    for is_resumed in [true, false] {
        let mut ann = server.json(&format!("/?user=ann&resume={token}")).await;
        ann.send(json!({ "type": "resume" })).await;
        assert_eq!(ann.expect("session").await["resumed"], is_resumed);
        ann.request(json!({ "type": "ping" })).await.unwrap();
        clients.push(ann);
    }
}

#[tokio::test]
async fn a_client_that_did_not_get_its_new_token_may_show_the_old_one_again() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), named());
    let (mut ann, session) = enter(&server, "ann").await;
    let news = subscribe(&mut ann, "news").await;
    lost(&hub, ann).await;
    publish(&hub, "news", 0..2).await;
    let positions = json!({ "news": position(&news) });
    // Once the connection that has the session is lost with it, once it still seems to live.
    for is_lost in [true, false, true] {
        let mut cut = begin(&server, "ann", &session, Encoding::Json).await;
        cut.send(json!({ "type": "resume", "positions": positions })).await;
        eventually("it is resumed", || hub.stats().subscriptions == 1).await;
        if is_lost {
            lost(&hub, cut).await;
        }
    }
    let (mut ann, resumed) = back(&server, "ann", &session, &positions).await;
    assert_eq!(resumed["resumed"], true);
    expect_numbers(&mut ann, "news", 0..2).await;
    assert_eq!((hub.connections().count(), hub.stats().sessions), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_token_serves_in_the_very_moment_in_which_its_connection_is_lost() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), named());
    let (mut ann, session) = enter(&server, "ann").await;
    for channel in 0..100 {
        subscribe(&mut ann, &format!("live:{channel}")).await;
    }
    lost(&hub, ann).await;
    for round in 0..100 {
        let (cut, resumed) = back(&server, "ann", &session, &json!({})).await;
        assert_eq!(resumed["resumed"], true, "in round {round}");
        cut.vanish();
    }
}

#[tokio::test]
async fn a_token_may_come_as_a_sub_protocol_item_and_never_stands_in_the_target() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), named());
    let (ann, session) = enter(&server, "ann").await;
    lost(&hub, ann).await;
    let item = format!("hauyna.resume.{}", session["resume"]["token"].as_str().unwrap());
    let mut ann = server.client("/?user=ann").protocol("hauyna.v1.json").protocol(&item).connect().await;
    ann.send(json!({ "type": "resume" })).await;
    let session = ann.expect("session").await;
    assert_eq!((ann.protocol(), &session["resumed"]), (Some("hauyna.v1.json"), &json!(true)));

    let target = Arc::new(Mutex::new(String::new()));
    let seen = target.clone();
    let handler = named().on_reconnect(move |cx: Context, _| {
        *seen.lock() = format!("{:?} {:?}", cx.query("resume"), cx.query("user"));
        async { Ok(()) }
    });
    let server = TestServer::start(hub.clone(), handler);
    let (ann, session) = enter(&server, "ann").await;
    lost(&hub, ann).await;
    let (mut ann, _) = back(&server, "ann", &session, &json!({})).await;
    ann.request(json!({ "type": "ping" })).await.unwrap();
    assert_eq!(*target.lock(), r#"None Some("ann")"#);
}

#[tokio::test]
async fn nobody_sees_a_leave_and_the_channel_hears_of_the_return() {
    let hub = hub().presence_grace(Duration::ZERO).build();
    let server = TestServer::start(hub.clone(), named());
    let (mut bob, _) = enter(&server, "bob").await;
    subscribe(&mut bob, "room:1").await;
    let (mut ann, session) = enter(&server, "ann").await;
    let request =
        json!({ "type": "subscribe_channel", "channel": "room:1", "metadata": { "device": "phone" } });
    ann.request(request).await.unwrap();
    bob.wait_for("presence_change").await;
    bob.wait_for("channel_event").await;
    lost(&hub, ann).await;
    bob.expect_nothing().await;
    assert!(hub.channel("room:1").presence().iter().any(|entry| entry.user == "ann"));

    let (mut ann, resumed) = back(&server, "ann", &session, &json!({})).await;
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
async fn extensions_state_retry_policy_and_groups_move_and_callbacks_bracket_the_session() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let write = |log: &Arc<Mutex<Vec<String>>>, line: String| log.lock().push(line);
    let (opened, back_again, closed) = (log.clone(), log.clone(), log.clone());
    let handler = named()
        .on_open(move |cx: Context| {
            write(&opened, format!("open {}", cx.user()));
            async move {
                cx.connection().with_extensions(|all| all.insert(7_u32));
                cx.connection()
                    .set_retry_policy(RetryPolicy { max_attempts: 3, ..RetryPolicy::default() })?;
                cx.presence().track(json!({ "status": "online" })).await?;
                cx.subscribe("mine", json!({ "by": "the server" })).await
            }
        })
        .on_reconnect(move |cx: Context, old: Connection| {
            let is_other = old != cx.connection() && !old.is_open();
            let (own, number) = (cx.connection(), cx.extension::<u32>());
            let policy = own.retry_policy().max_attempts;
            let what = format!("{is_other} {number:?} {policy} {:?} {}", own.channels(), own.state());
            write(&back_again, format!("reconnect {what}"));
            async { Ok(()) }
        })
        .on_close(move |cx: Context, reason: CloseReason| {
            write(&closed, format!("close {} {}", cx.user(), reason.as_str()));
            async { Ok(()) }
        });
    let busy = ConnectionState::Own("busy");
    let hub = hub().allow_transition(ConnectionState::Connected, busy).build();
    let server = TestServer::start(hub.clone(), handler);
    let (mut ann, session) = enter(&server, "ann").await;
    let told = ann.wait_for("subscribed").await;
    assert_eq!((&told["channel"], &told["recoverable"]), (&json!("mine"), &json!(true)));
    hub.groups().add("ann", "editors").unwrap();
    hub.connections().all()[0].set_state(busy).unwrap();
    lost(&hub, ann).await;
    assert!(hub.presence().is_present("ann"));
    assert_eq!(hub.stats().states.of(ConnectionState::Reconnecting), 1);

    publish(&hub, "mine", 0..2).await;
    let (mut ann, resumed) = back(&server, "ann", &session, &json!({ "mine": position(&told) })).await;
    assert_eq!(resumed["retry"]["max_attempts"], 3);
    assert_eq!(ann.wait_for("connection_state").await["state"], "busy");
    expect_numbers(&mut ann, "mine", 0..2).await;
    hub.groups().send("editors", "hello").await.unwrap();
    ann.expect("group").await;
    ann.request(json!({ "type": "ping" })).await.unwrap();
    assert_eq!(hub.stats().states.of(ConnectionState::Reconnecting), 0);
    assert_eq!(hub.presence().get("ann").unwrap().connections.len(), 1);
    ann.close(1000, "").await;
    eventually("on_close", || log.lock().len() == 3).await;
    assert_eq!(
        *log.lock(),
        ["open ann", r#"reconnect true Some(7) 3 ["mine"] busy"#, "close ann client"].map(str::to_owned)
    );
    assert!(!hub.presence().is_present("ann"));
}

#[tokio::test]
async fn a_session_whose_client_does_not_come_back_ends_and_everybody_hears_of_it() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (closed, states) = (log.clone(), log.clone());
    let handler = named().on_close(move |cx: Context, reason: CloseReason| {
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
    let (mut bob, _) = enter(&server, "bob").await;
    subscribe(&mut bob, "room:1").await;
    let (mut ann, session) = enter(&server, "ann").await;
    subscribe(&mut ann, "room:1").await;
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
    eventually("all is told", || log.lock().len() == 4).await;
    log.lock().sort();
    let mut sorted = expected.map(str::to_owned);
    sorted.sort();
    assert_eq!(*log.lock(), sorted);
    assert_eq!((hub.stats().sessions, hub.stats().sessions_ended), (0, 1));
    assert_eq!(hub.stats().states.of(ConnectionState::Reconnecting), 0);
    let (_ann, late) = back(&server, "ann", &session, &json!({})).await;
    assert_eq!(late["resumed"], false);
}

#[tokio::test]
async fn those_who_go_for_good_leave_no_session() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), named());
    for code in [1000, 1001, 3503] {
        let (client, session) = enter(&server, "ann").await;
        client.close(code, "").await;
        eventually("it is gone", || hub.connections().count() == 0).await;
        assert_eq!(hub.stats().sessions, 0, "{code}");
        assert_eq!(back(&server, "ann", &session, &json!({})).await.1["resumed"], false, "{code}");
        hub.user("ann").disconnect(CloseCode(3503), "");
        eventually("it is gone", || hub.connections().count() == 0).await;
    }
    let (mut client, _) = enter(&server, "ann").await;
    hub.user("ann").disconnect(CloseCode(4000), "come back");
    assert_eq!(client.expect_close().await.0, 4000);
    drop(client);
    eventually("a session", || hub.stats().sessions == 1).await;
    let plain = server.connect("/?user=ann").await;
    eventually("it is there", || hub.connections().count() == 1).await;
    plain.vanish();
    eventually("it is gone", || hub.connections().count() == 0).await;
    assert_eq!(hub.stats().sessions, 1, "a plain client has none");
}

#[tokio::test]
async fn sessions_end_with_the_rights_of_their_user_and_with_the_hub() {
    let hub = hub().build();
    let closed = Arc::new(Mutex::new(Vec::new()));
    let seen = closed.clone();
    let handler = named().on_close(move |cx: Context, _| {
        let seen = seen.clone();
        async move {
            // It takes a while, as one that writes to a database does.
            tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await.unwrap_err();
            seen.lock().push(cx.user().to_string());
            Ok(())
        }
    });
    let server = TestServer::start(hub.clone(), handler);
    for user in ["ann", "bob", "eve"] {
        let (client, _) = enter(&server, user).await;
        lost(&hub, client).await;
    }
    hub.user("ann").disconnect(CloseCode(3503), "");
    assert_eq!(hub.stats().sessions, 2);
    hub.revoke(Revocation::user("bob"));
    assert_eq!(hub.stats().sessions, 1);
    hub.shutdown(Duration::from_secs(1)).await;
    assert_eq!((hub.stats().sessions, hub.stats().sessions_ended), (0, 3));
    closed.lock().sort();
    assert_eq!(*closed.lock(), ["ann", "bob", "eve"], "the end of the hub waits for on_close");
}

#[tokio::test]
async fn sessions_are_bounded_in_number_and_bytes_and_the_oldest_end_first() {
    for options in [
        SessionOptions { most: 3, ..SessionOptions::default() },
        SessionOptions { bytes: 4 * 1024, ..SessionOptions::default() },
    ] {
        let hub = hub().sessions(options).build();
        let server = TestServer::start(hub.clone(), named());
        let mut sessions = Vec::new();
        for number in 0..8 {
            let user = format!("u{number}");
            let (mut client, session) = enter(&server, &user).await;
            subscribe(&mut client, "room:1").await;
            client.vanish();
            sessions.push((user, session));
            eventually("it is gone", || hub.connections().count() == 0).await;
        }
        let count = hub.stats().sessions;
        assert!(count == 3 && hub.stats().memory.sessions <= options.bytes, "{count}");
        assert_eq!(hub.stats().sessions_evicted, 5);
        let present = hub.channel("room:1").presence().len();
        assert_eq!(present, 3, "who has no session any more is not present");
        let mut there = Vec::new();
        for (number, (user, session)) in sessions.iter().enumerate() {
            let (client, answer) = back(&server, user, session, &json!({})).await;
            assert_eq!(answer["resumed"], number >= 5, "{user}");
            there.push(client);
        }
    }
}

#[tokio::test]
async fn any_other_first_message_ends_the_wait_and_is_handled_after_the_session() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), named());
    let (mut ann, session) = enter(&server, "ann").await;
    subscribe(&mut ann, "news").await;
    subscribe(&mut ann, "live:1").await;
    lost(&hub, ann).await;
    let mut ann = begin(&server, "ann", &session, Encoding::Json).await;
    ann.send(json!({ "type": "channel_message", "id": 1, "channel": "news", "content": 0 })).await;
    let resumed = ann.expect("session").await;
    let subscriptions = resumed["subscriptions"].as_array().unwrap();
    assert_eq!((&resumed["resumed"], subscriptions.len()), (&json!(true), 2));
    for one in subscriptions {
        let is_live = one["channel"] == "live:1";
        assert_eq!(one["recoverable"], !is_live);
        assert_eq!(one.get("recovered"), if is_live { None } else { Some(&json!(false)) });
    }
    assert_eq!(ann.next().await["type"], "ack");
    expect_numbers(&mut ann, "news", 0..1).await;
}

#[tokio::test]
async fn a_client_that_is_lost_again_before_it_has_said_where_it_stands_can_come_back_again() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), named().on_close(|_, _| async { panic!("it is not over") }));
    let (mut ann, session) = enter(&server, "ann").await;
    let news = subscribe(&mut ann, "news").await;
    lost(&hub, ann).await;
    for _ in 0..3 {
        let silent = begin(&server, "ann", &session, Encoding::Json).await;
        eventually("it is there", || hub.connections().count() == 1).await;
        silent.vanish();
        eventually("it waits again", || hub.stats().sessions == 1 && hub.connections().count() == 0).await;
    }
    publish(&hub, "news", 0..1).await;
    let (mut ann, resumed) = back(&server, "ann", &session, &json!({ "news": position(&news) })).await;
    assert_eq!(resumed["resumed"], true);
    expect_numbers(&mut ann, "news", 0..1).await;
    assert_eq!(hub.stats().panics, 0);
}

#[tokio::test]
async fn a_client_whose_return_was_cut_unnoticed_can_come_back_again_at_once() {
    let reconnected = Arc::new(Mutex::new(Vec::new()));
    let told = reconnected.clone();
    let hub = hub().max_connections_per_user(1).max_connections(1).build();
    let handler = named().on_reconnect(move |cx: Context, old: Connection| {
        told.lock().push((cx.connection().id(), old.id()));
        async { Ok(()) }
    });
    let server = TestServer::start(hub.clone(), handler);
    let (mut ann, session) = enter(&server, "ann").await;
    let news = subscribe(&mut ann, "news").await;
    let old = hub.connections().all()[0].id();
    lost(&hub, ann).await;
    publish(&hub, "news", 0..1).await;
    // Both still seem to live, and have said nothing.
    let mut first = begin(&server, "ann", &session, Encoding::Json).await;
    let mut second = begin(&server, "ann", &session, Encoding::Json).await;
    let (mut ann, resumed) = back(&server, "ann", &session, &json!({ "news": position(&news) })).await;
    assert_eq!(resumed["resumed"], true);
    expect_numbers(&mut ann, "news", 0..1).await;
    for silent in [&mut first, &mut second] {
        assert_eq!(silent.expect_close().await.0, 3013);
    }
    let here = hub.connections().all();
    assert_eq!((here.len(), hub.stats().sessions), (1, 0));
    eventually("on_reconnect", || !reconnected.lock().is_empty()).await;
    assert_eq!(*reconnected.lock(), [(here[0].id(), old)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_lost_in_the_midst_of_its_return_stays_whole() {
    const CHANNELS: usize = 50;
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), named());
    let (mut bob, _) = enter(&server, "bob").await;
    let (ann, mut session) = enter(&server, "ann").await;
    let user = hub.user("ann");
    for number in 0..CHANNELS {
        hub.channel(format!("room:{number}")).subscribe(&user.connections()[0], ()).await.unwrap();
    }
    subscribe(&mut bob, "room:49").await;
    bob.expect("presence_state").await;
    assert_eq!(bob.expect("channel_event").await["user"], "bob");
    lost(&hub, ann).await;
    for _ in 0..20 {
        let cut = std::thread::spawn({
            let (hub, user) = (hub.clone(), user.clone());
            move || {
                // Bob has one.
                while hub.stats().subscriptions < 2 {
                    std::hint::spin_loop();
                }
                user.disconnect(CloseCode(3011), "again");
            }
        });
        let (ann, resumed) = back(&server, "ann", &session, &json!({})).await;
        assert_eq!(
            (&resumed["resumed"], resumed["subscriptions"].as_array().unwrap().len()),
            (&json!(true), CHANNELS)
        );
        session = resumed;
        tokio::task::spawn_blocking(move || cut.join().unwrap()).await.unwrap();
        drop(ann);
        eventually("it waits again", || hub.stats().sessions == 1).await;
    }
    hub.channel("room:49").broadcast(json!("the end")).await.unwrap();
    loop {
        let told = bob.next().await;
        if told["type"] == "message" {
            break;
        }
        assert_eq!(told["event"], "subscription_reconnected", "{told}");
    }
}

#[tokio::test]
async fn a_return_that_comes_to_nothing_takes_nobody_offline() {
    let hub = hub().presence_grace(Duration::ZERO).build();
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = told.clone();
    hub.events().on_system(
        [SystemKind::UserOnline, SystemKind::UserOffline],
        move |_, event: SystemEvent| {
            match event {
                SystemEvent::UserOnline { user, .. } => seen.lock().push(format!("{user} is here")),
                SystemEvent::UserOffline { user, .. } => seen.lock().push(format!("{user} left")),
                _ => {}
            }
            async { Ok(()) }
        },
    );
    let server = TestServer::start(hub.clone(), named());
    let (ann, session) = enter(&server, "ann").await;
    lost(&hub, ann).await;
    let silent = begin(&server, "ann", &session, Encoding::Json).await;
    eventually("it is there", || hub.connections().count() == 1).await;
    silent.vanish();
    eventually("it waits again", || hub.stats().sessions == 1 && hub.connections().count() == 0).await;
    let (ann, resumed) = back(&server, "ann", &session, &json!({})).await;
    assert_eq!(resumed["resumed"], true);
    ann.close(1000, "").await;
    eventually("she has left", || hub.connections().count() == 0).await;
    let (_bob, _) = enter(&server, "bob").await;
    eventually("all is told", || told.lock().last().is_some_and(|last| last == "bob is here")).await;
    assert_eq!(*told.lock(), ["ann is here", "ann left", "bob is here"]);
}

#[tokio::test]
async fn what_comes_before_the_session_of_a_returning_client_waits_for_it() {
    let hub = hub().shards(1).build();
    let server = TestServer::start(hub.clone(), named());
    let (mut bob, _) = enter(&server, "bob").await;
    let (ann, session) = enter(&server, "ann").await;
    lost(&hub, ann).await;
    let mut ann = begin(&server, "ann", &session, Encoding::Json).await;
    eventually("she is there", || hub.connections().count() == 2).await;
    let connection = &hub.user("ann").connections()[0];
    hub.channel("news").subscribe(connection, ()).await.unwrap();
    hub.channel("news").broadcast(json!(1)).await.unwrap();
    hub.user("ann").send(json!(2)).await.unwrap();
    // One shard writes in turn: when bob has this, all of it was looked at.
    hub.connections().broadcast(json!(3)).await.unwrap();
    assert_eq!(bob.expect("broadcast").await["message"], 3);
    ann.send(json!({ "type": "resume", "id": 1, "positions": {} })).await;
    assert_eq!(ann.next().await["type"], "session");
    let mut kinds = Vec::new();
    while kinds.len() < 5 {
        kinds.push(ann.next().await["type"].as_str().unwrap().to_owned());
    }
    kinds.sort();
    assert_eq!(kinds, ["ack", "broadcast", "message", "private", "subscribed"]);
}

#[tokio::test]
async fn who_goes_in_the_midst_of_a_return_has_left_for_good() {
    let hub = hub().build();
    let closed = Arc::new(Mutex::new(0));
    let count = closed.clone();
    let handler = named().on_close(move |_, _| {
        *count.lock() += 1;
        async { Ok(()) }
    });
    let server = TestServer::start(hub.clone(), handler);
    let (mut bob, _) = enter(&server, "bob").await;
    subscribe(&mut bob, "room:1").await;
    for (user, is_sent_away) in [("ann", true), ("eve", false)] {
        let (mut client, session) = enter(&server, user).await;
        subscribe(&mut client, "room:1").await;
        assert_eq!(bob.wait_for("presence_change").await["user"], user);
        lost(&hub, client).await;
        let mut client = begin(&server, user, &session, Encoding::Json).await;
        eventually("the client is there", || hub.user(user).connections().len() == 1).await;
        if is_sent_away {
            hub.user(user).disconnect(CloseCode(3503), "enough");
            assert_eq!(client.expect_close().await.0, 3503);
        } else {
            client.close(1000, "").await;
        }
        let left = bob.wait_for("presence_change").await;
        assert_eq!((&left["event"], &left["user"]), (&json!("leave"), &json!(user)));
        eventually("on_close has run", || *closed.lock() == 1).await;
        *closed.lock() = 0;
        assert_eq!(hub.stats().sessions, 0);
        let (fresh, told) = back(&server, user, &session, &json!({})).await;
        assert_eq!(told["resumed"], false);
        fresh.close(1000, "").await;
        eventually("on_close has run", || *closed.lock() == 1).await;
        *closed.lock() = 0;
    }
}

#[tokio::test]
async fn without_sessions_a_client_is_told_of_none_and_begins_anew() {
    let hub = hub().sessions(SessionOptions::none()).build();
    let server = TestServer::start(hub.clone(), named());
    let mut ann = server.json("/?user=ann").await;
    let session = ann.expect("session").await;
    assert_eq!((&session["resumed"], session.get("resume")), (&json!(false), None));
    ann.vanish();
    eventually("it is gone", || hub.connections().count() == 0).await;
    assert_eq!(hub.stats().sessions, 0);
}

#[tokio::test]
async fn an_anonymous_client_is_the_same_after_it_was_lost() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), Handler::new());
    let mut client = server.json("/").await;
    let session = client.expect("session").await;
    lost(&hub, client).await;
    let (_client, resumed) = back(&server, "", &session, &json!({})).await;
    assert_eq!((&resumed["resumed"], &resumed["user"]), (&json!(true), &session["user"]));
}

#[tokio::test]
async fn listeners_hear_of_the_return_with_both_connections() {
    let hub = hub().build();
    let told = Arc::new(Mutex::new(Vec::new()));
    let told_of = told.clone();
    hub.events().on_system([SystemKind::Resumed], move |_, event: SystemEvent| {
        if let SystemEvent::Resumed { connection, old } = event {
            told_of.lock().push((connection.id().to_string(), old.id().to_string()));
        }
        async { Ok(()) }
    });
    let server = TestServer::start(hub.clone(), named());
    let (ann, session) = enter(&server, "ann").await;
    lost(&hub, ann).await;
    let (_ann, resumed) = back(&server, "ann", &session, &json!({})).await;
    eventually("told", || told.lock().len() == 1).await;
    let id = |session: &Value| session["connection_id"].as_str().unwrap().to_owned();
    assert_eq!(told.lock()[0], (id(&resumed), id(&session)));
}

#[tokio::test]
async fn a_connection_that_is_being_closed_for_good_cannot_be_resumed_and_is_told_its_reason() {
    let hub = hub().build();
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let seen = reasons.clone();
    let handler = named().on_close(move |_, reason: CloseReason| {
        seen.lock().push(reason);
        async { Ok(()) }
    });
    let server = TestServer::start(hub.clone(), handler);
    let (mut ann, session) = enter(&server, "ann").await;
    // Its client does not answer the close: the connection is there for a while.
    hub.user("ann").disconnect(CloseCode(3503), "enough");
    assert_eq!(hub.connections().count(), 1);
    let (_again, fresh) = back(&server, "ann", &session, &json!({})).await;
    assert_eq!(fresh["resumed"], false);
    assert_eq!(ann.expect_close().await.0, 3503);
    ann.vanish();
    eventually("on_close", || !reasons.lock().is_empty()).await;
    assert_eq!(*reasons.lock(), [CloseReason::Application(3503)]);
}

#[tokio::test]
async fn row_50_a_panic_or_an_error_of_on_reconnect_costs_its_own_session_alone() {
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let seen = reasons.clone();
    let handler = named()
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
    let (mut eve, session_of_eve) = enter(&server, "eve").await;
    subscribe(&mut eve, "room:1").await;
    for (user, code) in [("ann", 1011), ("bob", 3507)] {
        let (mut client, session) = enter(&server, user).await;
        subscribe(&mut client, "room:1").await;
        lost(&hub, client).await;
        let (mut client, resumed) = back(&server, user, &session, &json!({})).await;
        assert_eq!(resumed["resumed"], true);
        assert_eq!(client.expect_close().await.0, code, "{user}");
        client.vanish();
        eventually("it is gone", || hub.connections().count() == 1).await;
    }
    lost(&hub, eve).await;
    let (_eve, resumed) = back(&server, "eve", &session_of_eve, &json!({})).await;
    assert_eq!(resumed["resumed"], true);
    let expected = [("ann", CloseReason::Failed), ("bob", CloseReason::Failed)];
    assert_eq!(*reasons.lock(), expected.map(|(user, reason)| (user.to_owned(), reason)));
    assert_eq!((hub.stats().panics, hub.stats().sessions, hub.channel("room:1").presence().len()), (1, 0, 1));
}
