//! WebSocket routes in an axum application, beside its other routes.

use crate::support::{open_hub, user_handler};
use axum::extract::OriginalUri;
use axum::routing::get;
use hauyna::{Context, Router, json};
use hauyna_test::{Client, Connect, TestServer};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn websocket_routes_coexist_with_application_routes() {
    let hub = open_hub().build();
    let handler = hauyna::Handler::new().identify(|request: hauyna::ConnectRequest| async move {
        Ok::<_, hauyna::Reject>(
            request.peer().map(|peer| format!("{}-{}", request.param("room").unwrap(), peer.ip())),
        )
    });
    let realtime = Router::new(hub.clone()).websocket("/rooms/{room}", handler);
    let app = axum::Router::new().route("/", get(|| async { "home" })).merge(realtime.into_axum());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });

    let mut http = TcpStream::connect(address).await.unwrap();
    http.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("home"));

    let first = json!({ "type": "subscribe_channel", "id": 1, "channel": "x" });
    let mut client = Client::to(&format!("ws://{address}/rooms/blue")).json().first(&first).connect().await;
    assert_eq!(client.expect("session").await["user"], "blue-127.0.0.1");
    client.answer(&json!(1)).await.unwrap();
    let mut packed = Client::to(&format!("ws://{address}/rooms/red")).message_pack().connect().await;
    packed.expect("session").await;
    packed.subscribe("x").await;
    for number in 0..100 {
        client.send(json!({ "type": "channel_message", "channel": "x", "content": number })).await;
    }
    for reader in [&mut client, &mut packed] {
        assert_eq!(reader.expect_in_order("x", 100).await, (0..100).collect::<Vec<_>>());
    }
    let refused = Client::to(&format!("ws://{address}/rooms/blue")).header("origin", "https://evil.example");
    assert_eq!(refused.try_connect().await.unwrap_err().status.as_u16(), 403);
    client.close(1000, "").await;
    packed.vanish();
    crate::support::wait_until_empty(&hub).await;
}

#[tokio::test]
async fn standalone_server_passes_other_requests_to_its_fallback() {
    let pages = axum::Router::new().route("/", get(|| async { "home" }));
    let server = TestServer::route(open_hub().build(), |router| {
        router.websocket("/ws", user_handler()).fallback(pages)
    });
    for (path, status) in [("/", "200"), ("/nowhere", "404"), ("/ws", "426")] {
        let mut http = TcpStream::connect(server.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        http.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        http.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
    server.connect("/ws").await.close(1000, "").await;
}

async fn serve(app: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn session_of_a_nested_router_stays_within_its_prefix() {
    let hub = crate::sessions::hub().build();
    let realtime = || Router::new(hub.clone()).websocket("/rooms/{id}", user_handler()).into_axum();
    let address = serve(axum::Router::new().nest("/orgs/{org}", realtime())).await;
    let to = |path: &str, query: &str| -> Connect {
        Client::to(&format!("ws://{address}{path}?user=ann{query}")).json()
    };
    let mut ann = to("/orgs/one/rooms/1", "").connect().await;
    let session = ann.expect("session").await;
    ann.subscribe("room:1").await;
    crate::sessions::lose(&hub, ann).await;
    let resume = format!("&resume={}", session["resume"]["token"].as_str().unwrap());
    for (path, is_resumed) in [("/orgs/two/rooms/1", false), ("/orgs/one/rooms/1", true)] {
        let mut ann = to(path, &resume).connect().await;
        ann.send(json!({ "type": "resume" })).await;
        assert_eq!(ann.expect("session").await["resumed"], is_resumed, "{path}");
    }
}

#[tokio::test]
async fn axum_request_extensions_keep_no_token() {
    let target =
        async |cx: Context, (): ()| Ok(cx.extension::<OriginalUri>().map(|OriginalUri(uri)| uri.to_string()));
    let handler = user_handler().token_in_query("ticket").on("target", target);
    let realtime = Router::new(open_hub().build()).websocket("/chat", handler).into_axum();
    let address = serve(axum::Router::new().nest("/app", realtime)).await;
    for (query, kept) in
        [("?user=ann&a=1", "?user=ann&a=1"), ("?ticket=s3cret&user=ann&resume=x", "?user=ann")]
    {
        let mut client = Client::to(&format!("ws://{address}/app/chat{query}")).connect().await;
        let target = client.request(json!({ "type": "target" })).await.unwrap();
        assert_eq!(target, format!("/app/chat{kept}"));
    }
}

#[tokio::test]
async fn fallback_of_a_router_is_kept_in_axum() {
    let pages = axum::Router::new().route("/", get(|| async { "home" }));
    let realtime = Router::new(open_hub().build()).websocket("/chat", user_handler()).fallback(pages);
    let address = serve(axum::Router::new().merge(realtime.into_axum())).await;
    let mut http = TcpStream::connect(address).await.unwrap();
    http.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("home"), "{answer}");
    Client::to(&format!("ws://{address}/chat")).connect().await.close(1000, "").await;
}
