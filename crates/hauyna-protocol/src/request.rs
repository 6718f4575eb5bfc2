//! Requests, client → server. `decode` returns them validated and borrowed from the frame, so that they need
//! no further check of their shape. The connection calls it once per frame.

use crate::{
    Encoding, Fault, Limits, Position, Raw, RequestId,
    fields::{Field, Fields},
    json, msgpack,
};
use std::borrow::Cow;

mod layout;

/// A request and the `id` of its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming<'a> {
    /// The `id`; without one the server answers only errors and `ping`. In a [`Request::Ack`] or
    /// [`Request::Refusal`] it is the id of the server's request.
    pub id: Option<RequestId>,
    /// The request.
    pub request: Request<'a>,
}

/// A request of a client.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Request<'a> {
    /// `subscribe_channel`: subscribes this connection.
    Subscribe {
        /// The channel.
        channel: Cow<'a, str>,
        /// Metadata of the subscription, an object.
        metadata: Option<Raw<'a>>,
        /// Last position that the client has seen, to recover from.
        recover: Option<Position>,
        /// A token that allows this channel.
        token: Option<Cow<'a, str>>,
    },
    /// `unsubscribe_channel`: ends a subscription.
    Unsubscribe {
        /// The channel.
        channel: Cow<'a, str>,
    },
    /// `channel_message`: publishes in a channel.
    Publish {
        /// The channel.
        channel: Cow<'a, str>,
        /// Content to publish.
        content: Raw<'a>,
        /// The idempotency key.
        key: Option<Cow<'a, str>>,
        /// Whether this connection also receives the publication while it is subscribed.
        echo: bool,
    },
    /// `client_event`: sends an event to the other subscribers of a channel, without a number and without
    /// history.
    ClientEvent {
        /// The channel.
        channel: Cow<'a, str>,
        /// Name of the event, one that the channel allows.
        event: Cow<'a, str>,
        /// Data of the event; `null` is a value.
        data: Option<Raw<'a>>,
    },
    /// `private`: sends a message to every connection of one user.
    Private {
        /// The user.
        to: Cow<'a, str>,
        /// The message.
        message: Raw<'a>,
        /// The idempotency key.
        key: Option<Cow<'a, str>>,
    },
    /// `group`: sends a message to every member of a group.
    Group {
        /// The group.
        room: Cow<'a, str>,
        /// The message.
        message: Raw<'a>,
        /// The idempotency key.
        key: Option<Cow<'a, str>>,
    },
    /// `broadcast`: sends a message to everybody.
    Broadcast {
        /// The message.
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
    /// `presence`: asks for the present users.
    Presence {
        /// The channel.
        channel: Cow<'a, str>,
        /// Only users after this one: the `next` of the previous page.
        after: Option<Cow<'a, str>>,
        /// Maximum number of users.
        limit: Option<u32>,
    },
    /// `history`: asks for past publications.
    History {
        /// The channel.
        channel: Cow<'a, str>,
        /// Exclusive start: forward returns what came after it, backward what came before it.
        since: Option<Position>,
        /// Maximum number of publications.
        limit: Option<u32>,
        /// Direction, which is also the order of the answer.
        direction: Direction,
    },
    /// `refresh`: renews the authentication.
    Refresh {
        /// The new token.
        token: Cow<'a, str>,
    },
    /// `resume`: reports the positions of the client of a resumed session.
    Resume {
        /// Last positions that the client has seen, by channel. A channel may occur twice; nothing checks
        /// that.
        positions: Vec<(Box<str>, Position)>,
    },
    /// `ping`: answered with `pong`.
    Ping,
    /// `ack`: answers a request of the server.
    Ack {
        /// The answer.
        data: Option<Raw<'a>>,
    },
    /// `error`: refuses a request of the server.
    Refusal {
        /// Reason, for people.
        message: Option<Cow<'a, str>>,
    },
    /// Any other `type`: an event of the application.
    Event {
        /// The `type`.
        name: Cow<'a, str>,
        /// The whole message object.
        body: Raw<'a>,
    },
}

/// Names the `type` of each request once, for [`Request::kind`] and [`Request::KINDS`].
macro_rules! request_kinds {
    ($($variant:ident = $kind:literal,)*) => {
        impl Request<'_> {
            /// The `type` of every request of the protocol. Any other is an event of the application.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// Returns the `type` of the message.
            #[must_use]
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$variant { .. } => $kind,)*
                    Self::Event { name, .. } => name,
                }
            }
        }
    };
}

request_kinds! {
    Subscribe = "subscribe_channel",
    Unsubscribe = "unsubscribe_channel",
    Publish = "channel_message",
    ClientEvent = "client_event",
    Private = "private",
    Group = "group",
    Broadcast = "broadcast",
    UpdateStatus = "update_status",
    UpdatePresence = "update_presence",
    Presence = "presence",
    History = "history",
    Refresh = "refresh",
    Resume = "resume",
    Ping = "ping",
    Ack = "ack",
    Refusal = "error",
}

/// Direction of a history.
///
/// Exhaustive: there are only two directions.
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
/// Copies only texts that have escapes. The caller need not check JSON for UTF-8.
///
/// # Errors
///
/// Returns a [`Fault`] for the peer, with the request's `id` if it could be read.
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

/// Interprets the collected fields.
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

/// Returns the `id` for an error. That of an `ack` or `error` belongs to the server's request and is not
/// returned.
fn answerable_id(fields: &Fields<'_>) -> Option<RequestId> {
    let kind = fields.any(Field::Type).and_then(Raw::as_str);
    fields.id().ok().flatten().filter(|_| !matches!(kind.as_deref(), Some("ack" | "error")))
}

#[cfg(test)]
mod tests;
