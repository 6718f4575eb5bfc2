//! permessage-deflate: negotiation tables, bombs, pools that do not leak, and compression ratios.

use hauyna_websocket::{
    Compression, Decoder, Deflate, DeflateConfig, Fragment, FrameHead, Inflate, Limits, OpCode,
    ProtocolError, Role, Takeover,
};
use http::{HeaderMap, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::golden::{masked, zlib};
use crate::owned::{Owned, decode};

fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append("sec-websocket-extensions", HeaderValue::from_bytes(line.as_bytes()).unwrap());
    }
    headers
}

fn deflate(takeover: Takeover, max_window_bits: u8) -> Deflate {
    Deflate::new(DeflateConfig { takeover, max_window_bits, threshold: 0, ..DeflateConfig::default() })
}

fn inflate(deflate: &Deflate, offer: &str) -> Inflate {
    deflate.negotiate(&headers(&[offer])).unwrap().inflate
}

const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

#[test]
fn offers_are_answered_within_rfc_7692() {
    let none = deflate(Takeover::None, 15);
    let small = deflate(Takeover::None, 10);
    let takeover = deflate(Takeover::Allowed, 15);
    let small_takeover = deflate(Takeover::Allowed, 10);
    let table: &[(&Deflate, &str, Option<&str>)] = &[
        (&none, "permessage-deflate", Some(PLAIN)),
        (&none, " permessage-deflate ; client_max_window_bits", Some(PLAIN)),
        (
            &none,
            "permessage-deflate; client_max_window_bits=12",
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=12",
            ),
        ),
        (
            &none,
            "permessage-deflate; server_max_window_bits=15",
            Some(
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=15; client_no_context_takeover",
            ),
        ),
        (
            &none,
            "permessage-deflate; server_max_window_bits=8",
            Some(
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=8; client_no_context_takeover",
            ),
        ),
        (
            &none,
            "permessage-deflate; server_max_window_bits=\"1\\0\"",
            Some(
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; client_no_context_takeover",
            ),
        ),
        (&none, "permessage-deflate; server_no_context_takeover; client_no_context_takeover", Some(PLAIN)),
        (&none, "x-webkit-deflate-frame, permessage-deflate", Some(PLAIN)),
        (&none, "foo; bar=\"baz\", ,permessage-deflate", Some(PLAIN)),
        // The first offer is declined, the second taken (RFC 7692 §7.1.3).
        (&none, "permessage-deflate; unknown, permessage-deflate", Some(PLAIN)),
        (&none, "permessage-deflate; server_max_window_bits=16, permessage-deflate", Some(PLAIN)),
        // A client that did not offer client_max_window_bits cannot be asked for it.
        (&small, "permessage-deflate", Some(PLAIN)),
        (
            &small,
            "permessage-deflate; client_max_window_bits",
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=10",
            ),
        ),
        (
            &small,
            "permessage-deflate; client_max_window_bits=9",
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=9",
            ),
        ),
        (&takeover, "permessage-deflate", Some("permessage-deflate; server_no_context_takeover")),
        (&takeover, "permessage-deflate; client_no_context_takeover", Some(PLAIN)),
        (
            &takeover,
            "permessage-deflate; client_max_window_bits=8",
            Some("permessage-deflate; server_no_context_takeover; client_max_window_bits=8"),
        ),
        (
            &small_takeover,
            "permessage-deflate; client_max_window_bits",
            Some("permessage-deflate; server_no_context_takeover; client_max_window_bits=10"),
        ),
        (&small_takeover, "permessage-deflate", Some("permessage-deflate; server_no_context_takeover")),
    ];
    for (deflate, offer, answer) in table {
        let negotiated = deflate.negotiate(&headers(&[offer]));
        assert_eq!(negotiated.as_ref().map(|negotiated| &negotiated.response[..]), *answer, "{offer}");
    }
    assert_eq!(none.negotiate(&headers(&["foo", "permessage-deflate"])).unwrap().response, PLAIN);
}

#[test]
fn offers_outside_rfc_7692_are_declined() {
    let none = deflate(Takeover::None, 15);
    for offer in [
        "",
        "foo",
        "Permessage-Deflate",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=08",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=115",
        "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
        "permessage-deflate; client_max_window_bits=\"\"",
        "permessage-deflate; client_max_window_bits=\"15",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; =15",
        "permessage-deflate;",
        "permessage-deflate; client_max_window_bits 15",
        "permessage-deflate permessage-deflate",
        "\"permessage-deflate\"",
        "foo; a=\"b c\", permessage-deflate", // a quoted value must hold a token (RFC 6455 §9.1)
        "permessage-deflate\u{e9}",
    ] {
        assert!(none.negotiate(&headers(&[offer])).is_none(), "{offer}");
    }
    assert!(none.negotiate(&HeaderMap::new()).is_none());
}

#[test]
fn answers_are_accepted_only_when_they_were_offered() {
    let none = deflate(Takeover::None, 15);
    let takeover = deflate(Takeover::Allowed, 12);
    assert_eq!(
        takeover.offer(),
        "permessage-deflate; client_no_context_takeover; client_max_window_bits; server_max_window_bits=12"
    );
    for (deflate, answer, accepted) in [
        (&none, PLAIN, true),
        (&none, "permessage-deflate; server_no_context_takeover", true),
        (&none, "permessage-deflate; server_no_context_takeover; client_max_window_bits=9", true),
        (&none, "permessage-deflate", false),
        (&none, "permessage-deflate; server_no_context_takeover; client_max_window_bits", false),
        (&none, "permessage-deflate; server_no_context_takeover; other", false),
        (&none, "permessage-deflate; server_no_context_takeover, permessage-deflate", false),
        (&none, "other", false),
        (&none, "permessage-deflate; server_no_context_takeover;", false),
        (&takeover, "permessage-deflate; server_max_window_bits=12", true),
        (&takeover, "permessage-deflate; server_max_window_bits=8", true),
        (&takeover, "permessage-deflate", false),
        (&takeover, "permessage-deflate; server_max_window_bits=13", false),
    ] {
        assert_eq!(deflate.accept(&headers(&[answer])).is_ok(), accepted, "{answer}");
    }
    assert!(none.accept(&HeaderMap::new()).unwrap().is_none());
}

#[test]
fn what_a_server_answers_a_client_accepts() {
    for server in [Takeover::None, Takeover::Allowed] {
        for client in [Takeover::None, Takeover::Allowed] {
            for bits in [9, 12, 15] {
                let (server, client) = (deflate(server, bits), deflate(client, 24 - bits));
                let answer = server.negotiate(&headers(&[&client.offer()])).unwrap();
                let accepted = client.accept(&headers(&[&answer.response])).unwrap().unwrap();
                assert!(accepted.window.fits(512) && answer.window.fits(512));
            }
        }
    }
}

#[test]
fn cve_2020_7662_hostile_extension_headers_take_linear_time() {
    let none = deflate(Takeover::None, 15);
    // A quadratic parser would take some 10^12 steps for each of these, a linear one a million.
    for part in [
        "permessage-deflate; a, ",
        "permessage-deflate; a=\"\\",
        "permessage-deflate;",
        "a;b=\"",
        ",",
        " ",
        "\"\\\\",
        ";;",
    ] {
        let line = part.repeat((1 << 20) / part.len());
        assert!(none.negotiate(&headers(&[&line])).is_none());
    }
    let unclosed = format!("permessage-deflate; client_max_window_bits=\"{}", "\\1".repeat(1 << 19));
    assert!(none.negotiate(&headers(&[&unclosed])).is_none());
}

#[test]
fn a_small_peer_window_takes_frames_that_cannot_reach_beyond_it() {
    let none = deflate(Takeover::None, 15);
    let window = |offer| none.negotiate(&headers(&[offer])).unwrap().window;
    assert!(window("permessage-deflate").fits(usize::MAX));
    let small = window("permessage-deflate; server_max_window_bits=9");
    assert!(small.fits(512) && !small.fits(513));
    let eight = window("permessage-deflate; server_max_window_bits=8");
    assert!(eight.fits(256) && !eight.fits(257));
    // The reason: a strict window of 512 bytes inflates 512 bytes that were compressed with a window of 32
    // KiB.
    let payload: Vec<u8> =
        (0..256u16).map(|n| (n * 7) as u8).chain((0..256u16).map(|n| (n * 7) as u8)).collect();
    let deflated = [&none.compress(&payload).unwrap()[..], &[0, 0, 0xff, 0xff]].concat();
    let mut strict = flate2::Decompress::new_with_window_bits(false, 9);
    let mut out = vec![0; 1];
    let mut whole = Vec::new();
    let mut rest = &deflated[..];
    while whole.len() < payload.len() {
        let (read, written) = (strict.total_in(), strict.total_out());
        strict.decompress(rest, &mut out, flate2::FlushDecompress::Sync).unwrap();
        rest = &rest[(strict.total_in() - read) as usize..];
        whole.extend_from_slice(&out[..(strict.total_out() - written) as usize]);
    }
    assert_eq!(whole, payload);
}

#[test]
fn compression_is_used_where_it_pays() {
    let deflate = Deflate::default();
    assert_eq!(deflate.compress(&[b'a'; 255]), None);
    assert!(deflate.compress(&[b'a'; 256]).unwrap().len() < 20);
    let mut noise = 1u32;
    let random: Vec<u8> = (0..4096)
        .map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .collect();
    assert_eq!(deflate.compress(&random), None);
    assert_eq!(deflate.frame(OpCode::Binary, &random), hauyna_websocket::encode(OpCode::Binary, &random));
    assert_eq!(deflate.frame(OpCode::Text, &[b'a'; 1000])[0], 0xc1);
    assert_eq!(deflate.frame(OpCode::Ping, &[b'a'; 100])[0], 0x89);
}

#[test]
fn undici_cve_2026_1526_a_bomb_stops_at_the_limit() {
    let bomb = zlib(&vec![0; 60 << 20]);
    assert!(bomb.len() < 300_000);
    let shared = deflate(Takeover::None, 15);
    let limits = Limits { message: 1 << 20, frame: 1 << 20, empty_fragments: 64 };
    let mut decoder = Decoder::new(Role::Server, limits).with_inflate(inflate(&shared, "permessage-deflate"));
    assert_eq!(
        decode(&mut decoder, [&masked(0xc2, &bomb)[..]]),
        (vec![], Some(ProtocolError::MessageTooBig))
    );
    // A message of exactly the limit passes, at the highest possible ratio.
    let mut decoder = Decoder::new(Role::Server, limits).with_inflate(inflate(&shared, "permessage-deflate"));
    let (events, error) = decode(&mut decoder, [&masked(0xc2, &zlib(&vec![0; 1 << 20]))[..]]);
    assert!(matches!(&events[..], [Owned::Binary(bytes)] if bytes.len() == 1 << 20), "{error:?}");
    // A ratio limit refuses it earlier.
    let ratio = Deflate::new(DeflateConfig { ratio_limit: Some(100), ..DeflateConfig::default() });
    let mut decoder = Decoder::new(Role::Server, limits).with_inflate(inflate(&ratio, "permessage-deflate"));
    let outcome = decode(&mut decoder, [&masked(0xc2, &zlib(&vec![0; 1 << 20]))[..]]);
    assert_eq!(outcome.1, Some(ProtocolError::RatioTooHigh));
}

#[test]
fn a_stream_that_ends_again_and_again_is_refused() {
    let shared = deflate(Takeover::None, 15);
    let mut decoder =
        Decoder::new(Role::Server, Limits::default()).with_inflate(inflate(&shared, "permessage-deflate"));
    let ends = [3, 0].repeat(1000); // a final empty block, over and over
    assert_eq!(decode(&mut decoder, [&masked(0xc2, &ends)[..]]).1, Some(ProtocolError::CorruptDeflate));
}

#[test]
fn incompressible_messages_at_the_limit_pass_though_deflate_lengthens_them() {
    let shared = deflate(Takeover::None, 15);
    let limits = Limits { message: 1000, frame: 1000, empty_fragments: 64 };
    let mut decoder = Decoder::new(Role::Server, limits).with_inflate(inflate(&shared, "permessage-deflate"));
    let stored = [&[0, 0xe8, 0x03, 0x17, 0xfc][..], &[9; 1000], &[0]].concat();
    assert_eq!(
        decode(&mut decoder, [&masked(0xc2, &stored)[..]]),
        (vec![Owned::Binary(vec![9; 1000])], None)
    );
}

#[test]
fn takeover_lets_a_message_refer_to_the_last_one_when_it_was_agreed() {
    let hello: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00]; // RFC 7692 §7.2.3.2
    let stream = [masked(0xc1, hello), masked(0xc1, again), masked(0xc1, &[]), masked(0xc1, again)].concat();
    let shared = deflate(Takeover::Allowed, 15);
    let mut decoder =
        Decoder::new(Role::Server, Limits::default()).with_inflate(inflate(&shared, "permessage-deflate"));
    let text = |text: &str| Owned::Text(text.to_owned());
    let outcome = decode(&mut decoder, [&stream[..]]);
    assert_eq!(outcome, (vec![text("Hello"), text("Hello"), text(""), text("Hello")], None));
}

#[test]
fn long_messages_with_takeover_arrive_from_a_real_compressor() {
    for bits in [9, 11, 15] {
        let shared = deflate(Takeover::Allowed, bits);
        let offer = format!("permessage-deflate; client_max_window_bits={bits}");
        let limits = Limits { message: 1 << 20, frame: 1 << 20, empty_fragments: 64 };
        let mut decoder = Decoder::new(Role::Server, limits).with_inflate(inflate(&shared, &offer));
        let mut peer = flate2::Compress::new_with_window_bits(flate2::Compression::new(6), false, bits);
        for n in 0..50u32 {
            let message: Vec<u8> =
                (0..n * 500).map(|m| (m.wrapping_mul(2_654_435_761) >> (n % 29)) as u8).collect();
            let mut deflated = Vec::with_capacity(2 * message.len() + 100);
            peer.compress_vec(&message, &mut deflated, flate2::FlushCompress::Sync).unwrap();
            deflated.truncate(deflated.len() - 4);
            let outcome = decode(&mut decoder, masked(0xc2, &deflated).chunks(1500));
            assert_eq!(outcome, (vec![Owned::Binary(message)], None), "{bits} {n}");
        }
    }
}

#[test]
fn nats_2026_05_two_connections_on_one_pool_never_see_each_others_bytes() {
    let shared = deflate(Takeover::None, 15);
    let secrets = [b"alice-secret".repeat(3000), b"bob-password".repeat(3000)];
    let mut decoders = [0, 1].map(|_| {
        Decoder::new(Role::Server, Limits::default()).with_inflate(inflate(&shared, "permessage-deflate"))
    });
    for _ in 0..200 {
        for (decoder, secret) in decoders.iter_mut().zip(&secrets) {
            let deflated = shared.compress(secret).unwrap();
            assert_eq!(decode(decoder, [&masked(0xc2, &deflated)[..]]).0, [Owned::Binary(secret.clone())]);
        }
    }
    // Another peer that refers to earlier content of the window gets an error: the distances reach into an
    // empty window.
    for distance in [1u32, 2, 100, 1000, 16_000, 32_768] {
        let mut stranger = Decoder::new(Role::Server, Limits::default())
            .with_inflate(inflate(&shared, "permessage-deflate"));
        let probe = reference(distance);
        let (events, error) = decode(&mut stranger, [&masked(0xc2, &probe)[..]]);
        assert_eq!((events, error), (vec![], Some(ProtocolError::CorruptDeflate)), "{distance}");
    }
}

/// Returns a fixed-code block that copies 258 bytes from this distance, then ends.
fn reference(distance: u32) -> Vec<u8> {
    let (mut bits, mut count) = (0u64, 0);
    let mut push = |value: u64, width: u32| {
        bits |= value << count;
        count += width;
    };
    let reversed = |value: u32, width: u32| u64::from(value.reverse_bits() >> (32 - width));
    push(0b010, 3); // not final, fixed codes
    push(reversed(0b1100_0101, 8), 8); // length code 285: 258 bytes
    let (code, extra, base) = match distance {
        1..=4 => (distance - 1, 0, distance),
        _ => {
            let width = (distance - 1).ilog2();
            let half = (distance - 1) >> (width - 1) & 1;
            (2 * width + half, width - 1, 1 + (1 << width) + (half << (width - 1)))
        }
    };
    push(reversed(code, 5), 5);
    push(u64::from(distance - base), extra);
    push(0, 7); // end of block
    push(0, 3); // the start of the empty stored block whose rest was cut off
    bits.to_le_bytes()[..count.div_ceil(8) as usize].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_inflate_within_the_limit_or_fail(
        bytes in vec(any::<u8>(), 0..300),
        limit in 0usize..2000,
        takeover in prop_oneof![Just(Takeover::None), Just(Takeover::Allowed)],
    ) {
        let limits = Limits { message: limit, frame: 1 << 20, empty_fragments: 64 };
        let shared = deflate(takeover, 15);
        let mut decoder = Decoder::new(Role::Server, limits).with_inflate(inflate(&shared, "permessage-deflate"));
        match decode(&mut decoder, [&masked(0xc2, &bytes)[..]]) {
            (events, None) => prop_assert!(matches!(&events[..], [Owned::Binary(out)] if out.len() <= limit)),
            (events, Some(_)) => prop_assert!(events.is_empty()),
        }
    }

    #[test]
    fn shared_frames_are_plain_zlib_streams_behind_rsv1(payload in vec(0u8..4, 256..5000), level in 0u32..12) {
        let shared = Deflate::new(DeflateConfig { level, ..DeflateConfig::default() });
        let deflated = shared.compress(&payload).unwrap();
        let mut out = Vec::with_capacity(payload.len() + 100);
        let stream = [&deflated[..], &[0, 0, 0xff, 0xff]].concat();
        flate2::Decompress::new(false).decompress_vec(&stream, &mut out, flate2::FlushDecompress::Sync).unwrap();
        prop_assert_eq!(&out, &payload);
        let head = FrameHead { compression: Compression::Deflated, fragment: Fragment::Final, ..FrameHead::of(OpCode::Binary) };
        let mut frame = Vec::new();
        head.encode_into(&mut frame, &deflated);
        prop_assert_eq!(&shared.frame(OpCode::Binary, &payload)[..], &frame[..]);
    }
}
