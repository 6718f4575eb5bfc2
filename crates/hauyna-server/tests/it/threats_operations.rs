//! Attacks on the log and the metrics of the program: forged lines, secrets, too many labels, access from
//! outside.

use crate::common::{Answer, Client, Server, TIMEOUT, eventually, upgrade};
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

fn get(address: SocketAddr, path: &str, headers: &str) -> Answer {
    let mut client = Client::connect(address);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").as_bytes());
    client.answer().expect("an answer")
}

fn page(address: SocketAddr) -> String {
    String::from_utf8(get(address, "/metrics", "").body).unwrap()
}

/// Returns the value of a metric with its labels.
fn value(page: &str, metric: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {metric} in {page}")).parse().expect("a number")
}

#[test]
fn row_43_no_token_is_in_the_whole_log_of_a_busy_server() {
    const TOKEN: &str = "s3cr3t-t0ken";
    let server = Server::start_with(&["--shards", "2", "--log", "trace"]);
    let mut ann = server.chat(&format!("ann&token={TOKEN}"));
    ann.ask(json!({ "type": "subscribe_channel", "id": 1, "channel": "general", "token": TOKEN }));
    ann.ask(json!({ "type": "refresh", "id": 2, "token": TOKEN }));
    ann.ask(json!({ "type": TOKEN, "id": 3, "token": TOKEN }));
    ann.ask(json!({ "type": "channel_message", "id": 4, "channel": "general", "content": TOKEN }));
    ann.ask(json!({ "type": "private", "id": 5, "to": "ann", "message": TOKEN }));
    let offers =
        format!("Sec-WebSocket-Protocol: hauyna.v1.json, hauyna.bearer.{TOKEN}\r\nCookie: sid={TOKEN}\r\n");
    let mut bearer = server.open("/chat?user_id=bob", &format!("{offers}Authorization: Bearer {TOKEN}\r\n"));
    assert_eq!(bearer.frame().json()["type"], "session");
    // Refused, broken and lost connections log more than good ones.
    let mut nobody = server.connect();
    nobody.send(upgrade(&format!("/chat?token={TOKEN}"), &offers).as_bytes());
    assert_eq!(nobody.answer().unwrap().status, 401);
    get(server.address, &format!("/nowhere?token={TOKEN}"), &format!("Authorization: Bearer {TOKEN}\r\n"));
    bearer.send(TOKEN.as_bytes());
    bearer.frame();
    drop((ann, bearer));
    eventually("the log tells of the end of both", TIMEOUT, || {
        server.log().iter().filter(|line| line.contains("closed")).count() >= 2
    });
    let log = server.log();
    assert!(log.iter().any(|line| line.contains("opened") && line.contains("user=ann")), "{log:#?}");
    for line in log {
        assert!(!line.contains(TOKEN), "{line}");
    }
}

#[test]
fn row_45_ten_thousand_channels_and_users_add_no_line_to_the_metrics() {
    let server = Server::start_with(&["--shards", "2", "--metrics", "127.0.0.1:0"]);
    let metrics = server.metrics();
    let before = page(metrics);
    let mut clients = Vec::new();
    for client in 0..100 {
        let mut user = server.chat(&format!("user-{client}"));
        for channel in 0..100 {
            user.say(&json!({ "type": "subscribe_channel", "channel": format!("room:{client}-{channel}") }));
        }
        assert_eq!(user.verdict(json!({ "type": "nobody-handles-this", "id": 1 })), "unknown_event");
        clients.push(user);
    }
    let after = page(metrics);
    assert_eq!(value(&after, "hauyna_channels{pattern=\"room:{*id}\"}"), 10_000);
    assert_eq!(value(&after, "hauyna_subscriptions{pattern=\"room:{*id}\"}"), 10_000);
    assert_eq!(value(&after, "hauyna_route_connections{route=\"/chat\"}"), 100);
    assert_eq!(value(&after, "hauyna_errors_total{error_type=\"unknown_event\"}"), 100);
    assert_eq!(after.lines().count(), before.lines().count());
    assert!(!after.contains("user-") && !after.contains("room:1"), "{after}");
}

#[test]
fn row_46_metrics_are_on_a_listener_of_their_own_on_loopback() {
    let server = Server::start_with(&["--shards", "2", "--metrics", "127.0.0.1:0"]);
    let metrics = server.metrics();
    assert!(metrics.ip().is_loopback() && metrics.port() != server.address.port());
    assert_eq!(get(server.address, "/metrics", "").status, 404, "never on the public listener");
    let answer = get(metrics, "/metrics", "");
    assert_eq!(answer.status, 200);
    assert!(
        answer.has("content-type: application/openmetrics-text")
            && answer.has("x-content-type-options: nosniff")
    );
    assert!(!answer.has("access-control-allow-origin"), "no page of another origin reads it");
    // The metrics listener serves none of the public routes.
    assert_eq!(get(metrics, "/", "").status, 404);
    let mut client = Client::connect(metrics);
    client.send(upgrade("/chat?user_id=ann", "").as_bytes());
    assert!(client.head().unwrap().starts_with("HTTP/1.1 404 "));
}

#[test]
fn row_46_metrics_beyond_this_machine_need_a_token() {
    let refused = Command::new(env!("CARGO_BIN_EXE_hauyna"))
        .args(["serve", "--listen", "127.0.0.1:0", "--metrics", "0.0.0.0:0"])
        .env_remove("HAUYNA_METRICS_TOKEN")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && text.contains("HAUYNA_METRICS_TOKEN"), "{text}");
    let options = ["--shards", "2", "--metrics", "0.0.0.0:0", "--log", "trace"];
    let server = Server::start_in(&options, &[("HAUYNA_METRICS_TOKEN", "s3cr3t")]);
    let metrics = SocketAddr::from(([127, 0, 0, 1], server.metrics().port()));
    for wrong in [
        "",
        "Authorization: Bearer s3cr3\r\n",
        "Authorization: Bearer s3cr3tt\r\n",
        "Authorization: s3cr3t\r\n",
    ] {
        let answer = get(metrics, "/metrics", wrong);
        assert_eq!((answer.status, answer.has("www-authenticate: bearer")), (401, true), "{wrong}");
        assert!(!String::from_utf8(answer.body).unwrap().contains("hauyna_"));
    }
    assert_eq!(get(metrics, "/metrics", "Authorization: Bearer s3cr3t\r\n").status, 200);
    assert!(server.log().iter().all(|line| !line.contains("s3cr3t")));
}

#[test]
fn a_port_for_metrics_that_is_taken_stops_only_who_asked_for_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = Command::new(env!("CARGO_BIN_EXE_hauyna"))
        .args(["serve", "--listen", "127.0.0.1:0", "--metrics", &address])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && text.contains(&address), "{text}");
    // The server starts even if another process uses the default port.
    let _taken = TcpListener::bind("127.0.0.1:9464");
    let mut child = Command::new(env!("CARGO_BIN_EXE_hauyna"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.starts_with("hauyna is listening on"), "{line}");
}
