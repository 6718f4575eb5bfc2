//! One publication, as streams and pages of the history give it.

use crate::error::StreamError;
use hauyna_protocol::Position;
use hauyna_protocol::received;
use serde::de::DeserializeOwned;

/// One publication.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Publication<M> {
    /// The channel.
    pub channel: String,
    /// Who published; `None` when the application did.
    pub user: Option<String>,
    /// What was published.
    pub content: M,
    /// In ms since the Unix epoch.
    pub timestamp: u64,
    /// The number in the channel's stream, where it keeps one.
    pub offset: Option<u64>,
    /// The position of the publication, where it is known. An application that stores it continues from there
    /// after a restart ([`SubscribeBuilder::since`](crate::SubscribeBuilder::since)).
    pub position: Option<Position>,
}

impl<M: DeserializeOwned> Publication<M> {
    /// Reads a publication; `place` is a position in the epoch that it was published in.
    pub(crate) fn read(raw: &received::Publication, place: Option<Position>) -> Result<Self, StreamError> {
        let content = serde_json::from_str(raw.content.get())
            .map_err(|error| StreamError::Unreadable(error.to_string()))?;
        let (channel, user) = (raw.channel.clone(), raw.user.clone());
        let position = place.zip(raw.offset).map(|(place, offset)| Position { offset, ..place });
        Ok(Self { channel, user, content, timestamp: raw.timestamp, offset: raw.offset, position })
    }
}
