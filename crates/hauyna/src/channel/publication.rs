//! One message in a channel: numbered once, encoded once per wire variant, shared by every receiver.
//! Made by brokers from a [`Draft`]; read by shards.

use super::{ChannelName, Target, UserId};
use crate::connection::ConnectionId;
use crate::error::Error;
use bytes::Bytes;
use hauyna_protocol::{Application, Direct, Encoding, Message, Position, Raw, Shape};
use hauyna_websocket::{Deflate, FrameBuilder, OpCode};
use serde::Serialize;
use std::sync::OnceLock;

/// A message on its way to be numbered.
#[derive(Debug, Clone)]
pub struct Draft {
    pub(crate) channel: ChannelName,
    pub(crate) kind: Kind,
    pub(crate) user: Option<UserId>,
    pub(crate) content: Content,
    pub(crate) timestamp: u64,
    pub(crate) except: Option<ConnectionId>,
    pub(crate) conflate: Option<Box<str>>,
}

/// What shape a publication has on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A `message` with the content inside.
    Message,
    /// What the application broadcast: an object with a `type` of its own, or else wrapped as a `message`.
    Application,
    /// A `private` message to one user.
    Private,
    /// A `group` message to the members of a group.
    Group,
    /// A `broadcast` to everybody.
    Broadcast,
    /// A message of the protocol, complete.
    Event,
    /// `subscribed`: the stream goes on under another epoch, or after a loss. Made by each node for its own
    /// subscribers; brokers never see it.
    Turn,
}

/// A value in the encoding it came in, never re-serialised for receivers of the same encoding.
#[derive(Debug, Clone)]
pub struct Content {
    pub(crate) encoding: Encoding,
    pub(crate) bytes: Bytes,
}

impl Content {
    pub(crate) fn copy(raw: Raw<'_>) -> Self {
        Self { encoding: raw.encoding(), bytes: Bytes::copy_from_slice(raw.bytes()) }
    }

    pub(crate) fn raw(&self) -> Raw<'_> {
        Raw::assume_valid(self.encoding, &self.bytes)
    }

    /// The encoding of [`Content::bytes`].
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The value as it came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Draft {
    /// What the application publishes in a channel, as of now.
    ///
    /// # Errors
    ///
    /// `validation_error` where JSON cannot hold the value.
    pub fn new(channel: ChannelName, value: &impl Serialize) -> Result<Self, Error> {
        let content = super::content(value)?;
        let timestamp = crate::clock::unix_ms();
        Ok(Self {
            channel,
            kind: Kind::Application,
            user: None,
            content,
            timestamp,
            except: None,
            conflate: None,
        })
    }

    /// The channel it goes to.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The content.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The publication, numbered where the channel keeps history.
    pub fn publication(self, position: Option<Position>) -> Publication {
        Publication { draft: self, position, frames: Default::default() }
    }
}

/// One message in a channel.
#[derive(Debug)]
pub struct Publication {
    draft: Draft,
    position: Option<Position>,
    frames: [OnceLock<Bytes>; Wire::COUNT],
}

impl Publication {
    /// The channel it was published in.
    pub fn channel(&self) -> &ChannelName {
        &self.draft.channel
    }

    /// Who published it, where a user did.
    pub fn user(&self) -> Option<&UserId> {
        self.draft.user.as_ref()
    }

    /// The content.
    pub fn content(&self) -> &Content {
        &self.draft.content
    }

    /// When, in milliseconds since the Unix epoch.
    pub fn timestamp(&self) -> u64 {
        self.draft.timestamp
    }

    /// Where it stands in the channel's stream, where the channel keeps history.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The shape it has on the wire.
    pub fn kind(&self) -> Kind {
        self.draft.kind
    }

    /// Whether it tells the subscribers that the stream goes on elsewhere: it must not be dropped, and publications
    /// on its two sides never count as one gap.
    pub(crate) fn is_turn(&self) -> bool {
        self.draft.kind == Kind::Turn
    }

    pub(crate) fn offset(&self) -> u64 {
        self.position.map_or(0, |position| position.offset)
    }

    pub(crate) fn except(&self) -> Option<ConnectionId> {
        self.draft.except
    }

    pub(crate) fn conflate(&self) -> Option<&str> {
        self.draft.conflate.as_deref()
    }

    /// About how many bytes it holds: the content, one encoded frame, and the structure around them.
    pub fn weight(&self) -> usize {
        2 * self.draft.content.bytes.len() + std::mem::size_of::<Self>() + 64
    }

    /// The WebSocket frame for a wire variant, encoded by the first who asks.
    pub(crate) fn frame(&self, wire: Wire, deflate: Option<&Deflate>) -> &Bytes {
        self.frames[wire.index()].get_or_init(|| match deflate.filter(|_| wire.is_deflated()) {
            None => {
                let mut frame = FrameBuilder::with_capacity(self.draft.content.bytes.len() + ENVELOPE);
                self.encode(wire.encoding(), frame.payload());
                frame.finish(wire.opcode())
            }
            Some(deflate) => {
                let mut payload = Vec::with_capacity(self.draft.content.bytes.len() + ENVELOPE);
                self.encode(wire.encoding(), &mut payload);
                deflate.frame(wire.opcode(), &payload)
            }
        })
    }

    /// Appends the message, without frame, in `encoding`.
    pub(crate) fn encode(&self, encoding: Encoding, out: &mut Vec<u8>) {
        let Draft { channel, kind, user, content, timestamp, .. } = &self.draft;
        let (raw, timestamp) = (content.raw(), *timestamp);
        let user = user.as_ref().map(UserId::as_str);
        let offset = self.position.map(|position| position.offset);
        match kind {
            Kind::Message => {
                let message = hauyna_protocol::Publication {
                    channel: channel.as_str(),
                    user,
                    content: raw,
                    timestamp,
                    offset,
                };
                Message::Publication(message).encode(encoding, out);
            }
            Kind::Application => {
                let shape = Shape::of(raw);
                let application =
                    Application { value: raw, shape, channel: channel.as_str(), timestamp, offset };
                application.encode(encoding, out);
            }
            Kind::Private => {
                let direct = Direct { from: user, message: raw, timestamp, offset };
                Message::Private(direct).encode(encoding, out);
            }
            Kind::Group => {
                let Target::Group(room) = channel.target() else { return };
                let direct = Direct { from: user, message: raw, timestamp, offset };
                Message::Group { room, direct }.encode(encoding, out);
            }
            Kind::Broadcast => {
                let direct = Direct { from: user, message: raw, timestamp, offset };
                Message::Broadcast(direct).encode(encoding, out);
            }
            Kind::Event | Kind::Turn => raw.transcode_into(encoding, out),
        }
    }
}

/// How one connection wants its messages: the encoding, and whether frames are deflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wire(u8);

impl Wire {
    pub(crate) const COUNT: usize = 4;

    pub(crate) fn new(encoding: Encoding, deflate: bool) -> Self {
        Self(u8::from(encoding == Encoding::MessagePack) | u8::from(deflate) << 1)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn encoding(self) -> Encoding {
        if self.0 & 1 == 0 { Encoding::Json } else { Encoding::MessagePack }
    }

    pub(crate) fn opcode(self) -> OpCode {
        if self.0 & 1 == 0 { OpCode::Text } else { OpCode::Binary }
    }

    pub(crate) fn is_deflated(self) -> bool {
        self.0 & 2 != 0
    }
}

/// Room for what stands around the content of a message, in bytes.
const ENVELOPE: usize = 128;
