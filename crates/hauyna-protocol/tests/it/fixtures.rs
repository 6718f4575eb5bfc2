//! The fixtures as data, and tests of its requests, faults and tables. `messages.rs` tests the messages.

use hauyna_protocol::{
    Direction, Encoding, ErrorType, Fault, Incoming, Limits, Position, Request, RequestId,
    close::{CloseCode, Reconnect, should_reconnect},
    decode,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};

pub(crate) const REQUESTS: &str = include_str!("../../fixtures/requests.json");
pub(crate) const FAULTS: &str = include_str!("../../fixtures/faults.json");
pub(crate) const MESSAGES: &str = include_str!("../../fixtures/messages.json");
pub(crate) const APPLICATION: &str = include_str!("../../fixtures/application.json");
const ERROR_TYPES: &str = include_str!("../../fixtures/error_types.json");
const CLOSE_CODES: &str = include_str!("../../fixtures/close_codes.json");

#[derive(Deserialize)]
struct RequestFixture {
    name: String,
    json: Box<RawValue>,
    msgpack: String,
    decoded: Value,
}

#[derive(Deserialize)]
struct FaultFixture {
    name: String,
    text: Option<String>,
    msgpack: Option<String>,
    error: ExpectedError,
}

#[derive(Deserialize)]
struct ExpectedError {
    error_type: String,
    id: Option<Value>,
    message: Option<String>,
    details: Option<Value>,
}

#[derive(Deserialize)]
struct CloseFixture {
    code: u16,
    name: Option<String>,
    reconnect: bool,
}

#[derive(Deserialize)]
struct ErrorTypeFixture {
    error_type: String,
    temporary: bool,
}

/// Reads a fixture file.
pub(crate) fn read<T: DeserializeOwned>(file: &str) -> Vec<T> {
    serde_json::from_str(file).expect("a fixture file is an array of its rows")
}

/// Reads hexadecimal digits.
pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Writes hexadecimal digits, so that a failure shows what a new fixture has to hold.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_request_is_decoded_alike_from_both_encodings() {
    for fixture in read::<RequestFixture>(REQUESTS) {
        let packed = unhex(&fixture.msgpack);
        let frames =
            [(Encoding::Json, fixture.json.get().as_bytes()), (Encoding::MessagePack, packed.as_slice())];
        for (encoding, frame) in frames {
            let incoming = decode(encoding, frame, &Limits::default())
                .unwrap_or_else(|fault| panic!("{}: {fault:?}", fixture.name));
            assert_eq!(normal(&incoming), fixture.decoded, "{} in {encoding:?}", fixture.name);
        }
    }
}

#[test]
fn every_fault_is_found_alike_in_both_encodings() {
    for fixture in read::<FaultFixture>(FAULTS) {
        if let Some(text) = &fixture.text {
            let fault = decode(Encoding::Json, text.as_bytes(), &Limits::default()).expect_err(&fixture.name);
            check_fault(&fault, &fixture);
        }
        if let Some(packed) = &fixture.msgpack {
            let packed = unhex(packed);
            let fault = decode(Encoding::MessagePack, &packed, &Limits::default()).expect_err(&fixture.name);
            check_fault(&fault, &fixture);
        }
    }
}

fn check_fault(fault: &Fault, fixture: &FaultFixture) {
    let FaultFixture { name, error, .. } = fixture;
    assert_eq!(fault.error.as_str(), error.error_type, "{name}: {fault}");
    assert_eq!(fault.id.as_ref().map(id_value), error.id, "{name}");
    if let Some(message) = &error.message {
        // The error texts for broken input differ from parser to parser.
        assert!(fault.error == ErrorType::ParseError || fault.message == *message, "{name}: {fault}");
    }
    if let Some(details) = &error.details {
        assert_eq!(fault.details.as_ref(), Some(details), "{name}");
    }
}

#[test]
fn error_types_are_the_table_of_the_fixtures() {
    let rows = read::<ErrorTypeFixture>(ERROR_TYPES);
    assert_eq!(rows.len(), ErrorType::ALL.len());
    for (row, error) in rows.iter().zip(ErrorType::ALL) {
        assert_eq!((row.error_type.as_str(), row.temporary), (error.as_str(), error.is_temporary()));
    }
}

#[test]
fn close_codes_are_the_table_of_the_fixtures() {
    let rows = read::<CloseFixture>(CLOSE_CODES);
    assert_eq!(rows.iter().filter(|row| row.name.is_some()).count(), CloseCode::ALL.len());
    for row in rows {
        assert_eq!(CloseCode(row.code).name(), row.name.as_deref(), "{}", row.code);
        let expected = if row.reconnect { Reconnect::ComeBack } else { Reconnect::StayAway };
        assert_eq!(should_reconnect(row.code), expected, "{}", row.code);
    }
}

/// Returns a request as on the wire, without fields that were left out or ignored.
fn normal(incoming: &Incoming<'_>) -> Value {
    let (kind, fields) = describe(&incoming.request);
    let mut object = Map::new();
    object.insert("type".into(), kind.into());
    object.insert("id".into(), incoming.id.as_ref().map_or(Value::Null, id_value));
    object.extend(fields);
    if object["id"].is_null() {
        object.remove("id");
    }
    Value::Object(object)
}

fn describe(request: &Request<'_>) -> (&'static str, Map<String, Value>) {
    let (kind, fields) = match request {
        Request::Subscribe { channel, metadata, recover, token } => (
            "subscribe_channel",
            json!({ "channel": channel, "metadata": metadata.map(value),
                "recover": recover.map(position), "token": token }),
        ),
        Request::Unsubscribe { channel } => ("unsubscribe_channel", json!({ "channel": channel })),
        Request::Publish { channel, content, key, echo } => {
            let mut fields = payload(("channel", channel), ("content", value(*content)), key.as_deref());
            fields.extend((!echo).then(|| ("echo".to_owned(), false.into())));
            return ("channel_message", fields);
        }
        Request::ClientEvent { channel, event, data } => {
            let mut fields = payload(("channel", channel), ("event", (&**event).into()), None);
            fields.extend(data.map(|data| ("data".to_owned(), value(data))));
            return ("client_event", fields);
        }
        Request::UpdatePresence { channel, metadata } => {
            ("update_presence", json!({ "channel": channel, "metadata": value(*metadata) }))
        }
        Request::Private { to, message, key } => {
            return ("private", payload(("to", to), ("message", value(*message)), key.as_deref()));
        }
        Request::Group { room, message, key } => {
            return ("group", payload(("room", room), ("message", value(*message)), key.as_deref()));
        }
        Request::Broadcast { message, key } => {
            ("broadcast", json!({ "message": value(*message), "key": key }))
        }
        Request::UpdateStatus { status, body } => {
            let body = value(*body);
            assert_eq!(body["status"], **status);
            ("update_status", body)
        }
        Request::Presence { channel, after, limit } => {
            ("presence", json!({ "channel": channel, "after": after, "limit": limit }))
        }
        Request::History { channel, since, limit, direction } => (
            "history",
            json!({ "channel": channel, "since": since.map(position), "limit": limit,
                "reverse": (*direction == Direction::Backward).then_some(true) }),
        ),
        Request::Refresh { token } => ("refresh", json!({ "token": token })),
        Request::Resume { positions } => {
            let positions = positions.iter().map(|(channel, at)| (channel.to_string(), position(*at)));
            ("resume", json!({ "positions": positions.collect::<Map<_, _>>() }))
        }
        Request::Ping => ("ping", json!({})),
        Request::Ack { data } => {
            return ("ack", data.iter().map(|data| ("data".to_owned(), value(*data))).collect());
        }
        Request::Refusal { message } => ("error", json!({ "message": message })),
        Request::Event { name, body } => {
            let body = value(*body);
            assert_eq!(body["type"], **name);
            return ("", body.as_object().unwrap().clone());
        }
        other => panic!("no fixture knows {other:?}"),
    };
    let Value::Object(fields) = fields else { unreachable!() };
    (kind, fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
}

fn payload(to: (&str, &str), content: (&str, Value), key: Option<&str>) -> Map<String, Value> {
    let mut fields = Map::from_iter([(to.0.to_owned(), to.1.into()), (content.0.to_owned(), content.1)]);
    fields.extend(key.map(|key| ("key".to_owned(), key.into())));
    fields
}

fn value(raw: hauyna_protocol::Raw<'_>) -> Value {
    raw.decode().expect("a raw value of a fixture can be read")
}

fn position(position: Position) -> Value {
    json!({ "epoch": position.epoch.to_string(), "offset": position.offset })
}

fn id_value(id: &RequestId) -> Value {
    match id {
        RequestId::Number(number) => (*number).into(),
        RequestId::Text(text) => (**text).into(),
    }
}
