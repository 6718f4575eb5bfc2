//! Messages, server → client, as a client reads them: owned, with payloads as raw JSON in either encoding.
//! Clients call `Received::decode` once per frame. An unknown message is an [`Application`] message, never an
//! error.

mod application;
mod place;
mod presence;

pub use application::Application;
pub use place::{Gap, History, Subscribed};
pub use presence::{
    PresenceChange, PresenceConnection, PresenceDiff, PresenceEntry, PresenceKind, PresencePage,
    PresenceState,
};

use crate::reserved::is_of_application;
use crate::{Encoding, Fault, HeartbeatTerms, Raw, RequestId, RetryTerms, SessionLimits};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A message of the server.
///
/// ```
/// use hauyna_protocol::{Encoding, received::Received};
/// let frame = br#"{"type":"message","channel":"general","content":"hi","timestamp":5,"offset":41}"#;
/// let Received::Publication(publication) = Received::decode(Encoding::Json, frame)? else { unreachable!() };
/// assert_eq!((publication.offset, publication.content.get()), (Some(41), "\"hi\""));
/// # Ok::<(), hauyna_protocol::Fault>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Received {
    /// `session`
    Session(Box<Session>),
    /// `ack`
    Ack(Ack),
    /// `pong`
    Pong {
        /// The `id` of the `ping`.
        id: Option<RequestId>,
    },
    /// `error`
    Error(Box<Refused>),
    /// `message`
    Publication(Publication),
    /// `private`
    Private(Direct),
    /// `group`
    Group(Direct),
    /// `broadcast`
    Broadcast(Direct),
    /// `channel_event`
    ChannelEvent(ChannelEvent),
    /// `client_event`
    ClientEvent(ClientEvent),
    /// `presence_state`
    PresenceState(PresenceState),
    /// `presence_change`
    PresenceChange(PresenceChange),
    /// `presence_diff`
    PresenceDiff(PresenceDiff),
    /// `occupancy`
    Occupancy {
        /// The channel.
        channel: String,
        /// Number of present users.
        count: u64,
    },
    /// `subscribed`: the application has subscribed this connection.
    Subscribed(Subscribed),
    /// `unsubscribed`: the application has ended a subscription of this connection.
    Unsubscribed {
        /// The channel.
        channel: String,
    },
    /// `gap`
    Gap(Gap),
    /// `request`: a request to this client.
    Question(Question),
    /// `retry_policy`
    RetryPolicy(RetryTerms),
    /// `reconnect`
    Reconnect(Drain),
    /// Any other message: one of the application, or of a later version of the protocol.
    Application(Application),
}

impl Received {
    /// Reads one message. MessagePack is read as the equivalent JSON. There is no limit of nesting: the
    /// application on the server may publish what clients may not, and a subscriber that failed on such a
    /// message could never continue.
    ///
    /// # Errors
    ///
    /// Returns a [`Fault`] if the frame is not an object with a `type`. A message with a type of the protocol
    /// but without its fields is an [`Application`] message, since an application may use that type, too.
    pub fn decode(encoding: Encoding, bytes: &[u8]) -> Result<Self, Fault> {
        let text = match encoding {
            Encoding::Json => Cow::Borrowed(
                simdutf8::basic::from_utf8(bytes)
                    .map_err(|_| Fault::parse("the message is not UTF-8", None))?,
            ),
            // Invalid bytes become `null`, which is no message.
            Encoding::MessagePack => Raw::assume_valid(encoding, bytes).as_json(),
        };
        Self::read(&text)
    }

    /// Reads one JSON message, such as those of a [`History`].
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`Received::decode`].
    pub fn read(text: &str) -> Result<Self, Fault> {
        let Head { kind, has_channel, has_timestamp } = parse(text)?;
        if !is_of_application(&kind, has_channel, has_timestamp)
            && let Ok(Some(message)) = Self::of_protocol(&kind, text)
        {
            return Ok(message);
        }
        Ok(Self::Application(Application::read(kind.into_owned(), text)?))
    }

    /// Reads a message of the protocol; `None` if its type is not one of the protocol.
    fn of_protocol(kind: &str, text: &str) -> Result<Option<Self>, Fault> {
        Ok(Some(match kind {
            "session" => Self::Session(parse(text)?),
            "ack" => Self::Ack(parse(text)?),
            "pong" => Self::Pong { id: parse::<MaybeId>(text)?.id },
            "error" => Self::Error(parse(text)?),
            "message" => Self::Publication(parse(text)?),
            "private" => Self::Private(parse(text)?),
            "group" => Self::Group(parse(text)?),
            "broadcast" => Self::Broadcast(parse(text)?),
            "channel_event" => Self::ChannelEvent(parse(text)?),
            "client_event" => Self::ClientEvent(parse(text)?),
            "presence_state" => Self::PresenceState(parse(text)?),
            "presence_change" => Self::PresenceChange(parse(text)?),
            "presence_diff" => Self::PresenceDiff(parse(text)?),
            "occupancy" => {
                let Occupancy { channel, count } = parse(text)?;
                Self::Occupancy { channel, count }
            }
            "subscribed" => Self::Subscribed(parse(text)?),
            "unsubscribed" => Self::Unsubscribed { channel: parse::<InChannel>(text)?.channel },
            "gap" => Self::Gap(parse(text)?),
            "request" => Self::Question(parse(text)?),
            "retry_policy" => Self::RetryPolicy(parse(text)?),
            "reconnect" => Self::Reconnect(parse(text)?),
            _ => return Ok(None),
        }))
    }
}

/// What the client needs to know about its connection.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Session {
    /// Id of this connection.
    pub connection_id: String,
    /// The authenticated user.
    pub user: String,
    /// Whether it resumes the session of a lost connection.
    #[serde(default, deserialize_with = "or_default")]
    pub resumed: bool,
    /// How to resume this session; `None` if sessions are not kept.
    pub resume: Option<Resume>,
    /// Heartbeat of the server.
    pub heartbeat: Option<HeartbeatTerms>,
    /// Retry policy after a loss.
    pub retry: Option<RetryTerms>,
    /// Subscriptions of a resumed session, and those that the server made.
    #[serde(default, deserialize_with = "or_default")]
    pub subscriptions: Vec<Subscribed>,
    /// Subscriptions of a resumed session that could not continue and have ended.
    #[serde(default, deserialize_with = "or_default")]
    pub failed: Vec<FailedSubscription>,
    /// Expiry of the credentials, in ms since the Unix epoch.
    pub expires_at: Option<u64>,
    /// Time until the credentials expire, in ms.
    pub expires_in: Option<u64>,
    /// Limits of what the server accepts from this client.
    pub limits: Option<SessionLimits>,
}

/// A subscription of a resumed session that could not continue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct FailedSubscription {
    /// The channel.
    pub channel: String,
    /// Kind of the error, possibly of a later version; see [`ErrorType`](crate::ErrorType).
    pub error_type: String,
    /// Text for people.
    #[serde(default, deserialize_with = "or_default")]
    pub message: String,
    /// Whether a new subscription may succeed later.
    #[serde(default, deserialize_with = "or_default")]
    pub temporary: bool,
}

/// Terms on which a later connection can resume the session.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Resume {
    /// Token that can be used once.
    pub token: String,
    /// How long the session is kept after a loss, in ms.
    pub window: u64,
}

// The token is a secret.
impl std::fmt::Debug for Resume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resume").field("window", &self.window).finish_non_exhaustive()
    }
}

/// A request succeeded.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Ack {
    /// The `id` of the request.
    pub id: RequestId,
    /// Result of the request; `null` is a value.
    #[serde(default, deserialize_with = "present")]
    pub data: Option<Box<RawValue>>,
}

/// A request was refused, or something failed.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Refused {
    /// Kind of the error, possibly of a later version; see [`ErrorType`](crate::ErrorType).
    pub error_type: String,
    /// Text for people.
    #[serde(default, deserialize_with = "or_default")]
    pub message: String,
    /// The `id` of the request.
    pub id: Option<RequestId>,
    /// Whether the same request may succeed later.
    #[serde(default, deserialize_with = "or_default")]
    pub temporary: bool,
    /// Details for programs.
    pub details: Option<Box<RawValue>>,
}

/// One publication in a channel.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Publication {
    /// The channel.
    pub channel: String,
    /// User who published; `None` for the application.
    pub user: Option<String>,
    /// Content of the publication.
    pub content: Box<RawValue>,
    /// Time in ms since the Unix epoch.
    pub timestamp: u64,
    /// Number in the channel's stream, if the channel keeps a history.
    pub offset: Option<u64>,
}

/// A message outside the application's channels: to a user, a group or everybody.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Direct {
    /// User who sent it; `None` for the application.
    pub from: Option<String>,
    /// The group, of a `group` message.
    pub room: Option<String>,
    /// The message itself.
    pub message: Box<RawValue>,
    /// Time in ms since the Unix epoch.
    pub timestamp: u64,
    /// Number in the stream, if it has one.
    pub offset: Option<u64>,
}

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

/// A request of the server to this client.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Question {
    /// The `id` that the answer repeats.
    pub id: RequestId,
    /// Name of the request.
    pub event: String,
    /// Data of the request.
    pub data: Box<RawValue>,
}

/// The node closes this connection soon.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Drain {
    /// Earliest and latest moment of the close, in ms from now.
    pub after: (u64, u64),
    /// Reason, for people.
    #[serde(default, deserialize_with = "or_default")]
    pub reason: String,
}

/// The fields that distinguish a message of the protocol from one of the application.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(rename = "channel", default, deserialize_with = "is_there")]
    has_channel: bool,
    #[serde(rename = "timestamp", default, deserialize_with = "is_there")]
    has_timestamp: bool,
}

#[derive(Deserialize)]
struct MaybeId {
    id: Option<RequestId>,
}

#[derive(Deserialize)]
struct InChannel {
    channel: String,
}

#[derive(Deserialize)]
struct Occupancy {
    channel: String,
    count: u64,
}

/// Reads `null` as a field that is left out.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads whether a field is present, with any value.
fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Reads a present field, `null` included.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| {
        if !text.starts_with('{') {
            return Fault::not_an_object();
        }
        Fault::parse("the message is not one of the protocol's", Some(error.to_string().into()))
    })
}
