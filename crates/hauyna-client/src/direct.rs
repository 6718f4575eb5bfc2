//! Messages to a user, to a group or to everybody, as the application reads them.

use crate::error::StreamError;
use crate::stream::{DirectKind, Notification};
use serde::de::DeserializeOwned;

/// A message that was sent to this user by another way than a channel.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Direct<M> {
    /// A message to this user.
    Private(DirectMessage<M>),
    /// A message to the members of a group.
    Group {
        /// Name of the group.
        group: String,
        /// The message.
        sent: DirectMessage<M>,
    },
    /// A message to everybody.
    Broadcast(DirectMessage<M>),
}

/// One direct message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DirectMessage<M> {
    /// The sender; `None` if the application on the server has sent it.
    pub from: Option<String>,
    /// The content.
    pub message: M,
    /// Time of sending, in ms since the Unix epoch.
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
