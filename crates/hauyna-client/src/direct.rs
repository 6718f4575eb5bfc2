//! What is sent to a user, to a group or to everybody, as the application reads it.

use crate::error::StreamError;
use crate::stream::{DirectKind, Notification};
use serde::de::DeserializeOwned;

/// What was sent to this user by another way than a channel of the application's.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Direct<M> {
    /// To this user.
    Private(DirectMessage<M>),
    /// To the members of a group.
    Group {
        /// The group.
        group: String,
        /// What was sent.
        sent: DirectMessage<M>,
    },
    /// To everybody.
    Broadcast(DirectMessage<M>),
}

/// One such message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DirectMessage<M> {
    /// Who sent it; `None` when the application did.
    pub from: Option<String>,
    /// What was sent.
    pub message: M,
    /// In ms since the Unix epoch.
    pub timestamp: u64,
}

impl<M: DeserializeOwned> Direct<M> {
    pub(crate) fn read(notification: Notification) -> Result<Self, StreamError> {
        let Notification::Direct(direct) = notification else {
            return Err(StreamError::Unreadable(String::new()));
        };
        let (kind, raw) = &*direct;
        let message = serde_json::from_str(raw.message.get())
            .map_err(|error| StreamError::Unreadable(error.to_string()))?;
        let sent = DirectMessage { from: raw.from.clone(), message, timestamp: raw.timestamp };
        Ok(match kind {
            DirectKind::Private => Self::Private(sent),
            DirectKind::Group => Self::Group { group: raw.room.clone().unwrap_or_default(), sent },
            DirectKind::Broadcast => Self::Broadcast(sent),
        })
    }
}
