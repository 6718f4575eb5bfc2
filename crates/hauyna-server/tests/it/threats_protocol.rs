//! Threats in the protocol, rows 27 to 50 of `SECURITY.md`, on `/chat` of the program: the messages that it
//! must refuse, and what they may cost.

use crate::common::{BINARY, Client, Server, TEXT, TIMEOUT, eventually, frame, measured, upgrade};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Sends a text that may be no JSON and gives the `error_type` of its answer.
fn error_of(client: &mut Client, text: &str) -> String {
    client.send(&frame(TEXT, text.as_bytes()));
    let answer = client.frame().json();
    assert_eq!(answer["type"], "error", "{answer} to {:.100}", text);
    answer["error_type"].as_str().unwrap().to_owned()
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn row_27_json_depth_bombs_are_refused_in_envelope_payload_and_metadata() {
    let server = Server::start();
    let mut client = server.chat("a");
    client.subscribe("deep");
    let content = |levels: usize| {
        format!(r#"{{"type":"channel_message","id":1,"channel":"deep","content":{}}}"#, nested(levels))
    };
    client.send(&frame(TEXT, content(63).as_bytes()));
    assert_eq!(client.message("message")["offset"], 1, "63 levels in the message's one");
    let cpu = server.cpu();
    for levels in [64, 65, 1000, 32_000] {
        assert_eq!(error_of(&mut client, &content(levels)), "limit_exceeded", "{levels}");
        let envelope = format!(r#"{{"type":"ping","x":{}}}"#, nested(levels));
        assert_eq!(error_of(&mut client, &envelope), "limit_exceeded", "{levels}");
        let metadata =
            format!(r#"{{"type":"subscribe_channel","channel":"m","metadata":{{"x":{}}}}}"#, nested(levels));
        assert_eq!(error_of(&mut client, &metadata), "limit_exceeded", "{levels}");
        let bare = error_of(&mut client, &nested(levels));
        assert_eq!(bare, if levels > 64 { "limit_exceeded" } else { "parse_error" }, "{levels}");
    }
    let unclosed = "[".repeat(65_000);
    assert!(["limit_exceeded", "parse_error"].contains(&error_of(&mut client, &unclosed).as_str()));
    let spent = server.cpu() - cpu;
    assert!(spent < Duration::from_millis(200), "{spent:?} for 17 messages");
    assert_eq!(client.verdict(json!({ "type": "ping", "id": 9 })), "pong");
    client.send(&frame(TEXT, nested(500_000).as_bytes()));
    assert_eq!(client.closed_with(), 1009);
}

fn msgpack_error(client: &mut Client, bytes: &[u8]) -> String {
    client.send(&frame(BINARY, bytes));
    let answer: Value = rmp_serde::from_slice(&client.frame().payload).unwrap();
    assert_eq!(answer["type"], "error", "{answer} to {bytes:02x?}");
    answer["error_type"].as_str().unwrap().to_owned()
}

fn msgpack(value: &Value) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

#[test]
fn rustsec_2024_0437_msgpack_recursion_is_refused() {
    let server = Server::start();
    let mut client = server.chat_msgpack("a");
    let head = msgpack(&json!({ "type": "channel_message", "channel": "c" }));
    for (marker, levels) in [(0x91, 65), (0x91, 60_000), (0x81, 30_000)] {
        let mut bytes = head.clone();
        bytes[0] = 0x83;
        bytes.extend(b"\xa7content");
        let step: &[u8] = if marker == 0x91 { b"\x91" } else { b"\x81\xa0" };
        bytes.extend(step.repeat(levels));
        bytes.push(0xc0);
        assert_eq!(msgpack_error(&mut client, &bytes), "limit_exceeded", "{marker:x} {levels}");
    }
    client.send(&frame(BINARY, &msgpack(&json!({ "type": "ping", "id": 1 }))));
    let answer: Value = rmp_serde::from_slice(&client.frame().payload).unwrap();
    assert_eq!(answer, json!({ "type": "pong", "id": 1 }));
}

#[test]
fn ghsa_4r3x_2rwr_6w65_declared_lengths_are_bounded_by_the_frame() {
    let server = Server::start();
    let mut client = server.chat_msgpack("a");
    server.warm();
    let peak = server.peak_rss();
    let claims: [&[u8]; 8] = [
        b"\xdf\xff\xff\xff\xff",
        b"\xde\xff\xff",
        b"\x81\xa4type\xdb\xff\xff\xff\xff",
        b"\x82\xa4type\xa4ping\xa1x\xdd\xff\xff\xff\xff",
        b"\x82\xa4type\xa4ping\xa1x\xc6\x7f\xff\xff\xff",
        b"\x82\xa4type\xa4ping\xa1x\xdd\x80\x00\x00\x00\xc0",
        b"\x82\xa4type\xa4ping\xa1x\xd9\xff!",
        b"\xdb",
    ];
    for bytes in claims {
        assert_eq!(msgpack_error(&mut client, bytes), "parse_error", "{bytes:02x?}");
    }
    assert!(server.peak_rss() - peak < 1024, "{} KiB", server.peak_rss() - peak);
}

#[test]
fn every_truncation_of_a_msgpack_request_is_an_error_of_that_request_alone() {
    let server = Server::start();
    let mut client = server.chat_msgpack("a");
    let requests = [
        json!({ "type": "subscribe_channel", "id": 1, "channel": "c", "metadata": { "a": [1, -1.5, null] },
            "recover": { "epoch": "ASNFZ4mrze8", "offset": 41 } }),
        json!({ "type": "channel_message", "id": "x", "channel": "c", "content": { "k": ["v", 1, true] }, "key": "k" }),
        json!({ "type": "history", "id": 3, "channel": "c", "limit": 5, "reverse": true }),
    ];
    for request in &requests {
        let whole = msgpack(request);
        for cut in 0..whole.len() {
            assert_eq!(msgpack_error(&mut client, &whole[..cut]), "parse_error", "{cut} of {request}");
        }
    }
    let trailing = [msgpack(&requests[2]), vec![0xc0]].concat();
    assert_eq!(msgpack_error(&mut client, &trailing), "parse_error");
    client.send(&frame(TEXT, b"{}"));
    assert_eq!(client.closed_with(), 1003, "the wrong kind of frame");
}

#[test]
fn cve_2026_33151_ten_thousand_malformed_messages_are_ten_thousand_errors() {
    let server = Server::start();
    let malformed = [
        "",
        " ",
        "{",
        "}",
        "null",
        "7",
        "\"type\"",
        "[]",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":""}"#,
        r#"{"type":"nobody"}"#,
        r#"{"type":"ping","type":"ping"}"#,
        r#"{"type":"channel_message"}"#,
        r#"{"type":"private","to":[]}"#,
        r#"{"type":"history","channel":"x"}"#,
        r#"{"type":"subscribe_channel","channel":"x","metadata":[]}"#,
        r#"{"type":"ack"}"#,
        r#"{"type":"presence","channel":"x"}"#,
        r#"{"type":"resume","positions":[]}"#,
        r#"{"type":"group"}"#,
        "{\"type\":\"a\0b\"}",
        r#"{"type":"a\u0000b"}"#,
        r#"{"type":"ping","id":-1}"#,
        r#"{"type":"broadcast","message":1}"#,
    ];
    // Each connection may cause a thousand errors, so the test uses ten connections.
    let mut clients: Vec<Client> = (0..10).map(|n| server.chat(&format!("a{n}"))).collect();
    for client in &mut clients {
        for _ in 0..1000 / malformed.len() {
            let all: Vec<u8> = malformed.iter().flat_map(|text| frame(TEXT, text.as_bytes())).collect();
            client.send(&all);
            for text in malformed {
                let answer = client.frame().json();
                assert_eq!(answer["type"], "error", "{answer} to {text}");
            }
        }
    }
    let client = &mut clients[0];
    // These answer requests that were never made, and use no memory.
    client.send(&frame(TEXT, br#"{"type":"ack","id":"q-1","data":{"a":1}}"#).repeat(1000));
    assert_eq!(client.verdict(json!({ "type": "ping", "id": 1 })), "pong");
}

#[test]
fn row_36_channel_names_that_a_client_makes_up_leave_nothing_behind() {
    let server = Server::start();
    let mut client = server.chat("a");
    let mut round = |from: usize, to: usize| {
        for n in from..to {
            let name = format!("{n}-{}", "x".repeat(200));
            client.say(&json!({ "type": "subscribe_channel", "channel": name }));
            client.say(&json!({ "type": "unsubscribe_channel", "channel": name }));
        }
        assert_eq!(client.verdict(json!({ "type": "ping", "id": from })), "pong");
    };
    round(0, 2000);
    let rss = server.rss();
    round(2000, 22_000);
    let grown = server.rss() - rss;
    assert!(grown < 8 * 1024, "{grown} KiB");
}

#[test]
fn row_36_the_hundred_and_twenty_ninth_channel_is_an_error_and_no_close() {
    let server = Server::start();
    let mut client = server.chat("a");
    for n in 0..128 {
        client.subscribe(&format!("c{n}"));
    }
    let more = |n: usize| json!({ "type": "subscribe_channel", "id": 1, "channel": format!("c{n}") });
    let answer = client.ask(more(128));
    assert_eq!((&answer["error_type"], &answer["details"]["limit"]), (&json!("limit_exceeded"), &json!(128)));
    assert_eq!(client.verdict(more(5)), "already_subscribed");
    assert_eq!(client.verdict(json!({ "type": "unsubscribe_channel", "id": 2, "channel": "c5" })), "ack");
    assert_eq!(client.verdict(more(128)), "ack");
}

#[test]
fn row_38_each_field_is_taken_at_its_limit_and_refused_past_it() {
    let server = Server::start();
    let mut client = server.chat(&"u".repeat(255));
    let mut too_long = server.connect();
    too_long.send(upgrade(&format!("/chat?user_id={}", "u".repeat(256)), "").as_bytes());
    assert_eq!(too_long.answer().expect("an answer").status, 400);
    client.subscribe("c");
    let text = |length: usize| "é".repeat(length / 2) + &"x".repeat(length % 2);
    type Make = fn(String) -> Value;
    let fields: [(usize, &str, Make); 5] = [
        (255, "ack", |name| json!({ "type": "subscribe_channel", "id": 1, "channel": name })),
        (255, "ack", |name| json!({ "type": "private", "id": 1, "to": name, "message": 1 })),
        (
            128,
            "ack",
            |key| json!({ "type": "channel_message", "id": 1, "channel": "c", "content": 1, "key": key }),
        ),
        (255, "unknown_event", |kind| json!({ "type": kind, "id": 1 })),
        (
            4096 - 8,
            "ack",
            |text| json!({ "type": "subscribe_channel", "id": 1, "channel": "m", "metadata": { "k": text } }),
        ),
    ];
    for (limit, good, make) in fields {
        assert_eq!(client.verdict(make(text(limit))), good, "{limit}");
        assert_eq!(client.verdict(make(text(limit + 1))), "limit_exceeded", "{limit}");
    }
    let id = |length: usize| json!({ "type": "ping", "id": "i".repeat(length) });
    assert_eq!(client.verdict(id(64)), "pong");
    client.say(&id(65));
    assert_eq!(client.frame().json()["error_type"], "validation_error");
}

#[test]
fn row_39_no_map_of_names_from_clients_has_a_guessable_hash() {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut checked = 0;
    for path in crate::common::files_below(sources, &["rs", "toml"]) {
        let text = std::fs::read_to_string(&path).unwrap();
        if path.contains("/tests/") {
            continue;
        }
        for guessable in ["FxHash", "fxhash", "rustc-hash", "rustc_hash", "nohash"] {
            assert!(!text.contains(guessable), "{guessable} in {path}");
        }
        checked += 1;
    }
    assert!(checked > 50, "{checked} files");
}

#[test]
fn row_43_names_cannot_forge_log_lines_and_tokens_are_not_logged() {
    let server = Server::start_with(&["--shards", "2", "--log", "debug"]);
    for name in
        ["x%0A%7B%22level%22%3A%22error%22%7D%1B%5B2J", "a%0d%0ab", "%1b%5b31mred", "%00", "a%C2%85b", "%7F"]
    {
        let mut client = server.connect();
        client.send(upgrade(&format!("/chat?user_id={name}"), "").as_bytes());
        assert_eq!(client.answer().expect("an answer").status, 400, "{name}");
    }
    let secret = "s3cr3t-t0ken";
    let headers = format!(
        "Sec-WebSocket-Protocol: hauyna.v1.json, hauyna.bearer.{secret}\r\nAuthorization: Bearer {secret}\r\n\
         Cookie: session={secret}\r\n"
    );
    // U+2028, U+202E and U+200B are no control characters, but they must not break or reverse a log line.
    let path = format!("/chat?user_id=a%E2%80%A8b%E2%80%AEc%E2%80%8B&token={secret}");
    let mut client = server.open(&path, &headers);
    client.message("session");
    let odd =
        json!({ "type": "subscribe_channel", "id": 1, "channel": "line\nbreak\u{1b}[2J", "token": secret });
    assert_eq!(client.verdict(odd), "validation_error");
    let refresh = json!({ "type": "refresh", "id": 2, "token": secret });
    client.verdict(refresh);
    client.verdict(json!({ "type": "ev\u{2028}il", "id": 3 }));
    client.send(b"\xff\x00");
    client.ended();
    eventually("its end is logged", TIMEOUT, || server.log().iter().any(|line| line.contains("closed")));
    for line in server.log() {
        assert!(line.starts_with("20") && line.contains(" hauyna::"), "a forged line: {line:?}");
        let is_odd = |c: char| c.is_control() || ['\u{2028}', '\u{202e}', '\u{200b}'].contains(&c);
        assert!(!line.contains(is_odd), "{line:?}");
        assert!(!line.contains(secret), "{line:?}");
    }
}

#[test]
fn row_44_fifty_thousand_bad_messages_are_few_log_lines() {
    let server = Server::start();
    for n in 0..50 {
        let mut client = server.chat(&format!("a{n}"));
        client.send(&frame(TEXT, b"{ bad").repeat(2000));
        (0..1001).for_each(|_| assert_eq!(client.frame().json()["error_type"], "parse_error"));
        assert_eq!(client.closed_with(), 3509, "after a thousand and one");
    }
    for _ in 0..500 {
        let mut broken = server.echo();
        broken.send(b"\xff\x80\0\0\0\0");
        assert_eq!(broken.frame().payload[..2], 1002_u16.to_be_bytes());
    }
    server.serves();
    assert!(server.log().iter().any(|line| line.contains("too many errors")), "{:?}", server.log());
    assert!(server.log().len() < 200, "{} lines", server.log().len());
}

#[test]
fn row_47_hostile_offsets_and_limits_of_history_and_recovery_are_refused_or_clamped() {
    let server = Server::start();
    let mut client = server.chat("a");
    client.subscribe("c");
    let mut position = Value::Null;
    for n in 0..5 {
        let publish = json!({ "type": "channel_message", "id": 10 + n, "channel": "c", "content": n });
        position = client.ask(publish)["data"].clone();
    }
    let epoch = position["epoch"].as_str().unwrap().to_owned();
    let mut asker = server.chat("asker");
    let refused = [
        "-1",
        "1.5",
        "9007199254740992",
        "18446744073709551615",
        "18446744073709551616",
        "1e3",
        "\"1\"",
        "null",
        "true",
        "[]",
        "-0",
        "99999999999999999999999999",
    ];
    for offset in refused {
        for field in ["recover", "since"] {
            let kind = if field == "recover" { "subscribe_channel" } else { "history" };
            let text = format!(
                r#"{{"type":"{kind}","channel":"c","{field}":{{"epoch":"{epoch}","offset":{offset}}}}}"#
            );
            assert_eq!(error_of(&mut asker, &text), "validation_error", "{text}");
        }
    }
    for limit in ["-1", "4294967296", "1.5", "18446744073709551616", "\"5\"", "1e2"] {
        let text = format!(r#"{{"type":"history","channel":"c","limit":{limit}}}"#);
        assert_eq!(error_of(&mut asker, &text), "validation_error", "{limit}");
    }
    let mut history = |since: Option<u64>, limit: u64, reverse: bool| {
        let since = since.map(|offset| json!({ "epoch": epoch, "offset": offset }));
        let request = json!({ "type": "history", "id": 1, "channel": "c", "since": since, "limit": limit, "reverse": reverse });
        let answer = client.ask(request);
        answer["data"]["messages"]
            .as_array()
            .map(|all| all.iter().map(|one| one["offset"].as_u64().unwrap()).collect())
    };
    let none = Some(Vec::<u64>::new());
    assert_eq!(history(None, 4_294_967_295, false), Some(vec![1, 2, 3, 4, 5]));
    assert_eq!(history(None, 2, true), Some(vec![5, 4]));
    assert_eq!(history(None, 0, false), none);
    assert_eq!(history(Some(0), 10, false), Some(vec![1, 2, 3, 4, 5]));
    assert_eq!(history(Some(5), 10, false), none);
    assert_eq!(history(Some(6), 10, false), None, "beyond the end there is nothing to continue");
    assert_eq!(history(Some(MAX_SAFE_INTEGER), 10, false), None);
    let mut other = server.chat("b");
    for (offset, epoch) in [(6, &*epoch), (MAX_SAFE_INTEGER, &*epoch), (3, "AAAAAAAAAAA"), (0, "")] {
        let recover = json!({ "epoch": epoch, "offset": offset });
        let request = json!({ "type": "subscribe_channel", "id": 1, "channel": "c", "recover": recover });
        let data = other.ask(request)["data"].clone();
        assert_eq!((&data["recovered"], &data["reason"]), (&json!(false), &json!("epoch_changed")), "{data}");
        other.verdict(json!({ "type": "unsubscribe_channel", "id": 2, "channel": "c" }));
    }
}

/// Largest number that every client can represent: 2^53-1.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

#[test]
fn row_47_histories_that_nobody_reads_are_bounded() {
    let server = Server::start();
    let mut publisher = server.chat("a");
    publisher.subscribe("big");
    for n in 0..64 {
        let text = "h".repeat(60_000);
        publisher.ask(json!({ "type": "channel_message", "id": n, "channel": "big", "content": text }));
    }
    let asking = json!({ "type": "history", "id": 1, "channel": "big" }).to_string();
    let rss = server.rss();
    let stalled: Vec<Client> = (0..40)
        .map(|n| {
            let mut client = server.chat(&format!("stalled{n}"));
            client.subscribe("big");
            client.send(&frame(TEXT, asking.as_bytes()).repeat(20));
            client
        })
        .collect();
    assert!(server.serves() < Duration::from_secs(5));
    let each = (server.rss() - rss) / stalled.len() as i64;
    measured("a history that is not read", format!("{each} KiB a connection"));
    assert!(each < 1024, "{each} KiB a connection");
}

#[test]
fn row_48_a_flood_of_publications_leaves_others_their_turn() {
    let server = Server::start_with(&["--shards", "1"]); // flooder and others on one thread
    let mut flooder = server.chat("flooder");
    flooder.subscribe("flood");
    let mut good = server.chat("good");
    good.subscribe("calm");
    let rss = server.rss();
    let one =
        json!({ "type": "channel_message", "channel": "flood", "content": "x".repeat(1000) }).to_string();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut reading = flooder.other_half();
        scope.spawn(|| {
            let chunk = frame(TEXT, one.as_bytes()).repeat(100);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                if flooder.flood(&chunk, 1) == 0 {
                    break;
                }
            }
            let _ = flooder.stream.shutdown(std::net::Shutdown::Both);
        });
        scope.spawn(move || reading.ended());
        let mut times: Vec<Duration> = (0..100)
            .map(|n| {
                let start = Instant::now();
                good.ask(json!({ "type": "channel_message", "id": n, "channel": "calm", "content": n }));
                start.elapsed()
            })
            .collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        times.sort();
        measured("publishing beside a flood", format!("p50 {:?}, p99 {:?}", times[49], times[98]));
        assert!(times[98] < Duration::from_secs(2), "p99 {:?}", times[98]);
    });
    let grown = server.rss() - rss;
    assert!(grown < 32 * 1024, "{grown} KiB");
}

#[test]
fn one_small_private_message_to_many_own_connections_does_not_multiply_in_memory() {
    let server = Server::start();
    let connections: Vec<Client> = (0..1000).map(|_| server.chat("me")).collect();
    let mut sender = server.chat("me");
    server.warm();
    let peak = server.peak_rss();
    let one = frame(TEXT, json!({ "type": "private", "to": "me", "message": 1 }).to_string().as_bytes());
    sender.flood(&one.repeat(1000), 10);
    let served = server.serves();
    eventually("the server is back at rest", TIMEOUT, || server.serves() < Duration::from_millis(200));
    let grown = server.peak_rss() - peak;
    measured(
        "10,000 privates to 1,000 connections of one user",
        format!("{grown} KiB, others waited {served:?}"),
    );
    // 256 KiB per outbox would be 250 MiB; a megabyte of small messages must cost far less.
    assert!(grown < 64 * 1024, "{grown} KiB");
    drop(connections);
}
