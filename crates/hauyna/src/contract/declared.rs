//! A declared type: its schema by `schemars`, for the side that creates its values, with all definitions that
//! the schema refers to. It answers what a schema says about the shape of its values. Used by the whole of
//! `contract`.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A type and its schema.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub(super) side: Side,
    pub(super) schema: Value,
    /// The definitions that `#/$defs/` in the schema refers to.
    pub(super) definitions: Arc<Map<String, Value>>,
    /// Name of the Rust type; empty where the contract was read.
    pub(super) rust: &'static str,
}

/// The side that creates the values of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Clients create the values, and `Deserialize` accepts them.
    Input,
    /// The application creates the values, and `Serialize` writes them.
    Output,
}

impl Declared {
    pub(super) fn of<T: JsonSchema>(side: Side) -> Self {
        let settings = SchemaSettings::draft2020_12();
        let settings = match side {
            Side::Input => settings.for_deserialize(),
            Side::Output => settings.for_serialize(),
        };
        let mut generator = settings.into_generator();
        let schema = generator.subschema_for::<T>().to_value();
        let definitions = Arc::new(generator.take_definitions(true));
        Self { side, schema, definitions, rust: std::any::type_name::<T>() }
    }

    /// Declares the data of an event. An event without data is a message without fields of the application.
    pub(super) fn of_event<T: JsonSchema>() -> Self {
        let declared = Self::of::<T>(Side::Input);
        if declared.target(&declared.schema).get("type").is_none_or(|kind| kind != "null") {
            return declared;
        }
        Self { schema: serde_json::json!({ "type": "object" }), definitions: Arc::default(), ..declared }
    }

    /// Whether all values are objects, as far as the schema says.
    pub(super) fn is_object(&self) -> bool {
        self.shapes(&self.schema, &mut Seen::new(), &mut |shape| match shape {
            Shape::Fields { .. } | Shape::Anything => true,
            Shape::Other => false,
        })
    }

    /// Whether a value may have a field of this name that the schema knows.
    pub(super) fn has_field(&self, name: &str) -> bool {
        self.has_shape(|shape| matches!(shape, Shape::Fields { known, .. } if known.contains_key(name)))
    }

    /// Whether a value may be refused for a field that the schema does not know.
    pub(super) fn is_closed(&self) -> bool {
        self.has_shape(|shape| matches!(shape, Shape::Fields { is_closed: true, .. }))
    }

    fn has_shape(&self, wanted: impl Fn(Shape<'_>) -> bool) -> bool {
        let mut found = false;
        self.shapes(&self.schema, &mut Seen::new(), &mut |shape| {
            found |= wanted(shape);
            true
        });
        found
    }

    /// Returns the variants of an enum that is tagged by `type`: for each, the value of `type`, and the
    /// variant without that field.
    pub(super) fn variants(&self) -> Result<Vec<(String, Self)>, String> {
        let fault = || format!("`{}` is not an enum with `#[serde(tag = \"type\")]`", self.rust);
        let whole = self.target(&self.schema);
        let variants =
            ["oneOf", "anyOf"].iter().find_map(|key| whole.get(key)?.as_array()).ok_or_else(fault)?;
        let named = variants.iter().map(|variant| {
            let name = variant.pointer("/properties/type/const").and_then(Value::as_str);
            let name = name.ok_or_else(fault)?.to_owned();
            Ok((name, Self { schema: without_type(variant), ..self.clone() }))
        });
        named.collect()
    }

    /// Follows a reference to its definition. Any other schema is returned as it is.
    fn target<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let (mut schema, mut seen) = (schema, Seen::new());
        while let Some(name) = referred(schema)
            && let Some(target) = self.definitions.get(&name)
            && seen.insert(name)
        {
            schema = target;
        }
        schema
    }

    /// Whether `ask` accepts every shape that values may have. Where a value must fit several schemas at
    /// once, it is enough that one of them is accepted.
    fn shapes(&self, schema: &Value, seen: &mut Seen, ask: &mut dyn FnMut(Shape<'_>) -> bool) -> bool {
        let Value::Object(whole) = schema else { return ask(Shape::Anything) };
        let mut parts = Vec::new();
        if let Some(name) = referred(schema)
            && let Some(target) = self.definitions.get(&name)
        {
            // A definition that was seen before has been checked already.
            parts.push(!seen.insert(name) || self.shapes(target, seen, ask));
        }
        for key in ["oneOf", "anyOf"] {
            if let Some(Value::Array(alternatives)) = whole.get(key) {
                let all: Vec<bool> = alternatives.iter().map(|one| self.shapes(one, seen, ask)).collect();
                parts.push(all.iter().all(|yes| *yes));
            }
        }
        if let Some(Value::Array(all)) = whole.get("allOf") {
            parts.extend(all.iter().map(|one| self.shapes(one, seen, ask)));
        }
        let none = Map::new();
        match whole.get("type") {
            Some(Value::String(kind)) if kind == "object" => {
                let known = whole.get("properties").and_then(Value::as_object).unwrap_or(&none);
                let is_closed = whole.get("additionalProperties") == Some(&Value::Bool(false));
                parts.push(ask(Shape::Fields { known, is_closed }));
            }
            Some(_) => parts.push(ask(Shape::Other)),
            None if whole.contains_key("const") || whole.contains_key("enum") => {
                parts.push(ask(Shape::Other));
            }
            None if parts.is_empty() => parts.push(ask(Shape::Anything)),
            None => {}
        }
        parts.contains(&true)
    }
}

/// The names of the definitions that were visited.
type Seen = BTreeSet<String>;

/// One form that the values of a schema may have.
enum Shape<'a> {
    Fields { known: &'a Map<String, Value>, is_closed: bool },
    Anything,
    Other,
}

/// Returns the name of the definition that `$ref` refers to.
pub(super) fn referred(schema: &Value) -> Option<String> {
    let name = schema.get("$ref")?.as_str()?.strip_prefix(DEFINITIONS)?;
    Some(name.replace("~1", "/").replace("~0", "~"))
}

fn without_type(variant: &Value) -> Value {
    let mut variant = variant.clone();
    if let Some(Value::Object(properties)) = variant.get_mut("properties") {
        properties.remove("type");
    }
    if let Some(Value::Array(required)) = variant.get_mut("required") {
        required.retain(|name| name != "type");
    }
    variant
}

pub(super) const DEFINITIONS: &str = "#/$defs/";
