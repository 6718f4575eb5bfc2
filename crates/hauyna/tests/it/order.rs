//! What one task sends to one connection arrives in the order in which the calls returned, by whatever verb.

use crate::support::{named, open_hub, subscribe};
use hauyna::{Context, Handler, Hub, json};
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::time::Duration;

fn number(message: &Value) -> Option<u64> {
    ["content", "message"].iter().find_map(|field| message[field]["n"].as_u64()).or(message["n"].as_u64())
}

/// The numbers of the messages that come until the last one.
async fn numbers(client: &mut Client, last: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        seen.extend(number(&client.next().await));
    }
    seen
}

async fn client_of_two_channels_and_a_group(server: &TestServer, hub: &Hub) -> Client {
    hub.groups().add("alice", "team").unwrap();
    let mut client = server.json("/?user=alice").await;
    client.expect("session").await;
    subscribe(&mut client, "a").await;
    subscribe(&mut client, "b").await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_by_all_verbs_keep_the_order_of_the_calls() {
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), named().write_timeout(Duration::from_secs(60)));
    let mut client = client_of_two_channels_and_a_group(&server, &hub).await;
    let connection = hub.user("alice").connections().remove(0);
    let count = 600;
    let reading = tokio::spawn(async move { numbers(&mut client, count - 1).await });
    for n in 0..count {
        let message = json!({ "n": n });
        match n % 6 {
            0 => drop(hub.channel("a").broadcast(&message).await.unwrap()),
            1 => connection.send(&message).unwrap(),
            2 => drop(hub.groups().send("team", &message).await.unwrap()),
            3 => drop(hub.connections().broadcast(&message).await.unwrap()),
            4 => drop(hub.channel("b").broadcast(&message).await.unwrap()),
            _ => drop(hub.user("alice").send(&message).await.unwrap()),
        }
    }
    assert_eq!(reading.await.unwrap(), (0..count).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_answer_of_a_callback_comes_behind_what_it_has_sent() {
    async fn work(cx: Context) -> hauyna::Result<Value> {
        cx.channel("a").broadcast(json!({ "n": 1 })).await?;
        cx.connection().send(json!({ "n": 2 }))?;
        cx.hub().connections().broadcast(json!({ "n": 3 })).await?;
        Ok(json!("done"))
    }
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), named().on("work", |cx: Context, _: Value| work(cx)));
    let mut client = client_of_two_channels_and_a_group(&server, &hub).await;
    for id in 0..200 {
        client.send(json!({ "type": "work", "id": id })).await;
    }
    for id in 0..200 {
        let mut seen = Vec::new();
        loop {
            let message = client.next().await;
            if message["type"] == "ack" && message["id"] == id {
                break;
            }
            seen.extend(number(&message));
        }
        assert_eq!(seen, [1, 2, 3], "before the answer {id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_of_a_callback_comes_behind_what_others_have_sent_for_it() {
    async fn work(cx: Context) -> hauyna::Result<Value> {
        let channel = cx.channel("a");
        tokio::spawn(async move { channel.broadcast(json!({ "n": 1 })).await }).await.unwrap()?;
        Ok(json!("done"))
    }
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), named().on("work", |cx: Context, _: Value| work(cx)));
    let mut client = client_of_two_channels_and_a_group(&server, &hub).await;
    for id in 0..500 {
        client.send(json!({ "type": "work", "id": id })).await;
        assert_eq!(number(&client.next().await), Some(1), "before the answer {id}");
        assert_eq!(client.expect("ack").await["id"], id);
    }
}

#[tokio::test]
async fn a_close_of_the_application_comes_behind_what_was_sent() {
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), named());
    let mut client = client_of_two_channels_and_a_group(&server, &hub).await;
    let connection = hub.user("alice").connections().remove(0);
    hub.channel("a").broadcast(json!({ "n": 0 })).await.unwrap();
    connection.send(json!({ "n": 1 })).unwrap();
    hub.groups().send("team", json!({ "n": 2 })).await.unwrap();
    connection.close(hauyna::CloseCode(4000), "done");
    assert_eq!(numbers(&mut client, 2).await, [0, 1, 2]);
    assert_eq!(client.expect_close().await.0, 4000);
}

#[tokio::test]
async fn an_ordered_answer_may_be_an_error() {
    let handler = Handler::new().on("fail", |cx: Context, _: Value| async move {
        cx.connection().send(json!({ "n": 1 }))?;
        Err::<(), _>(hauyna::Error::application("no"))
    });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.json("/").await;
    client.expect("session").await;
    client.send(json!({ "type": "fail", "id": 7 })).await;
    let error = client.wait_for("error").await;
    assert_eq!((&error["id"], &error["error_type"]), (&json!(7), &json!("application_error")));
}
