//! Meaningless input of users and servers: endless or zero durations, repeated orders to move, and messages
//! of the application that look like orders.

use crate::script::{Script, Subscribed, publication, script, session, subscribed};
use crate::support::{content, next};
use hauyna_client::protocol::RetryTerms;
use hauyna_client::{Closed, Error, State};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, advance};

fn endless() -> RetryTerms {
    let (base_delay, max_delay) = (u64::MAX, u64::MAX);
    RetryTerms {
        max_attempts: None,
        base_delay,
        max_delay,
        backoff_multiplier: f64::INFINITY,
        jitter: f64::NAN,
    }
}

#[tokio::test(start_paused = true)]
async fn endless_durations_of_users_do_not_overflow() {
    let (mut script, builder) = script();
    let (max, client) = (Duration::MAX, builder.timeout(Duration::MAX).ttl(Duration::MAX));
    let client = client.connect_timeout(max).retry(endless()).max_message(usize::MAX);
    let client =
        client.outbox(usize::MAX, usize::MAX).stream_buffer(usize::MAX, usize::MAX).connect().unwrap();
    let room = client.channel::<u64>("a");
    let mut peer = script.greet("one").await;
    let (answer, ()) = tokio::join!(room.subscribe().into_future(), peer.subscribe("a", 1));
    answer.unwrap().keep();
    let waiting = tokio::spawn(client.request::<u32>("buy", &json!({})).ttl(max).timeout(max).into_future());
    let request = peer.expect("buy").await;
    peer.ack(&request, json!(1)).await;
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
    drop(peer);
    let published = tokio::spawn(room.publish(&7).into_future());
    assert!(script.is_idle(Duration::from_secs(86_400)).await, "the next attempt is far away");
    client.reconnect().await.unwrap();
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    peer.subscribe("a", 1).await;
    let request = peer.expect("channel_message").await;
    peer.ack(&request, json!({ "epoch": crate::script::EPOCH, "offset": 2 })).await;
    published.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn endless_durations_of_servers_do_not_overflow() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.accept().await;
    let mut greeting = session("one");
    greeting["heartbeat"] = json!({ "interval": u64::MAX, "timeout": u64::MAX });
    greeting["resume"]["window"] = json!(u64::MAX);
    greeting["expires_at"] = json!(u64::MAX);
    peer.send(greeting).await;
    client.connected().await.unwrap();
    peer.send(json!({ "type": "reconnect", "after": [u64::MAX, u64::MAX], "reason": "x" })).await;
    peer.send(json!({ "type": "reconnect", "after": [u64::MAX, 0], "reason": "x" })).await;
    let answer = tokio::spawn(client.request::<u32>("buy", &json!({})).into_future());
    let request = peer.expect("buy").await;
    peer.ack(&request, json!(1)).await;
    assert_eq!(answer.await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn zero_durations_fail_requests_and_not_the_connection() {
    let (mut script, builder) = script();
    let client = builder.timeout(Duration::ZERO).ttl(Duration::ZERO).connect().unwrap();
    let _peer = script.greet("one").await;
    client.connected().await.unwrap();
    let answer = client.request::<u32>("buy", &json!({})).await;
    assert!(matches!(answer, Err(Error::Expired | Error::Timeout)), "{answer:?}");
    assert!(script.is_idle(Duration::from_secs(20)).await);
    assert_eq!(client.state(), State::Connected);
}

/// Counts the connections within a time if each one is told to move at once.
async fn count_moves(script: &mut Script, time: Duration) -> usize {
    let (end, mut peers) = (Instant::now() + time, Vec::new());
    while let Ok(mut peer) = tokio::time::timeout_at(end, script.accept()).await {
        peer.send(session(&format!("t{}", peers.len()))).await;
        for _ in 0..3 {
            peer.send(json!({ "type": "reconnect", "after": [0, 0], "reason": "loop" })).await;
        }
        peers.push(peer);
    }
    peers.len()
}

#[tokio::test(start_paused = true)]
async fn repeated_orders_to_move_are_spaced() {
    let (mut script, builder) = script();
    let _client = builder.connect().unwrap();
    let few = count_moves(&mut script, Duration::from_secs(2)).await;
    assert!((2..=3).contains(&few), "{few} connections in 2 s");
    let more = count_moves(&mut script, Duration::from_secs(600)).await;
    assert!((10..=30).contains(&more), "{more} connections in 10 min");
}

#[tokio::test(start_paused = true)]
async fn application_messages_are_not_taken_for_orders() {
    let Subscribed { mut script, mut peer, client, room, mut messages } = subscribed(0).await;
    let mut orders = client.events::<Value>("reconnect");
    let buying = tokio::spawn(client.request::<u32>("buy", &json!({})).into_future());
    let request = peer.expect("buy").await;
    let forged = [
        json!({ "type": "reconnect", "after": [0, 0], "reason": "x" }),
        json!({ "type": "retry_policy", "base_delay": 0, "max_delay": 0, "backoff_multiplier": 1, "jitter": 0 }),
        json!({ "type": "session", "connection_id": "c-eve", "user": "eve" }),
        json!({ "type": "request", "id": "q-1", "event": "confirm", "data": null }),
        json!({ "type": "ack", "id": request["id"], "data": 666 }),
        json!({ "type": "error", "error_type": "timeout", "message": "", "id": request["id"] }),
        json!({ "type": "subscribed", "epoch": "AAAAAAAAAAE", "recoverable": true }),
        json!({ "type": "gap", "epoch": "AAAAAAAAAAE", "missed": 9 }),
        json!({ "type": "unsubscribed" }),
        json!({ "type": "presence_change" }),
        json!({ "type": "message", "text": "without content" }),
    ];
    let count = forged.len() as u64;
    for (index, mut message) in forged.into_iter().enumerate() {
        (message["channel"], message["timestamp"]) = (json!("a"), json!(1));
        message["offset"] = json!(index + 1);
        peer.send(message).await;
    }
    peer.publication("a", count + 1).await;
    assert_eq!(content(&mut messages).await, count + 1);
    assert_eq!(room.position().unwrap().offset, count + 1, "each of them counts");
    assert_eq!(next(&mut orders).await.unwrap()["after"], json!([0, 0]));
    assert_eq!(client.session().unwrap().user, "ana");
    peer.ack(&request, json!(1)).await;
    assert_eq!(buying.await.unwrap().unwrap(), 1);
    assert!(script.is_idle(Duration::from_secs(20)).await, "nobody moves");
}

#[tokio::test(start_paused = true)]
async fn a_message_without_its_fields_keeps_the_connection() {
    let Subscribed { mut script, mut peer, client, mut messages, room: _room } = subscribed(1).await;
    for kind in
        ["reconnect", "error", "session", "ack", "gap", "retry_policy", "request", "message", "private"]
    {
        peer.send(json!({ "type": kind, "text": "of the application" })).await;
    }
    peer.send(publication("a", 2)).await;
    assert_eq!(content(&mut messages).await, 2);
    assert!(script.is_idle(Duration::from_secs(20)).await);
    assert_eq!(client.state(), State::Connected);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_no_message_keeps_the_connection() {
    let Subscribed { mut script, mut peer, client, mut messages, room: _room } = subscribed(1).await;
    // The server's `Connection::send` sends such values as they are.
    for value in
        [json!(7), json!("hello"), json!([1]), Value::Null, json!({ "hello": 1 }), json!({ "type": 5 })]
    {
        peer.send(value).await;
    }
    peer.send(publication("a", 2)).await;
    assert_eq!(content(&mut messages).await, 2);
    assert!(script.is_idle(Duration::from_secs(20)).await);
    assert_eq!(client.state(), State::Connected);
    // This one names a channel, so its meaning there is unknown.
    peer.send(json!({ "channel": "a", "offset": 3 })).await;
    let mut peer = script.accept().await;
    peer.expect("resume").await;
}

#[tokio::test(start_paused = true)]
async fn a_publication_is_not_repeated_after_its_key_has_expired() {
    let Subscribed { mut script, mut peer, client, room, messages: _messages } = subscribed(1).await;
    let hour = Duration::from_secs(3_600);
    let published = tokio::spawn(room.publish(&7).ttl(hour).into_future());
    peer.expect("channel_message").await;
    drop(peer);
    drop(script.raw().await);
    client.offline().await.unwrap();
    advance(Duration::from_secs(420)).await;
    client.reconnect().await.unwrap();
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    let mut resumed = session("two");
    resumed["resumed"] = json!(true);
    resumed["subscriptions"] = json!([{ "channel": "a", "epoch": crate::script::EPOCH, "offset": 2,
        "recoverable": true, "recovered": true }]);
    peer.send(resumed).await;
    assert!(matches!(published.await.unwrap(), Err(Error::OutcomeUnknown)));
    let next = tokio::spawn(client.request::<u32>("buy", &json!({})).into_future());
    let request = peer.expect("buy").await;
    peer.ack(&request, json!(1)).await;
    assert_eq!(next.await.unwrap().unwrap(), 1, "nothing else was sent before");
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_token_source_is_a_failed_attempt() {
    for call_panics in [true, false] {
        let (mut script, builder) = script();
        let calls = Arc::new(AtomicU32::new(0));
        let source = move || {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            assert!(call != 0 || !call_panics, "of the application's own");
            async move {
                assert!(call != 0, "of the application's own");
                Ok::<_, String>("t".to_owned())
            }
        };
        let client = builder.token(source).connect().unwrap();
        let _peer = script.greet("one").await;
        client.connected().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_token_source_is_called_again_after_a_panic() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let source = move || {
        assert!(calls.fetch_add(1, Ordering::Relaxed) > 0, "of the application's own");
        async { Ok::<_, String>("t".to_owned()) }
    };
    let room = client.channel::<u64>("a");
    let subscribing = tokio::spawn(room.subscribe().token(source).into_future());
    let mut peer = script.greet("one").await;
    peer.subscribe("a", 1).await;
    subscribing.await.unwrap().unwrap().keep();
}

#[tokio::test(start_paused = true)]
async fn a_slow_channel_token_keeps_the_connection() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let source = move || {
        let wait = Duration::from_secs(if calls.fetch_add(1, Ordering::Relaxed) == 1 { 20 } else { 0 });
        async move {
            let _ = tokio::time::timeout(wait, std::future::pending::<()>()).await;
            Ok::<_, String>("t".to_owned())
        }
    };
    let room = client.channel::<u64>("a");
    let subscribing = tokio::spawn(room.subscribe().token(source).into_future());
    let mut peer = script.greet("one").await;
    peer.subscribe("a", 1).await;
    subscribing.await.unwrap().unwrap().keep();
    drop(peer);
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    let began = Instant::now();
    let buying = tokio::spawn(client.request::<u32>("buy", &json!({})).into_future());
    let request = peer.expect("buy").await;
    assert_eq!(began.elapsed().as_secs(), 10, "as long as an answer would have had");
    peer.ack(&request, json!(1)).await;
    assert_eq!(buying.await.unwrap().unwrap(), 1);
    peer.subscribe("a", 2).await;
    assert!(script.is_idle(Duration::from_secs(20)).await);
}

#[test]
fn a_client_reports_the_end_of_its_runtime() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (client, mut states, waiting) = runtime.block_on(async {
        let Subscribed { client, peer, script, .. } = subscribed(1).await;
        let waiting = client.request::<u32>("buy", &json!({})).into_future();
        (client.clone(), client.states(), (waiting, peer, script))
    });
    drop(runtime);
    assert_eq!(client.state(), State::Closed(Closed::TaskEnded));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert!(matches!(waiting.0.await, Err(Error::Closed(Closed::TaskEnded))));
        assert!(matches!(states.next().await, Some(Ok(State::Closed(Closed::TaskEnded)))));
        assert!(states.next().await.is_none());
    });
}

/// Runs a future outside any runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let (mut cx, mut future) = (std::task::Context::from_waker(&waker), std::pin::pin!(future));
    loop {
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn calls_may_be_awaited_outside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let entered = runtime.enter();
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    drop(entered);
    let served = runtime.spawn(async move {
        let mut peer = script.greet("one").await;
        peer.subscribe("a", 1).await;
        for kind in ["buy", "channel_message", "history", "unsubscribe_channel"] {
            let request = peer.expect(kind).await;
            let data = match kind {
                "buy" => json!(1),
                "channel_message" => json!({ "epoch": crate::script::EPOCH, "offset": 2 }),
                "history" => {
                    json!({ "channel": "a", "epoch": crate::script::EPOCH, "offset": 2, "oldest": 1, "messages": [] })
                }
                _ => Value::Null,
            };
            peer.ack(&request, data).await;
        }
        peer.expect("ping").await;
        assert!(peer.next().await.is_none());
    });
    let room = client.channel::<u64>("a");
    block_on(async {
        client.connected().await.unwrap();
        let subscription = room.subscribe().await.unwrap();
        assert_eq!(subscription.position().unwrap().offset, 1);
        assert_eq!(client.request::<u32>("buy", &json!({})).await.unwrap(), 1);
        assert_eq!(room.publish(&7).await.unwrap().unwrap().offset, 2);
        assert_eq!(room.history().await.unwrap().oldest, 1);
        room.unsubscribe().await.unwrap();
        client.reconnect().await.unwrap();
        client.close().await;
        assert!(matches!(room.subscribe().await, Err(Error::Closed(_))));
        assert!(matches!(room.unsubscribe().await, Err(Error::Closed(_))));
    });
    runtime.block_on(served).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_arrived_during_a_sleep_is_in_time() {
    let Subscribed { mut peer, client, mut messages, room: _room, .. } = subscribed(1).await;
    for number in 2..20 {
        let asked = tokio::spawn(client.request::<u64>("buy", &json!({})).into_future());
        let request = peer.expect("buy").await;
        let answering = tokio::spawn(async move {
            // It is in time, but the deadline of the client has passed when it wakes.
            let _ = tokio::time::timeout(Duration::from_secs(9), std::future::pending::<()>()).await;
            peer.publication("a", number).await;
            peer.ack(&request, json!(number)).await;
            peer
        });
        tokio::task::yield_now().await;
        advance(Duration::from_secs(20)).await;
        peer = answering.await.unwrap();
        assert_eq!(asked.await.unwrap().unwrap(), number);
        assert_eq!(content(&mut messages).await, number);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_answer_to_a_subscription_ends_the_connection() {
    for nonsense in [Value::Null, json!(7), json!({}), json!({ "channel": "b", "recoverable": true })] {
        let (mut script, builder) = script();
        let client = builder.connect().unwrap();
        let room = client.channel::<u64>("a");
        let subscribing = tokio::spawn(room.subscribe().into_future());
        let mut peer = script.greet("one").await;
        let request = peer.expect("subscribe_channel").await;
        peer.ack(&request, nonsense).await;
        let mut peer = script.greet("two").await;
        peer.expect("resume").await;
        peer.subscribe("a", 1).await;
        subscribing.await.unwrap().unwrap().keep();
    }
}

#[tokio::test(start_paused = true)]
async fn unanswered_subscriptions_time_out() {
    let (mut script, builder) = script();
    let client = builder.timeout(Duration::from_secs(2)).ttl(Duration::from_secs(3)).connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let (room, began) = (client.channel::<u64>("a"), Instant::now());
    assert!(matches!(room.subscribe().await, Err(Error::Timeout)));
    assert_eq!(began.elapsed().as_secs(), 5);
    peer.expect("subscribe_channel").await;
    assert!(matches!(room.unsubscribe().await, Err(Error::Timeout)));
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[test]
fn a_client_in_a_runtime_without_timers_reports_its_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (_script, builder) = script();
        let client = builder.connect().unwrap();
        assert_eq!(client.connected().await, Err(Closed::TaskEnded));
        assert_eq!(client.request::<()>("x", &json!({})).await.unwrap_err().kind(), "closed");
        assert!(client.states().next().await.is_none());
    });
}
