//! What a client asks of a channel, as authorisers of a pattern see it. Made by `dispatch`.

use super::{ChannelName, Params};
use crate::error::{Error, Reject};
use hauyna_protocol::{Encoding, Raw};
use http::StatusCode;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// What a client asks of one channel; see [`ChannelOptions::authorize_subscribe`](super::ChannelOptions::authorize_subscribe).
pub struct ChannelRequest {
    channel: ChannelName,
    params: Vec<(Box<str>, Box<str>)>,
    token: Option<Box<str>>,
    metadata: Option<Arc<str>>,
    is_update: bool,
}

impl ChannelRequest {
    pub(crate) fn new(channel: ChannelName, params: &Params<'_>) -> Self {
        let params = params.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { channel, params, token: None, metadata: None, is_update: false }
    }

    /// A subscriber replaces its metadata.
    pub(crate) fn update(self, metadata: Arc<str>) -> Self {
        Self { metadata: Some(metadata), is_update: true, ..self }
    }

    /// What only `subscribe_channel` has.
    pub(crate) fn with(mut self, token: Option<Box<str>>, metadata: Option<Arc<str>>) -> Self {
        self.token = token;
        self.metadata = metadata;
        self
    }

    /// The channel.
    pub fn channel(&self) -> &str {
        self.channel.as_str()
    }

    /// A parameter of the channel's pattern.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(own, _)| **own == *name).map(|(_, value)| &**value)
    }

    /// The token that came with `subscribe_channel`: one that allows this channel.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whether a subscriber replaces its metadata with `update_presence`, which comes without a token. Otherwise the client
    /// is about to subscribe.
    pub fn is_update(&self) -> bool {
        self.is_update
    }

    /// The metadata that came with `subscribe_channel` or `update_presence`, as a type of yours; none as `null`.
    ///
    /// # Errors
    ///
    /// `validation_error`, with the place of the fault in `details.path`.
    pub fn metadata<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        let text = self.metadata.as_deref().unwrap_or("null");
        decoded(Raw::assume_valid(Encoding::Json, text.as_bytes()), "metadata")
    }
}

/// Decodes a field of a request.
///
/// # Errors
///
/// `validation_error`, with the place of the fault in `details.path`.
pub(super) fn decoded<T: DeserializeOwned>(raw: Raw<'_>, field: &str) -> Result<T, Reject> {
    raw.decode().map_err(|fault| {
        let error = Error::from(fault);
        let mut details = error.details().cloned().unwrap_or_default();
        let path = details["path"].as_str().unwrap_or_default();
        let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
        details["path"] = format!("{field}{dot}{path}").into();
        let message = error.public_message().to_owned();
        Reject::new(error.error_type(), StatusCode::BAD_REQUEST, message).with_details(details)
    })
}

/// Without the token.
impl fmt::Debug for ChannelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelRequest").field("channel", &self.channel).finish_non_exhaustive()
    }
}
