//! Clients that reconnect or disconnect while `on_open` or `on_reconnect` runs: the decisions of these
//! callbacks are not skipped.

use crate::sessions::hub;
use crate::support::user_handler;
use hauyna::handler::Recovery;
use hauyna::{CloseCode, CloseReason, Connection, Context, Error, Handler, Reject, json};
use hauyna_test::{Client, MemoryServer, settle};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

type Log = Arc<Mutex<Vec<String>>>;

/// Reconnects with the token of a session, and sends positions.
async fn reconnect(server: &MemoryServer, session: &Value) -> (Client, Value) {
    let token = session["resume"]["token"].as_str().unwrap();
    let mut client = server.json(&format!("/?user=ann&resume={token}")).await;
    client.send(json!({ "type": "resume" })).await;
    let session = client.expect("session").await;
    (client, session)
}

/// Simulates a database query.
async fn query_database() {
    tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>()).await.unwrap_err();
}

/// Returns a handler whose callbacks take time and log what they did.
fn slow(log: &Log) -> Handler {
    let (opened, again, closed) = (log.clone(), log.clone(), log.clone());
    user_handler()
        .on_open(move |cx: Context| {
            let log = opened.clone();
            async move {
                query_database().await;
                cx.subscribe("news", ()).await?;
                log.lock().push("open".to_owned());
                Ok(())
            }
        })
        .on_reconnect(move |_, _: Connection| {
            let log = again.clone();
            async move {
                query_database().await;
                log.lock().push("reconnect".to_owned());
                Ok(())
            }
        })
        .on_close(move |_, reason: CloseReason| {
            closed.lock().push(format!("close {}", reason.as_str()));
            async { Ok(()) }
        })
}

#[tokio::test(start_paused = true)]
async fn client_resuming_during_on_open_gets_its_effects() {
    let (hub, log) = (hub().build(), Log::default());
    let server = MemoryServer::start(hub.clone(), slow(&log));
    let mut first = server.json("/?user=ann").await;
    let session = first.expect("session").await;
    let (_second, session) = reconnect(&server, &session).await;
    assert_eq!(
        (&session["resumed"], &session["subscriptions"][0]["channel"]),
        (&json!(true), &json!("news"))
    );
    // It reconnects again while `on_reconnect` runs.
    let (mut ann, session) = reconnect(&server, &session).await;
    assert_eq!(session["resumed"], true);
    hub.channel("news").broadcast("hello").await.unwrap();
    assert_eq!(ann.expect_message("news").await["content"], "hello");
    ann.request(json!({ "type": "ping" })).await.unwrap();
    assert_eq!(*log.lock(), ["open", "reconnect", "reconnect"]);
    assert_eq!(hub.connections().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn resuming_during_on_open_does_not_skip_it() {
    let refuse = async |_: Context| {
        query_database().await;
        Err(Reject::denied("not you").into())
    };
    let server = MemoryServer::start(hub().build(), user_handler().on_open(refuse));
    let mut first = server.json("/?user=ann").await;
    let session = first.expect("session").await;
    for _ in 0..2 {
        let (mut ann, session) = reconnect(&server, &session).await;
        assert_eq!(session["resumed"], false);
        assert_eq!(ann.expect("error").await["error_type"], "permission_denied");
        assert_eq!(ann.expect_close().await.0, 3507);
    }
    assert_eq!(first.expect("error").await["message"], "not you");
}

#[tokio::test(start_paused = true)]
async fn resuming_during_on_reconnect_does_not_skip_it() {
    let refuse = async |_: Context, _: Connection| {
        query_database().await;
        Err(Reject::denied("not any more").into())
    };
    let hub = hub().build();
    let server = MemoryServer::start(hub.clone(), user_handler().on_reconnect(refuse));
    let mut first = server.json("/?user=ann").await;
    let session = first.expect("session").await;
    first.subscribe("news").await;
    let (mut second, resumed) = reconnect(&server, &session).await;
    assert_eq!(resumed["resumed"], true);
    let (_third, session) = reconnect(&server, &resumed).await;
    assert_eq!(session["resumed"], false);
    assert_eq!(second.expect("error").await["message"], "not any more");
    assert_eq!(second.expect_close().await.0, 3507);
    second.vanish();
    settle().await;
    assert_eq!(hub.channel("news").subscription_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn connection_that_ends_during_on_open_leaves_no_session() {
    let (hub, log) = (hub().build(), Log::default());
    let server = MemoryServer::start(hub.clone(), slow(&log));
    let mut first = server.json("/?user=ann").await;
    let session = first.expect("session").await;
    settle().await;
    hub.connections().all()[0].close(CloseCode(4000), "come back");
    assert_eq!(first.expect_close().await.0, 4000);
    first.vanish();
    let (mut ann, session) = reconnect(&server, &session).await;
    assert_eq!(session["resumed"], false);
    ann.expect("subscribed").await;
    settle().await;
    assert_eq!(hub.stats().sessions, 0);
    let log = log.lock();
    assert!(log[0].starts_with("close") && log[1..] == ["open"], "{log:?}");
}

#[tokio::test]
async fn all_clients_resuming_during_on_open_are_woken() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = gate.clone();
    let handler = user_handler().on_open(move |_| {
        let waits = waits.clone();
        async move { waits.acquire().await.map(drop).map_err(Error::other) }
    });
    let server = Arc::new(MemoryServer::start(hub().build(), handler));
    let (mut first, mut coming) = (Vec::new(), Vec::new());
    for number in 0..200 {
        let mut client = server.json(&format!("/?user=u-{number}")).await;
        let session = client.expect("session").await;
        let token = session["resume"]["token"].as_str().unwrap().to_owned();
        first.push(client);
        let server = server.clone();
        coming.push(tokio::spawn(async move {
            let mut client = server.json(&format!("/?user=u-{number}&resume={token}")).await;
            client.send(json!({ "type": "resume" })).await;
            client.expect("session").await["resumed"].clone()
        }));
    }
    settle().await;
    assert!(coming.iter().all(|one| !one.is_finished()));
    gate.add_permits(1);
    for one in coming {
        assert_eq!(one.await.unwrap(), true);
    }
}

#[tokio::test]
async fn close_that_on_error_decides_for_on_open_leaves_no_session() {
    let opens = Arc::new(AtomicUsize::new(0));
    let counts = opens.clone();
    let handler = user_handler()
        .on_open(move |_| {
            let is_first = counts.fetch_add(1, Ordering::Relaxed) == 0;
            async move { if is_first { Err(Error::application("no database")) } else { Ok(()) } }
        })
        .on_error(|_, _| Recovery::Close(CloseCode(4000), "later".into()));
    let hub = hub().build();
    let server = MemoryServer::start(hub.clone(), handler);
    let mut ann = server.json("/?user=ann").await;
    let session = ann.expect("session").await;
    assert_eq!(ann.expect_close().await.0, 4000);
    ann.vanish();
    let (_ann, session) = reconnect(&server, &session).await;
    assert_eq!(session["resumed"], false);
    settle().await;
    assert_eq!(opens.load(Ordering::Relaxed), 2);
}
