//! Sessions that the application ends, completely or in part, in every state: with a connection that is
//! closing, waiting, claimed by a client that has not sent its positions, or being restored.

use crate::sessions::{connect_user, connect_with_token, hub, lose};
use crate::support::{eventually, now, user_handler, wait_for_connections};
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
enum SessionState {
    /// Its connection is closing.
    Closing,
    /// It waits for its client.
    Waiting,
    /// A client has connected with its token and has not sent its positions.
    Claimed,
    /// Its subscriptions are being restored.
    Restoring,
}

const SESSION_STATES: [SessionState; 4] =
    [SessionState::Closing, SessionState::Waiting, SessionState::Claimed, SessionState::Restoring];

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
    async fn new(state: SessionState) -> Self {
        let (broker, gates) = gated_broker();
        let hub = hub().broker(broker).presence_grace(Duration::ZERO).build();
        let closed = Arc::new(AtomicUsize::new(0));
        let count = closed.clone();
        let handler = user_handler().on_close(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        });
        let server = TestServer::start(hub.clone(), handler);
        let (mut ann, session) = connect_user(&server, "ann").await;
        for channel in ["first", "news", "room:1"] {
            ann.subscribe(channel).await;
        }
        let old = hub.user("ann").connections().remove(0);
        let mut scene = Self { hub, server, old, session, client: None, gates, closed };
        if state == SessionState::Closing {
            scene.gates.unsubscribe.shut();
            ann.vanish();
            scene.gates.unsubscribe.reached().await;
            return scene;
        }
        lose(&scene.hub, ann).await;
        if state != SessionState::Waiting {
            let mut client = connect_with_token(&scene.server, "ann", &scene.session, Encoding::Json).await;
            wait_for_connections(&scene.hub, 1).await;
            if state == SessionState::Restoring {
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
    async fn resume(&mut self) -> (Client, Value) {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => connect_with_token(&self.server, "ann", &self.session, Encoding::Json).await,
        };
        client.send(json!({ "type": "resume" })).await;
        let resumed = client.expect("session").await;
        (client, resumed)
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
    for (state, (name, act)) in SESSION_STATES.iter().flat_map(|state| acts.map(|act| (*state, act))) {
        let mut scene = Scene::new(state).await;
        act(&scene.hub, &scene.old);
        scene.open_gates();
        let hub = scene.hub.clone();
        eventually(&format!("{name} ends a session that is {state:?}"), || {
            (hub.stats().sessions, hub.stats().sessions_ended) == (0, 1)
        })
        .await;
        eventually("on_close has run", || scene.closed.load(Ordering::SeqCst) == 1).await;
        drop(scene.client.take());
        wait_for_connections(&hub, 0).await;
        assert_eq!(hub.channel("room:1").presence().await.len(), 0, "{name}, {state:?}");
        let (_ann, resumed) = scene.resume().await;
        assert_eq!(resumed["resumed"], false, "{name}, {state:?}");
        assert_eq!(hub.stats().panics, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn shutdown_waits_for_sessions_in_every_state() {
    for state in SESSION_STATES {
        let scene = Scene::new(state).await;
        let hub = scene.hub.clone();
        let ended = tokio::spawn(async move { hub.shutdown(Duration::from_secs(5)).await });
        eventually("the shutdown has started", || scene.hub.is_stopping()).await;
        scene.open_gates();
        drop(scene.client);
        ended.await.unwrap().unwrap();
        let stats = scene.hub.stats();
        assert_eq!((stats.sessions, stats.sessions_ended), (0, 1), "{state:?}");
        assert_eq!(scene.closed.load(Ordering::SeqCst), 1, "{state:?}");
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
    for (state, (name, act)) in SESSION_STATES.iter().flat_map(|state| acts.map(|act| (*state, act))) {
        let mut scene = Scene::new(state).await;
        act(&scene.hub, &scene.old);
        scene.open_gates();
        let (mut ann, resumed) = scene.resume().await;
        assert_eq!(resumed["resumed"], true, "{name}, {state:?}");
        let channels: Vec<_> =
            resumed["subscriptions"].as_array().unwrap().iter().map(|one| &one["channel"]).collect();
        assert_eq!((channels, resumed.get("failed")), (vec![&json!("first")], None), "{name}, {state:?}");
        let connection = &scene.hub.user("ann").connections()[0];
        assert_eq!(connection.channels(), ["first"]);
        assert_eq!(scene.hub.channel("room:1").presence().await.len(), 0, "{name}, {state:?}");
        assert!(scene.hub.channel("news").unsubscribe(&scene.old).is_err());
        ann.subscribe("news").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unsubscribe_of_a_session_ends_only_its_own_subscriptions() {
    for state in SESSION_STATES {
        let scene = Scene::new(state).await;
        let end = |channel: &str| scene.hub.channel(channel).unsubscribe(&scene.old).is_ok();
        let ended = ["other", "news", "news"].map(end);
        assert_eq!(ended, [false, true, false], "{state:?}");
        scene.open_gates();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_disconnected_while_being_lost_cannot_resume() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    for round in 0..100 {
        let (mut ann, session) = connect_user(&server, "ann").await;
        for channel in 0..20 {
            ann.subscribe(&format!("live:{channel}")).await;
        }
        ann.vanish();
        if round % 2 == 0 {
            hub.user("ann").disconnect(CloseCode(3503), "").await;
        } else {
            hub.revoke(Revocation::user("ann")).await;
        }
        let mut again = connect_with_token(&server, "ann", &session, Encoding::Json).await;
        again.send(json!({ "type": "resume" })).await;
        assert_eq!(again.expect("session").await["resumed"], false, "in round {round}");
        again.close(1000, "").await;
        eventually("connection and session have ended", || {
            (hub.connections().count(), hub.stats().sessions) == (0, 0)
        })
        .await;
    }
}

#[tokio::test]
async fn user_removed_from_a_group_while_lost_stays_removed() {
    for state in [SessionState::Waiting, SessionState::Claimed] {
        let hub = hub().build();
        let server = TestServer::start(hub.clone(), user_handler());
        let (ann, session) = connect_user(&server, "ann").await;
        hub.groups().add("ann", "editors").await.unwrap();
        lose(&hub, ann).await;
        let mut client = None;
        if state == SessionState::Claimed {
            client = Some(connect_with_token(&server, "ann", &session, Encoding::Json).await);
            wait_for_connections(&hub, 1).await;
            hub.groups().send("editors", "before").await.unwrap();
        }
        hub.groups().remove("ann", "editors").await;
        hub.groups().send("editors", "after").await.unwrap();
        let mut ann = match client {
            Some(client) => client,
            None => connect_with_token(&server, "ann", &session, Encoding::Json).await,
        };
        ann.send(json!({ "type": "resume" })).await;
        assert_eq!(ann.expect("session").await["resumed"], true);
        ann.expect_nothing().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_channel_is_in_no_session_lost_meanwhile() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    for round in 0..100 {
        let channel = hub.channel(format!("c-{round}"));
        let mut clients = Vec::new();
        for number in 0..8 {
            let (mut client, session) = connect_user(&server, &format!("u-{number}")).await;
            client.subscribe(channel.name()).await;
            clients.push((client, session));
        }
        let closing = std::thread::spawn(move || now(channel.close()));
        let sessions: Vec<_> = clients.into_iter().map(|(_, session)| session).collect();
        tokio::task::block_in_place(|| closing.join().unwrap());
        wait_for_connections(&hub, 0).await;
        for (number, session) in sessions.iter().enumerate() {
            let mut client =
                connect_with_token(&server, &format!("u-{number}"), session, Encoding::Json).await;
            client.send(json!({ "type": "resume" })).await;
            let session = client.expect("session").await;
            assert_eq!((&session["resumed"], &session["subscriptions"]), (&json!(true), &Value::Null));
            client.close(1000, "").await;
        }
        eventually("connections and sessions have ended", || {
            (hub.connections().count(), hub.stats().sessions) == (0, 0)
        })
        .await;
    }
}

#[tokio::test]
async fn subscription_waiting_for_history_ends_with_its_channel() {
    let (broker, Gates { history, .. }) = gated_broker();
    let hub = hub().broker(broker).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (mut ann, _) = connect_user(&server, "ann").await;
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
