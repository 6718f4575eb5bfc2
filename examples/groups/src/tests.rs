//! The team over real sockets: the permissions of each role, and a membership that outlives its connection.

use super::{handler, hub};
use hauyna::json;
use hauyna_test::{Client, TestServer};
use serde_json::Value;

async fn enter(server: &TestServer, user: &str) -> Client {
    let mut client = server.json(&format!("/?user_id={user}")).await;
    client.expect("session").await;
    client
}

async fn join(server: &TestServer, user: &str) -> Client {
    let mut client = enter(server, user).await;
    client.request(json!({ "type": "join" })).await.unwrap();
    client
}

fn announcement() -> Value {
    json!({ "type": "group", "room": "team", "message": { "text": "lunch" } })
}

/// Waits until the roster shows this entry of a user.
async fn until(client: &mut Client, user: &str, wanted: &Value) {
    loop {
        let roster = client.wait_for("roster").await;
        let member = roster["members"].as_array().unwrap().iter().find(|member| member["user"] == user);
        if member == Some(wanted) {
            return;
        }
    }
}

#[tokio::test]
async fn an_administrator_announces_and_a_member_may_not_before_being_promoted() {
    let server = TestServer::start(hub(), handler());
    let mut ann = join(&server, "ann").await;
    let mut bob = join(&server, "bob").await;
    ann.request(announcement()).await.unwrap();
    let heard = bob.wait_for("group").await;
    assert_eq!((&heard["from"], &heard["message"]["text"]), (&json!("ann"), &json!("lunch")));
    assert_eq!(bob.request(announcement()).await.unwrap_err()["error_type"], "permission_denied");
    let by_itself = json!({ "type": "promote", "user": "bob", "role": "admin" });
    assert_eq!(bob.request(by_itself.clone()).await.unwrap_err()["error_type"], "permission_denied");
    ann.request(by_itself).await.unwrap();
    bob.request(announcement()).await.unwrap();
    assert_eq!(ann.wait_for("group").await["from"], "ann", "her own comes first");
    assert_eq!(ann.wait_for("group").await["from"], "bob");
    let unknown = ann.request(json!({ "type": "promote", "user": "bob", "role": "king" })).await;
    assert_eq!(unknown.unwrap_err()["error_type"], "validation_error");
}

#[tokio::test]
async fn a_membership_outlives_the_connection_and_ends_with_the_removal() {
    let server = TestServer::start(hub(), handler());
    let mut ann = join(&server, "ann").await;
    let bob = join(&server, "bob").await;
    bob.close(1000, "").await;
    until(&mut ann, "bob", &json!({ "user": "bob", "role": "member", "here": false })).await;
    let mut bob = enter(&server, "bob").await;
    until(&mut ann, "bob", &json!({ "user": "bob", "role": "member", "here": true })).await;
    ann.request(announcement()).await.unwrap();
    assert_eq!(bob.wait_for("group").await["from"], "ann");

    assert_eq!(
        bob.request(json!({ "type": "remove", "user": "ann" })).await.unwrap_err()["error_type"],
        "permission_denied"
    );
    ann.request(json!({ "type": "remove", "user": "bob" })).await.unwrap();
    ann.request(announcement()).await.unwrap();
    while bob.next().await["members"] != json!([{ "user": "ann", "role": "admin", "here": true }]) {}
    bob.expect_nothing().await;
    let alone = ann.request(json!({ "type": "remove", "user": "ann" })).await;
    assert_eq!(alone.unwrap_err()["error_type"], "permission_denied", "an administrator is left");
}
