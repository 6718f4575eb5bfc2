//! One message in a channel: numbered once, encoded once per wire variant, shared by every receiver. Brokers
//! create it from a [`Draft`]; shards read it.

use crate::error::InvalidValue;
use crate::name::{ChannelName, ConnectionId, Target, UserId};
use bytes::Bytes;
use hauyna_protocol::{Application, ClientEvent, Direct, Encoding, Message, Position, Raw, Shape};
use hauyna_websocket::{Deflate, FrameBuilder, OpCode};
use serde::Serialize;
use std::fmt;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// A message that is not numbered yet.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Draft {
    /// The channel that it is for.
    pub channel: ChannelName,
    /// The form on the wire.
    pub kind: PublicationKind,
    /// The user that publishes it, if any.
    pub user: Option<UserId>,
    /// The content.
    pub content: Content,
    /// The time of publication, in milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// The connection that does not get it, if any.
    pub except: Option<ConnectionId>,
    /// The conflation key; for a [`PublicationKind::ClientEvent`], the type of the event.
    pub conflate: Option<Box<str>>,
    /// Expected number of wire variants in which it is encoded.
    pub variants: u8,
}

/// The form of a publication on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublicationKind {
    /// A `message` with the content inside.
    Message,
    /// A value that the application broadcasts: sent as it is where it is an object with a `type`, otherwise
    /// wrapped as a `message`.
    Application,
    /// A value for one user: sent as it is where it is an object with a `type`, otherwise wrapped as
    /// `private`.
    Private,
    /// A value for the members of a group: sent as it is where it is an object with a `type`, otherwise
    /// wrapped as `group`.
    Group,
    /// A value for everybody: sent as it is where it is an object with a `type`, otherwise wrapped as
    /// `broadcast`.
    Broadcast,
    /// A complete message of the protocol.
    Event,
    /// A `client_event` from one subscriber to the others. Empty content means that it has no data.
    ClientEvent,
    /// `subscribed`: the stream continues under another epoch, or after a loss. Each node creates it for its
    /// own subscribers; brokers never see it.
    EpochTurned,
    /// What every node has to do, in one order with the messages of `@user:NAME` or `@all`. Brokers relay it
    /// as any other publication; it is never written to a connection.
    Control,
}

/// A value in the encoding in which it arrived. It is not serialised again for receivers with the same
/// encoding.
#[derive(Clone)]
pub struct Content {
    encoding: Encoding,
    bytes: Bytes,
    /// Whether the value is a whole message or the content of one. It is decided once, when the value
    /// arrives.
    shape: Shape,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("encoding", &self.encoding).field("bytes", &self.bytes.len()).finish()
    }
}

impl Content {
    /// Copies what a client sends. It is always wrapped in a message that names the sender, so that no client
    /// can forge a message of the server.
    pub fn copy(raw: Raw<'_>) -> Self {
        let bytes = Bytes::copy_from_slice(raw.bytes());
        Self { encoding: raw.encoding(), bytes, shape: Shape::Content }
    }

    /// Returns the content of a client event without data.
    pub fn nothing() -> Self {
        Self::of_protocol(Vec::new())
    }

    /// Serialises what the application sends. An object with a `type` of its own is the whole message.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] where the value cannot be represented as JSON.
    pub fn of_application<T: Serialize + ?Sized>(value: &T) -> Result<Self, InvalidValue> {
        let content = Self::inner(value)?;
        let shape = Shape::of(content.raw());
        Ok(Self { shape, ..content })
    }

    /// Serialises a value of the application that is always wrapped in a message of the protocol.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] where the value cannot be represented as JSON.
    pub fn inner<T: Serialize + ?Sized>(value: &T) -> Result<Self, InvalidValue> {
        let bytes = serde_json::to_vec(value)
            .map_err(|fault| InvalidValue(format!("the value cannot be represented as JSON: {fault}")))?;
        Ok(Self::of_protocol(bytes))
    }

    /// Whether it can be sent as a whole message outside of a channel. A value with the fields of a position
    /// cannot: clients would count it as a publication of the channel that it names.
    fn is_whole(&self) -> bool {
        matches!(self.shape, Shape::Message(fields) if !fields.has_position())
    }

    /// Appends it as a message to one connection. It is sent as it is, unless clients would mistake it for a
    /// message of the protocol or for a publication; then it is wrapped as `private`.
    pub fn encode_alone(&self, encoding: Encoding, out: &mut Vec<u8>) {
        let raw = self.raw();
        if self.is_whole() || !raw.has_type() {
            return raw.transcode_into(encoding, out);
        }
        let direct = Direct { from: None, message: raw, timestamp: unix_ms(), offset: None };
        Message::Private(direct).encode(encoding, out);
    }

    /// Takes a message of the protocol as JSON, for [`PublicationKind::Event`].
    pub fn of_protocol(json: Vec<u8>) -> Self {
        Self { encoding: Encoding::Json, bytes: json.into(), shape: Shape::Content }
    }

    /// Returns the encoded value, to read it.
    pub fn raw(&self) -> Raw<'_> {
        Raw::assume_valid(self.encoding, &self.bytes)
    }

    /// Returns the encoding of [`Content::bytes`].
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns the encoded value as it arrived.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Draft {
    /// Creates a draft of what the application publishes in a channel, with the present time.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] where the value cannot be represented as JSON.
    pub fn new(channel: ChannelName, value: &impl Serialize) -> Result<Self, InvalidValue> {
        Ok(Self::with_content(channel, PublicationKind::Application, Content::of_application(value)?))
    }

    /// Creates a draft from a content, with the present time and without a sender.
    pub fn with_content(channel: ChannelName, kind: PublicationKind, content: Content) -> Self {
        let timestamp = unix_ms();
        Self { channel, kind, user: None, content, timestamp, except: None, conflate: None, variants: 1 }
    }

    /// Returns the channel that it is for.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// Returns the content.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Returns the publication, with a position where the channel keeps history.
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
    /// Returns the channel that it was published in.
    pub fn channel(&self) -> &ChannelName {
        &self.draft.channel
    }

    /// Returns the user that published it, if any.
    pub fn user(&self) -> Option<&UserId> {
        self.draft.user.as_ref()
    }

    /// Returns the content.
    pub fn content(&self) -> &Content {
        &self.draft.content
    }

    /// Returns the time of publication, in milliseconds since the Unix epoch.
    pub fn timestamp(&self) -> u64 {
        self.draft.timestamp
    }

    /// Returns its position in the channel's stream, where the channel keeps history.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Returns its form on the wire.
    pub fn kind(&self) -> PublicationKind {
        self.draft.kind
    }

    /// Whether it tells subscribers that the stream continues at another position. It must not be dropped,
    /// and publications before and after it are never part of the same gap.
    pub fn is_epoch_turn(&self) -> bool {
        self.draft.kind == PublicationKind::EpochTurned
    }

    /// Whether it is an event that one subscriber sends to the others; it may be dropped silently.
    pub fn is_client_event(&self) -> bool {
        self.draft.kind == PublicationKind::ClientEvent
    }

    /// Whether a later client event has the same sender and type, and so replaces it.
    pub fn is_superseded_by(&self, later: &Self) -> bool {
        self.draft.except == later.draft.except && self.draft.conflate == later.draft.conflate
    }

    /// Returns its offset, or 0 if it has no position.
    pub fn offset(&self) -> u64 {
        self.position.map_or(0, |position| position.offset)
    }

    /// Returns the connection that does not get it, if any.
    pub fn except(&self) -> Option<ConnectionId> {
        self.draft.except
    }

    /// Returns the conflation key; for a client event, the type of the event.
    pub fn conflate(&self) -> Option<&str> {
        self.draft.conflate.as_deref()
    }

    /// Returns about how many bytes it holds: the content, an encoded frame for each wire variant that
    /// connections used when it was published, and the structure around them.
    pub fn weight(&self) -> usize {
        let frames = usize::from(self.draft.variants.max(1));
        self.weight_with(frames)
    }

    /// Returns about how many bytes it holds with one encoded frame.
    pub fn weight_of_one(&self) -> usize {
        self.weight_with(1)
    }

    fn weight_with(&self, frames: usize) -> usize {
        (1 + frames) * self.draft.content.bytes.len() + std::mem::size_of::<Self>() + 64
    }

    /// Returns the WebSocket frame for a wire variant. The first caller encodes it.
    pub fn frame(&self, wire: Wire, deflate: Option<&Deflate>) -> &Bytes {
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

    /// Appends the message in `encoding`, without a frame.
    pub fn encode(&self, encoding: Encoding, out: &mut Vec<u8>) {
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
            PublicationKind::Control => {}
        }
    }
}

/// A wire variant: the encoding, and whether frames are deflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire(u8);

impl Wire {
    /// Number of variants.
    pub const COUNT: usize = 4;

    /// Creates a variant.
    pub fn new(encoding: Encoding, deflate: bool) -> Self {
        Self(u8::from(encoding == Encoding::MessagePack) | u8::from(deflate) << 1)
    }

    /// Returns its number, below [`Wire::COUNT`].
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the encoding.
    pub fn encoding(self) -> Encoding {
        if self.0 & 1 == 0 { Encoding::Json } else { Encoding::MessagePack }
    }

    /// Returns the opcode of its frames.
    pub fn opcode(self) -> OpCode {
        if self.0 & 1 == 0 { OpCode::Text } else { OpCode::Binary }
    }

    /// Whether frames are deflated (RFC 7692).
    pub fn is_deflated(self) -> bool {
        self.0 & 2 != 0
    }
}

/// Returns the milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Bytes reserved for the fields around the content of a message.
const ENVELOPE: usize = 128;
