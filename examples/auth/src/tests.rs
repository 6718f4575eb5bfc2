//! Login, refresh and expiry over real sockets, and the data of token and middleware in callbacks.

use super::{Tokens, application};
use axum::http::StatusCode;
use hauyna::json;
use hauyna_test::{Client, Connect};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn start(lifetime: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tokens = Tokens::new([7; 32], lifetime).unwrap();
    tokio::spawn(async move { axum::serve(listener, application(tokens)).await });
    address
}

async fn post(address: SocketAddr, target: &str, bearer: &str, body: &str) -> Result<String, StatusCode> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nauthorization: Bearer {bearer}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let status: StatusCode = answer.split(' ').nth(1).unwrap().parse().unwrap();
    if status.is_success() { Ok(answer.split("\r\n\r\n").nth(1).unwrap().to_owned()) } else { Err(status) }
}

async fn login(address: SocketAddr, name: &str, password: &str) -> Result<String, StatusCode> {
    post(address, "/login", "", &json!({ "name": name, "password": password }).to_string()).await
}

fn client(address: SocketAddr, token: &str) -> Connect {
    let to = Client::to(&format!("ws://{address}/live")).header("user-agent", "a test");
    to.json().protocol(&format!("hauyna.bearer.{token}"))
}

#[tokio::test]
async fn a_login_gives_a_token_that_says_who_one_is_and_what_one_may() {
    let address = start(Duration::from_secs(60)).await;
    assert_eq!(login(address, "ann", "banana").await, Err(StatusCode::UNAUTHORIZED));
    let mut ann = client(address, &login(address, "ann", "apple").await.unwrap()).connect().await;
    let session = ann.expect("session").await;
    assert_eq!(session["user"], "ann");
    assert!(session["expires_at"].is_u64());
    let me = ann.request(json!({ "type": "who_am_i" })).await.unwrap();
    assert_eq!(me, json!({ "user": "ann", "role": "staff", "browser": "a test" }));
    let staff = json!({ "type": "subscribe_channel", "channel": "staff" });
    ann.request(staff.clone()).await.unwrap();

    let mut bob = client(address, &login(address, "bob", "banana").await.unwrap()).connect().await;
    bob.expect("session").await;
    assert_eq!(bob.request(staff).await.unwrap_err()["error_type"], "permission_denied");
}

#[tokio::test]
async fn without_a_token_or_with_a_forged_one_nobody_comes_in() {
    let address = start(Duration::from_secs(60)).await;
    let token = login(address, "ann", "apple").await.unwrap();
    let forged = format!("{}x", &token[..token.len() - 1]);
    let forged = if forged == token { format!("{}y", &token[..token.len() - 1]) } else { forged };
    assert_eq!(client(address, &forged).try_connect().await.unwrap_err().status, 401);
    let without = Client::to(&format!("ws://{address}/live")).json();
    assert_eq!(without.try_connect().await.unwrap_err().status, 401);
    assert_eq!(post(address, "/renew", &forged, "").await, Err(StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn a_token_is_renewed_while_connected_and_its_end_is_the_end_of_the_connection() {
    let address = start(Duration::from_secs(2)).await;
    let token = login(address, "ann", "apple").await.unwrap();
    let mut kept = client(address, &token).connect().await;
    let mut expiring = client(address, &token).connect().await;
    let first = kept.expect("session").await["expires_at"].as_u64().unwrap();
    let mut renewed = 0;
    while renewed <= first {
        // The expiry is in whole seconds: ask until it is later.
        let token = post(address, "/renew", &token, "").await.unwrap();
        let answer = kept.request(json!({ "type": "refresh", "token": token })).await.unwrap();
        renewed = answer["expires_at"].as_u64().unwrap();
    }
    assert_eq!(expiring.expect_close().await.0, 3005);
    kept.expect_nothing().await;
    assert_eq!(client(address, &token).try_connect().await.unwrap_err().status, 401);
}
