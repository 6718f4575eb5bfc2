//! Frames of the test client: decoded by the codec of `hauyna_websocket`, masked when sent, and messages of
//! the protocol in both encodings. Only the client uses it.

use super::Stream;
use crate::located::Checked;
use hauyna_protocol::{Encoding, Limits, Raw};
use hauyna_websocket::{Decoder, Deflate, Event, FrameHead, OpCode};
use serde_json::Value;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use tokio::io::AsyncReadExt;

/// A complete message or control frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping, if the client does not answer pings itself.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close frame, with its code and reason if it has them.
    Close(Option<(u16, String)>),
    /// The end of the stream, or a reset.
    End,
}

/// The receiving side of a client.
pub(super) struct Wire {
    pub(super) stream: Box<dyn Stream>,
    pub(super) decoder: Decoder,
    pub(super) deflate: Option<Deflate>,
    pub(super) frames: VecDeque<Frame>,
}

impl Wire {
    /// Returns the next frame.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: what was read has been decoded.
    pub(super) async fn next(&mut self) -> Checked<Frame> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(frame);
            }
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return Ok(Frame::End),
                Ok(read) => self.feed(&mut buffer[..read])?,
            }
        }
    }

    pub(super) fn feed(&mut self, bytes: &mut [u8]) -> Checked<()> {
        let mut events = self.decoder.feed(bytes);
        loop {
            let frame = match events.next() {
                Ok(None) => return Ok(()),
                Ok(Some(Event::Text(text))) => Frame::Text(text.to_owned()),
                Ok(Some(Event::Binary(bytes))) => Frame::Binary(bytes.to_vec()),
                Ok(Some(Event::Ping(bytes))) => Frame::Ping(bytes.to_vec()),
                Ok(Some(Event::Pong(bytes))) => Frame::Pong(bytes.to_vec()),
                Ok(Some(Event::Close(close))) => {
                    Frame::Close(close.map(|(code, reason)| (code.as_u16(), reason.to_owned())))
                }
                Err(error) => return Err(format!("the server violated RFC 6455: {error}")),
            };
            self.frames.push_back(frame);
        }
    }

    /// Returns the compressed payload, whatever its length.
    pub(super) fn deflated(&self, opcode: OpCode, payload: &[u8]) -> Checked<Vec<u8>> {
        let deflate = self.deflate.as_ref().ok_or("compression was not negotiated")?;
        let frame = deflate.frame(opcode, payload);
        if frame[0] & 0x40 == 0 {
            return Err("the payload is too short to be compressed".to_owned());
        }
        let header = match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        Ok(frame[header..].to_vec())
    }
}

/// Returns a message as the payload of a frame.
pub(super) fn encoded(encoding: Encoding, message: &Value) -> (OpCode, Vec<u8>) {
    let json = message.to_string();
    match encoding {
        Encoding::Json => (OpCode::Text, json.into_bytes()),
        Encoding::MessagePack => {
            let mut packed = Vec::new();
            Raw::assume_valid(Encoding::Json, json.as_bytes()).transcode_into(encoding, &mut packed);
            (OpCode::Binary, packed)
        }
    }
}

pub(super) fn unpacked(bytes: &[u8]) -> Checked<Value> {
    let raw = Raw::parse(Encoding::MessagePack, bytes, &Limits::default())
        .map_err(|fault| format!("the server sent invalid MessagePack ({fault}): {bytes:?}"))?;
    serde_json::from_str(&raw.as_json()).map_err(|error| format!("MessagePack that JSON cannot be: {error}"))
}

/// Returns a frame as a client sends it.
pub(super) fn masked(head: FrameHead, payload: &[u8]) -> Vec<u8> {
    let random = RandomState::new().hash_one(payload.len()).to_be_bytes();
    let mask = [random[0], random[1], random[2], random[3]];
    let mut frame = Vec::with_capacity(payload.len() + 14);
    FrameHead { mask: Some(mask), ..head }.encode_into(&mut frame, payload);
    frame
}

/// Maximum of bytes of one read.
const READ_BYTES: usize = 16 * 1024;
