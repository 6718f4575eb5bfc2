//! The faults of a peer on the wire, and the close code for each. The texts are fixed: they contain no bytes
//! of the peer and no internal details.

use crate::CloseCode;

/// A violation of RFC 6455, RFC 7692 or a limit. The connection must be closed with
/// [`close_code`](Self::close_code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A client sent a frame without a mask (RFC 6455 §5.1).
    #[error("frame from a client is not masked")]
    Unmasked,
    /// A server sent a masked frame (RFC 6455 §5.1).
    #[error("frame from a server is masked")]
    Masked,
    /// A reserved bit is set that has no meaning in a negotiated extension (RFC 6455 §5.2, RFC 7692 §6).
    #[error("reserved bit set")]
    ReservedBit,
    /// The opcode is 3–7 or 11–15 (RFC 6455 §5.2).
    #[error("reserved opcode")]
    ReservedOpCode,
    /// A control frame without FIN (RFC 6455 §5.5).
    #[error("fragmented control frame")]
    FragmentedControl,
    /// A control frame of more than 125 bytes (RFC 6455 §5.5).
    #[error("control frame too long")]
    ControlTooLong,
    /// A payload length that is not in its shortest form (RFC 6455 §5.2).
    #[error("payload length is not minimally encoded")]
    LengthNotMinimal,
    /// A 64-bit payload length with its top bit set (RFC 6455 §5.2).
    #[error("payload length out of range")]
    LengthOutOfRange,
    /// A continuation frame while no message is unfinished (RFC 6455 §5.4).
    #[error("continuation without a message to continue")]
    UnexpectedContinuation,
    /// A new data frame while a message is unfinished (RFC 6455 §5.4).
    #[error("new message before the end of the last one")]
    ExpectedContinuation,
    /// More empty fragments in a row than [`Limits::empty_fragments`](crate::Limits::empty_fragments).
    #[error("too many empty fragments")]
    EmptyFragments,
    /// A close payload of one byte (RFC 6455 §5.5.1).
    #[error("close frame with half a code")]
    CloseTooShort,
    /// A close code that must not be sent (RFC 6455 §7.4).
    #[error("close code not allowed")]
    CloseCode,
    /// A text message or a close reason that is not UTF-8 (RFC 6455 §8.1).
    #[error("text is not valid UTF-8")]
    InvalidUtf8,
    /// A frame above [`Limits::frame`](crate::Limits::frame).
    #[error("frame too big")]
    FrameTooBig,
    /// A message above [`Limits::message`](crate::Limits::message), inflated size included.
    #[error("message too big")]
    MessageTooBig,
    /// A message that inflates beyond [`DeflateConfig::ratio_limit`](crate::DeflateConfig::ratio_limit).
    #[error("compression ratio too high")]
    RatioTooHigh,
    /// A compressed message that is no deflate stream (RFC 7692 §7.2.2).
    #[error("compressed data are corrupt")]
    CorruptDeflate,
}

impl ProtocolError {
    /// Returns the code to close the connection with: 1002, 1007 or 1009.
    #[must_use]
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::InvalidUtf8 | Self::CorruptDeflate => CloseCode::INVALID_DATA,
            Self::FrameTooBig | Self::MessageTooBig | Self::RatioTooHigh => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}
