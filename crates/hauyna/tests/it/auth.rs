//! Credentials of a live connection: expiry, renewal and revocation.

use crate::support::{eventually, open_hub, session_client, user_handler, wait_until_empty};
use hauyna::auth::{ApiKeys, Claims, Revocation};
use hauyna::middleware::Next;
use hauyna::{
    ChannelOptions, CloseCode, CloseReason, ConnectRequest, Context, Handler, Hub, Identity, Presence,
    Reject, Value, json,
};
use hauyna_test::{MemoryServer, TestServer, advance};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

/// Parses a token `user/milliseconds`; without the number, the credentials do not expire.
fn token(text: &str) -> Result<Identity, Reject> {
    let (user, end) = text.split_once('/').ok_or(Reject::unauthorized("bad token"))?;
    let identity = Identity::new(user).attach(text.to_owned());
    Ok(match end.parse() {
        Ok(ms) => identity.expires_at(SystemTime::now() + Duration::from_millis(ms)),
        Err(_) => identity,
    })
}

fn handler() -> Handler {
    Handler::new()
        .identify(|request: ConnectRequest| token(&request.query("token").unwrap_or_default()))
        .on_refresh(async |_: Context, text: String| token(&text))
        .on("token", async |cx: Context, _: Value| Ok(cx.extension::<String>()))
}

#[tokio::test]
async fn row_34_expired_credentials_close_with_3005_and_nothing_follows() {
    let (sender, mut closed) = mpsc::channel(8);
    let hub = open_hub().sessions(hauyna::SessionOptions::none()).build();
    let handler = handler().on_close(move |_, reason| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(reason).await;
            Ok(())
        }
    });
    let server = TestServer::start(hub.clone(), handler);
    let mut client = server.json("/?token=ada/2000").await;
    let began = Instant::now();
    let expires_at = client.expect("session").await["expires_at"].as_u64().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    assert!((now + 1500..now + 2100).contains(&expires_at), "{expires_at} {now}");
    let mut without_end = server.json("/?token=bob/-").await;
    assert_eq!(without_end.expect("session").await.get("expires_at"), None);
    client.subscribe("x").await;
    let publisher = hub.clone();
    let flood = tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(5));
        for number in 0_u64.. {
            beat.tick().await;
            publisher.channel("x").broadcast(number).await.unwrap();
        }
    });
    let mut received = 0;
    loop {
        match client.next_frame().await {
            hauyna_test::Frame::Text(_) => received += 1,
            frame => {
                assert_eq!(frame, hauyna_test::Frame::Close(Some((3005, "expired".to_owned()))));
                break;
            }
        }
    }
    let took = began.elapsed();
    assert!((Duration::from_millis(1500)..Duration::from_millis(4000)).contains(&took), "{took:?}");
    assert!(received > 50, "{received}");
    client.expect_end().await;
    assert_eq!(closed.recv().await, Some(CloseReason::Expired));
    flood.abort();
    assert!(hub.connections().of_user("bob")[0].is_open());
    without_end.close(1000, "").await;
    wait_until_empty(&hub).await;
}

#[tokio::test(start_paused = true)]
async fn row_34_expired_credentials_close_within_half_a_second() {
    let server = MemoryServer::start(open_hub().build(), handler());
    for seconds in [1, 4, 8] {
        let mut client = server.json(&format!("/?token=ada/{}", seconds * 1000)).await;
        let began = tokio::time::Instant::now();
        assert_eq!(client.expect_close().await.0, 3005);
        let took = began.elapsed().as_millis() as u64;
        // The expiry follows the wall clock, which runs while the test clock is paused: allow a small
        // difference.
        assert!((seconds * 1000 - 500..=seconds * 1000 + 500).contains(&took), "{took}");
    }
}

#[tokio::test]
async fn refresh_moves_the_expiry_and_replaces_attached_values() {
    let server = TestServer::start(open_hub().build(), handler());
    for encoding in [hauyna::connection::Encoding::Json, hauyna::connection::Encoding::MessagePack] {
        let mut client = server.client("/?token=ada/700").encoding(encoding).connect().await;
        client.expect("session").await;
        let began = Instant::now();
        let answer = client.request(json!({ "type": "refresh", "token": "ada/1500" })).await.unwrap();
        let own = server.hub().connections().of_user("ada")[0].expires_at().unwrap();
        let own = own.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
        assert_eq!(answer["expires_at"].as_u64().unwrap(), own);
        assert_eq!(client.request(json!({ "type": "token" })).await.unwrap(), "ada/1500");
        assert_eq!(client.expect_close().await.0, 3005);
        assert!(began.elapsed() >= Duration::from_millis(1400), "{:?}", began.elapsed());
        client.expect_end().await;
        eventually("the connection has closed", || server.hub().connections().of_user("ada").is_empty())
            .await;
    }
}

/// A value that is attached to the connections of administrators.
#[derive(Clone)]
struct Admin;

/// Returns what the connection knows about its user.
async fn rights(cx: Context, (): ()) -> hauyna::Result<Value> {
    let text = |value: Option<String>| value.unwrap_or_default();
    let plan = cx.claims::<Value>().map_or(Value::Null, |claims| claims["plan"].clone());
    Ok(json!([cx.extension::<Admin>().is_some(), plan, text(cx.extension())]))
}

#[tokio::test]
async fn refresh_removes_values_that_the_new_credentials_do_not_attach() {
    let claims = |plan: &str| Claims::new(json!({ "plan": plan })).unwrap();
    let middleware = async |mut request: ConnectRequest, next: Next| {
        request.extensions_mut().insert("of the middleware".to_owned());
        next.run(request).await
    };
    let handler = Handler::new()
        .middleware(middleware)
        .identify(move |_| {
            Ok(Identity::new("ada").attach(Admin).attach(claims("gold")).attach("of identify".to_owned()))
        })
        .on_open(async |cx: Context| {
            cx.connection().with_extensions(|all| all.insert(7_u8));
            Ok(())
        })
        .on_refresh(async |_, plan: String| {
            Ok(Identity::new("ada").attach(Claims::new(json!({ "plan": plan })).unwrap()))
        })
        .on("claim", async |cx: Context, (): ()| {
            let claims = Claims::new(json!({ "plan": "of a callback" }))?;
            cx.connection().with_extensions(|all| all.insert(claims));
            Ok(())
        })
        .on("number", async |cx: Context, (): ()| Ok(cx.extension::<u8>()))
        .on("rights", rights);
    let server = TestServer::start(open_hub().build(), handler);
    let mut client = session_client(&server, "/").await;
    let ask = json!({ "type": "rights" });
    assert_eq!(client.request(ask.clone()).await.unwrap(), json!([true, "gold", "of identify"]));
    client.request(json!({ "type": "claim" })).await.unwrap();
    assert_eq!(client.request(ask.clone()).await.unwrap(), json!([true, "of a callback", "of identify"]));
    client.request(json!({ "type": "refresh", "token": "free" })).await.unwrap();
    assert_eq!(client.request(ask).await.unwrap(), json!([false, "free", "of the middleware"]));
    assert_eq!(
        client.request(json!({ "type": "number" })).await.unwrap(),
        7,
        "values attached by callbacks stay"
    );
}

#[tokio::test]
async fn failed_refresh_changes_nothing() {
    let server = TestServer::start(open_hub().build(), handler());
    let mut client = server.json("/?token=ada/60000").await;
    let expires_at = client.expect("session").await["expires_at"].clone();
    for (token, kind) in
        [("nonsense", "unauthorized"), ("eve/60000", "unauthorized"), ("ada/0", "token_expired")]
    {
        let error = client.request(json!({ "type": "refresh", "token": token })).await.unwrap_err();
        assert_eq!(error["error_type"], kind, "{token}");
        assert_eq!(error["temporary"], kind == "token_expired");
        assert!(!error.to_string().contains(token), "a token is never repeated in an answer");
    }
    assert_eq!(client.request(json!({ "type": "token" })).await.unwrap(), "ada/60000");
    let own = server.hub().connections().of_user("ada")[0].expires_at().unwrap();
    assert_eq!(own.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64, expires_at);
    let error = client.request(json!({ "type": "refresh" })).await.unwrap_err();
    assert_eq!(error["error_type"], "validation_error");
    let none = client.request(json!({ "type": "refresh", "token": "ada/-" })).await.unwrap();
    assert_eq!(none, Value::Null, "a token without expiry");
    assert_eq!(server.hub().connections().of_user("ada")[0].expires_at(), None);
}

#[tokio::test]
async fn refresh_without_tokens_is_unknown_and_expired_credentials_are_refused() {
    let server = TestServer::start(open_hub().build(), Handler::new());
    let mut client = server.connect("/").await;
    let error = client.request(json!({ "type": "refresh", "token": "t" })).await.unwrap_err();
    assert_eq!(error["error_type"], "unknown_event");
    let server = TestServer::start(open_hub().build(), handler());
    let refused = server.client("/?token=ada/0").try_connect().await.unwrap_err();
    assert_eq!((refused.status.as_u16(), &refused.json()["error_type"]), (401, &json!("token_expired")));
}

#[tokio::test]
async fn application_sets_and_removes_an_expiry() {
    let server = TestServer::start(open_hub().build(), handler());
    let mut client = session_client(&server, "/?token=ada/-").await;
    let connection = server.hub().connections().of_user("ada").remove(0);
    connection.set_expiry(Some(SystemTime::now() + Duration::from_millis(300)));
    connection.set_expiry(None);
    connection.set_expiry(Some(SystemTime::now() + Duration::from_secs(3_000_000_000)));
    assert_eq!(client.request(json!({ "type": "token" })).await.unwrap(), "ada/-");
    connection.set_expiry(Some(SystemTime::now() + Duration::from_millis(300)));
    assert_eq!(client.expect_close().await.0, 3005);
    drop(client);
    wait_until_empty(server.hub()).await;
    connection.set_expiry(Some(SystemTime::now() + Duration::from_secs(3600)));
    assert!(!connection.is_open(), "closed connections are not affected");
}

#[tokio::test]
async fn row_34_revoked_user_is_closed_at_once_and_gets_nothing_more() {
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), handler());
    let mut first = server.json("/?token=ada/-").await;
    let mut second = server.json("/?token=ada/-").await;
    let mut other = server.json("/?token=bob/-").await;
    for client in [&mut first, &mut second, &mut other] {
        client.expect("session").await;
        client.subscribe("x").await;
    }
    let began = Instant::now();
    assert_eq!(hub.user("ada").disconnect(CloseCode::REVOKED, "revoked").await, 2);
    hub.channel("x").broadcast("after").await.unwrap();
    for client in [&mut first, &mut second] {
        assert_eq!(client.expect_close().await, (3505, "revoked".to_owned()));
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(other.expect("message").await["content"], "after");
    assert_eq!(hub.user("nobody").disconnect(CloseCode::REVOKED, "").await, 0);
}

/// Parses a token `user/id`.
fn with_id(text: &str) -> Result<Identity, Reject> {
    let (user, id) = text.split_once('/').ok_or(Reject::unauthorized("bad token"))?;
    Ok(Identity::new(user).token_id(id))
}

fn revocable() -> Handler {
    Handler::new()
        .identify(|request: ConnectRequest| with_id(&request.query("token").unwrap_or_default()))
        .on_refresh(async |_: Context, text: String| with_id(&text))
}

#[tokio::test]
async fn row_34_revoked_token_closes_only_its_connections_and_is_refused_afterwards() {
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), revocable());
    let mut clients = Vec::new();
    for token in ["ada/stolen", "ada/stolen", "ada/own", "bob/other"] {
        let mut client = session_client(&server, &format!("/?token={token}")).await;
        client.subscribe("x").await;
        clients.push(client);
    }
    let began = Instant::now();
    assert_eq!(hub.revoke(Revocation::token("stolen").lasting(Duration::from_secs(2))).await, 2);
    hub.channel("x").broadcast("after").await.unwrap();
    for client in &mut clients[..2] {
        assert_eq!(client.expect_close().await, (3505, "revoked".to_owned()));
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for client in &mut clients[2..] {
        assert_eq!(client.expect("message").await["content"], "after");
    }
    let refused = server.client("/?token=ada/stolen").try_connect().await.unwrap_err();
    assert_eq!((refused.status.as_u16(), &refused.json()["error_type"]), (401, &json!("unauthorized")));
    let error = clients[2].request(json!({ "type": "refresh", "token": "ada/stolen" })).await.unwrap_err();
    assert_eq!(error["error_type"], "unauthorized", "and the expiry of others does not change");
    clients[2].request(json!({ "type": "refresh", "token": "ada/new" })).await.unwrap();
    assert_eq!(hub.revoke(Revocation::token("own")).await, 0, "the token was replaced");
    assert_eq!(hub.revoke(Revocation::token("new")).await, 1, "a token of a refresh is known, too");
    assert_eq!(clients[2].expect_close().await.0, 3505);
    eventually("the period has ended", || began.elapsed() > Duration::from_secs(2)).await;
    server.json("/?token=ada/stolen").await.expect("session").await;
}

#[tokio::test]
async fn row_34_revoked_user_may_reconnect_at_once_or_after_the_period() {
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), revocable());
    let mut first = server.json("/?token=ada/1").await;
    let mut second = server.json("/?token=ada/2").await;
    for client in [&mut first, &mut second] {
        client.expect("session").await;
    }
    assert_eq!(hub.revoke(Revocation::user("ada")).await, 2);
    for client in [&mut first, &mut second] {
        assert_eq!(client.expect_close().await, (3505, "revoked".to_owned()));
    }
    let mut back = session_client(&server, "/?token=ada/1").await;
    let began = Instant::now();
    assert_eq!(hub.revoke(Revocation::user("ada").lasting(Duration::from_secs(1))).await, 1);
    assert_eq!(back.expect_close().await.0, 3505);
    assert_eq!(server.client("/?token=ada/3").try_connect().await.unwrap_err().status, 401);
    server.json("/?token=bob/3").await.expect("session").await;
    eventually("the period has ended", || began.elapsed() > Duration::from_secs(1)).await;
    server.json("/?token=ada/3").await.expect("session").await;
}

#[tokio::test]
async fn row_34_user_revoked_during_the_handshake_is_refused() {
    let hub = open_hub().build();
    let own = hub.clone();
    let handler = Handler::new().identify(move |request: ConnectRequest| {
        let own = own.clone();
        async move {
            let identity = with_id(&request.query("token").unwrap_or_default())?;
            own.revoke(Revocation::token("seen").lasting(Duration::ZERO)).await;
            Ok::<_, Reject>(identity)
        }
    });
    let late = hub.clone();
    let opened = Handler::new()
        .identify(|request: ConnectRequest| with_id(&request.query("token").unwrap_or_default()))
        .middleware(move |request: ConnectRequest, next: hauyna::middleware::Next| {
            let late = late.clone();
            async move {
                let admitted = next.run(request).await?;
                late.revoke(Revocation::user("ada")).await;
                Ok(admitted)
            }
        });
    let server = TestServer::route(hub.clone(), |router| {
        router.websocket("/within", handler).websocket("/after", opened)
    });
    assert_eq!(server.client("/within?token=ada/seen").try_connect().await.unwrap_err().status, 401);
    server.json("/within?token=ada/other").await.expect("session").await;
    assert_eq!(server.json("/after?token=ada/1").await.expect_close().await.0, 3505);
    server.json("/after?token=bob/1").await.expect("session").await;
}

#[tokio::test]
async fn row_34_named_api_key_is_revoked_by_its_name() {
    let keys =
        ApiKeys::new().named("reports-1", KEY, "reports").key("another-key-of-that-program", "reports");
    let hub = Hub::new();
    let server = TestServer::start(hub.clone(), Handler::new().authenticate(keys));
    let connect =
        |key: &str| server.client("/").header("authorization", &format!("Bearer {key}")).json().try_connect();
    let mut first = connect(KEY).await.unwrap();
    let mut second = connect("another-key-of-that-program").await.unwrap();
    first.expect("session").await;
    assert_eq!(hub.revoke(Revocation::token("reports-1")).await, 1);
    assert_eq!(first.expect_close().await.0, 3505);
    second.expect("session").await;
    second.expect_nothing().await;
    assert_eq!(connect(KEY).await.unwrap_err().status, 401);
}

const KEY: &str = "a-key-of-a-program-that-reports";

#[tokio::test]
async fn token_is_read_from_the_header_or_if_allowed_the_query() {
    let keys = || Handler::new().authenticate(ApiKeys::new().key(KEY, "reports"));
    let server = TestServer::route(Hub::new(), |router| {
        let target = async |cx: Context, _: Value| Ok(json!([cx.query("key"), cx.query("a"), cx.query("b")]));
        let query = keys().token_in_query("key").on("target", target);
        router.websocket("/", keys()).websocket("/query", query)
    });
    let header = server.client("/").header("authorization", &format!("bearer {KEY}"));
    assert_eq!(header.json().connect().await.expect("session").await["user"], "reports");
    let item = server.client("/").json().protocol(&format!("hauyna.bearer.{KEY}")).connect().await;
    assert_eq!(item.protocol(), Some("hauyna.v1.json"));
    let in_query = format!("/query?a=1&key={KEY}&b=x%26y");
    let mut client = server.json(&in_query).await;
    assert_eq!(client.expect("session").await["user"], "reports");
    let target = client.request(json!({ "type": "target" })).await.unwrap();
    assert_eq!(target, json!([null, "1", "x&y"]), "only the token was removed");
    for target in ["/".to_owned(), format!("/?key={KEY}"), "/query".to_owned(), "/query?key=x".to_owned()] {
        let refused = server.client(&target).try_connect().await.unwrap_err();
        assert_eq!((refused.status.as_u16(), &refused.json()["error_type"]), (401, &json!("unauthorized")));
        assert!(refused.head.to_ascii_lowercase().contains("www-authenticate: bearer"));
        assert!(!refused.body.contains(KEY));
    }
    let request = client.request(json!({ "type": "refresh", "token": "wrong" })).await.unwrap_err();
    assert_eq!(request["error_type"], "unauthorized");
    client.request(json!({ "type": "refresh", "token": KEY })).await.unwrap();
}

#[tokio::test]
async fn callbacks_read_claims_of_a_custom_verifier() {
    #[derive(serde::Deserialize)]
    struct Mine {
        plan: String,
    }
    let handler = Handler::new()
        .identify(|request: ConnectRequest| {
            let identity = Identity::new("ada");
            let Some(plan) = request.query("plan") else { return Ok(identity) };
            let claims = Claims::new(json!({ "plan": plan })).map_err(|_| Reject::invalid("no claims"))?;
            Ok::<_, Reject>(identity.attach(claims))
        })
        .on("plan", async |cx: Context, _: Value| Ok(cx.claims::<Mine>()?.plan));
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/?plan=gold").await;
    assert_eq!(client.request(json!({ "type": "plan" })).await.unwrap(), "gold");
    let mut client = server.connect("/").await;
    assert_eq!(client.request(json!({ "type": "plan" })).await.unwrap_err()["error_type"], "unauthorized");
}

#[tokio::test(start_paused = true)]
async fn client_that_ignores_the_close_counts_until_the_close_timeout() {
    for revokes in [true, false] {
        let channels = ChannelOptions::new().presence(Presence::each());
        let hub = Hub::builder().channels("room", channels).build();
        let server = MemoryServer::start(hub.clone(), user_handler());
        let mut deaf = server.connect("/?user=ann").await;
        deaf.subscribe("room").await;
        let (ann, presence) = (hub.user("ann"), hub.presence());
        let closing = ann.disconnect(CloseCode::REVOKED, "");
        assert!(hub.connections().of_user("ann")[0].is_open(), "nothing happens before it is awaited");
        let closed = if revokes { hub.revoke(Revocation::user("ann")).await } else { closing.await };
        assert_eq!(closed, 1);
        assert!(
            ann.is_connected().await && presence.is_present("ann").await,
            "it has not answered the close"
        );
        assert!(!ann.connections().iter().any(|connection| connection.is_open()));
        let mut waited = 0;
        while ann.is_connected().await {
            advance(Duration::from_secs(1)).await;
            waited += 1;
            assert!(waited < 60, "it is never closed");
        }
        assert!((5..=8).contains(&waited), "the close timeout is 5 s, and the sweep checks it: {waited} s");
        assert!(!presence.is_present("ann").await);
        deaf.vanish();
    }
}
