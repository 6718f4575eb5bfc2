//! One set of named definitions for all types of a contract. Types of one name are one definition where they are
//! the same, and get names of their own where they are not: those of clients `…Input`, others a number.

use super::declared::{DEFINITIONS, Declared, Side, referred};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Definitions(BTreeMap<String, Value>);

type DefinitionNames = BTreeMap<String, String>;
/// Pairs of a type's own definition and one of the set that are taken to be the same while they are compared.
type Assumed = BTreeSet<(String, String)>;

impl Definitions {
    /// Takes in what a type refers to, and returns its schema with the names of this set.
    pub(super) fn admit(&mut self, declared: &Declared) -> Value {
        let own = &declared.definitions;
        let mut names = DefinitionNames::new();
        let mut fresh = BTreeSet::new();
        for name in reachable(&declared.schema, own) {
            let is_same = |there: &Value| self.is_same((&own[&name], own), there, &mut Assumed::new());
            let known =
                self.0.iter().find(|(known, there)| is_name_for(known, &plain(&name)) && is_same(there));
            let chosen = match known {
                Some((known, _)) => Some(known.clone()),
                None => candidates(&plain(&name), declared.side)
                    .find(|free| !self.0.contains_key(free) && fresh.insert(free.clone())),
            };
            names.extend(chosen.map(|chosen| (name, chosen)));
        }
        for (name, chosen) in &names {
            if fresh.contains(chosen) {
                self.0.insert(chosen.clone(), renamed(&own[name], &names));
            }
        }
        renamed(&declared.schema, &names)
    }

    pub(super) fn into_schemas(self) -> BTreeMap<String, Value> {
        self.0
    }

    fn is_same(&self, own: (&Value, &Map<String, Value>), there: &Value, assumed: &mut Assumed) -> bool {
        let (schema, definitions) = own;
        match (schema, there) {
            (Value::Object(one), Value::Object(other)) => {
                one.len() == other.len()
                    && one.iter().all(|(key, value)| match (referred(schema), referred(there)) {
                        (Some(name), Some(other)) if key == "$ref" => {
                            let is_new = assumed.insert((name.clone(), other.clone()));
                            !is_new
                                || match (definitions.get(&name), self.0.get(&other)) {
                                    (Some(own), Some(there)) => {
                                        self.is_same((own, definitions), there, assumed)
                                    }
                                    _ => false,
                                }
                        }
                        _ => other
                            .get(key)
                            .is_some_and(|there| self.is_same((value, definitions), there, assumed)),
                    })
            }
            (Value::Array(one), Value::Array(other)) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .zip(other)
                        .all(|(own, there)| self.is_same((own, definitions), there, assumed))
            }
            _ => schema == there,
        }
    }
}

/// The definitions that a schema needs, directly or not.
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

/// A definition's name as a document may have it.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The names that a definition may get, the best first.
fn candidates(plain: &str, side: Side) -> impl Iterator<Item = String> {
    let input = (side == Side::Input).then(|| format!("{plain}{INPUT}"));
    let numbered = input.clone().unwrap_or_else(|| plain.to_owned());
    let numbered = (2..).map(move |number: u32| format!("{numbered}{number}"));
    [Some(plain.to_owned()), input].into_iter().flatten().chain(numbered)
}

/// Whether it is one of the names that `candidates` gives, also to a type that `schemars` has numbered already.
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
