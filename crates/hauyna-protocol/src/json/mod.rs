//! JSON: reads the fields of a message without a tree, and checks the depth of a text before `serde_json`
//! sees it. `serde_json` checks the grammar; nesting in skipped values, which it does not limit, is checked
//! here.

mod locate;
mod read;
mod token;
mod transcode;
mod write;

pub(crate) use locate::locate;
pub(crate) use read::{read_text, read_unsigned};
pub(crate) use transcode::to_message_pack;
pub(crate) use write::{JsonWriter, write_float, write_text};

use crate::{Fault, fields::Fields};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// Collects the protocol's fields of one message. Fields read before a fault stay collected.
pub(crate) fn collect<'a>(bytes: &'a [u8], depth: usize, fields: &mut Fields<'a>) -> Result<(), Fault> {
    let text =
        simdutf8::basic::from_utf8(bytes).map_err(|_| Fault::parse("the message is not UTF-8", None))?;
    let mut visit = |name: &str, value: &'a str| fields.put(name, value.as_bytes());
    if let Err(place) = check_depth(text, depth) {
        // The id may precede the deep part; everything before that is shallow enough to be read.
        let _ = each_field(&text[..place], &mut visit);
        return Err(Fault::too_deep(depth));
    }
    each_field(text, visit).map_err(|error| describe(text, &error))
}

/// Calls `visit` with the name and the raw value of each field of the object `text`.
pub(crate) fn each_field<'a>(text: &'a str, visit: impl FnMut(&str, &'a str)) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(EachField(visit))?;
    deserializer.end()
}

/// Checks that `text` is one JSON value, no deeper than `depth`.
pub(crate) fn check(text: &str, depth: usize) -> Result<(), Fault> {
    check_depth(text, depth).map_err(|_| Fault::too_deep(depth))?;
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(describe(text, &error)),
    }
}

/// Finds the first bracket that nests deeper than `limit`. It is iterative, so no text overflows the stack.
fn check_depth(text: &str, limit: usize) -> Result<(), usize> {
    let bytes = text.as_bytes();
    if count_openers(bytes) <= limit {
        return Ok(()); // As many brackets as levels cannot nest too deeply, wherever they stand.
    }
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' if depth == limit => return Err(at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = token::end_of_text(bytes, at + 1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Counts `[` and `{`, which differ in one bit. It adds up bytes, so that the compiler vectorises it.
fn count_openers(bytes: &[u8]) -> usize {
    let count = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    bytes.chunks(128).map(|chunk| usize::from(count(chunk))).sum()
}

/// Turns an error of `serde_json` into the protocol's texts, which do not depend on its version.
fn describe(text: &str, error: &serde_json::Error) -> Fault {
    if error.is_data() && !text.trim_start().starts_with('{') {
        return Fault::not_an_object();
    }
    let details = serde_json::json!({ "line": error.line(), "column": error.column() });
    Fault::parse("the message is not valid JSON", Some(details))
}

/// A visitor of an object's fields in order, with raw values.
struct EachField<F>(F);

impl<'de, F: FnMut(&str, &'de str)> Visitor<'de> for EachField<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            (self.0)(&name, value.get());
        }
        Ok(())
    }
}

/// A field's name, borrowed unless it has escapes (serde always makes a plain `Cow` owned).
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}

#[cfg(test)]
mod tests;
