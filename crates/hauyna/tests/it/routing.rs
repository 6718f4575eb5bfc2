//! What the application reads from a request: parameters, cookies, headers, and the status of requests that
//! are no handshake, on every transport.

use crate::support::{open_hub, user_handler};
use hauyna::{ConnectRequest, Context, ErrorType, Handler, Hub, Reject, Router, Value, json};
use hauyna_test::TestServer;
use http::StatusCode;
use serde::Deserialize;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Deserialize)]
struct Seat {
    game: u32,
    seat: String,
}

#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    tag: Vec<String>,
    level: Option<u8>,
}

fn typed() -> Handler {
    let identify = |request: ConnectRequest| -> Result<String, Reject> {
        let seat: Seat = request.path()?;
        let options: Options = request.query_as()?;
        Ok(format!("{}@{} {:?} {:?}", seat.seat, seat.game, options.tag, options.level))
    };
    Handler::new().identify(identify).on("where", async |cx: Context, _: Value| {
        let (game, seat): (u32, String) = cx.path()?;
        let options: Options = cx.query_as()?;
        Ok(json!([game, seat, options.tag, cx.param("seat"), cx.query("tag")]))
    })
}

#[tokio::test]
async fn path_and_query_are_decoded_into_types() {
    let server = TestServer::route(Hub::new(), |router| router.websocket("/games/{game}/{*seat}", typed()));
    let mut client = server.json("/games/7/north%20east/2?tag=a+b&level=3&tag=c").await;
    assert_eq!(client.expect("session").await["user"], r#"north east/2@7 ["a b", "c"] Some(3)"#);
    let parameters = client.request(json!({ "type": "where" })).await.unwrap();
    assert_eq!(parameters, json!([7, "north east/2", ["a b", "c"], "north east/2", "a b"]));
}

#[tokio::test]
async fn invalid_parameter_is_400_with_its_path_and_no_type_name() {
    let server = TestServer::route(Hub::new(), |router| router.websocket("/games/{game}/{*seat}", typed()));
    for (target, path, message) in [
        ("/games/seven/a", "game", "`game` is not an integer in range"),
        ("/games/4294967296/a", "game", "`game` is not an integer in range"),
        ("/games/7/a?level=256", "level", "`level` is not an integer in range"),
        ("/games/7/a?tag=x&level=", "level", "`level` is not an integer in range"),
    ] {
        let refused = server.client(target).try_connect().await.unwrap_err();
        assert_eq!(refused.status.as_u16(), 400, "{target}");
        let body = refused.json();
        assert_eq!((&body["error_type"], &body["message"]), (&json!("validation_error"), &json!(message)));
        assert_eq!(body["details"]["path"], path);
        assert!(["u32", "u8", "Seat", "Options", "serde"].iter().all(|name| !refused.body.contains(name)));
    }
}

#[tokio::test]
async fn invalid_parameter_in_a_callback_is_a_validation_error() {
    let handler = user_handler().on("page", async |cx: Context, _: Value| {
        let (page,): (u32,) = cx.query_as()?;
        Ok(page)
    });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.json("/?page=7").await;
    assert_eq!(client.request(json!({ "type": "page" })).await.unwrap(), 7);
    let mut client = server.json("/?page=x").await;
    let error = client.request(json!({ "type": "page" })).await.unwrap_err();
    assert_eq!(
        (&error["error_type"], &error["details"]["path"]),
        (&json!("validation_error"), &json!("page"))
    );
}

#[tokio::test]
async fn headers_and_cookies_are_readable_before_the_upgrade() {
    let handler = Handler::new().identify(|request: ConnectRequest| {
        let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
        Ok::<_, Reject>(format!("{} {} {}", text(request.header("x-device")), text(request.cookie("sid")), {
            text(request.cookie("none"))
        }))
    });
    let server = TestServer::start(Hub::new(), handler);
    let client = server.client("/").header("x-device", "tv").header("cookie", "a=1; sid=42; b=3").json();
    assert_eq!(client.connect().await.expect("session").await["user"], "tv 42 -");
}

#[tokio::test]
async fn cookies_and_lists_are_read_despite_non_text_elements() {
    let handler = Handler::new().identify(|request: ConnectRequest| {
        let addresses: Vec<&str> = request.header_list("x-forwarded-for").collect();
        let cookie = |name| request.cookie(name).unwrap_or("-").to_owned();
        Ok::<_, Reject>(format!("{} {} {}", addresses.join(" "), cookie("sid"), cookie("bad")))
    });
    let server = TestServer::start(Hub::new(), handler);
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let json = "Sec-WebSocket-Protocol: hauyna.v1.json\r\n";
    let lines =
        "X-Forwarded-For: 192.0.2.9, ,192.0.2.1\r\nX-Forwarded-For:\r\nX-Forwarded-For: 192.0.2.2,\r\n";
    let request = format!("GET / HTTP/1.1\r\n{UPGRADE}{KEY}{json}{lines}");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(b"Cookie: bad=\xff; sid=42\r\n\r\n").await.unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    let name = r#""user":"192.0.2.9 192.0.2.1 192.0.2.2 42 -""#;
    while !String::from_utf8_lossy(&answer).contains(name) {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..read]);
    }
}

#[tokio::test]
async fn routes_match_decoded_paths_and_parameters_are_decoded_once() {
    let answer = || {
        Handler::new().on("where", async |cx: Context, _: Value| {
            let all: std::collections::BTreeMap<String, String> = cx.path()?;
            Ok(json!([cx.param("name"), all]))
        })
    };
    let server = TestServer::route(Hub::new(), |router| {
        router
            .websocket("/café/{name}", answer())
            .websocket("/100%25/{name}", answer())
            .websocket("/files/{*name}", answer())
    });
    for (target, name) in [
        ("/caf%C3%A9/x", "x"),
        ("/%63af%c3%a9/x", "x"),
        ("/caf%C3%A9/a%2Fb", "a/b"),
        ("/caf%C3%A9/a%252Fb", "a%2Fb"),
        ("/caf%C3%A9/a+b", "a+b"),
        ("/caf%C3%A9/%7Bname%7D", "{name}"),
        ("/100%25/x", "x"),
        ("/files/a%2Fb/c%20d", "a/b/c d"),
    ] {
        let mut client = server.connect(target).await;
        let parameters = client.request(json!({ "type": "where" })).await.unwrap();
        assert_eq!(parameters, json!([name, { "name": name }]), "{target}");
    }
    for target in ["/caf%C3%A9%2Fx", "/caf%C3%A9", "/caf%C3%A9/x/y", "/caf%25C3%25A9/x", "/files"] {
        let refused = server.client(target).try_connect().await.unwrap_err();
        assert_eq!(refused.status.as_u16(), 404, "{target}");
    }
}

#[test]
fn route_that_can_never_match_is_refused_when_mounted() {
    for route in ["chat", "/:id", "/room-{id}", "/{id}.json", "/a/*", "/{a}/{a}", "/chat?x={id}", "/%FF"] {
        let mount = || drop(Router::new(Hub::new()).websocket(route, Handler::new()));
        let panic = std::panic::catch_unwind(mount).expect_err(route);
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.starts_with(&format!("route `{route}`: ")), "{text}");
    }
    let twice = || {
        let router = Router::new(Hub::new()).websocket("/café", Handler::new());
        drop(router.websocket("/caf%C3%A9", Handler::new()));
    };
    assert!(std::panic::catch_unwind(twice).is_err(), "one path in two spellings");
}

const UPGRADE: &str = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Checks the status table, which must be the same on every transport.
async fn statuses(address: SocketAddr) {
    let upgrade = |target: &str, more: &str| format!("GET {target} HTTP/1.1\r\n{UPGRADE}{KEY}{more}\r\n");
    for (status, request) in [
        (101, upgrade("/open", "")),
        (404, upgrade("/nowhere", "")),
        (426, "GET /open HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned()),
        (426, upgrade("/open", "").replace("Version: 13", "Version: 8")),
        (426, upgrade("/open", "").replace("Connection: Upgrade", "Connection: close")),
        (400, upgrade("/open", "").replace(KEY, "")),
        (400, upgrade("/open", "").replace(KEY, "Sec-WebSocket-Key: abc\r\n")),
        (400, upgrade("/open", "Content-Length: 3\r\n") + "abc"),
        (400, upgrade("/open", "Sec-WebSocket-Protocol: a, a\r\n")),
        (400, upgrade("/open", "Sec-WebSocket-Protocol: , ,\r\n")),
        (101, upgrade("/open", "Sec-WebSocket-Protocol: hauyna.v1.json, \r\n")),
        (101, upgrade("/open", "Sec-WebSocket-Protocol: ,hauyna.v1.json,,other\r\n")),
        (400, upgrade("/named?user=%FF", "")),
        (400, upgrade("/named?user=%FE", "")),
        (400, upgrade("/named?user=%ED%A0%80", "")),
        (400, upgrade("/named?user=ann&more=%C3", "")),
        (400, upgrade("/named?user=ann&%C3=more", "")),
        (400, upgrade("/open?resume=%FF", "")),
        (400, upgrade("/caf%C3%A9/%FF", "")),
        (400, upgrade("/caf%C3%A9/a%C3", "")),
        (101, upgrade("/caf%C3%A9/ada", "")),
        (101, upgrade("/caf%c3%a9/ada", "")),
        (101, upgrade("/caf%C3%A9/a%2Fb%25", "")),
        (404, upgrade("/caf%C3%A9%2Fada", "")),
        (404, upgrade("/caf%E9/ada", "")),
        (403, upgrade("/open", "Origin: https://evil.example\r\n")),
        (403, upgrade("/open", "Origin: null\r\n")),
        (401, upgrade("/named", "")),
        (403, upgrade("/named?user=eve", "")),
        (400, upgrade("/named?user=%0A", "")),
        (429, upgrade("/named?user=busy", "")),
        (503, upgrade("/down", "")),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is accepted as an end.
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let got = text.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {text:?}"));
        assert_eq!(got, status.to_string(), "{request} was answered with {text}");
        let head = text.to_ascii_lowercase();
        assert!(status != 426 || head.contains("sec-websocket-version: 13"), "{text}");
        assert!(status != 503 || head.contains("retry-after: "), "{text}");
        assert!(!text.contains("nowhere") && !text.contains("evil"), "nothing of the request is repeated");
    }
}

fn routes(hub: &Hub) -> Router {
    let by_name = Handler::new().identify(|request: ConnectRequest| match request.query("user") {
        None => Err(Reject::unauthorized("who are you?")),
        Some(user) if user == "eve" => Err(Reject::denied("not you")),
        Some(user) => Ok(user),
    });
    let down = Handler::new().identify(|_| {
        Err::<String, _>(Reject::new(
            hauyna::ErrorType::Unavailable,
            http::StatusCode::SERVICE_UNAVAILABLE,
            "the database is down",
        ))
    });
    Router::new(hub.clone())
        .websocket("/open", Handler::new())
        .websocket("/café/{name}", Handler::new())
        .websocket("/named", by_name)
        .websocket("/down", down)
}

#[tokio::test]
async fn every_refusal_has_its_status_from_the_standalone_server() {
    let hub = open_hub().max_connections_per_user(1).build();
    let server = TestServer::serve(hub.clone(), routes(&hub).into_server());
    let _busy = server.connect("/named?user=busy").await;
    statuses(server.address()).await;
}

#[tokio::test]
async fn every_refusal_has_its_status_behind_layers() {
    let hub = open_hub().max_connections_per_user(1).build();
    let server =
        TestServer::serve(hub.clone(), routes(&hub).layer(tower_layer::Identity::new()).into_server());
    let _busy = server.connect("/named?user=busy").await;
    statuses(server.address()).await;
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn every_refusal_has_its_status_in_an_axum_application() {
    let hub = open_hub().max_connections_per_user(1).build();
    let app: axum::Router = routes(&hub).into_axum();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let _busy = hauyna_test::Client::connect(&format!("ws://{address}/named?user=busy")).await;
    statuses(address).await;
}

#[tokio::test]
async fn refusal_always_has_an_error_status() {
    let handler = Handler::new().identify(|request| {
        let status = request.query_as::<u16>().unwrap();
        Err::<String, _>(Reject::new(ErrorType::Unavailable, StatusCode::from_u16(status).unwrap(), "no"))
    });
    let server = TestServer::start(Hub::new(), handler);
    for (said, sent) in [(101, 500), (200, 500), (204, 500), (302, 500), (404, 404), (503, 503), (999, 500)] {
        let refused = server.client(&format!("/?status={said}")).try_connect().await.unwrap_err();
        assert_eq!(refused.status, sent, "{said}");
    }
}
