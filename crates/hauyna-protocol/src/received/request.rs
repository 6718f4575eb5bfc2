//! Requests, as a client reads them: the answers to its own, and the question of the server.

use super::field::{or_default, present};
use crate::RequestId;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A request succeeded.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Ack {
    /// The `id` of the request.
    pub id: RequestId,
    /// Result of the request; `null` is a value.
    #[serde(default, deserialize_with = "present")]
    pub data: Option<Box<RawValue>>,
}

/// A request was refused, or something failed.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Refused {
    /// Kind of the error, possibly of a later version; see [`ErrorType`](crate::ErrorType).
    pub error_type: String,
    /// Text for people.
    #[serde(default, deserialize_with = "or_default")]
    pub message: String,
    /// The `id` of the request.
    pub id: Option<RequestId>,
    /// Whether the same request may succeed later.
    #[serde(default, deserialize_with = "or_default")]
    pub temporary: bool,
    /// Details for programs.
    pub details: Option<Box<RawValue>>,
}

/// A request of the server to this client.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Question {
    /// The `id` that the answer repeats.
    pub id: RequestId,
    /// Name of the request.
    pub event: String,
    /// Data of the request.
    pub data: Box<RawValue>,
}
