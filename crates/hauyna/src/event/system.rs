//! What the hub tells its listeners. Each part of the hub emits its own; `queue` brings them on their way.

use crate::channel::{ChannelName, UserId};
use crate::connection::{CloseReason, Connection, ConnectionState};
use hauyna_protocol::ErrorType;

/// Something that happened in the hub, told to the listeners of
/// [`Events::on_system`](super::Events::on_system). Of one connection, [`Opened`](SystemEvent::Opened) is told
/// first and [`Closed`](SystemEvent::Closed) last.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SystemEvent {
    /// A connection is there.
    Opened {
        /// The connection.
        connection: Connection,
    },
    /// A connection is gone; it has left its channels.
    Closed {
        /// The connection; nothing can be sent to it any more.
        connection: Connection,
        /// Why it ended.
        reason: CloseReason,
    },
    /// A client that was lost is back, and goes on with its session.
    Resumed {
        /// The connection that it has now.
        connection: Connection,
        /// The one that was lost.
        old: Connection,
    },
    /// A connection subscribed to a channel.
    Subscribed {
        /// The connection.
        connection: Connection,
        /// The channel.
        channel: ChannelName,
    },
    /// A connection is out of a channel, by its own wish, another's, or because it closed.
    Unsubscribed {
        /// The connection.
        connection: Connection,
        /// The channel.
        channel: ChannelName,
    },
    /// A user's presence changed.
    PresenceChanged {
        /// The user.
        user: UserId,
        /// Where; without one, over the whole hub.
        channel: Option<ChannelName>,
        /// How.
        change: PresenceChange,
    },
    /// The first connection of a user is there.
    UserOnline {
        /// The user.
        user: UserId,
    },
    /// The last connection of a user is gone.
    UserOffline {
        /// The user.
        user: UserId,
    },
    /// The state of a connection changed.
    StateChanged {
        /// The connection.
        connection: Connection,
        /// What it was.
        old: ConnectionState,
        /// What it became; it may have changed again since.
        new: ConnectionState,
    },
    /// Who is in a group changed, or with which role.
    GroupChanged {
        /// The user.
        user: UserId,
        /// The group.
        group: String,
        /// How.
        change: GroupChange,
    },
    /// A connection is closed because it did not read fast enough, or took nothing for too long.
    SlowConsumer {
        /// The connection.
        connection: Connection,
    },
    /// A channel's policy has begun to drop what a connection that lags would have got. Told once for each `gap`
    /// that the connection will be told of, when it begins.
    MessagesDropped {
        /// The connection.
        connection: Connection,
        /// The channel.
        channel: ChannelName,
    },
    /// Something failed that is not the fault of a client: a callback with an error of its own, a panic, a
    /// time-out, a broker that cannot be reached.
    Errored {
        /// The connection it failed for, if there is one.
        connection: Option<Connection>,
        /// What a client is told it was.
        error_type: ErrorType,
        /// The text for the log, with more than a client is told.
        message: String,
    },
    /// The broker can be reached again.
    BrokerUp,
    /// The broker cannot be reached. Looked at about once a second.
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
    /// Metadata or status changed.
    Update,
}

/// How a group changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupChange {
    /// The user is a member now, with this role or with the default one.
    Added(Option<String>),
    /// The user is no member any more.
    Removed,
    /// A member has another role.
    RoleChanged(String),
}

/// The kinds of [`SystemEvent`], to choose from.
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
    /// Which kind of event it is.
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

    /// The connection it is about, if there is one.
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
    /// All kinds, those of later versions included.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(kind, _)| *kind)
    }

    /// The name, as [`Event::name`](super::Event::name) has it and logs write it: `user_online`.
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
