//! Messages, server → client, as a client reads them: owned, their payloads raw JSON whatever the encoding was.
//! Clients call `Received::decode` once a frame. What they do not know is an [`Application`] message, never an error.

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

/// A message of the server's.
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
        /// How many users are there.
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
    /// `request`: a question to this client.
    Question(Question),
    /// `retry_policy`
    RetryPolicy(RetryTerms),
    /// `reconnect`
    Reconnect(Drain),
    /// Any other: a message of the application's, or one of a later version of the protocol.
    Application(Application),
}

impl Received {
    /// Reads one message. MessagePack is read as the JSON it stands for. However deep it nests, it is read: an application on the
    /// server may publish what no client may, and a subscriber that could not read it would never come past it.
    ///
    /// # Errors
    ///
    /// A [`Fault`]: the frame is not an object with a `type`. A message that has a type of the protocol and not its
    /// fields is an [`Application`] message: an application may use that type, too.
    pub fn decode(encoding: Encoding, bytes: &[u8]) -> Result<Self, Fault> {
        let text = match encoding {
            Encoding::Json => Cow::Borrowed(
                simdutf8::basic::from_utf8(bytes)
                    .map_err(|_| Fault::parse("the message is not UTF-8", None))?,
            ),
            // Of bytes that are no value it makes `null`, which is no message.
            Encoding::MessagePack => Raw::assume_valid(encoding, bytes).as_json(),
        };
        Self::read(&text)
    }

    /// Reads one message out of JSON, such as those of a [`History`].
    ///
    /// # Errors
    ///
    /// As [`Received::decode`].
    pub fn read(text: &str) -> Result<Self, Fault> {
        let Head { kind, has_channel, has_timestamp } = parse(text)?;
        if !is_of_application(&kind, has_channel, has_timestamp)
            && let Ok(Some(message)) = Self::of_protocol(&kind, text)
        {
            return Ok(message);
        }
        Ok(Self::Application(Application::read(kind.into_owned(), text)?))
    }

    /// Reads a message of the protocol; `None` where it has no such type.
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

/// What the client has to know about its connection.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Session {
    /// This connection.
    pub connection_id: String,
    /// Who the client is taken for.
    pub user: String,
    /// Whether it goes on where a lost connection ended.
    #[serde(default, deserialize_with = "or_default")]
    pub resumed: bool,
    /// How to go on where this one ends; `None` where sessions are not kept.
    pub resume: Option<Resume>,
    /// How often something is heard.
    pub heartbeat: Option<HeartbeatTerms>,
    /// How to come back after a loss.
    pub retry: Option<RetryTerms>,
    /// The subscriptions of a resumed session, and those that the server made.
    #[serde(default, deserialize_with = "or_default")]
    pub subscriptions: Vec<Subscribed>,
    /// The subscriptions of a resumed session that could not go on, and have ended.
    #[serde(default, deserialize_with = "or_default")]
    pub failed: Vec<FailedSubscription>,
    /// When the credentials expire, in ms since the Unix epoch.
    pub expires_at: Option<u64>,
    /// How long the credentials still live, in ms.
    pub expires_in: Option<u64>,
    /// What the server takes from this client.
    pub limits: Option<SessionLimits>,
}

/// A subscription of a resumed session that could not go on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct FailedSubscription {
    /// The channel.
    pub channel: String,
    /// The kind, perhaps one of a later version; see [`ErrorType`](crate::ErrorType).
    pub error_type: String,
    /// For people.
    #[serde(default, deserialize_with = "or_default")]
    pub message: String,
    /// Whether the same may succeed later.
    #[serde(default, deserialize_with = "or_default")]
    pub temporary: bool,
}

/// What a later connection resumes the session with.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Resume {
    /// Serves once.
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
    /// What it gave; `null` is a value.
    #[serde(default, deserialize_with = "present")]
    pub data: Option<Box<RawValue>>,
}

/// A request was refused, or something failed.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Refused {
    /// The kind, perhaps one of a later version; see [`ErrorType`](crate::ErrorType).
    pub error_type: String,
    /// For people.
    #[serde(default, deserialize_with = "or_default")]
    pub message: String,
    /// The `id` of the request.
    pub id: Option<RequestId>,
    /// Whether the same request may succeed later.
    #[serde(default, deserialize_with = "or_default")]
    pub temporary: bool,
    /// For programs.
    pub details: Option<Box<RawValue>>,
}

/// One publication in a channel.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Publication {
    /// The channel.
    pub channel: String,
    /// Who published; `None` when the application did.
    pub user: Option<String>,
    /// What was published.
    pub content: Box<RawValue>,
    /// In ms since the Unix epoch.
    pub timestamp: u64,
    /// The number in the channel's stream, where it keeps one.
    pub offset: Option<u64>,
}

/// A message that does not go through a channel of the application's.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Direct {
    /// Who sent it; `None` when the application did.
    pub from: Option<String>,
    /// The group, of a `group` message.
    pub room: Option<String>,
    /// What was sent.
    pub message: Box<RawValue>,
    /// In ms since the Unix epoch.
    pub timestamp: u64,
    /// The number in the stream, where there is one.
    pub offset: Option<u64>,
}

/// The announcement of a subscriber.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct ChannelEvent {
    /// `subscription_added`, `subscription_removed`, `subscription_reconnected`, or one of a later version.
    pub event: String,
    /// The channel.
    pub channel: String,
    /// Whose subscription it is.
    pub user: String,
    /// The subscription's metadata.
    pub metadata: Box<RawValue>,
}

/// What another subscriber sent beside the publications.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct ClientEvent {
    /// The channel.
    pub channel: String,
    /// Which kind of event it is.
    pub event: String,
    /// Who sent it.
    pub user: String,
    /// What goes with it, where something does; `null` is a value.
    #[serde(default, deserialize_with = "present")]
    pub data: Option<Box<RawValue>>,
}

/// The server asks this client.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Question {
    /// What the answer repeats.
    pub id: RequestId,
    /// What kind of question it is.
    pub event: String,
    /// The question.
    pub data: Box<RawValue>,
}

/// The node goes away.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Drain {
    /// Between which two moments from now, in ms.
    pub after: (u64, u64),
    /// Why, for people.
    #[serde(default, deserialize_with = "or_default")]
    pub reason: String,
}

/// What tells a message of the protocol from one of the application.
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

/// Reads that a field is there, whatever it is.
fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Reads a field that is there, `null` included.
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
