//! Byte streams with their expected outcome, most of them hostile; each is tried at every split point.

use hauyna_websocket::{Decoder, Deflate, DeflateConfig, Limits, ProtocolError, Role, Takeover};
use http::{HeaderMap, HeaderValue};

use crate::owned::{Outcome, Owned, decode};

/// One byte stream and its outcome.
pub(crate) struct Golden {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) deflate: bool,
    pub(crate) input: Vec<u8>,
    pub(crate) outcome: Outcome,
}

/// Small limits, so that the table stays small: messages of 1,000 bytes, frames of 600, 3 empty fragments.
pub(crate) const LIMITS: Limits = Limits { message: 1000, frame: 600, empty_fragments: 3 };

/// Returns a decoder for a stream of the table.
pub(crate) fn decoder(role: Role, deflate: bool) -> Decoder {
    let decoder = Decoder::new(role, LIMITS);
    if !deflate {
        return decoder;
    }
    let mut offer = HeaderMap::new();
    offer.insert("sec-websocket-extensions", HeaderValue::from_static("permessage-deflate"));
    let config = DeflateConfig { takeover: Takeover::None, ..DeflateConfig::default() };
    decoder.with_inflate(Deflate::new(config).negotiate(&offer).unwrap().inflate)
}

/// Returns a frame with the given first byte, masked with a fixed key.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, Some([0x37, 0xfa, 0x21, 0x3d]))
}

/// Returns a frame with the given first byte and the shortest form of its length.
pub(crate) fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = vec![first];
    let bit = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..=125 => out.push(bit | length as u8),
        length @ 126..=0xffff => {
            out.push(bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let key = mask.unwrap_or_default();
    out.extend_from_slice(&key[..if mask.is_some() { 4 } else { 0 }]);
    out.extend(payload.iter().enumerate().map(|(n, byte)| byte ^ key[n % 4]));
    out
}

fn text(text: &str) -> Owned {
    Owned::Text(text.to_owned())
}

/// Returns all streams.
pub(crate) fn table() -> Vec<Golden> {
    let mut all = good();
    all.extend(bad());
    all.extend(bad_close_codes());
    all.extend(compressed());
    all
}

fn golden(name: &'static str, parts: &[Vec<u8>], events: Vec<Owned>, error: Option<ProtocolError>) -> Golden {
    Golden { name, role: Role::Server, deflate: false, input: parts.concat(), outcome: (events, error) }
}

fn good() -> Vec<Golden> {
    let long = "x".repeat(300);
    let close = |code: u16, reason: &str| [&code.to_be_bytes(), reason.as_bytes()].concat();
    let ok = |name, parts: &[Vec<u8>], events| golden(name, parts, events, None);
    vec![
        ok("hello", &[masked(0x81, b"Hello")], vec![text("Hello")]),
        ok("empty-text", &[masked(0x81, b"")], vec![text("")]),
        ok("binary", &[masked(0x82, &[0, 255, 128])], vec![Owned::Binary(vec![0, 255, 128])]),
        ok("16-bit-length", &[masked(0x81, long.as_bytes())], vec![text(&long)]),
        ok(
            "two-frames",
            &[masked(0x81, b"a"), masked(0x82, b"b")],
            vec![text("a"), Owned::Binary(b"b".to_vec())],
        ),
        ok(
            "ping-pong",
            &[masked(0x89, b"p"), masked(0x8a, b"")],
            vec![Owned::Ping(b"p".to_vec()), Owned::Pong(vec![])],
        ),
        ok("longest-ping", &[masked(0x89, &[7; 125])], vec![Owned::Ping(vec![7; 125])]),
        ok("fragments", &[masked(0x01, b"Hel"), masked(0x00, b"l"), masked(0x80, b"o")], vec![text("Hello")]),
        ok(
            "ping-between-fragments",
            &[masked(0x01, b"Hel"), masked(0x89, b"?"), masked(0x80, b"lo")],
            vec![Owned::Ping(b"?".to_vec()), text("Hello")],
        ),
        ok(
            "character-across-fragments",
            &[masked(0x01, b"\xe2\x82"), masked(0x80, b"\xac")],
            vec![text("€")],
        ),
        ok(
            "empty-fragments",
            &[
                masked(0x02, b""),
                masked(0x00, b""),
                masked(0x00, b""),
                masked(0x00, b"x"),
                masked(0x00, b""),
                masked(0x80, b""),
            ],
            vec![Owned::Binary(b"x".to_vec())],
        ),
        ok(
            "message-at-the-limit",
            &[masked(0x02, &[1; 600]), masked(0x80, &[1; 400])],
            vec![Owned::Binary(vec![1; 1000])],
        ),
        ok("close-without-code", &[masked(0x88, b"")], vec![Owned::Close(None)]),
        ok(
            "close-with-reason",
            &[masked(0x88, &close(1000, "bye"))],
            vec![Owned::Close(Some((1000, "bye".into())))],
        ),
        ok("close-4999", &[masked(0x88, &close(4999, ""))], vec![Owned::Close(Some((4999, String::new())))]),
        ok(
            "nothing-after-close",
            &[masked(0x88, b""), masked(0x81, b"late"), vec![0xff; 20]],
            vec![Owned::Close(None)],
        ),
        ok("close-within-a-message", &[masked(0x01, b"Hel"), masked(0x88, b"")], vec![Owned::Close(None)]),
        Golden {
            role: Role::Client,
            ..ok(
                "unmasked-from-server",
                &[frame(0x81, b"Hello", None), frame(0x89, b"", None)],
                vec![text("Hello"), Owned::Ping(vec![])],
            )
        },
    ]
}

fn bad() -> Vec<Golden> {
    use ProtocolError as E;
    let bad = |name, parts: &[Vec<u8>], error| golden(name, parts, vec![], Some(error));
    let close = |code: u16, reason: &[u8]| masked(0x88, &[&code.to_be_bytes(), reason].concat());
    vec![
        bad("unmasked-from-client", &[frame(0x81, b"Hello", None)], E::Unmasked),
        Golden { role: Role::Client, ..bad("masked-from-server", &[masked(0x81, b"Hello")], E::Masked) },
        bad("rsv1-without-deflate", &[masked(0xc1, b"x")], E::ReservedBit),
        bad("rsv2", &[masked(0xa1, b"x")], E::ReservedBit),
        bad("rsv3", &[masked(0x91, b"x")], E::ReservedBit),
        bad("rsv-on-ping", &[masked(0xb9, b"x")], E::ReservedBit),
        bad("opcode-3", &[masked(0x83, b"x")], E::ReservedOpCode),
        bad("opcode-7", &[masked(0x87, b"x")], E::ReservedOpCode),
        bad("opcode-11", &[masked(0x8b, b"x")], E::ReservedOpCode),
        bad("opcode-15", &[masked(0x8f, b"x")], E::ReservedOpCode),
        bad("fragmented-ping", &[masked(0x09, b"x")], E::FragmentedControl),
        bad("fragmented-close", &[masked(0x08, b"")], E::FragmentedControl),
        bad("long-ping", &[masked(0x89, &[0; 126])], E::ControlTooLong),
        bad("long-close-by-64-bits", &[vec![0x88, 0xff]], E::ControlTooLong),
        bad("length-5-in-16-bits", &[vec![0x81, 0xfe, 0, 5, 0, 0, 0, 0]], E::LengthNotMinimal),
        bad("length-125-in-16-bits", &[vec![0x81, 0xfe, 0, 125]], E::LengthNotMinimal),
        bad(
            "length-65535-in-64-bits",
            &[vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]],
            E::LengthNotMinimal,
        ),
        bad("length-with-top-bit", &[vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1]], E::LengthOutOfRange),
        bad(
            "length-of-all-ones",
            &[vec![0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]],
            E::LengthOutOfRange,
        ),
        bad("longest-length", &[vec![0x82, 0xff, 127, 255, 255, 255, 255, 255, 255, 255]], E::FrameTooBig),
        bad("frame-above-the-limit", &[vec![0x82, 0xfe, 0x02, 0x59]], E::FrameTooBig),
        bad(
            "message-above-the-limit",
            &[masked(0x02, &[0; 600]), vec![0x80, 0xfe, 0x01, 0x91]],
            E::MessageTooBig,
        ),
        bad("continuation-of-nothing", &[masked(0x80, b"x")], E::UnexpectedContinuation),
        bad("unfinished-continuation-of-nothing", &[masked(0x00, b"x")], E::UnexpectedContinuation),
        bad("text-within-a-message", &[masked(0x01, b"x"), masked(0x81, b"y")], E::ExpectedContinuation),
        bad("binary-within-a-message", &[masked(0x01, b"x"), masked(0x02, b"y")], E::ExpectedContinuation),
        bad(
            "four-empty-fragments",
            &[masked(0x02, b""), masked(0x00, b""), masked(0x00, b""), masked(0x00, b"")],
            E::EmptyFragments,
        ),
        bad("close-of-one-byte", &[masked(0x88, b"\x03")], E::CloseTooShort),
        bad("close-reason-not-utf8", &[close(1000, b"\xff")], E::InvalidUtf8),
        bad("close-reason-cut-short", &[close(1000, b"\xe2\x82")], E::InvalidUtf8),
        bad("text-not-utf8", &[masked(0x81, b"a\xc0\xaf")], E::InvalidUtf8),
        bad("surrogate", &[masked(0x81, b"\xed\xa0\x80")], E::InvalidUtf8),
        bad("above-u10ffff", &[masked(0x81, b"\xf4\x90\x80\x80")], E::InvalidUtf8),
        bad("text-cut-short", &[masked(0x81, b"\xf0\x9f\x98")], E::InvalidUtf8),
        bad(
            "bad-text-in-the-middle",
            &[masked(0x01, b"ok"), masked(0x00, b"\xff"), masked(0x80, b"")],
            E::InvalidUtf8,
        ),
        bad("cut-character-and-empty-final", &[masked(0x01, b"\xe2\x82"), masked(0x80, b"")], E::InvalidUtf8),
        golden(
            "ping-then-fault",
            &[masked(0x89, b"p"), masked(0x83, b"")],
            vec![Owned::Ping(b"p".to_vec())],
            Some(E::ReservedOpCode),
        ),
    ]
}

fn bad_close_codes() -> Vec<Golden> {
    let codes = [
        ("close-0", 0u16),
        ("close-999", 999u16),
        ("close-1004", 1004u16),
        ("close-1005", 1005u16),
        ("close-1006", 1006u16),
        ("close-1015", 1015u16),
        ("close-1016", 1016u16),
        ("close-2999", 2999u16),
        ("close-5000", 5000u16),
        ("close-65535", 65535u16),
    ];
    let frame = |code: u16| masked(0x88, &[&code.to_be_bytes(), &b"why"[..]].concat());
    let bad = |(name, code)| golden(name, &[frame(code)], vec![], Some(ProtocolError::CloseCode));
    codes.into_iter().map(bad).collect()
}

fn compressed() -> Vec<Golden> {
    use ProtocolError as E;
    let ok = |name, parts: &[Vec<u8>], events| Golden { deflate: true, ..golden(name, parts, events, None) };
    let bad =
        |name, parts: &[Vec<u8>], error| Golden { deflate: true, ..golden(name, parts, vec![], Some(error)) };
    // RFC 7692 §7.2.3
    let hello: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];
    let stored: &[u8] = &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let ended: &[u8] = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let blocks: &[u8] = &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    let bomb = zlib(&[0; 5000]);
    vec![
        ok("deflated-hello", &[masked(0xc1, hello)], vec![text("Hello")]),
        ok(
            "deflated-in-fragments",
            &[masked(0x41, &hello[..3]), masked(0x80, &hello[3..])],
            vec![text("Hello")],
        ),
        ok("deflated-stored", &[masked(0xc1, stored)], vec![text("Hello")]),
        ok("deflated-to-a-final-block", &[masked(0xc1, ended)], vec![text("Hello")]),
        ok("deflated-in-two-blocks", &[masked(0xc2, blocks)], vec![Owned::Binary(b"Hello".to_vec())]),
        ok("deflated-empty", &[masked(0xc1, &[0])], vec![text("")]),
        ok("deflated-without-a-byte", &[masked(0xc1, &[])], vec![text("")]),
        ok(
            "plain-with-deflate",
            &[masked(0x81, b"plain"), masked(0xc1, hello)],
            vec![text("plain"), text("Hello")],
        ),
        ok(
            "ping-in-deflated-message",
            &[masked(0x41, &hello[..3]), masked(0x89, b""), masked(0x80, &hello[3..])],
            vec![Owned::Ping(vec![]), text("Hello")],
        ),
        Golden {
            outcome: (vec![text("Hello")], Some(E::CorruptDeflate)),
            ..bad(
                "reference-into-the-last-message",
                &[masked(0xc1, hello), masked(0xc1, again)],
                E::CorruptDeflate,
            )
        },
        bad("rsv1-on-continuation", &[masked(0x41, &hello[..3]), masked(0xc0, &hello[3..])], E::ReservedBit),
        bad("rsv1-on-continuation-of-plain", &[masked(0x01, b"x"), masked(0xc0, b"y")], E::ReservedBit),
        bad("rsv1-on-ping", &[masked(0xc9, b"x")], E::ReservedBit),
        bad("rsv2-with-deflate", &[masked(0xe1, hello)], E::ReservedBit),
        bad("garbage-stream", &[masked(0xc1, &[0xff; 20])], E::CorruptDeflate),
        bad("truncated-stream", &[masked(0xc1, &hello[..4])], E::CorruptDeflate),
        bad("deflated-text-not-utf8", &[masked(0xc1, &zlib(b"a\xff"))], E::InvalidUtf8),
        bad("bomb", &[masked(0xc2, &bomb)], E::MessageTooBig),
        bad("bomb-in-fragments", &[masked(0x42, &bomb[..5]), masked(0x80, &bomb[5..])], E::MessageTooBig),
    ]
}

/// Returns a self-contained compressed payload.
pub(crate) fn zlib(payload: &[u8]) -> Vec<u8> {
    Deflate::new(DeflateConfig { level: 6, threshold: 0, ..DeflateConfig::default() })
        .compress(payload)
        .unwrap_or_else(|| {
            // A payload that does not shrink becomes one stored block (RFC 1951 §3.2.4).
            let length = (payload.len() as u16).to_le_bytes();
            [&[0][..], &length, &length.map(|byte| !byte), payload, &[0]].concat()
        })
}

#[test]
fn every_golden_stream_has_its_outcome_at_every_split_point() {
    for golden in table() {
        for split in 0..=golden.input.len() {
            let mut decoder = decoder(golden.role, golden.deflate);
            let (first, second) = golden.input.split_at(split);
            assert_eq!(decode(&mut decoder, [first, second]), golden.outcome, "{} at {split}", golden.name);
            let closed = matches!(golden.outcome.0.last(), Some(Owned::Close(_)));
            assert_eq!(decoder.is_finished(), closed || golden.outcome.1.is_some(), "{}", golden.name);
            assert!(!decoder.is_mid_message(), "{}", golden.name);
            assert_eq!(decoder.buffered(), 0, "{}", golden.name);
        }
    }
}

#[test]
fn every_golden_stream_has_its_outcome_byte_by_byte() {
    for golden in table() {
        let mut decoder = decoder(golden.role, golden.deflate);
        assert_eq!(decode(&mut decoder, golden.input.chunks(1)), golden.outcome, "{}", golden.name);
    }
}

#[test]
fn every_fault_has_the_close_code_of_its_kind() {
    use ProtocolError as E;
    for golden in table() {
        let Some(error) = golden.outcome.1 else { continue };
        let expected = match error {
            E::InvalidUtf8 | E::CorruptDeflate => 1007,
            E::FrameTooBig | E::MessageTooBig | E::RatioTooHigh => 1009,
            _ => 1002,
        };
        assert_eq!(error.close_code().as_u16(), expected, "{}", golden.name);
    }
}

#[test]
fn faults_of_a_header_show_before_the_payload_arrives() {
    for golden in table() {
        let Some(error) = golden.outcome.1 else { continue };
        let in_header = !matches!(
            error,
            ProtocolError::InvalidUtf8
                | ProtocolError::CorruptDeflate
                | ProtocolError::CloseCode
                | ProtocolError::CloseTooShort
        );
        if in_header
            && golden.outcome.0.is_empty()
            && golden.input[0] & 0x0f != 0x02
            && golden.input[0] & 0x80 != 0
        {
            let cut = golden.input.len().min(4);
            let outcome = decode(&mut decoder(golden.role, golden.deflate), [&golden.input[..cut]]);
            assert_eq!(outcome.1, Some(error), "{}", golden.name);
        }
    }
}
