//! The named definitions of all types of a contract, in one set. Types of the same name share a definition
//! where their schemas are equal. Otherwise they get different names: types that clients send get the suffix
//! `…Input`, others a number. Used by `Contract::document`.

use super::declared::{DEFINITIONS, Declared, Side, referred};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The schemas by name.
#[derive(Debug, Default)]
pub(super) struct Definitions(BTreeMap<String, Value>);

type DefinitionNames = BTreeMap<String, String>;
/// Pairs of a definition of a type and one of the set that are assumed to be equal while they are compared.
type Assumed = BTreeSet<(String, String)>;

impl Definitions {
    /// Adds the definitions that a type refers to, and returns its schema with the names of this set.
    pub(super) fn admit(&mut self, declared: &Declared) -> Value {
        let definitions = &declared.definitions;
        let mut names = DefinitionNames::new();
        let mut fresh = BTreeSet::new();
        for name in reachable(&declared.schema, definitions) {
            let is_same = |present: &Value| {
                self.is_same(&definitions[&name], definitions, present, &mut Assumed::new())
            };
            let known =
                self.0.iter().find(|(known, present)| is_name_for(known, &plain(&name)) && is_same(present));
            let chosen = match known {
                Some((known, _)) => Some(known.clone()),
                None => candidates(&plain(&name), declared.side)
                    .find(|free| !self.0.contains_key(free) && fresh.insert(free.clone())),
            };
            names.extend(chosen.map(|chosen| (name, chosen)));
        }
        for (name, chosen) in &names {
            if fresh.contains(chosen) {
                self.0.insert(chosen.clone(), renamed(&definitions[name], &names));
            }
        }
        renamed(&declared.schema, &names)
    }

    pub(super) fn into_schemas(self) -> BTreeMap<String, Value> {
        self.0
    }

    /// Whether a schema with its own definitions equals a schema of this set.
    fn is_same(
        &self,
        schema: &Value,
        definitions: &Map<String, Value>,
        present: &Value,
        assumed: &mut Assumed,
    ) -> bool {
        match (schema, present) {
            (Value::Object(one), Value::Object(other)) => {
                one.len() == other.len()
                    && one.iter().all(|(key, value)| match (referred(schema), referred(present)) {
                        (Some(name), Some(other)) if key == "$ref" => {
                            let is_new = assumed.insert((name.clone(), other.clone()));
                            !is_new
                                || match (definitions.get(&name), self.0.get(&other)) {
                                    (Some(target), Some(present)) => {
                                        self.is_same(target, definitions, present, assumed)
                                    }
                                    _ => false,
                                }
                        }
                        _ => other
                            .get(key)
                            .is_some_and(|present| self.is_same(value, definitions, present, assumed)),
                    })
            }
            (Value::Array(one), Value::Array(other)) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .zip(other)
                        .all(|(item, present)| self.is_same(item, definitions, present, assumed))
            }
            _ => schema == present,
        }
    }
}

/// Returns the definitions that a schema refers to, directly or indirectly.
fn reachable(schema: &Value, definitions: &Map<String, Value>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![schema];
    while let Some(schema) = waiting.pop() {
        if let Some(name) = referred(schema)
            && let Some((name, target)) = definitions.get_key_value(&name)
            && found.insert(name.clone())
        {
            waiting.push(target);
        }
        match schema {
            Value::Object(fields) => waiting.extend(fields.values()),
            Value::Array(items) => waiting.extend(items),
            _ => {}
        }
    }
    found
}

/// Returns the name of a definition with only the characters that a document may use.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Returns the names that a definition may get, the preferred one first.
fn candidates(plain: &str, side: Side) -> impl Iterator<Item = String> {
    let input = (side == Side::Input).then(|| format!("{plain}{INPUT}"));
    let numbered = input.clone().unwrap_or_else(|| plain.to_owned());
    let numbered = (2..).map(move |number: u32| format!("{numbered}{number}"));
    [Some(plain.to_owned()), input].into_iter().flatten().chain(numbered)
}

/// Whether `candidates` can return this name, also for a type that `schemars` has numbered already.
fn is_name_for(name: &str, plain: &str) -> bool {
    let plain = plain.trim_end_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = name.strip_prefix(plain) else { return false };
    rest.strip_prefix(INPUT).unwrap_or(rest).bytes().all(|byte| byte.is_ascii_digit())
}

fn renamed(schema: &Value, names: &DefinitionNames) -> Value {
    match schema {
        Value::Object(fields) => {
            let target = referred(schema).and_then(|name| names.get(&name));
            let fields = fields.iter().map(|(key, value)| match target {
                Some(name) if key == "$ref" => (key.clone(), format!("{DEFINITIONS}{name}").into()),
                _ => (key.clone(), renamed(value, names)),
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => items.iter().map(|item| renamed(item, names)).collect(),
        _ => schema.clone(),
    }
}

const INPUT: &str = "Input";
