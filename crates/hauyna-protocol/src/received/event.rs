//! Events of a channel, as a client reads them: announced subscriptions, and events of other clients.

use super::field::present;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The announcement of a subscription.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct ChannelEvent {
    /// `subscription_added`, `subscription_removed`, `subscription_reconnected`, or one of a later version.
    pub event: String,
    /// The channel.
    pub channel: String,
    /// User of the subscription.
    pub user: String,
    /// Metadata of the subscription.
    pub metadata: Box<RawValue>,
}

/// An event that another subscriber sent, outside the publications.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct ClientEvent {
    /// The channel.
    pub channel: String,
    /// Name of the event.
    pub event: String,
    /// User who sent it.
    pub user: String,
    /// Data of the event, if it has any; `null` is a value.
    #[serde(default, deserialize_with = "present")]
    pub data: Option<Box<RawValue>>,
}
