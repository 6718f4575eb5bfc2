//! Subscriptions whose request, token or retry is overtaken by the server, and requests that the application
//! makes while a subscription is restored. Scripted, on a paused clock.

use crate::script::{EPOCH, NEXT_EPOCH, Peer, Subscribed, script, session, subscribed};
use crate::support::content;
use hauyna_client::protocol::Position;
use hauyna_client::{Client, Error};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

fn entry(channel: &str, offset: u64) -> Value {
    json!({ "channel": channel, "epoch": EPOCH, "offset": offset, "recoverable": true })
}

/// Advances the paused clock, until every task has done all that it can do.
async fn advance(by: Duration) {
    tokio::time::sleep_until(tokio::time::Instant::now() + by).await;
}

async fn settle() {
    advance(Duration::from_millis(1)).await;
}

/// Subscribes the client by the application on the server.
async fn subscribe_by_server(peer: &mut Peer, offset: u64) {
    let mut notice = entry("a", offset);
    notice["type"] = json!("subscribed");
    peer.send(notice).await;
}

async fn refuse(peer: &mut Peer, request: &Value, error_type: &str, retry_after: u64) {
    let is_temporary = error_type != "already_subscribed";
    peer.send(json!({ "type": "error", "error_type": error_type, "message": "", "timestamp": 1,
        "id": request["id"], "temporary": is_temporary, "details": { "retry_after": retry_after } }))
        .await;
}

/// Refuses a subscription that the client requests within some seconds, because the server has made it.
async fn refuse_known(peer: &mut Peer) {
    if let Ok(request) = timeout(Duration::from_secs(5), peer.expect("subscribe_channel")).await {
        peer.publication("a", 7).await;
        refuse(peer, &request, "already_subscribed", 0).await;
    } else {
        peer.publication("a", 7).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_token_keeps_a_subscription_of_the_server() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    let fails = Arc::new(Semaphore::new(0));
    let failing = fails.clone();
    let source = move || {
        let fails = failing.clone();
        async move {
            let _ = fails.acquire().await;
            Err::<String, _>("no token")
        }
    };
    let room = client.channel::<u64>("a");
    let mut messages = room.messages();
    let subscribing = tokio::spawn(room.subscribe().token(source).into_future());
    client.connected().await.unwrap();
    subscribe_by_server(&mut peer, 5).await;
    subscribing.await.unwrap().unwrap().keep();
    fails.add_permits(1_000);
    settle().await;
    peer.publication("a", 6).await;
    refuse_known(&mut peer).await;
    peer.publication("a", 8).await;
    for offset in 6..=8 {
        assert_eq!(content(&mut messages).await, offset);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_keeps_a_subscription_of_the_server() {
    let Subscribed { mut script, peer, client: _client, room: _room, mut messages } = subscribed(5).await;
    drop(peer);
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    let request = peer.expect("subscribe_channel").await;
    refuse(&mut peer, &request, "unavailable", 1_000).await;
    subscribe_by_server(&mut peer, 5).await;
    peer.publication("a", 6).await;
    refuse_known(&mut peer).await;
    peer.publication("a", 8).await;
    for offset in 6..=8 {
        assert_eq!(content(&mut messages).await, offset);
    }
}

/// Returns a client that has lost its connection and session, and whose subscription the new server refuses
/// temporarily.
async fn restoring_client(retry_after: u64) -> Subscribed {
    let Subscribed { mut script, peer, client, room, messages } = subscribed(5).await;
    drop(peer);
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    let request = peer.expect("subscribe_channel").await;
    refuse(&mut peer, &request, "rate_limited", retry_after).await;
    Subscribed { script, peer, client, room, messages }
}

#[tokio::test(start_paused = true)]
async fn only_requests_about_a_channel_wait_for_its_subscription() {
    let Subscribed { client, room, mut peer, .. } = restoring_client(40_000).await;
    let publishing = tokio::spawn(room.publish(&1).into_future());
    let asking = tokio::spawn(room.history().into_future());
    let updating = tokio::spawn(room.presence().update(&json!({ "n": 1 })).into_future());
    let other = tokio::spawn(client.request::<()>("other", &json!({})).into_future());
    let request = peer.expect("other").await;
    peer.ack(&request, Value::Null).await;
    other.await.unwrap().unwrap();
    let request = loop {
        let request = peer.next().await.expect("a client that is there");
        match request["type"].as_str() {
            Some("ping") => peer.send(json!({ "type": "pong", "id": request["id"] })).await,
            Some("subscribe_channel") => break request,
            _ => panic!("it goes ahead of the subscription: {request}"),
        }
    };
    let mut data = entry("a", 5);
    data["recovered"] = json!(true);
    peer.ack(&request, data).await;
    let request = peer.expect("channel_message").await;
    peer.ack(&request, json!({ "epoch": EPOCH, "offset": 6 })).await;
    let request = peer.expect("history").await;
    peer.ack(&request, json!({ "channel": "a", "epoch": EPOCH, "offset": 6, "oldest": 1, "messages": [] }))
        .await;
    let request = peer.expect("update_presence").await;
    peer.ack(&request, Value::Null).await;
    publishing.await.unwrap().unwrap();
    asking.await.unwrap().unwrap();
    updating.await.unwrap().unwrap();
}

/// Returns a client whose publication was interrupted, and the connection of the next session, which refuses
/// its subscription for twenty seconds.
async fn cut_publication() -> (Subscribed, tokio::task::JoinHandle<Result<Option<Position>, Error>>, String) {
    let Subscribed { mut script, mut peer, client, room, messages } = subscribed(5).await;
    let publishing = tokio::spawn(room.publish(&1).into_future());
    let key = peer.expect("channel_message").await["key"].as_str().unwrap().to_owned();
    drop(peer);
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    let request = peer.expect("subscribe_channel").await;
    refuse(&mut peer, &request, "rate_limited", 20_000).await;
    (Subscribed { script, peer, client, room, messages }, publishing, key)
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_publication_is_judged_when_its_channel_is_back() {
    let (Subscribed { mut peer, client: _client, .. }, publishing, key) = cut_publication().await;
    let request = peer.expect("subscribe_channel").await;
    let mut data = entry("a", 5);
    data["recovered"] = json!(true);
    peer.ack(&request, data).await;
    let request = peer.expect("channel_message").await;
    assert_eq!(request["key"], key.as_str(), "the server remembers");
    peer.ack(&request, json!({ "epoch": EPOCH, "offset": 6 })).await;
    publishing.await.unwrap().unwrap();

    for is_refused in [true, false] {
        let (Subscribed { mut peer, client, .. }, publishing, _) = cut_publication().await;
        let request = peer.expect("subscribe_channel").await;
        if is_refused {
            refuse(&mut peer, &request, "already_subscribed", 0).await;
        } else {
            let mut data = entry("a", 5);
            (data["epoch"], data["recovered"], data["reason"]) =
                (json!(NEXT_EPOCH), json!(false), json!("epoch_changed"));
            peer.ack(&request, data).await;
        }
        assert!(matches!(publishing.await.unwrap(), Err(Error::OutcomeUnknown)), "it may be forgotten");
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn a_twice_interrupted_publication_is_judged_by_the_new_session() {
    let (Subscribed { peer, mut script, client: _client, .. }, publishing, _) = cut_publication().await;
    // The time for the other subscriptions is over, and the next connection resumes the new session, which
    // knows nothing of the old one.
    advance(Duration::from_secs(12)).await;
    drop(peer);
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    let mut greeting = session("three");
    greeting["resumed"] = json!(true);
    greeting["subscriptions"] = json!([]);
    peer.send(greeting).await;
    let request = peer.expect("subscribe_channel").await;
    let mut data = entry("a", 0);
    (data["epoch"], data["recovered"], data["reason"]) =
        (json!(NEXT_EPOCH), json!(false), json!("epoch_changed"));
    peer.ack(&request, data).await;
    assert!(matches!(publishing.await.unwrap(), Err(Error::OutcomeUnknown)));
}

#[tokio::test(start_paused = true)]
async fn requests_are_sent_after_their_subscription_is_refused_or_given_up() {
    for gives_up in [false, true] {
        let Subscribed { room, client: _client, mut peer, .. } = restoring_client(20_000).await;
        let publishing = tokio::spawn(room.publish(&1).into_future());
        if gives_up {
            tokio::task::yield_now().await;
            room.unsubscribe().await.unwrap();
        } else {
            let request = peer.expect("subscribe_channel").await;
            peer.send(
                json!({ "type": "error", "error_type": "permission_denied", "message": "", "timestamp": 1,
                "id": request["id"], "temporary": false }),
            )
            .await;
        }
        let request = peer.expect("channel_message").await;
        refuse(&mut peer, &request, "unavailable", 0).await;
        assert!(matches!(publishing.await.unwrap(), Err(Error::Refused(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_a_subscription_expire() {
    let Subscribed { room, client: _client, mut peer, .. } = restoring_client(30_000).await;
    let began = tokio::time::Instant::now();
    let error = room.publish(&1).ttl(Duration::from_secs(15)).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed().as_secs()), ("expired", 15));
    assert_eq!(peer.next().await.unwrap()["type"], "ping");
}

#[tokio::test(start_paused = true)]
async fn a_publication_waits_for_the_token_of_its_channel() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let room = client.channel::<u64>("a");
    let source = || async {
        advance(Duration::from_secs(3)).await;
        Ok::<_, String>("t".to_owned())
    };
    let subscribing = tokio::spawn(room.subscribe().token(source).into_future());
    tokio::task::yield_now().await;
    let publishing = tokio::spawn(room.publish(&1).into_future());
    peer.subscribe("a", 3).await;
    subscribing.await.unwrap().unwrap().keep();
    let request = peer.expect("channel_message").await;
    peer.ack(&request, json!({ "epoch": EPOCH, "offset": 4 })).await;
    publishing.await.unwrap().unwrap();
}

/// Subscribes to this number of channels with a token source that answers when the test permits it.
async fn with_tokens(client: &Client, count: usize) -> (Arc<Semaphore>, Arc<AtomicUsize>) {
    let (lets, asked) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    for n in 0..count {
        let (lets, asked) = (lets.clone(), asked.clone());
        let source = move || {
            let (lets, asked) = (lets.clone(), asked.clone());
            async move {
                asked.fetch_add(1, Ordering::Relaxed);
                if let Ok(permit) = lets.acquire().await {
                    permit.forget();
                }
                Ok::<_, String>("t".to_owned())
            }
        };
        let room = client.channel::<u64>(&format!("t:{n:03}"));
        tokio::spawn(
            async move { room.subscribe().token(source).await.map(hauyna_client::Subscription::keep) },
        );
    }
    settle().await;
    (lets, asked)
}

#[tokio::test(start_paused = true)]
async fn channel_tokens_are_fetched_a_few_at_a_time() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let (lets, asked) = with_tokens(&client, 40).await;
    assert_eq!(asked.load(Ordering::Relaxed), 16);
    let room = client.channel::<u64>("plain");
    let subscribing = tokio::spawn(room.subscribe().into_future());
    peer.subscribe("plain", 1).await;
    subscribing.await.unwrap().unwrap().keep();
    lets.add_permits(40);
    for n in 0..40 {
        let request = peer.expect("subscribe_channel").await;
        let data = entry(request["channel"].as_str().unwrap(), 1);
        peer.ack(&request, data).await;
        assert!(asked.load(Ordering::Relaxed) <= 32 + n);
    }
}

#[tokio::test(start_paused = true)]
async fn client_requests_are_answered_while_tokens_are_fetched() {
    let (mut script, builder) = script();
    let builder = builder.on_request("sure", |_: Value| async { Ok::<_, String>(true) });
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let (_lets, _asked) = with_tokens(&client, 100).await;
    peer.send(json!({ "type": "request", "id": "q", "event": "sure", "data": null })).await;
    assert_eq!(peer.expect("ack").await["data"], true);
}

#[tokio::test(start_paused = true)]
async fn unanswered_client_requests_do_not_count_on_later_connections() {
    let (mut script, builder) = script();
    let builder = builder
        .on_request("never", |_: Value| async {
            std::future::pending::<()>().await;
            Ok::<_, String>(())
        })
        .on_request("sure", |_: Value| async { Ok::<_, String>(true) });
    let _client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    for n in 0..100 {
        peer.send(json!({ "type": "request", "id": n, "event": "never", "data": null })).await;
    }
    for _ in 0..36 {
        peer.expect("error").await;
    }
    drop(peer);
    let mut peer = script.accept().await;
    peer.send(session("two")).await;
    peer.expect("resume").await;
    peer.send(json!({ "type": "request", "id": "q", "event": "sure", "data": null })).await;
    assert_eq!(peer.expect("ack").await["data"], true);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_answered_after_unsubscribing_is_given_up() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    let room = client.channel::<u64>("a");
    let subscribing = tokio::spawn(room.subscribe().into_future());
    let request = peer.expect("subscribe_channel").await;
    subscribe_by_server(&mut peer, 5).await;
    subscribing.await.unwrap().unwrap().keep();
    peer.send(json!({ "type": "unsubscribed", "channel": "a" })).await;
    peer.ack(&request, entry("a", 5)).await;
    let request = timeout(Duration::from_secs(5), peer.expect("unsubscribe_channel")).await.expect("the end");
    peer.ack(&request, Value::Null).await;
    settle().await;
    // The application on the server may subscribe it again.
    let mut messages = room.messages();
    subscribe_by_server(&mut peer, 5).await;
    peer.publication("a", 6).await;
    assert_eq!(content(&mut messages).await, 6);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_given_up_before_its_answer_is_ended_once() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    let room = client.channel::<u64>("a");
    let subscribing = tokio::spawn(room.subscribe().into_future());
    let request = peer.expect("subscribe_channel").await;
    let ending = tokio::spawn({
        let room = room.clone();
        async move { room.unsubscribe().await }
    });
    let end = peer.expect("unsubscribe_channel").await;
    peer.ack(&request, entry("a", 5)).await;
    peer.ack(&end, Value::Null).await;
    ending.await.unwrap().unwrap();
    assert!(subscribing.await.unwrap().is_err());
    assert!(timeout(Duration::from_secs(5), peer.next()).await.is_err(), "nothing more is asked");
}
