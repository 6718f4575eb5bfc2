//! The metadata of one connection in one channel, changed by its client (`update_presence`): notifications,
//! refusals, and that it survives a lost socket.

use crate::sessions::{lose, resume};
use crate::support::{session_client, user_handler};
use hauyna::channel::AccessRequest;
use hauyna::handler::RateLimit;
use hauyna::{ChannelOptions, Context, Hub, Presence, Rate, Reject, json};
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

fn rooms() -> Hub {
    Hub::builder()
        .channels("room:{id}", ChannelOptions::new().presence(Presence::each()))
        .channels("crowd", ChannelOptions::new().presence(Presence::diff()))
        .channels("{*any}", ChannelOptions::new())
        .build()
}

fn update(channel: &str, metadata: &Value) -> Value {
    json!({ "type": "update_presence", "channel": channel, "metadata": metadata })
}

async fn enter(client: &mut Client, channel: &str, metadata: Value) -> Value {
    let request = json!({ "type": "subscribe_channel", "channel": channel, "metadata": metadata });
    client.request(request).await.unwrap();
    client.wait_for("presence_state").await
}

async fn metadata_of(client: &mut Client, channel: &str, user: &str) -> Value {
    let page = client.request(json!({ "type": "presence", "channel": channel })).await.unwrap();
    page["users"][user]["connections"].as_array().unwrap().iter().map(|one| one["metadata"].clone()).collect()
}

#[tokio::test]
async fn update_names_its_connection_and_affects_one_channel() {
    let server = TestServer::start(rooms(), user_handler());
    let mut bob = server.message_pack("/?user=bob").await;
    bob.expect("session").await;
    let mut ann = server.json("/?user=ann").await;
    let session = ann.expect("session").await;
    for room in ["room:1", "room:2"] {
        enter(&mut ann, room, json!({ "in": room })).await;
        enter(&mut bob, room, Value::Null).await;
        let join = ann.expect("presence_change").await;
        assert_eq!((&join["event"], &join["connection"]["metadata"]), (&json!("join"), &json!({})));
    }
    ann.request(update("room:1", &json!({ "tool": "pen" }))).await.unwrap();
    for client in [&mut bob, &mut ann] {
        let change = client.expect("presence_change").await;
        assert_eq!((&change["event"], &change["channel"]), (&json!("update"), &json!("room:1")));
        assert_eq!(
            (&change["connections"], &change["metadata"]),
            (&json!(1), &json!({ "status": "online" }))
        );
        let connection = &change["connection"];
        assert_eq!(connection["connection_id"], session["connection_id"]);
        assert_eq!(connection["metadata"], json!({ "tool": "pen" }), "the metadata is replaced, not merged");
        assert!(connection["joined_at"].is_u64());
    }
    assert_eq!(metadata_of(&mut bob, "room:1", "ann").await, json!([{ "tool": "pen" }]));
    assert_eq!(metadata_of(&mut bob, "room:2", "ann").await, json!([{ "in": "room:2" }]));
    // Repeating the same metadata is no change.
    ann.request(update("room:1", &json!({ "tool": "pen" }))).await.unwrap();
    bob.expect_nothing().await;
    // A change of the user names no connection.
    ann.request(json!({ "type": "update_status", "status": "away" })).await.unwrap();
    assert_eq!(bob.expect("presence_change").await.get("connection"), None);
}

#[tokio::test]
async fn second_connection_is_named_on_join_and_not_on_leave() {
    let server = TestServer::start(rooms(), user_handler());
    let mut bob = session_client(&server, "/?user=bob").await;
    enter(&mut bob, "room:1", Value::Null).await;
    let mut first = session_client(&server, "/?user=ann").await;
    enter(&mut first, "room:1", Value::Null).await;
    bob.expect("presence_change").await;
    let mut second = server.json("/?user=ann").await;
    let session = second.expect("session").await;
    enter(&mut second, "room:1", json!({ "device": "phone" })).await;
    let change = bob.expect("presence_change").await;
    assert_eq!((&change["event"], &change["connections"]), (&json!("update"), &json!(2)));
    assert_eq!(change["connection"]["connection_id"], session["connection_id"]);
    assert_eq!(change["connection"]["metadata"], json!({ "device": "phone" }));
    second.request(json!({ "type": "unsubscribe_channel", "channel": "room:1" })).await.unwrap();
    let change = bob.expect("presence_change").await;
    assert_eq!((&change["event"], &change["connections"]), (&json!("update"), &json!(1)));
    assert_eq!(change.get("connection"), None);
}

#[tokio::test]
async fn update_is_in_the_diff_of_a_large_channel() {
    let server = TestServer::start(rooms(), user_handler());
    let mut bob = session_client(&server, "/?user=bob").await;
    enter(&mut bob, "crowd", Value::Null).await;
    let mut ann = session_client(&server, "/?user=ann").await;
    enter(&mut ann, "crowd", Value::Null).await;
    while bob.expect("presence_diff").await["joins"].get("ann").is_none() {}
    ann.request(update("crowd", &json!({ "tool": "pen" }))).await.unwrap();
    let diff = bob.expect("presence_diff").await;
    assert_eq!(diff["updates"]["ann"]["connections"][0]["metadata"], json!({ "tool": "pen" }));
}

#[tokio::test]
async fn update_survives_the_loss_of_the_socket() {
    let hub = rooms();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut bob = session_client(&server, "/?user=bob").await;
    enter(&mut bob, "room:1", Value::Null).await;
    let mut ann = server.json("/?user=ann").await;
    let session = ann.expect("session").await;
    enter(&mut ann, "room:1", json!({ "tool": "none" })).await;
    ann.request(update("room:1", &json!({ "tool": "pen" }))).await.unwrap();
    lose(&hub, ann).await;
    assert_eq!(metadata_of(&mut bob, "room:1", "ann").await, json!([{ "tool": "pen" }]));
    let (mut ann, resumed) = resume(&server, "ann", &session, &json!({})).await;
    assert_eq!(resumed["resumed"], true);
    assert_eq!(metadata_of(&mut bob, "room:1", "ann").await, json!([{ "tool": "pen" }]));
    ann.request(update("room:1", &json!({ "tool": "brush" }))).await.unwrap();
    assert_eq!(metadata_of(&mut bob, "room:1", "ann").await, json!([{ "tool": "brush" }]));
    let connection = hub.connections().of_user("ann").remove(0);
    assert_eq!(hub.channel("room:1").metadata(&connection), Some(json!({ "tool": "brush" })));
}

#[tokio::test]
async fn refused_update_changes_nothing() {
    let rate = Rate::new(1, Duration::from_secs(3600)).burst(2);
    let handler = user_handler().rate_limit(RateLimit::new().presence_updates(rate));
    let server = TestServer::start(rooms(), handler);
    let mut ann = session_client(&server, "/?user=ann").await;
    enter(&mut ann, "room:1", json!({ "tool": "none" })).await;
    ann.subscribe("news").await;
    let long = json!({ "x": "m".repeat(4096) });
    for (channel, metadata, error_type) in [
        ("room:2", json!({}), "not_subscribed"),
        ("news", json!({}), "validation_error"),
        ("room:1", json!([1]), "validation_error"),
        ("room:1", long, "limit_exceeded"),
    ] {
        let error = ann.request(update(channel, &metadata)).await.unwrap_err();
        assert_eq!(error["error_type"], error_type, "{channel}");
    }
    assert_eq!(metadata_of(&mut ann, "room:1", "ann").await, json!([{ "tool": "none" }]));
    for tool in ["pen", "brush"] {
        ann.request(update("room:1", &json!({ "tool": tool }))).await.unwrap();
    }
    let error = ann.request(update("room:1", &json!({ "tool": "knife" }))).await.unwrap_err();
    assert_eq!(error["error_type"], "rate_limited");
    assert!(error["details"]["retry_after"].as_u64().unwrap() > 0);
    assert_eq!(metadata_of(&mut ann, "room:1", "ann").await, json!([{ "tool": "brush" }]));
}

#[derive(serde::Deserialize)]
struct Device {
    kind: String,
}

/// Allows only phones with a ticket.
async fn phones(_: Context, request: AccessRequest) -> Result<(), Reject> {
    if !request.is_update() && request.token() != Some("ticket") {
        return Err(Reject::denied("a ticket is needed"));
    }
    let device: Device = request.metadata()?;
    if device.kind == "phone" { Ok(()) } else { Err(Reject::denied("phones alone")) }
}

#[tokio::test]
async fn subscription_authoriser_also_decides_about_updates() {
    let channels = ChannelOptions::new().presence(Presence::each()).authorize_subscribe(phones);
    let hub = Hub::builder().channels("room:{id}", channels).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut ann = session_client(&server, "/?user=ann").await;
    let phone = json!({ "kind": "phone" });
    let request =
        json!({ "type": "subscribe_channel", "channel": "room:1", "metadata": phone, "token": "ticket" });
    ann.request(request).await.unwrap();
    ann.expect("presence_state").await;
    let error = ann.request(update("room:1", &json!({ "kind": "tv" }))).await.unwrap_err();
    assert_eq!(error["error_type"], "permission_denied");
    let error = ann.request(update("room:1", &json!({ "kind": 7 }))).await.unwrap_err();
    assert_eq!(
        (&error["error_type"], &error["details"]["path"]),
        (&json!("validation_error"), &json!("metadata.kind"))
    );
    assert_eq!(metadata_of(&mut ann, "room:1", "ann").await, json!([phone]));
    let connection = hub.connections().of_user("ann").remove(0);
    assert_eq!(hub.channel("room:1").metadata(&connection), Some(phone));
    let better = json!({ "kind": "phone", "model": 2 });
    ann.request(update("room:1", &better)).await.unwrap();
    assert_eq!(metadata_of(&mut ann, "room:1", "ann").await, json!([better]));
}

#[tokio::test]
async fn waiting_update_fails_after_the_subscription_ended() {
    let (gate, asked) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (open, count) = (gate.clone(), asked.clone());
    let rule = move |_: Context, request: AccessRequest| {
        let (open, count) = (open.clone(), count.clone());
        async move {
            if request.is_update() {
                count.add_permits(1);
                open.acquire().await.unwrap().forget();
            }
            Ok(())
        }
    };
    let channels = ChannelOptions::new().presence(Presence::each()).authorize_subscribe(rule);
    let hub = Hub::builder()
        .channels("room:{id}", channels)
        .channels("{*any}", ChannelOptions::new().presence(Presence::each()))
        .build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut ann = session_client(&server, "/?user=ann").await;
    // She stays present elsewhere.
    for channel in ["other", "room:1"] {
        ann.subscribe(channel).await;
    }
    let mut bob = session_client(&server, "/?user=bob").await;
    enter(&mut bob, "room:1", Value::Null).await;
    let connection = hub.connections().of_user("ann").remove(0);
    let request = json!({ "type": "update_presence", "id": 7, "channel": "room:1", "metadata": { "x": 1 } });
    ann.send(request).await;
    asked.acquire().await.unwrap().forget();
    hub.channel("room:1").unsubscribe(&connection).unwrap();
    gate.add_permits(1);
    let error = ann.wait_for("error").await;
    assert_eq!((&error["id"], &error["error_type"]), (&json!(7), &json!("not_subscribed")));
    assert_eq!(bob.expect("presence_change").await["event"], "leave");
    bob.expect_nothing().await;
}
