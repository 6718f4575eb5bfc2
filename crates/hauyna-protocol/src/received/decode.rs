//! The messages of the server as one enum, and their decoding: by the `type`, with whatever the protocol does
//! not define as a message of the application. Clients call `Received::decode` once per frame.

use super::field::is_there;
use super::{
    Ack, Application, ChannelEvent, ClientEvent, Direct, Drain, Gap, PresenceChange, PresenceDiff,
    PresenceState, Publication, Question, Refused, Session, Subscribed,
};
use crate::reserved::is_of_application;
use crate::{Encoding, Fault, Raw, RequestId, RetryTerms};
use serde::Deserialize;
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

    /// Reads one JSON message, such as those of a [`History`](super::History).
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

pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| {
        if !text.starts_with('{') {
            return Fault::not_an_object();
        }
        Fault::parse("the message is not one of the protocol's", Some(error.to_string().into()))
    })
}
