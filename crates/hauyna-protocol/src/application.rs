//! Values that the application sends into a channel: an object with an unreserved `type` is sent as a
//! message, anything else as a publication. `Shape::of` decides it once, and channels encode by it. Clients
//! count by `channel` and `offset`, so the server always sets these.

use crate::{
    Encoding, Message, Publication, Raw, is_reserved_type,
    json::JsonWriter,
    msgpack::{PackWriter, extend_map},
    write::Writer,
};

/// How a value of the application becomes a message.
///
/// Exhaustive: a value is a message of its own, or the content of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An object with a string field `type` that the protocol does not reserve. It is sent as the message;
    /// `channel` and `offset` are set, and `timestamp` if it has none.
    Message(OwnFields),
    /// Any other value. It becomes the `content` of a publication.
    Content,
}

/// Which of the set fields a message already contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnFields {
    channel: bool,
    timestamp: bool,
    offset: bool,
}

impl OwnFields {
    /// Whether clients would count the message as a publication of the channel that it names, wherever it was
    /// sent: it has a `channel` and an `offset`.
    #[must_use]
    pub const fn has_position(self) -> bool {
        self.channel && self.offset
    }
}

impl Shape {
    /// Returns the shape of a value.
    ///
    /// ```
    /// use hauyna_protocol::{Encoding, Raw, Shape};
    /// let of = |json: &str| Shape::of(Raw::assume_valid(Encoding::Json, json.as_bytes()));
    /// assert!(matches!(of(r#"{"type":"system","message":"hi"}"#), Shape::Message(_)));
    /// assert_eq!(of(r#"{"type":"reconnect","after":[0,0]}"#), Shape::Content);
    /// assert_eq!(of(r#"{"type":"system","type":"other"}"#), Shape::Content);
    /// assert_eq!(of(r#"{"type":7}"#), Shape::Content);
    /// assert_eq!(of(r#""hi""#), Shape::Content);
    /// ```
    #[must_use]
    pub fn of(value: Raw<'_>) -> Self {
        if !value.is_object() {
            return Self::Content;
        }
        let mut present = OwnFields::default();
        let (mut has_type, mut is_message, mut is_ambiguous) = (false, false, false);
        value.each_field(|name, value| {
            let seen = match name {
                "type" => {
                    is_message =
                        value.is_text() && !value.as_str().is_some_and(|kind| is_reserved_type(&kind));
                    &mut has_type
                }
                "channel" => &mut present.channel,
                "timestamp" => &mut present.timestamp,
                "offset" => &mut present.offset,
                _ => return,
            };
            // If a field occurs twice, some clients take the first, others the last or none.
            is_ambiguous |= std::mem::replace(seen, true);
        });
        if is_message && !is_ambiguous { Self::Message(present) } else { Self::Content }
    }
}

/// A value of the application that is sent into a channel.
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
    /// The result of [`Shape::of`].
    pub shape: Shape,
    /// The channel.
    pub channel: &'a str,
    /// Time in ms since the Unix epoch.
    pub timestamp: u64,
    /// Number in the channel's stream, if the channel keeps a history.
    pub offset: Option<u64>,
}

impl Application<'_> {
    /// Appends the message to `out`.
    pub fn encode(&self, encoding: Encoding, out: &mut Vec<u8>) {
        let Shape::Message(present) = self.shape else {
            let Self { value: content, channel, timestamp, offset, .. } = *self;
            let publication = Publication { channel, user: None, content, timestamp, offset };
            return Message::Publication(publication).encode(encoding, out);
        };
        if present.channel || (present.offset && self.offset.is_some()) {
            return match encoding {
                Encoding::Json => self.rebuild(present, &mut JsonWriter::new(out)),
                Encoding::MessagePack => self.rebuild(present, &mut PackWriter::new(out)),
            };
        }
        let start = out.len();
        self.value.transcode_into(encoding, out);
        match encoding {
            Encoding::Json => {
                out.pop();
                self.append(present, &mut JsonWriter::new(out));
                out.push(b'}');
            }
            Encoding::MessagePack => {
                extend_map(out, start, self.missing(present));
                self.append(present, &mut PackWriter::new(out));
            }
        }
    }

    fn append<W: Writer>(&self, present: OwnFields, w: &mut W) {
        if !present.channel {
            w.text_field("channel", self.channel);
        }
        if !present.timestamp {
            w.unsigned_field("timestamp", self.timestamp);
        }
        if let Some(offset) = self.offset.filter(|_| !present.offset) {
            w.unsigned_field("offset", offset);
        }
    }

    /// Writes the object field by field, with the server's `channel` and `offset` in place of those of the
    /// value.
    fn rebuild<W: Writer>(&self, present: OwnFields, w: &mut W) {
        let mut fields = Vec::new();
        self.value.each_field(|name, value| {
            if name != "channel" && (name != "offset" || self.offset.is_none()) {
                fields.push((name.to_owned(), Value::Own(value)));
            }
        });
        fields.push(("channel".to_owned(), Value::Text(self.channel)));
        if !present.timestamp {
            fields.push(("timestamp".to_owned(), Value::Number(self.timestamp)));
        }
        fields.extend(self.offset.map(|offset| ("offset".to_owned(), Value::Number(offset))));
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        w.map(&fields, |w, value| match value {
            Value::Own(raw) => w.raw(*raw),
            Value::Text(text) => w.text(text),
            Value::Number(number) => w.unsigned(*number),
        });
    }

    /// Counts the fields that `append` appends.
    fn missing(&self, present: OwnFields) -> u32 {
        u32::from(!present.channel)
            + u32::from(!present.timestamp)
            + u32::from(!present.offset && self.offset.is_some())
    }
}

/// The value of one field.
#[derive(Clone, Copy)]
enum Value<'a> {
    Own(Raw<'a>),
    Text(&'a str),
    Number(u64),
}
