//! Requests, client → server. `decode` is the one way in: what it returns is validated, borrowed from the
//! frame, and needs no further check of shape. The connection calls it once a frame.

use crate::{
    Encoding, Fault, Limits, Position, Raw, RequestId,
    fields::{Field, Fields},
    json, msgpack,
};
use std::borrow::Cow;

mod layout;

/// A request and the `id` its answer must carry.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming<'a> {
    /// The `id`; without one only errors (and `pong`) are answered. Of a [`Request::Ack`] or [`Request::Refusal`] it
    /// is the id of the server's request.
    pub id: Option<RequestId>,
    /// What is asked for.
    pub request: Request<'a>,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Request<'a> {
    /// `subscribe_channel`: subscribes this connection.
    Subscribe {
        /// The channel.
        channel: Cow<'a, str>,
        /// An object the application gave along.
        metadata: Option<Raw<'a>>,
        /// The last position the client has seen, to be brought up to date from there.
        recover: Option<Position>,
        /// A token that allows this channel.
        token: Option<Cow<'a, str>>,
    },
    /// `unsubscribe_channel`.
    Unsubscribe {
        /// The channel.
        channel: Cow<'a, str>,
    },
    /// `channel_message`: publishes.
    Publish {
        /// The channel.
        channel: Cow<'a, str>,
        /// What is published.
        content: Raw<'a>,
        /// The idempotency key.
        key: Option<Cow<'a, str>>,
        /// Whether this connection, too, gets the publication while it is subscribed.
        echo: bool,
    },
    /// `client_event`: to the other subscribers of a channel, without a number and without a place in the history.
    ClientEvent {
        /// The channel.
        channel: Cow<'a, str>,
        /// Which kind of event it is, one that the channel allows.
        event: Cow<'a, str>,
        /// What goes with it; `null` is a value.
        data: Option<Raw<'a>>,
    },
    /// `private`: to every connection of one user.
    Private {
        /// The user.
        to: Cow<'a, str>,
        /// What is sent.
        message: Raw<'a>,
        /// The idempotency key.
        key: Option<Cow<'a, str>>,
    },
    /// `group`: to every member of a group.
    Group {
        /// The group.
        room: Cow<'a, str>,
        /// What is sent.
        message: Raw<'a>,
        /// The idempotency key.
        key: Option<Cow<'a, str>>,
    },
    /// `broadcast`: to everybody.
    Broadcast {
        /// What is sent.
        message: Raw<'a>,
        /// The idempotency key.
        key: Option<Cow<'a, str>>,
    },
    /// `update_status`: changes the caller's presence.
    UpdateStatus {
        /// The new status.
        status: Cow<'a, str>,
        /// The whole message, whose further fields are merged into the metadata.
        body: Raw<'a>,
    },
    /// `update_presence`: replaces the metadata of this connection in one channel.
    UpdatePresence {
        /// The channel.
        channel: Cow<'a, str>,
        /// The new metadata, an object.
        metadata: Raw<'a>,
    },
    /// `presence`: who is there.
    Presence {
        /// The channel.
        channel: Cow<'a, str>,
        /// Only users behind this one, as the `next` of the page before says.
        after: Option<Cow<'a, str>>,
        /// How many users at most.
        limit: Option<u32>,
    },
    /// `history`: publications of the past.
    History {
        /// The channel.
        channel: Cow<'a, str>,
        /// Where to start, exclusive: forward with what came after it, backward with what came before it.
        since: Option<Position>,
        /// How many at most.
        limit: Option<u32>,
        /// In which direction, and in which order.
        direction: Direction,
    },
    /// `refresh`: renews the authentication.
    Refresh {
        /// The new token.
        token: Cow<'a, str>,
    },
    /// `resume`: where the client of a resumed session stands.
    Resume {
        /// The last positions it has seen, by channel. A channel that stands twice is the sender's affair.
        positions: Vec<(Box<str>, Position)>,
    },
    /// `ping`: answered with `pong`.
    Ping,
    /// `ack`: answers a request of the server's.
    Ack {
        /// The answer.
        data: Option<Raw<'a>>,
    },
    /// `error`: refuses a request of the server's.
    Refusal {
        /// Why, for people.
        message: Option<Cow<'a, str>>,
    },
    /// Any other `type`: an event of the application's.
    Event {
        /// The `type`.
        name: Cow<'a, str>,
        /// The whole message object.
        body: Raw<'a>,
    },
}

impl Request<'_> {
    /// Returns the `type` of the message.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Subscribe { .. } => "subscribe_channel",
            Self::Unsubscribe { .. } => "unsubscribe_channel",
            Self::Publish { .. } => "channel_message",
            Self::ClientEvent { .. } => "client_event",
            Self::Private { .. } => "private",
            Self::Group { .. } => "group",
            Self::Broadcast { .. } => "broadcast",
            Self::UpdateStatus { .. } => "update_status",
            Self::UpdatePresence { .. } => "update_presence",
            Self::Presence { .. } => "presence",
            Self::History { .. } => "history",
            Self::Refresh { .. } => "refresh",
            Self::Resume { .. } => "resume",
            Self::Ping => "ping",
            Self::Ack { .. } => "ack",
            Self::Refusal { .. } => "error",
            Self::Event { name, .. } => name,
        }
    }
}

/// The order of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first: `"reverse": true`, or `before` instead of `since`.
    Backward,
}

/// Decodes and validates one request.
///
/// Nothing is copied except texts that are written with escapes. JSON need not be checked for UTF-8 before.
///
/// # Errors
///
/// A [`Fault`] for the peer, with the request's `id` where it could be read.
///
/// # Examples
///
/// ```
/// use hauyna_protocol::{Encoding, Limits, Request, decode};
///
/// let frame = br#"{"id":7,"type":"channel_message","channel":"general","content":{"text":"hi"}}"#;
/// let incoming = decode(Encoding::Json, frame, &Limits::default())?;
/// let Request::Publish { channel, content, .. } = incoming.request else { unreachable!() };
/// assert_eq!((&*channel, content.bytes()), ("general", &br#"{"text":"hi"}"#[..]));
///
/// let fault = decode(Encoding::Json, br#"{"id":8,"type":"private"}"#, &Limits::default()).unwrap_err();
/// assert_eq!(fault.to_string(), "`to` is missing");
/// # Ok::<(), hauyna_protocol::Fault>(())
/// ```
pub fn decode<'a>(encoding: Encoding, bytes: &'a [u8], limits: &Limits) -> Result<Incoming<'a>, Fault> {
    let mut fields = Fields::new(encoding);
    let body = match encoding {
        Encoding::Json => json::collect(bytes, limits.depth(), &mut fields),
        Encoding::MessagePack => msgpack::collect(bytes, limits.depth(), &mut fields),
    };
    match body.and_then(|()| read(&fields, bytes, limits)) {
        Ok(incoming) => Ok(incoming),
        Err(fault) => Err(Fault { id: answerable_id(&fields), ..fault }),
    }
}

/// Gives the collected fields their meaning.
fn read<'a>(fields: &Fields<'a>, bytes: &'a [u8], limits: &Limits) -> Result<Incoming<'a>, Fault> {
    fields.check_unique()?;
    let kind = fields.name(Field::Type, limits.event)?;
    let id = fields.id()?;
    let channel = || fields.name(Field::Channel, limits.name);
    let key = || fields.optional_name(Field::Key, limits.key);
    let message = || fields.required(Field::Message);
    let whole = || fields.whole(bytes);
    let request = match &*kind {
        "subscribe_channel" => Request::Subscribe {
            channel: channel()?,
            metadata: fields.metadata(limits)?,
            recover: fields.position(Field::Recover)?,
            token: fields.optional_token()?,
        },
        "unsubscribe_channel" => Request::Unsubscribe { channel: channel()? },
        "channel_message" => Request::Publish {
            channel: channel()?,
            content: fields.required(Field::Content)?,
            key: key()?,
            echo: fields.flag(Field::Echo, true)?,
        },
        "client_event" => Request::ClientEvent {
            channel: channel()?,
            event: fields.name(Field::Event, limits.event)?,
            data: fields.any(Field::Data),
        },
        "private" => {
            Request::Private { to: fields.name(Field::To, limits.name)?, message: message()?, key: key()? }
        }
        "group" => {
            Request::Group { room: fields.name(Field::Room, limits.name)?, message: message()?, key: key()? }
        }
        "broadcast" => Request::Broadcast { message: message()?, key: key()? },
        "update_status" => {
            let body = whole();
            if body.bytes().len() > limits.metadata {
                return Err(Fault::too_long("metadata", limits.metadata));
            }
            Request::UpdateStatus { status: fields.name(Field::Status, limits.name)?, body }
        }
        "update_presence" => {
            Request::UpdatePresence { channel: channel()?, metadata: fields.required_metadata(limits)? }
        }
        "presence" => Request::Presence {
            channel: channel()?,
            after: fields.optional_name(Field::After, limits.name)?,
            limit: fields.count(Field::Limit)?,
        },
        "history" => history(fields, channel()?)?,
        "refresh" => Request::Refresh { token: fields.name(Field::Token, usize::MAX)? },
        "resume" => Request::Resume { positions: fields.positions(limits.name)? },
        "ping" => Request::Ping,
        "ack" | "error" if id.is_none() => return Err(Fault::missing(Field::Id.name(), RequestId::EXPECTED)),
        "ack" => Request::Ack { data: fields.any(Field::Data) },
        "error" => Request::Refusal { message: fields.optional_text(Field::Message)? },
        _ => Request::Event { body: whole(), name: kind },
    };
    Ok(Incoming { id, request })
}

/// Reads `history`. `before` is `since` with `reverse`.
fn history<'a>(fields: &Fields<'a>, channel: Cow<'a, str>) -> Result<Request<'a>, Fault> {
    let (since, before) = (fields.position(Field::Since)?, fields.position(Field::Before)?);
    if since.is_some() && before.is_some() {
        return Err(Fault::invalid(
            "before",
            "`since` or `before`",
            "`since` and `before` exclude each other",
        ));
    }
    let is_reverse = fields.flag(Field::Reverse, false)? || before.is_some();
    Ok(Request::History {
        channel,
        since: since.or(before),
        limit: fields.count(Field::Limit)?,
        direction: if is_reverse { Direction::Backward } else { Direction::Forward },
    })
}

/// The `id` an error may carry. Of an `ack` or `error` it is the server's, not one of the client's requests.
fn answerable_id(fields: &Fields<'_>) -> Option<RequestId> {
    let kind = fields.any(Field::Type).and_then(Raw::as_str);
    fields.id().ok().flatten().filter(|_| !matches!(kind.as_deref(), Some("ack" | "error")))
}

#[cfg(test)]
mod tests;
