//! Reads single values out of valid JSON: texts and integers of the envelope, and an application's own
//! types with the path of what did not fit.

use crate::Fault;
use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// Reads a text, borrowed unless it has escapes. `None` for other kinds and for lone surrogates.
pub(crate) fn read_text(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let [b'"', inner @ .., b'"'] = bytes else { return None };
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice(bytes).ok().map(Cow::Owned)
}

/// Reads digits and nothing else: no sign, no fraction, no exponent.
pub(crate) fn read_unsigned(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 20 {
        return None;
    }
    bytes.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Says where in `text` and why a `T` could not be read.
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
    // serde reports a missing field at the object that lacks it.
    let path = match message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        Some(field) if path.is_empty() => field.to_owned(),
        Some(field) => format!("{path}.{field}"),
        None => path.to_owned(),
    };
    Fault {
        id: None,
        error: crate::ErrorType::ValidationError,
        details: Some(serde_json::json!({ "path": shorten(&path) })),
        message: shorten(message).into_owned().into(),
    }
}

/// Cuts a text in which serde may have quoted the peer at length; an error is not to be as long as its cause.
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
