//! Where a subscriber stands in a channel: `(epoch, offset)`, and why a recovery from there failed.
//! Pure values; brokers assign them, messages carry them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt;

/// A point in a channel's stream. An offset means nothing under another epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life of the stream's memory that `offset` counts in.
    pub epoch: Epoch,
    /// The last publication seen; 0 is the place before the first one.
    pub offset: u64,
}

/// The identity of a stream's memory, drawn at random when the stream is created.
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
    /// What an epoch that no server of this kind wrote reads as. No stream has it, so that recovering from
    /// it answers `epoch_changed`, and a client that comes from elsewhere starts anew instead of failing.
    pub const UNKNOWN: Self = Self(0);

    /// Makes an epoch of eight random bytes. Zero is [`Epoch::UNKNOWN`]: draw again.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the number inside, for brokers that store it.
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

    /// Gives the wire form to `write`, without allocating.
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

/// Why a subscription with `recover`, or a resumed one, could not be brought up to date. The client must load its state anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecoveryFailure {
    /// The stream lost its memory: the client's offset belongs to another epoch.
    EpochChanged,
    /// The history no longer reaches back to the client's offset.
    TooOld,
    /// More messages were missed than one recovery may replay.
    TooMany,
    /// A resumed subscription for which the client named no position.
    UnknownPosition,
}

impl RecoveryFailure {
    /// Every reason.
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
