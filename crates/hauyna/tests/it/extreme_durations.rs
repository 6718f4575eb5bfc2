//! Every duration of the application's options, at its extremes. A very long one never ends and a very short
//! one ends at once; neither overflows nor affects the other connections of the shard.

use crate::support::{registered, user_handler, wait_until_empty};
use hauyna::auth::Revocation;
use hauyna::broker::{LocalBroker, LocalBrokerOptions, Repeat};
use hauyna::connection::RetryPolicy;
use hauyna::error::ErrorKind;
use hauyna::events::Event;
use hauyna::handler::{RateLimit, Recovery};
use hauyna::{
    ChannelOptions, CloseReason, Connection, Context, Drain, ErrorType, Handler, Heartbeat, Hub, Identity,
    Presence, Rate, SessionOptions, json,
};
use hauyna_test::{Behaviour, Client, FaultProxy, MemoryServer, TestServer, advance, settle};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Durations that no clock reaches: more than `u32` and `u64` milliseconds, more than an `Instant` holds, and
/// the longest one.
const ENDLESS: [Duration; 6] = [
    Duration::from_millis(1 << 32),
    Duration::from_millis(u64::MAX),
    Duration::from_secs(i64::MAX as u64 - 1_000_000_000),
    Duration::from_secs(i64::MAX as u64),
    Duration::from_secs(u64::MAX),
    Duration::MAX,
];
/// Durations that end at once.
const OVER: [Duration; 2] = [Duration::ZERO, Duration::from_nanos(1)];

fn all() -> impl Iterator<Item = Duration> {
    OVER.into_iter().chain(ENDLESS)
}

/// Returns a hub with channels of every kind, no sessions and one shard.
fn hub() -> hauyna::HubBuilder {
    let room = ChannelOptions::new().presence(Presence::each()).history(10, Duration::from_secs(60));
    Hub::builder().shards(1).sessions(SessionOptions::none()).channels("room:{id}", room)
}

/// Checks that a subscriber gets a new publication.
async fn assert_receives(hub: &Hub, client: &mut Client, what: u64) {
    hub.channel("room:1").broadcast(what).await.unwrap();
    while client.wait_for("message").await["content"] != what {}
}

#[tokio::test(start_paused = true)]
async fn heartbeat_of_any_length_keeps_its_shard_working() {
    for interval in all() {
        for timeout in all() {
            let handler = |heartbeat| user_handler().heartbeat(heartbeat);
            let hub = hub().build();
            let server = MemoryServer::route(hub.clone(), |router| {
                router.websocket("/", user_handler()).websocket(
                    "/odd",
                    handler(Heartbeat::every(interval).timeout(timeout)).idle_after(interval),
                )
            });
            let mut other = server.json("/?user=other").await;
            other.subscribe("room:1").await;
            let mut odd = server.json("/odd?user=odd").await;
            let heartbeat = odd.expect("session").await["heartbeat"].clone();
            assert!(heartbeat["interval"].as_u64().is_some_and(|interval| interval >= 10), "{heartbeat}");
            assert!(heartbeat["timeout"].as_u64() >= heartbeat["interval"].as_u64(), "{heartbeat}");
            advance(Duration::from_secs(8)).await;
            assert_receives(&hub, &mut other, 1).await;
            if OVER.contains(&interval) && OVER.contains(&timeout) {
                assert!(
                    !hub.user("odd").is_connected().await,
                    "{interval:?} {timeout:?}: no client answers its pings"
                );
            } else {
                odd.request(json!({ "type": "ping" })).await.unwrap();
            }
            assert_eq!(hub.stats().panics, 0, "{interval:?} {timeout:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn grace_time_of_any_length_keeps_limits_and_on_close() {
    for grace in all() {
        let (closed, mut reasons) = mpsc::channel(64);
        let hub = hub().presence_grace(grace).max_connections(1).build();
        let handler = user_handler().on_close(move |_, reason| {
            let closed = closed.clone();
            async move { closed.try_send(reason).map_err(hauyna::Error::other) }
        });
        let server = MemoryServer::start(hub.clone(), handler);
        let mut ann = server.json("/?user=ann").await;
        ann.subscribe("room:1").await;
        ann.vanish();
        assert_eq!(reasons.recv().await, Some(CloseReason::Lost));
        advance(Duration::from_millis(10)).await;
        assert_eq!(hub.channel("room:1").presence().await.is_empty(), OVER.contains(&grace), "{grace:?}");
        let mut ben = server.json("/?user=ben").await;
        ben.subscribe("room:1").await;
        advance(Duration::from_secs(3600)).await;
        let names: Vec<_> =
            hub.channel("room:1").presence().await.iter().map(|one| one.user.to_string()).collect();
        assert_eq!(names.contains(&"ann".to_owned()), !OVER.contains(&grace), "{grace:?}: {names:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn presence_tick_of_any_length_keeps_subscriptions_complete() {
    for tick in all() {
        for presence in [Presence::diff(), Presence::occupancy()] {
            let channels = ChannelOptions::new().presence(presence.tick(tick));
            let hub = hub().channels("many:{id}", channels).presence_grace(Duration::ZERO).build();
            let server = MemoryServer::start(hub.clone(), user_handler());
            let mut all = Vec::new();
            for user in ["ann", "ben", "cleo"] {
                let mut client = server.json(&format!("/?user={user}")).await;
                client.subscribe("many:1").await;
                all.push(client);
            }
            all[0].request(json!({ "type": "update_status", "status": "away" })).await.unwrap();
            advance(Duration::from_secs(2)).await;
            hub.channel("many:1").broadcast(7).await.unwrap();
            for client in &mut all {
                assert_eq!(client.wait_for("message").await["content"], 7, "{tick:?}");
            }
            drop(all);
            advance(Duration::from_secs(1)).await;
            wait_until_empty(&hub).await;
        }
    }
}

/// Returns the answer to an ordinary HTTP request.
async fn get(server: &TestServer) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await; // the server resets the connection after the timeout
    answer
}

#[tokio::test]
async fn handshake_timeout_of_any_length_serves_or_refuses() {
    for timeout in all() {
        for is_layered in [false, true] {
            let hub = hub().build();
            let mut router = hauyna::Router::new(hub.clone()).websocket("/", user_handler());
            if is_layered {
                router = router.layer(tower_layer::layer_fn(|service| service));
            }
            let server = TestServer::serve(hub.clone(), router.into_server().handshake_timeout(timeout));
            if OVER.contains(&timeout) {
                let _ = get(&server).await;
                continue;
            }
            server.json("/?user=ann").await.subscribe("room:1").await;
            assert!(get(&server).await.starts_with("HTTP/1.1 404"), "{timeout:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn connection_and_listener_timeouts_may_have_any_length() {
    for time in all() {
        let hub = hub().listener_timeout(time).broker_timeout(time).build();
        hub.events().on("quick", async |_: Event, _: Value| Ok(()));
        let handler = Handler::new()
            .identify(|request: hauyna::ConnectRequest| Ok(request.query("user")))
            .read_timeout(time)
            .write_timeout(time)
            .callback_timeout(time)
            .idle_after(time)
            .on("work", async |_: Context, _: Value| Ok(1))
            .on("fail", async |_: Context, _: Value| -> hauyna::Result {
                Err(hauyna::Error::application("no"))
            })
            .on_close(async |_, _| Ok(()))
            .on_error(move |_, failed: hauyna::handler::Failed| match failed.retries {
                0 if OVER.contains(&time) => Recovery::Retry { after: Duration::MAX },
                _ => Recovery::Reply,
            });
        let server = MemoryServer::start(hub.clone(), handler);
        let mut client = server.json("/?user=ann").await;
        client.subscribe("room:1").await;
        assert_eq!(client.request(json!({ "type": "work" })).await.unwrap(), 1, "{time:?}");
        client.request(json!({ "type": "fail" })).await.unwrap_err();
        advance(Duration::from_secs(3)).await;
        assert_receives(&hub, &mut client, 9).await;
        let outcome = hub.events().trigger("quick", None, ()).await.unwrap();
        assert!(outcome.failures.is_empty(), "{time:?}");
        client.close(1000, "").await;
        wait_until_empty(&hub).await;
        assert_eq!(hub.stats().panics, 0, "{time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn client_requests_with_any_timeout_end() {
    let hub = hub().build();
    let (mut client, connection) = registered(&hub, "ann", &Handler::new().share()).await;
    for time in ENDLESS {
        let question = connection.request::<u32>("how many", ()).timeout(time);
        let answered = async {
            let question = client.expect("request").await;
            client.send(json!({ "type": "ack", "id": question["id"], "data": 3 })).await;
        };
        assert_eq!(tokio::join!(question, answered).0.unwrap(), 3, "{time:?}");
    }
    for time in OVER {
        let error = connection.request::<u32>("how many", ()).timeout(time).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol(ErrorType::Timeout), "{time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn session_window_and_attempts_may_have_any_value() {
    for window in ENDLESS {
        for attempts in [Some(1), Some(u32::MAX), None] {
            let retry = RetryPolicy::conservative().max_attempts(attempts);
            let sessions = SessionOptions::new().window(window);
            let hub = hub().sessions(sessions).retry_policy(retry).build();
            let server = MemoryServer::start(hub.clone(), user_handler());
            let mut ann = server.json("/?user=ann").await;
            let session = ann.expect("session").await;
            assert!(session["resume"]["window"].as_u64().is_some_and(|window| window > 0), "{session}");
            ann.subscribe("room:1").await;
            ann.vanish();
            advance(Duration::from_secs(2)).await;
            let token = session["resume"]["token"].as_str().unwrap();
            let mut ann = server.json(&format!("/?user=ann&resume={token}")).await;
            ann.send(json!({ "type": "resume", "positions": {} })).await;
            assert_eq!(ann.expect("session").await["resumed"], true, "{window:?} {attempts:?}");
        }
    }
    for (base_delay, max_delay) in [(Duration::ZERO, Duration::MAX), (Duration::MAX, Duration::MAX)] {
        let odd = RetryPolicy::default().base_delay(base_delay).max_delay(max_delay);
        assert!(odd.validate().is_err());
        assert!(odd.delay(u32::MAX) <= Duration::MAX && odd.total() <= Duration::MAX);
    }
}

/// Returns the first and the last representable time, and the year 300,000.
fn moments() -> [SystemTime; 3] {
    let last = (0..64)
        .rev()
        .fold(UNIX_EPOCH, |last, bit| last.checked_add(Duration::from_secs(1 << bit)).unwrap_or(last));
    [UNIX_EPOCH + Duration::from_secs(300_000 * 31_556_952), last, UNIX_EPOCH]
}

#[tokio::test(start_paused = true)]
async fn credentials_may_expire_at_any_time_with_any_grace() {
    for at in moments() {
        for grace in all() {
            let hub = hub().build();
            let handler = Handler::new().identify(move |_: hauyna::ConnectRequest| {
                Ok(Identity::new("ann").expires_at(at).grace(grace))
            });
            let server = MemoryServer::start(hub.clone(), handler);
            let is_past = at == UNIX_EPOCH && grace < Duration::from_millis(u64::MAX);
            let client = server.client("/").json().try_connect().await;
            assert_eq!(client.is_err(), is_past, "{at:?} {grace:?}");
            let Ok(mut client) = client else { continue };
            assert!(client.expect("session").await["expires_at"].is_u64(), "{at:?}");
            client.subscribe("room:1").await;
            advance(Duration::from_secs(3)).await;
            let connection: Connection = hub.connections().all().remove(0);
            for moment in moments() {
                connection.set_expiry(Some(moment));
            }
            connection.set_expiry(None);
            assert_receives(&hub, &mut client, 5).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn revocations_and_rates_may_have_any_length() {
    for time in all() {
        let limits = RateLimit::new().messages(Rate::new(1, time).burst(u32::MAX));
        let hub = hub().build();
        let server = MemoryServer::start(
            hub.clone(),
            user_handler().rate_limit(limits).error_budget(Rate::new(1, time)),
        );
        let mut ann = server.json("/?user=ann").await;
        ann.subscribe("room:1").await;
        hub.revoke(Revocation::user("ann").lasting(time)).await;
        assert_eq!(ann.expect_close().await.0, 3505, "{time:?}");
        assert_eq!(
            server.client("/?user=ann").try_connect().await.is_err(),
            ENDLESS.contains(&time),
            "{time:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn histories_keys_and_positions_may_have_any_age() {
    for age in all() {
        let options = LocalBrokerOptions::new().key_age(age).position_age(age);
        let channels = ChannelOptions::new().history(5, age);
        let hub = hub().broker(LocalBroker::new(options)).channels("{*any}", channels).build();
        let server = MemoryServer::start(hub.clone(), user_handler());
        let mut client = server.json("/?user=ann").await;
        let position = client.subscribe("x").await;
        hub.channel("x").publish(1).key("k").await.unwrap();
        advance(Duration::from_secs(5)).await;
        assert_eq!(client.wait_for("message").await["content"], 1);
        let again = hub.channel("x").publish(2).key("k").await.unwrap();
        assert_eq!(again.repeat == Repeat::Yes, ENDLESS.contains(&age), "{age:?}");
        client.unsubscribe("x").await;
        let recovered = client.recover("x", &position).await["recovered"].clone();
        assert_eq!(recovered, ENDLESS.contains(&age), "{age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_and_drain_end_with_any_timeout() {
    for time in all() {
        let hub = hub().build();
        let server = MemoryServer::start(hub.clone(), user_handler());
        let mut client = server.json("/?user=ann").await;
        client.subscribe("room:1").await;
        let draining = hub.clone();
        let drained = tokio::spawn(async move { draining.drain(Drain::over(time)).await });
        settle().await;
        let reading = tokio::spawn(async move { client.expect_close().await });
        hub.shutdown(time).await.unwrap();
        reading.await.unwrap();
        drained.await.unwrap().unwrap();
        wait_until_empty(&hub).await;
    }
}

#[tokio::test]
async fn test_kit_accepts_durations_of_any_length() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    let proxy = FaultProxy::start(server.address()).await;
    for time in ENDLESS {
        let mut client = server.client("/?user=ann").json().timeout(time).connect().await;
        client.subscribe("room:1").await;
        proxy.set_next(Behaviour::new().delay(time, time));
        let mut stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        client.request(json!({ "type": "ping" })).await.unwrap();
    }
}
