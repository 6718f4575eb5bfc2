//! Encodes messages as frames for one connection, by its encoding and compression.

use super::ConnectionCore;
use crate::publication::Content;
use bytes::Bytes;
use hauyna_protocol::Message;
use hauyna_protocol::close::CloseCode;
use hauyna_websocket::{FrameBuilder, close_frame};

/// Encodes one message as a frame for this connection.
pub(crate) fn frame(core: &ConnectionCore, message: &Message<'_>) -> Bytes {
    let mut frame = FrameBuilder::with_capacity(128);
    message.encode(core.wire().encoding(), frame.payload());
    frame.finish(core.wire().opcode())
}

/// Encodes what the application sends to this connection alone as a frame.
pub(crate) fn content_frame(core: &ConnectionCore, content: &Content) -> Bytes {
    let mut payload = Vec::with_capacity(content.bytes().len());
    content.encode_alone(core.wire().encoding(), &mut payload);
    whole_frame(core, &payload)
}

/// Encodes a message of the protocol that carries a payload of the application as a frame for this
/// connection.
pub(crate) fn message_frame(core: &ConnectionCore, message: &Message<'_>) -> Bytes {
    let mut payload = Vec::with_capacity(128);
    message.encode(core.wire().encoding(), &mut payload);
    whole_frame(core, &payload)
}

fn whole_frame(core: &ConnectionCore, payload: &[u8]) -> Bytes {
    match core.deflate() {
        None => hauyna_websocket::encode(core.wire().opcode(), payload),
        Some(deflate) => deflate.frame(core.wire().opcode(), payload),
    }
}

/// Encodes a close frame with the code and its reason.
pub(crate) fn close_frame_of(code: CloseCode, reason: &str) -> Bytes {
    close_frame(hauyna_websocket::CloseCode::new(code.0), reason)
}
