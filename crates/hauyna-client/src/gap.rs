//! Where messages of a channel may be missing, and why. The session finds gaps, the task tells them, streams
//! carry them.

use crate::error::StreamError;
use crate::stream::Notification;
use hauyna_protocol::Position;
use std::fmt;
use std::sync::Arc;

/// A place in a channel where it cannot be proved that no message is missing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gap {
    /// The channel.
    pub channel: String,
    /// Why it cannot.
    pub reason: GapReason,
    /// The last position before it, where there is one.
    pub from: Option<Position>,
    /// Where the channel goes on, where it is known.
    pub to: Option<Position>,
    /// How many messages are missing, where it is known.
    pub missed: Option<u64>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.reason.as_str(), self.channel)
    }
}

/// Why it cannot be proved that nothing is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapReason {
    /// The server lost its memory of the channel.
    EpochChanged,
    /// The history does not reach back so far.
    TooOld,
    /// More was missed than one recovery replays.
    TooMany,
    /// The server was not told where this client stands.
    UnknownPosition,
    /// The channel keeps no history, and the connection was lost.
    NotRecoverable,
    /// This client was too slow, the server dropped messages, and there is no history of them.
    Dropped,
    /// The server does not let this client subscribe again.
    Refused,
    /// A reason of a later version of the protocol.
    Other,
}

impl GapReason {
    /// Returns the word for it, which is the wire's where it has one.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EpochChanged => "epoch_changed",
            Self::TooOld => "too_old",
            Self::TooMany => "too_many",
            Self::UnknownPosition => "unknown_position",
            Self::NotRecoverable => "not_recoverable",
            Self::Dropped => "dropped",
            Self::Refused => "refused",
            Self::Other => "other",
        }
    }

    pub(crate) fn of(word: &str) -> Self {
        [Self::EpochChanged, Self::TooOld, Self::TooMany, Self::UnknownPosition]
            .into_iter()
            .find(|reason| reason.as_str() == word)
            .unwrap_or(Self::Other)
    }
}

pub(crate) fn read_gap(notification: Notification) -> Result<Gap, StreamError> {
    match notification {
        Notification::Gap(gap) => Ok(Arc::unwrap_or_clone(gap)),
        _ => Err(StreamError::Unreadable(String::new())),
    }
}
