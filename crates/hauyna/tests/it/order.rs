//! Messages from one task to one connection arrive in the order in which the calls returned, by any verb.

use crate::support::{eventually, open_hub, session_client, user_handler};
use hauyna::{Context, Error, Handler, Hub, Identity, Rate, json};
use hauyna_test::{Client, Frame, MemoryServer, TestServer};
use hauyna_websocket::{FrameHead, OpCode};
use serde_json::Value;
use std::time::Duration;

fn number(message: &Value) -> Option<u64> {
    ["content", "message"].iter().find_map(|field| message[field]["n"].as_u64()).or(message["n"].as_u64())
}

/// Returns the numbers of the received messages up to the last one.
async fn numbers(client: &mut Client, last: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        seen.extend(number(&client.next().await));
    }
    seen
}

async fn client_of_two_channels_and_a_group(server: &TestServer, hub: &Hub) -> Client {
    hub.groups().add("alice", "team").await.unwrap();
    let mut client = session_client(server, "/?user=alice").await;
    client.subscribe("a").await;
    client.subscribe("b").await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_all_verbs_keep_the_order_of_the_calls() {
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
    let mut client = client_of_two_channels_and_a_group(&server, &hub).await;
    let connection = hub.user("alice").connections().remove(0);
    let count = 600;
    let reading = tokio::spawn(async move { numbers(&mut client, count - 1).await });
    for number in 0..count {
        let message = json!({ "n": number });
        match number % 6 {
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
async fn answer_of_a_callback_follows_what_it_sent() {
    async fn work(cx: Context) -> hauyna::Result<Value> {
        cx.channel("a").broadcast(json!({ "n": 1 })).await?;
        cx.connection().send(json!({ "n": 2 }))?;
        cx.hub().connections().broadcast(json!({ "n": 3 })).await?;
        Ok(json!("done"))
    }
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), user_handler().on("work", |cx: Context, _: Value| work(cx)));
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
async fn answer_of_a_callback_follows_what_others_sent_for_it() {
    async fn work(cx: Context) -> hauyna::Result<Value> {
        let channel = cx.channel("a");
        tokio::spawn(async move { channel.broadcast(json!({ "n": 1 })).await }).await.unwrap()?;
        Ok(json!("done"))
    }
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), user_handler().on("work", |cx: Context, _: Value| work(cx)));
    let mut client = client_of_two_channels_and_a_group(&server, &hub).await;
    for id in 0..500 {
        client.send(json!({ "type": "work", "id": id })).await;
        assert_eq!(number(&client.next().await), Some(1), "before the answer {id}");
        assert_eq!(client.expect("ack").await["id"], id);
    }
}

#[tokio::test]
async fn close_by_the_application_follows_what_was_sent() {
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
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
async fn ordered_answer_may_be_an_error() {
    let handler = Handler::new().on("fail", |cx: Context, _: Value| async move {
        cx.connection().send(json!({ "n": 1 }))?;
        Err::<(), _>(hauyna::Error::application("no"))
    });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = session_client(&server, "/").await;
    client.send(json!({ "type": "fail", "id": 7 })).await;
    let error = client.wait_for("error").await;
    assert_eq!((&error["id"], &error["error_type"]), (&json!(7), &json!("application_error")));
}

/// Returns a masked frame (RFC 6455 §5.3, the mask is 0).
fn frame(message: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    hauyna_websocket::encode_into(&mut bytes, OpCode::Text, message.to_string().as_bytes(), Some([0; 4]));
    bytes
}

/// Sends a request whose callback sends something and these bytes in one packet. Returns the types and ids of
/// the messages until the connection closes.
async fn answers_before_the_end(then: &[u8]) -> Vec<(String, Value)> {
    let handler = Handler::new().on("work", |cx: Context, _: Value| async move {
        cx.hub().connections().broadcast(json!({ "n": 1 })).await.map(drop)
    });
    let handler = handler.error_budget(Rate::new(1, Duration::from_secs(3600)));
    let server = TestServer::start(Hub::builder().shards(1).build(), handler);
    let mut client = session_client(&server, "/").await;
    let mut packet = frame(&json!({ "type": "work", "id": 1 }));
    packet.extend_from_slice(then);
    client.send_raw(&packet).await;
    let mut seen = Vec::new();
    while let Frame::Text(text) = client.next_frame().await {
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] != "broadcast" {
            seen.push((message["type"].as_str().unwrap().to_owned(), message["id"].clone()));
        }
    }
    seen
}

#[tokio::test]
async fn ordered_answer_arrives_before_a_close() {
    let of_work = ("ack".to_owned(), json!(1));
    let close = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
    assert_eq!(answers_before_the_end(&close).await, std::slice::from_ref(&of_work), "the client closes");
    let mut too_large = vec![0x81, 0xff];
    too_large.extend_from_slice(&1_000_000_000_u64.to_be_bytes());
    too_large.extend_from_slice(&[0; 4]);
    let answers = answers_before_the_end(&too_large).await;
    assert_eq!(answers, [of_work.clone(), ("error".to_owned(), Value::Null)], "too large");
    let of_the_wrong_kind = [0x82, 0x81, 0, 0, 0, 0, 7];
    let answers = answers_before_the_end(&of_the_wrong_kind).await;
    assert_eq!(answers, std::slice::from_ref(&of_work), "binary from a JSON client");
    let fault = |id| frame(&json!({ "type": "nobody_handles_it", "id": id }));
    let answers = answers_before_the_end(&[fault(2), fault(3)].concat()).await;
    let errors = [("error".to_owned(), json!(2)), ("error".to_owned(), json!(3))];
    assert_eq!(answers, [&[of_work], &errors[..]].concat(), "too many errors");
}

#[tokio::test]
async fn subscription_notices_follow_earlier_answers() {
    let handler = user_handler().on("work", |cx: Context, _: Value| async move {
        cx.hub().user("ann").send(json!({ "n": "x".repeat(200_000) })).await.map(drop)
    });
    let hub = open_hub().shards(1).build();
    let server = MemoryServer::start(hub.clone(), handler);
    let mut client = server.json("/?user=ann").await;
    client.expect("session").await;
    client.subscribe("x").await;
    let connection = hub.user("ann").connections().remove(0);
    let unsubscribe = json!({ "type": "unsubscribe_channel", "id": 2, "channel": "x" });
    let packet = [frame(&json!({ "type": "work", "id": 1 })), frame(&unsubscribe)].concat();
    client.send_raw(&packet).await;
    // Both answers wait behind what the callback has sent.
    eventually("the connection is unsubscribed", || !hub.channel("x").is_subscribed(&connection)).await;
    hub.channel("x").subscribe(&connection, ()).await.unwrap();
    client.wait_for("private").await;
    for (kind, id) in [("ack", json!(1)), ("ack", json!(2)), ("subscribed", Value::Null)] {
        let next = client.next().await;
        assert_eq!((&next["type"], &next["id"]), (&json!(kind), &id), "{next}");
    }
}

/// Sends a message before it returns its future, so that it is sent before the future is polled.
fn sends_first<T>(cx: &Context, result: T) -> std::future::Ready<T> {
    cx.connection().send(json!({ "type": "note" })).unwrap();
    std::future::ready(result)
}

#[tokio::test]
async fn what_a_callback_sends_before_it_returns_its_future_arrives_before_the_answer() {
    let refused = || Err(Error::application("on purpose"));
    let handler = user_handler()
        .on_binary(move |cx, _| sends_first(&cx, refused()))
        .on_pong(move |cx, _| sends_first(&cx, refused()))
        .on_refresh(|cx, _| sends_first(&cx, Ok(Identity::anonymous())))
        .on("event", move |cx, ()| sends_first(&cx, Ok(())));
    let server = TestServer::start(open_hub().build(), handler);
    let mut client = server.json("/?user=alice").await;
    client.expect("session").await;
    for opcode in [OpCode::Binary, OpCode::Pong] {
        client.send_frame(FrameHead::of(opcode), b"x").await;
        assert_eq!(client.next().await["type"], "note", "{opcode:?}");
        assert_eq!(client.next().await["type"], "error", "{opcode:?}");
    }
    for request in [json!({ "type": "refresh", "token": "t", "id": 1 }), json!({ "type": "event", "id": 2 })]
    {
        client.send(request.clone()).await;
        assert_eq!(client.next().await["type"], "note", "{request}");
        assert_eq!(client.next().await["type"], "ack", "{request}");
    }
}
