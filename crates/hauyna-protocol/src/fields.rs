//! The protocol's fields of one message, found but not yet read, in either encoding. Their meaning depends on
//! `type`, which may come last. `request` reads them through this module; every fault names its path.

use crate::{Encoding, Epoch, Fault, Limits, Position, Raw, RequestId, raw};
use std::borrow::Cow;

macro_rules! fields {
    ($($variant:ident = $name:literal,)*) => {
        /// A field that has a meaning in the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Field { $($variant,)* }

        impl Field {
            const COUNT: usize = [$($name),*].len();

            fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

fields! {
    Type = "type",
    Id = "id",
    After = "after",
    Before = "before",
    Channel = "channel",
    Content = "content",
    Data = "data",
    Echo = "echo",
    Event = "event",
    Key = "key",
    Limit = "limit",
    Message = "message",
    Metadata = "metadata",
    Positions = "positions",
    Recover = "recover",
    Reverse = "reverse",
    Room = "room",
    Since = "since",
    Status = "status",
    To = "to",
    Token = "token",
}

/// Raw values of the present fields.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    encoding: Encoding,
    values: [Option<&'a [u8]>; Field::COUNT],
    duplicate: Option<Field>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(encoding: Encoding) -> Self {
        Self { encoding, values: [None; Field::COUNT], duplicate: None }
    }

    /// Stores a field if the protocol knows it. The first of two is kept until `check_unique` refuses both.
    #[inline]
    pub(crate) fn put(&mut self, name: &str, value: &'a [u8]) {
        let Some(field) = Field::named(name) else { return };
        match &mut self.values[field as usize] {
            empty @ None => *empty = Some(value),
            Some(_) => self.duplicate = Some(field),
        }
    }

    /// Refuses a message in which a field of the protocol occurs twice.
    pub(crate) fn check_unique(&self) -> Result<(), Fault> {
        match self.duplicate {
            None => Ok(()),
            Some(field) => {
                let path = field.name();
                Err(Fault::invalid(path, "one field of that name", format!("`{path}` is there twice")))
            }
        }
    }

    /// Returns the message of these fields, as one value.
    pub(crate) fn whole(&self, bytes: &'a [u8]) -> Raw<'a> {
        match self.encoding {
            Encoding::Json => Raw::assume_valid(Encoding::Json, raw::trim(bytes)),
            Encoding::MessagePack => Raw::assume_valid(Encoding::MessagePack, bytes),
        }
    }

    /// Returns a field of any kind, `null` included.
    pub(crate) fn any(&self, field: Field) -> Option<Raw<'a>> {
        self.values[field as usize].map(|bytes| Raw::assume_valid(self.encoding, bytes))
    }

    /// Returns a field that may be left out; `null` counts as left out.
    fn optional(&self, field: Field) -> Option<Raw<'a>> {
        self.any(field).filter(|raw| !raw.is_null())
    }

    /// Returns a required field of any kind.
    pub(crate) fn required(&self, field: Field) -> Result<Raw<'a>, Fault> {
        self.any(field).ok_or_else(|| Fault::missing(field.name(), "value"))
    }

    /// Reads the `id`.
    pub(crate) fn id(&self) -> Result<Option<RequestId>, Fault> {
        let Some(raw) = self.optional(Field::Id) else { return Ok(None) };
        match RequestId::read(raw) {
            Some(id) => Ok(Some(id)),
            None => Err(Fault::wrong(Field::Id.name(), RequestId::EXPECTED)),
        }
    }

    /// Reads a name: a text of 1…`limit` bytes without control characters.
    pub(crate) fn name(&self, field: Field, limit: usize) -> Result<Cow<'a, str>, Fault> {
        match self.any(field) {
            Some(raw) => name(raw, field.name(), limit),
            None => Err(Fault::missing(field.name(), "string")),
        }
    }

    /// Reads a name that may be left out.
    pub(crate) fn optional_name(&self, field: Field, limit: usize) -> Result<Option<Cow<'a, str>>, Fault> {
        self.optional(field).map(|raw| name(raw, field.name(), limit)).transpose()
    }

    /// Reads any text that may be left out. Its length is bounded by the message's.
    pub(crate) fn optional_text(&self, field: Field) -> Result<Option<Cow<'a, str>>, Fault> {
        let wrong = || Fault::wrong(field.name(), "string");
        self.optional(field).map(|raw| raw.as_str().ok_or_else(wrong)).transpose()
    }

    /// Reads an optional `token`. Its length is bounded by the message's.
    pub(crate) fn optional_token(&self) -> Result<Option<Cow<'a, str>>, Fault> {
        self.optional_name(Field::Token, usize::MAX)
    }

    /// Reads `metadata`, an object of at most `limits.metadata` bytes.
    pub(crate) fn metadata(&self, limits: &Limits) -> Result<Option<Raw<'a>>, Fault> {
        let Some(raw) = self.optional(Field::Metadata) else { return Ok(None) };
        let path = Field::Metadata.name();
        if !raw.is_object() {
            return Err(Fault::wrong(path, "object"));
        }
        if raw.bytes().len() > limits.metadata {
            return Err(Fault::too_long(path, limits.metadata));
        }
        Ok(Some(raw))
    }

    /// Reads required `metadata`.
    pub(crate) fn required_metadata(&self, limits: &Limits) -> Result<Raw<'a>, Fault> {
        self.metadata(limits)?.ok_or_else(|| Fault::missing(Field::Metadata.name(), "object"))
    }

    /// Reads a position, `{"epoch": …, "offset": …}`.
    pub(crate) fn position(&self, field: Field) -> Result<Option<Position>, Fault> {
        self.optional(field).map(|raw| position(raw, field.name())).transpose()
    }

    /// Reads `positions`, an object of positions by channel name; empty if it is left out.
    pub(crate) fn positions(&self, limit: usize) -> Result<Vec<(Box<str>, Position)>, Fault> {
        let path = Field::Positions.name();
        let Some(raw) = self.optional(Field::Positions) else { return Ok(Vec::new()) };
        if !raw.is_object() {
            return Err(Fault::wrong(path, "object"));
        }
        let mut read = Ok(Vec::new());
        raw.each_field(|name, value| {
            let Ok(positions) = &mut read else { return };
            if name.len() > limit {
                read = Err(Fault::too_long(path, limit));
                return;
            }
            match position(value, &format!("{path}.{name}")) {
                Ok(position) => positions.push((name.into(), position)),
                Err(fault) => read = Err(fault),
            }
        });
        read
    }

    /// Reads a count that may be left out.
    pub(crate) fn count(&self, field: Field) -> Result<Option<u32>, Fault> {
        let Some(raw) = self.optional(field) else { return Ok(None) };
        match raw.as_u64().and_then(|count| u32::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(Fault::wrong(field.name(), "integer from 0 to 2^32-1")),
        }
    }

    /// Reads a boolean; `default` if it is left out.
    pub(crate) fn flag(&self, field: Field, default: bool) -> Result<bool, Fault> {
        match self.optional(field) {
            None => Ok(default),
            Some(raw) => raw.as_bool().ok_or_else(|| Fault::wrong(field.name(), "boolean")),
        }
    }
}

/// Reads a name and checks the rules for all names.
fn name<'a>(raw: Raw<'a>, path: &'static str, limit: usize) -> Result<Cow<'a, str>, Fault> {
    let name = raw.as_str().ok_or_else(|| Fault::wrong(path, "string"))?;
    if name.is_empty() {
        return Err(Fault::invalid(path, "string of at least one byte", format!("`{path}` is empty")));
    }
    if name.len() > limit {
        return Err(Fault::too_long(path, limit));
    }
    if has_control(&name) {
        let message = format!("`{path}` has a control character");
        return Err(Fault::invalid(path, "string without control characters", message));
    }
    Ok(name)
}

/// Whether a text has a control character: C0, DEL or C1.
fn has_control(text: &str) -> bool {
    // Without an early exit the first pass is vectorised. C1 is 0xC2 0x80…0x9F in UTF-8.
    let suspicious = |byte: u8| byte < 0x20 || byte == 0x7f || byte == 0xc2;
    text.bytes().fold(false, |found, byte| found | suspicious(byte)) && text.chars().any(char::is_control)
}

/// Reads `{"epoch": …, "offset": …}`.
fn position(raw: Raw<'_>, path: &str) -> Result<Position, Fault> {
    if !raw.is_object() {
        return Err(Fault::wrong(path, "object"));
    }
    let (mut epoch, mut offset, mut twice) = (None, None, false);
    raw.each_field(|name, value| match name {
        "epoch" => twice |= epoch.replace(value).is_some(),
        "offset" => twice |= offset.replace(value).is_some(),
        _ => {}
    });
    if twice {
        return Err(Fault::wrong(path, "object without repeated fields"));
    }
    let wrong = |inner: &str, expected: &str| Fault::wrong(&format!("{path}.{inner}"), expected);
    let epoch = epoch.and_then(Raw::as_str).ok_or_else(|| wrong("epoch", "string"))?;
    let offset = offset
        .and_then(Raw::as_u64)
        .filter(|offset| *offset <= RequestId::MAX_NUMBER)
        .ok_or_else(|| wrong("offset", "integer from 0 to 2^53-1"))?;
    Ok(Position { epoch: Epoch::parse(&epoch), offset })
}
