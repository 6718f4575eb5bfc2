//! The application over real sockets: its HTTP route on one side, a user's connection on the other.

use super::{application, hub};
use axum::http::StatusCode;
use hauyna::json;
use hauyna_test::Client;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, application(hub())).await });
    address
}

/// Sends the same request as `curl`.
async fn post(address: SocketAddr, body: &str) -> StatusCode {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /notifications HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

async fn connect(address: SocketAddr, user: &str) -> Client {
    Client::connect(&format!("ws://{address}/live?user_id={user}")).await
}

#[tokio::test]
async fn a_notification_reaches_its_user_at_once_and_another_after_a_reload() {
    let address = start().await;
    let mut ann = connect(address, "ann").await;
    let subscribe = json!({ "type": "subscribe_channel", "channel": "notifications:ann" });
    let start = ann.request(subscribe).await.unwrap();
    assert_eq!(post(address, r#"{"to":"ann","text":"one"}"#).await, StatusCode::CREATED);
    assert_eq!(ann.expect("notification").await["text"], "one");
    ann.vanish();

    assert_eq!(post(address, r#"{"to":"ann","text":"two"}"#).await, StatusCode::CREATED);
    let mut ann = connect(address, "ann").await;
    let recover = json!({ "epoch": start["epoch"], "offset": 1 });
    let back = json!({ "type": "subscribe_channel", "channel": "notifications:ann", "recover": recover });
    assert_eq!(ann.request(back).await.unwrap()["recovered"], true);
    assert_eq!(ann.expect("notification").await["text"], "two");
}

#[tokio::test]
async fn nobody_reads_or_writes_the_notifications_of_another() {
    let address = start().await;
    let mut eve = connect(address, "eve").await;
    for (kind, error) in [("subscribe_channel", "permission_denied"), ("history", "not_subscribed")] {
        let refused = eve.request(json!({ "type": kind, "channel": "notifications:ann" })).await;
        assert_eq!(refused.unwrap_err()["error_type"], error);
    }
    let subscribe = json!({ "type": "subscribe_channel", "channel": "notifications:eve" });
    eve.request(subscribe).await.unwrap();
    let forged = json!({ "type": "channel_message", "channel": "notifications:eve", "content": "forged" });
    assert_eq!(eve.request(forged).await.unwrap_err()["error_type"], "permission_denied");
}

#[tokio::test]
async fn a_bad_request_is_refused_with_a_status_that_says_so() {
    let address = start().await;
    let bad = [
        (r#"{"to":"ann"}"#, StatusCode::UNPROCESSABLE_ENTITY),
        (r#"{"to":"","text":"x"}"#, StatusCode::BAD_REQUEST),
        (r#"{"to":"a\u0000b","text":"x"}"#, StatusCode::BAD_REQUEST),
        ("not json", StatusCode::BAD_REQUEST),
    ];
    for (body, status) in bad {
        assert_eq!(post(address, body).await, status, "{body}");
    }
}
