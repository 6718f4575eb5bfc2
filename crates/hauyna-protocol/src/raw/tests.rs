//! Tests of reading an application's types, with the place of what did not fit.

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
    assert_eq!(message, "invalid type: string \"two\", expected u32");
}

#[test]
fn a_fault_does_not_send_back_what_it_quotes_at_length() {
    let long = "é".repeat(30_000);
    let (_, message) = fault(&format!(r#"{{"items":"{long}"}}"#));
    assert!(message.starts_with("invalid type: string") && message.len() < 210, "{message}");
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
