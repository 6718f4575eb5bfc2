//! Events: listeners of the application, ordered and contained, and events of the hub.

use crate::support::{eventually, open_hub, subscriber, user_handler, wait_until_empty};
use hauyna::error::ErrorKind;
use hauyna::events::{Event, Flow, SystemEvent, SystemKind};
use hauyna::{ChannelOptions, CloseReason, ErrorType, Hub, Result, json};
use hauyna_test::{TestServer, WrappedBroker};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Deserialize)]
struct Order {
    id: u64,
}

/// Notes of listeners, in order.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().push(text.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }

    /// Returns a listener that adds a note and returns `flow`.
    fn listener<T: Send + 'static>(
        &self,
        word: &'static str,
        flow: Flow,
    ) -> impl Fn(Event, T) -> std::future::Ready<Result<Flow>> + Send + Sync + 'static {
        let notes = self.clone();
        move |_, _| {
            notes.note(word);
            std::future::ready(Ok(flow))
        }
    }
}

#[tokio::test]
async fn listeners_run_by_priority_then_by_registration_order() {
    let (hub, notes) = (Hub::new(), Notes::default());
    let events = hub.events();
    events.on("e", notes.listener::<Value>("a", Flow::Continue));
    events.priority(-1).on("e", notes.listener::<Value>("last", Flow::Continue));
    events.priority(5).on("e", notes.listener::<Value>("first", Flow::Continue));
    events.on("e", notes.listener::<Value>("b", Flow::Continue));
    events.on("other", notes.listener::<Value>("never", Flow::Continue));
    let outcome = events.trigger("e", None, ()).await.unwrap();
    assert_eq!(notes.take(), ["first", "a", "b", "last"]);
    assert_eq!((outcome.ran, outcome.stopped, outcome.failures.len()), (4, false, 0));
    assert_eq!(events.trigger("nobody listens", None, ()).await.unwrap().ran, 0);
}

#[tokio::test]
async fn listener_that_stops_an_event_hides_it_from_later_ones() {
    let (hub, notes) = (Hub::new(), Notes::default());
    hub.events().priority(1).on("e", notes.listener::<Value>("one", Flow::Continue));
    hub.events().on("e", notes.listener::<Value>("two", Flow::Stop));
    hub.events().on("e", notes.listener::<Value>("three", Flow::Continue));
    let outcome = hub.events().trigger("e", None, json!(1)).await.unwrap();
    assert_eq!(notes.take(), ["one", "two"]);
    assert_eq!((outcome.ran, outcome.stopped), (2, true));
}

#[tokio::test]
async fn listener_data_is_typed_or_json_and_a_mismatch_fails_one_listener() {
    let (hub, notes) = (Hub::new(), Notes::default());
    let typed = notes.clone();
    let picky = hub.events().on("order", move |event: Event, order: Order| {
        typed.note(format!("{} {}", event.name(), order.id));
        async { Ok(()) }
    });
    let raw = notes.clone();
    hub.events().on("order", move |event: Event, value: Value| {
        raw.note(format!("{value} {}", event.connection().is_none()));
        async { Ok(()) }
    });
    hub.events().trigger("order", None, json!({ "id": 7 })).await.unwrap();
    assert_eq!(notes.take(), ["order 7", r#"{"id":7} true"#]);
    let outcome = hub.events().trigger("order", None, json!({ "id": "seven" })).await.unwrap();
    assert_eq!(notes.take(), [r#"{"id":"seven"} true"#]);
    assert_eq!((outcome.ran, outcome.failures.len()), (2, 1));
    let failure = &outcome.failures[0];
    assert_eq!((failure.listener, failure.error.error_type()), (picky, ErrorType::ValidationError));
    assert_eq!(failure.error.details().unwrap()["path"], "id");
    let unfit = std::collections::HashMap::from([(vec![1], 2)]);
    let error = hub.events().trigger("order", None, unfit).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol(ErrorType::ValidationError));
    assert!(notes.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn failing_panicking_or_hanging_listener_does_not_stop_the_others() {
    let hub = Hub::builder().listener_timeout(Duration::from_secs(5)).build();
    let notes = Notes::default();
    let events = hub.events();
    events.on("e", async |_, _: Value| Err::<(), _>(hauyna::Error::application("no luck")));
    events.on("e", |_, _: Value| -> std::future::Ready<Result> { panic!("before its first await") });
    events.on("e", async |_, _: Value| -> Result {
        tokio::task::yield_now().await;
        panic!("after it")
    });
    events.on("e", async |_, _: Value| pending::<Result>().await);
    events.on("e", notes.listener::<Value>("the last", Flow::Continue));
    let began = tokio::time::Instant::now();
    let outcome = events.trigger("e", None, ()).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert_eq!(notes.take(), ["the last"]);
    let types: Vec<_> = outcome.failures.iter().map(|failure| failure.error.error_type()).collect();
    use ErrorType::{ApplicationError, InternalError, Timeout};
    assert_eq!(types, [ApplicationError, InternalError, InternalError, Timeout]);
    assert_eq!((outcome.ran, hub.stats().panics), (5, 2));
}

#[tokio::test]
async fn removed_listener_is_not_called() {
    let (hub, notes) = (Hub::new(), Notes::default());
    let one = hub.events().on("e", notes.listener::<Value>("one", Flow::Continue));
    let two = hub.events().on("e", notes.listener::<Value>("two", Flow::Continue));
    assert!(hub.events().remove(one));
    hub.events().trigger("e", None, ()).await.unwrap();
    assert_eq!(notes.take(), ["two"]);
    assert!(hub.events().remove(two) && !hub.events().remove(two));
    assert_eq!(hub.events().trigger("e", None, ()).await.unwrap().ran, 0);
    let system = hub.events().on_system(SystemKind::all(), async |_, _| Ok(()));
    assert!(hub.events().remove(system) && !hub.events().remove(system));
}

/// Returns every system event of a hub as a line, except those about users.
fn observe(hub: &Hub) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(64);
    let of_users = [SystemKind::UserOnline, SystemKind::UserOffline];
    let kinds = SystemKind::all().filter(|kind| !of_users.contains(kind));
    hub.events().on_system(kinds, move |event: Event, system_event| {
        let sender = sender.clone();
        async move {
            let more = match &system_event {
                SystemEvent::Closed { reason, .. } => format!(" {reason:?}"),
                SystemEvent::Subscribed { channel, .. } | SystemEvent::Unsubscribed { channel, .. } => {
                    format!(" {channel}")
                }
                SystemEvent::Errored { error_type, message, .. } => format!(" {error_type:?} {message}"),
                _ => String::new(),
            };
            let user = event.connection().map_or("nobody", |connection| connection.user().as_str());
            sender.send(format!("{user} {}{more}", event.name())).await.map_err(hauyna::Error::other)
        }
    });
    lines
}

async fn next(lines: &mut mpsc::Receiver<String>) -> String {
    tokio::time::timeout(Duration::from_secs(5), lines.recv()).await.expect("an event").expect("a listener")
}

#[tokio::test]
async fn hub_reports_the_life_of_a_connection_in_order() {
    let hub = open_hub().build();
    let mut lines = observe(&hub);
    let handler = user_handler()
        .on("fail", async |_, _: Value| Err::<(), _>(hauyna::Error::other("the database is down")));
    let server = TestServer::start(hub, handler);
    let mut client = subscriber(&server, "u", "room").await;
    client.subscribe("hall").await;
    client.request(json!({ "type": "fail" })).await.unwrap_err();
    client.request(json!({ "type": "nobody knows" })).await.unwrap_err();
    client.request(json!({ "type": "unsubscribe_channel", "channel": "room" })).await.unwrap();
    client.close(4001, "").await;
    for expected in [
        "u opened",
        "u subscribed room",
        "u subscribed hall",
        "u errored InternalError internal error: the database is down",
        "u unsubscribed room",
        "u unsubscribed hall",
        "u state_changed",
        "u closed Client(4001)",
    ] {
        assert_eq!(next(&mut lines).await, expected);
    }
    wait_until_empty(server.hub()).await;
}

#[tokio::test]
async fn slow_consumer_is_reported_before_it_closes() {
    let hub = Hub::builder().channels("{*any}", ChannelOptions::new()).outbox(64 * 1024, 64).build();
    let mut lines = observe(&hub);
    let server = TestServer::start(hub.clone(), user_handler());
    let _client = subscriber(&server, "u", "flood").await;
    assert_eq!(next(&mut lines).await, "u opened");
    assert_eq!(next(&mut lines).await, "u subscribed flood");
    let text = "x".repeat(60_000);
    while hub.stats().slow_consumers == 0 {
        hub.channel("flood").broadcast(json!({ "text": text })).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(next(&mut lines).await, "u slow_consumer");
    hub.connections().all().iter().for_each(|connection| assert!(!connection.is_open()));
}

#[tokio::test]
async fn hanging_listener_delays_events_but_stops_neither_them_nor_the_hub() {
    let hub = open_hub().listener_timeout(Duration::from_millis(50)).build();
    hub.events().priority(1).on_system([SystemKind::Opened], async |_, _| pending::<Result>().await);
    let mut lines = observe(&hub);
    let server = TestServer::start(hub, user_handler());
    let mut client = subscriber(&server, "u", "room").await;
    client.request(json!({ "type": "ping" })).await.unwrap();
    assert_eq!(next(&mut lines).await, "u opened");
    assert_eq!(next(&mut lines).await, "u subscribed room");
}

#[tokio::test]
async fn events_over_the_limit_are_dropped_and_counted() {
    let hub = open_hub().build();
    let (sender, mut begun) = mpsc::channel(1);
    hub.events().on_system([SystemKind::Subscribed, SystemKind::Unsubscribed], move |_, _| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(()).await;
            pending::<Result>().await
        }
    });
    let server = TestServer::start(hub.clone(), user_handler());
    let _client = subscriber(&server, "u", "room").await;
    begun.recv().await.expect("the listener handles the first event");
    let connection = hub.connections().all().remove(0);
    for _ in 0..8_192 {
        hub.channel("other").subscribe(&connection, ()).await.unwrap();
        hub.channel("other").unsubscribe(&connection).unwrap();
    }
    assert_eq!(hub.stats().events_dropped, 0);
    hub.channel("other").subscribe(&connection, ()).await.unwrap();
    assert_eq!(hub.stats().events_dropped, 1);
}

#[tokio::test]
async fn shutdown_waits_for_the_listeners_of_the_last_close() {
    let hub = open_hub().build();
    let notes = Notes::default();
    let closed = notes.clone();
    hub.events().on_system([SystemKind::Closed], move |_, system_event| {
        let notes = closed.clone();
        async move {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            if let SystemEvent::Closed { reason: CloseReason::Shutdown, .. } = system_event {
                notes.note("shutdown");
            }
            Ok(())
        }
    });
    let server = TestServer::start(hub.clone(), user_handler());
    let mut client = subscriber(&server, "u", "room").await;
    let shutdown = tokio::spawn(async move { hub.shutdown(Duration::from_secs(5)).await });
    assert_eq!(client.expect_close().await.0, 3000);
    client.send_close(3000, "").await;
    shutdown.await.unwrap().unwrap();
    assert_eq!(notes.take(), ["shutdown"]);
}

#[test]
fn events_continue_after_the_runtime_of_the_listeners_ended() {
    let hub = open_hub().build();
    let mut lines = observe(&hub);
    for is_second in [false, true] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = TestServer::start(hub.clone(), user_handler());
            let _client = server.connect("/?user=u").await;
            if is_second {
                // The events of the first connection arrive before it.
                assert_eq!(next(&mut lines).await, "u state_changed");
                assert!(next(&mut lines).await.starts_with("u closed"));
            }
            assert_eq!(next(&mut lines).await, "u opened");
        });
        drop(runtime);
        assert_eq!(hub.connections().count(), 0);
    }
    assert_eq!(hub.stats().events_dropped, 0);
}

#[tokio::test]
async fn hub_with_listeners_ends_with_its_last_handle() {
    let alive = Arc::new(());
    let hub = open_hub().build();
    let held = alive.clone();
    hub.events().on_system(SystemKind::all(), move |_, _| {
        let _held = held.clone();
        async { Ok(()) }
    });
    let server = TestServer::start(hub, user_handler());
    subscriber(&server, "u", "room").await.close(1000, "").await;
    server.stop().await;
    eventually("the hub and its listeners are dropped", || Arc::strong_count(&alive) == 1).await;
}

#[tokio::test]
async fn clients_trigger_only_events_that_the_handler_allows() {
    let (hub, notes) = (Hub::new(), Notes::default());
    let orders = notes.clone();
    hub.events().on("order", move |event: Event, order: Order| {
        orders.note(format!("{} {}", event.connection().unwrap().user(), order.id));
        async { Ok(()) }
    });
    hub.events().on("refund", notes.listener::<Value>("refund", Flow::Continue));
    let handler = user_handler().trigger_events(["order", "unheard"]);
    let server = TestServer::start(hub, handler);
    let mut client = server.connect("/?user=ann").await;
    assert_eq!(client.request(json!({ "type": "order", "id": 1 })).await.unwrap(), Value::Null);
    assert_eq!(notes.take(), ["ann 1"]);
    for (kind, expected) in [("refund", "unknown_event"), ("unheard", "unknown_event")] {
        let error = client.request(json!({ "type": kind })).await.unwrap_err();
        assert_eq!(error["error_type"], expected, "{kind}");
    }
    server
        .hub()
        .events()
        .on("order", async |_, _: Value| Err::<(), _>(hauyna::Error::application("sold out")));
    let error = client.request(json!({ "type": "order" })).await.unwrap_err();
    assert_eq!((&error["error_type"], &error["message"]), (&json!("application_error"), &json!("sold out")));
    assert_eq!(notes.take().len(), 1, "the earlier listener ran anyway");
}

/// How a broker answers when it is asked whether it is ready.
const READY: u8 = 0;
const NOT_READY: u8 = 1;
const PANICS: u8 = 2;

#[tokio::test]
async fn row_50_panics_of_broker_and_listeners_affect_nobody_else() {
    let readiness = Arc::new(AtomicU8::new(READY));
    let answer = readiness.clone();
    let broker = WrappedBroker::default().on_is_ready(move |_| match answer.load(Ordering::SeqCst) {
        PANICS => panic!("on purpose"),
        readiness => readiness == READY,
    });
    let hub = open_hub().broker(broker).build();
    hub.events()
        .priority(1)
        .on_system(SystemKind::all(), |_, _| -> std::future::Ready<Result> { panic!("on purpose") });
    let mut lines = observe(&hub);
    // The hub asks the broker as often as its shortest deadline needs it.
    let handler = user_handler().read_timeout(Duration::from_millis(200));
    let server = TestServer::start(hub, handler);
    let mut client = subscriber(&server, "u", "room").await;
    assert_eq!(next(&mut lines).await, "u opened");
    assert_eq!(next(&mut lines).await, "u subscribed room");
    for (answer, event) in
        [(NOT_READY, "broker_down"), (READY, "broker_up"), (PANICS, "broker_down"), (READY, "broker_up")]
    {
        readiness.store(answer, Ordering::SeqCst);
        assert_eq!(next(&mut lines).await, format!("nobody {event}"));
    }
    server.hub().channel("room").broadcast(json!({ "n": 1 })).await.unwrap();
    assert_eq!(client.wait_for("message").await["content"]["n"], 1);
    assert!(server.hub().stats().panics >= 7);
    client.close(1000, "").await;
    wait_until_empty(server.hub()).await;
}

#[tokio::test]
async fn hub_ignores_the_removal_of_a_listener_of_another_hub() {
    let [one, other] = [Hub::new(), Hub::new()];
    let listen = |hub: &Hub| hub.events().on("x", async |_, _: Value| Result::Ok(()));
    let ids = [listen(&one), listen(&other)];
    assert!(!other.events().remove(ids[0]));
    assert_eq!(other.events().trigger("x", None, ()).await.unwrap().ran, 1);
    assert!(other.events().remove(ids[1]) && one.events().remove(ids[0]));
}
