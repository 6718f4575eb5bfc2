//! Client events, publications without echo, and presence metadata of this connection: against a script, and
//! against a real server.

use crate::script::{Peer, Subscribed, script, subscribed};
use crate::support::{builder, client, content, named, next, quick};
use hauyna::channel::ClientEvents;
use hauyna::{ChannelOptions, Hub, Presence};
use hauyna_client::protocol::ErrorType;
use hauyna_client::{Client, ClientEvent, Error, StreamError};
use hauyna_test::{Cut, FaultProxy, TestServer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cursor {
    x: u32,
}

/// Announces the client events that the channel allows.
async fn allow(peer: &mut Peer, events: Value) {
    peer.send(json!({ "type": "subscribed", "channel": "a", "epoch": crate::script::EPOCH, "offset": 1,
        "recoverable": true, "client_events": events }))
        .await;
}

/// Waits until the client has handled everything that it was sent.
async fn settle(client: &Client, peer: &mut Peer) {
    let request = tokio::spawn(client.request::<()>("settle", &json!({})).into_future());
    let settle = peer.expect("settle").await;
    peer.ack(&settle, Value::Null).await;
    request.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn events_are_conflated_to_the_rate_of_the_channel() {
    let Subscribed { mut peer, client, room, .. } = subscribed(1).await;
    allow(&mut peer, json!({ "cursor": 10, "typing": 1 })).await;
    settle(&client, &mut peer).await;
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
    settle(&client, &mut peer).await;
    room.send("cursor", &Cursor { x: 3 }).unwrap();
    peer.expect("client_event").await;
    room.send("cursor", &Cursor { x: 4 }).unwrap();
    drop(peer);
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    peer.subscribe("a", 1).await;
    // The event that waited is outdated, and the channel allows none any more.
    assert_eq!(peer.expect("ping").await["type"], "ping");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_channel_does_not_declare_is_an_error() {
    let Subscribed { mut peer, client, room, .. } = subscribed(1).await;
    allow(&mut peer, json!({ "cursor": 10 })).await;
    settle(&client, &mut peer).await;
    let error = room.send("wave", &()).unwrap_err();
    assert!(matches!(&error, Error::Unsendable(_)), "{error}");
    assert_eq!(error.to_string(), "cannot be sent: channel \"a\" declares no client event \"wave\"");
    assert_eq!(peer.expect("ping").await["type"], "ping");
}

#[tokio::test(start_paused = true)]
async fn client_events_are_streamed_by_kind_and_are_no_messages() {
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
async fn a_publication_without_echo_sets_the_field() {
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
async fn updated_metadata_is_used_by_the_next_subscription() {
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

/// A server whose rooms allow cursors, have presence and keep a history.
fn server() -> TestServer {
    let events = ClientEvents::new().event("cursor", 20).event("typing", 5);
    let rooms = ChannelOptions::new()
        .presence(Presence::each())
        .history(100, Duration::from_secs(60))
        .client_events(events);
    TestServer::start(Hub::builder().channels("room:{id}", rooms).retry_policy(quick()).build(), named())
}

#[tokio::test]
async fn a_real_server_forwards_client_events_in_either_encoding() {
    let server = server();
    let ana = builder(&server.url("/?user=ana")).message_pack().connect().unwrap();
    let bob = client(&server.url("/?user=bob"));
    let (at_ana, at_bob) = (ana.channel::<u32>("room:1"), bob.channel::<u32>("room:1"));
    let (mut own, mut seen) =
        (at_ana.client_events::<Cursor>("cursor"), at_bob.client_events::<Cursor>("cursor"));
    at_ana.subscribe().await.unwrap().keep();
    at_bob.subscribe().await.unwrap().keep();
    for x in 1..=300 {
        at_ana.send("cursor", &Cursor { x }).unwrap();
    }
    let mut count = 1;
    let mut event = next(&mut seen).await.unwrap();
    assert_eq!((&*event.user, &*event.channel), ("ana", "room:1"));
    while event.data.x < 300 {
        event = next(&mut seen).await.unwrap();
        count += 1;
    }
    assert!(count <= 20, "{count} of 300 were sent");
    let offset = at_bob.publish(&7).await.unwrap().unwrap().offset;
    assert_eq!(offset, 1, "events have no number");
    at_bob.send("cursor", &Cursor { x: 9 }).unwrap();
    assert_eq!(next(&mut own).await.unwrap().data, Cursor { x: 9 }, "the own ones do not come back");
}

#[tokio::test]
async fn a_real_server_sends_unechoed_publications_to_others_alone() {
    let server = server();
    let proxy = FaultProxy::start(server.address()).await;
    let (ana, bob) = (client(&proxy.url("/?user=ana")), client(&server.url("/?user=bob")));
    let (at_ana, at_bob) = (ana.channel::<u32>("room:1"), bob.channel::<u32>("room:1"));
    let (mut own, mut seen) = (at_ana.messages(), at_bob.messages());
    at_ana.subscribe().await.unwrap().keep();
    at_bob.subscribe().await.unwrap().keep();
    assert_eq!(at_ana.publish(&1).echo(false).await.unwrap().unwrap().offset, 1);
    assert_eq!(content(&mut seen).await, 1);
    proxy.cut_all(Cut::Reset);
    at_bob.publish(&2).await.unwrap();
    assert_eq!(content(&mut own).await, 2, "the own one is seen");
    let past = at_ana.history().await.unwrap();
    assert_eq!(past.messages.len(), 2, "the history has both");
}

#[tokio::test]
async fn a_real_server_shows_updated_metadata_to_others() {
    let server = server();
    let (ana, bob) = (client(&server.url("/?user=ana")), client(&server.url("/?user=bob")));
    let (at_ana, at_bob) = (ana.channel::<u32>("room:1"), bob.channel::<u32>("room:1"));
    let mut updates = at_ana.presence_updates();
    at_ana.subscribe().await.unwrap().keep();
    at_bob.subscribe().metadata(&json!({ "device": "phone" })).await.unwrap().keep();
    let device =
        |member: &hauyna_client::Member| member.devices.values().next().map(|device| device.metadata.clone());
    let mut shown = Vec::new();
    at_bob.presence().update(&json!({ "device": "phone", "muted": true })).await.unwrap();
    while shown.len() < 2 {
        let update = next(&mut updates).await.unwrap();
        if update.user == "bob" {
            shown.push(device(&update.member).unwrap());
        }
    }
    assert_eq!(shown, [json!({ "device": "phone" }), json!({ "device": "phone", "muted": true })]);
    assert_eq!(device(&at_ana.presence().users["bob"]), shown.pop());
    let refused = bob.channel::<u32>("room:2").presence().update(&json!({})).await.unwrap_err();
    assert_eq!(refused.error_type(), Some(ErrorType::NotSubscribed));
}
