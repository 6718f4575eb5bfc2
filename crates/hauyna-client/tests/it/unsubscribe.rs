//! The end of subscriptions, against a scripted server.

use crate::script::{EPOCH, NEXT_EPOCH, Peer, Subscribed, publication, session, subscribed};
use crate::support::content;
use serde_json::{Value, json};
use std::time::Duration;

/// A `session` message that resumes, from a server that has not received the end of a subscription.
fn resumed() -> Value {
    let mut resumed = session("two");
    resumed["resumed"] = json!(true);
    resumed["subscriptions"] = json!([{ "channel": "a", "epoch": EPOCH, "offset": 2, "recoverable": true,
        "recovered": true }]);
    resumed
}

#[tokio::test(start_paused = true)]
async fn a_channel_given_up_while_disconnected_is_ended_on_resume() {
    let Subscribed { mut script, peer, client, room, mut messages } = subscribed(1).await;
    drop(peer);
    let dialled = script.raw().await;
    room.unsubscribe().await.unwrap();
    drop(dialled);
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    peer.send(resumed()).await;
    peer.publication("a", 2).await;
    let request = peer.expect("unsubscribe_channel").await;
    assert_eq!(request["channel"], "a");
    assert_eq!(room.position(), None);
    peer.ack(&request, Value::Null).await;
    client.connected().await.unwrap();
    // A new subscription starts at the current end, and publications from before are not delivered.
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), peer.subscribe("a", 7));
    let subscribed = subscribed.unwrap();
    assert_eq!(subscribed.position().unwrap().offset, 7);
    peer.send(publication("a", 8)).await;
    assert_eq!(content(&mut messages).await, 8);
}

#[tokio::test(start_paused = true)]
async fn a_channel_wanted_again_before_a_resume_is_kept() {
    let Subscribed { mut script, peer, room, client: _client, mut messages } = subscribed(1).await;
    drop(peer);
    let dialled = script.raw().await;
    room.unsubscribe().await.unwrap();
    let subscribing = tokio::spawn(room.subscribe().into_future());
    tokio::task::yield_now().await;
    drop(dialled);
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    peer.send(resumed()).await;
    subscribing.await.unwrap().unwrap().keep();
    peer.publication("a", 3).await;
    assert_eq!(content(&mut messages).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_loss_completes_a_pending_unsubscription() {
    let Subscribed { mut script, mut peer, room, client: _client, messages: _messages } = subscribed(1).await;
    let ending = tokio::spawn({
        let room = room.clone();
        async move { room.unsubscribe().await }
    });
    peer.expect("unsubscribe_channel").await;
    drop(peer);
    ending.await.unwrap().unwrap();
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    peer.send(resumed()).await;
    peer.expect("unsubscribe_channel").await;
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_does_not_affect_the_next_subscription() {
    let Subscribed { mut peer, room, client: _client, mut messages, .. } = subscribed(1).await;
    let (ended, ()) = tokio::join!(room.unsubscribe(), async {
        let request = peer.expect("unsubscribe_channel").await;
        peer.ack(&request, Value::Null).await;
    });
    ended.unwrap();
    let first = tokio::spawn(room.subscribe().into_future());
    let refused = peer.expect("subscribe_channel").await;
    let ending = tokio::spawn({
        let room = room.clone();
        async move { room.unsubscribe().await }
    });
    let request = peer.expect("unsubscribe_channel").await;
    assert!(first.await.unwrap().is_err());
    let second = tokio::spawn(room.subscribe().into_future());
    let granted = peer.expect("subscribe_channel").await;
    peer.send(json!({ "type": "error", "error_type": "permission_denied", "message": "", "timestamp": 1,
        "id": refused["id"], "temporary": false }))
        .await;
    peer.send(json!({ "type": "error", "error_type": "not_subscribed", "message": "", "timestamp": 1,
        "id": request["id"], "temporary": false }))
        .await;
    peer.ack(&granted, json!({ "channel": "a", "epoch": EPOCH, "offset": 4, "recoverable": true })).await;
    ending.await.unwrap().unwrap();
    let second = second.await.unwrap().unwrap();
    assert_eq!(second.position().unwrap().offset, 4);
    peer.publication("a", 5).await;
    assert_eq!(content(&mut messages).await, 5);
}

/// A refusal of the end of a subscription, or of the next one.
fn refusal(request: &Value, error_type: &str) -> Value {
    json!({ "type": "error", "error_type": error_type, "message": "", "timestamp": 1, "id": request["id"],
        "temporary": error_type == "rate_limited", "details": { "retry_after": 60_000 } })
}

#[tokio::test(start_paused = true)]
async fn an_epoch_change_of_a_given_up_subscription_does_not_affect_the_next() {
    for is_kept in [false, true] {
        let Subscribed { script: _script, mut peer, room, client: _client, mut messages } =
            subscribed(1).await;
        let since = room.position().unwrap();
        for offset in [2, 3] {
            peer.publication("a", offset).await;
            assert_eq!(content(&mut messages).await, offset);
        }
        let room_clone = room.clone();
        let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
        let end = peer.expect("unsubscribe_channel").await;
        let subscribing = tokio::spawn(room.subscribe().since(since).into_future());
        let request = peer.expect("subscribe_channel").await;
        let mut next = json!({ "type": "subscribed", "channel": "a", "epoch": NEXT_EPOCH, "offset": 3,
            "recoverable": true, "recovered": true });
        peer.send(next.clone()).await;
        if is_kept {
            peer.send(refusal(&end, "rate_limited")).await;
            peer.send(refusal(&request, "already_subscribed")).await;
            let history = tokio::time::timeout(Duration::from_secs(5), peer.expect("history")).await;
            let history = history.expect("the history is asked");
            assert_eq!(history["since"], json!({ "epoch": EPOCH, "offset": 1 }));
            let missed = [2, 3].map(|offset| publication("a", offset));
            let page = json!({ "channel": "a", "epoch": NEXT_EPOCH, "offset": 3, "messages": missed });
            peer.ack(&history, page).await;
        } else {
            peer.ack(&end, Value::Null).await;
            next["offset"] = json!(4);
            peer.ack(&request, next).await;
            peer.publication("a", 2).await;
            peer.publication("a", 3).await;
        }
        peer.publication("a", 4).await;
        for offset in 2..=4 {
            assert_eq!(content(&mut messages).await, offset, "{is_kept}");
        }
        assert_eq!(ending.await.unwrap().is_err(), is_kept);
        subscribing.await.unwrap().unwrap().keep();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_subscription_about_to_end_is_not_taken_for_the_next() {
    let Subscribed { script: _script, mut peer, room, client: _client, mut messages } = subscribed(1).await;
    let room_clone = room.clone();
    let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
    let end = peer.expect("unsubscribe_channel").await;
    let (give, given) = tokio::sync::watch::channel(false);
    let token = move || {
        let mut given = given.clone();
        async move { given.wait_for(|given| *given).await.map(|_| "t".to_owned()) }
    };
    let subscribing = tokio::spawn(room.subscribe().token(token).into_future());
    tokio::task::yield_now().await;
    peer.send(
        json!({ "type": "subscribed", "channel": "a", "epoch": EPOCH, "offset": 1, "recoverable": true }),
    )
    .await;
    peer.ack(&end, Value::Null).await;
    ending.await.unwrap().unwrap();
    give.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(5), peer.subscribe("a", 3)).await.expect("it is asked for");
    subscribing.await.unwrap().unwrap().keep();
    peer.publication("a", 4).await;
    assert_eq!(content(&mut messages).await, 4);
}

/// Waits until the client has nothing more to do.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Whether the client has sent nothing but pings.
fn is_silent(peer: &mut Peer) -> bool {
    std::iter::from_fn(|| peer.poll()).all(|message| message["type"] == "ping")
}

#[tokio::test(start_paused = true)]
async fn a_channel_given_up_before_its_request_is_not_unsubscribed() {
    let Subscribed { script: _script, mut peer, client, .. } = subscribed(1).await;
    // Its token never comes.
    let token = || std::future::pending::<Result<String, std::io::Error>>();
    let room = client.channel::<u64>("b");
    let subscribing = tokio::spawn(room.subscribe().token(token).into_future());
    settle().await;
    room.unsubscribe().await.unwrap();
    assert!(subscribing.await.unwrap().is_err());
    // The maximum is in flight, so the others wait.
    let rooms: Vec<_> = (0..40).map(|n| client.channel::<u64>(&format!("c{n:02}"))).collect();
    let asked: Vec<_> = rooms.iter().map(|room| tokio::spawn(room.subscribe().into_future())).collect();
    settle().await;
    let mut first = Vec::new();
    while let Some(request) = peer.poll() {
        assert_eq!(request["type"], "subscribe_channel", "{request}");
        first.push(request);
    }
    assert_eq!(first.len(), 16);
    for ask in asked {
        ask.abort();
    }
    settle().await;
    assert!(is_silent(&mut peer), "an end waits for the answer to its subscription");
    for request in &first {
        peer.ack(request, json!({ "channel": request["channel"], "recoverable": false })).await;
    }
    settle().await;
    let first: Vec<_> = first.iter().map(|request| request["channel"].clone()).collect();
    let ended: Vec<_> = std::iter::from_fn(|| peer.poll()).collect();
    assert!(ended.iter().all(|request| request["type"] == "unsubscribe_channel"), "{ended:?}");
    let ended: Vec<_> = ended.iter().map(|request| request["channel"].clone()).collect();
    assert_eq!(ended, first);
}

#[tokio::test(start_paused = true)]
async fn a_refused_unsubscription_is_repeated_on_the_next_call() {
    let Subscribed { script: _script, mut peer, room, client: _client, .. } = subscribed(1).await;
    let (ended, ()) = tokio::join!(room.unsubscribe(), async {
        let end = peer.expect("unsubscribe_channel").await;
        peer.send(refusal(&end, "rate_limited")).await;
    });
    assert!(ended.is_err());
    let token = || std::future::pending::<Result<String, std::io::Error>>();
    let subscribing = tokio::spawn(room.subscribe().token(token).into_future());
    settle().await;
    let (ended, ()) = tokio::join!(room.unsubscribe(), async {
        let end = peer.expect("unsubscribe_channel").await;
        peer.ack(&end, Value::Null).await;
    });
    ended.unwrap();
    assert!(subscribing.await.unwrap().is_err());
    // A subscription that has ended is not ended again.
    let token = || std::future::pending::<Result<String, std::io::Error>>();
    let subscribing = tokio::spawn(room.subscribe().token(token).into_future());
    settle().await;
    room.unsubscribe().await.unwrap();
    assert!(subscribing.await.unwrap().is_err());
    assert!(is_silent(&mut peer));
}

#[tokio::test(start_paused = true)]
async fn a_channel_given_up_twice_is_not_live_before_its_end() {
    let Subscribed { script: _script, mut peer, room, client: _client, mut messages } = subscribed(1).await;
    let room_clone = room.clone();
    let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
    let end = peer.expect("unsubscribe_channel").await;
    let token = || std::future::pending::<Result<String, std::io::Error>>();
    let subscribing = tokio::spawn(room.subscribe().token(token).into_future());
    settle().await;
    room.unsubscribe().await.unwrap();
    assert!(subscribing.await.unwrap().is_err());
    peer.send(json!({ "type": "subscribed", "channel": "a", "epoch": NEXT_EPOCH, "offset": 1,
        "recoverable": true, "recovered": true }))
        .await;
    peer.ack(&end, Value::Null).await;
    ending.await.unwrap().unwrap();
    settle().await;
    while let Some(again) = peer.poll() {
        peer.send(refusal(&again, "not_subscribed")).await;
    }
    let subscribing = tokio::spawn(room.subscribe().into_future());
    tokio::time::timeout(Duration::from_secs(5), peer.subscribe("a", 3)).await.expect("it is asked for");
    subscribing.await.unwrap().unwrap().keep();
    peer.publication("a", 4).await;
    assert_eq!(content(&mut messages).await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_refused_unsubscription_is_repeated_after_a_refused_subscription() {
    for is_end_answered_first in [true, false] {
        let Subscribed { script: _script, mut peer, room, client: _client, .. } = subscribed(1).await;
        let room_clone = room.clone();
        let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
        let end = peer.expect("unsubscribe_channel").await;
        if is_end_answered_first {
            peer.send(refusal(&end, "rate_limited")).await;
            settle().await;
        }
        let subscribing = tokio::spawn(room.subscribe().into_future());
        let again = peer.expect("subscribe_channel").await;
        if !is_end_answered_first {
            peer.send(refusal(&end, "rate_limited")).await;
        }
        peer.send(refusal(&again, "rate_limited")).await;
        settle().await;
        assert!(ending.await.unwrap().is_err());
        let (ended, ()) = tokio::join!(room.unsubscribe(), async {
            let end =
                tokio::time::timeout(Duration::from_millis(10), peer.expect("unsubscribe_channel")).await;
            peer.ack(&end.expect("the server has it still"), Value::Null).await;
        });
        ended.unwrap();
        assert!(subscribing.await.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_unsubscription_is_repeated_after_a_permanent_refusal() {
    let Subscribed { script: _script, mut peer, room, client: _client, .. } = subscribed(1).await;
    let (ended, ()) = tokio::join!(room.unsubscribe(), async {
        let end = peer.expect("unsubscribe_channel").await;
        peer.send(refusal(&end, "rate_limited")).await;
    });
    assert!(ended.is_err());
    let subscribing = tokio::spawn(room.subscribe().into_future());
    let again = peer.expect("subscribe_channel").await;
    peer.send(refusal(&again, "permission_denied")).await;
    assert!(subscribing.await.unwrap().is_err());
    let end = tokio::time::timeout(Duration::from_millis(10), peer.expect("unsubscribe_channel")).await;
    peer.ack(&end.expect("the server has it still"), Value::Null).await;
    settle().await;
    assert!(is_silent(&mut peer));
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_of_a_given_up_channel_pauses_the_others() {
    let Subscribed { script: _script, mut peer, client, .. } = subscribed(1).await;
    let (given_up, other) = (client.channel::<u64>("b"), client.channel::<u64>("c"));
    let subscribing = tokio::spawn(given_up.subscribe().into_future());
    let refused = peer.expect("subscribe_channel").await;
    let ending = tokio::spawn(async move { given_up.unsubscribe().await });
    settle().await;
    peer.send(refusal(&refused, "rate_limited")).await;
    ending.await.unwrap().unwrap();
    assert!(subscribing.await.unwrap().is_err());
    let subscribing = tokio::spawn(other.subscribe().into_future());
    settle().await;
    assert!(is_silent(&mut peer));
    tokio::time::advance(Duration::from_secs(60)).await;
    let request = loop {
        let request = peer.next().await.unwrap();
        match request["type"] == "ping" {
            true => peer.send(json!({ "type": "pong", "id": request["id"] })).await,
            false => break request,
        }
    };
    assert_eq!((&request["type"], &request["channel"]), (&json!("subscribe_channel"), &json!("c")));
    peer.ack(&request, json!({ "channel": "c", "epoch": EPOCH, "offset": 1, "recoverable": true })).await;
    subscribing.await.unwrap().unwrap().keep();
}

#[tokio::test(start_paused = true)]
async fn refused_given_up_subscriptions_are_not_unsubscribed() {
    let Subscribed { script: _script, mut peer, client, .. } = subscribed(1).await;
    let rooms: Vec<_> = (0..16).map(|n| client.channel::<u64>(&format!("c{n:02}"))).collect();
    let asked: Vec<_> = rooms.iter().map(|room| tokio::spawn(room.subscribe().into_future())).collect();
    let mut requests = Vec::new();
    for _ in &rooms {
        requests.push(peer.expect("subscribe_channel").await);
    }
    let ending: Vec<_> =
        rooms.into_iter().map(|room| tokio::spawn(async move { room.unsubscribe().await })).collect();
    settle().await;
    // A request to end a subscription that does not exist counts as an error of the client, for which a
    // strict server soon closes the connection permanently.
    for request in &requests {
        peer.send(refusal(request, "rate_limited")).await;
    }
    for ending in ending {
        ending.await.unwrap().unwrap();
    }
    for asked in asked {
        assert!(asked.await.unwrap().is_err());
    }
    settle().await;
    assert!(is_silent(&mut peer));
}

#[tokio::test(start_paused = true)]
async fn a_channel_wanted_again_is_requested_after_its_end() {
    for (answer, is_ended) in
        [("", true), ("already_subscribed", true), ("rate_limited", false), ("permission_denied", false)]
    {
        let Subscribed { script: _script, mut peer, client, .. } = subscribed(1).await;
        let room = client.channel::<u64>("b");
        let former = tokio::spawn(room.subscribe().into_future());
        let request = peer.expect("subscribe_channel").await;
        let room_clone = room.clone();
        let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
        settle().await;
        let again = tokio::spawn(room.subscribe().into_future());
        settle().await;
        assert!(is_silent(&mut peer), "{answer}");
        match answer {
            "" => peer.ack(&request, json!({ "channel": "b", "recoverable": false })).await,
            error => peer.send(refusal(&request, error)).await,
        }
        if is_ended {
            let end = peer.expect("unsubscribe_channel").await;
            peer.ack(&end, Value::Null).await;
        }
        if answer == "rate_limited" {
            settle().await;
            assert!(is_silent(&mut peer));
            tokio::time::advance(Duration::from_secs(60)).await;
            settle().await;
            while let Some(message) = peer.poll() {
                if message["type"] == "ping" {
                    peer.send(json!({ "type": "pong", "id": message["id"] })).await;
                    continue;
                }
                assert_eq!(message["type"], "subscribe_channel");
                peer.ack(
                    &message,
                    json!({ "channel": "b", "offset": 3, "epoch": EPOCH, "recoverable": true }),
                )
                .await;
            }
        } else {
            peer.subscribe("b", 3).await;
        }
        ending.await.unwrap().unwrap();
        assert!(former.await.unwrap().is_err());
        assert_eq!(again.await.unwrap().unwrap().position().unwrap().offset, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_subscription_blocks_neither_its_end_nor_the_next() {
    let Subscribed { script: _script, mut peer, client, .. } = subscribed(1).await;
    let room = client.channel::<u64>("b");
    let _former = tokio::spawn(room.subscribe().into_future());
    let request = peer.expect("subscribe_channel").await;
    let room_clone = room.clone();
    let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
    settle().await;
    let again = tokio::spawn(room.subscribe().into_future());
    // The test waits until the client sends a message.
    let end = peer.expect("unsubscribe_channel").await;
    let next = peer.expect("subscribe_channel").await;
    peer.ack(&request, json!({ "channel": "b", "recoverable": false })).await;
    peer.ack(&end, Value::Null).await;
    peer.ack(&next, json!({ "channel": "b", "epoch": EPOCH, "offset": 3, "recoverable": true })).await;
    ending.await.unwrap().unwrap();
    let subscription = again.await.unwrap().unwrap();
    assert_eq!(subscription.position().unwrap().offset, 3);
    settle().await;
    assert!(is_silent(&mut peer));
}

#[tokio::test(start_paused = true)]
async fn a_loss_answers_waiting_unsubscriptions() {
    let Subscribed { script: _script, mut peer, client, .. } = subscribed(1).await;
    let room = client.channel::<u64>("b");
    let _asked = tokio::spawn(room.subscribe().into_future());
    peer.expect("subscribe_channel").await;
    let ending = tokio::spawn(async move { room.unsubscribe().await });
    settle().await;
    drop(peer);
    ending.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn updated_metadata_of_an_ended_subscription_is_not_reused() {
    let Subscribed { mut script, mut peer, client: _client, room, .. } = subscribed(1).await;
    let room_clone = room.clone();
    let updating =
        tokio::spawn(
            async move { room_clone.presence().update(&json!({ "typing": true })).into_future().await },
        );
    let update = peer.expect("update_presence").await;
    let room_clone = room.clone();
    let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
    let end = peer.expect("unsubscribe_channel").await;
    let subscribing = tokio::spawn(room.subscribe().metadata(&json!({ "device": "phone" })).into_future());
    let request = peer.expect("subscribe_channel").await;
    assert_eq!(request["metadata"], json!({ "device": "phone" }));
    peer.ack(&update, Value::Null).await;
    peer.ack(&end, Value::Null).await;
    peer.ack(&request, json!({ "channel": "a", "epoch": EPOCH, "offset": 1, "recoverable": true })).await;
    updating.await.unwrap().unwrap();
    ending.await.unwrap().unwrap();
    subscribing.await.unwrap().unwrap().keep();
    drop(peer);
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    peer.send(session("two")).await;
    assert_eq!(peer.expect("subscribe_channel").await["metadata"], json!({ "device": "phone" }));
}
