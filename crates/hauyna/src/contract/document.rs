//! A contract as data: its terms as schemas over one set of definitions. It is written as one JSON Schema and
//! read from it; `typescript` and `async_api` generate their formats from it. Contracts that are read are
//! checked by the same rules as those that are declared. Called by `Contract`.

use super::channel::CONTENT;
use super::check;
use super::declared::{DEFINITIONS, Declared, Side};
use super::{ChannelTerms, Contract, ContractTerms, Exchange};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A contract whose references point into `definitions`.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) title: String,
    pub(super) version: String,
    pub(super) terms: ContractTerms<Value>,
    pub(super) definitions: BTreeMap<String, Value>,
}

impl Document {
    pub(super) fn json_schema(&self) -> Value {
        let ContractTerms { requests, client_requests, messages, channels } = &self.terms;
        let exchange = |one: &Exchange<Value>| {
            record([("data".into(), one.data.clone()), ("reply".into(), one.reply.clone())])
        };
        let metadata = |of: fn(&ChannelTerms<Value>) -> &Option<Value>| {
            let given =
                channels.iter().filter_map(|(pattern, one)| Some((pattern.clone(), of(one).clone()?)));
            record(given)
        };
        let client_events = channels.iter().filter(|(_, one)| !one.client_events.is_empty());
        let client_events =
            client_events.map(|(pattern, one)| (pattern.clone(), record(one.client_events.clone())));
        let sections = [
            (REQUESTS, record(requests.iter().map(|(name, one)| (name.clone(), exchange(one))))),
            (
                CLIENT_REQUESTS,
                record(client_requests.iter().map(|(name, one)| (name.clone(), exchange(one)))),
            ),
            (MESSAGES, record(messages.clone())),
            (
                CHANNELS,
                record(channels.iter().map(|(name, one)| (name.clone(), record(one.messages.clone())))),
            ),
            (CLIENT_EVENTS, record(client_events)),
            (SUBSCRIPTIONS, metadata(|channel| &channel.subscription)),
            (PRESENCE, metadata(|channel| &channel.presence)),
        ];
        let sections = sections.into_iter().filter(|(_, section)| section["required"] != json!([]));
        let mut whole = record(sections.map(|(name, section)| (name.to_owned(), section)));
        whole["$schema"] = DIALECT.into();
        whole["title"] = self.title.clone().into();
        whole["version"] = self.version.clone().into();
        whole["$defs"] = self.definitions.clone().into_iter().collect();
        // Sorted, so that the text does not depend on the order of `serde_json` maps, which any crate of a
        // program can change by a feature.
        whole.sort_all_objects();
        whole
    }
}

/// Returns a schema of objects that have these fields, all of them required.
fn record(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    let fields: BTreeMap<String, Value> = fields.into_iter().collect();
    let required: Vec<&String> = fields.keys().collect();
    json!({ "type": "object", "required": required, "properties": fields })
}

/// Reads what [`Document::json_schema`] has written.
pub(super) fn read(value: &Value) -> Result<Contract, String> {
    let text = |name: &str| {
        let text = value.get(name).and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| format!("not a contract: `{name}` is not a string"))
    };
    let empty = Map::new();
    let definitions = match value.get("$defs") {
        None => &empty,
        Some(definitions) => definitions.as_object().ok_or("`$defs` is not an object")?,
    };
    let reader = Reader { definitions: Arc::new(definitions.clone()) };
    for (name, schema) in definitions {
        reader.check(schema, &format!("$defs.{name}"))?;
    }
    let mut contract = Contract::new(text("title")?, text("version")?);
    let sections = value.get("properties").and_then(Value::as_object);
    for (name, section) in sections.ok_or("not a contract: `properties` is not an object")? {
        let place = format!("properties.{name}");
        for (key, schema) in fields(section, &place)? {
            reader
                .entry(&mut contract.terms, name, key, schema)
                .map_err(|fault| format!("{place}: {fault}"))?;
        }
    }
    Ok(contract)
}

struct Reader {
    definitions: Arc<Map<String, Value>>,
}

impl Reader {
    /// Reads the entry `key` of a section into the terms.
    fn entry(
        &self,
        terms: &mut ContractTerms<Declared>,
        section: &str,
        key: &str,
        schema: &Value,
    ) -> Result<(), String> {
        match section {
            REQUESTS => {
                let exchange = self.exchange(key, schema)?;
                check::request(key, &exchange.data)?;
                terms.requests.insert(key.to_owned(), exchange);
            }
            CLIENT_REQUESTS => {
                check::name(key)?;
                terms.client_requests.insert(key.to_owned(), self.exchange(key, schema)?);
            }
            MESSAGES => {
                let message = self.declared(key, schema)?;
                check::direct(key, &message)?;
                terms.messages.insert(key.to_owned(), message);
            }
            CHANNELS => {
                let channel = channel(terms, key)?;
                for (name, schema) in fields(schema, key)? {
                    let message = self.declared(&format!("{key}: {name}"), schema)?;
                    if name != CONTENT {
                        check::in_channel(name, &message)?;
                    }
                    channel.messages.insert(name.clone(), message);
                }
            }
            CLIENT_EVENTS => {
                let channel = channel(terms, key)?;
                for (name, schema) in fields(schema, key)? {
                    check::name(name)?;
                    let event = self.declared(&format!("{key}: {name}"), schema)?;
                    channel.client_events.insert(name.clone(), event);
                }
            }
            SUBSCRIPTIONS => channel(terms, key)?.subscription = Some(self.metadata(key, schema)?),
            PRESENCE => channel(terms, key)?.presence = Some(self.metadata(key, schema)?),
            _ => return Err("is not a section of a contract".to_owned()),
        }
        Ok(())
    }

    fn exchange(&self, name: &str, schema: &Value) -> Result<Exchange<Declared>, String> {
        let fields = fields(schema, name)?;
        let part = |part: &str| {
            let schema = fields.get(part).ok_or_else(|| format!("`{name}` has no `{part}`"))?;
            self.declared(&format!("{name}.{part}"), schema)
        };
        Ok(Exchange { data: part("data")?, reply: part("reply")? })
    }

    fn metadata(&self, pattern: &str, schema: &Value) -> Result<Declared, String> {
        let metadata = self.declared(pattern, schema)?;
        check::metadata(&metadata)?;
        Ok(metadata)
    }

    fn declared(&self, place: &str, schema: &Value) -> Result<Declared, String> {
        self.check(schema, place)?;
        // The definitions have their names already, so the side does not matter.
        let (schema, definitions) = (schema.clone(), self.definitions.clone());
        Ok(Declared { side: Side::Output, schema, definitions, rust: "" })
    }

    /// Checks that a schema is an object or a boolean, and that its references have definitions.
    fn check(&self, schema: &Value, place: &str) -> Result<(), String> {
        if !schema.is_object() && !schema.is_boolean() {
            return Err(format!("`{place}` is not a schema"));
        }
        let mut waiting = vec![schema];
        while let Some(part) = waiting.pop() {
            if let Some(reference) = part.get("$ref").and_then(Value::as_str) {
                let name = super::declared::referred(part);
                if !name.is_some_and(|name| self.definitions.contains_key(&name)) {
                    return Err(format!(
                        "`{place}` refers to `{reference}`, which is not defined under `{DEFINITIONS}`"
                    ));
                }
            }
            match part {
                Value::Object(fields) => waiting.extend(fields.values()),
                Value::Array(items) => waiting.extend(items),
                _ => {}
            }
        }
        Ok(())
    }
}

fn channel<'a>(
    terms: &'a mut ContractTerms<Declared>,
    pattern: &str,
) -> Result<&'a mut ChannelTerms<Declared>, String> {
    check::pattern(pattern, terms.channels.keys().filter(|earlier| *earlier != pattern))?;
    Ok(terms.channels.entry(pattern.to_owned()).or_default())
}

fn fields<'a>(schema: &'a Value, place: &str) -> Result<&'a Map<String, Value>, String> {
    let fields = schema.get("properties").and_then(Value::as_object);
    fields.ok_or_else(|| format!("`{place}` has no `properties`"))
}

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
pub(super) const REQUESTS: &str = "requests";
pub(super) const CLIENT_REQUESTS: &str = "clientRequests";
pub(super) const MESSAGES: &str = "messages";
pub(super) const CHANNELS: &str = "channels";
pub(super) const CLIENT_EVENTS: &str = "clientEvents";
pub(super) const SUBSCRIPTIONS: &str = "subscriptions";
pub(super) const PRESENCE: &str = "presence";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_and_version_stay_in_their_line() {
        let written = Contract::new("a\u{2028}b", "1\nc\u{2029}d").typescript();
        let second = written.split(['\n', '\r', '\u{2028}', '\u{2029}']).nth(1);
        assert_eq!(
            (written.lines().next().unwrap().split('.').next(), second),
            (Some("// a b 1 c d"), Some(""))
        );
    }

    #[test]
    fn what_is_read_is_checked_as_what_is_declared() {
        let object = json!({ "properties": {} });
        let twice = json!({ "channels": { "properties": { "room:{id}": object, "room:{name}": object } } });
        let no_object = json!({ "presence": { "properties": { "room:{id}": { "type": "string" } } } });
        for (properties, text) in [(twice, "declared twice"), (no_object, "metadata is not an object")] {
            let fault = read(&json!({ "title": "t", "version": "1", "properties": properties }));
            assert!(fault.as_ref().is_err_and(|fault| fault.contains(text)), "{text}: {:?}", fault.err());
        }
    }
}
