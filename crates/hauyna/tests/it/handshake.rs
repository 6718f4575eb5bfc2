//! Before the connection: refusals over HTTP, origins, limits, and requests that arrive with the handshake.

use crate::support::{open_hub, serve, user_handler, wait_for_connections};
use hauyna::{Hub, Origins, Router, json};
use hauyna_test::{Frame, TestServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn requests_in_the_handshake_segment_are_handled_in_order() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut client = server.client("/?user=early").json();
    client = client.first(&json!({ "type": "subscribe_channel", "id": 1, "channel": "x" }));
    for id in 2..50 {
        client = client.first(&json!({ "type": "channel_message", "id": id, "channel": "x", "content": id }));
    }
    let mut client = client.connect().await;
    client.expect("session").await;
    for id in 1..50 {
        assert!(client.answer(&json!(id)).await.is_ok());
    }
    for id in 2..50 {
        assert_eq!(client.expect("message").await["content"], id);
    }
}

#[tokio::test]
async fn session_message_comes_first_and_names_the_connection() {
    let hub = open_hub().build();
    let server = serve(&hub);
    for mut client in [server.json("/?user=u").await, server.message_pack("/?user=u").await] {
        let session = client.expect("session").await;
        let ids: Vec<_> = hub.connections().of_user("u").iter().map(|own| own.id().to_string()).collect();
        assert!(ids.contains(&session["connection_id"].as_str().unwrap().to_owned()));
        assert_eq!(session["heartbeat"]["interval"], 25_000);
    }
}

#[tokio::test]
async fn first_known_sub_protocol_is_chosen() {
    let hub = Hub::new();
    let server = serve(&hub);
    let client = server.client("/").protocol("graphql-ws").protocol("hauyna.bearer.t").json().connect().await;
    assert_eq!(client.protocol(), Some("hauyna.v1.json"));
    let unknown = server.client("/").protocol("graphql-ws").connect().await;
    assert_eq!(unknown.protocol(), None);
}

/// Sends a request as text. Returns the status, the head and the body.
async fn http(server: &TestServer, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8(answer).unwrap();
    (text.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {text:?}")).parse().unwrap(), text)
}

#[tokio::test]
async fn invalid_handshakes_get_their_status() {
    let server = TestServer::route(Hub::new(), |router| router.websocket("/chat", user_handler()));
    let upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (status, request) in [
        (404, format!("GET /nowhere HTTP/1.1\r\n{upgrade}{key}\r\n")),
        (404, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned()),
        (426, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned()),
        (400, format!("GET /chat HTTP/1.1\r\n{upgrade}Sec-WebSocket-Key: abc\r\n\r\n")),
        (400, format!("GET /chat HTTP/1.1\r\n{upgrade}\r\n")),
        (426, format!("GET /chat HTTP/1.1\r\n{}{key}\r\n", upgrade.replace("13", "8"))),
        (400, format!("GET /chat HTTP/1.1\r\n{upgrade}{key}Content-Length: 3\r\n\r\nabc")),
        (431, format!("GET /chat HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000))),
        (431, format!("GET /chat HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(200))),
        (400, "nonsense\r\n\r\n".to_owned()),
    ] {
        let (got, text) = http(&server, &request).await;
        assert_eq!(got, status, "{request} was answered with {text}");
        assert!(!text.contains("nowhere"), "nothing of the request is repeated");
    }
    let post = format!("POST /chat HTTP/1.1\r\n{upgrade}{key}\r\n");
    let status = http(&server, &post).await.0;
    assert!(status == 405 || status == 400, "{status}");
    assert_eq!(http(&server, &format!("GET /chat HTTP/1.1\r\n{upgrade}{key}\r\n")).await.0, 101);
}

#[tokio::test]
async fn page_of_another_origin_connects_only_if_listed() {
    let server = TestServer::route(Hub::new(), |router| {
        let listed = user_handler().origins(Origins::listed(["https://*.good.example"]));
        let any = user_handler().origins(Origins::Any);
        router.websocket("/", user_handler()).websocket("/listed", listed).websocket("/any", any)
    });
    let same = format!("http://{}", server.address());
    for (path, origin, is_allowed) in [
        ("/", same.as_str(), true),
        ("/", "https://evil.example", false),
        ("/", "null", false),
        ("/listed", "https://a.good.example", true),
        ("/listed", "https://good.example.evil", false),
        ("/listed", &same, true),
        ("/any", "https://evil.example", true),
    ] {
        let answer = server.client(path).header("origin", origin).try_connect().await;
        assert_eq!(answer.is_ok(), is_allowed, "{path} {origin}");
        if let Err(refused) = answer {
            assert_eq!(
                (refused.status.as_u16(), &refused.json()["error_type"]),
                (403, &json!("permission_denied"))
            );
            assert!(refused.head.to_ascii_lowercase().contains("x-content-type-options: nosniff"));
        }
    }
    assert!(server.client("/").try_connect().await.is_ok(), "a client without origin is not a browser");
}

#[tokio::test]
async fn connections_are_limited_in_total_and_per_user() {
    let hub = open_hub().max_connections(3).max_connections_per_user(2).build();
    let server = serve(&hub);
    let mut first = server.connect("/?user=a").await;
    let mut second = server.connect("/?user=a").await;
    first.subscribe("x").await;
    second.subscribe("x").await;
    let refused = server.client("/?user=a").try_connect().await.unwrap_err();
    assert_eq!((refused.status.as_u16(), &refused.json()["error_type"]), (429, &json!("limit_exceeded")));
    let mut third = server.connect("/?user=b").await;
    third.subscribe("x").await;
    let refused = server.client("/?user=c").try_connect().await.unwrap_err();
    assert_eq!((refused.status.as_u16(), &refused.json()["error_type"]), (503, &json!("unavailable")));
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: "));
    first.close(1000, "").await;
    wait_for_connections(&hub, 2).await;
    assert!(server.client("/?user=a").try_connect().await.is_ok());
    assert_eq!(hub.stats().handshakes_refused, 2);
}

#[tokio::test]
async fn limits_hold_during_many_concurrent_handshakes() {
    let hub = open_hub().max_connections(5).max_connections_per_user(2).build();
    let handler = hauyna::Handler::new().identify(|request: hauyna::ConnectRequest| async move {
        tokio::task::yield_now().await; // simulates a database query
        Ok(request.query("user"))
    });
    let server = TestServer::start(hub.clone(), handler);
    let attempts = (0..40).map(|number| {
        let client = server.client(&format!("/?user=u{}", number % 10)).json();
        tokio::spawn(async move {
            let mut client = client.try_connect().await.ok()?;
            client.send(json!({ "type": "ping" })).await;
            loop {
                match client.next_frame().await {
                    Frame::Text(text) if text.contains("pong") => return Some(client),
                    Frame::Text(_) => {}
                    closed => {
                        assert_eq!(closed, Frame::Close(Some((3504, "connection limit".to_owned()))));
                        return None;
                    }
                }
            }
        })
    });
    let mut clients = Vec::new();
    for attempt in attempts.collect::<Vec<_>>() {
        clients.extend(attempt.await.unwrap());
    }
    assert_eq!(clients.len(), 5);
    assert!((0..10).all(|user| hub.connections().of_user(format!("u{user}")).len() <= 2));
}

#[tokio::test]
async fn pending_handshakes_are_limited() {
    let hub = Hub::new();
    let server = Router::new(hub.clone()).websocket("/", user_handler()).into_server();
    let server = TestServer::serve(hub.clone(), server.max_handshakes(2));
    let silent = [
        TcpStream::connect(server.address()).await.unwrap(),
        TcpStream::connect(server.address()).await.unwrap(),
    ];
    let mut third = TcpStream::connect(server.address()).await.unwrap();
    assert!(matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)), "the third connection is closed");
    drop(silent);
    crate::support::eventually("both clients are disconnected", || hub.stats().handshakes_refused >= 1).await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        let mut again = TcpStream::connect(server.address()).await.unwrap();
        again.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        if again.read_to_end(&mut answer).await.is_ok() && answer.starts_with(b"HTTP/1.1 426") {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "the slots are not released");
    }
}

#[tokio::test]
async fn handshake_limit_may_have_any_value() {
    let hub = Hub::new();
    let server = Router::new(hub.clone()).websocket("/", user_handler()).into_server();
    let server = TestServer::serve(hub, server.max_handshakes(usize::MAX));
    server.connect("/").await.expect_nothing().await;
}

#[test]
fn server_mistakes_are_reported_when_it_is_built() {
    let is_refused = |f: fn()| std::panic::catch_unwind(f).is_err();
    assert!(is_refused(|| drop(user_handler().on("ping", async |_: hauyna::Context, _: u8| Ok(())))));
    assert!(is_refused(|| {
        let twice = async |_: hauyna::Context, _: u8| Ok(());
        drop(user_handler().on("x", twice).on("x", twice));
    }));
    assert!(is_refused(|| drop(
        Router::new(Hub::new()).websocket("/a", user_handler()).websocket("/a", user_handler())
    )));
    assert!(is_refused(|| drop(Router::new(Hub::new()).websocket("/{", user_handler()))));
    assert!(is_refused(|| drop(Origins::listed(["example.com"]))));
    let bad = Hub::builder().channels("room:{", hauyna::ChannelOptions::new()).try_build();
    assert_eq!(bad.unwrap_err().kind(), hauyna::error::ErrorKind::Config);
}
