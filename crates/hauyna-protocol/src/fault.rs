//! What is wrong with a request, in terms of the protocol. `decode` and `Raw::decode` return it, and the
//! connection answers with it. It describes the peer's mistake and never the server.

use crate::{ErrorMessage, ErrorType, RequestId};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The fault of a request that is refused before any handler sees it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The request's `id`, if it could be read, so that the answer reaches the right request.
    pub id: Option<RequestId>,
    /// The kind of fault.
    pub error: ErrorType,
    /// Text for people.
    pub message: Cow<'static, str>,
    /// Details for programs, such as `{"path": "channel", "expected": "string"}`.
    pub details: Option<Value>,
}

impl Fault {
    /// Returns the `error` message that answers the request.
    #[must_use]
    pub fn as_message(&self, timestamp: u64) -> ErrorMessage<'_> {
        ErrorMessage {
            error: self.error,
            message: &self.message,
            timestamp,
            id: self.id.as_ref(),
            details: self.details.as_ref(),
        }
    }

    /// Returns the fault of a value that is one field of a message: its path and its text name the field.
    ///
    /// ```
    /// use hauyna_protocol::{Encoding, Raw};
    /// let content = Raw::assume_valid(Encoding::Json, b"7");
    /// let fault = content.decode::<String>().unwrap_err();
    /// assert_eq!(fault.to_string(), "the message is not a valid string");
    /// let fault = fault.within("content");
    /// assert_eq!(fault.to_string(), "`content` is not a valid string");
    /// assert_eq!(fault.details.unwrap()["path"], "content");
    /// ```
    #[must_use]
    pub fn within(mut self, field: &str) -> Self {
        let Some(Value::String(path)) = self.details.as_mut().and_then(|details| details.get_mut("path"))
        else {
            return self;
        };
        let is_direct = path.is_empty() || path.starts_with('[');
        let whole = format!("{field}{}{path}", if is_direct { "" } else { "." });
        let subject = if path.is_empty() { "the message".to_owned() } else { format!("`{path}`") };
        if let Some(rest) = self.message.strip_prefix(&subject) {
            self.message = format!("`{whole}`{rest}").into();
        }
        *path = whole;
        self
    }

    /// Returns the fault of bytes that the encoding does not allow.
    pub(crate) fn parse(message: &'static str, details: Option<Value>) -> Self {
        Self { id: None, error: ErrorType::ParseError, message: message.into(), details }
    }

    /// Returns the fault of a message that is no object.
    pub(crate) fn not_an_object() -> Self {
        Self::parse("the message is not an object", None)
    }

    /// Returns the fault of a message that nests deeper than `limit`.
    pub(crate) fn too_deep(limit: usize) -> Self {
        Self {
            id: None,
            error: ErrorType::LimitExceeded,
            message: "the message is nested too deeply".into(),
            details: Some(json!({ "limit": limit })),
        }
    }

    /// Returns the fault of a required field that is missing.
    pub(crate) fn missing(path: &str, expected: &str) -> Self {
        Self::invalid(path, expected, format!("`{path}` is missing"))
    }

    /// Returns the fault of a field of the wrong kind.
    pub(crate) fn wrong(path: &str, expected: &str) -> Self {
        Self::invalid(path, expected, format!("`{path}` is not a valid {expected}"))
    }

    /// Returns the fault of a field that is longer than the deployment allows.
    pub(crate) fn too_long(path: &str, limit: usize) -> Self {
        Self {
            id: None,
            error: ErrorType::LimitExceeded,
            message: format!("`{path}` is longer than {limit} bytes").into(),
            details: Some(json!({ "path": path, "limit": limit })),
        }
    }

    /// Returns the fault of an invalid field, with the caller's text.
    pub(crate) fn invalid(path: &str, expected: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            id: None,
            error: ErrorType::ValidationError,
            message: message.into(),
            details: Some(json!({ "path": path, "expected": expected })),
        }
    }
}
