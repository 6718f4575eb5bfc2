//! A client's request to a channel, as the authorisers of a handler or a channel pattern see it. Created by
//! `dispatch`.

use super::Params;
use crate::error::{Error, Reject};
use crate::name::ChannelName;
use hauyna_protocol::{Encoding, Raw};
use http::StatusCode;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// A client's request to one channel; see
/// [`ChannelOptions::authorize_subscribe`](super::ChannelOptions::authorize_subscribe).
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

    /// Makes it a request to replace a subscriber's metadata.
    pub(crate) fn update(self, metadata: Arc<str>) -> Self {
        Self { metadata: Some(metadata), is_update: true, ..self }
    }

    /// Adds what only `subscribe_channel` has: the token and the metadata.
    pub(crate) fn with(mut self, token: Option<Box<str>>, metadata: Option<Arc<str>>) -> Self {
        self.token = token;
        self.metadata = metadata;
        self
    }

    /// Returns the name of the channel.
    pub fn channel(&self) -> &str {
        self.channel.as_str()
    }

    /// Returns the value of a parameter of the channel's pattern.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }

    /// Returns the token that came with `subscribe_channel`, which is to permit this channel.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whether a subscriber asks to replace its metadata with `update_presence`, which has no token.
    /// Otherwise the client asks to subscribe.
    pub fn is_update(&self) -> bool {
        self.is_update
    }

    /// Decodes the metadata that came with `subscribe_channel` or `update_presence`. Missing metadata is
    /// `null`.
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

/// Omits the token.
impl fmt::Debug for ChannelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelRequest").field("channel", &self.channel).finish_non_exhaustive()
    }
}
