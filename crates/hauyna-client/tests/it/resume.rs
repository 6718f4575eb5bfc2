//! The use of the session's token, against a script that checks every message.

use crate::script::{EPOCH, script, session};
use crate::support::{content, next};
use hauyna_client::{Error, GapReason, StreamError};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

/// A `session` message that resumes, with the state of the channel `a`.
fn resumed(token: &str, entry: &Value) -> Value {
    let mut session = session(token);
    session["resumed"] = json!(true);
    session["subscriptions"] = json!([entry]);
    session
}

fn recovered(offset: u64) -> Value {
    json!({ "channel": "a", "epoch": EPOCH, "offset": offset, "recoverable": true, "recovered": true })
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_sends_the_token_and_positions_at_once() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let mut messages = room.messages();
    let mut peer = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), peer.subscribe("a", 4));
    let subscribed = subscribed.unwrap();
    assert_eq!(subscribed.position().unwrap().offset, 4);
    peer.publication("a", 5).await;
    assert_eq!(content(&mut messages).await, 5);
    drop(peer);

    let mut peer = script.accept().await;
    assert_eq!(peer.protocols, ["hauyna.v1.json", "hauyna.resume.one"]);
    let resume = peer.expect("resume").await;
    assert_eq!(resume["positions"], json!({ "a": { "epoch": EPOCH, "offset": 5 } }));
    peer.send(resumed("two", &recovered(7))).await;
    for offset in [5, 6, 7, 7, 8] {
        peer.publication("a", offset).await;
    }
    // A server never repeats an offset. If one does, the client requests the history to learn whether the
    // epoch has changed.
    let history = peer.expect("history").await;
    let messages_of = |offsets: [u64; 3]| offsets.map(|offset| crate::script::publication("a", offset));
    let page = json!({ "channel": "a", "epoch": EPOCH, "offset": 8, "messages": messages_of([6, 7, 8]) });
    peer.ack(&history, page).await;
    for offset in [6, 7, 8] {
        assert_eq!(content(&mut messages).await, offset, "each once, in order");
    }
    drop(peer);
    assert_eq!(script.accept().await.protocols[1], "hauyna.resume.two", "the token is a new one each time");
    assert!(client.session().unwrap().resumed);
}

#[tokio::test(start_paused = true)]
async fn a_resumed_session_repeats_interrupted_publications_first() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let mut peer = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), peer.subscribe("a", 0));
    subscribed.unwrap().keep();

    let first = tokio::spawn(room.publish(&1).into_future());
    let cut = peer.expect("channel_message").await;
    drop(peer);
    let mut peer = script.accept().await;
    let second = tokio::spawn(room.publish(&2).into_future());
    peer.expect("resume").await;
    peer.send(resumed("two", &recovered(0))).await;
    let again = peer.expect("channel_message").await;
    assert_eq!((&again["key"], &again["content"]), (&cut["key"], &json!(1)));
    assert_ne!(again["key"], Value::Null);
    let newer = peer.expect("channel_message").await;
    assert_eq!(newer["content"], 2);
    assert_ne!(newer["key"], again["key"]);
    peer.ack(&again, json!({ "epoch": EPOCH, "offset": 1 })).await;
    peer.ack(&newer, json!({ "epoch": EPOCH, "offset": 2 })).await;
    assert_eq!(first.await.unwrap().unwrap().unwrap().offset, 1);
    assert_eq!(second.await.unwrap().unwrap().unwrap().offset, 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_repetition_has_an_unknown_outcome() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let mut peer = script.greet("one").await;
    let publishing = tokio::spawn(room.publish(&1).into_future());
    peer.expect("channel_message").await;
    drop(peer);
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    let mut session = session("two");
    session["resumed"] = json!(true);
    peer.send(session).await;
    let request = peer.expect("channel_message").await;
    peer.send(json!({ "type": "error", "error_type": "rate_limited", "message": "", "timestamp": 1,
        "id": request["id"], "temporary": true }))
        .await;
    let error = publishing.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown), "it may have been published: {error}");
}

#[tokio::test(start_paused = true)]
async fn no_request_of_one_user_is_sent_as_another() {
    for is_guest in [false, true] {
        let (mut script, builder) = script();
        let builder = match is_guest {
            true => builder,
            false => builder.token(|| async { Ok::<_, String>("t".to_owned()) }),
        };
        let client = builder.connect().unwrap();
        let mut peer = script.greet("one").await;
        client.connected().await.unwrap();
        let cut = tokio::spawn(client.request::<u32>("count", &json!({})).repeatable().into_future());
        peer.expect("count").await;
        drop(peer);
        let dialled = script.raw().await;
        let waiting = tokio::spawn(client.request::<u32>("note", &json!({})).into_future());
        tokio::task::yield_now().await;
        drop(dialled);
        let mut peer = script.accept().await;
        peer.expect("resume").await;
        let later = tokio::spawn(client.request::<u32>("later", &json!({})).into_future());
        tokio::task::yield_now().await;
        let mut session = session("two");
        session["user"] = json!("bob");
        peer.send(session).await;
        if is_guest {
            for name in ["count", "note"] {
                let request = peer.expect(name).await;
                peer.ack(&request, json!(1)).await;
            }
        }
        let request = peer.expect("later").await;
        peer.ack(&request, json!(2)).await;
        assert_eq!(later.await.unwrap().unwrap(), 2);
        let (cut, waiting) = (cut.await.unwrap(), waiting.await.unwrap());
        match is_guest {
            true => assert_eq!((cut.unwrap(), waiting.unwrap()), (1, 1)),
            false => assert!(
                matches!((&cut, &waiting), (Err(Error::OutcomeUnknown), Err(Error::Expired))),
                "{cut:?}, {waiting:?}"
            ),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_from_just_before_a_sign_in_fail() {
    // The source that the task polls first depends on the number of polls, so the test tries several.
    for earlier in 0..7 {
        let (mut script, builder) = script();
        let user = Arc::new(Mutex::new("ana"));
        let user_clone = user.clone();
        let source = move || {
            let user = *user_clone.lock().unwrap();
            async move { Ok::<_, String>(user.to_owned()) }
        };
        let client = builder.token(source).connect().unwrap();
        let peer = script.greet("one").await;
        client.connected().await.unwrap();
        drop(peer);
        drop(script.raw().await);
        let at = loop {
            match client.retry_at() {
                Some(at) => break at,
                None => tokio::task::yield_now().await,
            }
        };
        let request = |name| tokio::spawn(client.request::<u32>(name, &json!({})).into_future());
        for _ in 0..earlier {
            drop(request("earlier"));
            tokio::task::yield_now().await;
        }
        // The next attempt is due at this moment.
        tokio::time::sleep_until(at).await;
        let mut waiting = client.request::<u32>("note", &json!({})).into_future();
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        *user.lock().unwrap() = "bob";
        let mut peer = script.accept().await;
        assert!(peer.protocols.iter().any(|item| item.ends_with("bob")), "{:?}", peer.protocols);
        peer.expect("resume").await;
        let mut session = session("two");
        session["user"] = json!("bob");
        peer.send(session).await;
        let answer = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        let error = answer.expect("an answer").unwrap_err();
        assert!(matches!(error, Error::Expired), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_made_while_the_token_source_waits_fail() {
    let (mut script, builder) = script();
    let (sign_in, signed_in) = tokio::sync::watch::channel(Some("ana"));
    let asked = Arc::new(tokio::sync::Notify::new());
    let asked_clone = asked.clone();
    let source = move || {
        asked_clone.notify_one();
        let mut signed_in = signed_in.clone();
        async move {
            let user = signed_in.wait_for(Option::is_some).await.map(|user| *user);
            user.map(|user| user.unwrap().to_owned())
        }
    };
    let client = builder.token(source).connect().unwrap();
    let peer = script.greet("one").await;
    client.connected().await.unwrap();
    asked.notified().await;
    sign_in.send_replace(None);
    drop(peer);
    asked.notified().await;
    let waiting = tokio::spawn(client.request::<u32>("note", &json!({})).into_future());
    tokio::task::yield_now().await;
    sign_in.send_replace(Some("bob"));
    let mut peer = script.accept().await;
    assert!(peer.protocols.iter().any(|item| item.ends_with("bob")), "{:?}", peer.protocols);
    peer.expect("resume").await;
    let later = tokio::spawn(client.request::<u32>("later", &json!({})).into_future());
    tokio::task::yield_now().await;
    let mut session = session("two");
    session["user"] = json!("bob");
    peer.send(session).await;
    let request = peer.expect("later").await;
    peer.ack(&request, json!(2)).await;
    assert_eq!(later.await.unwrap().unwrap(), 2);
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Expired), "{error}");
}

#[tokio::test(start_paused = true)]
async fn updated_metadata_is_not_used_for_another_user() {
    for (next_user, metadata) in [("ana", json!({ "muted": true })), ("bob", json!({ "device": "phone" }))] {
        let (mut script, builder) = script();
        let client = builder.token(|| async { Ok::<_, String>("t".to_owned()) }).connect().unwrap();
        let room = client.channel::<u64>("a");
        let mut peer = script.greet("one").await;
        let subscribing =
            tokio::spawn(room.subscribe().metadata(&json!({ "device": "phone" })).into_future());
        peer.subscribe("a", 1).await;
        subscribing.await.unwrap().unwrap().keep();
        let updating = tokio::spawn(room.presence().update(&json!({ "muted": true })).into_future());
        let request = peer.expect("update_presence").await;
        peer.ack(&request, Value::Null).await;
        updating.await.unwrap().unwrap();
        drop(peer);
        let mut peer = script.accept().await;
        peer.expect("resume").await;
        let mut session = session("two");
        session["user"] = json!(next_user);
        peer.send(session).await;
        assert_eq!(peer.expect("subscribe_channel").await["metadata"], metadata);
    }
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_event_is_repeated_only_if_repeatable() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let once = tokio::spawn(client.request::<()>("buy", &json!({})).into_future());
    let again = tokio::spawn(client.request::<u32>("count", &json!({})).repeatable().into_future());
    peer.expect("buy").await;
    peer.expect("count").await;
    drop(peer);
    assert!(matches!(once.await.unwrap(), Err(Error::OutcomeUnknown)));
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    peer.send(session("two")).await;
    let count = peer.expect("count").await;
    peer.ack(&count, json!(3)).await;
    assert_eq!(again.await.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn subscribing_again_keeps_omitted_options() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let mut peer = script.greet("one").await;
    let metadata = json!({ "device": "phone" });
    let (subscribed, ()) =
        tokio::join!(room.subscribe().metadata(&metadata).into_future(), peer.subscribe("a", 1));
    subscribed.unwrap().keep();
    room.subscribe().await.unwrap().keep();
    drop(peer);
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    assert_eq!(peer.expect("subscribe_channel").await["metadata"], metadata);
}

#[tokio::test(start_paused = true)]
async fn without_a_session_subscriptions_recover_before_requests_are_sent() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let mut messages = room.messages();
    let mut peer = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), peer.subscribe("a", 4));
    subscribed.unwrap().keep();
    let kept = tokio::spawn(room.publish(&1).into_future());
    peer.expect("channel_message").await;
    drop(peer);

    let mut peer = script.accept().await;
    peer.expect("resume").await;
    peer.send(session("two")).await;
    let request = peer.expect("subscribe_channel").await;
    assert_eq!(request["recover"], json!({ "epoch": EPOCH, "offset": 4 }));
    peer.ack(&request, recovered(4)).await;
    let again = peer.expect("channel_message").await;
    assert_eq!(again["content"], 1, "the epoch has not changed, so the server remembers the key");
    peer.ack(&again, json!({ "epoch": EPOCH, "offset": 5 })).await;
    kept.await.unwrap().unwrap();

    let lost = tokio::spawn(room.publish(&2).into_future());
    peer.expect("channel_message").await;
    drop(peer);
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    peer.send(session("three")).await;
    let request = peer.expect("subscribe_channel").await;
    let other = "zzNFZ4mrze8";
    let entry = json!({ "channel": "a", "epoch": other, "offset": 0, "recoverable": true, "recovered": false,
        "reason": "epoch_changed" });
    peer.ack(&request, entry).await;
    assert!(matches!(lost.await.unwrap(), Err(Error::OutcomeUnknown)), "that server has never seen the key");
    let gap = next(&mut messages).await.unwrap_err();
    assert!(matches!(gap, StreamError::Gap(gap) if gap.reason == GapReason::EpochChanged));
}

#[tokio::test(start_paused = true)]
async fn a_new_session_resumed_before_the_judgement_repeats_nothing() {
    for has_answered in [true, false] {
        let (mut script, builder) = script();
        let client = builder.connect().unwrap();
        let (room, other) = (client.channel::<u64>("a"), client.channel::<u64>("b"));
        let mut peer = script.greet("one").await;
        let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), peer.subscribe("a", 4));
        subscribed.unwrap().keep();
        let (subscribed, ()) = tokio::join!(other.subscribe().into_future(), peer.subscribe("b", 0));
        subscribed.unwrap().keep();
        let lost = tokio::spawn(room.publish(&1).into_future());
        peer.expect("channel_message").await;
        drop(peer);

        let mut peer = script.accept().await;
        peer.expect("resume").await;
        peer.send(session("two")).await;
        let mut entry = json!({ "channel": "a", "epoch": "zzNFZ4mrze8", "offset": 0, "recoverable": true,
            "recovered": false, "reason": "epoch_changed" });
        // The judgement waits for the other channel.
        for _ in 0..2 {
            let request = peer.expect("subscribe_channel").await;
            if has_answered && request["channel"] == "a" {
                peer.ack(&request, entry.clone()).await;
                entry["recovered"] = json!(true);
                entry.as_object_mut().unwrap().remove("reason");
            }
        }
        drop(peer);

        let mut peer = script.accept().await;
        peer.expect("resume").await;
        peer.send(resumed("three", &entry)).await;
        let request = peer.expect("subscribe_channel").await;
        assert_eq!(request["channel"], "b");
        peer.ack(
            &request,
            json!({ "channel": "b", "epoch": "zzNFZ4mrze8", "offset": 0, "recoverable": true,
            "recovered": false, "reason": "epoch_changed" }),
        )
        .await;
        assert!(matches!(lost.await.unwrap(), Err(Error::OutcomeUnknown)), "{has_answered}");
    }
}

#[tokio::test(start_paused = true)]
async fn unrecovered_messages_of_a_resumed_session_are_reported() {
    for (entry, reason) in [
        (json!({ "recoverable": true, "recovered": false, "reason": "too_old" }), GapReason::TooOld),
        (
            json!({ "recoverable": true, "recovered": false, "reason": "unknown_position" }),
            GapReason::UnknownPosition,
        ),
        (json!({ "recoverable": false }), GapReason::NotRecoverable),
        (json!({ "recoverable": true, "recovered": false, "reason": "of v2" }), GapReason::Other),
    ] {
        let (mut script, builder) = script();
        let client = builder.connect().unwrap();
        let room = client.channel::<u64>("a");
        let (mut messages, mut gaps) = (room.messages(), client.gaps());
        let mut peer = script.greet("one").await;
        let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), peer.subscribe("a", 4));
        subscribed.unwrap().keep();
        drop(peer);
        let mut peer = script.accept().await;
        peer.expect("resume").await;
        let mut whole = json!({ "channel": "a", "epoch": EPOCH, "offset": 90 });
        whole.as_object_mut().unwrap().append(entry.clone().as_object_mut().unwrap());
        peer.send(resumed("two", &whole)).await;
        peer.publication("a", 91).await;
        let gap = next(&mut gaps).await.unwrap();
        assert_eq!((gap.reason, gap.from.unwrap().offset, gap.to.unwrap().offset), (reason, 4, 90));
        assert!(matches!(next(&mut messages).await, Err(StreamError::Gap(same)) if same == gap));
        assert_eq!(content(&mut messages).await, 91, "and then the channel goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn server_subscriptions_catch_up_from_history() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("made");
    let mut messages = room.messages();
    let mut peer = script.greet("one").await;
    let made = |offset| json!({ "type": "subscribed", "channel": "made", "epoch": EPOCH, "offset": offset, "recoverable": true });
    peer.send(made(1)).await;
    peer.publication("made", 2).await;
    assert_eq!(content(&mut messages).await, 2);
    drop(peer);
    let mut peer = script.accept().await;
    assert_eq!(peer.expect("resume").await["positions"]["made"]["offset"], 2);
    peer.send(session("two")).await;
    peer.send(made(4)).await;
    peer.publication("made", 5).await;
    let history = peer.expect("history").await;
    assert_eq!(history["since"]["offset"], 2);
    let missed = [3, 4].map(|offset| crate::script::publication("made", offset));
    let data = json!({ "channel": "made", "epoch": EPOCH, "offset": 4, "messages": missed });
    peer.ack(&history, data).await;
    for offset in [3, 4, 5] {
        assert_eq!(content(&mut messages).await, offset);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_the_task_are_not_sent_as_another_user() {
    let (mut script, builder) = script();
    let user = Arc::new(Mutex::new("ana"));
    let user_clone = user.clone();
    let source = move || {
        let user = *user_clone.lock().unwrap();
        async move { Ok::<_, String>(user.to_owned()) }
    };
    let client = builder.token(source).connect().unwrap();
    let peer = script.greet("one").await;
    client.connected().await.unwrap();
    drop(peer);
    drop(script.raw().await);
    let at = loop {
        match client.retry_at() {
            Some(at) => break at,
            None => tokio::task::yield_now().await,
        }
    };
    tokio::time::sleep_until(at).await;
    // These are more calls than the task takes at once.
    let mut waiting: Vec<_> =
        (0..900).map(|_| client.request::<u32>("note", &json!({})).into_future()).collect();
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.iter_mut().all(|request| request.as_mut().poll(&mut context).is_pending()));
    *user.lock().unwrap() = "bob";
    let answers: Vec<_> = waiting.into_iter().map(tokio::spawn).collect();
    let mut peer = script.accept().await;
    let mut session = session("two");
    session["user"] = json!("bob");
    peer.send(session).await;
    peer.expect("resume").await;
    for answer in answers {
        let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
        let error = answer.expect("an answer").unwrap().unwrap_err();
        assert!(matches!(error, Error::Expired), "{error}");
    }
    assert!(peer.poll().is_none(), "nothing of ana's is sent");
}
