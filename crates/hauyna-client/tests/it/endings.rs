//! Things that must not come back, or not in silence: subscriptions of the server, tokens that never come,
//! channels that were given up, streams of a closed client.

use crate::script::{EPOCH, Subscribed, script, session, subscribed};
use crate::support::{content, next};
use hauyna_client::protocol::{Epoch, Position};
use hauyna_client::{GapReason, StreamError};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn an_unrestored_server_subscription_is_reported() {
    for is_resumed in [true, false] {
        let (mut script, builder) = script();
        let client = builder.connect().unwrap();
        let room = client.channel::<u64>("a");
        let mut messages = room.messages();
        let mut peer = script.greet("one").await;
        let position =
            json!({ "type": "subscribed", "channel": "a", "epoch": EPOCH, "offset": 1, "recoverable": true });
        peer.send(position).await;
        peer.publication("a", 2).await;
        assert_eq!(content(&mut messages).await, 2);
        drop(peer);
        let mut peer = script.accept().await;
        peer.expect("resume").await;
        let mut session = session("two");
        session["resumed"] = json!(is_resumed);
        if is_resumed {
            session["failed"] = json!([{ "channel": "a", "error_type": "permission_denied", "message": "",
                "temporary": false }]);
        }
        peer.send(session).await;
        let Err(StreamError::Gap(gap)) = next(&mut messages).await else { panic!("a gap") };
        assert_eq!((gap.reason, gap.from.unwrap().offset), (GapReason::Refused, 2));
        assert_eq!(room.position(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_channel_token_is_requested_again() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let source = move || {
        let hangs = calls.fetch_add(1, Ordering::Relaxed) == 1;
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
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
    for _ in 0..10 {
        let request = peer.next().await.expect("a client that lives");
        if request["type"] == "subscribe_channel" {
            return;
        }
        peer.send(json!({ "type": "pong", "id": request["id"] })).await;
    }
    panic!("the channel was never asked for");
}

#[tokio::test(start_paused = true)]
async fn a_temporarily_refused_unsubscription_is_repeated() {
    let Subscribed { script: _script, mut peer, client: _client, room, messages: _messages } =
        subscribed(1).await;
    let ending = tokio::spawn(async move { room.unsubscribe().await });
    let request = peer.expect("unsubscribe_channel").await;
    peer.send(json!({ "type": "error", "error_type": "rate_limited", "message": "", "timestamp": 1,
        "id": request["id"], "temporary": true, "details": { "retry_after": 100 } }))
        .await;
    assert!(ending.await.unwrap().is_err());
    let request = peer.expect("unsubscribe_channel").await;
    peer.ack(&request, Value::Null).await;
    assert!(tokio::time::timeout(Duration::from_secs(10), peer.next()).await.is_err(), "once is enough");
}

#[tokio::test(start_paused = true)]
async fn a_loss_of_a_subscription_that_the_server_kept_is_reported() {
    let Subscribed { mut script, mut peer, client: _client, room, mut messages } = subscribed(1).await;
    let room_clone = room.clone();
    let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
    let request = peer.expect("unsubscribe_channel").await;
    peer.send(json!({ "type": "error", "error_type": "rate_limited", "message": "", "timestamp": 1,
        "id": request["id"], "temporary": true, "details": { "retry_after": 60_000 } }))
        .await;
    assert!(ending.await.unwrap().is_err());
    let subscribing = tokio::spawn(room.subscribe().into_future());
    let request = peer.expect("subscribe_channel").await;
    peer.send(json!({ "type": "error", "error_type": "already_subscribed", "message": "", "timestamp": 1,
        "id": request["id"], "temporary": false }))
        .await;
    subscribing.await.unwrap().unwrap().keep();
    peer.publication("a", 2).await;
    assert_eq!(content(&mut messages).await, 2);
    drop(peer);
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    let mut session = session("two");
    session["resumed"] = json!(true);
    session["subscriptions"] = json!([{ "channel": "a", "epoch": EPOCH, "offset": 3, "recoverable": true,
        "recovered": false, "reason": "unknown_position" }]);
    peer.send(session).await;
    let Err(StreamError::Gap(gap)) = next(&mut messages).await else { panic!("a gap") };
    assert_eq!(gap.reason, GapReason::UnknownPosition, "nobody knows what was published meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_the_server_kept_catches_up_from_history() {
    let Subscribed { script: _script, mut peer, client: _client, room, mut messages } = subscribed(5).await;
    let since = room.position().unwrap();
    let room_clone = room.clone();
    let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
    let request = peer.expect("unsubscribe_channel").await;
    peer.send(json!({ "type": "error", "error_type": "rate_limited", "message": "", "timestamp": 1,
        "id": request["id"], "temporary": true, "details": { "retry_after": 60_000 } }))
        .await;
    assert!(ending.await.unwrap().is_err());
    peer.publication("a", 6).await;
    let subscribing = tokio::spawn(room.subscribe().since(since).into_future());
    let request = peer.expect("subscribe_channel").await;
    peer.send(json!({ "type": "error", "error_type": "already_subscribed", "message": "", "timestamp": 1,
        "id": request["id"], "temporary": false }))
        .await;
    subscribing.await.unwrap().unwrap().keep();
    peer.publication("a", 8).await;
    let answering = async {
        let request = peer.expect("history").await;
        assert_eq!(request["since"]["offset"], 5);
        let missed = [6, 7, 8].map(|offset| crate::script::publication("a", offset));
        peer.ack(&request, json!({ "channel": "a", "epoch": EPOCH, "offset": 8, "messages": missed })).await;
    };
    tokio::time::timeout(Duration::from_secs(5), answering).await.expect("the history is asked");
    for offset in 6..=8 {
        assert_eq!(content(&mut messages).await, offset);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_subscription_in_another_epoch_delivers_without_a_history() {
    for is_held in [false, true] {
        let Subscribed { script: _script, mut peer, client: _client, room, mut messages } =
            subscribed(1).await;
        let room_clone = room.clone();
        let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
        let request = peer.expect("unsubscribe_channel").await;
        peer.send(json!({ "type": "error", "error_type": "rate_limited", "message": "", "timestamp": 1,
            "id": request["id"], "temporary": true, "details": { "retry_after": 60_000 } }))
            .await;
        assert!(ending.await.unwrap().is_err());
        let since = Position { epoch: Epoch::new(7), offset: 46 };
        let subscribing = tokio::spawn(room.subscribe().since(since).into_future());
        let request = peer.expect("subscribe_channel").await;
        peer.send(
            json!({ "type": "error", "error_type": "already_subscribed", "message": "", "timestamp": 1,
            "id": request["id"], "temporary": false }),
        )
        .await;
        subscribing.await.unwrap().unwrap().keep();
        let history = peer.expect("history").await;
        if is_held {
            peer.publication("a", 2).await;
        }
        peer.refuse_history(&history, "too_old").await;
        let Err(StreamError::Gap(_)) = next(&mut messages).await else { panic!("a gap") };
        for offset in if is_held { 3..=4 } else { 2..=3 } {
            peer.publication("a", offset).await;
        }
        for offset in if is_held { 2..=4 } else { 2..=3 } {
            let delivered = tokio::time::timeout(Duration::from_secs(5), content(&mut messages)).await;
            assert_eq!(delivered, Ok(offset));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_presence_list_after_unsubscribing_is_ignored() {
    let Subscribed { script: _script, mut peer, client: _client, room, messages: _messages } =
        subscribed(1).await;
    let ending = tokio::spawn({
        let room = room.clone();
        async move { room.unsubscribe().await }
    });
    let request = peer.expect("unsubscribe_channel").await;
    let bob =
        json!({ "status": "online", "metadata": {}, "joined_at": 1, "updated_at": 1, "connections": [] });
    peer.send(
        json!({ "type": "presence_state", "channel": "a", "count": 1, "users": { "bob": bob }, "offset": 1 }),
    )
    .await;
    peer.ack(&request, Value::Null).await;
    ending.await.unwrap().unwrap();
    assert_eq!(*room.presence(), hauyna_client::Presence::default());
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_a_closed_client_ends() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let _peer = script.greet("one").await;
    client.connected().await.unwrap();
    client.close().await;
    let mut messages = client.channel::<u64>("late").messages();
    let item = tokio::time::timeout(Duration::from_secs(60), messages.next()).await;
    assert!(matches!(item, Ok(None)), "{item:?}");
}

#[tokio::test(start_paused = true)]
async fn null_fields_of_a_session_count_as_absent() {
    for field in ["resumed", "resume", "heartbeat", "retry", "subscriptions", "failed", "expires_at"] {
        let (mut script, builder) = script();
        let client = builder.connect().unwrap();
        let mut peer = script.accept().await;
        let mut session = session("one");
        session[field] = Value::Null;
        peer.send(session).await;
        let connected = tokio::time::timeout(Duration::from_secs(5), client.connected()).await;
        assert!(connected.is_ok(), "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_publication_has_its_own_position_while_later_ones_wait() {
    let Subscribed { script: _script, mut peer, client: _client, room, mut messages } = subscribed(1).await;
    for offset in 2..=6 {
        peer.publication("a", offset).await;
    }
    let first = next(&mut messages).await.unwrap();
    while room.position().unwrap().offset < 6 {
        tokio::task::yield_now().await;
    }
    let position = first.position.unwrap();
    assert_eq!(
        (position.epoch.to_string().as_str(), position.offset),
        (EPOCH, 2),
        "what was read, not what was received"
    );
}
