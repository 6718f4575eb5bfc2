//! What a declaration must keep to, be it made in Rust or read, and how a contract and a handler are compared.

use super::declared::Declared;
use super::{ContractTerms, Exchange};
use crate::channel::Pattern;
use crate::handler::{Handler, Signature};
use hauyna_protocol::is_reserved_type;
use std::collections::BTreeMap;

/// An event of clients: its fields are those of the message.
pub(super) fn request(event: &str, data: &Declared) -> Result<(), String> {
    name(event)?;
    if crate::handler::is_request_of_protocol(event) {
        return Err(format!("`{event}` is a request of the protocol"));
    }
    if !data.is_object() {
        return Err(format!("the data of `{event}` is no object: {}", data.rust));
    }
    if data.is_closed() {
        return Err(format!(
            "the data of `{event}` denies unknown fields, and so the message's `type` and `id`"
        ));
    }
    for field in ["type", "id"] {
        if data.has_field(field) {
            return Err(format!("the data of `{event}` has a field `{field}`, which is the message's own"));
        }
    }
    Ok(())
}

/// A message to a connection.
pub(super) fn direct(kind: &str, message: &Declared) -> Result<(), String> {
    if ["private", "group", "broadcast"].contains(&kind) { Ok(()) } else { of_application(kind, message) }
}

/// A message in a channel that is no publication of content.
pub(super) fn in_channel(kind: &str, message: &Declared) -> Result<(), String> {
    of_application(kind, message)
}

pub(super) fn metadata(metadata: &Declared) -> Result<(), String> {
    if metadata.is_object() { Ok(()) } else { Err(format!("metadata is an object: {}", metadata.rust)) }
}

/// The pattern of a channel, where none that was declared before matches the same names.
pub(super) fn pattern<'a>(text: &str, earlier: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let parse = |pattern: &str| Pattern::parse(pattern).map_err(|error| error.to_string());
    let parsed = parse(text)?;
    for other in earlier {
        if parse(other)?.is_same(&parsed) {
            return Err(format!("the channels `{text}` are declared twice"));
        }
    }
    Ok(())
}

fn of_application(kind: &str, message: &Declared) -> Result<(), String> {
    name(kind)?;
    if kind == "message" || is_reserved_type(kind) {
        return Err(format!("`{kind}` is a message of the protocol"));
    }
    if !message.is_object() {
        return Err(format!("the message `{kind}` is no object: {}", message.rust));
    }
    if message.has_field("type") {
        return Err(format!("the message `{kind}` has a field `type` besides its own"));
    }
    Ok(())
}

/// What the protocol allows as the `type` of a message.
pub(super) fn name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > MAX_NAME_CHARS || text.chars().any(char::is_control) {
        return Err(format!(
            "`{}` is no name: 1 to {MAX_NAME_CHARS} bytes without control characters",
            text.escape_debug()
        ));
    }
    Ok(())
}

/// What a handler does otherwise than the contract says, one line each.
pub(super) fn differences(terms: &ContractTerms<Declared>, handler: &Handler) -> Vec<String> {
    let endpoint = handler.endpoint();
    let mut found = Vec::new();
    for (event, exchange) in &terms.requests {
        match endpoint.signatures.get(event.as_str()) {
            Some(Some(signature)) => found.extend(difference(event, exchange, signature)),
            Some(None) => {}
            None if endpoint.on_message.is_some() => {}
            None => found.push(format!("- the handler has no event `{event}`")),
        }
    }
    let signatures: BTreeMap<_, _> = endpoint.signatures.iter().collect();
    for event in signatures.into_keys().filter(|event| !terms.requests.contains_key(&***event)) {
        found.push(format!("- the contract has no event `{event}`"));
    }
    found
}

fn difference(event: &str, exchange: &Exchange<Declared>, signature: &Signature) -> Vec<String> {
    let pairs =
        [("takes", exchange.data.rust, signature.data), ("answers", exchange.reply.rust, signature.reply)];
    // What was read knows no types of Rust.
    let differ = pairs.into_iter().filter(|(_, agreed, does)| !agreed.is_empty() && agreed != does);
    differ
        .map(|(verb, agreed, does)| format!("- `{event}` {verb} `{does}`, the contract says `{agreed}`"))
        .collect()
}

/// Bytes of a name.
const MAX_NAME_CHARS: usize = 255;

#[cfg(test)]
mod tests {
    use crate::contract::Contract;
    use crate::{Context, Handler, Value, json};
    use schemars::JsonSchema;
    use serde::Deserialize;

    #[derive(Deserialize, JsonSchema)]
    struct Refresh;

    #[test]
    fn event_without_data_is_a_message_without_fields_of_its_own() {
        let contract = Contract::new("t", "1").event::<(), u8>("unit").event::<Refresh, u8>("struct");
        let handler = Handler::new()
            .on("unit", async |_: Context, (): ()| Ok(1_u8))
            .on("struct", async |_: Context, _: Refresh| Ok(1_u8));
        contract.check(&handler);
        let schema = contract.json_schema();
        for event in ["unit", "struct"] {
            let data: &Value = &schema["properties"]["requests"]["properties"][event]["properties"]["data"];
            assert_eq!(*data, json!({ "type": "object" }), "{event}");
        }
    }
}
