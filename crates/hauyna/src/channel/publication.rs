//! One message in a channel: numbered once, encoded once per wire variant, shared by every receiver.
//! Made by brokers from a [`Draft`]; read by shards.

use super::{ChannelName, Target, UserId};
use crate::connection::ConnectionId;
use crate::error::Error;
use bytes::Bytes;
use hauyna_protocol::{Application, ClientEvent, Direct, Encoding, ErrorType, Message, Position, Raw, Shape};
use hauyna_websocket::{Deflate, FrameBuilder, OpCode};
use serde::Serialize;
use std::fmt;
use std::sync::OnceLock;

/// A message on its way to be numbered.
#[derive(Debug, Clone)]
pub struct Draft {
    pub(crate) channel: ChannelName,
    pub(crate) kind: PublicationKind,
    pub(crate) user: Option<UserId>,
    pub(crate) content: Content,
    pub(crate) timestamp: u64,
    pub(crate) except: Option<ConnectionId>,
    /// The key by which it supersedes earlier ones; of a [`PublicationKind::ClientEvent`] the type of the event.
    pub(crate) conflate: Option<Box<str>>,
    /// In how many wire variants it is going to be encoded, as far as that is known.
    pub(crate) variants: u8,
}

/// What shape a publication has on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublicationKind {
    /// A `message` with the content inside.
    Message,
    /// What the application broadcast: an object with a `type` of its own, or else wrapped as a `message`.
    Application,
    /// To one user: an application's object with a `type` of its own, or else wrapped as `private`.
    Private,
    /// To the members of a group: an application's object with a `type` of its own, or else wrapped as `group`.
    Group,
    /// To everybody: an application's object with a `type` of its own, or else wrapped as `broadcast`.
    Broadcast,
    /// A message of the protocol, complete.
    Event,
    /// A `client_event`: from one subscriber to the others. Without a content it has no data.
    ClientEvent,
    /// `subscribed`: the stream goes on under another epoch, or after a loss. Made by each node for its own
    /// subscribers; brokers never see it.
    EpochTurned,
}

/// A value in the encoding it came in, never re-serialised for receivers of the same encoding.
#[derive(Clone)]
pub struct Content {
    pub(crate) encoding: Encoding,
    pub(crate) bytes: Bytes,
    /// Whether it is a whole message or goes into one. Decided once, where it comes in.
    shape: Shape,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("encoding", &self.encoding).field("bytes", &self.bytes.len()).finish()
    }
}

impl Content {
    /// What a client sends: always inside of a message that names the sender, so that nobody can forge one of the
    /// server's.
    pub(crate) fn copy(raw: Raw<'_>) -> Self {
        let bytes = Bytes::copy_from_slice(raw.bytes());
        Self { encoding: raw.encoding(), bytes, shape: Shape::Content }
    }

    /// The content of a client event without data.
    pub(crate) fn nothing() -> Self {
        Self::of_protocol(Vec::new())
    }

    /// What the application sends: an object with a `type` of its own is the message.
    ///
    /// # Errors
    ///
    /// `validation_error` where JSON cannot hold the value.
    pub(crate) fn of_application<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let content = Self::inner(value)?;
        let shape = Shape::of(content.raw());
        Ok(Self { shape, ..content })
    }

    /// A value of the application's inside of a message of the protocol.
    ///
    /// # Errors
    ///
    /// `validation_error` where JSON cannot hold the value.
    pub(crate) fn inner<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(value).map_err(|fault| {
            Error::protocol(ErrorType::ValidationError, format!("not representable as JSON: {fault}"))
        })?;
        Ok(Self::of_protocol(bytes))
    }

    /// Whether it is a whole message outside of a channel, too. One with a position of its own is not: clients would
    /// count it as a publication of the channel that it names.
    fn is_whole(&self) -> bool {
        matches!(self.shape, Shape::Message(own) if !own.has_position())
    }

    /// Appends it as a message to one connection: as it is, but for what clients would take for a message of the
    /// protocol, or for a publication.
    pub(crate) fn encode_alone(&self, encoding: Encoding, out: &mut Vec<u8>) {
        let raw = self.raw();
        if self.is_whole() || !raw.has_type() {
            return raw.transcode_into(encoding, out);
        }
        let direct = Direct { from: None, message: raw, timestamp: crate::clock::unix_ms(), offset: None };
        Message::Private(direct).encode(encoding, out);
    }

    /// A message of the protocol as JSON, for [`PublicationKind::Event`].
    pub(crate) fn of_protocol(json: Vec<u8>) -> Self {
        Self { encoding: Encoding::Json, bytes: json.into(), shape: Shape::Content }
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
        let content = Content::of_application(value)?;
        let timestamp = crate::clock::unix_ms();
        Ok(Self {
            channel,
            kind: PublicationKind::Application,
            user: None,
            content,
            timestamp,
            except: None,
            conflate: None,
            variants: 1,
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
pub struct Publication {
    draft: Draft,
    position: Option<Position>,
    frames: [OnceLock<Bytes>; Wire::COUNT],
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication").field("position", &self.position).field("draft", &self.draft).finish()
    }
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
    pub fn kind(&self) -> PublicationKind {
        self.draft.kind
    }

    /// Whether it tells the subscribers that the stream goes on elsewhere: it must not be dropped, and publications
    /// on its two sides never count as one gap.
    pub(crate) fn is_epoch_turn(&self) -> bool {
        self.draft.kind == PublicationKind::EpochTurned
    }

    /// Whether one subscriber has sent it to the others beside the publications: it may be dropped silently.
    pub(crate) fn is_client_event(&self) -> bool {
        self.draft.kind == PublicationKind::ClientEvent
    }

    /// Whether a later client event of the same sender and type takes its place.
    pub(crate) fn is_superseded_by(&self, later: &Self) -> bool {
        self.draft.except == later.draft.except && self.draft.conflate == later.draft.conflate
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

    /// About how many bytes it holds: the content, an encoded frame for each wire variant that connections used when it
    /// was published, and the structure around them.
    pub fn weight(&self) -> usize {
        let frames = usize::from(self.draft.variants.max(1));
        self.weight_with(frames)
    }

    /// About how many bytes it holds with one encoded frame.
    pub(crate) fn weight_of_one(&self) -> usize {
        self.weight_with(1)
    }

    fn weight_with(&self, frames: usize) -> usize {
        (1 + frames) * self.draft.content.bytes.len() + std::mem::size_of::<Self>() + 64
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
            PublicationKind::Private | PublicationKind::Group | PublicationKind::Broadcast
                if content.is_whole() =>
            {
                raw.transcode_into(encoding, out);
            }
            PublicationKind::Message => {
                let message = hauyna_protocol::Publication {
                    channel: channel.as_str(),
                    user,
                    content: raw,
                    timestamp,
                    offset,
                };
                Message::Publication(message).encode(encoding, out);
            }
            PublicationKind::Application => {
                let (shape, channel) = (content.shape, channel.as_str());
                let application = Application { value: raw, shape, channel, timestamp, offset };
                application.encode(encoding, out);
            }
            PublicationKind::Private => {
                let direct = Direct { from: user, message: raw, timestamp, offset };
                Message::Private(direct).encode(encoding, out);
            }
            PublicationKind::Group => {
                let Target::Group(room) = channel.target() else { return };
                let direct = Direct { from: user, message: raw, timestamp, offset };
                Message::Group { room, direct }.encode(encoding, out);
            }
            PublicationKind::Broadcast => {
                let direct = Direct { from: user, message: raw, timestamp, offset };
                Message::Broadcast(direct).encode(encoding, out);
            }
            PublicationKind::ClientEvent => {
                let event = ClientEvent {
                    channel: channel.as_str(),
                    event: self.conflate().unwrap_or_default(),
                    user: user.unwrap_or_default(),
                    data: (!content.bytes.is_empty()).then_some(raw),
                };
                Message::ClientEvent(event).encode(encoding, out);
            }
            PublicationKind::Event | PublicationKind::EpochTurned => raw.transcode_into(encoding, out),
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
