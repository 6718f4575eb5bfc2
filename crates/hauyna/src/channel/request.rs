//! A client's request as the authorisers of a handler or a channel pattern see it. Created by `dispatch`.

use crate::error::Reject;
use crate::hub::HubCore;
use hauyna_broker::{ChannelName, Content, Target};
use hauyna_protocol::{Encoding, Raw};
use http::StatusCode;
use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

/// A client's request that an authoriser permits or refuses; see
/// [`ChannelOptions::authorize_subscribe`](super::ChannelOptions::authorize_subscribe).
pub struct AccessRequest {
    /// The hub, which knows the parameters in the channel's name.
    hub: Arc<HubCore>,
    channel: ChannelName,
    token: Option<Box<str>>,
    metadata: Option<Arc<str>>,
    content: Option<Content>,
    is_update: bool,
}

impl AccessRequest {
    pub(crate) fn new(hub: &Arc<HubCore>, channel: &ChannelName, metadata: Option<Arc<str>>) -> Self {
        let (hub, channel) = (hub.clone(), channel.clone());
        Self { hub, channel, token: None, metadata, content: None, is_update: false }
    }

    /// Adds the content that would be published.
    pub(crate) fn with_content(self, content: &Content) -> Self {
        Self { content: Some(content.clone()), ..self }
    }

    /// Adds what only `subscribe_channel` has.
    pub(crate) fn with_token(self, token: Option<&str>) -> Self {
        Self { token: token.map(Into::into), ..self }
    }

    /// Makes it a request to replace a subscriber's metadata.
    pub(crate) fn into_update(self) -> Self {
        Self { is_update: true, ..self }
    }

    /// Returns the name of what the request is about: the channel, the receiver of a `private`, or the group
    /// of a `group`. It is empty for a `broadcast`.
    pub fn name(&self) -> &str {
        match self.channel.target() {
            Target::Channel => self.channel.as_str(),
            Target::User(name) | Target::Group(name) => name,
            Target::Everybody => "",
        }
    }

    /// Returns the value of a parameter of the channel's pattern; `request["id"]` panics where there is none.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.hub.declarations.resolve(self.channel.as_str()).1.get(name)
    }

    /// Returns the token that came with `subscribe_channel`, which is to permit this channel.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whether a subscriber asks to replace its metadata with `update_presence`, which has no token. A
    /// function that decides about subscriptions decides about this, too.
    pub fn is_update(&self) -> bool {
        self.is_update
    }

    /// Decodes the metadata: that of `subscribe_channel` or `update_presence`, otherwise that of the client's
    /// subscription. Missing metadata is `null`.
    ///
    /// # Errors
    ///
    /// `validation_error`, with the place of the fault in `details.path`.
    pub fn metadata<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        let text = self.metadata.as_deref().unwrap_or("null");
        decoded(Raw::assume_valid(Encoding::Json, text.as_bytes()), "metadata")
    }

    /// Decodes the content that would be published, which no validator has seen yet. It is `null` where the
    /// request publishes nothing.
    ///
    /// # Errors
    ///
    /// `validation_error`, with the place of the fault in `details.path`.
    pub fn content<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        let nothing = Raw::assume_valid(Encoding::Json, b"null");
        // The field that has it in the client's request.
        let field = if matches!(self.channel.target(), Target::Channel) { "content" } else { "message" };
        decoded(self.content.as_ref().map_or(nothing, Content::raw), field)
    }
}

impl Index<&str> for AccessRequest {
    type Output = str;

    /// Returns the value of a parameter of the channel's pattern.
    ///
    /// # Panics
    ///
    /// Where the pattern has no parameter of that name.
    #[track_caller]
    fn index(&self, name: &str) -> &str {
        let Some(value) = self.param(name) else {
            panic!("the channel pattern has no parameter `{name}`");
        };
        value
    }
}

/// Decodes a field of a request.
///
/// # Errors
///
/// `validation_error`, with the place of the fault in `details.path`.
pub(super) fn decoded<T: DeserializeOwned>(raw: Raw<'_>, field: &str) -> Result<T, Reject> {
    raw.decode().map_err(|fault| {
        let fault = fault.within(field);
        let reject = Reject::new(fault.error, StatusCode::BAD_REQUEST, fault.message);
        reject.with_details(fault.details.unwrap_or_default())
    })
}

/// Omits the token, the metadata and the content.
impl fmt::Debug for AccessRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessRequest")
            .field("name", &self.name())
            .field("is_update", &self.is_update)
            .finish_non_exhaustive()
    }
}
