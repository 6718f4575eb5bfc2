//! Resumes that fail or are interrupted: sockets that break again, sockets that only seem to live, and
//! clients that close permanently.

use crate::sessions::{
    connect_user, connect_with_token, expect_numbers, hub, lose, position, publish, resume,
};
use crate::support::{eventually, now, user_handler, wait_for_connections};
use hauyna::events::{SystemEvent, SystemKind};
use hauyna::{CloseCode, Connection, Context, json};
use hauyna_protocol::Encoding;
use hauyna_test::{MemoryServer, TestServer};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn first_frame_of_a_client_confirms_its_new_token() {
    let server = MemoryServer::start(hub().build(), user_handler());
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
async fn old_token_stays_valid_until_the_new_one_is_confirmed() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut ann, session) = connect_user(&server, "ann").await;
    let news = ann.subscribe("news").await;
    lose(&hub, ann).await;
    publish(&hub, "news", 0..2).await;
    let positions = json!({ "news": position(&news) });
    // The connection of the session is lost, or still seems to live.
    for is_lost in [true, false, true] {
        let mut cut = connect_with_token(&server, "ann", &session, Encoding::Json).await;
        cut.send(json!({ "type": "resume", "positions": positions })).await;
        eventually("the session is resumed", || hub.stats().subscriptions == 1).await;
        if is_lost {
            lose(&hub, cut).await;
        }
    }
    let (mut ann, resumed) = resume(&server, "ann", &session, &positions).await;
    assert_eq!(resumed["resumed"], true);
    expect_numbers(&mut ann, "news", 0..2).await;
    assert_eq!((hub.connections().count(), hub.stats().sessions), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_token_is_accepted_while_its_connection_is_being_lost() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut ann, session) = connect_user(&server, "ann").await;
    for channel in 0..100 {
        ann.subscribe(&format!("live:{channel}")).await;
    }
    lose(&hub, ann).await;
    for round in 0..100 {
        let (cut, resumed) = resume(&server, "ann", &session, &json!({})).await;
        assert_eq!(resumed["resumed"], true, "in round {round}");
        cut.vanish();
    }
}

#[tokio::test]
async fn any_other_first_message_is_handled_after_the_session() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut ann, session) = connect_user(&server, "ann").await;
    ann.subscribe("news").await;
    ann.subscribe("live:1").await;
    lose(&hub, ann).await;
    let mut ann = connect_with_token(&server, "ann", &session, Encoding::Json).await;
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
async fn client_lost_before_sending_positions_can_resume_again() {
    let hub = hub().build();
    let server = TestServer::start(
        hub.clone(),
        user_handler().on_close(|_, _| async { panic!("on_close ran although the session continues") }),
    );
    let (mut ann, session) = connect_user(&server, "ann").await;
    let news = ann.subscribe("news").await;
    lose(&hub, ann).await;
    for _ in 0..3 {
        let silent = connect_with_token(&server, "ann", &session, Encoding::Json).await;
        wait_for_connections(&hub, 1).await;
        silent.vanish();
        eventually("the session waits again", || hub.stats().sessions == 1 && hub.connections().count() == 0)
            .await;
    }
    publish(&hub, "news", 0..1).await;
    let (mut ann, resumed) = resume(&server, "ann", &session, &json!({ "news": position(&news) })).await;
    assert_eq!(resumed["resumed"], true);
    expect_numbers(&mut ann, "news", 0..1).await;
    assert_eq!(hub.stats().panics, 0);
}

#[tokio::test]
async fn client_with_an_unnoticed_cut_can_resume_again_at_once() {
    let reconnected = Arc::new(Mutex::new(Vec::new()));
    let reported = reconnected.clone();
    let hub = hub().max_connections_per_user(1).max_connections(1).build();
    let handler = user_handler().on_reconnect(move |cx: Context, old: Connection| {
        reported.lock().push((cx.connection().id(), old.id()));
        async { Ok(()) }
    });
    let server = TestServer::start(hub.clone(), handler);
    let (mut ann, session) = connect_user(&server, "ann").await;
    let news = ann.subscribe("news").await;
    let old = hub.connections().all()[0].id();
    lose(&hub, ann).await;
    publish(&hub, "news", 0..1).await;
    // Both still seem to live, and have sent nothing.
    let mut first = connect_with_token(&server, "ann", &session, Encoding::Json).await;
    let mut second = connect_with_token(&server, "ann", &session, Encoding::Json).await;
    let (mut ann, resumed) = resume(&server, "ann", &session, &json!({ "news": position(&news) })).await;
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
async fn session_lost_during_its_resume_stays_complete() {
    const CHANNELS: usize = 50;
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut bob, _) = connect_user(&server, "bob").await;
    let (ann, mut session) = connect_user(&server, "ann").await;
    let user = hub.user("ann");
    for number in 0..CHANNELS {
        hub.channel(format!("room:{number}")).subscribe(&user.connections()[0], ()).await.unwrap();
    }
    bob.subscribe("room:49").await;
    bob.expect("presence_state").await;
    assert_eq!(bob.expect("channel_event").await["user"], "bob");
    lose(&hub, ann).await;
    for _ in 0..20 {
        let cut = std::thread::spawn({
            let (hub, user) = (hub.clone(), user.clone());
            move || {
                // One of the subscriptions is bob's.
                while hub.stats().subscriptions < 2 {
                    std::hint::spin_loop();
                }
                now(user.disconnect(CloseCode(3011), "again"));
            }
        });
        let (ann, resumed) = resume(&server, "ann", &session, &json!({})).await;
        assert_eq!(
            (&resumed["resumed"], resumed["subscriptions"].as_array().unwrap().len()),
            (&json!(true), CHANNELS)
        );
        session = resumed;
        tokio::task::spawn_blocking(move || cut.join().unwrap()).await.unwrap();
        drop(ann);
        eventually("the session waits again", || hub.stats().sessions == 1).await;
    }
    hub.channel("room:49").broadcast(json!("the end")).await.unwrap();
    loop {
        let message = bob.next().await;
        if message["type"] == "message" {
            break;
        }
        assert_eq!(message["event"], "subscription_reconnected", "{message}");
    }
}

#[tokio::test]
async fn failed_resume_takes_nobody_offline() {
    let hub = hub().presence_grace(Duration::ZERO).build();
    let reported = Arc::new(Mutex::new(Vec::new()));
    let seen = reported.clone();
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
    let server = TestServer::start(hub.clone(), user_handler());
    let (ann, session) = connect_user(&server, "ann").await;
    lose(&hub, ann).await;
    let silent = connect_with_token(&server, "ann", &session, Encoding::Json).await;
    wait_for_connections(&hub, 1).await;
    silent.vanish();
    eventually("the session waits again", || hub.stats().sessions == 1 && hub.connections().count() == 0)
        .await;
    let (ann, resumed) = resume(&server, "ann", &session, &json!({})).await;
    assert_eq!(resumed["resumed"], true);
    ann.close(1000, "").await;
    wait_for_connections(&hub, 0).await;
    let (_bob, _) = connect_user(&server, "bob").await;
    eventually("all changes are reported", || {
        reported.lock().last().is_some_and(|last| last == "bob is here")
    })
    .await;
    assert_eq!(*reported.lock(), ["ann is here", "ann left", "bob is here"]);
}

#[tokio::test]
async fn messages_for_a_resuming_client_wait_for_its_session() {
    let hub = hub().shards(1).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut bob, _) = connect_user(&server, "bob").await;
    let (ann, session) = connect_user(&server, "ann").await;
    lose(&hub, ann).await;
    let mut ann = connect_with_token(&server, "ann", &session, Encoding::Json).await;
    wait_for_connections(&hub, 2).await;
    let connection = &hub.user("ann").connections()[0];
    hub.channel("news").subscribe(connection, ()).await.unwrap();
    hub.channel("news").broadcast(json!(1)).await.unwrap();
    hub.user("ann").send(json!(2)).await.unwrap();
    // One shard writes in order: when bob has this, it has processed everything before.
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
async fn client_that_closes_during_its_resume_has_left() {
    let hub = hub().build();
    let closed = Arc::new(Mutex::new(0));
    let count = closed.clone();
    let handler = user_handler().on_close(move |_, _| {
        *count.lock() += 1;
        async { Ok(()) }
    });
    let server = TestServer::start(hub.clone(), handler);
    let (mut bob, _) = connect_user(&server, "bob").await;
    bob.subscribe("room:1").await;
    for (user, is_sent_away) in [("ann", true), ("eve", false)] {
        let (mut client, session) = connect_user(&server, user).await;
        client.subscribe("room:1").await;
        assert_eq!(bob.wait_for("presence_change").await["user"], user);
        lose(&hub, client).await;
        let mut client = connect_with_token(&server, user, &session, Encoding::Json).await;
        eventually("the client is connected", || hub.user(user).connections().len() == 1).await;
        if is_sent_away {
            hub.user(user).disconnect(CloseCode(3503), "enough").await;
            assert_eq!(client.expect_close().await.0, 3503);
        } else {
            client.close(1000, "").await;
        }
        let left = bob.wait_for("presence_change").await;
        assert_eq!((&left["event"], &left["user"]), (&json!("leave"), &json!(user)));
        eventually("on_close has run", || *closed.lock() == 1).await;
        *closed.lock() = 0;
        assert_eq!(hub.stats().sessions, 0);
        let (fresh, answer) = resume(&server, user, &session, &json!({})).await;
        assert_eq!(answer["resumed"], false);
        fresh.close(1000, "").await;
        eventually("on_close has run", || *closed.lock() == 1).await;
        *closed.lock() = 0;
    }
}

#[tokio::test]
async fn publications_excluding_a_connection_are_not_replayed_to_its_session() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut ann, mut session) = connect_user(&server, "ann").await;
    let news = ann.subscribe("news").await;
    let own = hub.connections().all()[0].id();
    hub.channel("news").broadcast(json!("own")).except(own).await.unwrap();
    let positions = json!({ "news": position(&news) });
    for _ in 0..3 {
        lose(&hub, ann).await;
        (ann, session) = resume(&server, "ann", &session, &positions).await;
        assert_eq!((&session["resumed"], &session["subscriptions"][0]["offset"]), (&json!(true), &json!(1)));
    }
    // Also publications made now by a caller that knows the first connection.
    hub.channel("news").broadcast(json!("own")).except(own).await.unwrap();
    publish(&hub, "news", 0..1).await;
    expect_numbers(&mut ann, "news", 0..1).await;
}
