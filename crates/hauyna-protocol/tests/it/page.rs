//! The examples of `PROTOCOL.md` are fixtures, and its tables are the tables of the code.

use crate::fixtures::{APPLICATION, FAULTS, MESSAGES, REQUESTS, read};
use hauyna_protocol::{ErrorType, RecoveryFailure, close::CloseCode};
use serde_json::Value;

const PAGE: &str = include_str!("../../../../PROTOCOL.md");

#[test]
fn every_json_example_of_the_page_is_a_fixture() {
    let fixtures: Vec<Value> = [REQUESTS, FAULTS, MESSAGES, APPLICATION]
        .into_iter()
        .flat_map(read::<Value>)
        .flat_map(|row| [row["json"].clone(), frame(&row["text"])])
        .collect();
    let examples = examples();
    assert!(examples.len() >= 15, "only {} examples were found", examples.len());
    for example in examples {
        assert!(fixtures.contains(&example), "no fixture is {example}");
    }
}

#[test]
fn every_name_and_code_stands_on_the_page() {
    let errors = ErrorType::ALL.iter().map(|error| format!("`{error}`"));
    let reasons = RecoveryFailure::ALL.iter().map(|reason| format!("`{}`", reason.as_str()));
    let codes = CloseCode::ALL.iter().map(ToString::to_string);
    for name in errors.chain(reasons).chain(codes) {
        assert!(PAGE.contains(&name), "PROTOCOL.md does not know {name}");
    }
}

/// Collects the fenced blocks that are marked as JSON; each line that is not indented starts a message.
fn examples() -> Vec<Value> {
    let blocks = PAGE.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .flat_map(|block| serde_json::Deserializer::from_str(block).into_iter::<Value>())
        .map(|example| example.expect("a block that is marked as JSON is JSON"))
        .collect()
}

fn frame(text: &Value) -> Value {
    text.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
