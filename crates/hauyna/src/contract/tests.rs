//! Tests that serde and the generated TypeScript accept the same values; tests of names, formats and faults.
//! The TypeScript compiler must accept the good values in `tests/contract` and refuse the bad ones. With
//! `HAUYNA_BLESS=1` the tests write these files again.

use super::*;
use crate::error::ErrorKind;
use crate::{Context, Error, Handler, json};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write;

mod zoo;

#[expect(dead_code, reason = "only its schema is asked for")]
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum RoomEvent {
    /// Somebody types.
    Typing {
        user: String,
    },
    Cleared,
    Drawn(zoo::Point),
}

/// A contract with good and bad values for its types.
struct Proof {
    contract: Contract,
    values: String,
}

impl Proof {
    /// Adds values that clients may send as a `T`, and values that they may not. Serde checks them here,
    /// TypeScript checks them in `tests/contract`.
    fn input<T: JsonSchema + DeserializeOwned>(&mut self, name: &'static str, good: &[Value], bad: &[Value]) {
        for value in good {
            let read = serde_json::from_value::<T>(value.clone());
            assert!(read.is_ok(), "{name} does not take {value}: {:?}", read.err());
        }
        for value in bad {
            assert!(serde_json::from_value::<T>(value.clone()).is_err(), "{name} takes {value}");
        }
        self.add(name, "reply", good, bad);
        self.contract = self.contract.clone().client_request(ClientRequestType::<(), T>::new(name));
    }

    /// Adds values that clients get as a `T`, and values that they never get.
    fn output<T: JsonSchema + Serialize>(&mut self, name: &'static str, values: &[T], never: &[Value]) {
        let values: Vec<Value> = values.iter().map(|value| serde_json::to_value(value).unwrap()).collect();
        self.add(name, "data", &values, never);
        self.contract = self.contract.clone().client_request(ClientRequestType::<T, bool>::new(name));
    }

    fn add(&mut self, name: &str, part: &str, good: &[Value], bad: &[Value]) {
        let place = format!("Contract[\"clientRequests\"][\"{name}\"][\"{part}\"]");
        for (index, value) in good.iter().enumerate() {
            let _ = writeln!(self.values, "export const {name}_good_{index}: {place} = {};", ordered(value));
        }
        for (index, value) in bad.iter().enumerate() {
            let _ = writeln!(self.values, "// @ts-expect-error");
            let _ = writeln!(self.values, "export const {name}_bad_{index}: {place} = {};", ordered(value));
        }
    }
}

fn ordered(value: &Value) -> Value {
    let mut value = value.clone();
    value.sort_all_objects();
    value
}

fn is_as_committed(name: &str, text: &str) {
    let path = format!("{}/../../tests/contract/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("HAUYNA_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "{name} is not what the types give; HAUYNA_BLESS=1 writes it again");
}

fn plain(field: &str, value: impl Into<Value>) -> Value {
    let mut whole = json!({
        "flag": true, "letter": "x", "ratio": 0.5, "small": -3, "large": 7, "unit": null, "kebab-name": "k",
        "class": "c", "old": false, "five": 4, "at": "2026-01-01T00:00:00Z", field: value.into(),
    });
    if whole[field].is_null() {
        whole.as_object_mut().unwrap().remove(field);
    }
    whole
}

#[expect(deprecated, reason = "a type has such a field")]
fn one_of_everything() -> zoo::Plain {
    zoo::Plain {
        flag: true,
        letter: 'ñ',
        ratio: 1.5,
        small: -1,
        large: 1 << 40,
        unit: (),
        renamed: "\"\u{2028}".to_owned(),
        keyword: None,
        old: true,
        five: 5,
        at: "2026-01-01T00:00:00Z".to_owned(),
    }
}

fn fields_and_collections(proof: &mut Proof) {
    let missing = |field| plain(field, Value::Null);
    let good = [plain("flag", json!(false)), missing("class"), missing("old"), missing("five")];
    let bad = [missing("flag"), plain("flag", json!(1)), plain("large", json!("7")), plain("unit", json!(0))];
    proof.input::<zoo::Plain>("plain", &good, &bad);
    proof.output("plain_out", &[one_of_everything()], &[missing("old"), missing("class"), json!({})]);
    let many = zoo::Many {
        list: vec![None, Some(1)],
        set: ["a".to_owned()].into(),
        pair: (1, "x".to_owned()),
        triple: [0.0, 1.0, 2.0],
        by_name: [("any".to_owned(), zoo::Shade::Dark)].into(),
        by_number: [(7, true)].into(),
        by_shade: [(zoo::Shade::Light, 1)].into(),
        anything: json!([{ "x": null }]),
        result: Err("no".to_owned()),
    };
    let whole = serde_json::to_value(&many).unwrap();
    let with = |field: &str, value: Value| {
        let mut whole = whole.clone();
        whole[field] = value;
        whole
    };
    let bad = [
        with("list", json!(["x"])),
        with("pair", json!([1])),
        with("triple", json!([1, 2])),
        with("by_name", json!({ "any": "grey" })),
        with("by_number", json!({ "x": true })),
        with("result", json!({ "Ok": "x" })),
        with("set", json!("a")),
    ];
    proof.input::<zoo::Many>("many", &[whole.clone(), with("result", json!({ "Ok": 1 }))], &bad);
    proof.output("many_out", &[many], &[with("pair", json!([1, "x", 2]))]);
}

fn enums(proof: &mut Proof) {
    let good =
        [json!("Nothing"), json!({ "One": 1 }), json!({ "Two": [1, "x"] }), json!({ "Named": { "x": 1 } })];
    let bad =
        [json!("nothing"), json!({ "One": "x" }), json!({ "Two": [1] }), json!({ "Named": {} }), json!({})];
    proof.input::<zoo::External>("external", &good, &bad);
    let out = [zoo::External::Nothing, zoo::External::One(1), zoo::External::Two(1, "x".into())];
    proof.output("external_out", &out, &bad);
    let point = json!({ "kind": "whole", "x": 1.5, "y": 2 });
    let good = [json!({ "kind": "nothing" }), json!({ "kind": "shown", "shade": "dark" }), point];
    let bad = [
        json!({ "kind": "Nothing" }),
        json!({ "kind": "shown" }),
        json!({ "kind": "whole", "x": 1 }),
        json!({}),
    ];
    proof.input::<zoo::Internal>("internal", &good, &bad);
    let out = [
        zoo::Internal::Shown { shade: zoo::Shade::Dark },
        zoo::Internal::Whole(zoo::Point { x: 1.0, y: 2.0 }),
    ];
    proof.output("internal_out", &out, &bad);
    let good = [json!({ "t": "Nothing" }), json!({ "t": "One", "c": { "x": 1, "y": 2 } })];
    proof.input::<zoo::Adjacent>(
        "adjacent",
        &good,
        &[json!({ "t": "One" }), json!({ "t": "Two" }), json!("One")],
    );
    let good = [json!(1), json!("x"), json!({ "x": 1, "y": 2 })];
    proof.input::<zoo::Untagged>("untagged", &good, &[json!(true), json!({ "x": 1 }), json!(null)]);
    let good = [json!(null), json!("light")];
    proof.input::<Option<zoo::Shade>>("maybe", &good, &[json!("Light"), json!(0)]);
}

fn structures(proof: &mut Proof) {
    proof.input::<zoo::Couple>(
        "couple",
        &[json!(["a", null]), json!(["a", "b"])],
        &[json!(["a"]), json!([1, "b"])],
    );
    proof.input::<zoo::Nothing>("nothing", &[json!(null)], &[json!({}), json!(0)]);
    proof.input::<zoo::NoFields>("no_fields", &[json!({})], &[json!(0), json!("x"), json!(null)]);
    let leaf = json!({ "name": "b", "folders": [] });
    let good = [json!({ "name": "a", "parent": leaf, "folders": [leaf] })];
    proof.input::<zoo::Folder>(
        "folder",
        &good,
        &[json!({ "name": "a", "folders": [{}] }), json!({ "name": "a" })],
    );
    let leaf = zoo::Folder { name: zoo::Name("b".into()), parent: None, folders: Vec::new() };
    let folder =
        zoo::Folder { name: zoo::Name("a".into()), parent: Some(Box::new(leaf)), folders: Vec::new() };
    proof.output("folder_out", &[folder], &good);
    let good = [json!({ "own": true, "x": 1, "y": 2, "kind": "shown", "shade": "light" })];
    let bad = [json!({ "own": true, "kind": "nothing" }), json!({ "own": true, "x": 1, "y": 2 })];
    proof.input::<zoo::Flat>("flat", &good, &bad);
    let good = [json!({ "own": true, "a": 1, "b": 2 }), json!({ "own": true })];
    proof.input::<zoo::Open>("open", &good, &[json!({ "own": true, "a": "x" }), json!({ "a": 1 })]);
    let good =
        [json!({ "own": true }), json!({ "own": true, "more": null }), json!({ "own": true, "more": 1 })];
    proof.input::<zoo::Strict>("strict", &good, &[json!({ "own": true, "other": 1 }), json!({})]);
    proof.output("strict_out", &[zoo::Strict { own: true, more: None }], &[json!({ "more": 1 })]);
    let pages = [json!({ "items": [{ "items": [1] }] })];
    proof.input::<zoo::Page<zoo::Page<u8>>>("pages", &pages, &[json!({ "items": [1] })]);
    proof.input::<zoo::Page<u8>>("page", &[json!({ "items": [1] })], &pages);
    proof.output("angle", &[zoo::other::Point { angle: 1.0 }], &[json!({ "x": 1, "y": 2 })]);
    proof.output("word", &[zoo::other::string { text: String::new() }], &[json!("x")]);
    proof.output("mine", &[zoo::other::Contract { is_mine: true }], &[json!({})]);
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Say {
    text: String,
    #[serde(default)]
    urgent: bool,
}

fn proof() -> Proof {
    let room = ChannelContract::new()
        .content::<Say>()
        .messages::<RoomEvent>()
        .message::<zoo::Point>("pointer-moved")
        .client_event::<zoo::Point>("cursor")
        .client_event::<()>("typing")
        .client_event::<Option<zoo::Shade>>("shade-chosen")
        .subscription::<zoo::NoFields>()
        .presence::<zoo::Point>();
    let contract = Contract::new("Zoo", "1.2.3")
        .event::<Say, ()>("say")
        .event::<zoo::NoFields, Vec<zoo::Folder>>("list folders")
        .event::<zoo::NoFields, Option<zoo::Folder>>("first_folder")
        .event::<zoo::NoFields, zoo::Nothing>("nothing")
        .client_request(ClientRequestType::<zoo::Point, ()>::new("look"))
        .message::<Say>("private")
        .messages::<RoomEvent>()
        .channel("room:{id}", room)
        .channel("{*any}", ChannelContract::new());
    let values = "// Values that serde takes or writes, and such as it does not. Generated by the tests of hauyna.\n\
                  import type { Contract } from \"./zoo.js\";\n\n";
    let mut proof = Proof { contract, values: values.to_owned() };
    fields_and_collections(&mut proof);
    enums(&mut proof);
    structures(&mut proof);
    proof
}

#[test]
fn serde_takes_and_writes_what_the_types_say() {
    let proof = proof();
    is_as_committed("zoo.ts", &proof.contract.typescript());
    is_as_committed("values.ts", &proof.values);
    is_as_committed("zoo.async-api.json", &format!("{:#}\n", proof.contract.async_api()));
    is_as_committed("zoo.json", &format!("{:#}\n", proof.contract.json_schema()));
}

#[test]
fn a_contract_that_was_written_and_read_gives_the_same_documents() {
    let contract = proof().contract;
    let path = std::env::temp_dir().join(format!("hauyna-contract-{}.json", std::process::id()));
    contract.write(&path).unwrap();
    let read = Contract::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(read.json_schema(), contract.json_schema());
    assert_eq!(read.typescript(), contract.typescript());
    assert_eq!(read.async_api(), contract.async_api());
}

#[test]
fn types_of_one_name_are_one_where_they_are_the_same_and_have_names_of_their_own_where_not() {
    let schema = proof().contract.json_schema();
    let names: Vec<&String> = schema["$defs"].as_object().unwrap().keys().collect();
    let expected = [
        "Adjacent",
        "Contract",
        "Couple",
        "External",
        "Flat",
        "Folder",
        "FolderInput",
        "Internal",
        "Many",
        "Name",
        "NoFields",
        "Nothing",
        "Open",
        "Page",
        "PageInput",
        "Plain",
        "PlainInput",
        "Point",
        "Point2",
        "Result_of_uint8_or_string",
        "Say",
        "SayInput",
        "Shade",
        "Strict",
        "Untagged",
        "string",
    ];
    assert_eq!(names, expected);
}

#[test]
fn every_reference_of_a_document_leads_to_a_definition() {
    let contract = proof().contract;
    for document in [contract.json_schema(), contract.async_api()] {
        let (mut waiting, mut found) = (vec![&document], 0);
        while let Some(part) = waiting.pop() {
            if let Some(reference) = part.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
                found += 1;
            }
            match part {
                Value::Object(fields) => waiting.extend(fields.values()),
                Value::Array(items) => waiting.extend(items),
                _ => {}
            }
        }
        assert!(found > 20, "{found}");
    }
}

async fn say(_: Context, _: Say) -> crate::Result {
    Ok(())
}

async fn count(_: Context, said: Say) -> crate::Result<usize> {
    Ok(said.text.len())
}

fn panic_of(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
    *std::panic::catch_unwind(f).unwrap_err().downcast::<String>().unwrap()
}

#[test]
fn a_handler_that_differs_from_its_contract_is_told_every_difference() {
    let contract = Contract::new("Chat", "1").event::<Say, usize>("count").event::<Say, ()>("say");
    contract.check(&Handler::new().on("count", count).on("say", say));
    contract.check(&Handler::new().on("count", count).on_message(|_, _: Value| async { Ok(()) }));
    contract.check(&Handler::new().on("count", count).trigger_events(["say"]));
    let text = panic_of(|| contract.check(&Handler::new().on("count", say).on("shout", say)));
    for part in [
        "`count` answers `()`, the contract says `usize`",
        "no event `say`",
        "the contract has no event `shout`",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_declaration_that_cannot_be_kept_is_refused_where_it_is_made() {
    #[derive(Deserialize, JsonSchema)]
    struct Text {
        #[expect(dead_code, reason = "only its name is asked for")]
        id: String,
    }
    let contract = || Contract::new("Chat", "1");
    type Declare = Box<dyn FnOnce() + std::panic::UnwindSafe>;
    let faults: [(&str, Declare); 10] = [
        ("denies unknown fields", Box::new(move || drop(contract().event::<zoo::Strict, ()>("be")))),
        ("is a request of the protocol", Box::new(move || drop(contract().event::<Say, ()>("private")))),
        ("is not an object", Box::new(move || drop(contract().event::<u8, ()>("count")))),
        ("which the message itself has", Box::new(move || drop(contract().event::<Text, ()>("take")))),
        ("declared twice", Box::new(move || drop(contract().event::<Say, ()>("a").event::<Say, ()>("a")))),
        ("is a message of the protocol", Box::new(move || drop(contract().message::<Say>("gap")))),
        ("is not an enum with", Box::new(move || drop(contract().messages::<Say>()))),
        (
            "a `{` without a `}` after it",
            Box::new(move || drop(contract().channel("room:{id", ChannelContract::new()))),
        ),
        ("metadata is not an object", Box::new(|| drop(ChannelContract::new().presence::<u8>()))),
        (
            "is not a valid name",
            Box::new(move || drop(contract().client_request(ClientRequestType::<(), ()>::new("a\nb")))),
        ),
    ];
    for (part, f) in faults {
        let text = panic_of(f);
        assert!(text.contains(part), "{text}");
    }
}

fn fault_of(document: &str) -> Error {
    let file = format!("hauyna-bad-{}-{:x}.json", std::process::id(), document.len());
    let path = std::env::temp_dir().join(file);
    std::fs::write(&path, document).unwrap();
    let error = Contract::read(&path).unwrap_err();
    std::fs::remove_file(path).unwrap();
    error
}

#[test]
fn a_document_that_is_no_contract_is_an_error_that_says_where() {
    let with =
        |properties: Value| json!({ "title": "x", "version": "1", "properties": properties }).to_string();
    let event = |data: Value| {
        with(json!({ "requests": { "properties": { "go": { "properties": { "data": data } } } } }))
    };
    let cases = [
        ("{".to_owned(), "not JSON"),
        ("[1]".to_owned(), "`title` is not a string"),
        (json!({ "title": "x", "version": "1" }).to_string(), "`properties` is not an object"),
        (
            with(json!({ "words": { "properties": { "a": {} } } })),
            "properties.words: is not a section of a contract",
        ),
        (with(json!({ "requests": {} })), "`properties.requests` has no `properties`"),
        (event(json!({ "type": "object" })), "`go` has no `reply`"),
        (event(json!({ "type": "string" })), "`go` has no `reply`"),
        (event(json!(7)), "`go.data` is not a schema"),
        (event(json!({ "$ref": "#/$defs/Gone" })), "refers to `#/$defs/Gone`"),
        (with(json!({ "channels": { "properties": { "{": {} } } })), "a `{` without a `}` after it"),
    ];
    for (document, part) in cases {
        let error = fault_of(&document);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(part), "{error}: {document}");
    }
    assert_eq!(Contract::read("/nowhere/contract.json").unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn schemas_that_refer_to_themselves_cost_no_more_than_others() {
    let alternatives = vec![json!({ "$ref": "#/$defs/A" }); 40];
    let document = json!({
        "title": "x", "version": "1", "$defs": { "A": { "anyOf": alternatives }, "B": { "$ref": "#/$defs/B" } },
        "properties": { "messages": { "properties": {
            "m": { "$ref": "#/$defs/A" }, "n": { "$ref": "#/$defs/B" }, "private": { "$ref": "#/$defs/B" },
        } } },
    });
    let contract = document::read(&document).unwrap();
    assert!(contract.typescript().contains("export type A = "));
}
