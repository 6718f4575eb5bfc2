//! Tests of faults: how they are combined, prefixed, limited and encoded.

use super::Invalid;
use hauyna_protocol::{ErrorType, Fault};
use serde_json::{Value, json};

fn details(invalid: Invalid) -> Value {
    Fault::from(invalid).details.unwrap()
}

#[test]
fn all_faults_are_told_and_the_first_is_the_path() {
    let invalid = Invalid::at("a", "is odd").and("b[1].c", "is even");
    let fault = Fault::from(invalid.clone());
    assert_eq!((fault.error, fault.to_string().as_str()), (ErrorType::ValidationError, "`a` is odd"));
    let faults = json!([{ "path": "a", "message": "is odd" }, { "path": "b[1].c", "message": "is even" }]);
    assert_eq!(details(invalid), json!({ "path": "a", "faults": faults }));
    assert_eq!(Fault::from(Invalid::at("", "is empty")).to_string(), "the message is empty");
}

#[test]
fn faults_within_a_field_have_its_path_before_theirs() {
    let invalid = Invalid::at("", "x").and("[2]", "x").and("a.b", "x").within("content");
    assert_eq!(
        invalid.faults().map(|(path, _)| path).collect::<Vec<_>>(),
        ["content", "content[2]", "content.a.b"]
    );
}

#[test]
fn an_answer_is_bounded_whatever_a_validator_finds() {
    let mut invalid = Invalid::at("é".repeat(10_000), "é".repeat(10_000));
    for _ in 0..1000 {
        invalid = invalid.and("x".repeat(10_000), "y");
    }
    let invalid = invalid.clone().join(invalid).within(&"z".repeat(1000));
    assert_eq!(invalid.faults().count(), 16);
    assert!(details(invalid).to_string().len() < 16 * 500);
}
