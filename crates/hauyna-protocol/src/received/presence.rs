//! Presence, as a client reads it: a channel's members, their changes, a page of members.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// One user who is present in a channel.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct PresenceEntry {
    /// Status: `online`, `away`, `offline`, or one of the application.
    pub status: String,
    /// Metadata of the user, an object.
    pub metadata: Box<RawValue>,
    /// When the user joined, in ms since the Unix epoch.
    pub joined_at: u64,
    /// When the metadata last changed, in ms since the Unix epoch.
    pub updated_at: u64,
    /// The user's connections in the channel.
    pub connections: Vec<PresenceConnection>,
}

/// One connection of a user who is present.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct PresenceConnection {
    /// Id of the connection.
    pub connection_id: String,
    /// Metadata of this connection, an object.
    pub metadata: Box<RawValue>,
    /// When it joined, in ms since the Unix epoch.
    pub joined_at: u64,
}

/// All present users.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct PresenceState {
    /// The channel.
    pub channel: String,
    /// Number of present users.
    pub count: u64,
    /// The users.
    pub users: BTreeMap<String, PresenceEntry>,
    /// Number of the last change that it includes.
    pub offset: u64,
}

/// The data of an `ack` of `presence`: a page of the present users.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct PresencePage {
    /// The channel.
    pub channel: String,
    /// Number of present users.
    pub count: u64,
    /// The users of this page.
    pub users: BTreeMap<String, PresenceEntry>,
    /// Number of the last change that it includes.
    pub offset: u64,
    /// Start of the next page, if there is one.
    pub next: Option<String>,
}

/// One change.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct PresenceChange {
    /// What happened.
    pub event: PresenceKind,
    /// The user.
    pub user: String,
    /// The channel.
    pub channel: String,
    /// Metadata of the user, an object.
    pub metadata: Box<RawValue>,
    /// The user's status.
    pub status: String,
    /// Number of the user's connections after the change.
    pub connections: u64,
    /// The connection that joined, or whose metadata changed, after the change.
    pub connection: Option<PresenceConnection>,
    /// Time in ms since the Unix epoch.
    pub timestamp: u64,
    /// Number of the change in this channel.
    pub offset: u64,
}

/// A change of a user's presence.
///
/// Exhaustive: `Update` stands for each change that a later version may add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceKind {
    /// The user's first connection joined.
    Join,
    /// The user's last connection left.
    Leave,
    /// Any other change, also of a later version of the protocol.
    #[serde(other)]
    Update,
}

/// Several changes, each user at most once.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct PresenceDiff {
    /// The channel.
    pub channel: String,
    /// Number of present users after the changes.
    pub count: u64,
    /// Users who joined, with their current entries.
    pub joins: BTreeMap<String, PresenceEntry>,
    /// Users who left.
    pub leaves: Vec<String>,
    /// Users who changed, with their current entries.
    pub updates: BTreeMap<String, PresenceEntry>,
    /// Number of the last change that it includes.
    pub offset: u64,
}
