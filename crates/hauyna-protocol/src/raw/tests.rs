//! Tests of reading an application's types, and of the location of a mismatch.

use super::*;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Order {
    #[allow(dead_code, reason = "only that it can be read matters")]
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    #[allow(dead_code, reason = "only that it can be read matters")]
    price: u32,
}

fn fault(json: &str) -> (String, String) {
    let fault = Raw::assume_valid(Encoding::Json, json.as_bytes()).decode::<Order>().unwrap_err();
    let path = fault.details.as_ref().map(|details| details["path"].as_str().unwrap_or_default().to_owned());
    (path.unwrap_or_default(), fault.to_string())
}

#[test]
fn a_fault_in_a_nested_value_has_its_path() {
    let (path, message) = fault(r#"{"items":[{"price":1},{"price":"two"}]}"#);
    assert_eq!(path, "items[1].price");
    assert_eq!(message, "`items[1].price` is not a valid integer from 0 to 4294967295");
}

#[test]
fn a_fault_does_not_send_back_what_it_quotes_at_length() {
    let long = "é".repeat(30_000);
    let (_, message) = fault(&format!(r#"{{"items":"{long}"}}"#));
    assert_eq!(message, "`items` is not a valid array");
    let json = format!(r#"{{"{long}":"x"}}"#);
    let raw = Raw::assume_valid(Encoding::Json, json.as_bytes());
    let fault = raw.decode::<std::collections::HashMap<String, u32>>().unwrap_err();
    assert!(fault.details.unwrap()["path"].as_str().unwrap().len() < 210);
}

#[test]
fn a_missing_field_is_named_by_its_own_path() {
    assert_eq!(fault("{}").0, "items");
    assert_eq!(fault(r#"{"items":[{}]}"#).0, "items[0].price");
}

#[test]
fn a_value_of_the_wrong_kind_has_the_empty_path() {
    assert_eq!(fault("17").0, "");
}

#[test]
fn messagepack_is_read_like_the_json_it_stands_for() {
    let raw = Raw::assume_valid(Encoding::MessagePack, b"\x81\xa5items\x91\x81\xa5price\xc4\x01\xff");
    let fault = raw.decode::<Order>().unwrap_err();
    assert_eq!(fault.details.unwrap()["path"], "items[0].price");
}

#[test]
fn parsing_takes_the_white_space_from_around_a_value() {
    let raw = Raw::parse(Encoding::Json, b" \t[1, 2]\r\n", &Limits::default()).unwrap();
    assert_eq!(raw.bytes(), b"[1, 2]");
    assert!(Raw::parse(Encoding::Json, b"[1] 2", &Limits::default()).is_err());
    assert!(Raw::parse(Encoding::MessagePack, b"\x01\x20", &Limits::default()).is_err());
}

#[test]
fn a_message_that_ends_like_white_space_keeps_its_last_byte() {
    let bytes = b"\x82\xa4type\xa1x\xa1n\x20"; // The number 32 is 0x20.
    let incoming = crate::decode(Encoding::MessagePack, bytes, &Limits::default()).unwrap();
    let crate::Request::Event { body, .. } = incoming.request else { unreachable!() };
    assert_eq!(body.as_json(), r#"{"type":"x","n":32}"#);
}

/// A type whose name, like those of its variants, must not appear in a fault.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only that it can be read matters")]
struct SecretRust {
    point: Option<SecretPoint>,
    pair: Option<(u8, bool)>,
    kind: Option<SecretKind>,
    either: Option<SecretEither>,
    inner: Option<Box<SecretRust>>,
    list: Option<Vec<i64>>,
    own: Option<SecretOwn>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "only that it can be read matters")]
struct SecretPoint(f64, f64);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "only that it can be read matters")]
enum SecretKind {
    Up,
    Move { by: char },
    Pair(u8, u8),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code, reason = "only that it can be read matters")]
enum SecretEither {
    Number(u8),
    Text { text: String },
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct SecretOwn;

impl TryFrom<String> for SecretOwn {
    type Error = &'static str;

    fn try_from(_: String) -> Result<Self, &'static str> {
        Err("no such colour, expected one of ours")
    }
}

#[test]
fn a_fault_is_told_in_words_of_json_and_never_in_those_of_rust() {
    for (json, path, message) in [
        ("[]", "", "the message is not a valid object"),
        (r#"{"point":7}"#, "point", "`point` is not a valid array"),
        (r#"{"point":[1]}"#, "point", "`point` is not a valid array"),
        (r#"{"pair":[1,true,2]}"#, "pair", ""),
        (r#"{"pair":[300,true]}"#, "pair[0]", "`pair[0]` is not a valid integer from 0 to 255"),
        (r#"{"pair":[1,", expected struct SecretLie"]}"#, "pair[1]", "`pair[1]` is not a valid boolean"),
        (r#"{"kind":"sideways"}"#, "kind", "`kind` is not one of `up`, `move`, `pair`"),
        (
            r#"{"kind":{"move":{"by":"ab"}}}"#,
            "kind.move.by",
            "`kind.move.by` is not a valid string of one character",
        ),
        (r#"{"kind":{"move":{}}}"#, "kind.move.by", "`kind.move.by` is missing"),
        (r#"{"kind":{"move":7}}"#, "kind.move", ""),
        (r#"{"kind":{"pair":[1]}}"#, "kind.pair", "`kind.pair` is not a valid array"),
        (r#"{"kind":[]}"#, "kind", ""),
        (r#"{"either":[]}"#, "either", "`either` has none of its forms"),
        (
            r#"{"inner":{"inner":{"list":[1,2,"3"]}}}"#,
            "inner.inner.list[2]",
            "`inner.inner.list[2]` is not a valid integer",
        ),
        (r#"{"inner":{"other":1}}"#, "inner.other", "`inner.other` is not a known field"),
        (r#"{"inner":{"list":[],"list":[]}}"#, "inner.list", "`inner.list` is there twice"),
        (r#"{"own":"blue"}"#, "own", "no such colour, expected one of ours"),
        (r#"{"list":{}}"#, "list", "`list` is not a valid array"),
    ] {
        let fault = Raw::assume_valid(Encoding::Json, json.as_bytes()).decode::<SecretRust>().unwrap_err();
        let text = format!("{fault} {}", fault.details.as_ref().unwrap());
        assert!(
            !text.contains("Secret") && !text.contains("struct") && !text.contains("enum"),
            "{json}: {text}"
        );
        assert_eq!(fault.details.as_ref().unwrap()["path"], path, "{json}: {text}");
        assert!(message.is_empty() || fault.to_string() == message, "{json}: {text}");
    }
}
