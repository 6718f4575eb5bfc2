//! One hub and several runtimes: one after another, as with a hub in a static, or two at once of which one
//! ends. The work of the hub continues in the next runtime, and nothing is lost. Also calls without any
//! runtime.

use crate::support::{eventually, now, poll_once, registered, user_handler};
use hauyna::error::ErrorKind;
use hauyna::events::{Event, SystemEvent, SystemKind};
use hauyna::{
    ChannelOptions, CloseReason, Drain, Error, Handler, Hub, HubBuilder, Presence, Router, SessionOptions,
    json,
};
use hauyna_test::{Client, TestServer};
use parking_lot::Mutex;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Returns a hub with public and secret channels and without sessions.
fn hub() -> HubBuilder {
    let channels = ChannelOptions::new().presence(Presence::each());
    Hub::builder().sessions(SessionOptions::none()).channels("{*any}", channels)
}

async fn subscriber(server: &TestServer, user: &str, channel: &str) -> Client {
    let mut client = server.json(&format!("/?user={user}")).await;
    client.subscribe(channel).await;
    client
}

/// A runtime on its own thread, driven until it is dropped.
pub(crate) struct Beside {
    runtime: Option<Runtime>,
}

impl Beside {
    pub(crate) fn new() -> Self {
        Self { runtime: Some(Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()) }
    }

    /// Runs a future on this runtime and waits for its result.
    pub(crate) fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, result) = oneshot::channel();
        self.runtime.as_ref().unwrap().spawn(async move {
            let _ = sender.send(future.await);
        });
        result.blocking_recv().unwrap()
    }

    /// Spawns a task on this runtime.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.as_ref().unwrap().spawn(future);
    }

    /// Ends the runtime with all its tasks.
    pub(crate) fn end(&mut self) {
        drop(self.runtime.take());
    }
}

#[test]
fn hub_serves_one_runtime_after_another() {
    for shards in [1, 2] {
        let hub = hub().shards(shards).build();
        for round in 0..6 {
            let runtime = if round % 2 == 0 { single() } else { multi() };
            let (hub, own) = (hub.clone(), hub.clone());
            let clients = runtime.block_on(async move {
                let server = TestServer::start(own.clone(), user_handler());
                let mut secret = subscriber(&server, "spy", "secret").await;
                let mut public = Vec::new();
                for number in 0..=round {
                    public.push(subscriber(&server, &format!("u{number}"), "public").await);
                }
                for number in 0..20 {
                    own.channel("secret").broadcast(json!({ "secret": number })).await.unwrap();
                    own.channel("public").broadcast(json!({ "public": number })).await.unwrap();
                }
                for client in &mut public {
                    for number in 0..20 {
                        let message = client.wait_for("message").await;
                        assert_eq!(message["content"]["public"], number, "round {round}: {message}");
                    }
                }
                for number in 0..20 {
                    assert_eq!(secret.wait_for("message").await["content"]["secret"], number);
                }
                (server, secret, public)
            });
            // Connections, server and shards end with their runtime while they work.
            drop(runtime);
            drop(clients);
            assert_eq!((hub.stats().connections, hub.stats().panics), (0, 0), "round {round}");
            assert_eq!(hub.stats().subscriptions, 0, "round {round}");
        }
    }
}

#[test]
fn clients_of_the_remaining_runtime_get_only_their_channels() {
    let hub = hub().shards(1).build();
    let (mut first, second) = (Beside::new(), Beside::new());
    // The first runtime has started the shard.
    let own = hub.clone();
    let of_first = first.run(async move {
        let server = TestServer::start(own, user_handler());
        let mut clients = Vec::new();
        for number in 0..8 {
            let channel = if number % 2 == 0 { "secret" } else { "public" };
            clients.push(subscriber(&server, &format!("first{number}"), channel).await);
        }
        (server, clients)
    });
    let own = hub.clone();
    let (server, mut clients) = second.run(async move {
        let server = TestServer::start(own, user_handler());
        let mut clients = Vec::new();
        for number in 0..8 {
            let channel = if number % 2 == 0 { "public" } else { "secret" };
            clients.push((subscriber(&server, &format!("second{number}"), channel).await, channel));
        }
        (server, clients)
    });
    first.end();
    // Dropping a test server would also close the connections of the other one.
    std::mem::forget(of_first);
    let own = hub.clone();
    second.run(async move {
        for number in 8..16 {
            let channel = if number % 2 == 0 { "public" } else { "secret" };
            clients.push((subscriber(&server, &format!("second{number}"), channel).await, channel));
        }
        for number in 0..50 {
            for channel in ["secret", "public"] {
                own.channel(channel).broadcast(json!({ "of": channel, "number": number })).await.unwrap();
            }
        }
        own.connections().broadcast("to all").await.unwrap();
        for (client, channel) in &mut clients {
            for number in 0..50 {
                let message = client.wait_for("message").await;
                assert_eq!(message["content"], json!({ "of": channel, "number": number }));
            }
            assert_eq!(client.wait_for("broadcast").await["message"], "to all");
        }
    });
    assert_eq!(hub.stats().panics, 0);
}

#[test]
fn runtime_that_ends_during_a_fan_out_affects_no_other() {
    let hub = hub().shards(1).outbox(64 << 20, 1 << 20).build();
    let second = Beside::new();
    let own = hub.clone();
    let (server, mut reader) = second.run(async move {
        let server = TestServer::start(own, user_handler());
        let reader = subscriber(&server, "reader", "public").await;
        (server, reader)
    });
    let mut sent = 0_u64;
    for _ in 0..5 {
        let mut first = Beside::new();
        let own = hub.clone();
        let clients = first.run(async move {
            let server = TestServer::start(own, user_handler());
            let mut clients = Vec::new();
            for number in 0..20 {
                clients.push(subscriber(&server, &format!("u{number}"), "public").await);
            }
            (server, clients)
        });
        // Publications from outside a runtime wait in the inbox until a runtime drives the shard.
        for _ in 0..200 {
            assert!(poll_once(pin!(hub.channel("public").broadcast(sent))).is_ready());
            sent += 1;
        }
        first.end();
        std::mem::forget(clients);
        for _ in 0..20 {
            assert!(poll_once(pin!(hub.channel("public").broadcast(sent))).is_ready());
            sent += 1;
        }
    }
    second.run(async move {
        let _server = server;
        for number in 0..sent {
            assert_eq!(reader.wait_for("message").await["content"], number);
        }
    });
    assert_eq!(hub.stats().panics, 0);
}

/// Returns a handler and a receiver of the effects of a connection's end: presence, callback and listeners.
fn handler_and_effects(hub: &Hub) -> (Handler, mpsc::Receiver<&'static str>) {
    let (sender, reported) = mpsc::channel(64);
    let (of_close, of_events) = (sender.clone(), sender);
    hub.events().on_system([SystemKind::UserOffline, SystemKind::Closed], move |_, event| {
        let name = if matches!(event, SystemEvent::Closed { .. }) { "closed" } else { "offline" };
        let sent = of_events.try_send(name).map_err(Error::other);
        async move { sent }
    });
    let handler = user_handler().on_close(move |_, reason| {
        let sent = of_close.clone();
        async move {
            assert_eq!(reason, CloseReason::Lost);
            // It needs the timer of its runtime.
            tokio::time::timeout(Duration::from_secs(60), async { sent.try_send("on_close") })
                .await
                .unwrap()
                .unwrap();
            Ok(())
        }
    });
    (handler, reported)
}

async fn all_of(reported: &mut mpsc::Receiver<&'static str>) {
    let mut names = Vec::new();
    while names.len() < 3 {
        let next = tokio::time::timeout(Duration::from_secs(30), reported.recv()).await;
        names.push(next.unwrap_or_else(|_| panic!("missing: only {names:?} were reported")).unwrap());
    }
    names.sort_unstable();
    assert_eq!(names, ["closed", "offline", "on_close"]);
}

/// Loses a client together with its runtime.
fn lose_client(hub: &Hub, handler: Handler) {
    let runtime = single();
    let client = runtime.block_on(async {
        let server = TestServer::start(hub.clone(), handler);
        let client = subscriber(&server, "ann", "room").await;
        eventually("ann is connected", || !now(hub.channel("room").presence()).is_empty()).await;
        (server, client)
    });
    drop(runtime);
    drop(client);
}

#[test]
fn next_runtime_finishes_the_work_of_an_ended_one() {
    for window in [Duration::ZERO, Duration::from_millis(30)] {
        let sessions = SessionOptions::new().window(window);
        let grace = Duration::from_millis(30);
        let hub = hub().sessions(sessions).presence_grace(grace).max_connections(1).build();
        let (handler, mut reported) = handler_and_effects(&hub);
        lose_client(&hub, handler);
        assert_eq!(hub.stats().connections, 0);
        single().block_on(async {
            // Any call of the application is enough.
            eventually("ann has left", || now(hub.channel("room").presence()).is_empty()).await;
            all_of(&mut reported).await;
        });
        assert_eq!((hub.stats().panics, hub.stats().events_dropped), (0, 0));
        // The connection no longer counts for the limit.
        let (handler, _told) = handler_and_effects(&hub);
        lose_client(&hub, handler);
    }
}

#[test]
fn existing_runtime_finishes_the_work_of_an_ended_one() {
    for window in [Duration::ZERO, Duration::from_millis(30)] {
        let sessions = SessionOptions::new().window(window);
        let hub = hub().sessions(sessions).presence_grace(Duration::from_millis(30)).build();
        let (handler, mut reported) = handler_and_effects(&hub);
        let second = Beside::new();
        let own = hub.clone();
        let held = second.run(async move {
            let server = TestServer::start(own, Handler::new().identify(|_| Ok("ben")));
            (server.json("/").await, server)
        });
        lose_client(&hub, handler);
        second.run(async move { all_of(&mut reported).await });
        drop(held);
        assert_eq!((hub.stats().panics, hub.stats().events_dropped), (0, 0));
    }
}

#[test]
fn event_of_an_ended_runtime_reaches_the_remaining_listeners() {
    let hub = hub().build();
    let (at_work, mut is_at_work) = mpsc::channel(64);
    hub.events().priority(1).on_system([SystemKind::GroupChanged], move |_, _| {
        at_work.try_send(()).unwrap();
        std::future::pending::<hauyna::Result>()
    });
    let reported = Arc::new(Mutex::new(Vec::new()));
    let of_events = reported.clone();
    hub.events().on_system([SystemKind::GroupChanged], move |_: Event, event| {
        let SystemEvent::GroupChanged { group, .. } = event else { panic!("{event:?}") };
        of_events.lock().push(group);
        async { Ok(()) }
    });
    for round in 0..3 {
        let runtime = single();
        runtime.block_on(async {
            hub.groups().add("ann", &format!("g{round}")).await.unwrap();
            is_at_work.recv().await.unwrap();
        });
        drop(runtime);
        assert_eq!(reported.lock().len(), round, "the next listener runs on the next runtime");
    }
    assert_eq!(*reported.lock(), ["g0", "g1"]);
    assert_eq!(hub.stats().events_dropped, 0);
}

#[test]
fn drain_continues_in_another_runtime() {
    let hub = hub().build();
    let second = Beside::new();
    let own = hub.clone();
    let (server, client) = second.run(async move {
        let server = TestServer::start(own, user_handler());
        let client = subscriber(&server, "ann", "room").await;
        (server, client)
    });
    let first = single();
    first.block_on(async {
        let drain = hub.drain(Drain::over(Duration::from_millis(300)).reason("deploy"));
        assert!(tokio::time::timeout(Duration::from_millis(20), drain).await.is_err());
    });
    drop(first);
    let own = hub.clone();
    second.run(async move {
        let mut client = client;
        assert_eq!(client.wait_for("reconnect").await["reason"], "deploy");
        assert_eq!(client.expect_close().await.0, 3001);
        own.drain(Drain::default()).await.unwrap();
        drop(server);
    });
    assert_eq!(hub.stats().connections, 0);
}

#[test]
fn waiting_caller_continues_a_drain_without_runtime() {
    let hub = hub().build();
    let first = single();
    let kept = first.block_on(async {
        let server = TestServer::start(hub.clone(), user_handler());
        let client = subscriber(&server, "ann", "room").await;
        let drain = hub.drain(Drain::over(Duration::from_secs(60)));
        assert!(tokio::time::timeout(Duration::from_millis(20), drain).await.is_err());
        (server, client)
    });
    drop(first);
    drop(kept);
    let drained = async { hub.drain(Drain::default()).await };
    single()
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), drained).await.unwrap().unwrap() });
    assert_eq!(hub.stats().connections, 0);
}

#[test]
fn calls_outside_a_runtime_work_or_return_errors() {
    let hub = hub().build();
    hub.events().on("x", async |_: Event, ()| Ok(()));
    let is_without = |error: Error| assert_eq!(error.kind(), ErrorKind::NoRuntime, "{error}");
    is_without(now(hub.events().trigger("x", None, ())).unwrap_err());
    is_without(now(hub.drain(Drain::default())).unwrap_err());
    assert!(!hub.is_stopping(), "nothing has started");
    is_without(now(Router::new(hub.clone()).into_server().serve("127.0.0.1:0")).unwrap_err());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    is_without(now(Router::new(hub.clone()).into_server().serve_listener(listener)).unwrap_err());
    let (socket, _peer) = tokio::io::duplex(64);
    is_without(hub.connections().register(socket, "ann", &Handler::new().share()).unwrap_err());
    // Calls that neither wait nor need a task work everywhere.
    now(hub.channel("x").broadcast(1)).unwrap();
    now(hub.user("ann").send(1)).unwrap();
    now(hub.groups().add("ann", "g")).unwrap();
    assert_eq!(now(hub.revoke(hauyna::auth::Revocation::user("ann"))), 0);
    assert!(now(hub.presence().of("ann").update(json!({ "a": 1 }))).is_err());
    is_without(now(hub.shutdown(Duration::from_secs(1))).unwrap_err());
    assert!(hub.is_stopping(), "the hub is stopping");
}

#[test]
fn live_connection_accepts_calls_from_outside_its_runtime() {
    let hub = hub().build();
    let runtime = multi();
    let (mut client, connection) = runtime.block_on(registered(&hub, "ann", &Handler::new().share()));
    let question = connection.request::<u32>("q", ()).into_future();
    assert_eq!(now(question).unwrap_err().kind(), ErrorKind::NoRuntime);
    connection.send(json!({ "n": 1 })).unwrap();
    runtime.block_on(async { assert_eq!(client.next().await["n"], 1) });
    connection.set_expiry(Some(std::time::SystemTime::now() + Duration::from_secs(3600)));
    connection.with_extensions(|values| values.insert(1_u8));
    now(hub.channel("room").subscribe(&connection, ())).unwrap();
    now(hub.channel("room").broadcast(2)).unwrap();
    runtime.block_on(async { assert_eq!(client.wait_for("message").await["content"], 2) });
    let handle = runtime.handle().clone();
    drop(runtime);
    assert!(!connection.is_open());
    let _inside = handle.enter();
    hub.events().on("x", async |_: Event, ()| {
        tokio::task::yield_now().await;
        Ok(())
    });
    let outcome = poll_once(pin!(hub.events().trigger("x", None, ())));
    if let Poll::Ready(outcome) = outcome {
        assert_eq!(outcome.unwrap().failures[0].error.kind(), ErrorKind::NoRuntime);
    }
    now(hub.shutdown(Duration::ZERO)).unwrap();
}

#[test]
fn runtime_without_timers_gets_errors() {
    let hub = hub().build();
    hub.events().on("x", |_: Event, ()| std::future::pending::<hauyna::Result>());
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let outcome = hub.events().trigger("x", None, ()).await.unwrap();
        assert_eq!(outcome.failures[0].error.kind(), ErrorKind::NoRuntime);
    });
}

#[test]
fn shard_of_an_idle_runtime_continues_in_another_one() {
    let (hub, first, second) = (hub().shards(1).build(), single(), single());
    let of_first = first.block_on(async {
        let server = TestServer::start(hub.clone(), user_handler());
        let client = subscriber(&server, "first", "x").await;
        (server, client)
    });
    // The first runtime is alive and drives the shard.
    let (of_second, mut client) = second.block_on(async {
        let server = TestServer::start(hub.clone(), user_handler());
        let mut client = subscriber(&server, "second", "x").await;
        hub.channel("x").broadcast(json!(1)).await.unwrap();
        assert_eq!(client.wait_for("message").await["content"], 1);
        (server, client)
    });
    // The second runtime drives the shard, then the first one again.
    let (_server, mut of_first) = of_first;
    first.block_on(async {
        assert_eq!(of_first.wait_for("message").await["content"], 1);
        hub.channel("x").broadcast(json!(2)).await.unwrap();
        assert_eq!(of_first.wait_for("message").await["content"], 2);
    });
    drop(first);
    second.block_on(async {
        hub.channel("x").broadcast(json!(3)).await.unwrap();
        for number in 2..=3 {
            assert_eq!(client.wait_for("message").await["content"], number);
        }
    });
    drop(of_second);
}

#[test]
fn nothing_remains_of_a_hub_after_its_runtime_ended() {
    let (hub, mark) = (hub().shards(1).build(), Arc::new(()));
    let runtime = single();
    let clients = runtime.block_on(async {
        let server = TestServer::start(hub.clone(), user_handler().state(mark.clone()));
        let mut client = subscriber(&server, "a", "x").await;
        hub.channel("x").broadcast(json!(1)).await.unwrap();
        client.wait_for("message").await;
        (server, client)
    });
    drop(runtime);
    drop(clients);
    drop(hub);
    assert_eq!(Arc::strong_count(&mark), 1, "something of the hub is left");
}

#[test]
fn connections_need_a_runtime_with_timers_and_servers_one_with_io() {
    let mut without_timers = Builder::new_current_thread();
    let mut without_io = Builder::new_current_thread();
    for builder in [without_timers.enable_io(), without_io.enable_time()] {
        let served = builder.build().unwrap().block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            Router::new(hub().build()).into_server().serve_listener(listener).await
        });
        assert_eq!(served.unwrap_err().kind(), ErrorKind::NoRuntime);
    }
    let registered = Builder::new_current_thread().build().unwrap().block_on(async {
        let handler = Handler::new().share();
        hub().build().connections().register(tokio::io::duplex(64).0, "ann", &handler)
    });
    assert_eq!(registered.unwrap_err().kind(), ErrorKind::NoRuntime);
}
