//! Between messages and payloads of frames: requests out, messages in, in the encoding of one connection.

use hauyna_protocol::received::Received;
use hauyna_protocol::{Encoding, Fault, Limits, Raw, Request, RequestId};
use hauyna_websocket::OpCode;
use serde_json::Value;
use serde_json::value::RawValue;

/// Reads a message.
pub(crate) fn decode(encoding: Encoding, payload: &[u8]) -> Result<Received, Fault> {
    Received::decode(encoding, payload)
}

/// Whether a payload that is no message is a value of the application's all the same: whole, and about no
/// channel, so that no number of a channel is lost with it.
pub(crate) fn is_of_application(encoding: Encoding, payload: &[u8]) -> bool {
    let is_about_channel = |value: &Value| value.get("channel").is_some();
    Raw::parse(encoding, payload, &Limits::default())
        .is_ok_and(|raw| serde_json::from_str(&raw.as_json()).is_ok_and(|value| !is_about_channel(&value)))
}

/// A message as it goes into one WebSocket frame.
pub(crate) struct Encoded {
    pub(crate) opcode: OpCode,
    pub(crate) payload: Vec<u8>,
}

/// Writes a request.
pub(crate) fn encode(encoding: Encoding, id: Option<u64>, request: &Request<'_>) -> Encoded {
    let id = id.map(RequestId::Number);
    write(encoding, id.as_ref(), request)
}

/// Writes the answer to a question of the server's, or a refusal where the answer is larger than the server
/// takes.
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
