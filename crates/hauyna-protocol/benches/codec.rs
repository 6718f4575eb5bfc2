//! Nanoseconds per request decoded and per message encoded: `cargo bench -p hauyna-protocol`.
//! Each figure is the fastest of many short rounds, so that a busy machine does not blur it.

#![allow(clippy::print_stdout, reason = "printing is what a benchmark is for")]

use hauyna_protocol::{
    AckData, Application, Encoding, Limits, Message, Position, Publication, Raw, RequestId, Shape, decode,
};
use std::{hint::black_box, time::Instant};

fn main() {
    for (name, json) in requests() {
        let packed = pack(&json);
        measure(&format!("decode {name} ({} B)", json.len()), || decode_one(Encoding::Json, &json));
        measure(&format!("decode {name} ({} B, msgpack)", packed.len()), || {
            decode_one(Encoding::MessagePack, &packed);
        });
    }
    let content = format!(r#"{{"text":"{}"}}"#, "x".repeat(117));
    let packed = pack(content.as_bytes());
    let json = Raw::assume_valid(Encoding::Json, content.as_bytes());
    let msgpack = Raw::assume_valid(Encoding::MessagePack, &packed);
    for (from, content) in [("json", json), ("msgpack", msgpack)] {
        encode_one(&format!("publication {from}, 128 B"), publication(content));
    }
    let id = RequestId::Number(7);
    let position = Position { epoch: hauyna_protocol::Epoch::new(u64::MAX / 3), offset: 12_345 };
    encode_one("ack published", Message::Ack { id: &id, data: Some(AckData::Published(position)) });
    encode_application();
    decode_hostile();
}

fn encode_application() {
    let value = Raw::assume_valid(Encoding::Json, br#"{"type":"system","message":"alice joined"}"#);
    let mut out = Vec::with_capacity(1024);
    measure("application message, shape and JSON", || {
        out.clear();
        let shape = Shape::of(black_box(value));
        Application { value, shape, channel: "general", timestamp: 1_700_000_000_000, offset: Some(9) }
            .encode(Encoding::Json, &mut out);
        black_box(&out);
    });
}

/// Measures hostile input, which must be refused quickly, whatever its size.
fn decode_hostile() {
    let levels = 1_000_000;
    let payload = |inner: String| format!(r#"{{"type":"broadcast","message":{inner}}}"#).into_bytes();
    let json = payload("[".repeat(levels) + &"]".repeat(levels));
    let texts = payload(format!("[\"{}\"]", "[\\\\".repeat(20_000)));
    let packed = [b"\x81\xa4type".as_slice(), &vec![0x91; levels]].concat();
    let claim = b"\x81\xa4type\xdd\xff\xff\xff\xff";
    let cases: [(&str, Encoding, &[u8]); 4] = [
        ("json depth bomb, 2 MB", Encoding::Json, &json),
        ("json brackets and escapes in a text, 60 KB (valid)", Encoding::Json, &texts),
        ("msgpack depth bomb, 1 MB", Encoding::MessagePack, &packed),
        ("msgpack claim of 2^32-1 items", Encoding::MessagePack, claim),
    ];
    for (name, encoding, bytes) in cases {
        measure_calls(20, name, || {
            let _ = black_box(decode(encoding, black_box(bytes), &Limits::default()));
        });
    }
}

fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let text = "x".repeat(113);
    let publish = format!(
        r#"{{"type":"channel_message","id":12345,"channel":"room:general","content":{{"text":"{text}","n":1}},"key":"k-0001"}}"#
    );
    let nested = r#"{"type":"chat_message","id":"a1","content":{"a":[1,2,{"b":[true,null,"x"]}],"c":{"d":{"e":1.5}}}}"#;
    vec![
        ("ping", br#"{"type":"ping","id":12345}"#.to_vec()),
        ("channel_message", publish.into_bytes()),
        ("event, nested", nested.into()),
        ("subscribe, recover", br#"{"type":"subscribe_channel","id":3,"channel":"room:1","metadata":{"device":"phone"},"recover":{"epoch":"ASNFZ4mrze8","offset":17}}"#.to_vec()),
    ]
}

fn publication(content: Raw<'_>) -> Message<'_> {
    Message::Publication(Publication {
        channel: "room:general",
        user: Some("alice"),
        content,
        timestamp: 1_700_000_000_000,
        offset: Some(123_456),
    })
}

fn encode_one(name: &str, message: Message<'_>) {
    let mut out = Vec::with_capacity(1024);
    for encoding in Encoding::ALL {
        measure(&format!("encode {name} → {encoding:?}"), || {
            out.clear();
            black_box(&message).encode(encoding, &mut out);
            black_box(&out);
        });
    }
}

fn decode_one(encoding: Encoding, bytes: &[u8]) {
    let incoming = decode(encoding, black_box(bytes), &Limits::default());
    assert!(black_box(&incoming).is_ok());
}

fn pack(json: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    Raw::assume_valid(Encoding::Json, json).transcode_into(Encoding::MessagePack, &mut packed);
    packed
}

fn measure(name: &str, run: impl FnMut()) {
    measure_calls(20_000, name, run);
}

fn measure_calls(calls: u32, name: &str, mut run: impl FnMut()) {
    let mut fastest = f64::MAX;
    for _ in 0..40 {
        let start = Instant::now();
        for _ in 0..calls {
            run();
        }
        fastest = fastest.min(start.elapsed().as_nanos() as f64 / f64::from(calls));
    }
    println!("{name:<52} {fastest:>9.1} ns");
}
