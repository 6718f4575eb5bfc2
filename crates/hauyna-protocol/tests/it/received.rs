//! The client's half of the protocol: every message fixture is read alike from both encodings, and every
//! request fixture is what a client writes.

use crate::fixtures::{APPLICATION, MESSAGES, REQUESTS, read, unhex};
use hauyna_protocol::received::{History, PresenceKind, PresencePage, Received, Subscribed};
use hauyna_protocol::{Encoding, Limits, Raw, RequestId, decode, is_reserved_type};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

#[derive(Deserialize)]
struct Fixture {
    name: String,
    json: Box<RawValue>,
    msgpack: String,
}

fn both(fixture: &Fixture) -> [Received; 2] {
    let read = |encoding, frame: &[u8]| {
        Received::decode(encoding, frame).unwrap_or_else(|fault| panic!("{}: {fault:?}", fixture.name))
    };
    [
        read(Encoding::Json, fixture.json.get().as_bytes()),
        read(Encoding::MessagePack, &unhex(&fixture.msgpack)),
    ]
}

fn kind(message: &Received) -> &str {
    match message {
        Received::Session(_) => "session",
        Received::Ack(_) => "ack",
        Received::Pong { .. } => "pong",
        Received::Error(_) => "error",
        Received::Publication(_) => "message",
        Received::Private(_) => "private",
        Received::Group(_) => "group",
        Received::Broadcast(_) => "broadcast",
        Received::ChannelEvent(_) => "channel_event",
        Received::ClientEvent(_) => "client_event",
        Received::PresenceState(_) => "presence_state",
        Received::PresenceChange(_) => "presence_change",
        Received::PresenceDiff(_) => "presence_diff",
        Received::Occupancy { .. } => "occupancy",
        Received::Subscribed(_) => "subscribed",
        Received::Unsubscribed { .. } => "unsubscribed",
        Received::Gap(_) => "gap",
        Received::Question(_) => "request",
        Received::RetryPolicy(_) => "retry_policy",
        Received::Reconnect(_) => "reconnect",
        Received::Application(application) => &application.kind,
        _ => "new",
    }
}

#[test]
fn every_message_is_read_alike_from_both_encodings() {
    let fixtures: Vec<Fixture> = read(MESSAGES);
    for fixture in fixtures.into_iter().chain(read(APPLICATION)) {
        let value: Value = serde_json::from_str(fixture.json.get()).unwrap();
        let [json, packed] = both(&fixture);
        assert_eq!(kind(&json), value["type"], "{}", fixture.name);
        let same = |text: String| text.replace(' ', "");
        if !fixture.name.contains("number") && !fixture.name.contains("float") {
            assert_eq!(same(format!("{json:?}")), same(format!("{packed:?}")), "{}", fixture.name);
        }
    }
}

#[test]
fn every_request_that_a_client_writes_is_read_back_alike() {
    for fixture in read::<Fixture>(REQUESTS) {
        let incoming = decode(Encoding::Json, fixture.json.get().as_bytes(), &Limits::default()).unwrap();
        for target in Encoding::ALL {
            let mut out = Vec::new();
            incoming.request.encode(incoming.id.as_ref(), target, &mut out);
            let again = decode(target, &out, &Limits::default())
                .unwrap_or_else(|fault| panic!("{} in {target:?}: {fault:?}", fixture.name));
            assert_eq!(again.id, incoming.id, "{}", fixture.name);
            assert_eq!(again.request.kind(), incoming.request.kind(), "{}", fixture.name);
            let mut json = Vec::new();
            incoming.request.encode(incoming.id.as_ref(), Encoding::Json, &mut json);
            let value = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
            let out = Raw::parse(target, &out, &Limits::default()).unwrap().as_json().into_owned();
            assert_eq!(value(out.as_bytes()), value(&json), "{}", fixture.name);
        }
    }
}

#[test]
fn a_request_is_written_as_the_fixtures_have_it() {
    let exact = [
        "subscribe to a channel",
        "subscribe with everything",
        "unsubscribe",
        "publish an object",
        "publish with an idempotency key",
        "publish without an echo",
        "client event",
        "client event without data",
        "update presence",
        "private message",
        "group message",
        "broadcast",
    ];
    let fixtures = read::<Fixture>(REQUESTS);
    for name in exact {
        let fixture = fixtures.iter().find(|fixture| fixture.name == name).expect(name);
        let incoming = decode(Encoding::Json, fixture.json.get().as_bytes(), &Limits::default()).unwrap();
        let written = |encoding| {
            let mut out = Vec::new();
            incoming.request.encode(incoming.id.as_ref(), encoding, &mut out);
            out
        };
        assert_eq!(String::from_utf8(written(Encoding::Json)).unwrap(), fixture.json.get(), "{name}");
        assert_eq!(written(Encoding::MessagePack), unhex(&fixture.msgpack), "{name}");
    }
}

#[test]
fn what_the_protocol_does_not_know_is_a_message_of_the_application() {
    let text = r#"{"type":"weather","channel":"berlin","offset":"of its own","degrees":21}"#;
    let Received::Application(weather) = Received::read(text).unwrap() else { panic!("{text}") };
    assert_eq!((weather.kind.as_str(), weather.channel.as_deref()), ("weather", Some("berlin")));
    assert_eq!((weather.offset, weather.body.get()), (None, text));
}

#[test]
fn fields_of_a_later_version_are_ignored_and_what_is_no_message_is_a_fault() {
    let text = r#"{"type":"gap","channel":"a","epoch":"ASNFZ4mrze8","offset":4,"missed":1,"since":"v2"}"#;
    assert!(
        matches!(Received::read(text), Ok(Received::Gap(gap)) if gap.position.is_some_and(|at| at.offset == 4))
    );
    let text = r#"{"type":"gap","channel":"a","missed":0}"#;
    assert!(matches!(Received::read(text), Ok(Received::Gap(gap)) if gap.position.is_none()));
    for text in [r#"{"type":7}"#, r#"{"missed":1}"#, "[]", "{", "\"x\""] {
        assert!(Received::read(text).is_err(), "{text}");
    }
}

#[test]
fn a_message_of_the_application_with_a_type_of_the_protocol_is_not_taken_for_one() {
    let in_a_channel = [
        r#"{"type":"reconnect","after":[0,0],"reason":"x","channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"retry_policy","base_delay":1,"max_delay":1,"backoff_multiplier":1,"jitter":0,"channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"session","connection_id":"c","user":"eve","channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"request","id":"q","event":"confirm","data":null,"channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"ack","id":1,"channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"error","error_type":"timeout","id":1,"channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"private","message":1,"channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"gap","epoch":"ASNFZ4mrze8","missed":1,"channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"subscribed","epoch":"ASNFZ4mrze8","recoverable":true,"channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"unsubscribed","channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"presence_state","count":0,"users":{},"channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"presence_change","user":"eve","channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"client_event","event":"cursor","user":"eve","channel":"a","timestamp":1,"offset":7}"#,
        r#"{"type":"message","text":"no content","channel":"a","timestamp":1,"offset":7}"#,
    ];
    for text in in_a_channel {
        let Ok(Received::Application(message)) = Received::read(text) else { panic!("{text}") };
        assert_eq!((message.channel.as_deref(), message.offset), (Some("a"), Some(7)), "{text}");
    }
    for text in
        [r#"{"type":"ack"}"#, r#"{"type":"reconnect","after":"now"}"#, r#"{"type":"error","text":"x"}"#]
    {
        assert!(matches!(Received::read(text), Ok(Received::Application(_))), "{text}");
    }
}

#[test]
fn every_type_of_a_message_but_one_is_reserved() {
    for fixture in read::<Fixture>(MESSAGES) {
        let value: Value = serde_json::from_str(fixture.json.get()).unwrap();
        let kind = value["type"].as_str().unwrap();
        assert_eq!(is_reserved_type(kind), kind != "message", "{kind}");
    }
}

#[test]
fn data_of_answers_are_read_by_what_was_asked() {
    let fixtures = read::<Fixture>(MESSAGES);
    let data = |name: &str| {
        let fixture = fixtures.iter().find(|fixture| fixture.name == name).expect(name);
        let Received::Ack(ack) = Received::read(fixture.json.get()).unwrap() else { panic!("{name}") };
        ack.data.expect("an answer with data").get().to_owned()
    };
    let page: PresencePage = serde_json::from_str(&data("ack of a page of presence")).unwrap();
    assert_eq!((page.count, page.next.as_deref()), (2, Some("alice")));
    let failed: Subscribed = serde_json::from_str(&data("ack of a recovery that failed: too_many")).unwrap();
    assert_eq!((failed.recovered, failed.reason.as_deref()), (Some(false), Some("too_many")));
    let events: Subscribed = serde_json::from_str(&data("ack of a subscription with client events")).unwrap();
    assert_eq!(
        events.client_events.into_iter().collect::<Vec<_>>(),
        [("cursor".into(), 20), ("typing".into(), 5)]
    );
    assert!(failed.client_events.is_empty());
    let history = r#"{"channel":"a","epoch":"ASNFZ4mrze8","offset":9,"oldest":3,"messages":[{"type":"x"}]}"#;
    let history: History = serde_json::from_str(history).unwrap();
    assert_eq!((history.position.offset, history.oldest, history.messages.len()), (9, 3, 1));
}

#[test]
fn an_ack_tells_null_from_nothing() {
    let read = |text| match Received::read(text) {
        Ok(Received::Ack(ack)) => ack,
        other => panic!("{other:?}"),
    };
    let with = read(r#"{"type":"ack","id":"q","data":null}"#);
    assert_eq!(with.id, RequestId::Text("q".into()));
    assert_eq!(with.data.map(|data| data.get().to_owned()).as_deref(), Some("null"));
    assert!(read(r#"{"type":"ack","id":1}"#).data.is_none());
}

#[test]
fn a_presence_event_of_a_later_version_is_an_update() {
    let change = r#"{"type":"presence_change","event":"blinked","user":"bob","channel":"a","metadata":{},
        "status":"online","connections":1,"timestamp":1,"offset":2}"#;
    let Received::PresenceChange(change) = Received::read(change).unwrap() else { panic!() };
    assert_eq!(change.event, PresenceKind::Update);
}

#[test]
fn a_client_event_tells_null_from_nothing() {
    let read = |text| match Received::read(text) {
        Ok(Received::ClientEvent(event)) => event,
        other => panic!("{other:?}"),
    };
    let text = r#"{"type":"client_event","channel":"a","event":"cursor","user":"bob","data":null}"#;
    let event = read(text);
    assert_eq!((&*event.channel, &*event.event, &*event.user), ("a", "cursor", "bob"));
    assert_eq!(event.data.map(|data| data.get().to_owned()).as_deref(), Some("null"));
    assert!(read(r#"{"type":"client_event","channel":"a","event":"x","user":"bob"}"#).data.is_none());
}

#[test]
fn a_change_of_presence_names_the_connection_that_caused_it() {
    let fixtures = read::<Fixture>(MESSAGES);
    let change = |name: &str| {
        let fixture = fixtures.iter().find(|fixture| fixture.name == name).expect(name);
        let [Received::PresenceChange(change), _] = both(fixture) else { panic!("{name}") };
        change.connection
    };
    let connection = change("presence update of a connection").expect("the connection");
    assert_eq!(connection.connection_id, "c-9a00");
    assert_eq!(connection.metadata.get(), r#"{"device":"phone"}"#);
    assert!(change("presence update").is_none());
}
