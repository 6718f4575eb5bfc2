//! Fields and layout of the presence messages: a channel's state, one change, several changes, a page. The
//! hub's presence builds them; `Message::encode` writes them.

use crate::{Raw, write::Writer};

/// One user who is present in a channel, as others see them.
#[derive(Clone, Copy, Debug)]
pub struct PresenceEntry<'a> {
    /// Status: `online`, `away`, `offline`, or one of the application.
    pub status: &'a str,
    /// Metadata of the user, an object.
    pub metadata: Raw<'a>,
    /// When the user joined, in ms since the Unix epoch.
    pub joined_at: u64,
    /// When the metadata last changed, in ms since the Unix epoch.
    pub updated_at: u64,
    /// The user's connections in the channel.
    pub connections: &'a [PresenceConnection<'a>],
}

/// One connection of a user who is present.
#[derive(Clone, Copy, Debug)]
pub struct PresenceConnection<'a> {
    /// Id of the connection.
    pub connection_id: &'a str,
    /// Metadata of this connection, an object.
    pub metadata: Option<Raw<'a>>,
    /// When it joined, in ms since the Unix epoch.
    pub joined_at: u64,
}

/// `presence_state`: all present users.
#[derive(Clone, Copy, Debug)]
pub struct PresenceState<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Number of present users.
    pub count: u64,
    /// The users.
    pub users: &'a [(&'a str, PresenceEntry<'a>)],
    /// Number of the last change that it includes.
    pub offset: u64,
}

/// The data of an `ack` of `presence`: a page of the present users.
#[derive(Clone, Copy, Debug)]
pub struct PresencePage<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Number of present users.
    pub count: u64,
    /// The users of this page.
    pub users: &'a [(&'a str, PresenceEntry<'a>)],
    /// Number of the last change that it includes.
    pub offset: u64,
    /// Start of the next page, if there is one.
    pub next: Option<&'a str>,
}

/// `presence_change`: one change.
#[derive(Clone, Copy, Debug)]
pub struct PresenceChange<'a> {
    /// What happened.
    pub event: PresenceEvent,
    /// The user.
    pub user: &'a str,
    /// The channel.
    pub channel: &'a str,
    /// Metadata of the user, an object.
    pub metadata: Raw<'a>,
    /// The user's status.
    pub status: &'a str,
    /// Number of the user's connections after the change.
    pub connections: u64,
    /// The connection that joined, or whose metadata changed, after the change.
    pub connection: Option<PresenceConnection<'a>>,
    /// Time in ms since the Unix epoch.
    pub timestamp: u64,
    /// Number of the change in this channel.
    pub offset: u64,
}

/// A change of a user's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PresenceEvent {
    /// The user's first connection joined.
    Join,
    /// The user's last connection left.
    Leave,
    /// The user's status, metadata or connections changed.
    Update,
}

impl PresenceEvent {
    /// Returns the name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Update => "update",
        }
    }
}

/// `presence_diff`: several changes, each user at most once.
#[derive(Clone, Copy, Debug)]
pub struct PresenceDiff<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Number of present users after the changes.
    pub count: u64,
    /// Users who joined, with their current entries.
    pub joins: &'a [(&'a str, PresenceEntry<'a>)],
    /// Users who left.
    pub leaves: &'a [&'a str],
    /// Users who changed, with their current entries.
    pub updates: &'a [(&'a str, PresenceEntry<'a>)],
    /// Number of the last change that it includes.
    pub offset: u64,
}

type Users<'a> = [(&'a str, PresenceEntry<'a>)];

pub(crate) fn write_state<W: Writer>(w: &mut W, state: &PresenceState<'_>) {
    w.text_field("type", "presence_state");
    w.text_field("channel", state.channel);
    w.unsigned_field("count", state.count);
    write_users(w, "users", state.users);
    w.unsigned_field("offset", state.offset);
}

pub(crate) fn write_page<W: Writer>(w: &mut W, page: &PresencePage<'_>) {
    w.text_field("channel", page.channel);
    w.unsigned_field("count", page.count);
    write_users(w, "users", page.users);
    w.unsigned_field("offset", page.offset);
    if let Some(next) = page.next {
        w.text_field("next", next);
    }
}

pub(crate) fn write_change<W: Writer>(w: &mut W, change: &PresenceChange<'_>) {
    w.text_field("type", "presence_change");
    w.text_field("event", change.event.as_str());
    w.text_field("user", change.user);
    w.text_field("channel", change.channel);
    w.raw_field("metadata", change.metadata);
    w.text_field("status", change.status);
    w.unsigned_field("connections", change.connections);
    if let Some(connection) = &change.connection {
        w.name("connection");
        write_connection(w, connection);
    }
    w.unsigned_field("timestamp", change.timestamp);
    w.unsigned_field("offset", change.offset);
}

pub(crate) fn write_diff<W: Writer>(w: &mut W, diff: &PresenceDiff<'_>) {
    w.text_field("type", "presence_diff");
    w.text_field("channel", diff.channel);
    w.unsigned_field("count", diff.count);
    write_users(w, "joins", diff.joins);
    w.name("leaves");
    w.array(diff.leaves, |w, user| w.text(user));
    write_users(w, "updates", diff.updates);
    w.unsigned_field("offset", diff.offset);
}

fn write_users<W: Writer>(w: &mut W, name: &'static str, users: &Users<'_>) {
    w.name(name);
    w.map(users, |w, entry| w.object(|w| write_entry(w, entry)));
}

fn write_entry<W: Writer>(w: &mut W, entry: &PresenceEntry<'_>) {
    w.text_field("status", entry.status);
    w.raw_field("metadata", entry.metadata);
    w.unsigned_field("joined_at", entry.joined_at);
    w.unsigned_field("updated_at", entry.updated_at);
    w.name("connections");
    w.array(entry.connections, write_connection);
}

fn write_connection<W: Writer>(w: &mut W, connection: &PresenceConnection<'_>) {
    w.object(|w| {
        w.text_field("connection_id", connection.connection_id);
        w.raw_field("metadata", connection.metadata.unwrap_or(Raw::EMPTY_OBJECT));
        w.unsigned_field("joined_at", connection.joined_at);
    });
}
