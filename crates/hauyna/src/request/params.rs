//! Deserialises path and query parameters into types of the application: each text is read as the type that
//! is requested. An error is a `Reject` that names the parameter and nothing of Rust. `request` calls it.

use crate::error::Reject;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use std::borrow::Cow;
use std::fmt;

/// Decoded names and values, in their order.
pub(super) type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Reads parameters; those of the same name must follow each other.
pub(super) fn read<T: DeserializeOwned>(pairs: &Pairs<'_>) -> Result<T, Reject> {
    T::deserialize(Parameters(pairs)).map_err(ParamError::reject)
}

/// Why parameters do not fit the type.
#[derive(Debug)]
struct ParamError {
    path: String,
    kind: ParamErrorKind,
}

#[derive(Debug)]
enum ParamErrorKind {
    Missing,
    Unknown,
    /// The error of the type itself, whose text is not for the peer.
    Invalid,
    Expected(Cow<'static, str>),
}

impl ParamError {
    fn expected(what: impl Into<Cow<'static, str>>) -> Self {
        Self { path: String::new(), kind: ParamErrorKind::Expected(what.into()) }
    }

    fn at(mut self, name: &str) -> Self {
        if self.path.is_empty() {
            name.clone_into(&mut self.path);
        }
        self
    }

    fn reject(self) -> Reject {
        let path = &self.path;
        let (message, expected) = match &self.kind {
            ParamErrorKind::Missing => (format!("`{path}` is missing"), None),
            ParamErrorKind::Unknown => (format!("`{path}` is not known"), None),
            ParamErrorKind::Invalid if path.is_empty() => ("the parameters do not fit".to_owned(), None),
            ParamErrorKind::Invalid => (format!("`{path}` is not valid"), None),
            ParamErrorKind::Expected(what) => (format!("`{path}` is not {what}"), Some(what)),
        };
        let mut details = serde_json::json!({ "path": path });
        if let Some(expected) = expected {
            details["expected"] = (&**expected).into();
        }
        Reject::invalid(message).with_details(details)
    }
}

impl de::Error for ParamError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self { path: String::new(), kind: ParamErrorKind::Invalid }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { path: field.to_owned(), kind: ParamErrorKind::Missing }
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self { path: field.to_owned(), kind: ParamErrorKind::Unknown }
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::expected(format!("one of {}", expected.join(", ")))
    }
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.path)
    }
}

impl std::error::Error for ParamError {}

/// All parameters: a struct or map of them, a tuple in their order, or a plain value if there is only one.
struct Parameters<'a>(&'a [(Cow<'a, str>, Cow<'a, str>)]);

impl<'a> Parameters<'a> {
    fn only(&self) -> Result<Values<'a>, ParamError> {
        match self.0 {
            [(name, _), rest @ ..] if rest.iter().all(|(other, _)| other == name) => Ok(Values(self.0)),
            _ => Err(ParamError { path: String::new(), kind: ParamErrorKind::Invalid }),
        }
    }
}

macro_rules! of_the_only_one {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
            self.only()?.$method(visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Parameters<'_> {
    type Error = ParamError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_map(Fields { rest: self.0, values: None })
    }

    of_the_only_one! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_seq(Items(self.0))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, ParamError> {
        if length != self.0.len() {
            return Err(ParamError { path: String::new(), kind: ParamErrorKind::Invalid });
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { bytes byte_buf option unit_struct map struct identifier ignored_any }
}

/// The fields of a struct: one for each name, with all values of that name.
struct Fields<'a> {
    rest: &'a [(Cow<'a, str>, Cow<'a, str>)],
    values: Option<Values<'a>>,
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = ParamError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ParamError> {
        let Some((name, _)) = self.rest.first() else { return Ok(None) };
        let same = self.rest.iter().take_while(|(other, _)| other == name).count();
        let (values, rest) = self.rest.split_at(same);
        self.rest = rest;
        self.values = Some(Values(values));
        let name: StrDeserializer<'_, ParamError> = (&**name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ParamError> {
        let values = self.values.take().unwrap_or(Values(&[]));
        let name = values.0.first().map_or("", |(name, _)| name);
        seed.deserialize(values).map_err(|fault| fault.at(name))
    }
}

/// The values of one name: the first of them, or a list of all.
struct Values<'a>(&'a [(Cow<'a, str>, Cow<'a, str>)]);

impl<'a> Values<'a> {
    fn first(&self) -> &'a str {
        self.0.first().map_or("", |(_, value)| value)
    }
}

macro_rules! parsed {
    ($($method:ident => $visit:ident, $what:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
            visitor.$visit(self.first().parse().map_err(|_| ParamError::expected($what))?)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Values<'_> {
    type Error = ParamError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_str(self.first())
    }

    parsed! {
        deserialize_bool => visit_bool, "true or false";
        deserialize_i8 => visit_i8, "an integer in range";
        deserialize_i16 => visit_i16, "an integer in range";
        deserialize_i32 => visit_i32, "an integer in range";
        deserialize_i64 => visit_i64, "an integer in range";
        deserialize_i128 => visit_i128, "an integer in range";
        deserialize_u8 => visit_u8, "an integer in range";
        deserialize_u16 => visit_u16, "an integer in range";
        deserialize_u32 => visit_u32, "an integer in range";
        deserialize_u64 => visit_u64, "an integer in range";
        deserialize_u128 => visit_u128, "an integer in range";
        deserialize_f32 => visit_f32, "a number";
        deserialize_f64 => visit_f64, "a number";
        deserialize_char => visit_char, "one character";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        visitor.visit_enum(Variant(self.first()))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_seq(Items(self.0))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bytes byte_buf str string unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

/// An iterator over values: of a repeated name, or of a path.
struct Items<'a>(&'a [(Cow<'a, str>, Cow<'a, str>)]);

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = ParamError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ParamError> {
        let Some(((name, _), rest)) = self.0.split_first() else { return Ok(None) };
        let value = Values(&self.0[..1]);
        self.0 = rest;
        seed.deserialize(value).map(Some).map_err(|fault| fault.at(name))
    }
}

/// An enum variant without content, by its name.
struct Variant<'a>(&'a str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = ParamError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ParamError> {
        let name: StrDeserializer<'_, ParamError> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = ParamError;

    fn unit_variant(self) -> Result<(), ParamError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, ParamError> {
        Err(de::Error::custom(""))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, ParamError> {
        Err(de::Error::custom(""))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ParamError> {
        Err(de::Error::custom(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    fn pairs<'a>(list: &[(&'a str, &'a str)]) -> Pairs<'a> {
        list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        Newest,
        Oldest,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Listing {
        room: String,
        page: u32,
        #[serde(default)]
        tag: Vec<String>,
        order: Option<Order>,
        scale: Option<f32>,
    }

    #[test]
    fn texts_become_what_the_type_asks_for() {
        let given = pairs(&[("order", "newest"), ("page", "7"), ("room", "a b"), ("tag", "x"), ("tag", "y")]);
        let expected = Listing {
            room: "a b".into(),
            page: 7,
            tag: vec!["x".into(), "y".into()],
            order: Some(Order::Newest),
            scale: None,
        };
        assert_eq!(read::<Listing>(&given).unwrap(), expected);
        assert_eq!(read::<u64>(&pairs(&[("id", "7")])).unwrap(), 7);
        assert_eq!(read::<Order>(&pairs(&[("id", "oldest")])).unwrap(), Order::Oldest);
        assert_eq!(read::<(u8, String)>(&pairs(&[("a", "7"), ("b", "x")])).unwrap(), (7, "x".to_owned()));
        let map: BTreeMap<String, String> = read(&given).unwrap();
        assert_eq!(map["tag"], "x", "the first of several");
        read::<()>(&pairs(&[])).unwrap();
    }

    #[test]
    fn a_fault_names_the_parameter_and_nothing_of_rust() {
        let fault = |list: &[(&str, &str)]| {
            let reject = read::<Listing>(&pairs(list)).unwrap_err();
            (reject.message.into_owned(), reject.details.unwrap())
        };
        let (text, details) = fault(&[("page", "seven"), ("room", "x")]);
        assert_eq!((&*text, &details["path"]), ("`page` is not an integer in range", &"page".into()));
        assert_eq!(fault(&[("page", "-1"), ("room", "x")]).1["path"], "page");
        assert_eq!(fault(&[("page", "4294967296"), ("room", "x")]).1["path"], "page");
        let missing = fault(&[("page", "7")]);
        assert_eq!(missing, ("`room` is missing".into(), serde_json::json!({ "path": "room" })));
        let (text, details) = fault(&[("order", "random"), ("page", "7"), ("room", "x")]);
        assert_eq!((&*text, &details["path"]), ("`order` is not one of newest, oldest", &"order".into()));
        let both = read::<u64>(&pairs(&[("a", "1"), ("b", "2")])).unwrap_err();
        assert_eq!(both.message, "the parameters do not fit");
        assert!(read::<(u8, u8)>(&pairs(&[("a", "1")])).is_err());
    }
}
