//! `hauyna types` as people and CI call it: what it prints and writes, and its error messages.

use std::path::PathBuf;
use std::process::{Command, Output};

fn types(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hauyna")).arg("types").args(words).output().unwrap()
}

fn printed(words: &[&str]) -> String {
    let output = types(words);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the output and the exit code.
fn fault(words: &[&str]) -> (Option<i32>, String) {
    let output = types(words);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A temporary file of one test, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn named(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("hauyna-types-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn without_a_file_the_chat_is_described_in_each_format() {
    let module = printed(&[]);
    assert!(module.contains("subscribers: { data: Subscribers; reply: Subscribed };"), "{module}");
    assert!(module.contains("\"room:{*id}\": RoomChannel;"), "{module}");
    let schema: serde_json::Value = serde_json::from_str(&printed(&["--format", "json-schema"])).unwrap();
    assert_eq!(schema["$defs"]["Subscribers"]["required"], serde_json::json!(["channel"]));
    let document: serde_json::Value = serde_json::from_str(&printed(&["--format", "async-api"])).unwrap();
    assert_eq!(document["operations"]["receive_subscribers"]["action"], "receive");
}

#[test]
fn a_contract_that_was_written_gives_the_same_types_as_the_program() {
    let (schema, out) = (Scratch::named("schema.json"), Scratch::named("contract.ts"));
    printed(&["--format", "json-schema", "--out", schema.path()]);
    printed(&[schema.path(), "--out", out.path()]);
    assert_eq!(std::fs::read_to_string(out.path()).unwrap(), printed(&[]));
    printed(&[schema.path(), "--check", "--out", out.path()]);
}

#[test]
fn a_check_ends_with_1_where_the_file_differs_and_leaves_it_as_it_is() {
    let out = Scratch::named("old.ts");
    let (code, text) = fault(&["--check", "--out", out.path()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("old.ts: "), "{text}");
    std::fs::write(out.path(), "export type Contract = object;\n").unwrap();
    let (code, text) = fault(&["--check", "--out", out.path()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("does not match the contract"), "{text}");
    assert_eq!(std::fs::read_to_string(out.path()).unwrap(), "export type Contract = object;\n");
    assert_eq!(fault(&["--check"]).0, Some(2), "there is nothing to compare with");
}

#[test]
fn what_is_no_contract_is_told_with_its_file_in_one_line() {
    let file = Scratch::named("bad.json");
    for (document, part) in [("{", "not JSON"), ("{}", "`title` is not a string")] {
        std::fs::write(file.path(), document).unwrap();
        let (code, text) = fault(&[file.path()]);
        assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
        assert!(text.contains("bad.json: ") && text.contains(part), "{text}");
    }
    let (code, text) = fault(&["/nowhere/contract.json"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("/nowhere/contract.json: "), "{text}");
}
