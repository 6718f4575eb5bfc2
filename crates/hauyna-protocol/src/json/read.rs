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
    let message = without_place(&error.to_string());
    // serde reports a missing field at the object that lacks it.
    let path = match message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        Some(field) if path.is_empty() => field.to_owned(),
        Some(field) => format!("{path}.{field}"),
        None => path.to_owned(),
    };
    Fault {
        id: None,
        error: crate::ErrorType::ValidationError,
        details: Some(serde_json::json!({ "path": path })),
        message: message.into(),
    }
}

/// Drops the line and column, which the path replaces.
fn without_place(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    message[..end].to_owned()
}
