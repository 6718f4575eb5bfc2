//! Client events over a script: what is sent when, and what comes of those of others.

use crate::script::{Peer, Subscribed, script, subscribed};
use crate::support::next;
use hauyna_client::{Client, ClientEvent, Error, StreamError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cursor {
    x: u32,
}

/// Tells the client that its channel allows these events.
async fn allow(peer: &mut Peer, events: Value) {
    peer.send(json!({ "type": "subscribed", "channel": "a", "epoch": crate::script::EPOCH, "offset": 1,
        "recoverable": true, "client_events": events }))
        .await;
}

/// Waits until the client has dealt with what it was sent.
async fn settled(client: &Client, peer: &mut Peer) {
    let request = tokio::spawn(client.request::<()>("settle", &json!({})).into_future());
    let settle = peer.expect("settle").await;
    peer.ack(&settle, Value::Null).await;
    request.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_many_events_the_first_and_the_latest_are_sent_at_the_rate_of_the_channel() {
    let Subscribed { mut peer, client, room, .. } = subscribed(1).await;
    allow(&mut peer, json!({ "cursor": 10, "typing": 1 })).await;
    settled(&client, &mut peer).await;
    let began = Instant::now();
    room.send("cursor", &Cursor { x: 0 }).unwrap();
    let sent = peer.expect("client_event").await;
    assert_eq!(
        sent,
        json!({ "type": "client_event", "channel": "a", "event": "cursor", "data": { "x": 0 } })
    );
    for x in 1..=300 {
        room.send("cursor", &Cursor { x }).unwrap();
    }
    room.send("typing", &()).unwrap();
    assert_eq!(
        peer.expect("client_event").await,
        json!({ "type": "client_event", "channel": "a", "event": "typing" })
    );
    assert_eq!(peer.expect("client_event").await["data"], json!({ "x": 300 }), "the latest, and no other");
    assert_eq!(began.elapsed().as_millis(), 100);
    assert_eq!(peer.expect("ping").await["type"], "ping", "nothing else was sent");
}

#[tokio::test(start_paused = true)]
async fn without_a_subscription_or_a_connection_events_are_dropped() {
    let (mut other, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    room.send("cursor", &Cursor { x: 1 }).unwrap();
    let mut peer = other.greet("one").await;
    client.connected().await.unwrap();
    room.send("cursor", &Cursor { x: 2 }).unwrap();
    assert_eq!(peer.expect("ping").await["type"], "ping");

    let Subscribed { mut script, mut peer, client, room, .. } = subscribed(1).await;
    allow(&mut peer, json!({ "cursor": 1 })).await;
    settled(&client, &mut peer).await;
    room.send("cursor", &Cursor { x: 3 }).unwrap();
    peer.expect("client_event").await;
    room.send("cursor", &Cursor { x: 4 }).unwrap();
    drop(peer);
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    peer.subscribe("a", 1).await;
    // What waited was of a moment ago; a channel that allows none any more says so.
    assert_eq!(peer.expect("ping").await["type"], "ping");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_channel_does_not_declare_is_an_error() {
    let Subscribed { mut peer, client, room, .. } = subscribed(1).await;
    allow(&mut peer, json!({ "cursor": 10 })).await;
    settled(&client, &mut peer).await;
    let error = room.send("wave", &()).unwrap_err();
    assert!(matches!(&error, Error::Unsendable(_)), "{error}");
    assert_eq!(error.to_string(), "cannot be sent: channel \"a\" declares no client event \"wave\"");
    assert_eq!(peer.expect("ping").await["type"], "ping");
}

#[tokio::test(start_paused = true)]
async fn events_of_others_have_their_stream_by_kind_and_are_no_messages() {
    let Subscribed { mut peer, room, client: _client, mut messages, .. } = subscribed(1).await;
    let (mut cursors, mut typing) =
        (room.client_events::<Cursor>("cursor"), room.client_events::<()>("typing"));
    let event = |event: &str, data: Value| json!({ "type": "client_event", "channel": "a", "event": event, "user": "bob", "data": data });
    peer.send(event("cursor", json!({ "x": 7 }))).await;
    peer.send(json!({ "type": "client_event", "channel": "a", "event": "typing", "user": "bob" })).await;
    peer.send(event("cursor", json!("elsewhere"))).await;
    peer.publication("a", 2).await;
    let ClientEvent { channel, event, user, data, .. } = next(&mut cursors).await.unwrap();
    assert_eq!((&*channel, &*event, &*user, data), ("a", "cursor", "bob", Cursor { x: 7 }));
    assert_eq!(next(&mut typing).await.unwrap().user, "bob");
    assert!(matches!(next(&mut cursors).await, Err(StreamError::Unreadable(_))));
    assert_eq!(next(&mut messages).await.unwrap().content, 2, "no number is theirs");
    assert!(tokio::time::timeout(Duration::from_secs(1), typing.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_publication_without_echo_says_so() {
    let Subscribed { mut peer, room, client: _client, .. } = subscribed(1).await;
    let calls = [(room.publish(&1), Value::Null, 1), (room.publish(&2).echo(false), json!(false), 2)];
    for (call, echo, position) in calls {
        let publishing = tokio::spawn(call.into_future());
        let request = peer.expect("channel_message").await;
        assert_eq!(request["echo"], echo);
        peer.ack(&request, json!({ "epoch": crate::script::EPOCH, "offset": 2 })).await;
        assert_eq!(publishing.await.unwrap().unwrap().unwrap().offset, 2);
        assert_eq!(room.position().unwrap().offset, position, "what is not echoed is seen");
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_that_was_updated_is_that_of_the_next_subscription() {
    let Subscribed { mut script, mut peer, room, client: _client, .. } = subscribed(1).await;
    let updating = tokio::spawn(room.presence().update(&json!({ "muted": true })).into_future());
    let request = peer.expect("update_presence").await;
    assert_eq!((&request["channel"], &request["metadata"]), (&json!("a"), &json!({ "muted": true })));
    peer.ack(&request, Value::Null).await;
    updating.await.unwrap().unwrap();
    drop(peer);
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    assert_eq!(peer.expect("subscribe_channel").await["metadata"], json!({ "muted": true }));
    let refused = room.presence().update(&"muted").await.unwrap_err();
    assert_eq!(refused.kind(), "invalid", "not an object");
}
