//! What a client was permitted ends with what the permission was about: its subscription, also where the
//! request is carried out later.

use crate::sessions::{connect_with_token, lose, resume};
use crate::support::{eventually, now, poll_once, session_client, user_handler};
use hauyna::broker::Answer;
use hauyna::channel::AccessRequest;
use hauyna::connection::{ConnectionState, RetryPolicy};
use hauyna::handler::Recovery;
use hauyna::limits::{AtLimit, Limit};
use hauyna::middleware::Next;
use hauyna::{
    ChannelOptions, CloseCode, ConnectRequest, Connection, Context, Error, Handler, Hub, Identity, Presence,
    Reject, json,
};
use hauyna_protocol::Encoding;
use hauyna_test::{Client, MemoryServer, TestServer, WrappedBroker, advance};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

#[tokio::test]
async fn subscription_ended_while_a_synchronous_authoriser_decides_is_refused() {
    for closes_channel in [false, true] {
        let end = move |cx: &Context| match closes_channel {
            true => now(cx.channel("c").close()),
            false => drop(cx.channel("c").unsubscribe(&cx.connection())),
        };
        let calls = Arc::new(AtomicUsize::new(0));
        let authorise = move |cx: Context, _: AccessRequest| {
            // The application has read that the client is a member, and removes it on another thread.
            if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                std::thread::scope(|scope| scope.spawn(|| end(&cx)).join().unwrap());
            }
            true
        };
        let channels = ChannelOptions::new().authorize_subscribe(authorise);
        let hub = Hub::builder().channels("c", channels).build();
        let server = TestServer::start(hub.clone(), user_handler());
        let mut client = session_client(&server, "/?user=ann").await;
        let request = json!({ "type": "subscribe_channel", "channel": "c" });
        let refused = client.request(request).await.unwrap_err();
        assert_eq!(refused["error_type"], "permission_denied");
        assert_eq!(hub.channel("c").subscription_count(), 0);
        client.subscribe("c").await; // this is a new decision
    }
}

#[tokio::test]
async fn permission_of_an_ended_subscription_does_not_count_for_the_next_one() {
    let authorise = |cx: Context, request: AccessRequest| async move {
        // The application makes a speaker a listener.
        let (channel, connection) = (cx.channel(request.name()), cx.connection());
        channel.unsubscribe(&connection).unwrap();
        channel.subscribe(&connection, json!({ "role": "listener" })).await.unwrap();
        true
    };
    let update = move |cx: Context, request: AccessRequest| async move {
        !request.is_update() || authorise(cx, request).await
    };
    let channels = ChannelOptions::new()
        .presence(Presence::each())
        .authorize_subscribe(update)
        .authorize_history(authorise)
        .authorize_presence(authorise)
        .authorize_publish(authorise);
    let hub = Hub::builder().channels("c", channels).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut client = session_client(&server, "/?user=ann").await;
    client.subscribe("c").await;
    for request in [
        json!({ "type": "channel_message", "channel": "c", "content": 1 }),
        json!({ "type": "history", "channel": "c" }),
        json!({ "type": "presence", "channel": "c" }),
        json!({ "type": "update_presence", "channel": "c", "metadata": { "role": "speaker" } }),
    ] {
        let refused = client.request(request.clone()).await.unwrap_err();
        assert_eq!(refused["error_type"], "not_subscribed", "{request}");
        let connection = hub.user("ann").connections().pop().unwrap();
        assert_eq!(hub.channel("c").metadata(&connection), Some(json!({ "role": "listener" })));
    }
}

#[tokio::test]
async fn history_read_for_an_ended_subscription_is_not_sent() {
    let (entered, proceed) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (enters, may_proceed) = (entered.clone(), proceed.clone());
    let broker = WrappedBroker::default().on_history(move |local, channel, range| {
        if range.limit == 1000 {
            let (local, channel) = (local.clone(), channel.clone());
            let (enters, may_proceed) = (enters.clone(), may_proceed.clone());
            return Answer::later(async move {
                enters.add_permits(1);
                may_proceed.acquire().await.unwrap().forget();
                local.history(&channel, range).await
            });
        }
        local.history(channel, range)
    });
    let channels = ChannelOptions::new().history(10, Duration::from_secs(60));
    let hub = Hub::builder().channels("c", channels).broker(broker).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut client = session_client(&server, "/?user=ann").await;
    client.subscribe("c").await;
    client.send(json!({ "type": "history", "channel": "c", "limit": 1000, "id": 77 })).await;
    entered.acquire().await.unwrap().forget();
    let connection = hub.user("ann").connections().pop().unwrap();
    hub.channel("c").unsubscribe(&connection).unwrap();
    hub.channel("c").broadcast("not for ann").await.unwrap();
    proceed.add_permits(1);
    let answer = client.answer(&json!(77)).await;
    assert_eq!(answer.unwrap_err()["error_type"], "not_subscribed");
}

/// Why a connection is closing already when its client loses its rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    Shutdown,
    Replaced,
    Moved,
}

#[tokio::test]
async fn rights_that_end_while_the_connection_is_closing_have_ended() {
    for (closing, expires) in [
        (Closing::Shutdown, false),
        (Closing::Replaced, false),
        (Closing::Moved, false),
        (Closing::Shutdown, true),
        (Closing::Moved, true),
    ] {
        let gate = Arc::new(Semaphore::new(0));
        let opens = gate.clone();
        let authorise = move |_: Context, _: AccessRequest| {
            let gate = gate.clone();
            async move { gate.acquire().await.is_ok() }
        };
        let hub = Hub::builder().max_connections_per_user(1).at_limit(Limit::PerUser, AtLimit::CloseOldest);
        let hub = hub.channels("c", ChannelOptions::new().authorize_publish(authorise)).build();
        let server = TestServer::start(hub.clone(), user_handler());
        let mut eve = session_client(&server, "/?user=eve").await;
        eve.subscribe("c").await;
        let requests = hub.stats().requests;
        eve.send(json!({ "type": "channel_message", "channel": "c", "content": "late" })).await;
        eventually("the authoriser runs", || hub.stats().requests > requests).await;
        let connection = hub.user("eve").connections().pop().unwrap();
        let mut newer = None::<Client>;
        match closing {
            Closing::Shutdown => assert!(poll_once(hub.shutdown(Duration::from_secs(10))).is_pending()),
            Closing::Replaced => newer = Some(session_client(&server, "/?user=eve").await),
            Closing::Moved => connection.close(CloseCode(4000), "come back"),
        }
        eve.expect_close().await;
        match expires {
            true => connection.set_expiry(Some(SystemTime::now())),
            false => assert!(now(hub.user("eve").disconnect(CloseCode::REVOKED, "")) >= 1),
        }
        // An expiry counts in milliseconds.
        eventually("the time has passed", || {
            connection.expires_at().is_none_or(|at| at.elapsed().is_ok_and(|time| time.as_millis() > 3))
        })
        .await;
        let (published, refused) = (hub.stats().published, hub.stats().refused);
        opens.add_permits(1);
        eventually("it is decided", || hub.stats().refused > refused || hub.stats().published > published)
            .await;
        assert_eq!(hub.stats().published, published, "{closing:?}, expires: {expires}");
        drop(newer);
    }
}

#[tokio::test]
async fn client_that_on_error_sends_away_does_not_resume() {
    let handler = user_handler()
        .on("fail", async |cx: Context, (): ()| -> hauyna::Result {
            cx.connection().close(CloseCode(4000), "come back");
            Err(Error::application("on purpose"))
        })
        .on_error(|_, _| Recovery::Close(CloseCode::REVOKED, "stay away".into()));
    let hub = Hub::builder().channels("c", ChannelOptions::new()).build();
    let server = TestServer::start(hub.clone(), handler);
    let mut eve = server.json("/?user=eve").await;
    let session = eve.expect("session").await;
    eve.subscribe("c").await;
    eve.send(json!({ "type": "fail" })).await;
    eve.expect_close().await;
    drop(eve);
    let (_eve, session) = resume(&server, "eve", &session, &json!({})).await;
    assert_eq!(session["resumed"], false, "{session}");
}

/// A call that sends the user `eve` away.
type SendAway = fn(&Hub);

#[tokio::test]
async fn client_that_is_sent_away_while_its_connection_is_closing_does_not_resume() {
    let ways: [(&str, SendAway); 4] = [
        ("clear", |hub| assert_eq!(hub.connections().clear(CloseCode::REVOKED, ""), 0)),
        ("disconnect", |hub| assert_eq!(now(hub.user("eve").disconnect(CloseCode::REVOKED, "")), 1)),
        ("close", |hub| hub.user("eve").connections()[0].close(CloseCode::REVOKED, "")),
        ("unregister", |hub| assert!(!hub.connections().unregister(hub.user("eve").connections()[0].id()))),
    ];
    for (how, send_away) in ways {
        let hub = Hub::builder().channels("c", ChannelOptions::new()).build();
        let server = TestServer::start(hub.clone(), user_handler());
        let mut eve = server.json("/?user=eve").await;
        let session = eve.expect("session").await;
        eve.subscribe("c").await;
        hub.user("eve").connections()[0].close(CloseCode(4000), "come back");
        // The client has not answered the close yet.
        send_away(&hub);
        eve.vanish();
        eventually("it is gone", || hub.stats().connections == 0).await;
        let (_eve, session) = resume(&server, "eve", &session, &json!({})).await;
        assert_eq!(session["resumed"], false, "{how}: {session}");
    }
}

#[tokio::test]
async fn credentials_that_expire_during_the_handshake_open_no_connection() {
    let opened = Arc::new(AtomicUsize::new(0));
    let opens = opened.clone();
    let handler = Handler::new()
        .identify(|_| Ok(Identity::new("eve").expires_at(SystemTime::now() + Duration::from_millis(50))))
        .middleware(async |request: ConnectRequest, next: Next| {
            let admitted = next.run(request).await?;
            let end = admitted.expires_at().unwrap();
            eventually("the credentials have expired", || SystemTime::now() > end).await;
            Ok::<_, Reject>(admitted)
        })
        .on_open(move |_| {
            opens.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        });
    let hub = Hub::new();
    let server = TestServer::start(hub.clone(), handler);
    let refused = server.client("/").json().try_connect().await.map(drop).unwrap_err();
    assert_eq!((refused.status.as_u16(), &refused.json()["error_type"]), (401, &json!("token_expired")));
    assert_eq!(opened.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn session_whose_credentials_expire_during_the_resume_is_not_resumed() {
    let handler = user_handler().no_heartbeat().on_open(async |cx: Context| {
        cx.connection().set_expiry(Some(SystemTime::now() + Duration::from_secs(60)));
        Ok(())
    });
    let channels = ChannelOptions::new().history(10, Duration::from_secs(600));
    let hub = Hub::builder().channels("c", channels).build();
    let server = MemoryServer::start(hub.clone(), handler);
    let mut eve = server.json("/?user=eve").await;
    let session = eve.expect("session").await;
    let subscribed = eve.subscribe("c").await;
    eve.vanish();
    advance(Duration::from_secs(58)).await;
    hub.channel("c").broadcast("not for eve").await.unwrap();
    let target = format!("/?user=eve&resume={}", session["resume"]["token"].as_str().unwrap());
    let mut eve = server.json(&target).await;
    advance(Duration::from_secs(3)).await;
    let position = json!({ "epoch": subscribed["epoch"], "offset": subscribed["offset"] });
    eve.send(json!({ "type": "resume", "positions": { "c": position } })).await;
    assert_eq!(eve.expect_close().await.0, 3005);
    let mut eve = server.json(&target).await;
    assert_eq!(eve.expect("session").await["resumed"], false);
}

/// A call that sends the user `eve` away, or this connection of theirs.
type SendAwayConnection = fn(&Hub, &Connection);

#[tokio::test]
async fn client_that_is_sent_away_after_its_failed_resume_does_not_resume() {
    let ways: [(&str, SendAwayConnection); 3] = [
        ("close", |_, connection| connection.close(CloseCode::REVOKED, "")),
        ("unregister", |hub, connection| _ = hub.connections().unregister(connection.id())),
        ("disconnect", |hub, _| _ = now(hub.user("eve").disconnect(CloseCode::REVOKED, ""))),
    ];
    for (how, send_away) in ways {
        for is_gone in [false, true] {
            let hub = Hub::builder().channels("c", ChannelOptions::new()).build();
            let server = TestServer::start(hub.clone(), user_handler());
            let mut eve = server.json("/?user=eve").await;
            let session = eve.expect("session").await;
            eve.subscribe("c").await;
            lose(&hub, eve).await;
            let mut eve = connect_with_token(&server, "eve", &session, Encoding::Json).await;
            eventually("it resumes", || hub.connections().count() == 1).await;
            let connection = hub.user("eve").connections().pop().unwrap();
            connection.close(CloseCode(4000), "come back");
            eve.expect_close().await;
            eventually("the session waits again", || hub.stats().sessions == 1).await;
            if is_gone {
                drop(eve);
                eventually("it is gone", || hub.connections().count() == 0).await;
            }
            send_away(&hub, &connection);
            let (_eve, session) = resume(&server, "eve", &session, &json!({})).await;
            let is_told = !is_gone || how != "unregister";
            assert_eq!(session["resumed"], !is_told, "{how}, gone: {is_gone}: {session}");
        }
    }
}

#[tokio::test]
async fn unsubscribing_a_client_after_its_failed_resume_counts_for_the_session() {
    let hub = Hub::builder().channels("{*any}", ChannelOptions::new()).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut eve = server.json("/?user=eve").await;
    let session = eve.expect("session").await;
    eve.subscribe("kept").await;
    eve.subscribe("ended").await;
    lose(&hub, eve).await;
    let mut eve = connect_with_token(&server, "eve", &session, Encoding::Json).await;
    eventually("it resumes", || hub.connections().count() == 1).await;
    let connection = hub.user("eve").connections().pop().unwrap();
    connection.close(CloseCode(4000), "come back");
    eve.expect_close().await;
    eventually("the session waits again", || hub.stats().sessions == 1).await;
    hub.channel("ended").unsubscribe(&connection).unwrap();
    let (_eve, session) = resume(&server, "eve", &session, &json!({})).await;
    let subscriptions = session["subscriptions"].as_array().unwrap();
    assert_eq!((subscriptions.len(), &subscriptions[0]["channel"]), (1, &json!("kept")));
}

#[derive(Debug, Clone, PartialEq)]
struct Role(&'static str);

#[tokio::test]
async fn value_attached_during_a_resume_replaces_that_of_the_lost_connection() {
    let hub = Hub::builder().channels("c", ChannelOptions::new()).build();
    let handler = user_handler().on_open(async |cx: Context| {
        cx.connection().with_extensions(|values| values.insert(Role("speaker")));
        Ok(())
    });
    let server = TestServer::start(hub.clone(), handler);
    let mut eve = server.json("/?user=eve").await;
    let session = eve.expect("session").await;
    eve.subscribe("c").await;
    lose(&hub, eve).await;
    let mut eve = connect_with_token(&server, "eve", &session, Encoding::Json).await;
    eventually("it resumes", || hub.connections().count() == 1).await;
    let connection = hub.user("eve").connections().pop().unwrap();
    connection.with_extensions(|values| values.insert(Role("listener")));
    eve.send(json!({ "type": "resume" })).await;
    assert_eq!(eve.expect("session").await["resumed"], true);
    let role = connection.with_extensions(|values| values.get::<Role>().cloned());
    assert_eq!(role, Some(Role("listener")));
}

#[tokio::test]
async fn message_to_a_group_of_a_removed_member_is_refused() {
    for (is_member, is_removed) in [(true, true), (true, false), (false, false)] {
        let gate = Arc::new(Semaphore::new(0));
        let opens = gate.clone();
        let authorise = move |_: Context, _: AccessRequest| {
            let gate = gate.clone();
            async move { gate.acquire().await.is_ok() }
        };
        let hub = Hub::new();
        let server = TestServer::start(hub.clone(), user_handler().authorize_group(authorise));
        let mut eve = session_client(&server, "/?user=eve").await;
        if is_member {
            hub.groups().add("eve", "staff").await.unwrap();
        }
        eve.send(json!({ "type": "group", "room": "staff", "message": "late", "id": 7 })).await;
        eventually("the authoriser runs", || hub.stats().requests > 0).await;
        if is_removed {
            assert!(hub.groups().remove("eve", "staff").await);
        }
        opens.add_permits(1);
        let refusal = eve.answer(&json!(7)).await.err().map(|error| error["error_type"].clone());
        assert_eq!(refusal, is_removed.then(|| json!("permission_denied")), "member: {is_member}");
    }
}

#[tokio::test]
async fn generated_name_does_not_keep_credentials_that_end_during_the_resume() {
    let opened = Arc::new(parking_lot::Mutex::new(Vec::<Connection>::new()));
    let opens = opened.clone();
    let handler = Handler::new().on_open(move |cx: Context| {
        let connection = cx.connection();
        connection.set_expiry(Some(SystemTime::now() + Duration::from_secs(600)));
        opens.lock().push(connection);
        async { Ok(()) }
    });
    let channels = ChannelOptions::new().history(10, Duration::from_secs(600));
    let hub = Hub::builder().channels("c", channels).build();
    let server = TestServer::start(hub.clone(), handler);
    let mut eve = server.json("/").await;
    let session = eve.expect("session").await;
    let subscribed = eve.subscribe("c").await;
    lose(&hub, eve).await;
    hub.channel("c").broadcast("not for eve").await.unwrap();
    let lost = opened.lock().pop().unwrap();
    let target = format!("/?resume={}", session["resume"]["token"].as_str().unwrap());
    let mut eve = server.json(&target).await;
    eventually("it resumes", || hub.connections().count() == 1).await;
    lost.set_expiry(Some(SystemTime::now() - Duration::from_secs(1)));
    // An expiry counts in milliseconds.
    eventually("the time has passed", || {
        lost.expires_at().is_some_and(|at| at.elapsed().is_ok_and(|time| time.as_millis() > 1010))
    })
    .await;
    let position = json!({ "epoch": subscribed["epoch"], "offset": subscribed["offset"] });
    eve.send(json!({ "type": "resume", "positions": { "c": position } })).await;
    assert_eq!(eve.expect_close().await.0, 3005);
}

#[tokio::test]
async fn state_and_retry_policy_set_during_a_resume_stay() {
    const BUSY: ConnectionState = ConnectionState::custom("busy");
    const AWAY: ConnectionState = ConnectionState::custom("away");
    let hub = Hub::builder();
    let hub = hub.allow_transition(ConnectionState::Connected, BUSY);
    let hub = hub.allow_transition(ConnectionState::Connected, AWAY).build();
    let server = TestServer::start(hub.clone(), user_handler());
    for is_set in [true, false] {
        let mut eve = server.json("/?user=eve").await;
        let session = eve.expect("session").await;
        let connection = hub.user("eve").connections().pop().unwrap();
        connection.set_state(BUSY).unwrap();
        connection.set_retry_policy(RetryPolicy::aggressive()).unwrap();
        lose(&hub, eve).await;
        let mut eve = connect_with_token(&server, "eve", &session, Encoding::Json).await;
        eventually("it resumes", || hub.connections().count() == 1).await;
        let connection = hub.user("eve").connections().pop().unwrap();
        let (mut state, mut policy) = (BUSY, RetryPolicy::aggressive());
        if is_set {
            (state, policy) = (AWAY, RetryPolicy::conservative());
            connection.set_state(state).unwrap();
            connection.set_retry_policy(policy).unwrap();
        }
        eve.send(json!({ "type": "resume" })).await;
        assert_eq!(eve.expect("session").await["resumed"], true);
        eventually("it has resumed", || hub.stats().sessions == 0 && connection.state() == state).await;
        assert_eq!(connection.retry_policy(), policy);
        connection.close(CloseCode::REVOKED, "");
        eve.expect_close().await;
        drop(eve);
        eventually("it is gone", || hub.connections().count() == 0).await;
    }
}
