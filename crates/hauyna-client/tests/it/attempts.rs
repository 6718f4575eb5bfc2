//! Attempts to connect: delays, tokens, permanent failures, size limits and liveness. Scripted, on a paused
//! clock.

use crate::script::{EPOCH, Subscribed, script, session, subscribed};
use crate::support::reach;
use hauyna_client::protocol::RetryTerms;
use hauyna_client::{Client, Closed, Error, InvalidUrl, State};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

fn terms(max_attempts: Option<u32>) -> RetryTerms {
    RetryTerms { max_attempts, base_delay: 1_000, max_delay: 4_000, backoff_multiplier: 2.0, jitter: 1.0 }
}

#[tokio::test(start_paused = true)]
async fn delays_are_random_and_repeatable_with_a_seed() {
    let run = async || {
        let (mut script, builder) = script();
        let client = builder.retry(terms(None)).connect().unwrap();
        let mut delays = Vec::new();
        drop(script.raw().await);
        for n in 0..6 {
            let began = Instant::now();
            drop(script.raw().await);
            let delay = began.elapsed();
            assert!(delay <= Duration::from_millis((1_000 << n).min(4_000) + 1), "{n}: {delay:?}");
            delays.push(delay);
        }
        drop(client);
        delays
    };
    let delays = run().await;
    assert!(delays.iter().collect::<std::collections::HashSet<_>>().len() > 4, "{delays:?}");
    assert_eq!(delays, run().await);
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_the_client_is_closed_until_reconnect() {
    let (mut script, builder) = script();
    let client = builder.retry(terms(Some(2))).connect().unwrap();
    let waiting = tokio::spawn(client.request::<()>("x", &json!({})).into_future());
    for _ in 0..3 {
        drop(script.raw().await);
    }
    assert_eq!(client.connected().await, Err(Closed::GaveUp));
    assert!(matches!(waiting.await.unwrap(), Err(Error::GaveUp)));
    assert!(script.is_idle(Duration::from_secs(600)).await);
    client.reconnect().await.unwrap();
    let mut states = client.states();
    let _peer = script.greet("one").await;
    reach(&mut states, |state| *state == State::Connected).await;
}

#[tokio::test(start_paused = true)]
async fn offline_pauses_the_attempts_and_they_are_not_counted() {
    let (mut script, builder) = script();
    let client = builder.retry(terms(Some(3))).connect().unwrap();
    drop(script.raw().await);
    client.offline().await.unwrap();
    assert!(script.is_idle(Duration::from_secs(3_600)).await);
    client.reconnect().await.unwrap();
    let _peer = script.greet("one").await;
    client.connected().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_attempts_follow_a_loss_while_offline() {
    let (mut script, builder) = script();
    let client = builder.retry(terms(Some(3))).connect().unwrap();
    let peer = script.greet("one").await;
    client.connected().await.unwrap();
    client.offline().await.unwrap();
    assert!(script.is_idle(Duration::from_secs(1)).await);
    assert_eq!(client.state(), State::Connected, "what is there stays");
    drop(peer);
    assert!(script.is_idle(Duration::from_secs(3_600)).await);
    assert_eq!(client.state(), State::Reconnecting { attempt: 1 });
    client.reconnect().await.unwrap();
    let mut peer = script.greet("two").await;
    client.connected().await.unwrap();
    // The network is back before the connection is lost, so the loss is followed by attempts as usual.
    client.offline().await.unwrap();
    client.reconnect().await.unwrap();
    peer.expect("resume").await;
    peer.expect("ping").await;
    drop(peer);
    script.greet("three").await;
}

#[tokio::test(start_paused = true)]
async fn only_permanent_close_codes_close_the_client() {
    for code in [1000, 1008, 3503, 3777, 4500] {
        let (mut script, builder) = script();
        let client = builder.connect().unwrap();
        let mut peer = script.greet("one").await;
        let mut states = client.states();
        peer.close(code).await;
        let state = reach(&mut states, |state| matches!(state, State::Closed(_))).await;
        assert!(
            matches!(state, State::Closed(Closed::ByServer { code: told, .. }) if told == code),
            "{code}"
        );
        assert!(script.is_idle(Duration::from_secs(600)).await, "{code}");
    }
    for code in [1001, 1011, 3000, 3008, 3013, 4000] {
        let (mut script, builder) = script();
        let _client = builder.connect().unwrap();
        script.greet("one").await.close(code).await;
        script.accept().await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_permanent_statuses_close_the_client() {
    let answer = async |status: &str| {
        let (mut script, builder) = script();
        let client = builder.connect().unwrap();
        let mut stream = script.raw().await;
        let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        (script, client, stream)
    };
    let (_script, client, _stream) = answer("403 Forbidden").await;
    assert_eq!(client.connected().await, Err(Closed::Refused { status: 403 }));
    let (mut script, _client, _stream) = answer("503 Service Unavailable").await;
    script.accept().await;
}

#[tokio::test(start_paused = true)]
async fn the_token_source_is_called_per_attempt_and_may_fail_it() {
    let calls = Arc::new(AtomicU32::new(0));
    let (mut script, builder) = script();
    let counted = calls.clone();
    let _client = builder
        .token(move || {
            let call = counted.fetch_add(1, Ordering::Relaxed);
            async move { if call == 1 { Err("the issuer is down") } else { Ok(format!("t{call}")) } }
        })
        .connect()
        .unwrap();
    let mut peer = script.accept().await;
    assert_eq!(peer.protocols[1], "hauyna.bearer.t0");
    peer.send(session("one")).await;
    drop(peer);
    assert_eq!(script.accept().await.protocols[1..], ["hauyna.bearer.t2", "hauyna.resume.one"]);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn credentials_are_renewed_at_nine_tenths_of_their_lifetime() {
    let (mut script, builder) = script();
    let _client = builder.token(|| async { Ok::<_, String>("fresh".to_owned()) }).connect().unwrap();
    let mut peer = script.accept().await;
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let mut session = session("one");
    session["heartbeat"] = json!(null);
    session["expires_at"] = json!(wall + 20_000);
    let began = Instant::now();
    peer.send(session).await;
    assert_eq!(peer.expect("refresh").await["token"], "fresh");
    let after = began.elapsed();
    assert!((Duration::from_secs(16)..=Duration::from_secs(19)).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn seemingly_expired_credentials_are_not_renewed_at_once() {
    let (mut script, builder) = script();
    let _client = builder.token(|| async { Ok::<_, String>("fresh".to_owned()) }).connect().unwrap();
    let mut peer = script.accept().await;
    let mut session = session("one");
    session["heartbeat"] = json!({ "interval": 3_600_000, "timeout": 7_200_000 });
    session["expires_at"] = json!(1);
    let began = Instant::now();
    peer.send(session).await;
    for _ in 0..3 {
        let request = peer.expect("refresh").await;
        peer.ack(&request, json!({ "expires_at": 1 })).await;
    }
    assert_eq!(began.elapsed().as_secs(), 3 * 54);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_clock_does_not_hasten_renewals() {
    let (mut script, builder) = script();
    let _client = builder.token(|| async { Ok::<_, String>("fresh".to_owned()) }).connect().unwrap();
    let mut peer = script.accept().await;
    let mut session = session("one");
    session["heartbeat"] = json!({ "interval": 3_600_000, "timeout": 7_200_000 });
    // By the local clock, which is ahead, they expired long ago. The server says that ten minutes are left.
    (session["expires_at"], session["expires_in"]) = (json!(1), json!(600_000));
    let began = Instant::now();
    peer.send(session).await;
    for n in 1..=3 {
        let request = peer.expect("refresh").await;
        assert_eq!(began.elapsed().as_secs(), n * 540);
        peer.ack(&request, json!({ "expires_at": 1, "expires_in": 600_000 })).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_client_refuses_messages_too_large_for_the_server() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.accept().await;
    let mut session = session("one");
    session["limits"] = json!({ "max_message": 1_000 });
    peer.send(session).await;
    client.connected().await.unwrap();
    let large = client.request::<()>("large", &json!({ "text": "x".repeat(1_000) })).await;
    let Err(Error::Refused(refusal)) = large else { panic!("{large:?}") };
    assert_eq!((&*refusal.error_type, refusal.temporary), ("payload_too_large", false));
    assert_eq!(refusal.details.unwrap().get(), r#"{"limit":1000}"#);
    let small = tokio::spawn(client.request::<()>("small", &json!({})).into_future());
    let request = peer.expect("small").await;
    peer.ack(&request, json!(null)).await;
    small.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_too_large_subscription_is_refused_without_a_loss() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.accept().await;
    let mut session = session("one");
    session["limits"] = json!({ "max_message": 1_000 });
    peer.send(session).await;
    let metadata = json!({ "text": "x".repeat(1_000) });
    let refused = client.channel::<u64>("a").subscribe().metadata(&metadata).await.unwrap_err();
    assert_eq!(refused.error_type(), Some(hauyna_client::protocol::ErrorType::PayloadTooLarge));
    let small = tokio::spawn(client.request::<()>("small", &json!({})).into_future());
    let request = peer.expect("small").await;
    peer.ack(&request, json!(null)).await;
    small.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_too_large_answer_becomes_a_refusal() {
    let (mut script, builder) = script();
    let large = |(): ()| async { Ok::<_, String>("x".repeat(1_000)) };
    let also_large = |(): ()| async { Err::<(), _>("x".repeat(1_000)) };
    let _client = builder.on_request("dump", large).on_request("fail", also_large).connect().unwrap();
    let mut peer = script.accept().await;
    let mut session = session("one");
    session["limits"] = json!({ "max_message": 1_000 });
    peer.send(session).await;
    for event in ["dump", "fail"] {
        peer.send(json!({ "type": "request", "id": event, "event": event, "data": null })).await;
        let answer = peer.expect("error").await;
        assert_eq!((&answer["id"], &answer["message"]), (&json!(event), &json!("the answer is too large")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_too_large_for_a_proxy_fails_its_request_alone() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let repeatable = |name: &str, size: usize| {
        let data = json!({ "text": "x".repeat(size) });
        tokio::spawn(client.request::<()>(name, &data).repeatable().into_future())
    };
    let (before, large, after) =
        (repeatable("before", 1), repeatable("large", 9_000), repeatable("after", 1));
    for name in ["before", "large", "after"] {
        peer.expect(name).await;
    }
    peer.close(1009).await;
    let error = large.await.unwrap().unwrap_err();
    assert_eq!(error.error_type(), Some(hauyna_client::protocol::ErrorType::PayloadTooLarge));
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    for name in ["before", "after"] {
        let request = peer.expect(name).await;
        peer.ack(&request, json!(null)).await;
    }
    before.await.unwrap().unwrap();
    after.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_too_large_repetition_has_an_unknown_outcome() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    let room = client.channel::<String>("a");
    let publishing = tokio::spawn(room.publish(&"x".repeat(9_000)).into_future());
    peer.expect("channel_message").await;
    drop(peer);
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    let mut session = crate::script::session("two");
    session["resumed"] = json!(true);
    peer.send(session).await;
    peer.expect("channel_message").await;
    peer.close(1009).await;
    let error = publishing.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown), "it may have been published: {error}");
}

#[tokio::test(start_paused = true)]
async fn a_too_large_client_event_fails_no_smaller_request() {
    let (mut script, builder) = script();
    let dump = |(): ()| async { Ok::<_, String>("x".repeat(9_000)) };
    let client = builder.on_request("dump", dump).connect().unwrap();
    let room = client.channel::<String>("a");
    let mut peer = script.greet("one").await;
    let entry = json!({ "channel": "a", "epoch": EPOCH, "offset": 1, "recoverable": true, "recovered": true,
        "client_events": { "drawing": 10 } });
    let subscribing = tokio::spawn(room.subscribe().into_future());
    let request = peer.expect("subscribe_channel").await;
    peer.ack(&request, entry.clone()).await;
    subscribing.await.unwrap().unwrap().keep();
    for kind in ["client_event", "ack"] {
        let publishing = tokio::spawn(room.publish(&"small".to_owned()).into_future());
        peer.expect("channel_message").await;
        match kind {
            "client_event" => room.send("drawing", &"x".repeat(9_000)).unwrap(),
            _ => peer.send(json!({ "type": "request", "id": "q", "event": "dump", "data": null })).await,
        }
        peer.expect(kind).await;
        peer.close(1009).await;
        peer = script.accept().await;
        peer.expect("resume").await;
        let mut session = session(kind);
        (session["resumed"], session["subscriptions"]) = (json!(true), json!([entry]));
        peer.send(session).await;
        let request = peer.expect("channel_message").await;
        peer.ack(&request, json!({ "epoch": EPOCH, "offset": 2 })).await;
        assert_eq!(publishing.await.unwrap().unwrap().unwrap().offset, 2, "{kind}");
    }
    // What was sent on another connection before proves nothing.
    let publishing = tokio::spawn(room.publish(&"x".repeat(8_000)).into_future());
    peer.expect("channel_message").await;
    peer.close(1009).await;
    let error = publishing.await.unwrap().unwrap_err();
    assert_eq!(error.error_type(), Some(hauyna_client::protocol::ErrorType::PayloadTooLarge));
}

#[tokio::test(start_paused = true)]
async fn a_too_large_request_that_timed_out_fails_no_smaller_one() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    let data = json!({ "text": "x".repeat(9_000) });
    let large = client.request::<()>("large", &data).timeout(Duration::from_secs(1));
    assert!(matches!(large.await, Err(Error::Timeout)));
    peer.expect("large").await;
    let small = tokio::spawn(client.request::<()>("small", &json!({})).repeatable().into_future());
    peer.expect("small").await;
    peer.close(1009).await;
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    let request = peer.expect("small").await;
    peer.ack(&request, json!(null)).await;
    small.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_too_large_given_up_subscription_does_not_fail_the_next() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    let room = client.channel::<u64>("a");
    let metadata = json!({ "text": "x".repeat(3_000) });
    let given_up = tokio::spawn(room.subscribe().metadata(&metadata).into_future());
    peer.expect("subscribe_channel").await;
    let room_clone = room.clone();
    let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
    assert!(matches!(given_up.await.unwrap(), Err(Error::Unsubscribed)));
    let subscribing = tokio::spawn(room.subscribe().into_future());
    tokio::time::advance(Duration::from_millis(1)).await;
    peer.close(1009).await;
    ending.await.unwrap().unwrap();
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    peer.subscribe("a", 1).await;
    subscribing.await.unwrap().unwrap().keep();
}

#[tokio::test(start_paused = true)]
async fn silence_causes_a_ping_and_then_an_attempt() {
    let (mut script, builder) = script();
    let _client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    let began = Instant::now();
    let ping = peer.expect("ping").await;
    assert_eq!(began.elapsed().as_secs(), 25);
    peer.send(json!({ "type": "pong", "id": ping["id"] })).await;
    peer.expect("ping").await;
    assert_eq!(began.elapsed().as_secs(), 50, "a sign of life begins the silence again");
    assert!(peer.next().await.is_none(), "nothing was heard for 60 s: the socket is given up");
    assert_eq!(began.elapsed().as_secs(), 85);
    script.accept().await;
}

#[tokio::test(start_paused = true)]
async fn reconnect_detects_a_dead_connection_within_five_seconds() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let began = Instant::now();
    client.reconnect().await.unwrap();
    peer.expect("ping").await;
    assert!(peer.next().await.is_none());
    assert_eq!(began.elapsed().as_secs(), 5);
    script.accept().await;
}

#[tokio::test(start_paused = true)]
async fn volatile_requests_fail_without_a_connection_and_others_wait() {
    let (_script, builder) = script();
    let client = builder.connect().unwrap();
    let volatile = client.request::<()>("x", &json!({})).volatile().await;
    assert!(matches!(volatile, Err(Error::NotConnected)));
    let began = Instant::now();
    let waited = client.request::<()>("x", &json!({})).ttl(Duration::from_secs(3)).await;
    assert!(matches!(waited, Err(Error::Expired)));
    assert_eq!(began.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn volatile_requests_are_not_sent_on_later_connections() {
    let Subscribed { mut script, mut peer, client, room, messages: _messages } = subscribed(1).await;
    let sent = tokio::spawn(room.publish(&7).volatile().into_future());
    peer.expect("channel_message").await;
    drop(peer);
    assert!(matches!(sent.await.unwrap(), Err(Error::OutcomeUnknown)));
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    // Requests wait until the subscription is answered.
    peer.expect("subscribe_channel").await;
    let waiting = tokio::spawn(client.request::<()>("cursor", &json!({})).volatile().into_future());
    tokio::task::yield_now().await;
    drop(peer);
    assert!(matches!(waiting.await.unwrap(), Err(Error::NotConnected)));
    let mut peer = script.greet("three").await;
    peer.expect("resume").await;
    peer.subscribe("a", 1).await;
    peer.expect("ping").await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_answer_is_a_timeout() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let _peer = script.greet("one").await;
    let began = Instant::now();
    let unanswered = client.request::<()>("x", &json!({})).await;
    assert!(matches!(unanswered, Err(Error::Timeout)));
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_session_message_is_given_up() {
    let (mut script, builder) = script();
    let _client = builder.connect().unwrap();
    let mut mute = script.accept().await;
    assert!(mute.next().await.is_none());
    script.greet("one").await;
}

#[test]
fn an_invalid_url_is_refused_at_once() {
    assert_eq!(Client::builder("http://a/").connect().unwrap_err(), InvalidUrl::Scheme);
    // Attempts with such URLs would fail forever.
    assert_eq!(Client::builder("wss://a/").connect().unwrap_err(), InvalidUrl::NoTls);
    assert_eq!(Client::builder("ws://a:99999/").connect().unwrap_err(), InvalidUrl::Malformed);
}

#[tokio::test(start_paused = true)]
async fn reconnect_then_connected_returns_the_new_outcome() {
    let (mut script, builder) = script();
    let client = builder.retry(terms(Some(1))).connect().unwrap();
    for _ in 0..2 {
        drop(script.raw().await);
    }
    assert_eq!(client.connected().await, Err(Closed::GaveUp));
    client.reconnect().await.unwrap();
    assert_ne!(client.state(), State::Closed(Closed::GaveUp));
    let (connected, _peer) = tokio::join!(client.connected(), script.greet("one"));
    connected.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_closed_client_plans_no_attempt_and_reports_its_failure() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    drop(script.raw().await);
    while client.retry_at().is_none() {
        tokio::task::yield_now().await;
    }
    client.close().await;
    assert_eq!(client.retry_at(), None);

    let (mut script, builder) = self::script();
    let client = builder.connect().unwrap();
    let mut peer = script.accept().await;
    peer.close(3507).await;
    assert!(matches!(client.connected().await, Err(Closed::ByServer { code: 3507, .. })));
    let why = client.last_failure().expect("a reason");
    assert!(why.contains("3507"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn closing_wins_over_a_simultaneous_reconnect() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let ending = async {
        while peer.next().await.is_some() {}
        drop(peer);
    };
    let ((), reconnected, ()) = tokio::join!(client.close(), client.reconnect(), ending);
    assert_eq!(client.state(), State::Closed(Closed::ByUs));
    assert!(matches!(reconnected, Err(Error::Closed(Closed::ByUs))), "{reconnected:?}");
}
