//! The position of a subscriber in a channel, `(epoch, offset)`, and why a recovery from it failed. Plain
//! values: brokers assign them, messages carry them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt;

/// A position in a channel's stream. An offset is meaningless in another epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life of the stream's memory in which `offset` counts.
    pub epoch: Epoch,
    /// Offset of the last publication seen; 0 is the position before the first one.
    pub offset: u64,
}

/// The identity of a stream's memory, chosen at random when the stream is created.
///
/// On the wire it is a string of 11 characters (base64url of the eight bytes, big-endian), which clients
/// compare and never interpret.
///
/// ```
/// use hauyna_protocol::Epoch;
/// let epoch = Epoch::new(0x0123_4567_89ab_cdef);
/// assert_eq!(epoch.to_string(), "ASNFZ4mrze8");
/// assert_eq!(Epoch::parse("ASNFZ4mrze8"), epoch);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch that any unknown text parses as. No stream has it, so a recovery from it answers
    /// `epoch_changed`, and a client that comes from another kind of server starts over instead of failing.
    pub const UNKNOWN: Self = Self(0);

    /// Creates an epoch from eight random bytes. Zero is [`Epoch::UNKNOWN`]; the caller must then choose
    /// another value.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the number, for brokers that store it.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Reads the wire form; anything else is [`Epoch::UNKNOWN`].
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut bytes = [0; 8];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(8) => Self(u64::from_be_bytes(bytes)),
            _ => Self::UNKNOWN,
        }
    }

    /// Passes the wire form to `write`, without allocating.
    pub(crate) fn with_text<R>(self, write: impl FnOnce(&str) -> R) -> R {
        let mut text = [0; 11];
        let length = URL_SAFE_NO_PAD.encode_slice(self.0.to_be_bytes(), &mut text).unwrap_or(0);
        write(std::str::from_utf8(&text[..length]).unwrap_or_default())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

/// Why a subscription with `recover`, or a resumed one, could not be recovered. The client must reload its
/// state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecoveryFailure {
    /// The stream lost its memory: the client's offset belongs to another epoch.
    EpochChanged,
    /// The history no longer reaches back to the client's offset.
    TooOld,
    /// More messages were missed than one recovery may replay.
    TooMany,
    /// The client named no position for a resumed subscription.
    UnknownPosition,
}

impl RecoveryFailure {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::EpochChanged, Self::TooOld, Self::TooMany, Self::UnknownPosition];

    /// Returns the name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EpochChanged => "epoch_changed",
            Self::TooOld => "too_old",
            Self::TooMany => "too_many",
            Self::UnknownPosition => "unknown_position",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_survives_its_wire_form() {
        for value in [1, 42, u64::MAX, 1 << 63, 0x0123_4567_89ab_cdef] {
            let text = Epoch::new(value).to_string();
            assert_eq!(text.len(), 11);
            assert_eq!(Epoch::parse(&text), Epoch::new(value));
        }
    }

    #[test]
    fn an_epoch_of_another_make_reads_as_unknown() {
        for text in
            ["", "1700000000000-0", "ASNFZ4mrze", "ASNFZ4mrze8=", "ASNFZ4mrze9", "é", &"A".repeat(4096)]
        {
            assert_eq!(Epoch::parse(text), Epoch::UNKNOWN, "{text}");
        }
    }
}
