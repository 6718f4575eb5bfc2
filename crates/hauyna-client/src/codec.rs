//! Between messages and payloads of frames: requests out, messages in, in the encoding of one connection.

use hauyna_protocol::received::Received;
use hauyna_protocol::{Encoding, Fault, Raw, Request, RequestId};
use hauyna_websocket::OpCode;
use serde_json::value::RawValue;

/// Reads a message.
pub(crate) fn decode(encoding: Encoding, payload: &[u8]) -> Result<Received, Fault> {
    Received::decode(encoding, payload)
}

/// Writes a request.
pub(crate) fn encode(encoding: Encoding, id: Option<u64>, request: &Request<'_>) -> (OpCode, Vec<u8>) {
    let id = id.map(RequestId::Number);
    write(encoding, id.as_ref(), request)
}

/// Writes the answer to a question of the server's.
pub(crate) fn answer(
    encoding: Encoding,
    id: &RequestId,
    answer: &Result<Box<RawValue>, String>,
) -> (OpCode, Vec<u8>) {
    let request = match answer {
        Ok(data) => Request::Ack { data: Some(Raw::assume_valid(Encoding::Json, data.get().as_bytes())) },
        Err(message) => Request::Refusal { message: Some(message.as_str().into()) },
    };
    write(encoding, Some(id), &request)
}

fn write(encoding: Encoding, id: Option<&RequestId>, request: &Request<'_>) -> (OpCode, Vec<u8>) {
    let mut payload = Vec::new();
    request.encode(id, encoding, &mut payload);
    let opcode = match encoding {
        Encoding::Json => OpCode::Text,
        Encoding::MessagePack => OpCode::Binary,
    };
    (opcode, payload)
}
