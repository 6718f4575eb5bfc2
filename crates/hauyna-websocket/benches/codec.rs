//! Prints nanoseconds per frame: `cargo bench -p hauyna-websocket --bench codec [part of a name]`. The best
//! of several rounds, one thread.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use hauyna_websocket::handshake::{HeadReader, check};
use hauyna_websocket::{
    Decoder, Deflate, DeflateConfig, FrameBuilder, Limits, OpCode, Role, encode, encode_into,
};
use http::{HeaderMap, HeaderValue};

/// Runs `work`, which does `count` things, for some rounds and prints the best time of one.
fn measure(name: &str, count: usize, mut work: impl FnMut()) {
    if std::env::args().skip(1).any(|part| !part.starts_with('-') && !name.contains(&part)) {
        return;
    }
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_nanos() as f64 / count as f64);
    }
    println!("{name:<58} {best:>10.1} ns");
}

const ROUNDS: usize = 200;
const LIMITS: Limits = Limits { message: 1 << 20, frame: 1 << 20, empty_fragments: 64 };

fn drain(decoder: &mut Decoder, chunk: &mut [u8]) -> usize {
    let mut events = decoder.feed(chunk);
    let mut seen = 0;
    while let Some(event) = events.next().unwrap() {
        black_box(event);
        seen += 1;
    }
    seen
}

fn decoding() {
    for (name, opcode) in [("text", OpCode::Text), ("binary", OpCode::Binary)] {
        for size in [0, 32, 64, 125, 250, 1024, 16 << 10] {
            let count = ((256 << 10) / (size + 6)).min(5000);
            let mut stream = Vec::new();
            for _ in 0..count {
                encode_into(&mut stream, opcode, &vec![b'a'; size], Some([1, 2, 3, 4]));
            }
            let mut scratch = stream.clone();
            for read in [16 << 10, 64 << 10] {
                let mut decoder = Decoder::new(Role::Server, LIMITS);
                measure(
                    &format!("decode masked {name} of {size}, reads of {} KiB", read >> 10),
                    count,
                    || {
                        // Includes the copy that stands for the kernel's.
                        scratch.copy_from_slice(&stream);
                        let seen: usize =
                            scratch.chunks_mut(read).map(|chunk| drain(&mut decoder, chunk)).sum();
                        assert_eq!(seen, count);
                    },
                );
            }
        }
    }
    let mut stream = vec![0x01, 0x80, 1, 2, 3, 4];
    for _ in 0..65_535 {
        stream.extend_from_slice(&[0x00, 0x81, 1, 2, 3, 4, b'a' ^ 1]);
    }
    stream.extend_from_slice(&[0x80, 0x80, 1, 2, 3, 4]);
    let mut scratch = stream.clone();
    let mut decoder = Decoder::new(Role::Server, LIMITS);
    measure("decode one-byte fragment of a text of 65,535", 65_535, || {
        scratch.copy_from_slice(&stream);
        assert_eq!(scratch.chunks_mut(64 << 10).map(|chunk| drain(&mut decoder, chunk)).sum::<usize>(), 1);
    });
}

fn encoding() {
    for size in [32, 125, 1024, 16 << 10] {
        let payload = vec![b'a'; size];
        measure(&format!("encode {size} to Bytes"), 1000, || {
            for _ in 0..1000 {
                black_box(encode(OpCode::Text, black_box(&payload)));
            }
        });
        let mut out = Vec::with_capacity(size + 14);
        measure(&format!("encode {size} masked into a buffer"), 1000, || {
            for _ in 0..1000 {
                out.clear();
                encode_into(&mut out, OpCode::Text, black_box(&payload), Some([1, 2, 3, 4]));
                black_box(&out);
            }
        });
        measure(&format!("build {size} in place"), 1000, || {
            for _ in 0..1000 {
                let mut frame = FrameBuilder::with_capacity(size);
                frame.payload().extend_from_slice(black_box(&payload));
                black_box(frame.finish(OpCode::Text));
            }
        });
    }
}

fn json(size: usize) -> String {
    let mut text = String::from("[");
    for n in 0.. {
        if text.len() >= size {
            break;
        }
        let (user, noise) = (n * 7919 % 1000, (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        text += &format!(
            r#"{{"id":"{noise:x}","user":{user},"channel":"room-{}","body":"see you at {}"}},"#,
            n % 7,
            noise % 24
        );
    }
    text.truncate(size);
    text
}

fn compression() {
    for size in [256, 512, 1024, 4096, 32 << 10] {
        let payload = json(size);
        for level in [1, 2, 3, 6] {
            let deflate = Deflate::new(DeflateConfig { level, ..DeflateConfig::default() });
            let deflated = deflate.compress(payload.as_bytes()).unwrap();
            measure(&format!("compress JSON of {size} at level {level} to {}", deflated.len()), 50, || {
                for _ in 0..50 {
                    black_box(deflate.compress(black_box(payload.as_bytes())));
                }
            });
        }
        let deflate = Deflate::default();
        let mut offer = HeaderMap::new();
        offer.insert("sec-websocket-extensions", HeaderValue::from_static("permessage-deflate"));
        let mut decoder =
            Decoder::new(Role::Client, LIMITS).with_inflate(deflate.negotiate(&offer).unwrap().inflate);
        let frame = deflate.frame(OpCode::Text, payload.as_bytes());
        let stream = frame.repeat(50);
        let mut scratch = stream.clone();
        measure(&format!("inflate JSON of {size}"), 50, || {
            scratch.copy_from_slice(&stream);
            assert_eq!(drain(&mut decoder, &mut scratch), 50);
        });
    }
}

fn handshakes() {
    let request = b"GET /ws HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: https://a.example\r\n\
        User-Agent: bench\r\nAccept-Encoding: gzip\r\nSec-WebSocket-Protocol: hauyna.v1\r\n\r\n";
    let mut out = Vec::new();
    measure("handshake, one read", 1000, || {
        for _ in 0..1000 {
            let head = HeadReader::new().push(black_box(request)).unwrap().unwrap();
            out.clear();
            check(&head.request.into_parts().0).unwrap().write_response(Some("hauyna.v1"), None, &mut out);
            black_box(&out);
        }
    });
}

fn main() {
    decoding();
    encoding();
    compression();
    handshakes();
}
