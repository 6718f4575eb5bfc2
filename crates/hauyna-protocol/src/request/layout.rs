//! The layout of each request on the wire, in both encodings. Only `Request::encode` calls it; `decode` is
//! the opposite direction.

use crate::{
    Direction, Encoding, Position, Raw, Request, RequestId, json::JsonWriter, msgpack::PackWriter,
    write::Writer,
};

impl Request<'_> {
    /// Appends the request to `out`.
    ///
    /// The body of a [`Request::Event`] or [`Request::UpdateStatus`] is written without its fields `type`,
    /// `id` and `status`, which are taken from the request itself.
    ///
    /// ```
    /// use hauyna_protocol::{Encoding, Request, RequestId};
    /// let mut out = Vec::new();
    /// let request = Request::Unsubscribe { channel: "general".into() };
    /// request.encode(Some(&RequestId::Number(7)), Encoding::Json, &mut out);
    /// assert_eq!(out, br#"{"type":"unsubscribe_channel","id":7,"channel":"general"}"#);
    /// ```
    pub fn encode(&self, id: Option<&RequestId>, encoding: Encoding, out: &mut Vec<u8>) {
        match encoding {
            Encoding::Json => self.lay_out(id, &mut JsonWriter::new(out)),
            Encoding::MessagePack => self.lay_out(id, &mut PackWriter::new(out)),
        }
    }

    fn lay_out<W: Writer>(&self, id: Option<&RequestId>, w: &mut W) {
        match self {
            Self::Event { name, body } => return write_body(w, &[("type", name)], id, *body),
            Self::UpdateStatus { status, body } => {
                return write_body(w, &[("type", "update_status"), ("status", status)], id, *body);
            }
            _ => {}
        }
        w.object(|w| {
            w.text_field("type", self.kind());
            if let Some(id) = id {
                w.id_field(id);
            }
            self.write_fields(w);
        });
    }

    fn write_fields<W: Writer>(&self, w: &mut W) {
        match self {
            Self::Subscribe { channel, metadata, recover, token } => {
                w.text_field("channel", channel);
                raw_field(w, "metadata", *metadata);
                position_field(w, "recover", *recover);
                optional_text(w, "token", token.as_deref());
            }
            Self::Unsubscribe { channel } => w.text_field("channel", channel),
            Self::Publish { channel, content, key, echo } => {
                w.text_field("channel", channel);
                w.raw_field("content", *content);
                optional_text(w, "key", key.as_deref());
                if !echo {
                    w.boolean_field("echo", false);
                }
            }
            Self::ClientEvent { channel, event, data } => {
                w.text_field("channel", channel);
                w.text_field("event", event);
                raw_field(w, "data", *data);
            }
            Self::Private { to: name, message, key } | Self::Group { room: name, message, key } => {
                w.text_field(if matches!(self, Self::Group { .. }) { "room" } else { "to" }, name);
                w.raw_field("message", *message);
                optional_text(w, "key", key.as_deref());
            }
            Self::Broadcast { message, key } => {
                w.raw_field("message", *message);
                optional_text(w, "key", key.as_deref());
            }
            Self::UpdatePresence { channel, metadata } => {
                w.text_field("channel", channel);
                w.raw_field("metadata", *metadata);
            }
            Self::Presence { channel, after, limit } => {
                w.text_field("channel", channel);
                optional_text(w, "after", after.as_deref());
                optional_count(w, *limit);
            }
            Self::History { channel, since, limit, direction } => {
                w.text_field("channel", channel);
                position_field(w, "since", *since);
                optional_count(w, *limit);
                if *direction == Direction::Backward {
                    w.boolean_field("reverse", true);
                }
            }
            Self::Refresh { token } => w.text_field("token", token),
            Self::Ack { data } => raw_field(w, "data", *data),
            Self::Refusal { message } => optional_text(w, "message", message.as_deref()),
            Self::Resume { positions } => {
                let entries: Vec<(&str, Position)> =
                    positions.iter().map(|(channel, position)| (&**channel, *position)).collect();
                w.name("positions");
                w.map(&entries, |w, position| write_position(w, *position));
            }
            Self::Ping | Self::UpdateStatus { .. } | Self::Event { .. } => {}
        }
    }
}

/// Writes a request with the application's fields, of any number and name.
fn write_body<W: Writer>(w: &mut W, fixed: &[(&str, &str)], id: Option<&RequestId>, body: Raw<'_>) {
    enum Value<'a> {
        Text(&'a str),
        Id(&'a RequestId),
        Raw(Raw<'a>),
    }
    let mut names = Vec::new();
    body.each_field(|name, value| {
        if name != "id" && fixed.iter().all(|(fixed, _)| *fixed != name) {
            names.push((name.to_owned(), value));
        }
    });
    let mut entries: Vec<(&str, Value<'_>)> =
        fixed.iter().map(|(name, text)| (*name, Value::Text(text))).collect();
    entries.extend(id.map(|id| ("id", Value::Id(id))));
    entries.extend(names.iter().map(|(name, value)| (&**name, Value::Raw(*value))));
    w.map(&entries, |w, value| match value {
        Value::Text(text) => w.text(text),
        Value::Id(RequestId::Number(number)) => w.unsigned(*number),
        Value::Id(RequestId::Text(text)) => w.text(text),
        Value::Raw(raw) => w.raw(*raw),
    });
}

fn raw_field<W: Writer>(w: &mut W, name: &'static str, raw: Option<Raw<'_>>) {
    if let Some(raw) = raw {
        w.raw_field(name, raw);
    }
}

fn optional_text<W: Writer>(w: &mut W, name: &'static str, text: Option<&str>) {
    if let Some(text) = text {
        w.text_field(name, text);
    }
}

fn optional_count<W: Writer>(w: &mut W, limit: Option<u32>) {
    if let Some(limit) = limit {
        w.unsigned_field("limit", u64::from(limit));
    }
}

fn position_field<W: Writer>(w: &mut W, name: &'static str, position: Option<Position>) {
    if let Some(position) = position {
        w.name(name);
        write_position(w, position);
    }
}

fn write_position<W: Writer>(w: &mut W, position: Position) {
    w.object(|w| {
        w.epoch_field(position.epoch);
        w.unsigned_field("offset", position.offset);
    });
}
