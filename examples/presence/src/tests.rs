//! The board over real sockets: devices, statuses, activities, typing, the grace time, and the query.

use super::{Wanted, criteria, handler, hub};
use hauyna::json;
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::time::Duration;

fn serve(grace: u64) -> TestServer {
    TestServer::start(hub(Duration::from_millis(grace)), handler())
}

async fn enter(server: &TestServer, user: &str, device: &str) -> Client {
    let mut client = server.json(&format!("/?user_id={user}")).await;
    client.expect("session").await;
    for channel in ["office", "seen"] {
        let metadata = json!({ "device": device });
        let request = json!({ "type": "subscribe_channel", "channel": channel, "metadata": metadata });
        client.request(request).await.unwrap();
    }
    client
}

async fn change(client: &mut Client, user: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let change = client.wait_for("presence_change").await;
        if change["user"] == user && is_it(&change) {
            return change;
        }
    }
}

#[tokio::test]
async fn a_person_with_two_devices_is_there_until_the_last_has_gone_and_was_then_seen() {
    let server = serve(20);
    let mut ann = enter(&server, "ann", "desk").await;
    let phone = enter(&server, "bob", "phone").await;
    let desk = enter(&server, "bob", "desk").await;
    change(&mut ann, "bob", |change| change["connections"] == 2).await;
    let page = ann.request(json!({ "type": "presence", "channel": "office" })).await.unwrap();
    let devices: Vec<&Value> = page["users"]["bob"]["connections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["metadata"]["device"])
        .collect();
    assert_eq!(devices, [&json!("phone"), &json!("desk")]);
    phone.close(1001, "").await; // a page that is left
    change(&mut ann, "bob", |change| change["connections"] == 1).await;
    desk.close(1001, "").await;
    assert_eq!(ann.wait_for("presence_change").await["event"], "leave");
    assert_eq!(ann.wait_for("seen").await["user"], "bob");
}

#[tokio::test]
async fn a_status_and_an_activity_are_told_and_can_be_asked_for() {
    let server = serve(60_000);
    let mut ann = enter(&server, "ann", "desk").await;
    let mut bob = enter(&server, "bob", "phone").await;
    bob.request(json!({ "type": "update_status", "status": "away", "activity": "lunch" })).await.unwrap();
    let told = change(&mut ann, "bob", |change| change["status"] == "away").await;
    assert_eq!(told["metadata"]["activity"], "lunch");
    let presence = server.hub().presence();
    let asked = async |status: Option<&str>, activity: Option<&str>| {
        let wanted = Wanted { status: status.map(str::to_owned), activity: activity.map(str::to_owned) };
        let present = presence.list_by(&criteria(wanted)).await;
        present.into_iter().map(|entry| entry.user.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(asked(Some("away"), None).await, ["bob"]);
    assert_eq!(asked(Some("online"), None).await, ["ann"]);
    assert_eq!(asked(None, Some("lunch")).await, ["bob"]);
    assert_eq!(asked(None, None).await.len(), 2);
}

#[tokio::test]
async fn typing_is_told_to_the_others_and_only_by_those_who_are_there() {
    let server = serve(60_000);
    let mut ann = enter(&server, "ann", "desk").await;
    let mut bob = enter(&server, "bob", "phone").await;
    bob.request(json!({ "type": "typing", "typing": true })).await.unwrap();
    let typing = ann.wait_for("typing").await;
    assert_eq!((&typing["user"], &typing["typing"]), (&json!("bob"), &json!(true)));
    let mut eve = server.connect("/?user_id=eve").await;
    let refused = eve.request(json!({ "type": "typing", "typing": true })).await;
    assert_eq!(refused.unwrap_err()["error_type"], "permission_denied");
}
