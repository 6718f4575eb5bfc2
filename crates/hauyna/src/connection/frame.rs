//! Encodes messages as frames for one connection, by its encoding and compression.

use super::ConnectionCore;
use bytes::Bytes;
use hauyna_broker::Content;
use hauyna_protocol::Message;
use hauyna_protocol::close::CloseCode;
use hauyna_websocket::{FrameBuilder, close_frame, encode_into};
use std::sync::Arc;

/// Encodes one message as a frame for this connection.
pub(crate) fn frame(core: &Arc<ConnectionCore>, message: &Message<'_>) -> Bytes {
    let mut frame = FrameBuilder::with_capacity(128);
    message.encode(core.wire().encoding(), frame.payload());
    frame.finish(core.wire().opcode())
}

/// Encodes what the application sends to this connection alone as a frame.
pub(crate) fn content_frame(core: &Arc<ConnectionCore>, content: &Content) -> Bytes {
    let mut payload = Vec::with_capacity(content.bytes().len());
    content.encode_alone(core.wire().encoding(), &mut payload);
    whole_frame(core, &payload)
}

/// Encodes a message of the protocol that carries a payload of the application as a frame for this
/// connection.
pub(crate) fn message_frame(core: &Arc<ConnectionCore>, message: &Message<'_>) -> Bytes {
    let mut payload = Vec::with_capacity(128);
    message.encode(core.wire().encoding(), &mut payload);
    whole_frame(core, &payload)
}

fn whole_frame(core: &Arc<ConnectionCore>, payload: &[u8]) -> Bytes {
    match core.deflate() {
        None => hauyna_websocket::encode(core.wire().opcode(), payload),
        Some(deflate) => deflate.frame(core.wire().opcode(), payload),
    }
}

/// Appends a message as a frame, built in place.
pub(crate) fn append_frame(core: &Arc<ConnectionCore>, message: &Message<'_>, frames: &mut Vec<u8>) {
    // Space for the header of a short message, which almost all replies are; others are copied once more.
    let start = frames.len();
    frames.extend_from_slice(&[0; 2]);
    message.encode(core.wire().encoding(), frames);
    let length = frames.len() - start - 2;
    let opcode = core.wire().opcode();
    if let (Ok(short @ 0..=125), None) = (u8::try_from(length), core.deflate()) {
        frames[start] = 0x80 | opcode as u8;
        frames[start + 1] = short;
        return;
    }
    let payload = frames.split_off(start + 2);
    frames.truncate(start);
    append_payload(core, &payload, frames);
}

/// Appends an encoded message as a frame.
pub(crate) fn append_payload(core: &Arc<ConnectionCore>, payload: &[u8], frames: &mut Vec<u8>) {
    let opcode = core.wire().opcode();
    match core.deflate() {
        None => encode_into(frames, opcode, payload, None),
        Some(deflate) => frames.extend_from_slice(&deflate.frame(opcode, payload)),
    }
}

/// Encodes a close frame with the code and its reason.
pub(crate) fn close_frame_of(code: CloseCode, reason: &str) -> Bytes {
    close_frame(hauyna_websocket::CloseCode::new(code.0), reason)
}
