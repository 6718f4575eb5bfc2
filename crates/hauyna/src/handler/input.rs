//! Decodes the message of an event into the type that a handler or listener accepts. `callback` and `event`
//! call it.

use hauyna_protocol::{Fault, Raw};
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use std::cell::Cell;
use std::fmt;

/// Decodes a message into `T`. A type without data (`()`, a unit struct) accepts every message: all fields
/// besides `type` and `id` are ignored, as a struct ignores the fields that it does not know.
///
/// # Errors
///
/// `validation_error`, with the position of the fault.
pub(crate) fn decode_input<T: DeserializeOwned>(message: Raw<'_>) -> Result<T, Fault> {
    let is_unit = Cell::new(false);
    match T::deserialize(Unit { is_unit: &is_unit }) {
        // A type that replaces an error by a default has not seen the message yet.
        Ok(unit) if is_unit.get() => Ok(unit),
        _ => message.decode(),
    }
}

/// Gives its value to types without data, and fails for every other type.
struct Unit<'a> {
    /// Whether the type has asked for a value without data.
    is_unit: &'a Cell<bool>,
}

impl<'de> Deserializer<'de> for Unit<'_> {
    type Error = HasData;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, HasData> {
        Err(HasData)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, HasData> {
        self.is_unit.set(true);
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, HasData> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, HasData> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

/// The type has data, so it has to be decoded from the message.
#[derive(Debug)]
struct HasData;

impl de::Error for HasData {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl fmt::Display for HasData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the type has data")
    }
}

impl std::error::Error for HasData {}

#[cfg(test)]
mod tests {
    use super::*;
    use hauyna_protocol::Encoding;
    use serde::Deserialize;
    use serde_json::Value;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Refresh;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Wrapped(());

    #[derive(Debug, Deserialize, PartialEq)]
    struct Empty {}

    #[derive(Debug, Deserialize, PartialEq)]
    struct Optional {
        page: Option<u8>,
    }

    #[derive(Debug, PartialEq)]
    struct Forgiving(u8);

    impl<'de> Deserialize<'de> for Forgiving {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(Self(Optional::deserialize(deserializer).ok().and_then(|read| read.page).unwrap_or_default()))
        }
    }

    fn message(json: &str) -> Raw<'_> {
        Raw::assume_valid(Encoding::Json, json.as_bytes())
    }

    #[test]
    fn types_without_data_take_every_message() {
        for json in [r#"{"type":"refresh"}"#, r#"{"type":"refresh","id":1,"page":2}"#] {
            assert_eq!(decode_input(message(json)), Ok(()));
            assert_eq!(decode_input(message(json)), Ok(Refresh));
            assert_eq!(decode_input(message(json)), Ok(Wrapped(())));
            assert_eq!(decode_input(message(json)), Ok(Empty {}));
        }
    }

    #[test]
    fn types_with_data_still_see_the_message() {
        let page = message(r#"{"type":"go","page":2}"#);
        assert_eq!(decode_input(page), Ok(Optional { page: Some(2) }));
        assert_eq!(decode_input::<Option<Optional>>(page), Ok(Some(Optional { page: Some(2) })));
        assert_eq!(decode_input::<Value>(page).unwrap()["page"], 2);
        assert_eq!(decode_input(page), Ok(Forgiving(2)));
        assert!(decode_input::<u8>(page).is_err());
    }
}
