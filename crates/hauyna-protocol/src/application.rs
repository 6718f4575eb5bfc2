//! What the application itself sends into a channel: an object with a `type` of its own goes out as it is,
//! anything else as a publication. Decided once, by `Shape::of`; channels encode with it.

use crate::{
    Encoding, Message, Publication, Raw,
    json::JsonWriter,
    msgpack::{PackWriter, extend_map},
    write::Writer,
};

/// How a value of the application's becomes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An object with a string field `type`: it is the message. What it lacks of `channel`, `timestamp` and
    /// `offset` is appended.
    Message(OwnFields),
    /// Any other value: it becomes the `content` of a publication.
    Content,
}

/// Which of the fields that would be appended a message brings itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnFields {
    channel: bool,
    timestamp: bool,
    offset: bool,
}

impl Shape {
    /// Decides what a value is.
    ///
    /// ```
    /// use hauyna_protocol::{Encoding, Raw, Shape};
    /// let of = |json: &str| Shape::of(Raw::assume_valid(Encoding::Json, json.as_bytes()));
    /// assert!(matches!(of(r#"{"type":"system","message":"hi"}"#), Shape::Message(_)));
    /// assert_eq!(of(r#"{"type":7}"#), Shape::Content);
    /// assert_eq!(of(r#""hi""#), Shape::Content);
    /// ```
    #[must_use]
    pub fn of(value: Raw<'_>) -> Self {
        if !value.is_object() {
            return Self::Content;
        }
        let mut own = OwnFields::default();
        let mut is_message = false;
        value.each_field(|name, value| match name {
            "type" => is_message = value.is_text(),
            "channel" => own.channel = true,
            "timestamp" => own.timestamp = true,
            "offset" => own.offset = true,
            _ => {}
        });
        if is_message { Self::Message(own) } else { Self::Content }
    }
}

/// A value of the application's on its way into a channel.
///
/// ```
/// use hauyna_protocol::{Application, Encoding, Raw, Shape};
/// let value = Raw::assume_valid(Encoding::Json, br#"{"type":"system","message":"hi"}"#);
/// let mut out = Vec::new();
/// Application { value, shape: Shape::of(value), channel: "general", timestamp: 5, offset: Some(2) }
///     .encode(Encoding::Json, &mut out);
/// assert_eq!(out, br#"{"type":"system","message":"hi","channel":"general","timestamp":5,"offset":2}"#);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Application<'a> {
    /// The value.
    pub value: Raw<'a>,
    /// What [`Shape::of`] says about it.
    pub shape: Shape,
    /// The channel.
    pub channel: &'a str,
    /// In ms since the Unix epoch.
    pub timestamp: u64,
    /// The number in the channel's stream, where it keeps one.
    pub offset: Option<u64>,
}

impl Application<'_> {
    /// Appends the message to `out`.
    pub fn encode(&self, encoding: Encoding, out: &mut Vec<u8>) {
        let Shape::Message(own) = self.shape else {
            let Self { value: content, channel, timestamp, offset, .. } = *self;
            let publication = Publication { channel, user: None, content, timestamp, offset };
            return Message::Publication(publication).encode(encoding, out);
        };
        let start = out.len();
        self.value.transcode_into(encoding, out);
        match encoding {
            Encoding::Json => {
                out.pop();
                self.append(own, &mut JsonWriter::new(out));
                out.push(b'}');
            }
            Encoding::MessagePack => {
                extend_map(out, start, self.missing(own));
                self.append(own, &mut PackWriter::new(out));
            }
        }
    }

    fn append<W: Writer>(&self, own: OwnFields, w: &mut W) {
        if !own.channel {
            w.text_field("channel", self.channel);
        }
        if !own.timestamp {
            w.unsigned_field("timestamp", self.timestamp);
        }
        if let Some(offset) = self.offset.filter(|_| !own.offset) {
            w.unsigned_field("offset", offset);
        }
    }

    /// Counts the fields that `append` appends.
    fn missing(&self, own: OwnFields) -> u32 {
        u32::from(!own.channel) + u32::from(!own.timestamp) + u32::from(!own.offset && self.offset.is_some())
    }
}
