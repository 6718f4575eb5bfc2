//! Refusals of requests, in both encodings, and the faults that end the connection.

use crate::support::{open_hub, serve, session_client, subscriber, user_handler};
use hauyna::{Hub, json};
use hauyna_protocol::Encoding;
use hauyna_test::{Client, Frame, TestServer};
use hauyna_websocket::{Fragment, FrameHead, OpCode};
use serde_json::Value;

/// Returns requests with the expected `error_type` and `details`.
fn table() -> Vec<(Value, &'static str, Value)> {
    let long = |bytes: usize| "x".repeat(bytes);
    let string = |path: &str| json!({ "path": path, "expected": "string" });
    vec![
        (json!({ "type": "nobody" }), "unknown_event", Value::Null),
        (json!({ "type": "subscribe_channel" }), "validation_error", string("channel")),
        (json!({ "type": "subscribe_channel", "channel": 7 }), "validation_error", string("channel")),
        (json!({ "type": "subscribe_channel", "channel": null }), "validation_error", string("channel")),
        (
            json!({ "type": "subscribe_channel", "channel": long(256) }),
            "limit_exceeded",
            json!({ "path": "channel", "limit": 255 }),
        ),
        (
            json!({ "type": "subscribe_channel", "channel": "m", "metadata": { "x": long(4096) } }),
            "limit_exceeded",
            json!({ "path": "metadata", "limit": 4096 }),
        ),
        (
            json!({ "type": "channel_message", "channel": "x", "content": 1, "key": long(129) }),
            "limit_exceeded",
            json!({ "path": "key", "limit": 128 }),
        ),
        (
            json!({ "type": "private", "to": long(256), "message": 1 }),
            "limit_exceeded",
            json!({ "path": "to", "limit": 255 }),
        ),
        (json!({ "type": long(256) }), "limit_exceeded", json!({ "path": "type", "limit": 255 })),
        (json!({ "type": "unsubscribe_channel", "channel": "never" }), "not_subscribed", Value::Null),
        (
            json!({ "type": "channel_message", "channel": "never", "content": 1 }),
            "not_subscribed",
            Value::Null,
        ),
        (json!({ "type": "broadcast", "message": 1 }), "permission_denied", Value::Null),
    ]
}

#[tokio::test]
async fn every_request_fault_has_its_error_type_and_path() {
    let hub = open_hub().build();
    let server = serve(&hub);
    for encoding in Encoding::ALL {
        let mut client = server.client("/").encoding(encoding).connect().await;
        client.expect("session").await;
        for (request, kind, details) in table() {
            let error = client.request(request.clone()).await.unwrap_err();
            assert_eq!(error["error_type"], kind, "{request}");
            assert_eq!(error.get("details").unwrap_or(&Value::Null), &details, "{request}");
            assert_eq!(error["temporary"], false);
            assert!(error["timestamp"].as_u64().is_some() && error["message"].is_string());
        }
        for (request, path) in [
            (
                json!({ "type": "subscribe_channel", "channel": "x", "recover": { "epoch": "e", "offset": -1 } }),
                "recover.offset",
            ),
            (json!({ "type": "subscribe_channel", "channel": "" }), "channel"),
            (json!({ "type": "subscribe_channel", "channel": "a\nb" }), "channel"),
            (
                json!({ "type": "subscribe_channel", "channel": "x", "recover": { "offset": 1 } }),
                "recover.epoch",
            ),
            (json!({ "type": "subscribe_channel", "channel": "x", "recover": 1 }), "recover"),
            (json!({ "type": "subscribe_channel", "channel": "x", "metadata": [] }), "metadata"),
            (json!({ "type": "channel_message", "channel": "x" }), "content"),
            (json!({ "type": "history", "channel": "x", "limit": "1" }), "limit"),
            (json!({ "type": "history", "channel": "x", "reverse": 1 }), "reverse"),
            (json!({ "type": "private", "message": 1 }), "to"),
        ] {
            let error = client.request(request.clone()).await.unwrap_err();
            assert_eq!(
                (&error["error_type"], &error["details"]["path"]),
                (&json!("validation_error"), &json!(path)),
                "{request}"
            );
        }
        client.expect_nothing().await;
    }
    assert_eq!(hub.stats().channels, 0);
}

#[tokio::test]
async fn request_ids_are_returned_unchanged_and_bad_ones_refused() {
    let hub = open_hub().build();
    let server = serve(&hub);
    for encoding in Encoding::ALL {
        let mut client = server.client("/").encoding(encoding).connect().await;
        client.expect("session").await;
        for id in [
            json!(0),
            json!(9_007_199_254_740_991_u64),
            json!("x"),
            json!("é\u{1f600}"),
            json!("x".repeat(64)),
        ] {
            client.send(json!({ "type": "ping", "id": id })).await;
            assert_eq!(client.expect("pong").await["id"], id);
            client.send(json!({ "type": "nobody", "id": id })).await;
            assert_eq!(client.expect("error").await["id"], id);
        }
        for id in [
            json!(-1),
            json!(9_007_199_254_740_992_u64),
            json!(1.5),
            json!(true),
            json!([]),
            json!("x".repeat(65)),
        ] {
            client.send(json!({ "type": "ping", "id": id })).await;
            let error = client.expect("error").await;
            assert_eq!((&error["details"]["path"], error.get("id")), (&json!("id"), None), "{id}");
        }
    }
}

#[tokio::test]
async fn invalid_message_is_a_parse_error_and_the_connection_stays_open() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut client = session_client(&server, "/").await;
    for text in ["", "{", "nonsense", "[]", "1", "{\"type\":\"ping\"} x", "{\"type\":\"ping\",}"] {
        client.send_text(text).await;
        assert_eq!(client.expect("error").await["error_type"], "parse_error", "{text:?}");
    }
    client.send_text("{\"type\":\"ping\",\"id\":1,\"id\":2}").await;
    assert_eq!(client.expect("error").await["error_type"], "validation_error");
    let deep = format!("{{\"type\":\"ping\",\"x\":{}{}}}", "[".repeat(64), "]".repeat(64));
    client.send_text(&deep).await;
    let error = client.expect("error").await;
    assert_eq!((&error["error_type"], &error["details"]["limit"]), (&json!("limit_exceeded"), &json!(64)));
    let mut packed = server.message_pack("/").await;
    packed.expect("session").await;
    for bytes in
        [&b""[..], b"\xc1", b"\x81", b"\x90", b"\xdf\xff\xff\xff\xff", b"\x81\xa4type\xdb\xff\xff\xff\xff"]
    {
        packed.send_binary(bytes).await;
        assert_eq!(packed.expect("error").await["error_type"], "parse_error", "{bytes:?}");
    }
    packed.expect_nothing().await;
}

#[tokio::test]
async fn channels_per_connection_are_limited() {
    let hub = open_hub().max_channels_per_connection(2).build();
    let server = serve(&hub);
    let mut client = server.connect("/").await;
    client.subscribe("a").await;
    client.subscribe("b").await;
    let third = json!({ "type": "subscribe_channel", "channel": "c" });
    let error = client.request(third.clone()).await.unwrap_err();
    assert_eq!((&error["error_type"], &error["details"]["limit"]), (&json!("limit_exceeded"), &json!(2)));
    client.request(json!({ "type": "unsubscribe_channel", "channel": "a" })).await.unwrap();
    client.request(third).await.unwrap();
    assert_eq!(hub.stats().subscriptions, 2);
}

#[tokio::test]
async fn protocol_messages_never_reach_on_message() {
    let server = TestServer::start(
        open_hub().build(),
        user_handler().on_message(|_, value: Value| async move { Ok(value) }),
    );
    let mut client = session_client(&server, "/").await;
    assert!(client.request(json!({ "type": "anything" })).await.is_ok());
    let error = client.request(json!({ "type": "refresh", "token": "t" })).await.unwrap_err();
    assert_eq!(error["error_type"], "unknown_event", "this server has no tokens");
    let ack = client.request(json!({ "type": "resume", "token": "t" })).await.unwrap();
    assert_eq!(ack, serde_json::Value::Null, "nothing to resume is no error");
}

#[tokio::test]
async fn frame_of_the_wrong_kind_closes_with_1003() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut json = server.json("/").await;
    json.send_binary(b"\x81\xa4type\xa4ping").await;
    assert_eq!(json.expect_close().await.0, 1003);
    let mut packed = server.message_pack("/").await;
    packed.send_text("{\"type\":\"ping\"}").await;
    assert_eq!(packed.expect_close().await.0, 1003);
}

async fn closed_after(server: &TestServer, head: FrameHead, payload: &[u8]) -> u16 {
    let mut client = server.connect("/").await;
    client.send_frame(head, payload).await;
    client.send(json!({ "type": "ping" })).await;
    let code = client.expect_close().await.0;
    client.expect_end().await;
    code
}

#[tokio::test]
async fn broken_frame_closes_with_its_rfc_6455_code() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let text = FrameHead::of(OpCode::Text);
    assert_eq!(closed_after(&server, text, b"\xff").await, 1007);
    assert_eq!(closed_after(&server, text, &vec![b'x'; 64 * 1024 + 1]).await, 1009);
    assert_eq!(closed_after(&server, FrameHead::of(OpCode::Continuation), b"x").await, 1002);
    assert_eq!(
        closed_after(&server, FrameHead { fragment: Fragment::More, ..FrameHead::of(OpCode::Ping) }, b"")
            .await,
        1002
    );
    assert_eq!(closed_after(&server, FrameHead::of(OpCode::Ping), &[0; 126]).await, 1002);
    assert_eq!(closed_after(&server, FrameHead::of(OpCode::Close), &[3]).await, 1002);
    let mut unmasked = server.connect("/").await;
    unmasked.send_raw(b"\x81\x02hi").await;
    assert_eq!(unmasked.expect_close().await.0, 1002);
    assert_eq!(hub.stats().protocol_errors, 7);
}

#[tokio::test]
async fn fault_affects_only_its_connection() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut good = subscriber(&server, "good", "x").await;
    let mut bad = subscriber(&server, "bad", "x").await;
    bad.send_raw(b"\xff\xff\xff\xff").await;
    assert_eq!(bad.expect_close().await.0, 1002);
    hub.channel("x").broadcast(1).await.unwrap();
    good.expect("message").await;
}

#[tokio::test]
async fn fragmented_message_is_one_message() {
    let server = serve(&Hub::new());
    let mut client: Client = server.connect("/").await;
    let head = |opcode, fragment| FrameHead { fragment, ..FrameHead::of(opcode) };
    client.send_frame(head(OpCode::Text, Fragment::More), b"{\"type\":").await;
    client.ping(b"between").await;
    assert_eq!(client.next_frame().await, Frame::Pong(b"between".to_vec()));
    client.send_frame(head(OpCode::Continuation, Fragment::More), b"").await;
    client.send_frame(head(OpCode::Continuation, Fragment::Final), b"\"ping\"}").await;
    client.expect("pong").await;
}
