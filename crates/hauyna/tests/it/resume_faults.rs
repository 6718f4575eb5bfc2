//! Sessions that cannot be resumed in part or at present: a failing subscription affects only itself, and a
//! failure before the connection has its session closes the connection.

use crate::sessions::{
    connect_user, connect_with_token, expect_numbers, hub, lose, position, publish, resume,
};
use crate::support::{eventually, now, user_handler, wait_for_connections};
use hauyna::broker::{Answer, BrokerError};
use hauyna::events::{SystemEvent, SystemKind};
use hauyna::{Connection, Context, Hub, json};
use hauyna_protocol::Encoding;
use hauyna_test::{MemoryServer, TestServer, WrappedBroker};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How the broker answers a call of `history` for the channel `bad`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Fails,
    Panics,
    Hangs,
    /// It fails and is not ready.
    IsDown,
    /// It fails and panics in `is_ready`.
    PanicsInIsReady,
}

/// Returns a local broker with a fault that the test chooses.
fn faulty_broker() -> (WrappedBroker, Arc<Mutex<Fault>>) {
    let fault = Arc::new(Mutex::new(Fault::None));
    let (reading, asking) = (fault.clone(), fault.clone());
    let broker = WrappedBroker::default()
        .on_history(move |local, channel, range| {
            let fault = if channel.as_str() == "bad" { *reading.lock() } else { Fault::None };
            match fault {
                Fault::None => local.history(channel, range),
                Fault::Fails | Fault::IsDown | Fault::PanicsInIsReady => {
                    Answer::now(Err(BrokerError::new("not now")))
                }
                Fault::Hangs => Answer::later(std::future::pending()),
                Fault::Panics => Answer::later(async { panic!("on purpose") }),
            }
        })
        .on_is_ready(move |_| {
            let fault = *asking.lock();
            assert_ne!(fault, Fault::PanicsInIsReady, "on purpose");
            fault != Fault::IsDown
        });
    (broker, fault)
}

fn names(resumed: &Value, field: &str) -> Vec<String> {
    let entries = resumed[field].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| entry["channel"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_by_the_application_do_not_disturb_a_resume() {
    let hub = hub().build();
    let (own, answers) = (hub.clone(), Arc::new(Mutex::new(Vec::new())));
    let results = answers.clone();
    hub.events().on_system([SystemKind::Opened], move |_, event: SystemEvent| {
        let (own, results) = (own.clone(), results.clone());
        async move {
            if let SystemEvent::Opened { connection, .. } = event {
                for channel in ["news", "more"] {
                    let answer = own.channel(channel).subscribe(&connection, ()).await;
                    results.lock().push(answer.is_ok());
                }
            }
            Ok(())
        }
    });
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut ann, mut session) = connect_user(&server, "ann").await;
    let news = ann.wait_for("subscribed").await;
    ann.wait_for("subscribed").await;
    let mut seen = news["offset"].as_u64().unwrap();
    for round in 0..100 {
        lose(&hub, ann).await;
        publish(&hub, "news", seen..seen + 2).await;
        let positions = json!({ "news": { "epoch": news["epoch"], "offset": seen } });
        (ann, session) = resume(&server, "ann", &session, &positions).await;
        assert_eq!(session["resumed"], true, "in round {round}");
        assert_eq!(names(&session, "subscriptions"), ["news", "more"]);
        assert_eq!((&session["subscriptions"][0]["recovered"], session.get("failed")), (&json!(true), None));
        expect_numbers(&mut ann, "news", seen..seen + 2).await;
        seen += 2;
        publish(&hub, "news", seen..seen + 1).await;
        expect_numbers(&mut ann, "news", seen..seen + 1).await;
        seen += 1;
    }
    eventually("the listener has run", || answers.lock().len() == 202).await;
    assert!(answers.lock()[..2].iter().all(|is_ok| *is_ok));
    assert!(answers.lock()[2..].iter().all(|is_ok| !*is_ok), "the session already has these subscriptions");
}

#[tokio::test]
async fn session_keeps_its_subscriptions_under_the_channel_limit() {
    let hub = hub().max_channels_per_connection(3).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut ann, session) = connect_user(&server, "ann").await;
    for channel in ["a", "b"] {
        ann.subscribe(channel).await;
    }
    lose(&hub, ann).await;
    let mut ann = connect_with_token(&server, "ann", &session, Encoding::Json).await;
    wait_for_connections(&hub, 1).await;
    let connection = &hub.user("ann").connections()[0];
    hub.channel("c").subscribe(connection, ()).await.unwrap();
    let refused = hub.channel("d").subscribe(connection, ()).await.unwrap_err();
    assert_eq!(refused.error_type(), hauyna::ErrorType::LimitExceeded);
    ann.send(json!({ "type": "resume" })).await;
    let resumed = ann.expect("session").await;
    assert_eq!(
        (names(&resumed, "subscriptions"), resumed.get("failed")),
        (vec!["a".into(), "b".into()], None)
    );
    let mut channels = connection.channels();
    channels.sort();
    assert_eq!(channels, ["a", "b", "c"]);
}

#[tokio::test]
async fn failed_subscription_of_a_session_is_reported_and_affects_no_other() {
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let hub = hub().max_channels(2).build();
        let server = TestServer::start(hub.clone(), user_handler());
        let (mut ann, session) = connect_user(&server, "ann").await;
        let first = ann.subscribe("first").await;
        ann.subscribe("second").await;
        lose(&hub, ann).await;
        publish(&hub, "first", 0..1).await;
        let (mut bob, _) = connect_user(&server, "bob").await;
        bob.subscribe("another").await;
        let mut ann = connect_with_token(&server, "ann", &session, encoding).await;
        ann.send(json!({ "type": "resume", "positions": { "first": position(&first) } })).await;
        let resumed = ann.expect("session").await;
        assert_eq!(
            (&resumed["resumed"], names(&resumed, "subscriptions")),
            (&json!(true), vec!["first".to_owned()])
        );
        let failed = &resumed["failed"][0];
        assert_eq!((names(&resumed, "failed"), &failed["temporary"]), (vec!["second".into()], &json!(false)));
        assert_eq!(failed["error_type"], "limit_exceeded");
        assert!(failed["message"].is_string());
        expect_numbers(&mut ann, "first", 0..1).await;
        bob.close(1000, "").await;
        eventually("the channel limit is free", || hub.stats().channels == 1).await;
        ann.subscribe("second").await;
    }
}

#[tokio::test]
async fn broker_failure_for_one_channel_loses_only_that_subscription() {
    for bad in [Fault::Fails, Fault::Panics] {
        fail_for_one_channel(bad).await;
    }
}

async fn fail_for_one_channel(bad: Fault) {
    let (broker, fault) = faulty_broker();
    let hub = hub().broker(broker).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut ann, session) = connect_user(&server, "ann").await;
    for channel in ["bad", "room:1", "good"] {
        ann.subscribe(channel).await;
    }
    lose(&hub, ann).await;
    *fault.lock() = bad;
    let (mut ann, resumed) = resume(&server, "ann", &session, &json!({})).await;
    assert_eq!(resumed["resumed"], true);
    assert_eq!(names(&resumed, "subscriptions"), ["room:1", "good"]);
    let failed = &resumed["failed"][0];
    assert_eq!(
        (names(&resumed, "failed"), &failed["error_type"]),
        (vec!["bad".into()], &json!("unavailable"))
    );
    assert_eq!((&failed["temporary"], failed.as_object().unwrap().len()), (&json!(true), 4));
    ann.wait_for("presence_state").await;
    *fault.lock() = Fault::None;
    ann.wait_for("channel_event").await;
    ann.subscribe("bad").await;
    assert_eq!(hub.user("ann").connections()[0].channels(), ["room:1", "good", "bad"]);
}

#[tokio::test(start_paused = true)]
async fn slow_broker_closes_the_connection_and_keeps_the_session() {
    let (broker, fault) = faulty_broker();
    let closed = Arc::new(AtomicUsize::new(0));
    let count = closed.clone();
    let handler = user_handler().callback_timeout(Duration::from_secs(2)).on_close(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    });
    let hub = hub().broker(broker).build();
    let server = MemoryServer::start(hub.clone(), handler);
    let mut ann = server.json("/?user=ann").await;
    let session = ann.expect("session").await;
    ann.subscribe("bad").await;
    ann.vanish();
    let token = session["resume"]["token"].as_str().unwrap();
    let target = format!("/?user=ann&resume={token}");
    for (bad, code) in [(Fault::Hangs, 3010), (Fault::PanicsInIsReady, 1011), (Fault::IsDown, 3010)] {
        *fault.lock() = bad;
        let mut ann = server.client(&target).json().timeout(Duration::from_secs(20)).connect().await;
        ann.send(json!({ "type": "resume" })).await;
        assert_eq!(ann.expect_close().await.0, code, "{bad:?}");
        ann.vanish();
        eventually("the session still waits", || (hub.connections().count(), hub.stats().sessions) == (0, 1))
            .await;
    }
    *fault.lock() = Fault::None;
    let mut ann = server.json(&target).await;
    ann.send(json!({ "type": "resume" })).await;
    let resumed = ann.expect("session").await;
    assert_eq!(
        (&resumed["resumed"], names(&resumed, "subscriptions")),
        (&json!(true), vec!["bad".to_owned()])
    );
    assert_eq!(closed.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn client_may_send_positions_later_than_the_callback_timeout() {
    let server =
        MemoryServer::start(hub().build(), user_handler().callback_timeout(Duration::from_millis(100)));
    let mut ann = server.json("/?user=ann").await;
    let session = ann.expect("session").await;
    ann.vanish();
    let token = session["resume"]["token"].as_str().unwrap();
    let target = format!("/?user=ann&resume={token}");
    let mut ann = server.client(&target).json().timeout(Duration::from_secs(20)).connect().await;
    hauyna_test::advance(Duration::from_secs(4)).await;
    ann.send(json!({ "type": "resume" })).await;
    assert_eq!(ann.expect("session").await["resumed"], true);
}

#[tokio::test(start_paused = true)]
async fn client_reconnecting_during_a_slow_resume_gets_the_session() {
    let (broker, fault) = faulty_broker();
    let reconnected = Arc::new(AtomicUsize::new(0));
    let count = reconnected.clone();
    let handler = user_handler().on_reconnect(move |_: Context, _: Connection| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    });
    let hub: Hub = hub().broker(broker).build();
    let server = MemoryServer::start(hub.clone(), handler);
    let mut ann = server.json("/?user=ann").await;
    let session = ann.expect("session").await;
    ann.subscribe("bad").await;
    ann.vanish();
    let token = session["resume"]["token"].as_str().unwrap();
    let target = format!("/?user=ann&resume={token}");
    *fault.lock() = Fault::Hangs;
    let mut stuck = server.json(&target).await;
    stuck.send(json!({ "type": "resume" })).await;
    hauyna_test::advance(Duration::from_secs(1)).await;
    *fault.lock() = Fault::None;
    let mut ann = server.json(&target).await;
    ann.send(json!({ "type": "resume" })).await;
    assert_eq!(ann.expect("session").await["resumed"], true);
    assert_eq!(stuck.expect_close().await.0, 3013);
    eventually("on_reconnect", || reconnected.load(Ordering::SeqCst) == 1).await;
    assert_eq!((hub.connections().count(), hub.stats().sessions), (1, 0));
}

#[tokio::test]
async fn channels_held_only_by_lost_sessions_are_evicted() {
    let hub = hub().max_channels(3).presence_grace(Duration::from_secs(3600)).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut ann, session) = connect_user(&server, "ann").await;
    for channel in ["room:1", "room:2", "room:3"] {
        ann.subscribe(channel).await;
    }
    lose(&hub, ann).await;
    assert_eq!(hub.stats().channels, 3, "ann may resume");
    let (mut bob, _) = connect_user(&server, "bob").await;
    bob.subscribe("room:4").await;
    let present =
        ["room:1", "room:2", "room:3", "room:4"].map(|room| now(hub.channel(room).presence()).len());
    assert_eq!((present, hub.stats().channels), ([0, 1, 1, 1], 3), "the first lost session was evicted");
    // Channels of lost clients without a session are evicted, too.
    let mut plain = server.connect("/?user=cid").await;
    plain.subscribe("room:5").await;
    plain.vanish();
    wait_for_connections(&hub, 1).await;
    for room in ["room:6", "room:7"] {
        bob.subscribe(room).await;
    }
    let refused = bob.request(json!({ "type": "subscribe_channel", "channel": "room:8" })).await;
    assert_eq!(
        refused.unwrap_err()["error_type"],
        "limit_exceeded",
        "three channels belong to a connected client"
    );
    for room in ["room:6", "room:7"] {
        bob.request(json!({ "type": "unsubscribe_channel", "channel": room })).await.unwrap();
    }
    let (_ann, resumed) = resume(&server, "ann", &session, &json!({})).await;
    assert_eq!((&resumed["resumed"], names(&resumed, "failed")), (&json!(true), vec!["room:3".to_owned()]));
    assert_eq!(hub.channel("room:1").presence().await.len(), 1, "ann has her place again");
}

#[tokio::test]
async fn resume_that_gets_too_much_while_the_broker_is_slow_gives_the_session_back() {
    let (broker, fault) = faulty_broker();
    let hub = hub().broker(broker).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut ann, session) = connect_user(&server, "ann").await;
    let subscribed = ann.subscribe("bad").await;
    lose(&hub, ann).await;
    publish(&hub, "bad", 0..3).await;
    *fault.lock() = Fault::Hangs;
    let mut ann = connect_with_token(&server, "ann", &session, Encoding::Json).await;
    ann.send(json!({ "type": "resume", "positions": { "bad": position(&subscribed) } })).await;
    wait_for_connections(&hub, 1).await;
    let text = "x".repeat(64 * 1024);
    for _ in 0..80 {
        hub.user("ann").send(json!(text)).await.unwrap();
    }
    assert_eq!(ann.expect_close().await.0, 3008);
    drop(ann);
    eventually("the session waits again", || (hub.connections().count(), hub.stats().sessions) == (0, 1))
        .await;
    *fault.lock() = Fault::None;
    let positions = json!({ "bad": position(&subscribed) });
    let (mut ann, resumed) = resume(&server, "ann", &session, &positions).await;
    assert_eq!(
        (&resumed["resumed"], names(&resumed, "subscriptions")),
        (&json!(true), vec!["bad".to_owned()])
    );
    expect_numbers(&mut ann, "bad", 0..3).await;
}
