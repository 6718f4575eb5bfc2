//! Application code that panics in unexpected places: destructors, `Serialize`, error texts, listeners,
//! closures of options. Each panic affects only its call or its connection, and is counted; limits, presence,
//! sessions and deliveries to others stay correct.

use crate::support::{
    eventually, hide_expected_panics, registered, user_handler, wait_for_connections, wait_until_empty,
};
use hauyna::events::{Event, SystemKind};
use hauyna::handler::Recovery;
use hauyna::limits::{AtLimit, Limit};
use hauyna::{
    ChannelOptions, CloseReason, ConnectRequest, Context, Error, Handler, Hub, HubBuilder, Identity,
    Presence, SessionOptions, json,
};
use hauyna_test::{Client, MemoryServer, TestServer, settle};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::{Semaphore, mpsc};

/// A value that panics when it is dropped, and counts its drops.
#[derive(Clone)]
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("in drop");
    }
}

/// A second type that panics when it is dropped.
struct OtherBomb(#[expect(dead_code, reason = "it is there to be dropped")] Bomb);

fn bomb() -> (Arc<AtomicUsize>, Bomb) {
    let dropped = Arc::default();
    (Arc::clone(&dropped), Bomb(dropped))
}

/// An error whose text and destructor panic.
struct Evil(#[expect(dead_code, reason = "it is there to be dropped")] Bomb);

impl fmt::Debug for Evil {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("in Debug")
    }
}

impl fmt::Display for Evil {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("in Display")
    }
}

impl std::error::Error for Evil {}

fn evil() -> Error {
    Error::other(Evil(bomb().1))
}

struct NotSerializable;

impl Serialize for NotSerializable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("in serialize")
    }
}

fn hub() -> HubBuilder {
    let channels = ChannelOptions::new().presence(Presence::each()).history(10, Duration::from_secs(60));
    Hub::builder()
        .shards(1)
        .sessions(SessionOptions::none())
        .presence_grace(Duration::ZERO)
        .channels("{*any}", channels)
}

/// Returns a client that must not be affected.
async fn bystander(server: &MemoryServer) -> Client {
    let mut client = server.json("/?user=bystander").await;
    client.subscribe("room").await;
    client
}

async fn assert_receives(hub: &Hub, client: &mut Client, what: usize) {
    hub.channel("room").broadcast(what).await.expect("the local broker accepts it");
    while client.wait_for("message").await["content"] != what {}
}

#[tokio::test(start_paused = true)]
async fn panicking_destructors_of_attached_values_affect_nobody() {
    hide_expected_panics();
    for round in 0..3 {
        let (dropped, attached) = bomb();
        let (closed, mut receiver) = mpsc::channel(64);
        let hub = hub().max_connections_per_user(1).build();
        let of_requests = attached.clone();
        let handler = Handler::new()
            .identify(move |request: hauyna::ConnectRequest| {
                let name = request.query("user").unwrap_or_default();
                let identity = Identity::new(name.as_str());
                Ok(if name == "ann" && round > 0 { identity.attach(of_requests.clone()) } else { identity })
            })
            .on_open(move |cx| {
                let (own, other) = (attached.clone(), OtherBomb(attached.clone()));
                async move {
                    let is_ann = cx.user().as_str() == "ann";
                    cx.connection().with_extensions(|values| {
                        match round {
                            0 if is_ann => std::mem::forget(values.insert(own)),
                            _ => std::mem::forget(own),
                        }
                        match round {
                            0 | 1 if is_ann => std::mem::forget(values.insert(other)),
                            _ => std::mem::forget(other),
                        }
                    });
                    Ok(())
                }
            })
            .on_close(move |cx, reason| {
                let _ = closed.try_send((cx.user().to_string(), reason));
                async { Ok(()) }
            });
        let server = MemoryServer::start(hub.clone(), handler);
        let mut others = bystander(&server).await;
        for number in 0..3 {
            let before = dropped.load(Ordering::Relaxed);
            let mut ann = server.json("/?user=ann").await;
            ann.subscribe("room").await;
            assert_receives(&hub, &mut others, number).await;
            ann.vanish();
            assert_eq!(receiver.recv().await, Some(("ann".to_owned(), CloseReason::Lost)));
            assert_receives(&hub, &mut others, 100 + number).await;
            settle().await;
            let bombs = [2, 2, 1][round];
            assert!(dropped.load(Ordering::Relaxed) - before >= bombs, "{round}: each value is dropped");
            assert!(hub.stats().panics > 0);
            assert_eq!((hub.stats().connections, hub.channel("room").presence().await.len()), (1, 1));
        }
        drop(others);
        settle().await;
        wait_until_empty(&hub).await;
    }
}

#[tokio::test(start_paused = true)]
async fn panicking_destructors_in_callbacks_affect_only_their_request_or_connection() {
    hide_expected_panics();
    let hub = hub().max_connections_per_user(2).at_limit(Limit::PerUser, AtLimit::CloseOldest).build();
    let handler = user_handler()
        .callback_timeout(Duration::from_millis(200))
        .on("late", async |_: Context, _: Value| {
            let _bomb = bomb().1;
            std::future::pending::<hauyna::Result>().await
        })
        .on("both", async |_: Context, _: Value| -> hauyna::Result { std::panic::panic_any(bomb().1) })
        .on("quick", async |_: Context, _: Value| Ok(1))
        .on_close(async |cx: Context, _| {
            let _bomb = bomb().1;
            if cx.user().as_str() == "never" {
                std::future::pending::<()>().await;
            }
            Ok(())
        });
    let server = MemoryServer::start(hub.clone(), handler);
    let mut others = bystander(&server).await;
    for user in ["ann", "never"] {
        let mut client = server.json(&format!("/?user={user}")).await;
        client.subscribe("room").await;
        for kind in ["late", "both", "quick"] {
            let answer = client.request(json!({ "type": kind })).await;
            assert_eq!(answer.is_ok(), kind == "quick", "{kind}: {answer:?}");
        }
        client.vanish();
        assert_receives(&hub, &mut others, 1).await;
        wait_for_connections(&hub, 1).await;
        assert_eq!(hub.channel("room").presence().await.len(), 1);
    }
    // Each connection adds four panics: the late value's destructor, the panic, its payload's destructor, and
    // `on_close`.
    eventually("every panic is counted", || hub.stats().panics >= 6).await;
    drop(others);
    wait_until_empty(&hub).await;
}

#[tokio::test(start_paused = true)]
async fn panicking_error_values_affect_only_their_request_or_connection() {
    hide_expected_panics();
    let hub = hub().build();
    hub.events().on_system(SystemKind::all(), async |_: Event, _| -> hauyna::Result { Err(evil()) });
    hub.events().on("named", async |_: Event, _: Value| -> hauyna::Result { Err(evil()) });
    let handler = user_handler()
        .on("fail", async |_: Context, _: Value| -> hauyna::Result { Err(evil()) })
        .trigger_events(["named"])
        .on_open(async |cx: Context| if cx.user().as_str() == "refused" { Err(evil()) } else { Ok(()) })
        .on_close(async |_, _| Err(evil()));
    let server = MemoryServer::start(hub.clone(), handler);
    let mut others = bystander(&server).await;
    for number in 0..3 {
        let mut ann = server.json("/?user=ann").await;
        for kind in ["fail", "named"] {
            let error = ann.request(json!({ "type": kind })).await.unwrap_err();
            assert_eq!(error["error_type"], "internal_error", "{kind}");
        }
        ann.vanish();
        let mut refused = server.json("/?user=refused").await;
        assert_eq!(refused.expect_close().await.0, 1011);
        assert_receives(&hub, &mut others, number).await;
        let outcome = hub.events().trigger("named", None, ()).await.unwrap();
        assert_eq!(outcome.failures.len(), 1);
    }
    assert!(hub.stats().panics > 0);
    drop(others);
    wait_until_empty(&hub).await;
}

#[tokio::test(start_paused = true)]
async fn panicking_listeners_do_not_stop_the_events() {
    hide_expected_panics();
    let hub = hub().listener_timeout(Duration::from_millis(50)).build();
    let kinds = || [SystemKind::GroupChanged];
    let events = hub.events();
    events.on_system(kinds(), |_, _| -> std::future::Ready<hauyna::Result> { panic!("in a listener") });
    events.on_system(kinds(), async |_: Event, _| -> hauyna::Result { panic!("in a listener, later") });
    events.on_system(kinds(), async |_: Event, _| -> hauyna::Result { std::panic::panic_any(bomb().1) });
    events.on_system(kinds(), async |_: Event, _| {
        let _bomb = bomb().1;
        std::future::pending::<hauyna::Result>().await
    });
    let (dropped, captured) = bomb();
    let with_bomb = events.on_system(kinds(), move |_, _| {
        let _ = &captured;
        async { Ok(()) }
    });
    let (sender, mut receiver) = mpsc::channel(64);
    events.priority(-1).on_system(kinds(), move |_, _| {
        sender.try_send(()).unwrap();
        async { Ok(()) }
    });
    for number in 0..3 {
        hub.groups().add("ann", &format!("g{number}")).await.unwrap();
        receiver.recv().await.unwrap();
    }
    let before = hub.stats().panics;
    assert!(before >= 12, "{before}");
    assert!(events.remove(with_bomb));
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    hub.groups().add("ann", "last").await.unwrap();
    receiver.recv().await.unwrap();
    let outcome = events.trigger("nothing", None, ()).await.unwrap();
    assert_eq!(outcome.ran, 0);
}

#[tokio::test(start_paused = true)]
async fn panicking_serialization_affects_only_the_sender() {
    hide_expected_panics();
    let hub = hub().build();
    let server = MemoryServer::start(
        hub.clone(),
        user_handler().on("send", async |cx: Context, how: Value| {
            match how["how"].as_str().unwrap_or_default() {
                "broadcast" => drop(cx.channel("room").broadcast(NotSerializable).await?),
                "all" => drop(cx.hub().connections().broadcast(NotSerializable).await?),
                "user" => drop(cx.hub().user("bystander").send(NotSerializable).await?),
                "connection" => cx.connection().send(NotSerializable)?,
                "question" => cx.request("q", NotSerializable).await?,
                "trigger" => drop(cx.hub().events().trigger("e", None, NotSerializable).await?),
                "track" => cx.presence().track(NotSerializable).await?,
                "metadata" => cx.channel("room").update_metadata(&cx.connection(), NotSerializable)?,
                "subscribe" => cx.channel("other").subscribe(&cx.connection(), NotSerializable).await?,
                "details" => return Err(Error::other(Evil(bomb().1))),
                other => panic!("{other}"),
            }
            Ok(())
        }),
    );
    let mut others = bystander(&server).await;
    let mut ann = server.json("/?user=ann").await;
    ann.subscribe("room").await;
    let ways = [
        "broadcast",
        "all",
        "user",
        "connection",
        "question",
        "trigger",
        "track",
        "metadata",
        "subscribe",
        "details",
    ];
    for (number, how) in ways.into_iter().enumerate() {
        let before = hub.stats().panics;
        let error = ann.request(json!({ "type": "send", "how": how })).await.unwrap_err();
        assert_eq!(error["error_type"], "internal_error", "{how}");
        assert!(hub.stats().panics > before, "{how}");
        assert_receives(&hub, &mut others, number).await;
    }
    drop((ann, others));
    settle().await;
    wait_until_empty(&hub).await;
}

#[tokio::test(start_paused = true)]
async fn panicking_option_closures_affect_only_their_client() {
    hide_expected_panics();
    let channels = ChannelOptions::new().authorize_subscribe(|cx, _| {
        assert!(cx.user().as_str() != "bad", "in authorize");
        true
    });
    let hub = hub().build();
    let guarded = Hub::builder()
        .shards(1)
        .channels("{*any}", channels)
        .client_address(|request| {
            assert!(request.query("user").as_deref() != Some("nowhere"), "in client_address");
            None
        })
        .max_connections_per_address(10)
        .build();
    let handler = user_handler().on_error(|_, failed: hauyna::handler::Failed| {
        assert!(failed.retries > 9, "in on_error");
        Recovery::Reply
    });
    let server = MemoryServer::start(
        guarded.clone(),
        handler.on("fail", async |_: Context, _: Value| Err::<(), _>(Error::application("no"))),
    );
    let mut others = bystander(&server).await;
    let mut bad = server.json("/?user=bad").await;
    let _ = bad.request(json!({ "type": "fail" })).await.unwrap_err();
    bad.send(json!({ "type": "subscribe_channel", "channel": "room", "id": 1 })).await;
    let refused = server.client("/?user=nowhere").try_connect().await;
    assert!(refused.is_err());
    assert_receives(&guarded, &mut others, 1).await;
    assert!(guarded.stats().panics >= 3, "{}", guarded.stats().panics);
    drop(hub);
}

#[tokio::test(start_paused = true)]
async fn handler_values_may_panic_when_dropped() {
    hide_expected_panics();
    let hub = hub().build();
    let (dropped, value) = bomb();
    let (state, of_open, of_event) = (value.clone(), value.clone(), value);
    let handler = Handler::new()
        .state(state)
        .on_open(move |_| {
            let _ = &of_open;
            async { Ok(()) }
        })
        .on("x", move |_: Context, _: Value| {
            let _ = &of_event;
            async { Ok(()) }
        });
    let shared = handler.share();
    let (client, connection) = registered(&hub, "ann", &shared).await;
    drop((shared, connection));
    client.vanish();
    settle().await;
    wait_until_empty(&hub).await;
    assert_eq!(dropped.load(Ordering::Relaxed), 3, "each is dropped although the others panicked");
    let (_client, connection) = registered(&hub, "ben", &Handler::new().share()).await;
    assert!(connection.is_open());
}

#[test]
fn hub_values_may_panic_when_dropped() {
    hide_expected_panics();
    let (dropped, value) = bomb();
    let hold = || {
        let value = value.clone();
        move || {
            let _ = &value;
        }
    };
    let (address, middleware, authorize, may_publish, listener, validator) =
        (hold(), hold(), hold(), hold(), hold(), hold());
    let channels = ChannelOptions::new()
        .authorize_subscribe(move |_, _| {
            authorize();
            true
        })
        .authorize_publish(move |_, _| {
            may_publish();
            async { Ok(()) }
        })
        .validate(move |_: &str, _: &Value| {
            validator();
            Ok(())
        });
    let hub = Hub::builder().channels("{*any}", channels).client_address(move |_| {
        address();
        None
    });
    let hub = hub.build();
    hub.events().on_system(SystemKind::all(), move |_, _| {
        listener();
        async { Ok(()) }
    });
    let router =
        hauyna::Router::new(hub.clone()).middleware(move |request, next: hauyna::middleware::Next| {
            middleware();
            next.run(request)
        });
    std::mem::forget(value);
    drop(router);
    drop(hub);
    assert_eq!(dropped.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn nested_with_extensions_panics_only_for_the_same_connection() {
    hide_expected_panics();
    let hub = hub().build();
    let shared = Handler::new().share();
    let (_a, ann) = registered(&hub, "ann", &shared).await;
    let (_b, ben) = registered(&hub, "ben", &shared).await;
    let inside = ann.clone();
    let nested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        ann.with_extensions(|_| inside.with_extensions(|values| values.insert(1_u8)));
    }));
    let text = *nested
        .unwrap_err()
        .downcast::<String>()
        .unwrap_or_else(|other| Box::new((*other.downcast::<&str>().unwrap()).to_owned()));
    assert!(text.contains("with_extensions"), "{text}");
    // The lock is free again.
    ann.with_extensions(|values| values.insert(2_u8));
    ann.with_extensions(|own| ben.with_extensions(|other| other.insert(*own.get::<u8>().unwrap())));
    assert_eq!(ben.with_extensions(|values| values.get::<u8>().copied()), Some(2));
}

/// A value that panics when it is dropped after it was armed.
#[derive(Clone)]
struct Armed(Arc<AtomicBool>);

impl Drop for Armed {
    fn drop(&mut self) {
        if self.0.load(Ordering::Relaxed) {
            panic!("in drop");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refresh_succeeds_even_if_the_replaced_value_panics() {
    hide_expected_panics();
    let (old, end) = (Armed(Arc::default()), SystemTime::now() + Duration::from_secs(60));
    let arm = old.0.clone();
    let handler = Handler::new().identify(move |_| Ok(Identity::new("ann").attach(old.clone()))).on_refresh(
        move |_, _| {
            arm.store(true, Ordering::Relaxed);
            async move { Ok(Identity::anonymous().attach(Armed(Arc::default())).expires_at(end)) }
        },
    );
    let hub = hub().build();
    let server = MemoryServer::start(hub.clone(), handler);
    let mut client = server.json("/").await;
    client.expect("session").await;
    client.request(json!({ "type": "refresh", "token": "new" })).await.unwrap();
    assert_eq!(hub.connections().all()[0].expires_at(), Some(end));
    assert_eq!(hub.stats().panics, 1);
}

#[tokio::test]
async fn refusal_after_identify_is_sent_even_if_attached_values_panic() {
    hide_expected_panics();
    let (value, gate) = (Armed(Arc::default()), Arc::new(Semaphore::new(0)));
    let (arm, open, inside) = (value.0.clone(), gate.clone(), Arc::new(AtomicUsize::new(0)));
    let count = inside.clone();
    let handler = Handler::new()
        .identify(move |_| Ok(Identity::new("ann").attach(value.clone())))
        .middleware(move |request: ConnectRequest, next: hauyna::middleware::Next| {
            let (gate, count) = (gate.clone(), count.clone());
            async move {
                let admitted = next.run(request).await;
                count.fetch_add(1, Ordering::Relaxed);
                drop(gate.acquire().await);
                admitted
            }
        });
    let hub = hub().max_connections(1).build();
    let server = TestServer::start(hub.clone(), handler);
    let attempts = [(); 2].map(|()| tokio::spawn(server.client("/").try_connect()));
    eventually("both clients are being identified", || inside.load(Ordering::Relaxed) == 2).await;
    arm.store(true, Ordering::Relaxed);
    open.add_permits(2);
    let mut refused = Vec::new();
    let mut connected = Vec::new();
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(client) => connected.push(client),
            Err(refusal) => refused.push(refusal.status.as_u16()),
        }
    }
    assert_eq!((connected.len(), &refused[..], hub.stats().panics), (1, &[503][..], 1));
}

#[test]
fn panicking_destructors_of_a_handler_are_contained() {
    hide_expected_panics();
    let armed = Armed(Arc::new(AtomicBool::new(true)));
    drop(Handler::new().session_key(move |_| format!("{:p}", &raw const armed)));
}
