//! The rooms over real sockets: users of both ways to join meet, and others receive and send nothing.

use super::{handler, hub};
use hauyna::json;
use hauyna_test::{Client, TestServer};

async fn enter(server: &TestServer, user: &str) -> Client {
    let mut client = server.json(&format!("/?user_id={user}")).await;
    client.expect("session").await;
    client
}

#[tokio::test]
async fn who_joins_by_an_event_and_who_subscribes_are_in_the_same_room() {
    let server = TestServer::start(hub(), handler());
    let mut ann = enter(&server, "ann").await;
    let joined = ann.request(json!({ "type": "join_room", "room": "garden" })).await.unwrap();
    assert_eq!(joined["people"], json!({ "ann": 1 }));
    let mut bob = enter(&server, "bob").await;
    bob.request(json!({ "type": "subscribe_channel", "channel": "room:garden" })).await.unwrap();
    for user in ["ann", "bob"] {
        assert_eq!(ann.wait_for("channel_event").await["user"], user);
    }
    bob.request(json!({ "type": "room_message", "room": "garden", "content": "hello" })).await.unwrap();
    let heard = ann.wait_for("room_message").await;
    assert_eq!(
        (&heard["user"], &heard["content"], &heard["room"]),
        (&"bob".into(), &"hello".into(), &"garden".into())
    );
    let people = ann.request(json!({ "type": "room_people", "room": "garden" })).await.unwrap();
    assert_eq!(people["people"], json!({ "ann": 1, "bob": 1 }));
    ann.request(json!({ "type": "leave_room", "room": "garden" })).await.unwrap();
    assert_eq!(bob.wait_for("channel_event").await["event"], "subscription_added");
    assert_eq!(bob.wait_for("channel_event").await["event"], "subscription_removed");
}

#[tokio::test]
async fn who_is_not_in_the_room_cannot_speak_and_cannot_ask_who_is() {
    let server = TestServer::start(hub(), handler());
    let mut eve = enter(&server, "eve").await;
    for kind in ["room_message", "room_people"] {
        let refused = eve.request(json!({ "type": kind, "room": "garden", "content": "hello" })).await;
        assert_eq!(refused.unwrap_err()["error_type"], "permission_denied");
    }
    eve.request(json!({ "type": "subscribe_channel", "channel": "room:garden" })).await.unwrap();
    let around =
        json!({ "type": "channel_message", "channel": "room:garden", "content": { "type": "room_message" } });
    assert_eq!(eve.request(around).await.unwrap_err()["error_type"], "permission_denied");
    let unnamed = eve.request(json!({ "type": "join_room", "room": "../x" })).await;
    assert_eq!(unnamed.unwrap_err()["error_type"], "validation_error");
}

#[tokio::test]
async fn a_message_that_is_sent_again_with_its_key_is_said_once() {
    let server = TestServer::start(hub(), handler());
    let mut ann = enter(&server, "ann").await;
    ann.request(json!({ "type": "join_room", "room": "garden" })).await.unwrap();
    let said = json!({ "type": "room_message", "room": "garden", "content": "once", "key": "k-1" });
    ann.request(said.clone()).await.unwrap();
    ann.request(said).await.unwrap();
    let history = ann.request(json!({ "type": "history", "channel": "room:garden" })).await.unwrap();
    assert_eq!(history["messages"].as_array().unwrap().len(), 1);
}
