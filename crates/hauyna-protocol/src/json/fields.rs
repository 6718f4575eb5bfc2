//! Reads the fields of a message in order, without a tree. `request` collects those of the protocol, and
//! `raw` visits those of any object.

use super::check::{check_depth, describe};
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
