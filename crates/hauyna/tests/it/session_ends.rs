//! Sessions that the application ends, completely or in part, in every state: with a connection that is
//! closing, waiting, claimed by a client that has not sent its positions, or being restored.

use crate::sessions::{begin, enter, hub, lost};
use crate::support::{eventually, named, now};
use hauyna::auth::Revocation;
use hauyna::broker::Answer;
use hauyna::{CloseCode, Connection, Hub, json};
use hauyna_protocol::Encoding;
use hauyna_test::{Client, TestServer, WrappedBroker};
use parking_lot::{Condvar, Mutex};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// A gate that blocks callers while it is shut.
#[derive(Debug, Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
    notified: Notify,
    /// Number of callers that have reached it.
    reached: AtomicUsize,
}

impl Gate {
    fn shut(&self) {
        self.reached.store(0, Ordering::SeqCst);
        *self.is_shut.lock() = true;
    }

    fn open(&self) {
        *self.is_shut.lock() = false;
        self.opened.notify_all();
        self.notified.notify_waiters();
    }

    async fn reached(&self) {
        eventually("the gate is reached", || self.reached.load(Ordering::SeqCst) > 0).await;
    }

    fn pass(&self) {
        self.reached.fetch_add(1, Ordering::SeqCst);
        let mut is_shut = self.is_shut.lock();
        while *is_shut {
            // The runtime continues with its other tasks.
            tokio::task::block_in_place(|| self.opened.wait(&mut is_shut));
        }
    }
}

/// Gates of [`gated_broker`].
#[derive(Debug, Default)]
struct Gates {
    unsubscribe: Arc<Gate>,
    history: Arc<Gate>,
}

/// Returns a local broker whose calls of `unsubscribe` and answers to `history` wait at gates.
fn gated_broker() -> (WrappedBroker, Gates) {
    let gates = Gates::default();
    let (unsubscribe, history) = (gates.unsubscribe.clone(), gates.history.clone());
    let broker = WrappedBroker::default()
        .on_unsubscribe(move |local, channel| {
            unsubscribe.pass();
            local.unsubscribe(channel);
        })
        .on_history(move |local, channel, range| {
            let (gate, page) = (history.clone(), local.history(channel, range));
            Answer::later(async move {
                gate.reached.fetch_add(1, Ordering::SeqCst);
                loop {
                    let notified = gate.notified.notified();
                    if !*gate.is_shut.lock() {
                        return page.await;
                    }
                    notified.await;
                }
            })
        });
    (broker, gates)
}

/// The state of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Leaving,
    Waiting,
    Awaiting,
    Restoring,
}

const PLACES: [Place; 4] = [Place::Leaving, Place::Waiting, Place::Awaiting, Place::Restoring];

/// A session of ann in a state, with the channels `first`, `news` and `room:1`.
struct Scene {
    hub: Hub,
    server: TestServer,
    /// The connection that was lost.
    old: Connection,
    session: Value,
    /// The client that takes the session over, if any.
    client: Option<Client>,
    gates: Gates,
    closed: Arc<AtomicUsize>,
}

impl Scene {
    async fn new(place: Place) -> Self {
        let (broker, gates) = gated_broker();
        let hub = hub().broker(broker).presence_grace(Duration::ZERO).build();
        let closed = Arc::new(AtomicUsize::new(0));
        let count = closed.clone();
        let handler = named().on_close(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        });
        let server = TestServer::start(hub.clone(), handler);
        let (mut ann, session) = enter(&server, "ann").await;
        for channel in ["first", "news", "room:1"] {
            ann.subscribe(channel).await;
        }
        let old = hub.user("ann").connections().remove(0);
        let mut scene = Self { hub, server, old, session, client: None, gates, closed };
        if place == Place::Leaving {
            scene.gates.unsubscribe.shut();
            ann.vanish();
            scene.gates.unsubscribe.reached().await;
            return scene;
        }
        lost(&scene.hub, ann).await;
        if place != Place::Waiting {
            let mut client = begin(&scene.server, "ann", &scene.session, Encoding::Json).await;
            eventually("she is there", || scene.hub.connections().count() == 1).await;
            if place == Place::Restoring {
                scene.gates.history.shut();
                client.send(json!({ "type": "resume" })).await;
                scene.gates.history.reached().await;
            }
            scene.client = Some(client);
        }
        scene
    }

    fn open_gates(&self) {
        self.gates.unsubscribe.open();
        self.gates.history.open();
    }

    /// Resumes what remains of the session.
    async fn back(&mut self) -> (Client, Value) {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => begin(&self.server, "ann", &self.session, Encoding::Json).await,
        };
        client.send(json!({ "type": "resume" })).await;
        let told = client.expect("session").await;
        (client, told)
    }
}

type Act = fn(&Hub, &Connection);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_way_to_end_sessions_works_in_every_state() {
    let acts: [(&str, Act); 4] = [
        ("revoke", |hub, _| _ = now(hub.revoke(Revocation::user("ann")))),
        ("disconnect", |hub, _| _ = now(hub.user("ann").disconnect(CloseCode(3503), ""))),
        ("clear", |hub, _| _ = hub.connections().clear(CloseCode(3503), "")),
        ("close", |_, old| old.close(CloseCode(3503), "")),
    ];
    for (place, (name, act)) in PLACES.iter().flat_map(|place| acts.map(|act| (*place, act))) {
        let mut scene = Scene::new(place).await;
        act(&scene.hub, &scene.old);
        scene.open_gates();
        let hub = scene.hub.clone();
        eventually(&format!("{name} ends a session that is {place:?}"), || {
            (hub.stats().sessions, hub.stats().sessions_ended) == (0, 1)
        })
        .await;
        eventually("on_close has run", || scene.closed.load(Ordering::SeqCst) == 1).await;
        drop(scene.client.take());
        eventually("nobody is there", || hub.connections().count() == 0).await;
        assert_eq!(hub.channel("room:1").presence().await.len(), 0, "{name}, {place:?}");
        let (_ann, told) = scene.back().await;
        assert_eq!(told["resumed"], false, "{name}, {place:?}");
        assert_eq!(hub.stats().panics, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn shutdown_waits_for_sessions_in_every_state() {
    for place in PLACES {
        let scene = Scene::new(place).await;
        let hub = scene.hub.clone();
        let ended = tokio::spawn(async move { hub.shutdown(Duration::from_secs(5)).await });
        eventually("it has begun", || scene.hub.is_stopping()).await;
        scene.open_gates();
        drop(scene.client);
        ended.await.unwrap().unwrap();
        let stats = scene.hub.stats();
        assert_eq!((stats.sessions, stats.sessions_ended), (0, 1), "{place:?}");
        assert_eq!(scene.closed.load(Ordering::SeqCst), 1, "{place:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscription_ended_meanwhile_is_not_resumed_with_its_session() {
    let acts: [(&str, Act); 2] = [
        ("unsubscribe", |hub, old| {
            hub.channel("news").unsubscribe(old).unwrap();
            hub.channel("room:1").unsubscribe(old).unwrap();
        }),
        ("close", |hub, _| {
            now(hub.channel("news").close());
            now(hub.channel("room:1").close());
        }),
    ];
    for (place, (name, act)) in PLACES.iter().flat_map(|place| acts.map(|act| (*place, act))) {
        let mut scene = Scene::new(place).await;
        act(&scene.hub, &scene.old);
        scene.open_gates();
        let (mut ann, told) = scene.back().await;
        assert_eq!(told["resumed"], true, "{name}, {place:?}");
        let channels: Vec<_> =
            told["subscriptions"].as_array().unwrap().iter().map(|one| &one["channel"]).collect();
        assert_eq!((channels, told.get("failed")), (vec![&json!("first")], None), "{name}, {place:?}");
        let connection = &scene.hub.user("ann").connections()[0];
        assert_eq!(connection.channels(), ["first"]);
        assert_eq!(scene.hub.channel("room:1").presence().await.len(), 0, "{name}, {place:?}");
        assert!(scene.hub.channel("news").unsubscribe(&scene.old).is_err());
        ann.subscribe("news").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unsubscribe_of_a_session_ends_only_its_own_subscriptions() {
    for place in PLACES {
        let scene = Scene::new(place).await;
        let end = |channel: &str| scene.hub.channel(channel).unsubscribe(&scene.old).is_ok();
        let ended = ["other", "news", "news"].map(end);
        assert_eq!(ended, [false, true, false], "{place:?}");
        scene.open_gates();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_disconnected_while_being_lost_cannot_resume() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), named());
    for round in 0..100 {
        let (mut ann, session) = enter(&server, "ann").await;
        for channel in 0..20 {
            ann.subscribe(&format!("live:{channel}")).await;
        }
        ann.vanish();
        if round % 2 == 0 {
            hub.user("ann").disconnect(CloseCode(3503), "").await;
        } else {
            hub.revoke(Revocation::user("ann")).await;
        }
        let mut again = begin(&server, "ann", &session, Encoding::Json).await;
        again.send(json!({ "type": "resume" })).await;
        assert_eq!(again.expect("session").await["resumed"], false, "in round {round}");
        again.close(1000, "").await;
        eventually("she is gone", || (hub.connections().count(), hub.stats().sessions) == (0, 0)).await;
    }
}

#[tokio::test]
async fn user_removed_from_a_group_while_lost_stays_removed() {
    for place in [Place::Waiting, Place::Awaiting] {
        let hub = hub().build();
        let server = TestServer::start(hub.clone(), named());
        let (ann, session) = enter(&server, "ann").await;
        hub.groups().add("ann", "editors").await.unwrap();
        lost(&hub, ann).await;
        let mut client = None;
        if place == Place::Awaiting {
            client = Some(begin(&server, "ann", &session, Encoding::Json).await);
            eventually("she is there", || hub.connections().count() == 1).await;
            hub.groups().send("editors", "before").await.unwrap();
        }
        hub.groups().remove("ann", "editors").await;
        hub.groups().send("editors", "after").await.unwrap();
        let mut ann = match client {
            Some(client) => client,
            None => begin(&server, "ann", &session, Encoding::Json).await,
        };
        ann.send(json!({ "type": "resume" })).await;
        assert_eq!(ann.expect("session").await["resumed"], true);
        ann.expect_nothing().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_channel_is_in_no_session_lost_meanwhile() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), named());
    for round in 0..100 {
        let channel = hub.channel(format!("c-{round}"));
        let mut clients = Vec::new();
        for n in 0..8 {
            let (mut client, session) = enter(&server, &format!("u-{n}")).await;
            client.subscribe(channel.name()).await;
            clients.push((client, session));
        }
        let closing = std::thread::spawn(move || now(channel.close()));
        let sessions: Vec<_> = clients.into_iter().map(|(_, session)| session).collect();
        tokio::task::block_in_place(|| closing.join().unwrap());
        eventually("all are lost", || hub.connections().count() == 0).await;
        for (n, session) in sessions.iter().enumerate() {
            let mut client = begin(&server, &format!("u-{n}"), session, Encoding::Json).await;
            client.send(json!({ "type": "resume" })).await;
            let session = client.expect("session").await;
            assert_eq!((&session["resumed"], &session["subscriptions"]), (&json!(true), &Value::Null));
            client.close(1000, "").await;
        }
        eventually("all are gone", || (hub.connections().count(), hub.stats().sessions) == (0, 0)).await;
    }
}

#[tokio::test]
async fn subscription_waiting_for_history_ends_with_its_channel() {
    let (broker, Gates { history, .. }) = gated_broker();
    let hub = hub().broker(broker).build();
    let server = TestServer::start(hub.clone(), named());
    let (mut ann, _) = enter(&server, "ann").await;
    let connection = hub.user("ann").connections().remove(0);
    for is_closed in [true, false] {
        history.shut();
        ann.send(json!({ "type": "subscribe_channel", "id": 7, "channel": "c" })).await;
        history.reached().await;
        if is_closed {
            hub.channel("c").close().await;
        } else {
            assert!(hub.channel("c").unsubscribe(&connection).is_err(), "not subscribed yet");
        }
        history.open();
        assert_eq!(ann.expect("error").await["error_type"], "permission_denied");
        assert!(!hub.channel("c").is_subscribed(&connection));
    }
    ann.subscribe("c").await;
}
