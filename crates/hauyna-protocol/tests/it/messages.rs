//! The encoder writes every message fixture, byte for byte, in both encodings.

use crate::fixtures::{APPLICATION, MESSAGES, hex, read, unhex};
use hauyna_protocol::{
    AckData, Application, ChannelEvent, ChannelEventMessage, ClientEvent, Direct, Encoding, Epoch,
    ErrorMessage, ErrorType, FailedSubscription, HeartbeatTerms, Message, Position, PresenceChange,
    PresenceConnection, PresenceDiff, PresenceEntry, PresenceEvent, PresencePage, PresenceState, Publication,
    Raw, Recovery, RecoveryFailure, RequestId, ResumeTerms, RetryTerms, Session, SessionLimits, Shape,
    Subscribed,
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use std::collections::BTreeMap;

const TIMESTAMP: u64 = 1_767_225_600_000;

#[derive(Deserialize)]
struct MessageFixture {
    name: String,
    json: Box<RawValue>,
    msgpack: String,
}

#[derive(Deserialize)]
struct ApplicationFixture {
    name: String,
    value: Box<RawValue>,
    channel: String,
    timestamp: u64,
    offset: Option<u64>,
    json: Box<RawValue>,
    msgpack: String,
}

/// Compares the encoder's output with the fixtures, and checks at the end that none is left over.
struct Checker {
    fixtures: BTreeMap<String, MessageFixture>,
}

impl Checker {
    fn check(&mut self, name: &str, message: &Message<'_>) {
        let fixture = self.fixtures.remove(name).unwrap_or_else(|| panic!("no fixture is called {name}"));
        let (mut json, mut packed) = (Vec::new(), Vec::new());
        message.encode(Encoding::Json, &mut json);
        message.encode(Encoding::MessagePack, &mut packed);
        assert_eq!(String::from_utf8_lossy(&json), fixture.json.get(), "{name}");
        assert_eq!(hex(&packed), fixture.msgpack, "{name}");
    }
}

#[test]
fn every_message_is_written_as_its_fixture_says() {
    let fixtures = read::<MessageFixture>(MESSAGES);
    let fixtures = fixtures.into_iter().map(|fixture| (fixture.name.clone(), fixture)).collect();
    let mut checker = Checker { fixtures };
    check_sessions(&mut checker);
    check_answers(&mut checker);
    check_recoveries(&mut checker);
    check_errors(&mut checker);
    check_publications(&mut checker);
    check_the_rest(&mut checker);
    check_presence(&mut checker);
    assert!(checker.fixtures.is_empty(), "not written: {:?}", checker.fixtures.keys());
}

#[test]
fn a_history_in_messagepack_holds_messages_in_messagepack() {
    let fixtures = read::<MessageFixture>(MESSAGES);
    let fixture = fixtures.iter().find(|fixture| fixture.name == "ack of a history").unwrap();
    let encode = |message: Message<'_>| {
        let mut out = Vec::new();
        message.encode(Encoding::MessagePack, &mut out);
        out
    };
    let (first, second) = (encode(first_publication()), encode(second_publication()));
    let data =
        AckData::History { channel: "general", position: at(42), oldest: 41, messages: &[&first, &second] };
    let id = RequestId::Number(11);
    assert_eq!(hex(&encode(Message::Ack { id: &id, data: Some(data) })), fixture.msgpack);
}

#[test]
fn every_application_message_takes_the_shape_its_fixture_says() {
    for fixture in read::<ApplicationFixture>(APPLICATION) {
        let mut packed_value = Vec::new();
        let value = json_raw(fixture.value.get());
        value.transcode_into(Encoding::MessagePack, &mut packed_value);
        for value in [value, Raw::assume_valid(Encoding::MessagePack, &packed_value)] {
            let application = Application {
                value,
                shape: Shape::of(value),
                channel: &fixture.channel,
                timestamp: fixture.timestamp,
                offset: fixture.offset,
            };
            let (mut json, mut packed) = (Vec::new(), Vec::new());
            application.encode(Encoding::Json, &mut json);
            application.encode(Encoding::MessagePack, &mut packed);
            assert_eq!(String::from_utf8_lossy(&json), fixture.json.get(), "{} from {value:?}", fixture.name);
            assert_eq!(hex(&packed), fixture.msgpack, "{} from {value:?}", fixture.name);
        }
    }
}

#[test]
fn a_message_in_messagepack_stands_for_its_json() {
    for fixture in read::<MessageFixture>(MESSAGES) {
        let packed = unhex(&fixture.msgpack);
        let value: Value = Raw::assume_valid(Encoding::MessagePack, &packed).decode().unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(fixture.json.get()).unwrap(), "{}", fixture.name);
    }
}

fn check_sessions(checker: &mut Checker) {
    let least = Session {
        connection_id: "c-81f3",
        user: "alice",
        resumed: false,
        resume: None,
        heartbeat: None,
        retry: None,
        subscriptions: &[],
        failed: &[],
        expires_at: None,
        expires_in: None,
        limits: None,
    };
    checker.check("session, the least", &Message::Session(least));
    let resume = Some(ResumeTerms { token: "hPNw3lVfyHc1kAxQ0cPZ9Q", window: 84_100 });
    let session = Session {
        resume,
        heartbeat: Some(HeartbeatTerms { interval: 25_000, timeout: 60_000 }),
        retry: Some(RetryTerms {
            max_attempts: Some(5),
            base_delay: 1_000,
            max_delay: 30_000,
            backoff_multiplier: 2.0,
            jitter: 0.25,
        }),
        expires_at: Some(TIMESTAMP),
        expires_in: Some(900_000),
        limits: Some(SessionLimits::new(65_536)),
        ..least
    };
    checker.check("session", &Message::Session(session));
    let general = subscribed("general", 41, Recovery::Recovered);
    let failed = Recovery::Failed(RecoveryFailure::UnknownPosition);
    let ticker = Subscribed { position: None, recoverable: false, ..general };
    let resumed = Session {
        connection_id: "c-81f4",
        resumed: true,
        resume,
        subscriptions: &[
            general,
            subscribed("room:7", 900, failed),
            Subscribed { channel: "ticker:X", recovery: Recovery::NotAsked, ..ticker },
        ],
        ..least
    };
    checker.check("session, resumed", &Message::Session(resumed));
    let failed = FailedSubscription {
        channel: "room:7",
        error: ErrorType::Unavailable,
        message: "the broker cannot be reached",
    };
    let in_part = Session { subscriptions: &[general], failed: &[failed], ..resumed };
    checker.check("session, resumed in part", &Message::Session(in_part));
    checker.check("subscribed", &Message::Subscribed(subscribed("general", 41, Recovery::NotAsked)));
    let turned = subscribed("general", 41, Recovery::Recovered);
    checker.check("subscribed, another epoch, nothing missing", &Message::Subscribed(turned));
    let lost = subscribed("general", 0, Recovery::Failed(RecoveryFailure::EpochChanged));
    checker.check("subscribed, another epoch", &Message::Subscribed(lost));
    let events = client_events();
    let with_events = Subscribed { client_events: &events, ..subscribed("room:7", 900, Recovery::NotAsked) };
    checker.check("subscribed, with client events", &Message::Subscribed(with_events));
    let again = Subscribed { recovery: Recovery::Recovered, ..with_events };
    let resumed = Session { subscriptions: &[again], ..resumed };
    checker.check("session, resumed, with client events", &Message::Session(resumed));
    checker.check("unsubscribed", &Message::Unsubscribed { channel: "general" });
}

fn check_answers(checker: &mut Checker) {
    let ack = |checker: &mut Checker, name: &str, id: u64, data: Option<AckData<'_>>| {
        checker.check(name, &Message::Ack { id: &RequestId::Number(id), data });
    };
    ack(checker, "ack", 2, None);
    let answer = json!({ "seen": [1, 2] });
    ack(checker, "ack with the answer of a handler", 15, Some(AckData::Value(&answer)));
    let answer = json!({ "expires_at": 1_767_225_600_000_u64, "expires_in": 900_000 });
    ack(checker, "ack of a refresh", 13, Some(AckData::Value(&answer)));
    let general = subscribed("general", 41, Recovery::NotAsked);
    ack(checker, "ack of a subscription", 1, Some(AckData::Subscribed(general)));
    let ticker = Subscribed { channel: "ticker:X", position: None, recoverable: false, ..general };
    ack(checker, "ack of a subscription without history", 1, Some(AckData::Subscribed(ticker)));
    let events = client_events();
    let room = Subscribed { client_events: &events, ..subscribed("room:7", 900, Recovery::NotAsked) };
    ack(checker, "ack of a subscription with client events", 1, Some(AckData::Subscribed(room)));
    ack(checker, "ack of a publication", 3, Some(AckData::Published(at(42))));
    checker.check("pong", &Message::Pong { id: None });
    checker.check("pong with an id", &Message::Pong { id: Some(&RequestId::Number(14)) });

    // A history holds messages of one encoding; another test covers the other encoding.
    let history = checker.fixtures.remove("ack of a history").unwrap();
    let (mut first, mut second, mut out) = (Vec::new(), Vec::new(), Vec::new());
    first_publication().encode(Encoding::Json, &mut first);
    second_publication().encode(Encoding::Json, &mut second);
    let data =
        AckData::History { channel: "general", position: at(42), oldest: 41, messages: &[&first, &second] };
    Message::Ack { id: &RequestId::Number(11), data: Some(data) }.encode(Encoding::Json, &mut out);
    assert_eq!(String::from_utf8_lossy(&out), history.json.get());
}

fn check_recoveries(checker: &mut Checker) {
    let id = RequestId::Text("s-1".into());
    let recovered = subscribed("room:7", 43, Recovery::Recovered);
    let message = Message::Ack { id: &id, data: Some(AckData::Subscribed(recovered)) };
    checker.check("ack of a recovery", &message);
    for reason in RecoveryFailure::ALL {
        let failed = subscribed("room:7", 900, Recovery::Failed(reason));
        let message = Message::Ack { id: &id, data: Some(AckData::Subscribed(failed)) };
        checker.check(&format!("ack of a recovery that failed: {}", reason.as_str()), &message);
    }
}

fn check_errors(checker: &mut Checker) {
    let details = json!({ "path": "channel", "expected": "string" });
    let error = ErrorMessage {
        error: ErrorType::ValidationError,
        message: "`channel` is missing",
        timestamp: TIMESTAMP,
        id: Some(&RequestId::Number(8)),
        details: Some(&details),
    };
    checker.check("error", &Message::Error(error));
    let details = json!({ "retry_after": 250 });
    let limited = ErrorMessage {
        error: ErrorType::RateLimited,
        message: "too many requests",
        id: None,
        details: Some(&details),
        ..error
    };
    checker.check("error without an id", &Message::Error(limited));
    let id = RequestId::Text("x".into());
    let internal = ErrorMessage {
        error: ErrorType::InternalError,
        message: "something failed",
        id: Some(&id),
        details: None,
        ..error
    };
    checker.check("error without details", &Message::Error(internal));
}

fn check_publications(checker: &mut Checker) {
    checker.check("publication", &first_publication());
    let ticker = Publication {
        channel: "ticker:X",
        user: None,
        content: json_raw("[101.25,-7,null]"),
        timestamp: TIMESTAMP,
        offset: None,
    };
    checker.check("publication of the application, without history", &Message::Publication(ticker));
    let escaped = Publication {
        channel: "a\"b\\c/é🗼",
        user: Some("\u{2028}x"),
        content: json_raw(r#""\n\u0001\u001f""#),
        timestamp: 0,
        offset: Some(RequestId::MAX_NUMBER),
    };
    checker.check("texts that need escapes", &Message::Publication(escaped));
}

fn check_the_rest(checker: &mut Checker) {
    let private = Direct {
        from: Some("alice"),
        message: json_raw(r#"{"text":"psst"}"#),
        timestamp: TIMESTAMP,
        offset: Some(3),
    };
    checker.check("private message", &Message::Private(private));
    let direct = Direct { offset: None, ..private };
    checker.check("group message", &Message::Group { room: "editors", direct });
    let message = json_raw(r#"{"notice":"back in five minutes"}"#);
    checker.check("broadcast", &Message::Broadcast(Direct { from: None, message, offset: None, ..private }));
    let added = ChannelEventMessage {
        event: ChannelEvent::SubscriptionAdded,
        channel: "room:7",
        user: "bob",
        metadata: Some(json_raw(r#"{"device":"phone"}"#)),
    };
    checker.check("somebody subscribed", &Message::ChannelEvent(added));
    let removed = ChannelEventMessage { event: ChannelEvent::SubscriptionRemoved, metadata: None, ..added };
    checker.check("somebody unsubscribed", &Message::ChannelEvent(removed));
    let reconnected = ChannelEventMessage { event: ChannelEvent::SubscriptionReconnected, ..added };
    checker.check("channel_event, reconnected", &Message::ChannelEvent(reconnected));
    let cursor = ClientEvent {
        channel: "room:7",
        event: "cursor",
        user: "alice",
        data: Some(json_raw(r#"{"x":1,"y":2.5}"#)),
    };
    checker.check("client event", &Message::ClientEvent(cursor));
    let typing = ClientEvent { event: "typing", data: None, ..cursor };
    checker.check("client event without data", &Message::ClientEvent(typing));
    let null = ClientEvent { data: Some(json_raw("null")), ..typing };
    checker.check("client event with null", &Message::ClientEvent(null));
    checker.check("gap", &Message::Gap { channel: "general", position: Some(at(41)), missed: 17 });
    let without_offsets = Message::Gap { channel: "general", position: None, missed: 0 };
    checker.check("gap, messages without offsets only", &without_offsets);
    let id = RequestId::Text("q-1".into());
    let data = json_raw(r#"{"question":"Still there?"}"#);
    checker.check("request of the server", &Message::Request { id: &id, event: "confirm", data });
    let retry = RetryTerms {
        max_attempts: Some(10),
        base_delay: 500,
        max_delay: 5_000,
        backoff_multiplier: 1.5,
        jitter: 0.05,
    };
    checker.check("retry policy", &Message::RetryPolicy(retry));
    let state = Message::ConnectionState { user: "alice", state: "idle", timestamp: TIMESTAMP };
    checker.check("connection state", &state);
    checker.check("reconnect", &Message::Reconnect { min: 0, max: 30_000, reason: "drain" });
}

fn check_presence(checker: &mut Checker) {
    let connection = |connection_id, metadata, joined_at| PresenceConnection {
        connection_id,
        metadata: Option::map(metadata, json_raw),
        joined_at,
    };
    let of_alice = [
        connection("c-81f3", Some(r#"{"device":"phone"}"#), TIMESTAMP),
        connection("c-81f4", None, TIMESTAMP + 5),
    ];
    let of_bob = [connection("c-9a00", None, TIMESTAMP)];
    let entry = |status, metadata, updated_at, connections| PresenceEntry {
        status,
        metadata: json_raw(metadata),
        joined_at: TIMESTAMP,
        updated_at,
        connections,
    };
    let alice =
        ("alice", entry("online", r#"{"status":"online","name":"Alice"}"#, TIMESTAMP + 5, &of_alice[..]));
    let bob = ("bob", entry("away", r#"{"status":"away"}"#, TIMESTAMP, &of_bob[..]));
    let channel = "room:7";
    let state = PresenceState { channel, count: 2, users: &[alice, bob], offset: 12 };
    checker.check("presence state", &Message::PresenceState(state));
    let state = PresenceState { channel, count: 0, users: &[], offset: 13 };
    checker.check("presence state of nobody", &Message::PresenceState(state));
    let away = PresenceChange {
        event: PresenceEvent::Join,
        user: "bob",
        channel,
        metadata: json_raw(r#"{"status":"away"}"#),
        status: "away",
        connections: 1,
        connection: Some(of_bob[0]),
        timestamp: TIMESTAMP,
        offset: 12,
    };
    checker.check("presence join", &Message::PresenceChange(away));
    let metadata = json_raw(r#"{"status":"brb"}"#);
    let on_phone = connection("c-9a00", Some(r#"{"device":"phone"}"#), TIMESTAMP);
    let (event, connection) = (PresenceEvent::Update, None);
    let back_soon = PresenceChange { event, status: "brb", metadata, connection, offset: 13, ..away };
    checker.check("presence update", &Message::PresenceChange(back_soon));
    let (event, connections, metadata) = (PresenceEvent::Leave, 0, json_raw("{}"));
    let leave = PresenceChange { event, status: "online", metadata, connections, offset: 14, ..back_soon };
    checker.check("presence leave", &Message::PresenceChange(leave));
    let connection = Some(on_phone);
    let phone = PresenceChange { event: PresenceEvent::Update, connection, offset: 15, ..away };
    checker.check("presence update of a connection", &Message::PresenceChange(phone));
    let (joins, leaves, updates) = (&[alice][..], &["carol", "dave"][..], &[bob][..]);
    let diff = PresenceDiff { channel, count: 180, joins, leaves, updates, offset: 431 };
    checker.check("presence diff", &Message::PresenceDiff(diff));
    checker.check("occupancy", &Message::Occupancy { channel: "stadium", count: 5012 });
    let id = RequestId::Number(10);
    let mut page = PresencePage { channel, count: 2, users: &[alice, bob], offset: 12, next: None };
    checker.check("ack of presence", &Message::Ack { id: &id, data: Some(AckData::Presence(page)) });
    let first = [alice];
    (page.users, page.next) = (&first, Some("alice"));
    checker
        .check("ack of a page of presence", &Message::Ack { id: &id, data: Some(AckData::Presence(page)) });
}

fn first_publication() -> Message<'static> {
    Message::Publication(Publication {
        channel: "general",
        user: Some("alice"),
        content: json_raw(r#"{"text":"Hello, world"}"#),
        timestamp: TIMESTAMP,
        offset: Some(41),
    })
}

fn second_publication() -> Message<'static> {
    Message::Publication(Publication {
        channel: "general",
        user: None,
        content: json_raw(r#""paid""#),
        timestamp: TIMESTAMP + 5,
        offset: Some(42),
    })
}

fn subscribed(channel: &str, offset: u64, recovery: Recovery) -> Subscribed<'_> {
    Subscribed { channel, position: Some(at(offset)), recoverable: true, recovery, client_events: &[] }
}

fn client_events() -> [(Box<str>, u32); 2] {
    [("cursor".into(), 20), ("typing".into(), 5)]
}

fn at(offset: u64) -> Position {
    Position { epoch: Epoch::new(0x0123_4567_89ab_cdef), offset }
}

fn json_raw(json: &str) -> Raw<'_> {
    Raw::assume_valid(Encoding::Json, json.as_bytes())
}
