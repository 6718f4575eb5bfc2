//! What a session token proves: that its client is the lost one, on the same route and path, and nothing
//! about the user.

use crate::sessions::{connect_user, connect_with_token, hub, lose};
use crate::support::{eventually, now, user_handler, wait_for_connections};
use hauyna::auth::Revocation;
use hauyna::{CloseCode, ConnectRequest, Context, Handler, Hub, Identity, json};
use hauyna_protocol::Encoding;
use hauyna_test::{Client, MemoryServer, TestServer, advance};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

/// Identifies users by the query, and gives others a generated name.
fn optional_user() -> Handler {
    Handler::new().identify(|request| Ok(request.query("user")))
}

fn token(session: &Value) -> &str {
    session["resume"]["token"].as_str().unwrap()
}

/// Connects to a target with a token in the query, and resumes.
async fn resume_at(server: &TestServer, target: &str, session: &Value) -> (Client, Value) {
    let mut client = server.client(&format!("{target}resume={}", token(session))).json().connect().await;
    client.send(json!({ "type": "resume" })).await;
    let session = client.expect("session").await;
    (client, session)
}

async fn keep_or_lose(hub: &Hub, client: Client, is_lost: bool) -> Option<Client> {
    if !is_lost {
        return Some(client);
    }
    lose(hub, client).await;
    None
}

fn is_nameless(session: &Value) -> bool {
    session["user"].as_str().unwrap().starts_with("anonymous_")
}

#[tokio::test]
async fn session_token_is_no_identity_on_another_route() {
    let hub = hub().build();
    let server = TestServer::route(hub.clone(), |router| {
        router.websocket("/", optional_user()).websocket("/public", Handler::new())
    });
    for is_lost in [false, true] {
        let (root, session) = connect_user(&server, "root").await;
        let root = keep_or_lose(&hub, root, is_lost).await;
        let (_client, resumed) = resume_at(&server, "/public?", &session).await;
        assert_eq!(resumed["resumed"], false);
        assert!(is_nameless(&resumed), "{resumed}");
        drop(root);
        eventually("the session of root waits", || hub.stats().sessions > 0).await;
    }
}

#[tokio::test]
async fn session_token_does_not_undo_a_logout() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), optional_user());
    let (alice, session) = connect_user(&server, "alice").await;
    lose(&hub, alice).await;
    let (_client, resumed) = resume_at(&server, "/?", &session).await;
    assert_eq!(resumed["resumed"], false);
    assert!(is_nameless(&resumed), "{resumed}");
    assert_eq!(hub.stats().sessions, 1, "the session still waits for alice");
    let (_alice, resumed) = resume_at(&server, "/?user=alice&", &session).await;
    assert_eq!((&resumed["resumed"], &resumed["user"]), (&json!(true), &json!("alice")));
}

#[tokio::test]
async fn generated_name_is_resumed_only_on_its_route_and_path() {
    let hub = hub().build();
    let server = TestServer::route(hub.clone(), |router| {
        router.websocket("/a/{id}", Handler::new()).websocket("/b/{id}", Handler::new())
    });
    let mut client = server.json("/a/1").await;
    let session = client.expect("session").await;
    lose(&hub, client).await;
    for target in ["/b/1?", "/a/2?"] {
        let (_client, resumed) = resume_at(&server, target, &session).await;
        assert_eq!(resumed["resumed"], false, "{target}");
        assert!(is_nameless(&resumed) && resumed["user"] != session["user"], "{target}");
    }
    let (_client, resumed) = resume_at(&server, "/a/1?x=2&", &session).await;
    assert_eq!((&resumed["resumed"], &resumed["user"]), (&json!(true), &session["user"]));
}

#[tokio::test]
async fn name_from_the_application_is_never_treated_as_generated() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), optional_user());
    let (client, session) = connect_user(&server, "anonymous_0123456789abcdef").await;
    lose(&hub, client).await;
    let (_client, resumed) = resume_at(&server, "/?", &session).await;
    assert_eq!(resumed["resumed"], false);
    assert_ne!(resumed["user"], "anonymous_0123456789abcdef");
}

#[tokio::test]
async fn disconnected_user_cannot_resume_while_the_connection_closes() {
    let send_away: [fn(&Hub, &str); 3] = [
        |hub, user| assert_eq!(now(hub.revoke(Revocation::user(user))), 1),
        |hub, user| assert_eq!(now(hub.user(user).disconnect(CloseCode::DISCONNECTED, "")), 1),
        |hub, user| hub.connections().of_user(user)[0].close(CloseCode(4500), "banned"),
    ];
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), Handler::new());
    for send_away in send_away {
        let mut guest = server.json("/").await;
        let session = guest.expect("session").await;
        send_away(&hub, session["user"].as_str().unwrap());
        // The client does not answer the close frame.
        let (_other, resumed) = resume_at(&server, "/?", &session).await;
        assert_eq!(resumed["resumed"], false);
        assert_ne!(resumed["user"], session["user"]);
    }
}

/// Returns a handler that identifies guests for a minute, by the parameter `guest`; others have no
/// credentials.
fn guests() -> Handler {
    Handler::new().identify(|request: ConnectRequest| {
        let guest = request.query("guest").map(|guest| {
            let end = SystemTime::now() + Duration::from_secs(60);
            Identity::anonymous().token_id(guest).expires_at(end)
        });
        Ok::<_, hauyna::Reject>(guest.unwrap_or_default())
    })
}

#[tokio::test(start_paused = true)]
async fn expiry_of_credentials_applies_to_the_session() {
    let server = MemoryServer::start(hub().build(), guests().no_heartbeat());
    for (is_late, seconds) in [(false, 30), (true, 61)] {
        let mut client = server.json("/?guest=7").await;
        let session = client.expect("session").await;
        client.vanish();
        advance(Duration::from_secs(seconds)).await;
        let mut client = server.json(&format!("/?resume={}", token(&session))).await;
        client.send(json!({ "type": "resume" })).await;
        let resumed = client.expect("session").await;
        assert_eq!(resumed["resumed"], !is_late);
        assert_eq!(resumed["user"] == session["user"], !is_late);
        if !is_late {
            assert_eq!(resumed["expires_at"], session["expires_at"], "they expire with those of the session");
            advance(Duration::from_secs(61)).await;
            assert_eq!(client.expect_close().await.0, 3005);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn expiry_set_by_the_application_applies_to_the_session() {
    let minute = |cx: Context| async move {
        cx.connection().set_expiry(Some(SystemTime::now() + Duration::from_secs(60)));
        Ok(())
    };
    let handler = user_handler().no_heartbeat().on_open(minute);
    let server = MemoryServer::start(hub().build(), handler);
    for (is_late, seconds) in [(false, 30), (true, 61)] {
        let mut client = server.json("/?user=ann").await;
        let session = client.expect("session").await;
        client.request(json!({ "type": "ping" })).await.unwrap();
        client.vanish();
        advance(Duration::from_secs(seconds)).await;
        let mut client = server.json(&format!("/?user=ann&resume={}", token(&session))).await;
        client.send(json!({ "type": "resume" })).await;
        let resumed = client.expect("session").await;
        assert_eq!(resumed["resumed"], !is_late, "a late client gets a new session");
        assert_eq!(resumed["expires_at"].is_u64(), !is_late);
        advance(Duration::from_secs(if is_late { 50 } else { 61 })).await;
        if is_late {
            client.request(json!({ "type": "ping" })).await.unwrap();
        } else {
            assert_eq!(client.expect_close().await.0, 3005);
        }
    }
}

#[tokio::test]
async fn credentials_of_the_request_replace_those_of_the_session() {
    let hub = hub().build();
    let handler = Handler::new().identify(|request: ConnectRequest| {
        let Some(id) = request.query("id") else { return Ok(Identity::new("ann")) };
        let seconds = request.query("for").unwrap().parse().unwrap();
        let end = SystemTime::now() + Duration::from_secs(seconds);
        Ok::<_, hauyna::Reject>(Identity::new("ann").token_id(id).expires_at(end))
    });
    let server = TestServer::start(hub.clone(), handler);
    let mut ann = server.json("/?id=first&for=60").await;
    let session = ann.expect("session").await;
    lose(&hub, ann).await;
    let (ann, resumed) = resume_at(&server, "/?id=second&for=600&", &session).await;
    assert_eq!(resumed["resumed"], true);
    let later = resumed["expires_at"].as_u64().unwrap();
    assert!(later > session["expires_at"].as_u64().unwrap());
    assert_eq!(hub.revoke(Revocation::token("first")).await, 0, "these credentials were replaced");
    lose(&hub, ann).await;
    let (mut ann, resumed) = resume_at(&server, "/?", &resumed).await;
    assert_eq!((&resumed["resumed"], &resumed["expires_at"]), (&json!(true), &json!(later)));
    assert_eq!(hub.revoke(Revocation::token("second")).await, 1);
    assert_eq!(ann.expect_close().await.0, 3505);
}

#[tokio::test]
async fn token_revocation_applies_to_the_session_opened_with_it() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), guests());
    let mut client = server.json("/?guest=stolen").await;
    let session = client.expect("session").await;
    lose(&hub, client).await;
    let (mut client, resumed) = resume_at(&server, "/?", &session).await;
    assert_eq!((&resumed["resumed"], &resumed["user"]), (&json!(true), &session["user"]));
    assert_eq!(hub.revoke(Revocation::token("stolen")).await, 1);
    assert_eq!(client.expect_close().await.0, 3505);
    client.vanish();
    wait_for_connections(&hub, 0).await;
    let (_client, late) = resume_at(&server, "/?", &resumed).await;
    assert_eq!(late["resumed"], false);
    assert_ne!(late["user"], session["user"]);
}

fn rooms() -> Handler {
    optional_user().on_open(async |cx: Context| {
        let room = format!("room:{}", cx.param("id").unwrap_or_default());
        cx.subscribe(&room, ()).await
    })
}

#[tokio::test]
async fn session_does_not_cross_path_parameters() {
    let hub = hub().build();
    let server = TestServer::route(hub.clone(), |router| router.websocket("/rooms/{id}", rooms()));
    for is_lost in [true, false] {
        let mut ann = server.json("/rooms/secret?user=ann").await;
        let session = ann.expect("session").await;
        eventually("ann is subscribed", || hub.channel("room:secret").subscription_count() == 1).await;
        let ann = keep_or_lose(&hub, ann, is_lost).await;
        let (lobby, resumed) = resume_at(&server, "/rooms/lobby?user=ann&", &session).await;
        assert_eq!(resumed["resumed"], false);
        eventually("ann is subscribed to the lobby", || hub.channel("room:lobby").subscription_count() == 1)
            .await;
        let channels: Vec<_> = hub.user("ann").connections().iter().flat_map(|one| one.channels()).collect();
        assert_eq!(channels.contains(&"room:secret".to_owned()), !is_lost, "{channels:?}");
        let (secret, resumed) = resume_at(&server, "/rooms/secret?user=ann&", &session).await;
        assert_eq!(resumed["resumed"], true);
        assert_eq!(resumed["subscriptions"][0]["channel"], "room:secret");
        drop(ann);
        for client in [lobby, secret] {
            client.close(1000, "").await;
        }
        wait_for_connections(&hub, 0).await;
    }
}

#[tokio::test]
async fn handler_may_bind_sessions_to_a_custom_key() {
    let hub = hub().build();
    let handler = optional_user().session_key(|request| request.query("tenant").unwrap_or_default());
    let server = TestServer::route(hub.clone(), |router| router.websocket("/rooms/{id}", handler));
    let mut ann = server.json("/rooms/1?user=ann&tenant=blue").await;
    let session = ann.expect("session").await;
    ann.subscribe("news").await;
    lose(&hub, ann).await;
    let (_other, resumed) = resume_at(&server, "/rooms/1?user=ann&tenant=red&", &session).await;
    assert_eq!(resumed["resumed"], false);
    let (_ann, resumed) = resume_at(&server, "/rooms/2?user=ann&tenant=blue&", &session).await;
    assert_eq!(
        (&resumed["resumed"], &resumed["subscriptions"][0]["channel"]),
        (&json!(true), &json!("news"))
    );
}

#[tokio::test]
async fn panicking_session_key_refuses_only_its_request() {
    let hub = hub().build();
    let handler = optional_user().session_key(|request| {
        assert!(request.query("bad").is_none(), "on purpose");
        "all"
    });
    let server = TestServer::start(hub.clone(), handler);
    let refused = server.client("/?bad=1").json().try_connect().await.unwrap_err();
    assert_eq!(refused.status, 500);
    let (ann, session) = connect_user(&server, "ann").await;
    lose(&hub, ann).await;
    let mut ann = connect_with_token(&server, "ann", &session, Encoding::Json).await;
    ann.send(json!({ "type": "resume" })).await;
    assert_eq!(ann.expect("session").await["resumed"], true);
}

#[tokio::test]
async fn guest_sent_away_while_returning_does_not_keep_the_generated_name() {
    let send_away: [fn(&Hub, &str); 2] = [
        |hub, user| assert_eq!(now(hub.user(user).disconnect(CloseCode::DISCONNECTED, "")), 1),
        |hub, user| hub.connections().of_user(user)[0].close(CloseCode(4500), "banned"),
    ];
    for send_away in send_away {
        let (identified, opened) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (identifies, opens) = (identified.clone(), opened.clone());
        let handler = Handler::new()
            .identify(move |_| {
                identifies.fetch_add(1, Ordering::Relaxed);
                Ok(Identity::anonymous())
            })
            .on_open(move |_| {
                let is_first = opens.fetch_add(1, Ordering::Relaxed) == 0;
                async move {
                    if is_first {
                        std::future::pending::<()>().await;
                    }
                    Ok(())
                }
            });
        let hub = hub().build();
        let server = Arc::new(TestServer::start(hub.clone(), handler));
        let mut guest = server.json("/").await;
        let session = guest.expect("session").await;
        eventually("on_open runs", || opened.load(Ordering::Relaxed) == 1).await;
        // The page is loaded again: its new connection waits for the decision of `on_open`.
        let (second, token) = (server.clone(), token(&session).to_owned());
        let second =
            tokio::spawn(
                async move { second.client(&format!("/?resume={token}")).json().try_connect().await },
            );
        eventually("it is identified", || identified.load(Ordering::Relaxed) == 2).await;
        send_away(&hub, session["user"].as_str().unwrap());
        let mut second = match second.await.unwrap() {
            Ok(second) => second,
            Err(refused) => {
                assert_eq!(refused.status.as_u16(), 503);
                server.client(&format!("/?resume={}", self::token(&session))).json().connect().await
            }
        };
        let resumed = second.expect("session").await;
        assert_eq!(resumed["resumed"], false);
        assert_ne!(resumed["user"], session["user"]);
    }
}
