//! JSON Schema as a validator, by the crate `jsonschema`. It accesses neither the network nor files, it
//! matches patterns in linear time, and it collects faults only for small values, which have few. Called
//! through `Validator`.

use super::{Invalid, Validator};
use crate::error::Error;
use jsonschema::PatternOptions;
use jsonschema::paths::{Location, LocationSegment};
use serde_json::Value;
use std::fmt::Write;

/// A JSON Schema that values are checked against. It supports all drafts from 4 to 2020-12; `$schema` selects
/// one, and the latest is the default. A schema is self-contained: a `$ref` to another document is an error.
///
/// It checks the whole message of an event, including `type` and `id`, or the `content` of a publication in a
/// channel. The faults are listed for a value with at most 2,048 values and bytes of names, eight levels
/// deep; a larger value is refused without its faults.
///
/// `pattern` is matched in linear time, without look-around and back references. `format` is checked where
/// the draft requires it: up to draft 7.
///
/// # Examples
///
/// ```
/// use hauyna::{ChannelOptions, Handler, Hub, json};
/// use hauyna::validate::{Schema, Validator};
///
/// let schema = Schema::new(&json!({
///     "type": "object",
///     "properties": { "text": { "type": "string", "maxLength": 500 } },
///     "required": ["text"],
/// }))?;
/// let invalid = schema.validate("say", &json!({ "text": 7 })).unwrap_err();
/// assert_eq!(invalid.to_string(), "`text` is not of type \"string\"");
///
/// let hub = Hub::builder().channels("budget:{id}", ChannelOptions::new().validate(schema.clone())).build();
/// let handler = Handler::new().validate("say", schema);
/// # Ok::<(), hauyna::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Schema(jsonschema::Validator);

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config) where it is not a schema, it refers to another
    /// document, or a pattern needs more than linear time.
    pub fn new(schema: &Value) -> Result<Self, Error> {
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
        let validator = options.build(schema);
        validator.map(Self).map_err(|error| Error::config(format!("JSON Schema: {error}")))
    }
}

impl Validator for Schema {
    fn validate(&self, _: &str, value: &Value) -> Result<(), Invalid> {
        if self.0.is_valid(value) {
            return Ok(());
        }
        let mut budget = MAX_SIZE;
        if !has_few_faults(value, MAX_DEPTH, &mut budget) {
            return Err(Invalid::at("", "does not fit its schema, and is too large to say where"));
        }
        // Masked, so that an error does not repeat the client's value.
        let faults = self.0.iter_errors(value).take(super::validator::MAX_FLAWS);
        let mut faults =
            faults.map(|error| (path(error.instance_path()), words(&error.masked().to_string())));
        let (path, text) = faults.next().unwrap_or_else(|| (String::new(), "does not fit its schema".into()));
        Err(faults.fold(Invalid::at(path, text), |all, (path, text)| all.and(path, text)))
    }
}

/// Whether collecting all faults costs little. The crate has no limit: each fault has its path, so their size
/// is the number of values times the length of names, and alternatives that refer back to the schema multiply
/// it at each level.
fn has_few_faults(value: &Value, depth: usize, budget: &mut usize) -> bool {
    let mut take = |bytes: usize| {
        let remaining = budget.checked_sub(1 + bytes);
        *budget = remaining.unwrap_or(0);
        remaining.is_some()
    };
    match value {
        Value::Array(items) => {
            depth > 0 && take(0) && items.iter().all(|item| has_few_faults(item, depth - 1, budget))
        }
        Value::Object(fields) => {
            depth > 0
                && take(fields.keys().map(String::len).sum())
                && fields.values().all(|field| has_few_faults(field, depth - 1, budget))
        }
        _ => take(0),
    }
}

/// Returns the text of a fault that follows the path, as in other faults.
fn words(masked: &str) -> String {
    match masked.strip_prefix("value ") {
        Some(rest) => rest.into(),
        None => format!("does not fit: {masked}"),
    }
}

fn path(location: &Location) -> String {
    let mut path = String::new();
    for segment in location {
        match segment {
            LocationSegment::Index(index) => {
                let _ = write!(path, "[{index}]");
            }
            LocationSegment::Property(name) => {
                path.push_str(if path.is_empty() { "" } else { "." });
                path.push_str(&name);
            }
        }
    }
    path
}

/// Maximum number of values and bytes of names in a value whose faults are collected.
const MAX_SIZE: usize = 2048;
/// Maximum number of levels in a value whose faults are collected.
const MAX_DEPTH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(schema: &Value, value: &Value) -> Vec<(String, String)> {
        let invalid = Schema::new(schema).unwrap().validate("x", value).unwrap_err();
        let mut faults: Vec<_> = invalid.faults().map(|(path, text)| (path.into(), text.into())).collect();
        faults.sort_unstable();
        faults
    }

    #[test]
    fn a_schema_names_every_place_that_does_not_fit() {
        let price = json!({ "properties": { "price": { "minimum": 0 } }, "required": ["price"] });
        let schema = json!({ "properties": { "items": { "items": price } }, "required": ["name"] });
        let found = faults(&schema, &json!({ "items": [{ "price": 1 }, { "price": -1 }, {}] }));
        let found: Vec<_> = found.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        assert_eq!(
            found,
            [
                ("", "does not fit: \"name\" is a required property"),
                ("items[1].price", "is less than the minimum of 0"),
                ("items[2]", "does not fit: \"price\" is a required property"),
            ]
        );
        let good = json!({ "name": "x", "items": [{ "price": 1 }] });
        assert!(Schema::new(&schema).unwrap().validate("order", &good).is_ok());
    }

    #[test]
    fn a_schema_reaches_no_other_document() {
        for reference in ["https://example.com/other.json", "file:///etc/passwd", "other.json"] {
            assert!(Schema::new(&json!({ "$ref": reference })).is_err(), "{reference}");
            assert!(Schema::new(&json!({ "$schema": reference })).is_err(), "{reference}");
        }
    }

    #[test]
    fn what_is_no_schema_is_an_error_of_configuration() {
        for schema in [json!({ "type": "nonsense" }), json!({ "pattern": "(" }), json!(7)] {
            assert_eq!(Schema::new(&schema).unwrap_err().kind(), crate::error::ErrorKind::Config, "{schema}");
        }
    }

    #[test]
    fn a_pattern_takes_linear_time_whatever_it_is_given() {
        let schema = Schema::new(&json!({ "type": "string", "pattern": "^(a+)+$" })).unwrap();
        let hostile = Value::String(format!("{}!", "a".repeat(60_000)));
        assert!(schema.validate("x", &hostile).is_err());
        for backtracking in ["(a)\\1", "(?=a)b"] {
            assert!(Schema::new(&json!({ "pattern": backtracking })).is_err(), "{backtracking}");
        }
    }

    #[test]
    fn an_error_does_not_bring_a_value_back() {
        let found = faults(&json!({ "type": "integer" }), &json!("secret"));
        assert_eq!(found, [(String::new(), "is not of type \"integer\"".into())]);
    }

    #[test]
    fn faults_are_sixteen_at_most_and_short() {
        let found = faults(&json!({ "items": { "type": "null" } }), &Value::from(vec![0; 1000]));
        assert_eq!(found.len(), 16);
        let many: Value = (0..200).map(|n| (format!("field{n}"), json!(0))).collect();
        let found = faults(&json!({ "additionalProperties": false }), &many);
        assert!(found.iter().all(|(_, text)| text.len() <= 200 + '…'.len_utf8()), "{found:?}");
    }

    #[test]
    fn a_large_or_deep_value_is_refused_without_collecting_what_is_wrong_with_it() {
        let schema = json!({ "additionalProperties": { "items": { "type": "string" } } });
        // Listing each fault would take 450 MB of paths.
        let long = json!({ "n".repeat(30_000): vec![0; 15_000] });
        // With faults listed level by level, there would be 4 to the power of 100.
        let again = json!({ "properties": { "of": { "$ref": "#" }, "kind": { "type": "null" } } });
        let alternatives = json!({ "anyOf": [again, again, again, again] });
        let deep = (0..100).fold(json!({ "kind": 1 }), |inner, _| json!({ "kind": 1, "of": inner }));
        for (schema, value) in [(schema, long), (alternatives, deep)] {
            let found = faults(&schema, &value);
            assert_eq!(found.len(), 1);
            assert!(found[0].1.ends_with("too large to say where"), "{found:?}");
        }
    }
}
