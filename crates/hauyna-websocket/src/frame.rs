//! The frame header (RFC 6455 §5.2): opcodes, limits, and the strict parser that the decoder runs on every
//! frame. A header is refused at its first invalid byte, and limits apply to the claimed length before
//! anything is stored.

use crate::ProtocolError;

/// Our own end of the connection.
///
/// Exhaustive: a connection has only two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// We accept connections: frames must arrive masked and leave unmasked.
    Server,
    /// We open connections: frames must arrive unmasked and leave masked.
    Client,
}

/// Limits of what a peer can make us hold.
///
/// Compressed frames may be longer on the wire than these limits by an eighth and 64 bytes, since deflate can
/// lengthen incompressible data. The limits apply to the inflated size.
///
/// Exhaustive: `..Limits::default()` takes the defaults of the fields that are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum size of a message in bytes, after inflation; 64 KiB by default.
    pub message: usize,
    /// Maximum payload of a single frame in bytes; 64 KiB by default.
    pub frame: usize,
    /// Maximum number of consecutive empty non-final fragments; 64 by default.
    pub empty_fragments: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: 64 << 10, frame: 64 << 10, empty_fragments: 64 }
    }
}

/// The kind of a frame (RFC 6455 §5.2).
///
/// Exhaustive: RFC 6455 reserves all others, and frames that have them are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpCode {
    /// Continues a fragmented message.
    Continuation = 0,
    /// A text message, or the first fragment of one.
    Text = 1,
    /// A binary message, or the first fragment of one.
    Binary = 2,
    /// Closes the connection.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl OpCode {
    /// Whether frames of this kind are control frames: at most 125 bytes, never fragmented (RFC 6455 §5.5).
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// Whether more fragments of the message follow a frame: the FIN bit.
///
/// Exhaustive: it is one bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// The frame ends its message (FIN = 1).
    Final,
    /// More fragments follow (FIN = 0).
    More,
}

/// Whether the message of a frame is compressed: the RSV1 bit (RFC 7692 §6).
///
/// Exhaustive: it is one bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The payload is not compressed (RSV1 = 0).
    Plain,
    /// The payload is a deflate stream (RSV1 = 1).
    Deflated,
}

/// Maximum size of a header: two bytes, a 64-bit length and a mask.
pub(crate) const MAX_HEADER: usize = 14;

/// A header that passed all checks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) opcode: OpCode,
    pub(crate) fragment: Fragment,
    pub(crate) compression: Compression,
    pub(crate) mask: [u8; 4],
    /// Length of the payload in bytes.
    pub(crate) payload: usize,
    /// Length of the header in bytes.
    pub(crate) size: usize,
}

/// The decoder's state when a header arrives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    pub(crate) role: Role,
    pub(crate) limits: Limits,
    /// Whether permessage-deflate was negotiated.
    pub(crate) deflate: bool,
    /// Compression of the unfinished message and the number of its bytes that arrived.
    pub(crate) message: Option<(Compression, usize)>,
}

impl Header {
    /// Parses the header at the start of `input`. Returns `None` while it is incomplete and valid so far.
    #[inline(always)]
    pub(crate) fn parse(input: &[u8], context: &Context) -> Result<Option<Self>, ProtocolError> {
        let Some(&first) = input.first() else { return Ok(None) };
        let (opcode, fragment, compression) = first_byte(first, context)?;
        let Some(&second) = input.get(1) else { return Ok(None) };
        let masked = second & 0x80 != 0;
        match (context.role, masked) {
            (Role::Server, false) => return Err(ProtocolError::Unmasked),
            (Role::Client, true) => return Err(ProtocolError::Masked),
            _ => {}
        }
        let short = second & 0x7f;
        if opcode.is_control() && short > 125 {
            return Err(ProtocolError::ControlTooLong);
        }
        let Some((payload, size)) = length(short, &input[2..])? else { return Ok(None) };
        if !opcode.is_control() {
            check_limits(payload, compression, context)?;
        }
        // A client never receives a mask; the zero key leaves the payload unchanged.
        let mut header =
            Self { opcode, fragment, compression, mask: [0; 4], payload: payload as usize, size };
        if masked {
            let Some(mask) = input[size..].first_chunk() else { return Ok(None) };
            header.mask = *mask;
            header.size += 4;
        }
        Ok(Some(header))
    }
}

/// Checks FIN, the reserved bits and the opcode against the message in progress.
#[inline(always)]
fn first_byte(byte: u8, context: &Context) -> Result<(OpCode, Fragment, Compression), ProtocolError> {
    let fragment = if byte & 0x80 != 0 { Fragment::Final } else { Fragment::More };
    let deflated = byte & 0x40 != 0;
    if byte & 0x30 != 0 || (deflated && !context.deflate) {
        return Err(ProtocolError::ReservedBit);
    }
    let opcode = OpCode::from_bits(byte & 0x0f).ok_or(ProtocolError::ReservedOpCode)?;
    let compression = match (opcode, context.message) {
        (OpCode::Text | OpCode::Binary, None) if deflated => Compression::Deflated,
        // Only the first frame of a message may set RSV1 (RFC 7692 §6.1).
        _ if deflated => return Err(ProtocolError::ReservedBit),
        (OpCode::Text | OpCode::Binary, None) => Compression::Plain,
        (OpCode::Text | OpCode::Binary, Some(_)) => return Err(ProtocolError::ExpectedContinuation),
        (OpCode::Continuation, Some((compression, _))) => compression,
        (OpCode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
        _ if fragment == Fragment::More => return Err(ProtocolError::FragmentedControl),
        _ => Compression::Plain,
    };
    Ok((opcode, fragment, compression))
}

/// Reads the extended length. Returns the payload's length and the header's size so far, without the mask.
#[inline(always)]
fn length(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    match short {
        126 => {
            let Some(bytes) = rest.first_chunk() else { return Ok(None) };
            match u16::from_be_bytes(*bytes) {
                ..126 => Err(ProtocolError::LengthNotMinimal),
                length => Ok(Some((length.into(), 4))),
            }
        }
        127 => {
            let Some(bytes) = rest.first_chunk() else { return Ok(None) };
            match u64::from_be_bytes(*bytes) {
                0x8000_0000_0000_0000.. => Err(ProtocolError::LengthOutOfRange),
                ..0x1_0000 => Err(ProtocolError::LengthNotMinimal),
                length => Ok(Some((length, 10))),
            }
        }
        length => Ok(Some((length.into(), 2))),
    }
}

/// Checks the claimed length of a data frame against the limits. Afterwards the length fits a `usize`.
#[inline(always)]
fn check_limits(payload: u64, compression: Compression, context: &Context) -> Result<(), ProtocolError> {
    let allowance = |limit: usize| match compression {
        Compression::Plain => limit,
        Compression::Deflated => deflated_bound(limit),
    };
    let payload = usize::try_from(payload).map_err(|_| ProtocolError::FrameTooBig)?;
    if payload > allowance(context.limits.frame) {
        return Err(ProtocolError::FrameTooBig);
    }
    let before = context.message.map_or(0, |(_, received)| received);
    match before.checked_add(payload) {
        Some(total) if total <= allowance(context.limits.message) => Ok(()),
        _ => Err(ProtocolError::MessageTooBig),
    }
}

/// Returns the maximum length of the deflated stream of `plain` bytes (zlib's conservative bound, rounded
/// up).
fn deflated_bound(plain: usize) -> usize {
    plain.saturating_add(plain / 8).saturating_add(64)
}
