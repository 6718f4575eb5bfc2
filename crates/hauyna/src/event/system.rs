//! System events: what the hub reports to its listeners. Each module emits its own events with `emit!`, and
//! `queue` delivers them.

use crate::close::CloseReason;
use crate::connection::Connection;
use crate::state::ConnectionState;
use hauyna_broker::{ChannelName, UserId};
use hauyna_protocol::ErrorType;

/// Something that happened in the hub, reported to the listeners of
/// [`Events::on_system`](super::Events::on_system). For each connection, [`Opened`](SystemEvent::Opened) is
/// the first event and [`Closed`](SystemEvent::Closed) the last. A pattern of an event ends with `..`: later
/// versions may say more about it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SystemEvent {
    /// A connection was opened.
    #[non_exhaustive]
    Opened {
        /// The connection.
        connection: Connection,
    },
    /// A connection was closed; it has left its channels.
    #[non_exhaustive]
    Closed {
        /// The connection; nothing can be sent to it any more.
        connection: Connection,
        /// The reason why it was closed.
        reason: CloseReason,
    },
    /// A client has reconnected and resumed its session.
    #[non_exhaustive]
    Resumed {
        /// The client's new connection.
        connection: Connection,
        /// The connection that was lost.
        old: Connection,
    },
    /// A connection subscribed to a channel.
    #[non_exhaustive]
    Subscribed {
        /// The connection.
        connection: Connection,
        /// The channel.
        channel: ChannelName,
    },
    /// A connection has left a channel: the client or the application unsubscribed it, or it was closed.
    #[non_exhaustive]
    Unsubscribed {
        /// The connection.
        connection: Connection,
        /// The channel.
        channel: ChannelName,
    },
    /// A user's presence changed.
    #[non_exhaustive]
    PresenceChanged {
        /// The user.
        user: UserId,
        /// The channel; `None` for the presence over the whole hub.
        channel: Option<ChannelName>,
        /// The change.
        change: PresenceChange,
    },
    /// The first connection of a user was opened.
    #[non_exhaustive]
    UserOnline {
        /// The user.
        user: UserId,
    },
    /// The last connection of a user is gone.
    #[non_exhaustive]
    UserOffline {
        /// The user.
        user: UserId,
    },
    /// The state of a connection changed.
    #[non_exhaustive]
    StateChanged {
        /// The connection.
        connection: Connection,
        /// The state before.
        old: ConnectionState,
        /// The new state; it may have changed again since.
        new: ConnectionState,
    },
    /// The members of a group changed, or the role of a member.
    #[non_exhaustive]
    GroupChanged {
        /// The user.
        user: UserId,
        /// The group.
        group: String,
        /// The change.
        change: GroupChange,
    },
    /// A connection is closed because it did not read fast enough, or read nothing for too long.
    #[non_exhaustive]
    SlowConsumer {
        /// The connection.
        connection: Connection,
    },
    /// A channel's policy has started to drop messages for a slow consumer. There is one event for each `gap`
    /// that the connection is going to get, at the start of the gap.
    #[non_exhaustive]
    MessagesDropped {
        /// The connection.
        connection: Connection,
        /// The channel.
        channel: ChannelName,
    },
    /// Something failed that is not the fault of a client: a callback returned an error, panicked or timed
    /// out, or the broker cannot be reached.
    #[non_exhaustive]
    Errored {
        /// The connection for which it failed, if any.
        connection: Option<Connection>,
        /// The error type that a client gets.
        error_type: ErrorType,
        /// The text for the log, which says more than the text for clients.
        message: String,
    },
    /// The broker can be reached again.
    BrokerUp,
    /// The broker cannot be reached. The hub checks about once a second.
    BrokerDown,
}

/// How a user's presence changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PresenceChange {
    /// The user was not present before.
    Join,
    /// The user is not present any more.
    Leave,
    /// The metadata or the status changed.
    Update,
}

/// How a group changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupChange {
    /// The user became a member, with this role or with the default one.
    Added(Option<String>),
    /// The user is not a member any more.
    Removed,
    /// A member got this role instead of the one before.
    RoleChanged(String),
}

/// The kinds of [`SystemEvent`], by which listeners select events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the variant of SystemEvent with its name")]
pub enum SystemKind {
    Opened,
    Closed,
    Resumed,
    Subscribed,
    Unsubscribed,
    PresenceChanged,
    UserOnline,
    UserOffline,
    StateChanged,
    GroupChanged,
    SlowConsumer,
    MessagesDropped,
    Errored,
    BrokerUp,
    BrokerDown,
}

impl SystemEvent {
    /// Returns the kind of the event.
    pub fn kind(&self) -> SystemKind {
        match self {
            Self::Opened { .. } => SystemKind::Opened,
            Self::Closed { .. } => SystemKind::Closed,
            Self::Resumed { .. } => SystemKind::Resumed,
            Self::Subscribed { .. } => SystemKind::Subscribed,
            Self::Unsubscribed { .. } => SystemKind::Unsubscribed,
            Self::PresenceChanged { .. } => SystemKind::PresenceChanged,
            Self::UserOnline { .. } => SystemKind::UserOnline,
            Self::UserOffline { .. } => SystemKind::UserOffline,
            Self::StateChanged { .. } => SystemKind::StateChanged,
            Self::GroupChanged { .. } => SystemKind::GroupChanged,
            Self::SlowConsumer { .. } => SystemKind::SlowConsumer,
            Self::MessagesDropped { .. } => SystemKind::MessagesDropped,
            Self::Errored { .. } => SystemKind::Errored,
            Self::BrokerUp => SystemKind::BrokerUp,
            Self::BrokerDown => SystemKind::BrokerDown,
        }
    }

    /// Returns the connection that the event is about, if any.
    pub fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Opened { connection }
            | Self::Closed { connection, .. }
            | Self::Resumed { connection, .. }
            | Self::Subscribed { connection, .. }
            | Self::Unsubscribed { connection, .. }
            | Self::StateChanged { connection, .. }
            | Self::SlowConsumer { connection }
            | Self::MessagesDropped { connection, .. } => Some(connection),
            Self::Errored { connection, .. } => connection.as_ref(),
            _ => None,
        }
    }
}

impl SystemKind {
    /// Returns all kinds, including those that later versions add.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(kind, _)| *kind)
    }

    /// Returns the name, as in [`Event::name`](super::Event::name) and in logs: `user_online`.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    pub(super) fn bit(self) -> u32 {
        1 << self as u32
    }
}

const NAMES: [(SystemKind, &str); 15] = [
    (SystemKind::Opened, "opened"),
    (SystemKind::Closed, "closed"),
    (SystemKind::Resumed, "resumed"),
    (SystemKind::Subscribed, "subscribed"),
    (SystemKind::Unsubscribed, "unsubscribed"),
    (SystemKind::PresenceChanged, "presence_changed"),
    (SystemKind::UserOnline, "user_online"),
    (SystemKind::UserOffline, "user_offline"),
    (SystemKind::StateChanged, "state_changed"),
    (SystemKind::GroupChanged, "group_changed"),
    (SystemKind::SlowConsumer, "slow_consumer"),
    (SystemKind::MessagesDropped, "messages_dropped"),
    (SystemKind::Errored, "errored"),
    (SystemKind::BrokerUp, "broker_up"),
    (SystemKind::BrokerDown, "broker_down"),
];
