//! Servers that break the protocol: unsolicited answers, pages in circles, names and numbers without bounds.
//! The damage stays local. Scripted, on a paused clock.

use crate::log::Log;
use crate::script::{EPOCH, Peer, Subscribed, publication, script, subscribed};
use crate::support::{builder, content, next, server};
use hauyna_client::protocol::{Epoch, Position};
use hauyna_client::{Builder, Error, StreamError};
use hauyna_test::TestServer;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::time::Duration;

fn refused(error_type: &str) -> Value {
    json!({ "type": "error", "error_type": error_type, "message": "", "timestamp": 1, "temporary": true })
}

#[tokio::test(start_paused = true)]
async fn a_repeated_history_page_ends_the_stream_with_an_error() {
    let Subscribed { mut peer, client: _client, room, .. } = subscribed(9).await;
    let reading = tokio::spawn(async move {
        let (mut older, mut told) = (room.older(), Vec::new());
        while let Some(item) = older.next().await {
            told.push(item.map(|publication| publication.content));
        }
        told
    });
    let page = json!({ "channel": "a", "epoch": EPOCH, "offset": 9, "oldest": 1,
        "messages": [publication("a", 9), publication("a", 8)] });
    for _ in 0..2 {
        let request = peer.expect("history").await;
        peer.ack(&request, page.clone()).await;
    }
    let told = tokio::select! {
        told = reading => told.unwrap(),
        request = peer.expect("history") => panic!("it asks for ever: {request}"),
    };
    assert!(matches!(told.as_slice(), [Ok(9), Ok(8), Err(Error::Unreadable(_))]), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn unreadable_history_contents_do_not_end_the_stream() {
    let Subscribed { mut peer, client: _client, room, .. } = subscribed(3).await;
    let reading = tokio::spawn(async move {
        let (mut older, mut told) = (room.older(), Vec::new());
        while let Some(item) = older.next().await {
            told.push(item.map(|publication| publication.content));
        }
        told
    });
    let mut messages = [3, 2, 1].map(|offset| publication("a", offset));
    messages[1]["content"] = json!("of another type");
    let request = peer.expect("history").await;
    peer.ack(
        &request,
        json!({ "channel": "a", "epoch": EPOCH, "offset": 3, "oldest": 1, "messages": messages }),
    )
    .await;
    let told = reading.await.unwrap();
    assert!(matches!(told.as_slice(), [Ok(3), Err(Error::Unreadable(_)), Ok(1)]), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pong_answers_no_subscription() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    let room = client.channel::<u64>("a");
    let subscribing = tokio::spawn(room.subscribe().into_future());
    let request = peer.expect("subscribe_channel").await;
    peer.send(json!({ "type": "pong", "id": request["id"] })).await;
    let data = json!({ "channel": "a", "epoch": EPOCH, "offset": 3, "recoverable": true });
    for _ in 0..2 {
        peer.ack(&request, data.clone()).await;
    }
    subscribing.await.unwrap().unwrap().keep();
    assert_eq!(room.position().unwrap().offset, 3);
}

#[tokio::test(start_paused = true)]
async fn unsolicited_errors_are_one_short_warning_per_kind() {
    let (log, _guard) = Log::capture();
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut errors = client.errors();
    let mut peer = script.greet("one").await;
    for _ in 0..10 {
        for kind in ["rate_limited", "permission_denied", "not_subscribed"] {
            peer.send(refused(kind)).await;
        }
    }
    for n in 0..1_000 {
        peer.send(refused(&format!("{n}{}", "x".repeat(300)))).await;
    }
    settle(&client, &mut peer).await;
    let Some(Err(StreamError::Missed(missed))) = errors.next().await else {
        panic!("more than wait for a reader")
    };
    assert_eq!(missed, 1_030 - 1_024, "the application hears of each");
    assert!(next(&mut errors).await.unwrap().temporary);
    let warned = log.lines("WARN");
    assert!((3..=20).contains(&warned.len()), "{}", warned.len());
    assert!(log.text().lines().all(|line| line.len() < 300), "a line holds what a server says in full");
}

#[tokio::test(start_paused = true)]
async fn invalid_messages_are_one_warning_per_connection() {
    let (log, _guard) = Log::capture();
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    for _ in 0..20 {
        peer.send(json!([1, 2, 3])).await;
    }
    settle(&client, &mut peer).await;
    assert_eq!(log.lines("WARN").len(), 1, "{:#?}", log.lines("WARN"));
}

/// Waits until the client has read everything.
async fn settle(client: &hauyna_client::Client, peer: &mut Peer) {
    client.reconnect().await.unwrap();
    peer.expect("ping").await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_stream_after_an_unechoed_publication_is_reported() {
    let Subscribed { mut peer, client: _client, script: _script, room, mut messages } = subscribed(0).await;
    let publishing = tokio::spawn(room.publish(&7).echo(false).into_future());
    let request = peer.expect("channel_message").await;
    peer.ack(&request, json!({ "epoch": EPOCH, "offset": 1 })).await;
    publishing.await.unwrap().unwrap();
    assert_eq!(room.position(), Some(Position { epoch: Epoch::parse(EPOCH), offset: 1 }));
    // The next publication has the same offset, so it belongs to another epoch that was not announced.
    peer.publication("a", 1).await;
    let history = tokio::time::timeout(Duration::from_secs(5), peer.expect("history")).await;
    peer.refuse_history(&history.expect("the history knows"), "epoch_changed").await;
    assert!(matches!(next(&mut messages).await, Err(StreamError::Gap(_))));
    assert_eq!(content(&mut messages).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_too_large_for_a_proxy_fails_no_other_request() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    let room = client.channel::<u64>("a");
    let subscribing =
        tokio::spawn(room.subscribe().metadata(&json!({ "text": "x".repeat(3_000) })).into_future());
    peer.expect("subscribe_channel").await;
    let small = tokio::spawn(client.request::<()>("small", &json!({})).repeatable().into_future());
    peer.expect("small").await;
    peer.close(1009).await;
    let error = subscribing.await.unwrap().unwrap_err();
    assert_eq!(error.error_type(), Some(hauyna_client::protocol::ErrorType::PayloadTooLarge));
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    let request = peer.expect("small").await;
    peer.ack(&request, Value::Null).await;
    small.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn pauses_named_by_a_server_are_capped_at_a_minute() {
    for retry_after in [json!(u64::MAX), json!(86_400_000), json!(1e300), json!(-5), json!("soon")] {
        let (mut script, builder) = script();
        let client = builder.ttl(Duration::from_secs(600)).connect().unwrap();
        let mut peer = script.greet("one").await;
        let room = client.channel::<u64>("a");
        let subscribing = tokio::spawn(room.subscribe().into_future());
        let request = peer.expect("subscribe_channel").await;
        let mut refusal = refused("rate_limited");
        refusal["id"] = request["id"].clone();
        refusal["details"] = json!({ "retry_after": retry_after });
        peer.send(refusal).await;
        let began = tokio::time::Instant::now();
        loop {
            let request = peer.next().await.expect("a client that is there");
            if request["type"] == "subscribe_channel" {
                let data = json!({ "channel": "a", "epoch": EPOCH, "offset": 3, "recoverable": true });
                break peer.ack(&request, data).await;
            }
            peer.send(json!({ "type": "pong", "id": request["id"] })).await;
        }
        assert!(began.elapsed() <= Duration::from_secs(61), "{retry_after}: {:?}", began.elapsed());
        subscribing.await.unwrap().unwrap().keep();
    }
}

#[tokio::test(start_paused = true)]
async fn an_epoch_change_after_a_history_page_is_reported() {
    let Subscribed { mut peer, client: _client, script: _script, room: _room, mut messages } =
        subscribed(0).await;
    peer.send(json!({ "type": "gap", "channel": "a", "epoch": EPOCH, "offset": 0, "missed": 3 })).await;
    let history = peer.expect("history").await;
    let page: Vec<_> = (1..=3).map(|offset| publication("a", offset)).collect();
    let data = json!({ "channel": "a", "epoch": EPOCH, "offset": 3, "oldest": 1, "messages": page });
    peer.ack(&history, data).await;
    for offset in 1..=3 {
        assert_eq!(content(&mut messages).await, offset);
    }
    // The stream restarts its numbering without notice.
    let mut first = publication("a", 1);
    (first["content"], first["timestamp"]) = (json!(77), json!(9));
    peer.send(first).await;
    let history = tokio::time::timeout(Duration::from_secs(5), peer.expect("history")).await;
    let history = history.expect("the history knows");
    assert_eq!(history["since"], json!({ "epoch": EPOCH, "offset": 3 }));
    peer.refuse_history(&history, "epoch_changed").await;
    assert!(matches!(next(&mut messages).await, Err(StreamError::Gap(_))));
    assert_eq!(content(&mut messages).await, 77);
}

#[tokio::test(start_paused = true)]
async fn live_messages_that_a_page_had_are_no_epoch_change() {
    let Subscribed { mut peer, client: _client, script: _script, room: _room, mut messages } =
        subscribed(0).await;
    peer.send(json!({ "type": "gap", "channel": "a", "epoch": EPOCH, "offset": 0, "missed": 1 })).await;
    let history = peer.expect("history").await;
    let page: Vec<_> = (1..=3).map(|offset| publication("a", offset)).collect();
    let data = json!({ "channel": "a", "epoch": EPOCH, "offset": 3, "oldest": 1, "messages": page });
    peer.ack(&history, data).await;
    for offset in 1..=4 {
        peer.publication("a", offset).await;
    }
    for offset in 1..=4 {
        assert_eq!(content(&mut messages).await, offset, "each once");
    }
    assert_eq!(peer.expect("ping").await["type"], "ping", "the history is not asked again");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_read_is_not_answered_forever() {
    let (mut script, builder) = script();
    let builder = builder.on_request("all", |_: Value| async { Ok::<_, String>("x".repeat(100_000)) });
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let question = json!({ "type": "request", "id": 1, "event": "all", "data": "x".repeat(10_000) });
    for _ in 0..1_000 {
        if tokio::time::timeout(Duration::from_secs(1), peer.send(question.clone())).await.is_err() {
            return;
        }
    }
    panic!("the client takes in a hundred megabytes of answers");
}

#[tokio::test(start_paused = true)]
async fn an_unwritable_session_token_starts_a_new_session() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let peer = script.greet("two words").await;
    client.connected().await.unwrap();
    drop(peer);
    let peer = tokio::time::timeout(Duration::from_secs(60), script.greet("one")).await;
    let peer = peer.expect("another attempt");
    assert!(!peer.protocols.iter().any(|protocol| protocol.starts_with("hauyna.resume.")));
    client.connected().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_count_that_differs_from_the_list_requests_it() {
    let Subscribed { mut peer, client: _client, script: _script, room, .. } = subscribed(1).await;
    let ana =
        json!({ "status": "online", "metadata": {}, "joined_at": 1, "updated_at": 1, "connections": [] });
    let state =
        json!({ "type": "presence_state", "channel": "a", "count": 1, "users": { "ana": ana }, "offset": 1 });
    peer.send(state).await;
    peer.send(json!({ "type": "presence_diff", "channel": "a", "count": 2, "joins": {}, "leaves": [],
        "updates": {}, "offset": 2 }))
        .await;
    let request = peer.expect("presence").await;
    let page = json!({ "channel": "a", "count": 2, "users": { "ana": ana, "bob": ana }, "offset": 2 });
    peer.ack(&request, page).await;
    peer.expect("ping").await;
    assert_eq!(room.presence().users.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_list_is_not_requested_for_every_change() {
    let lasting = json!({ "error_type": "permission_denied", "temporary": false });
    let passing =
        json!({ "error_type": "rate_limited", "temporary": true, "details": { "retry_after": 10_000 } });
    for (refusal, asked_later) in [(lasting, 0), (passing, 1)] {
        let Subscribed { mut peer, client, script: _script, room, .. } = subscribed(1).await;
        let ana =
            json!({ "status": "online", "metadata": {}, "joined_at": 1, "updated_at": 1, "connections": [] });
        peer.send(json!({ "type": "presence_state", "channel": "a", "count": 1, "users": { "ana": ana },
            "offset": 1 }))
            .await;
        let mut offset = 1;
        let mut asked = async |peer: &mut Peer| {
            let mut asked = 0;
            for _ in 0..10 {
                offset += 1;
                peer.send(json!({ "type": "presence_diff", "channel": "a", "count": 2, "joins": {},
                    "leaves": [], "updates": {}, "offset": offset }))
                    .await;
                client.reconnect().await.unwrap();
                while let Some(message) = peer.next().await
                    && message["type"] != "ping"
                {
                    assert_eq!(message["type"], "presence");
                    asked += 1;
                    let mut answer =
                        json!({ "type": "error", "id": message["id"], "message": "", "timestamp": 1 });
                    answer.as_object_mut().unwrap().extend(refusal.as_object().unwrap().clone());
                    peer.send(answer).await;
                }
            }
            asked
        };
        assert_eq!(asked(&mut peer).await, 1);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(asked(&mut peer).await, asked_later, "{refusal}");
        let presence = room.presence();
        let refreshed = tokio::spawn(async move { presence.refresh().await });
        while peer.next().await.unwrap()["type"] != "presence" {}
        refreshed.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_list_request_releases_buffered_changes() {
    let Subscribed { mut peer, client: _client, script: _script, room, .. } = subscribed(1).await;
    let ana =
        json!({ "status": "online", "metadata": {}, "joined_at": 1, "updated_at": 1, "connections": [] });
    let diff = |offset: u64, joins: Value| {
        json!({ "type": "presence_diff", "channel": "a", "count": 3, "joins": joins, "leaves": [],
            "updates": {}, "offset": offset })
    };
    peer.send(
        json!({ "type": "presence_state", "channel": "a", "count": 1, "users": { "ana": ana }, "offset": 1 }),
    )
    .await;
    peer.send(diff(2, json!({}))).await;
    peer.expect("presence").await;
    let mut updates = room.presence_updates();
    peer.send(diff(3, json!({ "bob": ana }))).await;
    let told = tokio::time::timeout(Duration::from_secs(15), updates.next()).await;
    assert_eq!(told.expect("what has changed meanwhile").unwrap().unwrap().user, "bob");
    tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_secs(11)).await;
    peer.send(diff(4, json!({}))).await;
    while peer.next().await.expect("a client that is there")["type"] != "presence" {}
}

/// Checks that a subscribed client continues after a publication that is nested too deeply.
async fn get_past_depth(depth: usize, encode: impl Fn(Builder) -> Builder) {
    let server = server();
    let client = encode(builder(&server.url("/"))).connect().unwrap();
    let (shallow, raw) = (client.channel::<u64>("room:1"), client.channel::<Box<RawValue>>("room:1"));
    let (mut contents, mut texts) = (shallow.messages(), raw.messages());
    shallow.subscribe().await.unwrap().keep();
    let room = server.hub().channel("room:1");
    let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    room.broadcast(RawValue::from_string(deep.clone()).unwrap()).await.unwrap();
    room.broadcast(7).await.unwrap();
    let unread = next(&mut contents).await.unwrap_err();
    assert!(matches!(unread, StreamError::Unreadable(_)), "{unread}");
    assert_eq!(content(&mut contents).await, 7);
    assert_eq!(content(&mut texts).await.get(), deep);
    let newest = raw.history().await.unwrap();
    assert_eq!(newest.messages.len(), 2, "a page has it as well");
    assert_eq!(server.hub().stats().opened, 1, "the connection is the first one still");
}

#[tokio::test]
async fn a_deeply_nested_publication_keeps_the_connection() {
    for depth in [118, 126, 127, 128, 200, 5_000] {
        get_past_depth(depth, |builder| builder).await;
        get_past_depth(depth, Builder::message_pack).await;
    }
}

/// Checks that a publication that the client cannot read costs a reported gap, but not the client.
async fn get_past(builder: Builder, server: &TestServer, large: String) {
    let client = builder.connect().unwrap();
    let room = client.channel::<Value>("room:1");
    let mut messages = room.messages();
    room.subscribe().await.unwrap().keep();
    server.hub().channel("room:1").broadcast(1).await.unwrap();
    assert_eq!(content(&mut messages).await, 1);
    server.hub().channel("room:1").broadcast(large).await.unwrap();
    server.hub().channel("room:1").broadcast(3).await.unwrap();
    let StreamError::Gap(_) = next(&mut messages).await.unwrap_err() else { panic!("a gap") };
    server.hub().channel("room:1").broadcast(4).await.unwrap();
    let newest = loop {
        match content(&mut messages).await {
            newest if newest == 3 => {}
            newest => break newest,
        }
    };
    assert_eq!(newest, 4);
}

#[tokio::test]
async fn a_too_large_publication_is_part_of_a_gap() {
    let server = server();
    get_past(builder(&server.url("/")).max_message(10_000), &server, "x".repeat(20_000)).await;
}

#[tokio::test(start_paused = true)]
async fn messages_unreadable_on_two_connections_are_not_recovered() {
    let Subscribed { mut script, mut peer, client: _client, room: _room, mut messages } = subscribed(1).await;
    let unreadable = json!({ "channel": "a", "offset": 2 });
    peer.send(unreadable.clone()).await;
    let mut peer = script.greet("two").await;
    let resume = peer.expect("resume").await;
    assert_eq!(resume["positions"]["a"]["offset"], 1, "the first time it may have been an accident");
    peer.send(unreadable).await;
    let mut peer = script.greet("three").await;
    assert_eq!(peer.expect("resume").await["positions"], json!({}));
    let request = peer.expect("subscribe_channel").await;
    assert_eq!(request["recover"], Value::Null);
    peer.ack(&request, json!({ "channel": "a", "epoch": EPOCH, "offset": 2, "recoverable": true })).await;
    let StreamError::Gap(_) = next(&mut messages).await.unwrap_err() else { panic!("a gap") };
    peer.publication("a", 3).await;
    assert_eq!(content(&mut messages).await, 3);
}
