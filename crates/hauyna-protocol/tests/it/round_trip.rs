//! Values keep their meaning from JSON to MessagePack and back, and a foreign implementation agrees.

use hauyna_protocol::{Encoding, Limits, Raw};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Returns a strategy for any JSON value, a few levels deep.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\\\\\"\u{0}-\u{20}/\u{7f}-\u{a0}]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 80, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn pack(json: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    Raw::assume_valid(Encoding::Json, json).transcode_into(Encoding::MessagePack, &mut packed);
    packed
}

fn unpack(packed: &[u8]) -> String {
    Raw::assume_valid(Encoding::MessagePack, packed).as_json().into_owned()
}

proptest! {
    #[test]
    fn any_json_value_survives_messagepack(value in any_value()) {
        let packed = pack(value.to_string().as_bytes());
        prop_assert!(Raw::parse(Encoding::MessagePack, &packed, &Limits::default()).is_ok());
        let back: Value = serde_json::from_str(&unpack(&packed)).unwrap();
        prop_assert_eq!(&back, &value);
    }

    #[test]
    fn messagepack_of_ours_is_what_rmp_serde_reads(value in any_value()) {
        let packed = pack(serde_json::to_string_pretty(&value).unwrap().as_bytes());
        prop_assert_eq!(rmp_serde::from_slice::<Value>(&packed).unwrap(), value);
    }

    #[test]
    fn messagepack_of_rmp_serde_is_what_we_read(value in any_value()) {
        let packed = rmp_serde::to_vec(&value).unwrap();
        prop_assert!(Raw::parse(Encoding::MessagePack, &packed, &Limits::default()).is_ok());
        prop_assert_eq!(serde_json::from_str::<Value>(&unpack(&packed)).unwrap(), value);
    }

    #[test]
    fn whatever_the_walker_accepts_becomes_valid_json(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if Raw::parse(Encoding::MessagePack, &bytes, &Limits::default()).is_ok() {
            let json = unpack(&bytes);
            prop_assert!(Raw::parse(Encoding::Json, json.as_bytes(), &Limits::default()).is_ok(), "{}", json);
        }
    }
}

#[test]
fn white_space_and_escapes_do_not_reach_messagepack() {
    assert_eq!(pack(b" { \"a\" : [ 1 , \"\\u00e9\\n\" ] } "), b"\x81\xa1a\x92\x01\xa3\xc3\xa9\n");
}

#[test]
fn integers_stay_integers_as_far_as_64_bits_reach() {
    assert_eq!(pack(b"18446744073709551615"), b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff");
    assert_eq!(pack(b"-9223372036854775808"), b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00");
    assert_eq!(pack(b"1.0"), b"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00");
    assert_eq!(unpack(&pack(b"18446744073709551616")), "1.8446744073709552e+19");
    assert_eq!(unpack(&pack(b"-0")), "-0.0");
}

#[test]
fn what_json_has_no_word_for_becomes_null_and_bytes_become_base64() {
    assert_eq!(unpack(b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "null");
    assert_eq!(unpack(b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"), "null");
    assert_eq!(unpack(b"\xca\xff\x80\x00\x00"), "null");
    assert_eq!(unpack(b"\xc4\x04\xde\xad\xbe\xef"), "\"3q2+7w==\"");
}

#[test]
fn a_handler_sees_the_same_whatever_its_client_speaks() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Move {
        who: std::net::IpAddr,
        to: (i32, f64),
        how: How,
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(tag = "kind", rename_all = "snake_case")]
    enum How {
        Jump { height: u8 },
    }
    let json = json!({ "who": "::1", "to": [-3, 1], "how": { "kind": "jump", "height": 2 } }).to_string();
    let packed = pack(json.as_bytes());
    let from_json: Move = Raw::assume_valid(Encoding::Json, json.as_bytes()).decode().unwrap();
    let from_pack: Move = Raw::assume_valid(Encoding::MessagePack, &packed).decode().unwrap();
    assert_eq!(from_json, from_pack);
}
