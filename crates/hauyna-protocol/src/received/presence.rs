//! Who is there, as a client reads it: a channel's list, its changes, a page of it.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// One user who is present in a channel.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct PresenceEntry {
    /// `online`, `away`, `offline`, or a word of the application's.
    pub status: String,
    /// What the user has told about themselves, an object.
    pub metadata: Box<RawValue>,
    /// When the user came, in ms since the Unix epoch.
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
    /// The connection.
    pub connection_id: String,
    /// What this connection gave along, an object.
    pub metadata: Box<RawValue>,
    /// When it came, in ms since the Unix epoch.
    pub joined_at: u64,
}

/// Everybody who is there.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct PresenceState {
    /// The channel.
    pub channel: String,
    /// How many users are there.
    pub count: u64,
    /// The users.
    pub users: BTreeMap<String, PresenceEntry>,
    /// The number of the last change that it includes.
    pub offset: u64,
}

/// The data of an `ack` of `presence`: some of those who are there.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct PresencePage {
    /// The channel.
    pub channel: String,
    /// How many users are there.
    pub count: u64,
    /// The users of this page.
    pub users: BTreeMap<String, PresenceEntry>,
    /// The number of the last change that it includes.
    pub offset: u64,
    /// Where to ask on, when there are more.
    pub next: Option<String>,
}

/// One change.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct PresenceChange {
    /// What happened.
    pub event: PresenceKind,
    /// To whom.
    pub user: String,
    /// Where.
    pub channel: String,
    /// What the user has told about themselves, an object.
    pub metadata: Box<RawValue>,
    /// The user's status.
    pub status: String,
    /// How many connections of the user are there now.
    pub connections: u64,
    /// The connection that came, or whose metadata changed, as it is now.
    pub connection: Option<PresenceConnection>,
    /// In ms since the Unix epoch.
    pub timestamp: u64,
    /// The number of the change in this channel.
    pub offset: u64,
}

/// What happened to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceKind {
    /// The first connection came.
    Join,
    /// The last connection went.
    Leave,
    /// Anything else: also what a later version of the protocol tells.
    #[serde(other)]
    Update,
}

/// The changes of a while, each user at most once.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct PresenceDiff {
    /// The channel.
    pub channel: String,
    /// How many users are there now.
    pub count: u64,
    /// Who came, as they are now.
    pub joins: BTreeMap<String, PresenceEntry>,
    /// Who went.
    pub leaves: Vec<String>,
    /// Who changed, as they are now.
    pub updates: BTreeMap<String, PresenceEntry>,
    /// The number of the last change that it includes.
    pub offset: u64,
}
