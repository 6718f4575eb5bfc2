//! The `id` that ties an answer to its request: a number or a short text, returned exactly as it arrived.

use crate::Raw;
use serde::{Deserialize, Deserializer};
use std::fmt;

/// The `id` of a request.
///
/// Exhaustive: the protocol has these two kinds of `id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RequestId {
    /// An integer of 0…[`RequestId::MAX_NUMBER`].
    Number(u64),
    /// A text of at most [`RequestId::MAX_TEXT`] bytes.
    Text(Box<str>),
}

impl RequestId {
    /// Largest integer that all JSON readers represent exactly: 2^53 − 1.
    pub const MAX_NUMBER: u64 = (1 << 53) - 1;

    /// Maximum length of a text, in bytes.
    pub const MAX_TEXT: usize = 64;

    /// Description of a valid `id` for `details.expected`.
    pub(crate) const EXPECTED: &'static str = "integer from 0 to 2^53-1 or string of at most 64 bytes";

    /// Reads an `id`; `None` if it is invalid.
    pub(crate) fn read(raw: Raw<'_>) -> Option<Self> {
        if let Some(number) = raw.as_u64() {
            return (number <= Self::MAX_NUMBER).then_some(Self::Number(number));
        }
        // The longest spelling of a byte is `\u0041`. This bound avoids unescaping a text that would be
        // refused anyway.
        if raw.bytes().len() > 6 * Self::MAX_TEXT + 2 {
            return None;
        }
        let text = raw.as_str()?;
        (text.len() <= Self::MAX_TEXT).then(|| Self::Text(text.into()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Id {
            Number(u64),
            Text(Box<str>),
        }
        Id::deserialize(deserializer).map(|id| match id {
            Id::Number(number) => Self::Number(number),
            Id::Text(text) => Self::Text(text),
        })
    }
}
