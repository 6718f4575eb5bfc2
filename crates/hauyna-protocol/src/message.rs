//! Messages, server → client. Each is described once for both encodings and appended to a buffer, so a
//! publication is encoded once for all its subscribers. Connections and channels call it.

use crate::presence::{PresenceChange, PresenceDiff, PresencePage, PresenceState};
use crate::{ErrorType, Position, Raw, RecoveryFailure, RequestId};
use serde_json::Value;

/// A message of the protocol.
///
/// ```
/// use hauyna_protocol::{Encoding, Message, Publication, Raw};
/// let mut out = Vec::new();
/// Message::Publication(Publication {
///     channel: "general",
///     user: Some("alice"),
///     content: Raw::assume_valid(Encoding::Json, b"\"hi\""),
///     timestamp: 1_700_000_000_000,
///     offset: Some(1),
/// })
/// .encode(Encoding::Json, &mut out);
/// let text = br#"{"type":"message","channel":"general","user":"alice","content":"hi","timestamp":1700000000000,"offset":1}"#;
/// assert_eq!(out, text);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Message<'a> {
    /// `session`: the first message to a client that negotiated a sub-protocol.
    Session(Session<'a>),
    /// `ack`: a request succeeded.
    Ack {
        /// The `id` of the request.
        id: &'a RequestId,
        /// Result of the request.
        data: Option<AckData<'a>>,
    },
    /// `pong`: answers `ping`.
    Pong {
        /// The `id` of the request.
        id: Option<&'a RequestId>,
    },
    /// `error`: a request was refused, or something failed.
    Error(ErrorMessage<'a>),
    /// `message`: a publication.
    Publication(Publication<'a>),
    /// `private`: a message to one user.
    Private(Direct<'a>),
    /// `group`: a message to every member of a group.
    Group {
        /// The group.
        room: &'a str,
        /// The message and its sender.
        direct: Direct<'a>,
    },
    /// `broadcast`: a message to all connections.
    Broadcast(Direct<'a>),
    /// `channel_event`: somebody subscribed or unsubscribed.
    ChannelEvent(ChannelEventMessage<'a>),
    /// `client_event`: an event that another subscriber sent, outside the publications.
    ClientEvent(ClientEvent<'a>),
    /// `presence_state`: all users who are present in a channel.
    PresenceState(PresenceState<'a>),
    /// `presence_change`: a user joined, left or changed.
    PresenceChange(PresenceChange<'a>),
    /// `presence_diff`: several changes at once.
    PresenceDiff(PresenceDiff<'a>),
    /// `occupancy`: the number of present users, if there are too many to list them.
    Occupancy {
        /// The channel.
        channel: &'a str,
        /// Number of users.
        count: u64,
    },
    /// `subscribed`: the application has subscribed this connection, or the channel's epoch has changed under
    /// a live subscription.
    Subscribed(Subscribed<'a>),
    /// `unsubscribed`: the application has ended a subscription of this connection.
    Unsubscribed {
        /// The channel.
        channel: &'a str,
    },
    /// `gap`: the slow-consumer policy dropped messages.
    Gap {
        /// The channel.
        channel: &'a str,
        /// Position before the first missing publication, to recover from. Its epoch is
        /// [`Epoch::UNKNOWN`](crate::Epoch) in a channel without history. `None` if only messages without an
        /// offset were dropped.
        position: Option<Position>,
        /// Number of dropped publications; in a channel without history, number of dropped messages.
        missed: u64,
    },
    /// `request`: a client request, which the server sends to this client.
    Request {
        /// The `id` that the client's `ack` repeats.
        id: &'a RequestId,
        /// Name of the request.
        event: &'a str,
        /// Data of the request.
        data: Raw<'a>,
    },
    /// `retry_policy`: how the client reconnects from now on.
    RetryPolicy(RetryTerms),
    /// `connection_state`: the server changed the state of this connection.
    ConnectionState {
        /// The authenticated user.
        user: &'a str,
        /// The new state.
        state: &'a str,
        /// Time in ms since the Unix epoch.
        timestamp: u64,
    },
    /// `reconnect`: the node closes this connection between `min` and `max` milliseconds from now.
    Reconnect {
        /// Earliest moment, in ms.
        min: u64,
        /// Latest moment, in ms.
        max: u64,
        /// Reason, for people.
        reason: &'a str,
    },
}

/// What a client needs to know about its connection.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// Id of this connection.
    pub connection_id: &'a str,
    /// The authenticated user.
    pub user: &'a str,
    /// Whether it resumes the session of a lost connection.
    pub resumed: bool,
    /// How to resume this session; `None` if sessions are not kept.
    pub resume: Option<ResumeTerms<'a>>,
    /// Heartbeat of the server.
    pub heartbeat: Option<HeartbeatTerms>,
    /// Retry policy after a loss.
    pub retry: Option<RetryTerms>,
    /// Subscriptions of a resumed session, each with the result of its recovery.
    pub subscriptions: &'a [Subscribed<'a>],
    /// Subscriptions of a resumed session that could not continue and have ended.
    pub failed: &'a [FailedSubscription<'a>],
    /// Expiry of the credentials, in ms since the Unix epoch.
    pub expires_at: Option<u64>,
    /// Time until the credentials expire, in ms, for clients whose clock may be wrong.
    pub expires_in: Option<u64>,
    /// Limits of what the server accepts from this client.
    pub limits: Option<SessionLimits>,
}

/// Limits of what a server accepts from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[non_exhaustive]
pub struct SessionLimits {
    /// Maximum bytes of an encoded message.
    pub max_message: u64,
}

impl SessionLimits {
    /// Creates limits with this maximum message size, in bytes.
    #[must_use]
    pub const fn new(max_message: u64) -> Self {
        Self { max_message }
    }
}

/// Terms on which a session can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeTerms<'a> {
    /// Token for the next connection. It can be used once.
    pub token: &'a str,
    /// How long after the loss the token is valid, in ms.
    pub window: u64,
}

/// Heartbeat of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct HeartbeatTerms {
    /// Time between two pings of the server, in ms.
    pub interval: u64,
    /// Silence after which either side considers the connection lost, in ms.
    pub timeout: u64,
}

/// The retry policy for a client.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
pub struct RetryTerms {
    /// Maximum number of attempts; `None` for no maximum.
    pub max_attempts: Option<u32>,
    /// First delay, in ms.
    pub base_delay: u64,
    /// Maximum delay, in ms.
    pub max_delay: u64,
    /// Factor between one delay and the next.
    pub backoff_multiplier: f64,
    /// Random share of a delay, 0…1.
    pub jitter: f64,
}

/// Data of an `ack`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum AckData<'a> {
    /// Answer of a handler, as raw bytes.
    Raw(Raw<'a>),
    /// Answer of a handler, as a tree.
    Value(&'a Value),
    /// Answer to `subscribe_channel`.
    Subscribed(Subscribed<'a>),
    /// Answer to `channel_message`, `private`, `group` and `broadcast`, if the channel numbers its
    /// publications.
    Published(Position),
    /// Answer to `presence`.
    Presence(PresencePage<'a>),
    /// Answer to `history`.
    History {
        /// The channel.
        channel: &'a str,
        /// Position of the end of the stream.
        position: Position,
        /// Offset of the oldest kept publication, or the offset after the end if none is kept.
        oldest: u64,
        /// Publications, each already encoded in the encoding of this message.
        messages: &'a [&'a [u8]],
    },
}

/// The state of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Position where the subscription starts; `None` if the channel does not number its publications.
    pub position: Option<Position>,
    /// Whether clients can recover from the channel's history.
    pub recoverable: bool,
    /// Result of `recover`.
    pub recovery: Recovery,
    /// Client events that the client may send here, each with its maximum per second.
    pub client_events: &'a [(Box<str>, u32)],
}

/// A subscription of a resumed session that could not continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedSubscription<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Reason; it also decides `temporary`.
    pub error: ErrorType,
    /// Text for people.
    pub message: &'a str,
}

/// Result of a recovery.
///
/// Exhaustive: every reason of a failure is a [`RecoveryFailure`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// The client did not ask for a recovery.
    #[default]
    NotAsked,
    /// All missed publications follow.
    Recovered,
    /// The client has to reload its state.
    Failed(RecoveryFailure),
}

/// A refusal or a failure.
#[derive(Clone, Copy, Debug)]
pub struct ErrorMessage<'a> {
    /// Kind of the error; it also decides `temporary`.
    pub error: ErrorType,
    /// Text for people.
    pub message: &'a str,
    /// Time in ms since the Unix epoch.
    pub timestamp: u64,
    /// The `id` of the request.
    pub id: Option<&'a RequestId>,
    /// Details for programs.
    pub details: Option<&'a Value>,
}

/// One publication in a channel.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The channel.
    pub channel: &'a str,
    /// User who published; `None` for the application.
    pub user: Option<&'a str>,
    /// Content of the publication.
    pub content: Raw<'a>,
    /// Time in ms since the Unix epoch.
    pub timestamp: u64,
    /// Number in the channel's stream, if the channel keeps a history.
    pub offset: Option<u64>,
}

/// A message outside the application's channels: to a user, a group or everybody.
#[derive(Clone, Copy, Debug)]
pub struct Direct<'a> {
    /// User who sent it; `None` for the application.
    pub from: Option<&'a str>,
    /// The message itself.
    pub message: Raw<'a>,
    /// Time in ms since the Unix epoch.
    pub timestamp: u64,
    /// Number in the stream, if it has one.
    pub offset: Option<u64>,
}

/// The announcement of a subscription.
#[derive(Clone, Copy, Debug)]
pub struct ChannelEventMessage<'a> {
    /// What happened.
    pub event: ChannelEvent,
    /// The channel.
    pub channel: &'a str,
    /// User of the subscription.
    pub user: &'a str,
    /// Metadata of the subscription.
    pub metadata: Option<Raw<'a>>,
}

/// An event from one subscriber to the others. It has no number, and no history keeps it.
#[derive(Clone, Copy, Debug)]
pub struct ClientEvent<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Name of the event.
    pub event: &'a str,
    /// User who sent it.
    pub user: &'a str,
    /// Data of the event, if it has any.
    pub data: Option<Raw<'a>>,
}

/// What happened to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// A user subscribed.
    SubscriptionAdded,
    /// A user unsubscribed or disconnected.
    SubscriptionRemoved,
    /// A user resumed a lost session; its loss was not announced.
    SubscriptionReconnected,
}

impl ChannelEvent {
    /// Returns the name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SubscriptionAdded => "subscription_added",
            Self::SubscriptionRemoved => "subscription_removed",
            Self::SubscriptionReconnected => "subscription_reconnected",
        }
    }
}
