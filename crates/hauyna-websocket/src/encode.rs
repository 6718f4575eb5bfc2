//! Encodes frames: complete frames as shared `Bytes` for broadcasts, frames appended to a write buffer, and a
//! builder with reserved room for the header in front of the payload, so that nothing is copied afterwards.

use bytes::{Buf as _, Bytes};

use crate::mask::apply_mask;
use crate::{CloseCode, Compression, Fragment, OpCode};

/// Encodes a complete unmasked frame, as a server sends it, into memory that its clones share.
#[must_use]
pub fn encode(opcode: OpCode, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(header_size(payload.len()) + payload.len());
    encode_into(&mut out, opcode, payload, None);
    out.into()
}

/// Appends a complete frame to `out`. A client passes a new, unpredictable `mask` for each frame (RFC 6455
/// §5.3).
pub fn encode_into(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>) {
    FrameHead { mask, ..FrameHead::of(opcode) }.encode_into(out, payload);
}

/// Encodes a close frame. A reason above 123 bytes is cut before the character that does not fit (RFC 6455
/// §5.5.1), and a code that must not be sent (§7.4) is replaced by [`CloseCode::sendable`].
#[must_use]
pub fn close_frame(code: CloseCode, reason: &str) -> Bytes {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &reason[..end];
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.sendable().as_u16().to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    encode(OpCode::Close, &payload)
}

/// The header of a frame without the length, for senders that fragment, compress or mask.
///
/// The caller must follow the rules that the decoder enforces: control frames are final, plain and at most
/// 125 bytes.
///
/// Exhaustive: these are all bits of a header that a sender chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// Kind of the frame.
    pub opcode: OpCode,
    /// Whether the frame ends its message.
    pub fragment: Fragment,
    /// Whether its message is compressed; set only in the first frame of a message.
    pub compression: Compression,
    /// Masking key: always set by a client, never by a server.
    pub mask: Option<[u8; 4]>,
}

impl FrameHead {
    /// Returns the head of a frame that is a complete message, plain and unmasked.
    #[must_use]
    pub const fn of(opcode: OpCode) -> Self {
        Self { opcode, fragment: Fragment::Final, compression: Compression::Plain, mask: None }
    }

    /// Appends the frame to `out`.
    pub fn encode_into(self, out: &mut Vec<u8>, payload: &[u8]) {
        let (header, size) = self.header(payload.len());
        // Reserve exactly: `Bytes` takes over a vector without a copy only if it has no spare capacity.
        out.reserve(size + self.mask.map_or(0, |mask| mask.len()) + payload.len());
        out.extend_from_slice(&header[..size]);
        let Some(mask) = self.mask else {
            out.extend_from_slice(payload);
            return;
        };
        out.extend_from_slice(&mask);
        let start = out.len();
        out.extend_from_slice(payload);
        apply_mask(&mut out[start..], mask);
    }

    /// Returns the header without its mask: the bytes and how many of them are used.
    fn header(self, payload: usize) -> ([u8; MAX_UNMASKED], usize) {
        let mut header = [0; MAX_UNMASKED];
        header[0] = self.opcode as u8;
        if self.fragment == Fragment::Final {
            header[0] |= 0x80;
        }
        if self.compression == Compression::Deflated {
            header[0] |= 0x40;
        }
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let size = header_size(payload);
        match size {
            2 => header[1] = masked | payload as u8,
            4 => {
                header[1] = masked | 126;
                header[2..4].copy_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                header[1] = masked | 127;
                header[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        (header, size)
    }
}

/// A builder of an unmasked frame whose payload is written once: the header goes into reserved room in front
/// of it.
///
/// ```
/// use hauyna_websocket::{FrameBuilder, OpCode, encode};
///
/// let mut frame = FrameBuilder::with_capacity(5);
/// frame.payload().extend_from_slice(b"hello");
/// assert_eq!(frame.finish(OpCode::Text), encode(OpCode::Text, b"hello"));
/// ```
#[derive(Debug)]
pub struct FrameBuilder {
    /// Invariant: the payload starts at `MAX_UNMASKED`.
    buffer: Vec<u8>,
}

impl FrameBuilder {
    /// Creates a builder with room for a payload of `payload` bytes. A longer payload costs a reallocation.
    #[must_use]
    pub fn with_capacity(payload: usize) -> Self {
        let mut buffer = Vec::with_capacity(MAX_UNMASKED.saturating_add(payload));
        buffer.resize(MAX_UNMASKED, 0);
        Self { buffer }
    }

    /// Returns the buffer, to which the caller appends the payload. The caller must not change its existing
    /// content.
    ///
    /// A caller that truncates the existing content only loses the payload.
    pub fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Returns the payload written so far.
    #[must_use]
    pub fn payload_bytes(&self) -> &[u8] {
        self.buffer.get(MAX_UNMASKED..).unwrap_or_default()
    }

    /// Writes the header of a plain frame and returns the frame.
    #[must_use]
    pub fn finish(self, opcode: OpCode) -> Bytes {
        self.finish_with(opcode, Compression::Plain)
    }

    /// Writes the header and returns the frame. [`Compression::Deflated`] sets RSV1 (RFC 7692 §6).
    #[must_use]
    pub fn finish_with(mut self, opcode: OpCode, compression: Compression) -> Bytes {
        if self.buffer.len() < MAX_UNMASKED {
            self.buffer.resize(MAX_UNMASKED, 0);
        }
        let payload = self.buffer.len() - MAX_UNMASKED;
        let (header, size) = FrameHead { compression, ..FrameHead::of(opcode) }.header(payload);
        let start = MAX_UNMASKED - size;
        self.buffer[start..MAX_UNMASKED].copy_from_slice(&header[..size]);
        // `slice` would create a second handle, and with it the allocation of a reference count.
        let mut frame = Bytes::from(self.buffer);
        frame.advance(start);
        frame
    }
}

/// Returns the size of an unmasked header for a payload of this length.
const fn header_size(payload: usize) -> usize {
    match payload {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Maximum size of a header without a mask.
const MAX_UNMASKED: usize = 10;
/// Maximum bytes of a close reason: 125 minus the code.
const MAX_REASON: usize = 123;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builder_and_the_encoder_agree_at_every_length_class() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![7; length];
            let mut builder = FrameBuilder::with_capacity(length);
            builder.payload().extend_from_slice(&payload);
            assert_eq!(builder.payload_bytes(), payload);
            assert_eq!(builder.finish(OpCode::Binary), encode(OpCode::Binary, &payload), "{length}");
        }
    }

    #[test]
    fn rsv1_is_set_for_deflated_frames_only() {
        let head = |compression| FrameBuilder::with_capacity(0).finish_with(OpCode::Text, compression)[0];
        assert_eq!(head(Compression::Plain), 0x81);
        assert_eq!(head(Compression::Deflated), 0xc1);
    }

    #[test]
    fn a_truncated_builder_gives_an_empty_frame() {
        let mut builder = FrameBuilder::with_capacity(5);
        builder.payload().clear();
        assert_eq!(builder.payload_bytes(), b"");
        assert_eq!(&builder.finish(OpCode::Text)[..], [0x81, 0]);
    }

    #[test]
    fn a_long_close_reason_is_cut_at_a_character() {
        let frame = close_frame(CloseCode::NORMAL, &"é".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert_eq!(std::str::from_utf8(&frame[4..]).unwrap(), "é".repeat(61));
        assert_eq!(&close_frame(CloseCode::GOING_AWAY, "")[..], [0x88, 2, 0x03, 0xe9]);
        assert_eq!(&close_frame(CloseCode::ABNORMAL, "")[..], [0x88, 2, 0x03, 0xf3]);
    }

    #[test]
    fn a_client_frame_is_masked_with_the_given_key() {
        let mut out = vec![1];
        encode_into(&mut out, OpCode::Text, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        // RFC 6455 §5.7
        assert_eq!(out, [1, 0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }
}
