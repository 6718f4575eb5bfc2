//! Input of hostile clients: nesting, claimed lengths, sizes, numbers and broken text, at each limit and one
//! beyond it.

use hauyna_protocol::{Encoding, ErrorType, Fault, Limits, Raw, Request, Shape, decode};
use proptest::prelude::*;

fn json(text: &str) -> Result<hauyna_protocol::Incoming<'_>, Fault> {
    decode(Encoding::Json, text.as_bytes(), &Limits::default())
}

fn packed(bytes: &[u8]) -> Result<hauyna_protocol::Incoming<'_>, Fault> {
    decode(Encoding::MessagePack, bytes, &Limits::default())
}

/// Wraps `1` in this many levels of arrays, or of objects.
fn nested_json(levels: usize, open: &str, close: &str) -> String {
    format!("{}1{}", open.repeat(levels), close.repeat(levels))
}

const SHAPES: [(&str, &str); 2] = [("[", "]"), (r#"{"a":"#, "}")];

#[test]
fn json_depth_bomb_in_the_payload_is_refused_past_64_levels() {
    for (open, close) in SHAPES {
        let publish = |levels| {
            let content = nested_json(levels, open, close);
            format!(r#"{{"type":"channel_message","id":1,"channel":"a","content":{content}}}"#)
        };
        assert!(json(&publish(63)).is_ok());
        for levels in [64, 1_000_000] {
            let fault = json(&publish(levels)).unwrap_err();
            assert_eq!(fault.error, ErrorType::LimitExceeded);
            assert_eq!(fault.id, Some(hauyna_protocol::RequestId::Number(1)));
        }
    }
}

#[test]
fn json_depth_bomb_in_metadata_is_refused_past_64_levels() {
    let subscribe = |levels| {
        let metadata = nested_json(levels, r#"{"a":"#, "}");
        format!(r#"{{"type":"subscribe_channel","channel":"a","metadata":{metadata}}}"#)
    };
    assert!(json(&subscribe(63)).is_ok());
    assert_eq!(json(&subscribe(64)).unwrap_err().error, ErrorType::LimitExceeded);
    assert_eq!(json(&subscribe(1_000_000)).unwrap_err().error, ErrorType::LimitExceeded);
}

#[test]
fn json_depth_bomb_in_the_envelope_is_refused() {
    for (open, close) in SHAPES {
        assert_eq!(json(&nested_json(1_000_000, open, close)).unwrap_err().error, ErrorType::LimitExceeded);
        assert_eq!(json(&open.repeat(1_000_000)).unwrap_err().error, ErrorType::LimitExceeded);
        assert_eq!(json(&close.repeat(1_000_000)).unwrap_err().error, ErrorType::ParseError);
    }
    let unknown = format!(r#"{{"ignored":{},"type":"ping"}}"#, nested_json(64, "[", "]"));
    assert_eq!(json(&unknown).unwrap_err().error, ErrorType::LimitExceeded);
}

#[test]
fn json_brackets_in_a_text_are_no_nesting() {
    let text = r#"[[{\"[{\\"#.repeat(1000);
    assert!(json(&format!(r#"{{"type":"broadcast","message":"{text}"}}"#)).is_ok());
}

#[test]
fn json_depth_limit_of_the_deployment_is_kept_even_above_what_serde_allows() {
    let event = |levels| format!(r#"{{"type":"x","body":{}}}"#, nested_json(levels, "[", "]"));
    let decode_with = |depth, text: &str| {
        decode(Encoding::Json, text.as_bytes(), &Limits { depth, ..Limits::default() }).map(|_| ())
    };
    assert!(decode_with(2, &event(1)).is_ok());
    assert!(decode_with(2, &event(2)).is_err());
    assert!(decode_with(u16::MAX, &event(126)).is_ok());
    assert!(decode_with(u16::MAX, &event(127)).is_err());
    assert!(decode_with(0, r#"{"type":"ping"}"#).is_err());
}

#[test]
fn json_depth_bomb_that_was_let_in_is_still_walked_without_a_stack() {
    // Unchecked input of `assume_valid` must not end the process either.
    let bomb = nested_json(1_000_000, "[", "]");
    let raw = Raw::assume_valid(Encoding::Json, bomb.as_bytes());
    assert!(raw.decode::<serde_json::Value>().is_err());
    assert_eq!(Shape::of(raw), Shape::Content);
    let mut deep = Vec::new();
    raw.transcode_into(Encoding::MessagePack, &mut deep);
    assert_eq!(deep.len(), 1_000_001);
    assert_eq!(Raw::assume_valid(Encoding::MessagePack, &deep).as_json(), bomb);
}

/// Returns an event whose `body` is `1` in this many levels of arrays, or of maps.
fn nested_pack(levels: usize, open: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x83\xa4type\xa1x\xa2id\x01\xa4body".to_vec();
    for _ in 0..levels {
        bytes.extend_from_slice(open);
    }
    bytes.push(1);
    bytes
}

#[test]
fn msgpack_recursion_is_refused_past_64_levels() {
    for open in [b"\x91".as_slice(), b"\x81\xa1a", b"\xdc\x00\x01", b"\xdf\x00\x00\x00\x01\xa1a"] {
        assert!(packed(&nested_pack(63, open)).is_ok());
        for levels in [64, 1_000_000] {
            let fault = packed(&nested_pack(levels, open)).unwrap_err();
            assert_eq!(fault.error, ErrorType::LimitExceeded);
            assert_eq!(fault.id, Some(hauyna_protocol::RequestId::Number(1)));
        }
    }
    assert_eq!(packed(&[0x91; 1_000_000]).unwrap_err().error, ErrorType::ParseError);
    assert!(Raw::parse(Encoding::MessagePack, &[0x91; 1_000_000], &Limits::default()).is_err());
}

#[test]
fn msgpack_declared_lengths_are_believed_only_as_far_as_there_are_bytes() {
    let claims: [&[u8]; 8] = [
        b"\xdd\xff\xff\xff\xff\x01",
        b"\xdf\xff\xff\xff\xff\xa1a\x01",
        b"\xdb\xff\xff\xff\xffabc",
        b"\xc6\xff\xff\xff\xffabc",
        b"\xdc\x00\x03\x01\x01",
        b"\xde\x00\x02\xa1a\x01",
        b"\xd9\x04abc",
        b"\xc4\x04abc",
    ];
    for claim in claims {
        let fault = Raw::parse(Encoding::MessagePack, claim, &Limits::default()).unwrap_err();
        assert_eq!(fault.error, ErrorType::ParseError);
        // Nested, so that the claims multiply: sixty arrays of four thousand million items each.
        let nested = [claim[0], 0xff, 0xff, 0xff, 0xff].repeat(60);
        assert!(Raw::parse(Encoding::MessagePack, &nested, &Limits::default()).is_err());
        assert_eq!(Raw::assume_valid(Encoding::MessagePack, claim).as_json(), "null");
    }
}

#[test]
fn announced_fields_that_never_come_are_an_error_of_this_message_alone() {
    for fields in 1..=15u8 {
        let mut bytes = vec![0x80 | fields];
        bytes.extend_from_slice(b"\xa4type\xa4ping".repeat(usize::from(fields) - 1).as_slice());
        assert_eq!(packed(&bytes).unwrap_err().error, ErrorType::ParseError);
    }
    assert!(packed(b"\x81\xa4type\xa4ping").is_ok());
}

#[test]
fn each_field_is_taken_at_its_limit_and_refused_one_byte_past_it() {
    let limits = Limits { name: 10, metadata: 20, key: 5, event: 16, ..Limits::default() };
    let allowed = |text: &str| match decode(Encoding::Json, text.as_bytes(), &limits) {
        Ok(_) => true,
        Err(fault) => {
            assert_eq!(fault.error, ErrorType::LimitExceeded, "{text}");
            false
        }
    };
    for (extra, expected) in [(0, true), (1, false)] {
        let x = |length: usize| "x".repeat(length + extra);
        assert_eq!(allowed(&format!(r#"{{"type":"presence","channel":"{}"}}"#, x(10))), expected);
        assert_eq!(allowed(&format!(r#"{{"type":"private","message":1,"to":"{}"}}"#, x(10))), expected);
        assert_eq!(allowed(&format!(r#"{{"type":"group","message":1,"room":"{}"}}"#, x(10))), expected);
        assert_eq!(allowed(&format!(r#"{{"type":"broadcast","message":1,"key":"{}"}}"#, x(5))), expected);
        assert_eq!(allowed(&format!(r#"{{"type":"{}"}}"#, x(16))), expected);
        let event = x(16);
        let text = format!(r#"{{"type":"client_event","channel":"a","event":"{event}"}}"#);
        assert_eq!(allowed(&text), expected);
    }
    for (extra, expected) in [(0, true), (1, false)] {
        let metadata = format!(r#"{{"a":"{}"}}"#, "x".repeat(12 + extra));
        let limits = Limits { metadata: 20, ..Limits::default() };
        for kind in ["subscribe_channel", "update_presence"] {
            let text = format!(r#"{{"type":"{kind}","channel":"a","metadata":{metadata}}}"#);
            assert_eq!(decode(Encoding::Json, text.as_bytes(), &limits).is_ok(), expected);
        }
    }
}

#[test]
fn a_name_is_measured_after_its_escapes_are_resolved() {
    let channel = r"\u0078".repeat(255);
    let text = format!(r#"{{"type":"presence","channel":"{channel}"}}"#);
    assert!(
        matches!(json(&text).unwrap().request, Request::Presence { channel, .. } if channel == "x".repeat(255))
    );
    assert!(json(&format!(r#"{{"type":"presence","channel":"{channel}x"}}"#)).is_err());
}

#[test]
fn lone_surrogates_and_nul_are_refused_in_names_and_passed_on_in_payloads() {
    for name in [r"\ud800", r"\udc00\ud800", r"a\u0000", r"a\u001f", r"\u007f", r"\u0085"] {
        let fault = json(&format!(r#"{{"type":"presence","channel":"{name}"}}"#)).unwrap_err();
        assert_eq!(fault.error, ErrorType::ValidationError, "{name}");
    }
    let text = r#"{"type":"broadcast","message":"\ud800\u0000"}"#;
    let Request::Broadcast { message, .. } = json(text).unwrap().request else { unreachable!() };
    assert_eq!(message.as_json(), r#""\ud800\u0000""#);
    let mut out = Vec::new();
    message.transcode_into(Encoding::MessagePack, &mut out);
    assert_eq!(out, b"\xa4\xef\xbf\xbd\x00", "MessagePack holds UTF-8, which has no surrogates");
}

#[test]
fn hostile_numbers_pass_through_a_payload_unread() {
    for number in ["1e999", "-0", "18446744073709551616", "-1e-999", "0.1e+0000000000000000000000001"] {
        let text = format!(r#"{{"type":"broadcast","message":{number}}}"#);
        let Request::Broadcast { message, .. } = json(&text).unwrap().request else { unreachable!() };
        assert_eq!(message.bytes(), number.as_bytes());
        let mut out = Vec::new();
        message.transcode_into(Encoding::MessagePack, &mut out);
        assert_eq!(out[0], 0xcb, "{number} is a double");
    }
}

#[test]
fn every_truncation_of_a_message_is_a_parse_error() {
    let text =
        r#"{"type":"channel_message","id":"é1","channel":"a\u00e9","content":{"a":[1.5e3,null,true]}}"#;
    for end in 0..text.len() {
        let fault = decode(Encoding::Json, &text.as_bytes()[..end], &Limits::default()).unwrap_err();
        assert_eq!(fault.error, ErrorType::ParseError, "cut at {end}");
    }
    let mut bytes = Vec::new();
    Raw::assume_valid(Encoding::Json, text.as_bytes()).transcode_into(Encoding::MessagePack, &mut bytes);
    for end in 0..bytes.len() {
        assert_eq!(packed(&bytes[..end]).unwrap_err().error, ErrorType::ParseError, "cut at {end}");
    }
}

#[test]
fn a_text_frame_that_is_not_utf8_is_a_parse_error() {
    for bytes in [b"\xff".as_slice(), b"{\"type\":\"\xc3\"}", b"{\"type\":\"ping\",\"x\":\"\xed\xa0\x80\"}"] {
        let fault = decode(Encoding::Json, bytes, &Limits::default()).unwrap_err();
        assert_eq!(fault.error, ErrorType::ParseError);
    }
}

#[test]
fn ten_thousand_malformed_messages_harm_nobody() {
    let good = br#"{"type":"channel_message","id":1,"channel":"a","content":{"a":[1,"b"]}}"#;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..10_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let mut bytes = good.to_vec();
        let at = seed as usize % bytes.len();
        bytes[at] = (seed >> 32) as u8;
        let _ = decode(Encoding::Json, &bytes, &Limits::default());
        let _ = decode(Encoding::MessagePack, &bytes, &Limits::default());
    }
    assert!(decode(Encoding::Json, good, &Limits::default()).is_ok());
}

/// Returns a strategy for bytes that resemble JSON more often than random bytes.
fn almost_json() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(r#"{"type":"#),
        Just(r#""id":"#),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\""),
        Just("\\"),
        Just("\\u"),
        Just("d83d"),
        Just("1"),
        Just("-"),
        Just("e"),
        Just("."),
        Just("null"),
        Just("tru"),
        Just(r#""channel""#),
        Just(r#""ping""#),
        Just("é"),
        Just(" "),
        Just("\n"),
        Just(r#""recover":{"epoch":"#),
        Just(r#""client_event""#),
        Just(r#""event":"#),
        Just(r#""echo":"#),
        Just(r#""update_presence","metadata":"#),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn decode_never_panics_on_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for encoding in Encoding::ALL {
            let _ = decode(encoding, &bytes, &Limits::default());
            let _ = Raw::parse(encoding, &bytes, &Limits::default());
        }
    }

    #[test]
    fn decode_never_panics_on_what_resembles_json(bytes in almost_json()) {
        let _ = decode(Encoding::Json, &bytes, &Limits::default());
    }

    #[test]
    fn taking_arbitrary_bytes_on_trust_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for encoding in Encoding::ALL {
            let raw = Raw::assume_valid(encoding, &bytes);
            let _ = (raw.as_json(), Shape::of(raw), raw.decode::<serde_json::Value>());
            for target in Encoding::ALL {
                raw.transcode_into(target, &mut Vec::new());
            }
        }
    }

    #[test]
    fn trusting_what_resembles_json_never_panics(bytes in almost_json()) {
        let raw = Raw::assume_valid(Encoding::Json, &bytes);
        raw.transcode_into(Encoding::MessagePack, &mut Vec::new());
        let _ = Shape::of(raw);
    }

    #[test]
    fn what_decodes_as_a_raw_json_value_is_what_serde_json_reads(bytes in almost_json()) {
        let text = String::from_utf8(bytes).unwrap();
        let ours = Raw::parse(Encoding::Json, text.as_bytes(), &Limits::default());
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok());
    }
}
