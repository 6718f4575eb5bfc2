//! Client requests: from callbacks of the same connection and from elsewhere, their answers, refusals,
//! timeouts and ends, and what the client sends meanwhile.

use crate::support::{session_client, session_clients, user_handler, wait_for_connections, wait_until_empty};
use hauyna::error::ErrorKind;
use hauyna::{CloseCode, Connection, Context, ErrorType, Handler, Hub, Result, json};
use hauyna_test::{Client, Frame, TestServer};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

#[derive(Debug, Deserialize)]
struct Choice {
    choice: String,
}

/// Sends a client request and returns its answer.
async fn ask(cx: Context, _: Value) -> Result<String> {
    let choice: Choice = cx.request("choose", json!({ "among": ["a", "b"] })).await?;
    Ok(choice.choice)
}

/// Sends a client request that fails and returns the kind of failure; `after` is the timeout in milliseconds.
async fn ask_and_fail(cx: Context, message: Value) -> Result<String> {
    let timeout = Duration::from_millis(message["after"].as_u64().unwrap_or(60_000));
    let answer = cx.request::<Value>("choose", ()).timeout(timeout).await;
    Ok(format!("{:?}", answer.unwrap_err().kind()))
}

async fn note(_: Context, message: Value) -> Result<Value> {
    Ok(message["n"].clone())
}

fn handler() -> Handler {
    user_handler().on("ask", ask).on("ask_in_vain", ask_and_fail).on("note", note)
}

async fn answer(client: &mut Client, client_request: &Value, data: Value) {
    client.send(json!({ "type": "ack", "id": client_request["id"], "data": data })).await;
}

async fn only(hub: &Hub) -> Connection {
    wait_for_connections(hub, 1).await;
    hub.connections().all().remove(0)
}

#[tokio::test]
async fn callback_requests_an_answer_from_its_own_client() {
    let server = TestServer::start(Hub::new(), handler());
    for mut client in session_clients(&server, "/").await {
        for (id, choice) in [(1, "a"), (2, "b")] {
            client.send(json!({ "type": "ask", "id": id })).await;
            let client_request = client.expect("request").await;
            assert_eq!(
                (&client_request["event"], &client_request["data"]["among"][1]),
                (&json!("choose"), &json!("b"))
            );
            answer(&mut client, &client_request, json!({ "choice": choice })).await;
            let ack = client.expect("ack").await;
            assert_eq!((&ack["id"], &ack["data"]), (&json!(id), &json!(choice)));
        }
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn requests_before_a_client_answer_are_handled_after_the_callback() {
    let server = TestServer::start(Hub::new(), handler());
    let mut client = server.connect("/").await;
    client.send(json!({ "type": "ask", "id": 1 })).await;
    let client_request = client.expect("request").await;
    for number in 2..5 {
        client.send(json!({ "type": "note", "id": number, "n": number })).await;
    }
    client.ping(b"between").await;
    client.send(json!({ "type": "ask", "id": 5 })).await;
    client.send(json!({ "type": "note", "id": 6, "n": 6 })).await;
    answer(&mut client, &client_request, json!({ "choice": "first" })).await;
    assert_eq!(client.expect("ack").await, json!({ "type": "ack", "id": 1, "data": "first" }));
    for number in 2..5 {
        assert_eq!(client.expect("ack").await, json!({ "type": "ack", "id": number, "data": number }));
    }
    assert_eq!(client.next_frame().await, Frame::Pong(b"between".to_vec()));
    let second = client.expect("request").await;
    client.send(json!({ "type": "note", "id": 7, "n": 7 })).await;
    answer(&mut client, &second, json!({ "choice": "second" })).await;
    for (id, data) in [(5, json!("second")), (6, json!(6)), (7, json!(7))] {
        assert_eq!(client.expect("ack").await, json!({ "type": "ack", "id": id, "data": data }));
    }
}

#[tokio::test]
async fn client_answer_in_the_segment_of_the_request_is_found() {
    let server = TestServer::start(Hub::new(), handler());
    let mut client = server.connect("/").await;
    let early = json!({ "type": "ack", "id": 1, "data": { "choice": "known before" } });
    let (ask, note) = (json!({ "type": "ask", "id": 1 }), json!({ "type": "note", "id": 2, "n": 2 }));
    let mut segment = Vec::new();
    for message in [ask, note, early] {
        let text = message.to_string();
        segment.extend([0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0]); // masked with zeros
        segment.extend_from_slice(text.as_bytes());
    }
    client.send_raw(&segment).await;
    client.expect("request").await;
    assert_eq!(client.expect("ack").await["data"], "known before");
    assert_eq!(client.expect("ack").await["data"], 2);
}

#[tokio::test]
async fn on_open_may_send_a_client_request() {
    let handler = user_handler().on("note", note).on_open(|cx| async move {
        let name: String = cx.request("name", ()).await?;
        cx.send(json!({ "type": "hello", "name": name }))
    });
    let server = TestServer::start(Hub::new(), handler);
    let first = json!({ "type": "note", "id": 1, "n": 1 });
    let mut client = server.client("/").first(&first).connect().await;
    let client_request = client.expect("request").await;
    answer(&mut client, &client_request, json!("ann")).await;
    assert_eq!(client.expect("hello").await["name"], "ann");
    assert_eq!(client.expect("ack").await["data"], 1);
}

#[tokio::test]
async fn refused_or_unfitting_client_answer_is_an_error() {
    let server = TestServer::start(Hub::new(), handler());
    let mut client = server.connect("/").await;
    client.send(json!({ "type": "ask", "id": 1 })).await;
    let client_request = client.expect("request").await;
    client.send(json!({ "type": "error", "id": client_request["id"], "message": "not now" })).await;
    let error = client.answer(&json!(1)).await.unwrap_err();
    assert_eq!((&error["error_type"], &error["message"]), (&json!("application_error"), &json!("not now")));
    client.send(json!({ "type": "ask_in_vain", "id": 2 })).await;
    let client_request = client.expect("request").await;
    client.send(json!({ "type": "error", "id": client_request["id"] })).await;
    assert_eq!(client.answer(&json!(2)).await.unwrap(), "Refused");
    client.send(json!({ "type": "ask", "id": 3 })).await;
    let client_request = client.expect("request").await;
    answer(&mut client, &client_request, json!({ "choice": 7 })).await;
    let error = client.answer(&json!(3)).await.unwrap_err();
    assert_eq!(error["error_type"], "validation_error");
    assert_eq!(
        (&error["details"]["path"], &error["message"]),
        (&json!("data.choice"), &json!("`data.choice` is not a valid string"))
    );
    client.send(json!({ "type": "ask", "id": 4 })).await;
    let client_request = client.expect("request").await;
    answer(&mut client, &client_request, json!([])).await;
    let message = client.answer(&json!(4)).await.unwrap_err()["message"].take();
    assert!(message.as_str().unwrap().starts_with("`data` is not a valid "), "{message}");
}

#[tokio::test]
async fn unanswered_client_request_times_out_and_a_late_answer_is_ignored() {
    let server = TestServer::start(Hub::new(), handler());
    let mut client = server.connect("/").await;
    client.send(json!({ "type": "ask_in_vain", "id": 1, "after": 20 })).await;
    let client_request = client.expect("request").await;
    let error = format!("{:?}", ErrorKind::Protocol(ErrorType::Timeout));
    assert_eq!(client.answer(&json!(1)).await.unwrap(), error);
    answer(&mut client, &client_request, json!("too late")).await;
    client.send(json!({ "type": "ack", "id": "q-1" })).await;
    client.send(json!({ "type": "error", "id": 99 })).await;
    client.expect_nothing().await;
}

#[tokio::test]
async fn client_request_fails_at_once_when_its_connection_ends() {
    let (sender, mut failures) = mpsc::channel(8);
    let handler = user_handler().on("ask", move |cx: Context, _: Value| {
        let sender = sender.clone();
        async move {
            let error = cx.request::<Value>("choose", ()).timeout(Duration::from_secs(60)).await.unwrap_err();
            let again = cx.request::<Value>("choose", ()).timeout(Duration::from_secs(60)).await.unwrap_err();
            sender.send((error.kind(), again.kind())).await.map_err(hauyna::Error::other)
        }
    });
    let server = TestServer::start(Hub::new(), handler);
    for how in ["close", "vanish", "break"] {
        let mut client = server.connect("/").await;
        client.send(json!({ "type": "ask", "id": 1 })).await;
        client.expect("request").await;
        match how {
            "close" => client.close(1000, "").await,
            "vanish" => client.vanish(),
            _ => {
                client.send_raw(b"\xff\xff").await;
                assert_eq!(client.expect_close().await.0, 1002);
            }
        }
        let failed = tokio::time::timeout(Duration::from_secs(5), failures.recv())
            .await
            .expect("the client request fails");
        assert_eq!(failed, Some((ErrorKind::Closed, ErrorKind::Closed)), "{how}");
        wait_until_empty(server.hub()).await;
    }
    let mut client = server.connect("/").await;
    client.send(json!({ "type": "ask", "id": 1 })).await;
    client.expect("request").await;
    only(server.hub()).await.close(CloseCode(4000), "enough");
    assert_eq!(client.expect_close().await.0, 4000);
    let failed = tokio::time::timeout(Duration::from_secs(5), failures.recv())
        .await
        .expect("the client request fails");
    assert_eq!(failed, Some((ErrorKind::Closed, ErrorKind::Closed)));
    client.send_close(4000, "").await;
    wait_until_empty(server.hub()).await;
}

#[tokio::test]
async fn any_task_may_send_a_client_request_during_a_callback() {
    let gate = Arc::new(Semaphore::new(0));
    let open = gate.clone();
    let handler = user_handler().on("note", note).on("slow", move |_: Context, _: Value| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.map_err(hauyna::Error::other)?.forget();
            Ok("slow")
        }
    });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/").await;
    let connection = only(server.hub()).await;
    let client_request = tokio::spawn(connection.request::<u64>("count", ()).into_future());
    let asked = client.expect("request").await;
    answer(&mut client, &asked, json!(1)).await;
    assert_eq!(client_request.await.unwrap().unwrap(), 1);
    client.send(json!({ "type": "slow", "id": 1 })).await;
    client.send(json!({ "type": "note", "id": 2, "n": 2 })).await;
    let client_request = tokio::spawn(connection.request::<u64>("count", ()).into_future());
    let asked = client.expect("request").await;
    answer(&mut client, &asked, json!(2)).await;
    assert_eq!(client_request.await.unwrap().unwrap(), 2);
    open.add_permits(1);
    assert_eq!(client.expect("ack").await["data"], "slow");
    assert_eq!(client.expect("ack").await["data"], 2);
}

#[tokio::test]
async fn flooding_client_is_not_read_ahead_without_limit_and_loses_nothing() {
    let server = TestServer::start(Hub::new(), handler());
    let mut client = server.connect("/").await;
    client.send(json!({ "type": "ask_in_vain", "id": 1, "after": 300 })).await;
    let client_request = client.expect("request").await;
    let padding = "x".repeat(1000);
    for number in 2..402 {
        client.send(json!({ "type": "note", "id": number, "n": number, "padding": padding })).await;
    }
    // Behind more than the read-ahead holds, so it is not found in time.
    answer(&mut client, &client_request, json!("hidden")).await;
    let ack = client.expect("ack").await;
    assert_eq!(ack["data"], format!("{:?}", ErrorKind::Protocol(ErrorType::Timeout)));
    for number in 2..402 {
        assert_eq!(client.expect("ack").await["data"], number);
    }
    client.expect_nothing().await;
}

#[tokio::test]
async fn at_most_64_client_requests_wait_and_dropped_ones_free_their_place() {
    let server = TestServer::start(Hub::new(), handler());
    let mut client = server.connect("/").await;
    let connection = only(server.hub()).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..64 {
        waiting.spawn(connection.request::<Value>("q", ()).into_future());
        client.expect("request").await;
    }
    let error = connection.request::<Value>("q", ()).await.unwrap_err();
    assert_eq!(error.error_type(), ErrorType::LimitExceeded);
    assert_eq!(error.details().unwrap()["limit"], 64);
    waiting.shutdown().await;
    let client_request = tokio::spawn(connection.request::<Value>("q", ()).into_future());
    let asked = client.expect("request").await;
    assert_eq!(asked["id"], 65);
    answer(&mut client, &asked, json!("again")).await;
    assert_eq!(client_request.await.unwrap().unwrap(), "again");
}

#[tokio::test]
async fn client_cannot_answer_for_another_client() {
    let server = TestServer::start(Hub::new(), handler());
    let (mut one, mut other) = (server.connect("/").await, server.connect("/").await);
    one.send(json!({ "type": "ask", "id": 1 })).await;
    let client_request = one.expect("request").await;
    answer(&mut other, &client_request, json!({ "choice": "forged" })).await;
    other.expect_nothing().await;
    answer(&mut one, &client_request, json!({ "choice": "real" })).await;
    assert_eq!(one.expect("ack").await["data"], "real");
}

#[tokio::test]
async fn callback_timeout_drops_its_client_request() {
    let handler = handler().callback_timeout(Duration::from_millis(100));
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/").await;
    client.send(json!({ "type": "ask", "id": 1 })).await;
    client.send(json!({ "type": "note", "id": 2, "n": 2 })).await;
    client.expect("request").await;
    assert_eq!(client.expect("error").await["error_type"], "timeout");
    assert_eq!(client.expect("ack").await["data"], 2);
}

#[tokio::test]
async fn oversized_message_in_the_read_ahead_is_answered_in_order() {
    let server = TestServer::start(Hub::builder().shards(1).build(), handler());
    let mut client = session_client(&server, "/").await;
    client.send(json!({ "type": "ask", "id": 1 })).await;
    let client_request = client.expect("request").await;
    answer(&mut client, &client_request, json!({ "choice": "a" })).await;
    client.send(json!({ "type": "ask", "id": 2 })).await;
    client.expect("ack").await;
    client.expect("request").await;
    let mut too_large = vec![0x81, 0xff];
    too_large.extend_from_slice(&1_000_000_000_u64.to_be_bytes());
    too_large.extend_from_slice(&[0; 4]);
    client.send_raw(&too_large).await;
    // The client request gets no answer, and the message is too large.
    assert_eq!(client.expect("error").await["id"], 2);
    assert_eq!(client.expect("error").await["error_type"], "payload_too_large");
    assert_eq!(client.expect_close().await.0, 1009);
}
