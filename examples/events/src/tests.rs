//! Orders over real sockets: the listeners run by priority, ask the client, stop others, and fail without
//! harm.

use super::{handler, hub};
use hauyna::json;
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::time::Duration;

async fn enter(server: &TestServer, user: &str) -> Client {
    let mut client = server.json(&format!("/?user_id={user}")).await;
    client.expect("session").await;
    client
}

async fn order(client: &mut Client, cups: u32) {
    client.send(json!({ "type": "order", "id": "o-1", "item": "mate", "cups": cups })).await;
}

/// Returns the names of `count` listeners that reported something, before or after the answer (answers do not
/// wait behind messages), and the answer to the order. Answers a client request with `word`, if there is one.
async fn steps(client: &mut Client, count: usize, word: Option<bool>) -> (Vec<String>, Value) {
    let (mut names, mut answer) = (Vec::new(), None);
    loop {
        match answer.take() {
            Some(answer) if names.len() == count => return (names, answer),
            earlier => answer = earlier,
        }
        let message = client.next().await;
        match message["type"].as_str().unwrap() {
            "step" => names.push(message["listener"].as_str().unwrap().to_owned()),
            "request" => {
                assert_eq!(message["data"]["text"], "9 cups of mate: really?");
                if let Some(word) = word {
                    client.send(json!({ "type": "ack", "id": message["id"], "data": word })).await;
                }
            }
            "ack" => answer = Some(message["data"].clone()),
            _ => {}
        }
    }
}

#[tokio::test]
async fn listeners_run_by_their_priority_and_one_that_fails_harms_no_other() {
    let server = TestServer::start(hub(Duration::from_secs(10)), handler());
    let (mut ann, mut bob) = (enter(&server, "ann").await, enter(&server, "bob").await);
    order(&mut ann, 2).await;
    let (names, outcome) = steps(&mut ann, 4, None).await;
    assert_eq!(names, ["check", "brew", "count", "announce"]);
    assert_eq!(outcome, json!({ "ran": 5, "stopped": false, "failed": 1 }));
    assert_eq!(bob.wait_for("ordered").await["user"], "ann");
}

#[tokio::test]
async fn a_large_order_waits_for_the_clients_word_and_a_no_stops_it() {
    let server = TestServer::start(hub(Duration::from_secs(10)), handler());
    let mut ann = enter(&server, "ann").await;
    let all = vec!["check", "confirm", "brew", "count", "announce"];
    for (word, wanted) in [(true, all), (false, vec!["check", "confirm"])] {
        order(&mut ann, 9).await;
        let (names, outcome) = steps(&mut ann, wanted.len(), Some(word)).await;
        assert_eq!(names, wanted);
        assert_eq!(outcome["stopped"], !word);
    }
}

#[tokio::test]
async fn who_does_not_answer_in_time_has_not_confirmed() {
    let server = TestServer::start(hub(Duration::from_millis(30)), handler());
    let mut ann = enter(&server, "ann").await;
    order(&mut ann, 9).await;
    let (_, outcome) = steps(&mut ann, 2, None).await;
    assert_eq!(outcome, json!({ "ran": 2, "stopped": true, "failed": 0 }));
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_stopped_first_and_one_that_is_none_is_refused() {
    let server = TestServer::start(hub(Duration::from_secs(10)), handler());
    let mut ann = enter(&server, "ann").await;
    order(&mut ann, 99).await;
    assert_eq!(
        steps(&mut ann, 1, None).await,
        (vec!["check".to_owned()], json!({ "ran": 1, "stopped": true, "failed": 0 }))
    );
    let refused = ann.request(json!({ "type": "order", "item": "mate", "cups": "many" })).await.unwrap_err();
    assert_eq!(
        (&refused["error_type"], &refused["details"]["path"]),
        (&json!("validation_error"), &json!("cups"))
    );
}
