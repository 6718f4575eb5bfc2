//! What is wrong with a request, in the words of the protocol. `decode` and `Raw::decode` return it, the
//! connection answers with it. It blames the peer; it never describes the server.

use crate::{ErrorMessage, ErrorType, RequestId};
use serde_json::{Value, json};
use std::borrow::Cow;

/// A request that is refused before any handler sees it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The request's `id`, where it could be read, so that the answer reaches the right request.
    pub id: Option<RequestId>,
    /// The kind of fault.
    pub error: ErrorType,
    /// The fault in words, for people.
    pub message: Cow<'static, str>,
    /// The fault for programs, such as `{"path": "channel", "expected": "string"}`.
    pub details: Option<Value>,
}

impl Fault {
    /// Describes the fault as the `error` message that answers the request.
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

    /// The bytes are not what the encoding allows.
    pub(crate) fn parse(message: &'static str, details: Option<Value>) -> Self {
        Self { id: None, error: ErrorType::ParseError, message: message.into(), details }
    }

    /// The message is one value, but not an object.
    pub(crate) fn not_an_object() -> Self {
        Self::parse("the message is not an object", None)
    }

    /// The message nests deeper than `limit`.
    pub(crate) fn too_deep(limit: usize) -> Self {
        Self {
            id: None,
            error: ErrorType::LimitExceeded,
            message: "the message is nested too deeply".into(),
            details: Some(json!({ "limit": limit })),
        }
    }

    /// A field that has to be there is not.
    pub(crate) fn missing(path: &str, expected: &str) -> Self {
        Self::invalid(path, expected, format!("`{path}` is missing"))
    }

    /// A field is of the wrong kind.
    pub(crate) fn wrong(path: &str, expected: &str) -> Self {
        Self::invalid(path, expected, format!("`{path}` is not a valid {expected}"))
    }

    /// A field is longer than the deployment allows.
    pub(crate) fn too_long(path: &str, limit: usize) -> Self {
        Self {
            id: None,
            error: ErrorType::LimitExceeded,
            message: format!("`{path}` is longer than {limit} bytes").into(),
            details: Some(json!({ "path": path, "limit": limit })),
        }
    }

    /// A field is invalid, in words of the caller's own.
    pub(crate) fn invalid(path: &str, expected: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            id: None,
            error: ErrorType::ValidationError,
            message: message.into(),
            details: Some(json!({ "path": path, "expected": expected })),
        }
    }
}
