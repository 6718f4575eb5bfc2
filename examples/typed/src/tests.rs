//! The board over real sockets, and the files of the page that are generated from the contract.

use super::{contract, handler, hub};
use hauyna::{Value, json};
use hauyna_test::{Client, TestServer};

async fn enter(server: &TestServer, user: &str) -> Client {
    let mut client = server.json(&format!("/?user_id={user}")).await;
    client.expect("session").await;
    client.request(json!({ "type": "subscribe_channel", "channel": "board:main" })).await.unwrap();
    client
}

async fn add(client: &mut Client, title: &str) -> Value {
    client.request(json!({ "type": "add_card", "title": title, "colour": "green" })).await.unwrap()
}

#[test]
fn the_committed_types_are_those_of_the_contract() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/page/contract.ts");
    if std::env::var_os("HAUYNA_BLESS").is_some() {
        std::fs::write(path, contract().typescript()).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == contract().typescript(), "run this example with --types {path}");
}

#[tokio::test]
async fn a_card_is_added_before_the_eyes_of_all() {
    let server = TestServer::start(hub(), handler());
    let (mut ann, mut bob) = (enter(&server, "ann").await, enter(&server, "bob").await);
    let card = add(&mut ann, "Write").await;
    assert_eq!(card, json!({ "number": 1, "title": "Write", "colour": "green", "by": "ann" }));
    assert_eq!(bob.wait_for("card_added").await["card"], card);
    assert_eq!(bob.request(json!({ "type": "list_cards" })).await.unwrap(), json!([card]));
    let plain = bob.request(json!({ "type": "add_card", "title": "Read" })).await.unwrap();
    assert_eq!((&plain["number"], &plain["colour"]), (&json!(2), &json!("blue")));
}

#[tokio::test]
async fn a_card_of_somebody_else_goes_only_after_a_yes() {
    let server = TestServer::start(hub(), handler());
    let (mut ann, mut bob) = (enter(&server, "ann").await, enter(&server, "bob").await);
    add(&mut ann, "Write").await;
    let remove = json!({ "type": "remove_card", "id": "r", "number": 1 });
    for is_sure in [false, true] {
        bob.send(remove.clone()).await;
        let question = bob.wait_for("request").await;
        assert_eq!((&question["event"], &question["data"]["card"]["by"]), (&json!("confirm"), &json!("ann")));
        bob.send(json!({ "type": "ack", "id": question["id"], "data": is_sure })).await;
        assert_eq!(bob.wait_for("ack").await["data"], is_sure);
    }
    assert_eq!(ann.wait_for("card_removed").await["by"], "bob");
    assert_eq!(ann.request(remove).await.unwrap_err()["error_type"], "application_error");
    add(&mut ann, "Again").await;
    assert_eq!(
        ann.request(json!({ "type": "remove_card", "number": 1 })).await.unwrap(),
        true,
        "it is her own"
    );
}

#[tokio::test]
async fn a_remark_that_is_none_is_refused() {
    let server = TestServer::start(hub(), handler());
    let mut ann = enter(&server, "ann").await;
    let say =
        |content: Value| json!({ "type": "channel_message", "channel": "board:main", "content": content });
    let refused = ann.request(say(json!({ "text": "x", "about": "the first" }))).await.unwrap_err();
    assert_eq!(refused["details"]["path"], "content.about");
    ann.request(say(json!({ "text": "x", "about": 1 }))).await.unwrap();
}
