//! Turns a serde error about a value of the application into the protocol's terms: where the fault is and
//! what was expected, without names of Rust types. `Raw::decode` calls it when reading has failed.

use crate::Fault;
use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// Returns the fault that says where in `text` and why a `T` could not be read.
pub(crate) fn locate<T: DeserializeOwned>(text: &str, error: &serde_json::Error) -> Fault {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let path = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) => error.path().to_string(),
        Ok(_) => String::new(),
    };
    let path = if path == "." { "" } else { path.as_str() };
    let message = error.to_string();
    // The path replaces the line and column.
    let message = message.rfind(" at line ").map_or(message.as_str(), |end| &message[..end]);
    let mut fault = describe(path, message);
    if let Some(serde_json::Value::String(path)) = fault.details.as_mut().and_then(|d| d.get_mut("path")) {
        *path = shorten(path).into_owned();
    }
    fault.message = shorten(&fault.message).into_owned().into();
    fault
}

/// Translates the texts of serde. Other texts come from the application's types.
fn describe(path: &str, message: &str) -> Fault {
    let (cause, expected) = match message.rsplit_once(", expected ") {
        Some((cause, expected)) => (cause, Some(expected)),
        None => (message, None),
    };
    let quoted = |start: &str| cause.strip_prefix(start).map(|rest| rest.trim_end_matches('`'));
    if let Some(field) = quoted("missing field `") {
        return Fault::missing(&within(path, field), "value");
    }
    if let Some(field) = quoted("duplicate field `") {
        let path = within(path, field);
        return Fault::invalid(&path, "one field of that name", format!("`{path}` is there twice"));
    }
    if let Some(field) = quoted("unknown field `").map(|field| field.split('`').next().unwrap_or(field)) {
        let path = within(path, field);
        return Fault::invalid(
            &path,
            expected.unwrap_or("no such field"),
            format!("`{path}` is not a known field"),
        );
    }
    if quoted("unknown variant `").is_some() {
        let expected = expected.unwrap_or("nothing");
        return Fault::invalid(path, expected, format!("{} is not {expected}", subject(path)));
    }
    if cause.starts_with("invalid type: ")
        || cause.starts_with("invalid value: ")
        || cause.starts_with("invalid length ")
    {
        let expected = expected.map_or(Cow::Borrowed("other value"), in_words);
        return Fault::invalid(path, &expected, format!("{} is not a valid {expected}", subject(path)));
    }
    if cause.contains(" of untagged enum ") || cause.starts_with("no variant of enum ") {
        return Fault::invalid(
            path,
            "one of several forms",
            format!("{} has none of its forms", subject(path)),
        );
    }
    Fault {
        id: None,
        error: crate::ErrorType::ValidationError,
        message: message.to_owned().into(),
        details: Some(serde_json::json!({ "path": path })),
    }
}

fn subject(path: &str) -> String {
    if path.is_empty() { "the message".to_owned() } else { format!("`{path}`") }
}

/// Appends the field to the path: serde reports some faults at the object and others at its field.
fn within(path: &str, field: &str) -> String {
    if path.is_empty() {
        return field.to_owned();
    }
    let is_there = path.strip_suffix(field).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if is_there { path.to_owned() } else { format!("{path}.{field}") }
}

/// Returns the JSON name of a Rust type. Texts of the application's types stay if they name no type.
fn in_words(expected: &str) -> Cow<'static, str> {
    let kind = expected.strip_prefix("a nonzero ").unwrap_or(expected);
    if let Some((_, words)) = KINDS.iter().find(|(name, _)| *name == kind) {
        return Cow::Borrowed(words);
    }
    let starts = |starts: &[&str]| starts.iter().any(|start| expected.starts_with(start));
    if starts(&["a tuple of size ", "an array of length "]) {
        let number = expected.rsplit(' ').next().unwrap_or_default();
        return Cow::Owned(format!("array of {number}"));
    }
    match () {
        () if starts(&["tuple "]) => Cow::Borrowed("array"),
        () if starts(&["unit "]) => Cow::Borrowed("null"),
        () if starts(&["struct ", "internally tagged ", "adjacently tagged "]) => Cow::Borrowed("object"),
        () if starts(&["enum "]) => Cow::Borrowed("string or object of one field"),
        () if expected.contains("::") || expected.contains('<') => Cow::Borrowed("other value"),
        () => Cow::Owned(expected.to_owned()),
    }
}

/// Cuts a text in which serde may have quoted the peer, so that an error is not as long as its cause.
fn shorten(text: &str) -> Cow<'_, str> {
    const MAX: usize = 200;
    if text.len() <= MAX {
        return Cow::Borrowed(text);
    }
    let mut end = MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}…", &text[..end]))
}

const KINDS: [(&str, &str); 27] = [
    ("u8", "integer from 0 to 255"),
    ("u16", "integer from 0 to 65535"),
    ("u32", "integer from 0 to 4294967295"),
    ("u64", "integer of at least 0"),
    ("u128", "integer of at least 0"),
    ("usize", "integer of at least 0"),
    ("i8", "integer from -128 to 127"),
    ("i16", "integer from -32768 to 32767"),
    ("i32", "integer from -2147483648 to 2147483647"),
    ("i64", "integer"),
    ("i128", "integer"),
    ("isize", "integer"),
    ("f32", "number"),
    ("f64", "number"),
    ("bool", "boolean"),
    ("a boolean", "boolean"),
    ("a character", "string of one character"),
    ("char", "string of one character"),
    ("a string", "string"),
    ("a borrowed string", "string"),
    ("str", "string"),
    ("a sequence", "array"),
    ("a byte array", "array"),
    ("a borrowed byte array", "array"),
    ("a map", "object"),
    ("unit", "null"),
    ("option", "value"),
];
