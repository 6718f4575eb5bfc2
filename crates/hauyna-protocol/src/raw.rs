//! A value that stays as it arrived: checked once, copied into outgoing messages, never re-serialised.
//! Requests borrow their payloads as `Raw`; messages carry `Raw`. No unsafe code relies on its validity.

use crate::{Encoding, Fault, Limits, json, msgpack};
use serde::de::DeserializeOwned;
use std::{borrow::Cow, fmt};

/// One value in one encoding, as bytes.
///
/// ```
/// use hauyna_protocol::{Encoding, Limits, Raw};
/// let raw = Raw::parse(Encoding::Json, br#"{"x":1}"#, &Limits::default())?;
/// let mut packed = Vec::new();
/// raw.transcode_into(Encoding::MessagePack, &mut packed);
/// assert_eq!(packed, b"\x81\xa1x\x01");
/// # Ok::<(), hauyna_protocol::Fault>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a> {
    encoding: Encoding,
    bytes: &'a [u8],
}

impl<'a> Raw<'a> {
    /// `{}`
    pub const EMPTY_OBJECT: Self = Self { encoding: Encoding::Json, bytes: b"{}" };

    /// `null`
    pub const NULL: Self = Self { encoding: Encoding::Json, bytes: b"null" };

    /// Checks that `bytes` are exactly one value, no deeper than `limits` allow.
    ///
    /// # Errors
    ///
    /// Returns `parse_error`, `limit_exceeded` for nesting, or `validation_error` for MessagePack's extension
    /// types and for map keys that are no strings.
    pub fn parse(encoding: Encoding, bytes: &'a [u8], limits: &Limits) -> Result<Self, Fault> {
        match encoding {
            Encoding::Json => {
                let text = simdutf8::basic::from_utf8(bytes)
                    .map_err(|_| Fault::parse("the message is not UTF-8", None))?;
                json::check(text, limits.depth())?;
                Ok(Self { encoding, bytes: trim(bytes) })
            }
            Encoding::MessagePack => {
                msgpack::check(bytes, limits.depth())?;
                Ok(Self { encoding, bytes })
            }
        }
    }

    /// Wraps bytes that are known to be one valid value: written by `serde_json`, or stored from an earlier
    /// `Raw`. Other bytes only make the messages that carry them malformed.
    #[must_use]
    pub const fn assume_valid(encoding: Encoding, bytes: &'a [u8]) -> Self {
        Self { encoding, bytes }
    }

    /// Returns the encoding of [`bytes`](Self::bytes).
    #[must_use]
    pub const fn encoding(self) -> Encoding {
        self.encoding
    }

    /// Returns the value as it arrived.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the value as JSON, borrowed if it is JSON already.
    #[must_use]
    pub fn as_json(self) -> Cow<'a, str> {
        match self.encoding {
            Encoding::Json => String::from_utf8_lossy(self.bytes),
            Encoding::MessagePack => {
                let mut out = Vec::with_capacity(self.bytes.len() * 2);
                msgpack::to_json(self.bytes, &mut out);
                Cow::Owned(String::from_utf8(out).unwrap_or_default())
            }
        }
    }

    /// Appends the value in the given encoding; a plain copy if it already has that encoding.
    pub fn transcode_into(self, encoding: Encoding, out: &mut Vec<u8>) {
        match (self.encoding, encoding) {
            (Encoding::Json, Encoding::MessagePack) => json::to_message_pack(self.bytes, out),
            (Encoding::MessagePack, Encoding::Json) => msgpack::to_json(self.bytes, out),
            _ => out.extend_from_slice(self.bytes),
        }
    }

    /// Reads the value into a type of the application.
    ///
    /// A MessagePack value is read as the equivalent JSON, so that a handler sees the same in both encodings.
    ///
    /// # Errors
    ///
    /// Returns `validation_error`, with the location of the fault in `details.path`.
    ///
    /// ```
    /// use hauyna_protocol::{Encoding, Raw};
    /// #[derive(Debug, serde::Deserialize)]
    /// struct Move { x: i32, y: i32 }
    /// let raw = Raw::assume_valid(Encoding::Json, br#"{"x":1,"y":"north"}"#);
    /// let fault = raw.decode::<Move>().unwrap_err();
    /// assert_eq!(fault.details.unwrap()["path"], "y");
    /// ```
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, Fault> {
        let text = self.as_json();
        // The path costs a wrapper around every value, so it is only determined after an error.
        serde_json::from_str(&text).map_err(|error| json::locate::<T>(&text, &error))
    }

    /// Whether this is an object with a text in its field `type`, as every message is.
    #[must_use]
    pub fn has_type(self) -> bool {
        let mut has_type = false;
        if self.is_object() {
            self.each_field(|name, value| has_type |= name == "type" && value.is_text());
        }
        has_type
    }

    /// Returns the text, if this is a text of valid Unicode.
    pub(crate) fn as_str(self) -> Option<Cow<'a, str>> {
        match self.encoding {
            Encoding::Json => json::read_text(self.bytes),
            Encoding::MessagePack => msgpack::read_text(self.bytes).map(Cow::Borrowed),
        }
    }

    /// Returns the number, if this is an integer that is not negative.
    pub(crate) fn as_u64(self) -> Option<u64> {
        match self.encoding {
            Encoding::Json => json::read_unsigned(self.bytes),
            Encoding::MessagePack => msgpack::read_unsigned(self.bytes),
        }
    }

    /// Returns the boolean, if this is one.
    pub(crate) fn as_bool(self) -> Option<bool> {
        match (self.encoding, self.bytes) {
            (Encoding::Json, b"true") | (Encoding::MessagePack, [0xc3]) => Some(true),
            (Encoding::Json, b"false") | (Encoding::MessagePack, [0xc2]) => Some(false),
            _ => None,
        }
    }

    /// Whether this is `null`.
    pub(crate) fn is_null(self) -> bool {
        matches!((self.encoding, self.bytes), (Encoding::Json, b"null") | (Encoding::MessagePack, [0xc0]))
    }

    /// Whether this is an object.
    pub(crate) fn is_object(self) -> bool {
        match (self.encoding, self.bytes.first()) {
            (Encoding::Json, Some(b'{')) => true,
            (Encoding::MessagePack, Some(marker)) => matches!(marker, 0x80..=0x8f | 0xde | 0xdf),
            _ => false,
        }
    }

    /// Whether this is a text.
    pub(crate) fn is_text(self) -> bool {
        match (self.encoding, self.bytes.first()) {
            (Encoding::Json, Some(b'"')) => true,
            (Encoding::MessagePack, Some(marker)) => matches!(marker, 0xa0..=0xbf | 0xd9..=0xdb),
            _ => false,
        }
    }

    /// Calls `visit` with each field, if this is an object.
    pub(crate) fn each_field(self, mut visit: impl FnMut(&str, Raw<'a>)) {
        let encoding = self.encoding;
        let mut visit = move |name: &str, bytes: &'a [u8]| visit(name, Raw { encoding, bytes });
        match encoding {
            Encoding::Json => {
                if let Ok(text) = std::str::from_utf8(self.bytes) {
                    let _ = json::each_field(text, |name, value| visit(name, value.as_bytes()));
                }
            }
            Encoding::MessagePack => {
                let _ = msgpack::each_field(self.bytes, usize::from(Limits::MAX_DEPTH), visit);
            }
        }
    }
}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({:?}, {})", self.encoding, self.as_json())
    }
}

/// Removes JSON white space from both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] | [rest @ .., b' ' | b'\t' | b'\n' | b'\r'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests;
