//! Converts one JSON Schema to a TypeScript type: it supports what `schemars` writes, and other common
//! keywords. What TypeScript cannot express (ranges, lengths, patterns) is left out or written as a comment.
//! Called by `typescript`.

use super::declared::referred;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Converts schemas whose references become names of types in the module.
#[derive(Debug)]
pub(super) struct Types<'a> {
    /// Names of the types in the module, by definition.
    pub(super) names: &'a BTreeMap<String, String>,
}

/// The text of a type, and how strongly it binds.
struct Type {
    text: String,
    binding: BindingStrength,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum BindingStrength {
    /// A union, which binds weaker than everything else.
    Union,
    Intersection,
    /// A type that never needs parentheses.
    Whole,
}

impl Types<'_> {
    /// Returns the type of a schema's values. `level` is the level of indentation.
    pub(super) fn write(&self, schema: &Value, level: usize) -> String {
        self.of(schema, level).text
    }

    fn of(&self, schema: &Value, level: usize) -> Type {
        let Value::Object(whole) = schema else {
            return whole_type(if schema == &Value::Bool(false) { "never" } else { "unknown" });
        };
        let mut parts = Vec::new();
        if let Some(name) = referred(schema).and_then(|name| self.names.get(&name)) {
            parts.push(whole_type(name));
        }
        if let Some(value) = whole.get("const") {
            parts.push(literal(value));
        } else if let Some(Value::Array(values)) = whole.get("enum") {
            parts.push(union(values.iter().map(literal)));
        } else {
            parts.extend(self.plain(whole, level));
        }
        for key in ["oneOf", "anyOf"] {
            if let Some(Value::Array(alternatives)) = whole.get(key) {
                parts.push(union(alternatives.iter().map(|one| self.of(one, level))));
            }
        }
        if let Some(Value::Array(all)) = whole.get("allOf") {
            parts.extend(all.iter().map(|one| self.of(one, level)));
        }
        if whole.get("not").is_some_and(|not| not == &Value::Bool(true) || not == &Value::Object(Map::new()))
        {
            parts.push(whole_type("never"));
        }
        intersection(parts)
    }

    /// Returns the type that the keyword `type` stands for, or keywords that imply it.
    fn plain(&self, whole: &Map<String, Value>, level: usize) -> Option<Type> {
        let kinds: Vec<&str> = match whole.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ if whole.contains_key("properties") => vec!["object"],
            _ if whole.contains_key("items") || whole.contains_key("prefixItems") => vec!["array"],
            _ => return None,
        };
        Some(union(kinds.into_iter().map(|kind| match kind {
            "integer" | "number" => whole_type("number"),
            "array" => self.array(whole, level),
            "object" => self.object(whole, level),
            "string" | "boolean" | "null" => whole_type(kind),
            _ => whole_type("unknown"),
        })))
    }

    fn array(&self, whole: &Map<String, Value>, level: usize) -> Type {
        let count = |key: &str| whole.get(key).and_then(Value::as_u64);
        let rest = match whole.get("items") {
            None => whole_type("unknown"),
            Some(items) => self.of(items, level),
        };
        let items: Vec<Type> = match whole.get("prefixItems").and_then(Value::as_array) {
            Some(items) => items.iter().map(|item| self.of(item, level)).collect(),
            None => match (count("minItems"), count("maxItems"), whole.get("items")) {
                (Some(min), Some(max), Some(item)) if min == max && max <= MAX_TUPLE_ITEMS => {
                    (0..max).map(|_| self.of(item, level)).collect()
                }
                _ => return array_of(rest),
            },
        };
        let min = count("minItems").and_then(|min| usize::try_from(min).ok()).unwrap_or(0);
        let is_closed = count("maxItems").is_some_and(|max| max <= items.len() as u64)
            || whole.get("items") == Some(&Value::Bool(false));
        let mut all: Vec<String> = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            all.push(if index < min {
                item.text
            } else {
                format!("{}?", bound(item, BindingStrength::Whole))
            });
        }
        if !is_closed {
            all.push(format!("...{}", array_of(rest).text));
        }
        whole_type(&format!("[{}]", all.join(", ")))
    }

    fn object(&self, whole: &Map<String, Value>, level: usize) -> Type {
        let properties: BTreeMap<&String, &Value> =
            whole.get("properties").and_then(Value::as_object).into_iter().flatten().collect();
        let required = whole.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|one| one == name));
        let indent = "  ".repeat(level + 1);
        let (mut text, mut values, mut is_partial) = (String::from("{\n"), Vec::new(), false);
        for (name, schema) in &properties {
            let value = self.of(schema, level + 1);
            let mark = if is_required(name) { "" } else { "?" };
            text.push_str(&comment(schema, level + 1));
            let _ = writeln!(text, "{indent}{}{mark}: {};", key(name), value.text);
            values.push(value);
            is_partial |= !is_required(name);
        }
        if let Some((index, others)) = self.index(whole, level + 1) {
            // In TypeScript, the type of an index signature must include those of the named fields.
            let missing = is_partial.then(|| whole_type("undefined"));
            let covered = union(others.into_iter().chain(values).chain(missing));
            let _ = writeln!(text, "{indent}[key: {index}]: {};", covered.text);
        } else if properties.is_empty() {
            return whole_type(NO_FIELDS);
        }
        let _ = write!(text, "{}}}", "  ".repeat(level));
        whole_type(&text)
    }

    /// Returns the type of the keys and the types of the values for fields without a fixed name, where there
    /// may be any.
    fn index(&self, whole: &Map<String, Value>, level: usize) -> Option<(&'static str, Vec<Type>)> {
        let additional = match whole.get("additionalProperties") {
            None | Some(Value::Bool(false)) => None,
            Some(schema) => Some(self.of(schema, level)),
        };
        let patterns: Vec<(&String, &Value)> =
            whole.get("patternProperties").and_then(Value::as_object).into_iter().flatten().collect();
        let is_numeric = additional.is_none()
            && !whole.contains_key("properties")
            && patterns.iter().all(|(pattern, _)| NUMBERS.contains(&pattern.as_str()));
        let values: Vec<Type> =
            additional.into_iter().chain(patterns.iter().map(|(_, schema)| self.of(schema, level))).collect();
        (!values.is_empty()).then_some((if is_numeric { "`${number}`" } else { "string" }, values))
    }
}

/// Returns the description, format, default and deprecation of a schema as a comment; empty where it has
/// none.
pub(super) fn comment(schema: &Value, level: usize) -> String {
    let text = |name: &str| schema.get(name).and_then(Value::as_str);
    let mut lines: Vec<String> =
        text("description").into_iter().flat_map(str::lines).map(str::to_owned).collect();
    match text("format") {
        Some("int64" | "uint64" | "int128" | "uint128" | "int" | "uint") => {
            lines.push("A 64-bit integer or wider: exact up to 2^53 - 1.".to_owned());
        }
        Some(format) if schema.get("type").is_some_and(|kind| kind == "string" || kind[0] == "string") => {
            lines.push(format!("Format: {format}."));
        }
        _ => {}
    }
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        lines.push(format!("@default {default}"));
    }
    if schema.get("deprecated") == Some(&Value::Bool(true)) {
        lines.push("@deprecated".to_owned());
    }
    let indent = "  ".repeat(level);
    let lines: Vec<String> = lines.iter().map(|line| line.replace("*/", "*\\/")).collect();
    match &lines[..] {
        [] => String::new(),
        [line] => format!("{indent}/** {} */\n", line.trim()),
        _ => {
            let lines = lines.iter().map(|line| format!("{indent} * {line}").trim_end().to_owned() + "\n");
            format!("{indent}/**\n{}{indent} */\n", lines.collect::<String>())
        }
    }
}

/// Returns the name of a field as TypeScript writes it in an object type.
pub(super) fn key(name: &str) -> String {
    if is_identifier(name) { name.to_owned() } else { Value::from(name).to_string() }
}

pub(super) fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == '$')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
}

fn literal(value: &Value) -> Type {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| literal(item).text).collect();
            whole_type(&format!("[{}]", items.join(", ")))
        }
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            let fields =
                fields.into_iter().map(|(name, value)| format!("{}: {}", key(name), literal(value).text));
            whole_type(&format!("{{ {} }}", fields.collect::<Vec<_>>().join("; ")))
        }
        _ => whole_type(&value.to_string()),
    }
}

fn whole_type(text: &str) -> Type {
    Type { text: text.to_owned(), binding: BindingStrength::Whole }
}

fn array_of(item: Type) -> Type {
    whole_type(&format!("{}[]", bound(item, BindingStrength::Whole)))
}

fn bound(part: Type, min: BindingStrength) -> String {
    if part.binding < min { format!("({})", part.text) } else { part.text }
}

fn union(parts: impl Iterator<Item = Type>) -> Type {
    let mut texts: Vec<String> = Vec::new();
    let mut last = BindingStrength::Whole;
    for part in parts {
        if part.text != "never" && !texts.contains(&part.text) {
            last = part.binding;
            texts.push(part.text);
        }
    }
    match &texts[..] {
        [] => whole_type("never"),
        [one] => Type { text: one.clone(), binding: last },
        _ if texts.iter().any(|text| text == "unknown") => whole_type("unknown"),
        _ => Type { text: texts.join(" | "), binding: BindingStrength::Union },
    }
}

fn intersection(mut parts: Vec<Type>) -> Type {
    // An object type without fields adds nothing to the other types.
    if parts.len() > 1 {
        let only = parts.iter().all(|part| part.text == NO_FIELDS);
        parts.retain(|part| part.text != "unknown" && (only || part.text != NO_FIELDS));
    }
    if parts.len() < 2 {
        return parts.pop().unwrap_or_else(|| whole_type("unknown"));
    }
    let texts: Vec<String> =
        parts.into_iter().map(|part| bound(part, BindingStrength::Intersection)).collect();
    Type { text: texts.join(" & "), binding: BindingStrength::Intersection }
}

const NO_FIELDS: &str = "object";
/// Patterns that `schemars` writes for keys that are integers.
const NUMBERS: [&str; 2] = ["^\\d+$", "^-?\\d+$"];
/// Maximum length up to which arrays of a fixed length become tuples.
const MAX_TUPLE_ITEMS: u64 = 8;
