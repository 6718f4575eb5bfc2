//! The handling of failures: `on_error` with each of its decisions, for each operation.

use crate::support::{failing_broker, open_hub, session_clients, user_handler, wait_for_connections};
use hauyna::handler::{Failed, Operation, Recovery};
use hauyna::{CloseCode, Context, Error, ErrorType, Handler, Hub, Rate, Reject, json};
use hauyna_test::{Client, Frame, TestServer};
use serde_json::Value;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Arguments of `on_error`: the operation, the error type and the number of retries so far.
type Log = Arc<Mutex<Vec<(Operation, ErrorType, u32)>>>;

fn note(log: &Log, failed: &Failed) {
    log.lock().unwrap().push((failed.operation.clone(), failed.error.error_type(), failed.retries));
}

fn taken(log: &Log) -> Vec<(Operation, ErrorType, u32)> {
    std::mem::take(&mut *log.lock().unwrap())
}

fn request(name: &str) -> Operation {
    Operation::Request(name.into())
}

/// Fails in the way that the message names.
async fn fail(_: Context, how: Value) -> hauyna::Result<()> {
    match how["how"].as_str().unwrap_or_default() {
        "panic" => panic!("on purpose"),
        "never" => std::future::pending().await,
        "internal" => Err(Error::other("secret: the password is swordfish")),
        "unavailable" => Err(Error::protocol(ErrorType::Unavailable, "not now")),
        _ => Err(Error::application("no luck").with_details(json!({ "tries": 3 }))),
    }
}

async fn kind(client: &mut Client, request: Value) -> String {
    let error = client.request(request.clone()).await.expect_err(&request.to_string());
    error["error_type"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn on_error_learns_the_failure_and_by_default_the_client_too() {
    let log = Log::default();
    let notes = log.clone();
    let handler = user_handler()
        .on("fail", fail)
        .on_binary(|_, _| async { Err(Error::application("no binary")) })
        .on_ping(|_, _| async { Err(Error::application("no ping")) })
        .authorize_subscribe(|_, _| async { Err(Reject::denied("not you")) })
        .on_error(move |_, failed| {
            note(&notes, &failed);
            Recovery::default()
        });
    let server = TestServer::start(open_hub().build(), handler);
    let mut client = server.connect("/").await;
    let fail = |how: &str| json!({ "type": "fail", "how": how });
    let subscribe = json!({ "type": "subscribe_channel", "channel": "x" });
    assert_eq!(kind(&mut client, fail("application")).await, "application_error");
    assert_eq!(kind(&mut client, fail("internal")).await, "internal_error");
    assert_eq!(kind(&mut client, fail("panic")).await, "internal_error");
    assert_eq!(kind(&mut client, subscribe).await, "permission_denied");
    assert_eq!(kind(&mut client, json!({ "type": "history", "channel": "x" })).await, "not_subscribed");
    assert_eq!(kind(&mut client, json!({ "type": "nobody" })).await, "unknown_event");
    assert_eq!(kind(&mut client, json!({ "type": "history" })).await, "validation_error");
    client.send_text("{").await;
    assert_eq!(client.expect("error").await["error_type"], "parse_error");
    client.send_binary(b"x").await;
    assert_eq!(client.expect("error").await["message"], "no binary");
    client.ping(b"x").await;
    assert_eq!(client.next_frame().await, Frame::Pong(b"x".to_vec()));
    assert_eq!(client.expect("error").await["message"], "no ping");
    let event = || request("fail");
    assert_eq!(
        taken(&log),
        [
            (event(), ErrorType::ApplicationError, 0),
            (event(), ErrorType::InternalError, 0),
            (event(), ErrorType::InternalError, 0),
            (request("subscribe_channel"), ErrorType::PermissionDenied, 0),
            (request("history"), ErrorType::NotSubscribed, 0),
            (request("nobody"), ErrorType::UnknownEvent, 0),
            (Operation::Unreadable, ErrorType::ValidationError, 0),
            (Operation::Unreadable, ErrorType::ParseError, 0),
            (Operation::Binary, ErrorType::ApplicationError, 0),
            (Operation::Ping, ErrorType::ApplicationError, 0),
        ]
    );
    client.request(json!({ "type": "ping" })).await.unwrap();
    assert!(taken(&log).is_empty(), "on_error does not run without a failure");
}

#[tokio::test]
async fn ignored_failure_is_silent_but_a_request_id_is_answered() {
    let handler = user_handler()
        .on("fail", fail)
        .on_error(|_, _| async { Recovery::Ignore })
        .error_budget(Rate::new(1, Duration::from_secs(3600)).burst(3));
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/").await;
    client.send(json!({ "type": "fail" })).await;
    client.send(json!({ "type": "nobody" })).await;
    client.send(json!({ "type": "ping", "id": 1 })).await;
    assert_eq!(client.expect("pong").await["id"], 1);
    assert_eq!(kind(&mut client, json!({ "type": "fail" })).await, "application_error");
    // Errors without an answer count in the budget, too.
    client.send_text("{").await;
    assert_eq!(client.expect_close().await.0, 3509);
}

#[tokio::test]
async fn failure_can_close_the_connection_after_earlier_answers() {
    let handler = user_handler().on("fail", fail).on_error(|_, failed| match failed.error.error_type() {
        ErrorType::ApplicationError => Recovery::Close(CloseCode(4501), "no luck here".into()),
        _ => Recovery::Reply,
    });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/").await;
    let requests = [
        json!({ "type": "ping", "id": 1 }),
        json!({ "type": "fail", "id": 2 }),
        json!({ "type": "ping", "id": 3 }),
    ];
    for request in requests {
        client.send(request).await;
    }
    assert_eq!(client.expect("pong").await["id"], 1);
    assert_eq!(client.next_frame().await, Frame::Close(Some((4501, "no luck here".to_owned()))));
}

#[tokio::test]
async fn temporary_failures_are_retried_with_their_input_three_times() {
    let log = Log::default();
    let notes = log.clone();
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let handler = user_handler()
        .on("fail", fail)
        .on("third", move |_: Context, input: Value| {
            let call = count.fetch_add(1, Ordering::Relaxed);
            async move { if call < 2 { Err(Error::other("busy")) } else { Ok(input["value"].clone()) } }
        })
        .on_error(move |_, failed| {
            note(&notes, &failed);
            Recovery::Retry { after: Duration::from_millis(1) }
        });
    let server = TestServer::start(Hub::new(), handler);
    for mut client in session_clients(&server, "/").await {
        calls.store(0, Ordering::Relaxed);
        client.send(json!({ "type": "third", "id": 1, "value": [1, "two"] })).await;
        client.send(json!({ "type": "ping", "id": 2 })).await;
        let answer = client.expect("ack").await;
        assert_eq!((&answer["id"], &answer["data"]), (&json!(1), &json!([1, "two"])));
        assert_eq!(client.expect("pong").await["id"], 2, "later requests wait");
        assert_eq!(taken(&log).iter().map(|entry| entry.2).collect::<Vec<_>>(), [0, 1]);
        for how in ["application", "internal", "panic", "unavailable"] {
            client.request(json!({ "type": "fail", "how": how })).await.unwrap_err();
            assert_eq!(taken(&log).iter().map(|entry| entry.2).collect::<Vec<_>>(), [0, 1, 2, 3], "{how}");
        }
        assert_eq!(kind(&mut client, json!({ "type": "nobody" })).await, "unknown_event");
        assert_eq!(taken(&log).len(), 1, "a fault of the client is not retried");
    }
}

#[tokio::test]
async fn timeouts_of_callbacks_and_on_error_are_failures() {
    let log = Log::default();
    let notes = log.clone();
    let handler = user_handler().callback_timeout(Duration::from_millis(60)).on("fail", fail).on_error(
        move |_, failed: Failed| {
            note(&notes, &failed);
            async move {
                match failed.error.error_type() {
                    ErrorType::Timeout if failed.retries == 0 => {
                        Recovery::Retry { after: Duration::from_secs(3600) } // reduced to half of the timeout
                    }
                    ErrorType::Timeout => Recovery::Close(CloseCode(4500), "too slow".into()),
                    ErrorType::UnknownEvent => std::future::pending().await,
                    _ => panic!("on purpose"),
                }
            }
        },
    );
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/").await;
    assert_eq!(kind(&mut client, json!({ "type": "nobody" })).await, "unknown_event");
    let error = client.request(json!({ "type": "fail", "how": "application" })).await.unwrap_err();
    assert_eq!((&error["error_type"], &error["details"]["tries"]), (&json!("application_error"), &json!(3)));
    assert_eq!(server.hub().stats().panics, 1);
    taken(&log);
    client.send(json!({ "type": "fail", "how": "never", "id": 1 })).await;
    assert_eq!(client.expect_close().await, (4500, "too slow".to_owned()));
    assert_eq!(
        taken(&log),
        [(request("fail"), ErrorType::Timeout, 0), (request("fail"), ErrorType::Timeout, 1)]
    );
}

#[tokio::test]
async fn on_open_failure_can_be_retried_ignored_or_closed() {
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let handler = user_handler()
        .on_open(move |cx| {
            let call = count.fetch_add(1, Ordering::Relaxed);
            async move {
                match cx.user().as_str() {
                    "second" if call > 0 => cx.send(json!({ "type": "welcome" })),
                    "panic" => panic!("on purpose"),
                    _ => Err(Error::other("the database is down")),
                }
            }
        })
        .on_error(|cx, failed| match (cx.user().as_str(), &failed.operation) {
            ("second", Operation::Open) => Recovery::Retry { after: Duration::from_millis(1) },
            ("ignored" | "panic", Operation::Open) => Recovery::Ignore,
            ("closed", Operation::Open) => Recovery::Close(CloseCode(4009), "come back".into()),
            _ => Recovery::Reply,
        });
    let server = TestServer::start(Hub::new(), handler);
    server.connect("/?user=second").await.expect("welcome").await;
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    for user in ["ignored", "panic"] {
        let mut client = server.connect(&format!("/?user={user}")).await;
        client.request(json!({ "type": "ping" })).await.unwrap();
    }
    assert_eq!(server.connect("/?user=closed").await.expect_close().await, (4009, "come back".to_owned()));
    let mut notified = server.connect("/?user=told").await;
    assert_eq!(notified.expect("error").await["error_type"], "internal_error");
    assert_eq!(notified.expect_close().await.0, 1011);
}

#[tokio::test]
async fn publication_refused_by_the_broker_is_retried_and_arrives_once() {
    let (broker, is_down) = failing_broker();
    let hub = open_hub().broker(broker).build();
    let healed = is_down.clone();
    let handler = user_handler().on_error(move |_, failed: Failed| {
        assert_eq!(failed.error.error_type(), ErrorType::Unavailable);
        if failed.retries == 1 {
            healed.store(false, Ordering::Relaxed);
        }
        Recovery::Retry { after: Duration::from_millis(1) }
    });
    let server = TestServer::start(hub, handler);
    let mut client = server.connect("/").await;
    client.subscribe("x").await;
    is_down.store(true, Ordering::Relaxed);
    client.send(json!({ "type": "channel_message", "id": 7, "channel": "x", "content": "once" })).await;
    let mut seen = [client.next().await, client.next().await];
    seen.sort_by_key(|message| message["type"].to_string());
    assert_eq!((&seen[0]["id"], &seen[0]["data"]["offset"]), (&json!(7), &json!(1)));
    assert_eq!(seen[1]["content"], "once");
    client.expect_nothing().await;
}

#[tokio::test]
async fn client_over_its_rate_is_refused_without_asking_the_application() {
    let log = Log::default();
    let notes = log.clone();
    let limit = hauyna::handler::RateLimit::new().messages(Rate::new(1, Duration::from_secs(3600)).burst(1));
    let handler = Handler::new().rate_limit(limit).on_error(move |_, failed| {
        note(&notes, &failed);
        Recovery::Ignore
    });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/").await;
    client.request(json!({ "type": "ping" })).await.unwrap();
    assert_eq!(kind(&mut client, json!({ "type": "ping" })).await, "rate_limited");
    assert!(taken(&log).is_empty());
    client.vanish();
    wait_for_connections(server.hub(), 0).await;
}
