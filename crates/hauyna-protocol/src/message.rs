//! Messages, server → client. Each is described once for both encodings and appended to a buffer, so that a
//! publication is encoded once however many subscribers it has. Connections and channels call it.

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
        /// What it gave.
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
    /// `private`: from a user to this one.
    Private(Direct<'a>),
    /// `group`: to every member of a group.
    Group {
        /// The group.
        room: &'a str,
        /// What was sent, and by whom.
        direct: Direct<'a>,
    },
    /// `broadcast`: to everybody.
    Broadcast(Direct<'a>),
    /// `channel_event`: somebody subscribed or unsubscribed.
    ChannelEvent(ChannelEventMessage<'a>),
    /// `client_event`: what another subscriber sent beside the publications.
    ClientEvent(ClientEvent<'a>),
    /// `presence_state`: everybody who is present in a channel.
    PresenceState(PresenceState<'a>),
    /// `presence_change`: somebody came, went or changed.
    PresenceChange(PresenceChange<'a>),
    /// `presence_diff`: the changes of a while.
    PresenceDiff(PresenceDiff<'a>),
    /// `occupancy`: how many users are present, where there are too many to name them.
    Occupancy {
        /// The channel.
        channel: &'a str,
        /// How many.
        count: u64,
    },
    /// `subscribed`: the application has subscribed this connection, or the channel's epoch has changed under a live
    /// subscription.
    Subscribed(Subscribed<'a>),
    /// `unsubscribed`: the application has ended a subscription of this connection.
    Unsubscribed {
        /// The channel.
        channel: &'a str,
    },
    /// `gap`: the slow-consumer policy dropped messages here.
    Gap {
        /// The channel.
        channel: &'a str,
        /// The position before the first missing publication, to recover from; of [`Epoch::UNKNOWN`](crate::Epoch)
        /// in a channel without history, `None` where only messages without an offset were dropped.
        position: Option<Position>,
        /// How many publications were dropped; in a channel without history, how many messages.
        missed: u64,
    },
    /// `request`: the server asks this client.
    Request {
        /// The `id` the client's `ack` repeats.
        id: &'a RequestId,
        /// What kind of question it is.
        event: &'a str,
        /// The question.
        data: Raw<'a>,
    },
    /// `retry_policy`: from now on the client comes back like this.
    RetryPolicy(RetryTerms),
    /// `connection_state`: the server changed the state of this connection.
    ConnectionState {
        /// Who the client is taken for.
        user: &'a str,
        /// The new state.
        state: &'a str,
        /// In ms since the Unix epoch.
        timestamp: u64,
    },
    /// `reconnect`: the node goes away between `min` and `max` milliseconds from now.
    Reconnect {
        /// The earliest moment, in ms.
        min: u64,
        /// The latest moment, in ms.
        max: u64,
        /// Why, for people.
        reason: &'a str,
    },
}

/// What a client has to know about its connection.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// This connection.
    pub connection_id: &'a str,
    /// Who the client is taken for.
    pub user: &'a str,
    /// Whether it goes on where a lost connection ended.
    pub resumed: bool,
    /// How to go on where this one ends; `None` where sessions are not kept.
    pub resume: Option<ResumeTerms<'a>>,
    /// How often something is heard.
    pub heartbeat: Option<HeartbeatTerms>,
    /// How to come back after a loss.
    pub retry: Option<RetryTerms>,
    /// Of a resumed session: its subscriptions, and what became of each.
    pub subscriptions: &'a [Subscribed<'a>],
    /// Of a resumed session: the subscriptions that could not go on, and have ended.
    pub failed: &'a [FailedSubscription<'a>],
    /// When the credentials expire, in ms since the Unix epoch.
    pub expires_at: Option<u64>,
    /// How long the credentials still live, in ms: what a client counts, whose clock may be wrong.
    pub expires_in: Option<u64>,
    /// What the server takes from this client.
    pub limits: Option<SessionLimits>,
}

/// What a server takes from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[non_exhaustive]
pub struct SessionLimits {
    /// Bytes of the largest message, as it is encoded.
    pub max_message: u64,
}

impl SessionLimits {
    /// Limits with this size of the largest message, in bytes.
    #[must_use]
    pub const fn new(max_message: u64) -> Self {
        Self { max_message }
    }
}

/// How a lost connection's session is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeTerms<'a> {
    /// What the next connection has to show. Serves once.
    pub token: &'a str,
    /// How long after the loss it serves, in ms.
    pub window: u64,
}

/// The heartbeat a server keeps, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct HeartbeatTerms {
    /// Time between two pings of the server.
    pub interval: u64,
    /// Silence after which either side takes the connection for lost.
    pub timeout: u64,
}

/// The retry policy a client is asked to keep.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
pub struct RetryTerms {
    /// Attempts before giving up; `None` never gives up.
    pub max_attempts: Option<u32>,
    /// The first delay, in ms.
    pub base_delay: u64,
    /// The longest delay, in ms.
    pub max_delay: u64,
    /// The factor between one delay and the next.
    pub backoff_multiplier: f64,
    /// The part of a delay, 0…1, that is random.
    pub jitter: f64,
}

/// What an `ack` carries.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum AckData<'a> {
    /// The answer of a handler, as it is.
    Raw(Raw<'a>),
    /// The answer of a handler, as a tree.
    Value(&'a Value),
    /// Of `subscribe_channel`.
    Subscribed(Subscribed<'a>),
    /// Of `channel_message`, `private`, `group` and `broadcast`, where the channel numbers its publications.
    Published(Position),
    /// Of `presence`.
    Presence(PresencePage<'a>),
    /// Of `history`.
    History {
        /// The channel.
        channel: &'a str,
        /// The end of the stream.
        position: Position,
        /// The offset of the oldest publication that is kept, or the one after the end where none is.
        oldest: u64,
        /// The publications, each encoded before, in the encoding of this message.
        messages: &'a [&'a [u8]],
    },
}

/// The state of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Where the subscription starts; `None` where the channel does not number its publications.
    pub position: Option<Position>,
    /// Whether the channel keeps a history to recover from.
    pub recoverable: bool,
    /// What became of `recover`.
    pub recovery: Recovery,
    /// Which client events the client may send here, each with how many a second.
    pub client_events: &'a [(Box<str>, u32)],
}

/// A subscription of a resumed session that could not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedSubscription<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Why; it also decides `temporary`.
    pub error: ErrorType,
    /// For people.
    pub message: &'a str,
}

/// What became of a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// None was asked for.
    #[default]
    NotAsked,
    /// Everything missed follows.
    Recovered,
    /// The client has to load its state anew.
    Failed(RecoveryFailure),
}

/// A refusal, or a failure.
#[derive(Clone, Copy, Debug)]
pub struct ErrorMessage<'a> {
    /// The kind; it also decides `temporary`.
    pub error: ErrorType,
    /// For people.
    pub message: &'a str,
    /// In ms since the Unix epoch.
    pub timestamp: u64,
    /// The `id` of the request.
    pub id: Option<&'a RequestId>,
    /// For programs.
    pub details: Option<&'a Value>,
}

/// One publication in a channel.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Who published; `None` when the application did.
    pub user: Option<&'a str>,
    /// What was published.
    pub content: Raw<'a>,
    /// In ms since the Unix epoch.
    pub timestamp: u64,
    /// The number in the channel's stream, where it keeps one.
    pub offset: Option<u64>,
}

/// A message that does not go through a channel of the application's.
#[derive(Clone, Copy, Debug)]
pub struct Direct<'a> {
    /// Who sent it; `None` when the application did.
    pub from: Option<&'a str>,
    /// What was sent.
    pub message: Raw<'a>,
    /// In ms since the Unix epoch.
    pub timestamp: u64,
    /// The number in the stream, where there is one.
    pub offset: Option<u64>,
}

/// The announcement of a subscriber.
#[derive(Clone, Copy, Debug)]
pub struct ChannelEventMessage<'a> {
    /// What happened.
    pub event: ChannelEvent,
    /// The channel.
    pub channel: &'a str,
    /// Whose subscription it is.
    pub user: &'a str,
    /// The subscription's metadata.
    pub metadata: Option<Raw<'a>>,
}

/// What a subscriber sent to the others: it has no number, and no history keeps it.
#[derive(Clone, Copy, Debug)]
pub struct ClientEvent<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Which kind of event it is.
    pub event: &'a str,
    /// Who sent it.
    pub user: &'a str,
    /// What goes with it, where something does.
    pub data: Option<Raw<'a>>,
}

/// What can happen to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// Somebody subscribed.
    SubscriptionAdded,
    /// Somebody unsubscribed, or went.
    SubscriptionRemoved,
    /// Somebody who was lost is back with their session; nobody was told that they had gone.
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
