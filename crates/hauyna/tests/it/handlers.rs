//! The decisions of the application: every callback, its results, its failures, and which connections these
//! affect.

use crate::support::session_client;
use crate::support::{
    eventually, now, open_hub, session_clients, subscriber, user_handler, wait_for_connections,
    wait_until_empty,
};
use hauyna::channel::AccessRequest;
use hauyna::{CloseCode, CloseReason, Context, Handler, Hub, Reject, SessionOptions, json};
use hauyna_test::{Frame, TestServer};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc};

#[derive(Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

async fn add(_: Context, numbers: Add) -> hauyna::Result<i64> {
    Ok(numbers.a + numbers.b)
}

#[tokio::test]
async fn identify_names_the_user_or_refuses_with_a_status() {
    let server = TestServer::route(Hub::new(), |router| {
        let later = Handler::new().identify(|request: hauyna::ConnectRequest| async move {
            tokio::task::yield_now().await;
            match request.bearer() {
                Some("good") => Ok("bearer".to_owned()),
                _ => Err(Reject::unauthorized("bad token").with_details(json!({ "hint": "sign in" }))),
            }
        });
        let at_once =
            Handler::new().identify(|request| request.query("user").ok_or(Reject::denied("nobody")));
        let none = Handler::new().identify(|_| Ok(None::<String>));
        let bad = Handler::new().identify(|_| Ok("a\nb"));
        let panics =
            Handler::new().identify(|request| -> Result<String, Reject> { panic!("{:?}", request.uri()) });
        let router = router.websocket("/later", later).websocket("/now", at_once).websocket("/none", none);
        router.websocket("/bad", bad).websocket("/panics", panics)
    });
    let later = server.client("/later").header("authorization", "Bearer good").json().connect();
    assert_eq!(later.await.expect("session").await["user"], "bearer");
    let item = server.client("/later").json().protocol("hauyna.bearer.good").connect();
    assert_eq!(item.await.expect("session").await["user"], "bearer");
    let refused = server.client("/later").try_connect().await.unwrap_err();
    let body =
        json!({ "error_type": "unauthorized", "message": "bad token", "details": { "hint": "sign in" } });
    assert_eq!((refused.status.as_u16(), refused.json()), (401, body));
    assert_eq!(server.json("/now?user=a%20b").await.expect("session").await["user"], "a b");
    assert_eq!(server.client("/now").try_connect().await.unwrap_err().status.as_u16(), 403);
    let name = server.json("/none").await.expect("session").await["user"].clone();
    assert!(name.as_str().unwrap().starts_with("anonymous_"));
    assert_eq!(server.client("/bad").try_connect().await.unwrap_err().status.as_u16(), 400);
    assert_eq!(server.client("/panics").try_connect().await.unwrap_err().status.as_u16(), 500);
    assert!(server.client("/now?user=x").try_connect().await.is_ok(), "the server still works");
}

#[tokio::test]
async fn event_input_is_decoded_and_the_result_acknowledged() {
    let handler = user_handler().on("add", add).on("quiet", async |_: Context, _: Value| Ok(())).on(
        "fail",
        async |_: Context, how: Value| -> hauyna::Result<()> {
            Err(match how["how"].as_str() {
                Some("application") => {
                    hauyna::Error::application("no luck").with_details(json!({ "tries": 3 }))
                }
                Some("reject") => Reject::denied("not you").into(),
                _ => hauyna::Error::other("secret: the password is swordfish"),
            })
        },
    );
    let server = TestServer::start(Hub::new(), handler);
    for mut client in session_clients(&server, "/").await {
        assert_eq!(client.request(json!({ "type": "add", "a": 40, "b": 2 })).await.unwrap(), 42);
        assert_eq!(client.request(json!({ "type": "quiet" })).await.unwrap(), Value::Null);
        let error = client.request(json!({ "type": "add", "a": 40, "b": "two" })).await.unwrap_err();
        assert_eq!(
            (&error["error_type"], &error["details"]["path"]),
            (&json!("validation_error"), &json!("b"))
        );
        let error = client.request(json!({ "type": "fail", "how": "application" })).await.unwrap_err();
        assert_eq!(
            (&error["error_type"], &error["details"]["tries"]),
            (&json!("application_error"), &json!(3))
        );
        let error = client.request(json!({ "type": "fail", "how": "reject" })).await.unwrap_err();
        assert_eq!(
            (&error["error_type"], &error["message"]),
            (&json!("permission_denied"), &json!("not you"))
        );
        let error = client.request(json!({ "type": "fail" })).await.unwrap_err();
        assert_eq!((&error["error_type"], &error["temporary"]), (&json!("internal_error"), &json!(true)));
        assert!(!error.to_string().contains("swordfish"));
    }
}

#[tokio::test]
async fn on_message_gets_unhandled_messages_and_on_binary_binary_frames() {
    let (sender, mut binary) = mpsc::channel(8);
    let handler = user_handler()
        .on("add", add)
        .on_message(async |cx: Context, value: Value| Ok(json!([value["type"], cx.user()])))
        .on_binary(move |cx, bytes| {
            let sender = sender.clone();
            async move {
                sender.send(bytes).await.unwrap();
                cx.send(json!({ "type": "got it" }))
            }
        });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/?user=u").await;
    assert_eq!(client.request(json!({ "type": "other" })).await.unwrap(), json!(["other", "u"]));
    assert_eq!(client.request(json!({ "type": "add", "a": 1, "b": 1 })).await.unwrap(), 2);
    client.send_binary(&[0, 255]).await;
    client.expect("got it").await;
    assert_eq!(binary.recv().await.unwrap(), [0, 255]);
}

#[derive(serde::Deserialize)]
struct Refresh;

#[tokio::test]
async fn event_without_data_decodes_as_unit() {
    let hub = open_hub().build();
    hub.events().on("seen", async |_: hauyna::events::Event, (): ()| Ok(()));
    let handler = user_handler()
        .on("unit", async |_: Context, (): ()| Ok("unit"))
        .on("struct", async |_: Context, _: Refresh| Ok("struct"))
        .trigger_events(["seen"]);
    let server = TestServer::start(hub, handler);
    for encoding in hauyna_protocol::Encoding::ALL {
        let mut client = server.client("/?user=u").encoding(encoding).connect().await;
        client.expect("session").await;
        assert_eq!(client.request(json!({ "type": "unit" })).await.unwrap(), "unit");
        assert_eq!(client.request(json!({ "type": "unit", "more": 1 })).await.unwrap(), "unit");
        assert_eq!(client.request(json!({ "type": "struct" })).await.unwrap(), "struct");
        client.request(json!({ "type": "seen" })).await.unwrap();
    }
}

#[tokio::test]
async fn on_open_runs_before_the_first_request_and_its_error_closes() {
    let handler = user_handler().on("add", add).on_open(|cx| async move {
        cx.subscribe("lobby", json!({ "from": "open" })).await?;
        cx.send(json!({ "type": "welcome", "user": cx.user() }))?;
        match cx.query("fail").as_deref() {
            Some("application") => Err(hauyna::Error::application("not today")),
            Some("internal") => Err(hauyna::Error::other("the database is down")),
            Some("panic") => panic!("on purpose"),
            _ => Ok(()),
        }
    });
    let server = TestServer::start(open_hub().build(), handler);
    let first = json!({ "type": "add", "id": 1, "a": 1, "b": 2 });
    let mut client = server.client("/?user=u").json().first(&first).connect().await;
    client.expect("session").await;
    client.expect("subscribed").await;
    client.expect("welcome").await;
    assert_eq!(client.expect("ack").await["data"], 3);
    for (how, kind, code) in [
        ("application", "application_error", 1011),
        ("internal", "internal_error", 1011),
        ("panic", "internal_error", 1011),
    ] {
        let mut refused = server.json(&format!("/?fail={how}")).await;
        if how != "panic" {
            assert_eq!(refused.wait_for("error").await["error_type"], kind);
        }
        assert_eq!(refused.expect_close().await.0, code, "{how}");
    }
    client.close(1000, "").await;
    wait_until_empty(server.hub()).await;
}

#[tokio::test]
async fn on_close_gets_the_reason() {
    let (sender, mut reasons) = mpsc::channel(8);
    let on_close = move |cx: Context, reason| {
        let sender = sender.clone();
        async move {
            assert!(!cx.connection().is_open() && cx.connection().channels().is_empty());
            sender.send(reason).await.map_err(hauyna::Error::other)
        }
    };
    let hub = open_hub().sessions(SessionOptions::none()).build();
    let server = TestServer::start(hub, user_handler().on_close(on_close));
    let mut reason =
        async || tokio::time::timeout(Duration::from_secs(5), reasons.recv()).await.unwrap().unwrap();
    server.connect("/").await.close(4007, "done").await;
    assert_eq!(reason().await, CloseReason::Client(4007));
    let mut silent = server.connect("/").await;
    silent.send_frame(hauyna_websocket::FrameHead::of(hauyna_websocket::OpCode::Close), b"").await;
    assert_eq!(silent.expect_close().await.0, 1005);
    assert_eq!(reason().await, CloseReason::Client(1005));
    subscriber(&server, "u", "x").await.vanish();
    assert_eq!(reason().await, CloseReason::Lost);
    let mut broken = server.connect("/").await;
    broken.send_raw(b"\xff\xff").await;
    broken.expect_close().await;
    drop(broken);
    assert_eq!(reason().await, CloseReason::Protocol);
    let mut dismissed = server.connect("/?user=d").await;
    eventually("the client is connected", || now(server.hub().user("d").is_connected())).await;
    server.hub().connections().of_user("d")[0].close(CloseCode(4500), "bye");
    assert_eq!(dismissed.expect_close().await, (4500, "bye".to_owned()));
    dismissed.send_close(4500, "").await;
    assert_eq!(reason().await, CloseReason::Application(4500));
    let mut last = server.connect("/").await;
    let hub = server.hub().clone();
    wait_for_connections(&hub, 1).await;
    let shutdown = tokio::spawn(async move { hub.shutdown(Duration::from_secs(5)).await });
    assert_eq!(last.expect_close().await.0, 3000);
    last.send_close(3000, "").await;
    assert_eq!(reason().await, CloseReason::Shutdown);
    shutdown.await.unwrap().unwrap();
}

#[tokio::test]
async fn on_ping_and_on_pong_get_the_payload() {
    let (sender, mut payloads) = mpsc::channel(8);
    let pinged = sender.clone();
    let handler = user_handler()
        .on_ping(move |_, payload| {
            let sender = pinged.clone();
            async move { sender.send(("ping", payload)).await.map_err(hauyna::Error::other) }
        })
        .on_pong(move |_, payload| {
            let sender = sender.clone();
            async move { sender.send(("pong", payload)).await.map_err(hauyna::Error::other) }
        });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/").await;
    client.ping(b"one").await;
    assert_eq!(client.next_frame().await, Frame::Pong(b"one".to_vec()));
    assert_eq!(payloads.recv().await.unwrap(), ("ping", b"one".to_vec()));
    client.send_frame(hauyna_websocket::FrameHead::of(hauyna_websocket::OpCode::Pong), b"two").await;
    assert_eq!(payloads.recv().await.unwrap(), ("pong", b"two".to_vec()));
}

#[tokio::test]
async fn callback_panicking_before_its_future_costs_only_its_call() {
    type Never = std::future::Ready<hauyna::Result>;
    let handler = user_handler()
        .on_binary(|_, _| -> Never { panic!("on purpose") })
        .on_ping(|_, _| -> Never { panic!("on purpose") })
        .on_pong(|_, _| -> Never { panic!("on purpose") });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = session_client(&server, "/").await;
    client.send_binary(b"x").await;
    assert_eq!(client.expect("error").await["error_type"], "internal_error");
    client.send_frame(hauyna_websocket::FrameHead::of(hauyna_websocket::OpCode::Pong), b"x").await;
    assert_eq!(client.expect("error").await["error_type"], "internal_error");
    client.ping(b"x").await;
    assert_eq!(client.next_frame().await, Frame::Pong(b"x".to_vec()));
    assert_eq!(client.expect("error").await["error_type"], "internal_error");
    client.expect_nothing().await;
    assert_eq!(server.hub().stats().panics, 3);
}

#[tokio::test]
async fn handler_authorisers_decide_instead_of_the_pattern() {
    let only = |word: &'static str| {
        move |_: Context, request: AccessRequest| async move {
            tokio::task::yield_now().await;
            if request.name().contains(word) { Ok(()) } else { Err(Reject::denied(word)) }
        }
    };
    let handler = user_handler()
        .authorize_subscribe(only("s"))
        .authorize_publish(only("p"))
        .authorize_private(only("friend"));
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/").await;
    let mut ask =
        async |request: Value| client.request(request).await.map_err(|error| error["message"].clone());
    let subscribe = |name: &str| json!({ "type": "subscribe_channel", "channel": name });
    let publish = |name: &str| json!({ "type": "channel_message", "channel": name, "content": 1 });
    assert!(ask(subscribe("s")).await.is_ok(), "an authorised channel needs no declaration");
    assert_eq!(ask(subscribe("x")).await, Err(json!("s")));
    assert!(ask(subscribe("sp")).await.is_ok());
    assert_eq!(ask(publish("s")).await, Err(json!("p")));
    assert!(ask(publish("sp")).await.is_ok());
    assert_eq!(ask(publish("p")).await, Err(json!("not subscribed to this channel")));
    assert!(ask(json!({ "type": "private", "to": "friend", "message": 1 })).await.is_ok());
    assert_eq!(ask(json!({ "type": "private", "to": "foe", "message": 1 })).await, Err(json!("friend")));
}

#[tokio::test]
async fn slow_callback_is_answered_with_timeout_and_dropped() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let seen = dropped.clone();
    let handler = user_handler().on("add", add).callback_timeout(Duration::from_millis(60)).on(
        "hang",
        move |_, _: Value| {
            let guard = Dropped(seen.clone());
            async move {
                std::future::pending::<()>().await;
                drop(guard);
                Ok(())
            }
        },
    );
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/").await;
    client.send(json!({ "type": "hang", "id": "h" })).await;
    client.send(json!({ "type": "add", "id": "a", "a": 1, "b": 1 })).await;
    let error = client.expect("error").await;
    assert_eq!(
        (&error["error_type"], &error["id"], &error["temporary"]),
        (&json!("timeout"), &json!("h"), &json!(true))
    );
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(client.expect("ack").await["id"], "a");
}

#[tokio::test]
async fn panicking_callback_is_an_internal_error_of_its_request() {
    let handler = user_handler()
        .on("add", add)
        .on("now", |_, _: Value| -> std::future::Ready<hauyna::Result<()>> { panic!("on purpose") })
        .on("later", async |_: Context, _: Value| -> hauyna::Result<()> {
            tokio::task::yield_now().await;
            panic!("on purpose")
        })
        .authorize_subscribe(async |_, _| -> bool { panic!("on purpose") });
    let server = TestServer::start(open_hub().build(), handler);
    let mut other = server.connect("/").await;
    let mut client = server.connect("/").await;
    for request in [json!({ "type": "later" }), json!({ "type": "subscribe_channel", "channel": "x" })] {
        assert_eq!(client.request(request).await.unwrap_err()["error_type"], "internal_error");
    }
    assert_eq!(client.request(json!({ "type": "add", "a": 1, "b": 1 })).await.unwrap(), 2);
    client.send(json!({ "type": "add", "id": "before", "a": 1, "b": 1 })).await;
    assert_eq!(client.request(json!({ "type": "now" })).await.unwrap_err()["error_type"], "internal_error");
    assert_eq!(client.answer(&json!("before")).await.unwrap(), 2);
    assert_eq!(other.request(json!({ "type": "add", "a": 2, "b": 2 })).await.unwrap(), 4);
    assert_eq!(server.hub().stats().panics, 3);
}

#[tokio::test]
async fn slow_callback_delays_only_its_connection_and_keeps_order() {
    let (gate, began) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (held, started) = (gate.clone(), began.clone());
    let handler = user_handler().on("add", add).on("slow", move |_, _: Value| {
        let (held, started) = (held.clone(), started.clone());
        async move {
            started.notify_one();
            held.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    let server = TestServer::start(open_hub().build(), handler);
    let mut slow = subscriber(&server, "slow", "x").await;
    let mut other = subscriber(&server, "other", "x").await;
    slow.send(json!({ "type": "slow", "id": 100 })).await;
    for id in 101..110 {
        slow.send(json!({ "type": "add", "id": id, "a": 0, "b": id })).await;
    }
    began.notified().await;
    for number in 0..100 {
        assert_eq!(other.request(json!({ "type": "add", "a": number, "b": 1 })).await.unwrap(), number + 1);
    }
    server.hub().channel("x").broadcast(1).await.unwrap();
    other.expect("message").await;
    slow.expect("message").await; // it still receives
    gate.add_permits(1);
    for id in 100..110 {
        assert_eq!(slow.expect("ack").await["id"], id);
    }
}

#[tokio::test]
async fn callbacks_read_state_query_and_path() {
    let handler = user_handler().state(AtomicU32::new(7)).on("look", async |cx: Context, _: Value| {
        let count = cx.state::<AtomicU32>().fetch_add(1, Ordering::Relaxed);
        cx.connection().with_extensions(|values| *values.get_mut::<u32>().unwrap() += 1);
        let own = cx.connection().with_extensions(|values| values.get::<u32>().copied());
        Ok(json!([cx.param("room"), cx.query("q"), count, own]))
    });
    let handler = handler.on_open(|cx| async move {
        cx.connection().with_extensions(|values| values.insert(40_u32));
        Ok(())
    });
    let server = TestServer::route(Hub::new(), |router| router.websocket("/rooms/{room}", handler));
    let mut client = server.connect("/rooms/a%2Fb?q=1%262").await;
    assert_eq!(client.request(json!({ "type": "look" })).await.unwrap(), json!(["a/b", "1&2", 7, 41]));
    assert_eq!(client.request(json!({ "type": "look" })).await.unwrap(), json!(["a/b", "1&2", 8, 42]));
}

#[tokio::test]
async fn presence_lasts_until_the_last_tracking_connection_ends() {
    let handler =
        user_handler().on_open(|cx| async move { cx.presence().track(json!({ "status": "online" })).await });
    let server = TestServer::start(open_hub().presence_grace(Duration::ZERO).build(), handler);
    let presence = server.hub().presence();
    let mut phone = server.connect("/?user=u").await;
    let mut desk = server.connect("/?user=u").await;
    phone.subscribe("x").await;
    desk.subscribe("x").await;
    assert_eq!(
        (presence.count().await, presence.get("u").await.unwrap().metadata),
        (1, json!({ "status": "online" }))
    );
    phone.close(1000, "").await;
    wait_for_connections(server.hub(), 1).await;
    assert!(presence.is_present("u").await);
    desk.vanish();
    eventually("nobody is present", || now(presence.count()) == 0).await;
}
