//! Places in a channel where messages may be missing. The session finds gaps, the task reports them, and
//! streams carry them.

use crate::error::StreamError;
use crate::stream::Notification;
use hauyna_protocol::Position;
use std::fmt;
use std::sync::Arc;

/// A place in a channel where messages may be missing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gap {
    /// Name of the channel.
    pub channel: String,
    /// The reason.
    pub reason: GapReason,
    /// The last position before the gap, if it is known.
    pub from: Option<Position>,
    /// The position at which the channel continues, if it is known.
    pub to: Option<Position>,
    /// The number of missing messages, if it is known.
    pub missed: Option<u64>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.reason.as_str(), self.channel)
    }
}

/// Why messages may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapReason {
    /// The server lost the history of the channel, or numbers it in another epoch.
    EpochChanged,
    /// The history does not reach back far enough.
    TooOld,
    /// More messages were missed than one recovery replays.
    TooMany,
    /// The server did not know the position of this client.
    UnknownPosition,
    /// The channel keeps no history, and the connection was lost.
    NotRecoverable,
    /// This client read too slowly, so the server dropped messages that no history has.
    Dropped,
    /// The server does not let this client subscribe again.
    Refused,
    /// A reason that a later version of the protocol has added.
    Other,
}

impl GapReason {
    /// Returns the name of the reason, which is that of the protocol if it has one.
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
