//! What is published, as a client reads it: publications of a channel, and messages outside of the channels.

use serde::Deserialize;
use serde_json::value::RawValue;

/// One publication in a channel.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Publication {
    /// The channel.
    pub channel: String,
    /// User who published; `None` for the application.
    pub user: Option<String>,
    /// Content of the publication.
    pub content: Box<RawValue>,
    /// Time in ms since the Unix epoch.
    pub timestamp: u64,
    /// Number in the channel's stream, if the channel keeps a history.
    pub offset: Option<u64>,
}

/// A message outside the application's channels: to a user, a group or everybody.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Direct {
    /// User who sent it; `None` for the application.
    pub from: Option<String>,
    /// The group, of a `group` message.
    pub room: Option<String>,
    /// The message itself.
    pub message: Box<RawValue>,
    /// Time in ms since the Unix epoch.
    pub timestamp: u64,
    /// Number in the stream, if it has one.
    pub offset: Option<u64>,
}
