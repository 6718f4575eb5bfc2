//! Tests of what borrows, and of which `id` an error may carry.

use super::*;

fn json(text: &str) -> Result<Incoming<'_>, Fault> {
    decode(Encoding::Json, text.as_bytes(), &Limits::default())
}

#[test]
fn texts_are_borrowed_unless_they_have_escapes() {
    let channel = |text| match json(text).unwrap().request {
        Request::Presence { channel, .. } => channel,
        other => panic!("{other:?}"),
    };
    assert!(matches!(channel(r#"{"type":"presence","channel":"plain é"}"#), Cow::Borrowed("plain é")));
    assert!(matches!(channel(r#"{"type":"presence","channel":"\u0061"}"#), Cow::Owned(name) if name == "a"));
}

#[test]
fn a_payload_is_the_very_bytes_of_the_frame() {
    let text = r#"{"type":"broadcast","message": { "b" : 1.50, "a":"\u00e9" } ,"id":1}"#;
    let Request::Broadcast { message, .. } = json(text).unwrap().request else { unreachable!() };
    assert_eq!(message.bytes(), br#"{ "b" : 1.50, "a":"\u00e9" }"#);
    assert_eq!(message.bytes().as_ptr(), text[text.find("{ \"b").unwrap()..].as_ptr());
}

#[test]
fn the_body_of_an_event_is_the_whole_message_without_the_space_around_it() {
    let Request::Event { name, body } = json(" {\"type\":\"x\",\"n\":1}\n").unwrap().request else {
        unreachable!()
    };
    assert_eq!((&*name, body.bytes()), ("x", &br#"{"type":"x","n":1}"#[..]));
}

#[test]
fn a_fault_after_the_id_carries_it_and_a_fault_before_does_not() {
    assert_eq!(json(r#"{"id":5,"type":"#).unwrap_err().id, Some(RequestId::Number(5)));
    assert_eq!(json(r#"{"type":,"id":5}"#).unwrap_err().id, None);
}

#[test]
fn a_fault_in_an_answer_never_carries_the_id_of_the_servers_request() {
    let fault = json(r#"{"type":"ack","id":5,"data":1,"data":2}"#).unwrap_err();
    assert_eq!(fault.id, None);
}

#[test]
fn a_fault_becomes_the_error_that_answers_it() {
    let fault = json(r#"{"id":"a","type":"private"}"#).unwrap_err();
    let mut out = Vec::new();
    crate::Message::Error(fault.as_message(9)).encode(Encoding::Json, &mut out);
    let text = r#"{"type":"error","error_type":"validation_error","message":"`to` is missing","timestamp":9,"id":"a","temporary":false,"details":{"expected":"string","path":"to"}}"#;
    assert_eq!(String::from_utf8(out).unwrap(), text);
}
