//! The tables of PROTOCOL.md, §5 and §6: provokes every `error_type` and every close code that the server can
//! send, over a socket. No server sends the missing ones yet.

use crate::support::{failing_broker, now, open_hub, subscriber};
use hauyna::connection::{ConnectionState, RetryPolicy};
use hauyna::handler::{RateLimit, Recovery};
use hauyna::limits::{AtLimit, Limit, UnknownUsers};
use hauyna::{
    CloseReason, ConnectRequest, Context, Error, ErrorType, Handler, Heartbeat, Hub, Identity, Rate, Reject,
    json,
};
use hauyna_protocol::Encoding;
use hauyna_protocol::close::CloseCode;
use hauyna_test::{Client, TestServer};
use hauyna_websocket::{FrameHead, OpCode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

fn handler() -> Handler {
    Handler::new()
        .identify(|request: ConnectRequest| request.query("user").ok_or(Reject::unauthorized("who are you?")))
        .on_refresh(async |cx: Context, token: String| match token.as_str() {
            "old" => Ok(Identity::new(cx.user().as_str()).expires_at(SystemTime::UNIX_EPOCH)),
            other => Ok(Identity::new(other)),
        })
        .on("never", async |_: Context, _: Value| -> hauyna::Result { std::future::pending().await })
        .on("own", async |_: Context, _: Value| -> hauyna::Result { Err(Error::application("sold out")) })
        .on("panic", async |_: Context, _: Value| -> hauyna::Result { panic!("swordfish at src/main.rs") })
        .on("internal", async |_: Context, _: Value| -> hauyna::Result {
            Err(std::fs::read("/swordfish").map(|_| ()).unwrap_err().into())
        })
        .callback_timeout(Duration::from_millis(50))
        .rate_limit(RateLimit::new().subscriptions(Rate::new(1, Duration::from_secs(3600)).burst(3)))
}

/// Returns the state of the broker, the expected error type and the request, for a subscriber of `x`.
fn table() -> Vec<(&'static str, ErrorType, Value)> {
    let subscribe = |channel: &str| json!({ "type": "subscribe_channel", "channel": channel });
    vec![
        ("", ErrorType::ValidationError, json!({ "type": "history" })),
        ("", ErrorType::ValidationError, json!({ "type": "" })),
        ("", ErrorType::UnknownEvent, json!({ "type": "nobody" })),
        ("", ErrorType::Unauthorized, json!({ "type": "refresh", "token": "another" })),
        ("", ErrorType::TokenExpired, json!({ "type": "refresh", "token": "old" })),
        ("", ErrorType::PermissionDenied, json!({ "type": "broadcast", "message": 1 })),
        ("", ErrorType::NotSubscribed, json!({ "type": "history", "channel": "never" })),
        ("", ErrorType::AlreadySubscribed, subscribe("x")),
        ("", ErrorType::UnknownUser, json!({ "type": "private", "to": "nobody", "message": 1 })),
        ("", ErrorType::LimitExceeded, json!({ "type": "unsubscribe_channel", "channel": "n".repeat(256) })),
        ("", ErrorType::LimitExceeded, subscribe("y")),
        ("", ErrorType::RateLimited, subscribe("z")),
        ("", ErrorType::Timeout, json!({ "type": "never" })),
        ("down", ErrorType::Unavailable, json!({ "type": "channel_message", "channel": "x", "content": 1 })),
        ("down", ErrorType::Unavailable, json!({ "type": "history", "channel": "x" })),
        ("", ErrorType::ApplicationError, json!({ "type": "own" })),
        ("", ErrorType::InternalError, json!({ "type": "internal" })),
        ("", ErrorType::InternalError, json!({ "type": "panic" })),
    ]
}

/// Checks what every error must contain.
fn check(error: &Value, kind: ErrorType) {
    assert_eq!(error["error_type"], kind.as_str(), "{error}");
    assert_eq!(error["temporary"], kind.is_temporary(), "{error}");
    assert!(
        error["timestamp"].as_u64().is_some() && !error["message"].as_str().unwrap().is_empty(),
        "{error}"
    );
    let text = error.to_string().to_ascii_lowercase();
    for inside in ["swordfish", "redis", "panick", ".rs", "os error", "tokio", "hauyna", "10.0.0.7"] {
        assert!(!text.contains(inside), "{inside} in {error}");
    }
    match kind {
        ErrorType::LimitExceeded | ErrorType::PayloadTooLarge => {
            assert!(error["details"]["limit"].as_u64().is_some(), "{error}");
        }
        ErrorType::RateLimited => assert!(error["details"]["retry_after"].as_u64().unwrap() > 0, "{error}"),
        ErrorType::ValidationError => assert!(error["details"]["path"].is_string(), "{error}"),
        _ => {}
    }
}

#[tokio::test]
async fn every_error_type_occurs_as_the_table_says() {
    let (broker, is_down) = failing_broker();
    let hub = open_hub().broker(broker).unknown_users(UnknownUsers::Refused).max_channels(1).build();
    let server = TestServer::start(hub.clone(), handler());
    let mut seen = BTreeSet::new();
    for encoding in Encoding::ALL {
        let mut client = server.client(&format!("/?user={encoding:?}")).encoding(encoding).connect().await;
        client.expect("session").await;
        client.subscribe("x").await;
        for (broker, kind, request) in table() {
            is_down.store(broker == "down", Ordering::Relaxed);
            let error = client.request(request.clone()).await.expect_err(&request.to_string());
            check(&error, kind);
            seen.insert(kind.as_str());
        }
        is_down.store(false, Ordering::Relaxed);
        let too_large = vec![b' '; 64 * 1024 + 1];
        let (garbage, kind): (&[u8], _) = match encoding {
            Encoding::Json => (b"{", OpCode::Text),
            Encoding::MessagePack => (b"\xc1", OpCode::Binary),
        };
        for (payload, expected) in
            [(garbage, ErrorType::ParseError), (too_large.as_slice(), ErrorType::PayloadTooLarge)]
        {
            client.send_frame(FrameHead::of(kind), payload).await;
            let error = client.expect("error").await;
            check(&error, expected);
            assert_eq!(error.get("id"), None);
            seen.insert(expected.as_str());
        }
        assert_eq!(client.expect_close().await.0, 1009, "after the explanation");
        client.vanish();
        crate::support::eventually("its channel is released", || hub.stats().channels == 0).await;
    }
    let all: BTreeSet<_> = ErrorType::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(seen, all);
}

async fn close_after_frame(server: &TestServer, opcode: OpCode, payload: &[u8]) -> u16 {
    let mut client = server.connect("/?user=a").await;
    client.send_frame(FrameHead::of(opcode), payload).await;
    client.expect_close().await.0
}

async fn never_reads(hub: &Hub, client: &mut Client) -> u16 {
    let text = "x".repeat(32 * 1024);
    while hub.stats().slow_consumers == 0 {
        hub.channel("x").broadcast(&text).await.unwrap();
        tokio::task::yield_now().await;
    }
    client.expect_close().await.0
}

#[tokio::test]
async fn every_close_code_of_the_server_occurs() {
    let hub = open_hub().outbox(128 * 1024, 64).build();
    let server = TestServer::route(hub.clone(), |router| {
        let refusing = |error: fn() -> Error| Handler::new().on_open(move |_| async move { Err(error()) });
        let strict = Handler::new().error_budget(Rate::new(1, Duration::from_secs(3600)));
        let expiring = Handler::new().identify(|_| {
            Ok(Identity::anonymous()
                .expires_at(SystemTime::now() + Duration::from_millis(300))
                .grace(Duration::ZERO))
        });
        let beat = Heartbeat::every(Duration::from_millis(40)).timeout(Duration::from_millis(40));
        router
            .websocket("/", handler())
            .websocket("/denied", refusing(|| Reject::denied("no").into()))
            .websocket("/failing", refusing(|| Error::other("swordfish")))
            .websocket("/strict", strict)
            .websocket("/expiring", expiring)
            .websocket("/silent", Handler::new().heartbeat(beat))
            .websocket("/unfinished", Handler::new().read_timeout(Duration::from_millis(40)))
    });
    let mut seen = vec![
        (1002, close_after_frame(&server, OpCode::Continuation, b"x").await),
        (1003, close_after_frame(&server, OpCode::Binary, b"x").await),
        (1007, close_after_frame(&server, OpCode::Text, b"\xff").await),
        (1009, close_after_frame(&server, OpCode::Text, &vec![b'x'; 64 * 1024 + 1]).await),
        (1011, server.connect("/failing").await.expect_close().await.0),
        (3005, server.connect("/expiring").await.expect_close().await.0),
        (3507, server.connect("/denied").await.expect_close().await.0),
    ];
    let silent = server.client("/silent").without_pongs().connect();
    seen.push((3012, silent.await.expect_close().await.0));
    let mut unfinished = server.connect("/unfinished").await;
    unfinished.send_raw(b"\x81").await;
    seen.push((3501, unfinished.expect_close().await.0));
    let mut strict = server.connect("/strict").await;
    for _ in 0..2 {
        strict.send(json!({ "type": "nobody" })).await;
    }
    seen.push((3509, strict.expect_close().await.0));
    let mut slow = subscriber(&server, "slow", "x").await;
    seen.push((3008, never_reads(&hub, &mut slow).await));
    let one =
        Hub::builder().max_connections_per_user(1).at_limit(Limit::PerUser, AtLimit::CloseOldest).build();
    let one = TestServer::start(one, handler());
    let mut oldest = one.connect("/?user=a").await;
    oldest.request(json!({ "type": "ping" })).await.unwrap();
    let _newest = one.connect("/?user=a").await;
    seen.push((3504, oldest.expect_close().await.0));
    let mut last = server.connect("/?user=last").await;
    last.request(json!({ "type": "ping" })).await.unwrap();
    let stopping = hub.clone();
    let stop = tokio::spawn(async move { stopping.shutdown(Duration::from_secs(5)).await });
    seen.push((3000, last.expect_close().await.0));
    last.send_close(3000, "").await;
    stop.await.unwrap().unwrap();
    let (wanted, got): (Vec<u16>, Vec<u16>) = seen.iter().copied().unzip();
    assert_eq!(got, wanted);
    // Codes of the peer (1000, 1001), of the application (3011, 3503, 3505), and of sessions, drains and
    // brokers.
    let others = [1000, 1001, 3001, 3009, 3010, 3011, 3013, 3500, 3502, 3503, 3505];
    let mut all: Vec<u16> = wanted.into_iter().chain(others).collect();
    all.sort_unstable();
    assert_eq!(all, CloseCode::ALL.iter().map(|code| code.0).collect::<Vec<_>>());
}

/// Returns the rows of docs/errors.md: the close code for each error type of `on_open`.
fn codes_of_open() -> BTreeMap<&'static str, u16> {
    let guide = include_str!("../../../../docs/errors.md");
    let section = guide.split("## When `on_open` fails").nth(1).and_then(|rest| rest.split("## ").next());
    let mut codes = BTreeMap::new();
    for row in section.unwrap().lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let Ok(code) = cells[2].parse::<u16>() else { continue };
        let named = cells[0].split('`').filter(|name| name.parse::<ErrorType>().is_ok());
        for name in named {
            assert_eq!(codes.insert(name, code), None, "`{name}` has two rows");
        }
    }
    codes
}

#[tokio::test]
async fn every_failure_of_on_open_has_the_close_code_of_the_table() {
    let handler = Handler::new().callback_timeout(Duration::from_millis(50)).on_open(async |cx: Context| {
        let how = cx.query("how").unwrap();
        match how.as_str() {
            "reject expired" => Err(Reject::expired("old").into()),
            "reject unauthorized" => Err(Reject::unauthorized("who?").into()),
            "reject denied" => Err(Reject::denied("no").into()),
            "reject invalid" => Err(Reject::invalid("what?").into()),
            "reject limit" => Err(Reject::limit_exceeded("too many", 9).into()),
            "reject rate" => Err(Reject::rate_limited("too often", Duration::from_secs(2)).into()),
            "reject unavailable" => Err(Reject::unavailable("not now").into()),
            "io" => Err(std::io::Error::other("swordfish").into()),
            "config" => RetryPolicy::default().jitter(-1.0).validate(),
            "transition" => cx.connection().set_state(ConnectionState::custom("undeclared")),
            "other" => Err(Error::other("swordfish")),
            "panic" => panic!("on purpose"),
            "never" => std::future::pending().await,
            name => Err(Error::protocol(name.parse::<ErrorType>().unwrap(), "no")),
        }
    });
    let server = TestServer::start(Hub::new(), handler);
    let codes = codes_of_open();
    let protocol = ErrorType::ALL.iter().map(|kind| (kind.as_str(), codes[kind.as_str()]));
    let others = [
        ("reject%20expired", 3005),
        ("reject%20unauthorized", 3507),
        ("reject%20denied", 3507),
        ("reject%20invalid", 3507),
        ("reject%20limit", 3507),
        ("reject%20rate", 1011),
        ("reject%20unavailable", 1011),
        ("io", 1011),
        ("config", 1011),
        ("transition", 1011),
        ("other", 1011),
        ("panic", 1011),
        ("never", 1011),
    ];
    for (how, code) in protocol.chain(others) {
        let mut client = server.connect(&format!("/?how={how}")).await;
        assert_eq!(client.expect_close().await.0, code, "{how}");
    }
    assert_eq!((codes["application_error"], codes["token_expired"]), (1011, 3005));
}

#[tokio::test]
async fn reserved_close_code_is_sent_as_1011() {
    fn closing(cx: &Context) -> CloseCode {
        CloseCode(cx.query("code").unwrap().parse().unwrap())
    }
    let (sender, mut reasons) = tokio::sync::mpsc::channel(8);
    let handler = Handler::new()
        .identify(|request: ConnectRequest| Ok(request.query("code").unwrap_or_default()))
        .on_open(async |cx: Context| match cx.query("open") {
            Some(_) => Err(Error::application("no")),
            None => Ok(()),
        })
        .on("close", async |cx: Context, (): ()| {
            cx.connection().close(closing(&cx), "bye");
            Ok(())
        })
        .on("fail", async |_: Context, (): ()| -> hauyna::Result { Err(Error::application("no")) })
        .on_error(|cx: Context, _| Recovery::Close(closing(&cx), "bye".into()))
        .on_close(move |_, reason| {
            sender.try_send(reason).unwrap();
            async { Ok(()) }
        });
    let hub = Hub::new();
    let server = TestServer::start(hub.clone(), handler);
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, u16::MAX, 4000] {
        for how in ["close", "fail", "open", "disconnect", "clear"] {
            let open = if how == "open" { "&open" } else { "" };
            let mut client = server.connect(&format!("/?code={code}{open}")).await;
            match how {
                "close" | "fail" => client.send(json!({ "type": how })).await,
                "open" => {}
                _ => {
                    client.request(json!({ "type": "ping" })).await.unwrap();
                    let closed = match how {
                        "clear" => hub.connections().clear(CloseCode(code), "bye"),
                        _ => hub.user(code.to_string()).disconnect(CloseCode(code), "bye").await,
                    };
                    assert_eq!(closed, 1);
                }
            }
            let sent = if code == 4000 { 4000 } else { 1011 };
            assert_eq!(client.expect_close().await, (sent, "bye".to_owned()), "{code} by {how}");
            client.vanish();
            assert_eq!(reasons.recv().await, Some(CloseReason::Application(sent)), "{code} by {how}");
        }
    }
}

#[tokio::test]
async fn each_constructor_of_reject_has_its_status_type_and_details() {
    let wait = Duration::from_millis(1500);
    for (reject, status, kind, details) in [
        (Reject::unauthorized("no"), 401, "unauthorized", Value::Null),
        (Reject::expired("no"), 401, "token_expired", Value::Null),
        (Reject::denied("no"), 403, "permission_denied", Value::Null),
        (Reject::invalid("no"), 400, "validation_error", Value::Null),
        (Reject::limit_exceeded("no", 9), 429, "limit_exceeded", json!({ "limit": 9 })),
        (Reject::rate_limited("no", wait), 429, "rate_limited", json!({ "retry_after": 1500 })),
        (Reject::unavailable("no"), 503, "unavailable", Value::Null),
    ] {
        let refusing = Handler::new().identify(move |_| Err::<String, _>(reject.clone()));
        let refused = TestServer::start(Hub::new(), refusing).client("/").try_connect().await.unwrap_err();
        let body = refused.json();
        assert_eq!((refused.status.as_u16(), &body["error_type"]), (status, &json!(kind)));
        assert_eq!((&body["message"], &body["details"]), (&json!("no"), &details));
    }
}

#[tokio::test]
async fn all_refusals_before_the_upgrade_have_one_format() {
    let server = TestServer::start(open_hub().max_connections_per_user(1).build(), handler());
    let _first = server.connect("/?user=a").await;
    crate::support::eventually("the client is connected", || now(server.hub().user("a").is_connected()))
        .await;
    let body = server.client("/?user=b").header("content-length", "5").try_connect().await;
    let origin = server.client("/?user=b").header("origin", "https://elsewhere.example").try_connect().await;
    for (refused, status, kind) in [
        (server.client("/").try_connect().await, 401, "unauthorized"),
        (server.client("/?user=a").try_connect().await, 429, "limit_exceeded"),
        (origin, 403, "permission_denied"),
        (body, 400, "validation_error"),
    ] {
        let refused = refused.unwrap_err();
        let body = refused.json();
        assert!(
            status == 0 && refused.status.is_client_error() || refused.status.as_u16() == status,
            "{body}"
        );
        assert_eq!(body["error_type"], kind, "{body}");
        assert!(body["message"].is_string() && body.get("error").is_none(), "{body}");
        if kind == "limit_exceeded" {
            assert_eq!(body["details"]["limit"], 1);
        }
    }
}
