//! Numbers over a real socket that is cut repeatedly: each arrives once and in order.

use super::{count, handler, hub};
use hauyna::json;
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::time::Duration;

async fn subscribe(client: &mut Client, recover: Option<Value>) -> Value {
    client.expect("session").await;
    let request = json!({ "type": "subscribe_channel", "channel": "numbers", "recover": recover });
    client.request(request).await.unwrap()
}

#[tokio::test]
async fn numbers_published_while_the_socket_was_cut_come_after_it_once_and_in_order() {
    let server = TestServer::start(hub(), handler());
    let counting = tokio::spawn(count(server.hub().clone(), Duration::from_millis(1)));
    let mut client = server.json("/").await;
    let mut position = subscribe(&mut client, None).await;
    let mut last = None;
    for round in 0..5 {
        for _ in 0..20 {
            let number = client.expect("number").await;
            let n = number["n"].as_u64().unwrap();
            assert_eq!(n, last.map_or(n, |last| last + 1), "in round {round}");
            last = Some(n);
            position["offset"] = number["offset"].clone();
        }
        if round % 2 == 0 {
            client.vanish();
        } else {
            client.send(json!({ "type": "cut_me_off" })).await;
            assert_eq!(client.expect_close().await.0, 3011);
        }
        client = server.json("/").await;
        let recover = json!({ "epoch": position["epoch"], "offset": position["offset"] });
        assert_eq!(subscribe(&mut client, Some(recover)).await["recovered"], true);
    }
    counting.abort();
}
