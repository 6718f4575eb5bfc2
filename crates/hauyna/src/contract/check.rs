//! The rules for declarations, both those in Rust and those that are read from a document, and the comparison
//! of a contract with a handler. Called by `Contract`, `ChannelContract` and `document`.

use super::declared::Declared;
use super::{ContractTerms, Exchange};
use crate::channel::Pattern;
use crate::handler::{Handler, Signature};
use hauyna_protocol::is_reserved_type;
use std::collections::BTreeMap;

/// Checks an event of clients. The fields of its data are those of the message.
pub(super) fn request(event: &str, data: &Declared) -> Result<(), String> {
    name(event)?;
    if crate::handler::is_request_of_protocol(event) {
        return Err(format!("`{event}` is a request of the protocol"));
    }
    if !data.is_object() {
        return Err(format!("the data of `{event}` is not an object: {}", data.rust));
    }
    if data.is_closed() {
        return Err(format!(
            "the data of `{event}` denies unknown fields, so it would refuse the message's `type` and `id`"
        ));
    }
    for field in ["type", "id"] {
        if data.has_field(field) {
            return Err(format!("the data of `{event}` has a field `{field}`, which the message itself has"));
        }
    }
    Ok(())
}

/// Checks a message to one connection.
pub(super) fn direct(kind: &str, message: &Declared) -> Result<(), String> {
    if ["private", "group", "broadcast"].contains(&kind) { Ok(()) } else { of_application(kind, message) }
}

/// Checks a message of the application in a channel, other than a publication of content.
pub(super) fn in_channel(kind: &str, message: &Declared) -> Result<(), String> {
    of_application(kind, message)
}

pub(super) fn metadata(metadata: &Declared) -> Result<(), String> {
    if metadata.is_object() { Ok(()) } else { Err(format!("metadata is not an object: {}", metadata.rust)) }
}

/// Checks the pattern of a channel, which must not match the same names as one that was declared before.
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
        return Err(format!("the message `{kind}` is not an object: {}", message.rust));
    }
    if message.has_field("type") {
        return Err(format!("the message `{kind}` has a field `type`, which the message itself has"));
    }
    Ok(())
}

/// Checks that the protocol allows a text as the `type` of a message.
pub(super) fn name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
        return Err(format!(
            "`{}` is not a valid name: 1 to {MAX_NAME_BYTES} bytes without control characters",
            text.escape_debug()
        ));
    }
    Ok(())
}

/// Returns the differences between a contract and a handler, one line each.
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
    // A contract that was read has no names of Rust types, so it compares none.
    let differ = pairs.into_iter().filter(|(_, agreed, does)| !agreed.is_empty() && agreed != does);
    differ
        .map(|(verb, agreed, does)| format!("- `{event}` {verb} `{does}`, the contract says `{agreed}`"))
        .collect()
}

/// Maximum length of a name in bytes.
const MAX_NAME_BYTES: usize = 255;

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
