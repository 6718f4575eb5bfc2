//! States over real sockets: connections become idle and active, forbidden transitions are refused, and a
//! refused user can connect later.

use super::{handler, hub};
use hauyna::json;
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::time::Duration;

fn serve(idle_after: u64, closed_for: u64) -> TestServer {
    TestServer::start(hub(), handler(Duration::from_millis(idle_after), Duration::from_millis(closed_for)))
}

async fn enter(server: &TestServer, user: &str) -> Client {
    let mut client = server.json(&format!("/?user_id={user}")).await;
    assert_eq!(client.expect("session").await["retry"]["base_delay"], 1000);
    client
}

async fn set_state(client: &mut Client, state: &str) -> Result<Value, Value> {
    client.request(json!({ "type": "set_state", "state": state })).await
}

#[tokio::test]
async fn silence_makes_idle_with_another_retry_policy_and_a_message_ends_it() {
    let server = serve(50, 1);
    let mut ann = enter(&server, "ann").await;
    assert_eq!(ann.wait_for("connection_state").await["state"], "idle");
    assert_eq!(ann.wait_for("retry_policy").await["base_delay"], 5000);
    ann.send(json!({ "type": "here" })).await;
    assert_eq!(ann.wait_for("connection_state").await["state"], "connected");
    assert_eq!(ann.wait_for("retry_policy").await["base_delay"], 1000);
}

#[tokio::test]
async fn everybody_sees_a_change_of_state_and_how_many_are_in_which() {
    let server = serve(60_000, 1);
    let mut ann = enter(&server, "ann").await;
    let mut bob = enter(&server, "bob").await;
    set_state(&mut bob, "busy").await.unwrap();
    let changed = ann.wait_for("changed").await;
    assert_eq!(
        (&changed["user"], &changed["old"], &changed["new"]),
        (&json!("bob"), &json!("connected"), &json!("busy"))
    );
    let counts = ann.wait_for("counts").await;
    assert_eq!((&counts["counts"]["busy"], &counts["counts"]["connected"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_transition_that_the_table_does_not_allow_is_refused() {
    let server = serve(60_000, 1);
    let mut ann = enter(&server, "ann").await;
    assert_eq!(set_state(&mut ann, "reconnecting").await.unwrap_err()["error_type"], "permission_denied");
    assert_eq!(set_state(&mut ann, "asleep").await.unwrap_err()["error_type"], "validation_error");
    set_state(&mut ann, "busy").await.unwrap();
    assert!(set_state(&mut ann, "idle").await.is_err(), "who is busy does not become idle");
    set_state(&mut ann, "connected").await.unwrap();
}

#[tokio::test]
async fn who_is_sent_away_is_refused_while_the_door_is_closed() {
    let server = serve(60_000, 60_000);
    let mut ann = enter(&server, "ann").await;
    ann.send(json!({ "type": "close_the_door" })).await;
    assert_eq!(ann.expect_close().await.0, 3011);
    let refused = server.client("/?user_id=ann").json().try_connect().await.unwrap_err();
    assert_eq!(refused.status, 403);
    enter(&server, "bob").await;
}
