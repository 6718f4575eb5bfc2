//! Encodes requests and decodes messages, in the encoding of one connection.

use hauyna_protocol::received::Received;
use hauyna_protocol::{Encoding, Fault, Limits, Raw, Request, RequestId};
use hauyna_websocket::OpCode;
use serde_json::Value;
use serde_json::value::RawValue;

/// Decodes a message.
pub(crate) fn decode(encoding: Encoding, payload: &[u8]) -> Result<Received, Fault> {
    Received::decode(encoding, payload)
}

/// Whether a payload that is not a message is a valid value of the application that names no channel, so that
/// no offset of a channel is lost with it.
pub(crate) fn is_of_application(encoding: Encoding, payload: &[u8]) -> bool {
    let is_about_channel = |value: &Value| value.get("channel").is_some();
    Raw::parse(encoding, payload, &Limits::default())
        .is_ok_and(|raw| serde_json::from_str(&raw.as_json()).is_ok_and(|value| !is_about_channel(&value)))
}

/// An encoded message, for one WebSocket frame.
pub(crate) struct Encoded {
    pub(crate) opcode: OpCode,
    pub(crate) payload: Vec<u8>,
}

/// Encodes a request.
pub(crate) fn encode(encoding: Encoding, id: Option<u64>, request: &Request<'_>) -> Encoded {
    let id = id.map(RequestId::Number);
    write(encoding, id.as_ref(), request)
}

/// Encodes the answer to a request of the server, or a refusal if the answer is too large for the server.
pub(crate) fn answer(
    encoding: Encoding,
    id: &RequestId,
    answer: &Result<Box<RawValue>, String>,
    max_message: usize,
) -> Encoded {
    let request = match answer {
        Ok(data) => Request::Ack { data: Some(Raw::assume_valid(Encoding::Json, data.get().as_bytes())) },
        Err(message) => Request::Refusal { message: Some(message.as_str().into()) },
    };
    let written = write(encoding, Some(id), &request);
    if written.payload.len() <= max_message {
        return written;
    }
    write(encoding, Some(id), &Request::Refusal { message: Some("the answer is too large".into()) })
}

fn write(encoding: Encoding, id: Option<&RequestId>, request: &Request<'_>) -> Encoded {
    let mut payload = Vec::new();
    request.encode(id, encoding, &mut payload);
    let opcode = match encoding {
        Encoding::Json => OpCode::Text,
        Encoding::MessagePack => OpCode::Binary,
    };
    Encoded { opcode, payload }
}
