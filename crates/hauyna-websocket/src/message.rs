//! What the decoder keeps between two inputs: an unfinished header, frame and message. Memory follows the
//! bytes that arrived, never the length that a header claims.

use crate::frame::{Header, MAX_HEADER};
use crate::{Compression, Fragment, OpCode, ProtocolError};

/// Everything unfinished. The decoder boxes it and drops it when it is empty.
#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) head: PartialHead,
    pub(crate) frame: Option<Unfinished>,
    pub(crate) message: Option<Message>,
    /// Payload of an unfinished control frame, which may arrive in the middle of a message.
    pub(crate) control: Vec<u8>,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.head.len() == 0 && self.frame.is_none() && self.message.is_none()
    }

    pub(crate) fn heap(&self) -> usize {
        self.control.capacity() + self.message.as_ref().map_or(0, |message| message.bytes.capacity())
    }
}

/// The first bytes of a header.
#[derive(Default, Clone, Copy)]
pub(crate) struct PartialHead {
    bytes: [u8; MAX_HEADER],
    len: u8,
}

impl PartialHead {
    pub(crate) fn len(&self) -> usize {
        self.len.into()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    /// Takes as much of `input` as a header can need, and returns how much it took.
    pub(crate) fn extend(&mut self, input: &[u8]) -> usize {
        let room = &mut self.bytes[self.len.into()..];
        let taken = input.len().min(room.len());
        room[..taken].copy_from_slice(&input[..taken]);
        self.len += taken as u8;
        taken
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

/// A frame whose header is known and whose payload is incomplete.
pub(crate) struct Unfinished {
    pub(crate) opcode: OpCode,
    pub(crate) fragment: Fragment,
    /// Number of missing payload bytes.
    pub(crate) missing: usize,
    /// Mask, rotated to the position of the next byte.
    pub(crate) mask: [u8; 4],
}

/// An incomplete data message, with all fragments in one buffer.
pub(crate) struct Message {
    pub(crate) opcode: OpCode,
    pub(crate) compression: Compression,
    bytes: Vec<u8>,
    /// Length of the valid UTF-8 text; at most three bytes after it wait for their continuation.
    valid: usize,
    /// Number of empty non-final fragments since the last one with a payload.
    empty: u32,
}

impl Message {
    pub(crate) const fn new(opcode: OpCode, compression: Compression) -> Self {
        Self { opcode, compression, bytes: Vec::new(), valid: 0, empty: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Counts empty fragments, which cost the sender little and never reach a limit of bytes.
    pub(crate) fn note_fragment(&mut self, header: &Header, allowed: u32) -> Result<(), ProtocolError> {
        if header.payload > 0 || header.fragment == Fragment::Final {
            self.empty = 0;
            return Ok(());
        }
        self.empty += 1;
        if self.empty > allowed { Err(ProtocolError::EmptyFragments) } else { Ok(()) }
    }

    /// Appends the received part of an unfinished frame.
    ///
    /// The buffer at most doubles, so it stays below twice the received bytes (plus [`STEP`]) for any claimed
    /// length, and below `max`. Appending takes linear time in total for any size of fragments.
    pub(crate) fn append(&mut self, chunk: &[u8], frame: &Unfinished, max: usize) {
        let held = self.bytes.len();
        if self.bytes.capacity() - held < chunk.len() {
            let expected = chunk.len() + frame.missing;
            let expected = match frame.fragment {
                Fragment::Final => expected,
                Fragment::More => expected.max(held).max(SMALL_STEP),
            };
            let step = expected.min(held.max(STEP)).min(max.saturating_sub(held));
            self.bytes.reserve_exact(step.max(chunk.len()));
        }
        self.bytes.extend_from_slice(chunk);
    }

    /// Returns an error at the first byte that no continuation can make valid (RFC 6455 §8.1).
    pub(crate) fn check_text(&mut self) -> Result<(), ProtocolError> {
        if self.opcode != OpCode::Text || self.compression == Compression::Deflated {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::InvalidUtf8),
        }
        Ok(())
    }
}

/// Minimum growth of a buffer in bytes while the claimed length allows it.
const STEP: usize = 4 << 10;
/// Minimum growth of a buffer in bytes for a fragment that is not the last.
const SMALL_STEP: usize = 64;
