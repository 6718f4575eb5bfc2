//! A publication, as streams and pages of the history return it.

use crate::error::StreamError;
use hauyna_protocol::Position;
use hauyna_protocol::received;
use serde::de::DeserializeOwned;

/// A publication.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Publication<M> {
    /// Name of the channel.
    pub channel: String,
    /// The publisher; `None` if the application on the server has published it.
    pub user: Option<String>,
    /// The content.
    pub content: M,
    /// Time of publication, in ms since the Unix epoch.
    pub timestamp: u64,
    /// Number in the stream of the channel, if the channel numbers its publications.
    pub offset: Option<u64>,
    /// Position of the publication, if it is known. An application that stores it can continue from there
    /// after a restart ([`SubscribeBuilder::since`](crate::SubscribeBuilder::since)).
    pub position: Option<Position>,
}

impl<M: DeserializeOwned> Publication<M> {
    /// Reads a publication. `place` is any position in its epoch.
    pub(crate) fn read(raw: &received::Publication, place: Option<Position>) -> Result<Self, StreamError> {
        let content = serde_json::from_str(raw.content.get())
            .map_err(|error| StreamError::Unreadable(error.to_string()))?;
        let (channel, user) = (raw.channel.clone(), raw.user.clone());
        let position = place.zip(raw.offset).map(|(place, offset)| Position { offset, ..place });
        Ok(Self { channel, user, content, timestamp: raw.timestamp, offset: raw.offset, position })
    }
}
