//! Errors of the library and refusals of the application.
//!
//! A call fails with an [`Error`]. A callback that refuses returns a [`Reject`], which is an HTTP status
//! before the upgrade and an `error` message after it; any other error of a callback tells the client nothing
//! of its text. The guide is [errors](crate::guide::errors).
//
// The errors, by their audience: `Error` (for callers of the API), `Reject` (a refusal by the application)
// and `BrokerError` (a failure of the broker). Each kind is one `error_type` of the protocol. No text of a
// source error ever reaches a peer.

use crate::counters::Counter;
use crate::state::ConnectionState;
use hauyna_broker::{BrokerError, InvalidValue};
use hauyna_protocol::ErrorType;
use hauyna_protocol::close::CloseCode;
use http::StatusCode;
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The result of this crate's calls; `hauyna::Result` alone is `Result<(), hauyna::Error>`.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Why a call failed, and what a client gets when a callback returns it.
#[derive(thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    details: Option<Box<Value>>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`Error`], one for each `error_type` of the protocol and a few that never leave the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An error of the protocol; a client gets it as it is.
    Protocol(ErrorType),
    /// An address could not be bound, or a socket failed.
    Io,
    /// The hub or the server has invalid options (a route twice, a malformed pattern).
    Config,
    /// The connection is already closed.
    Closed,
    /// The connection may not go from one state to another.
    Transition {
        /// The current state.
        from: ConnectionState,
        /// The state that was refused, also if the hub does not know it.
        to: ConnectionState,
    },
    /// A client refused a client request; the text is the client's.
    Refused,
    /// The connection belongs to another hub than the one that was called.
    OtherHub,
    /// The call needs a Tokio runtime with timers, and for a server one with I/O too, and was made outside of
    /// one or after its end.
    NoRuntime,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), details: None, source: None }
    }

    /// Creates an error that a client gets as `error_type`, with a text for people.
    pub fn protocol(error: ErrorType, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Protocol(error), message)
    }

    /// Creates an error of the application: the client gets `application_error` and this text.
    pub fn application(message: impl Into<Cow<'static, str>>) -> Self {
        Self::protocol(ErrorType::ApplicationError, message)
    }

    /// Creates any other error: the client gets `internal_error` and none of its text, the log gets all of
    /// it.
    pub fn other(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let mut error = Self::protocol(ErrorType::InternalError, "internal error");
        error.source = Some(source.into());
        error
    }

    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the connection is closed")
    }

    pub(crate) fn no_runtime() -> Self {
        Self::new(
            ErrorKind::NoRuntime,
            "this call needs a running Tokio runtime with timers, and a server one with I/O",
        )
    }

    pub(crate) fn transition(from: ConnectionState, to: ConnectionState) -> Self {
        let kind = ErrorKind::Transition { from, to };
        Self::new(kind, format!("a connection does not go from `{from}` to `{to}`"))
    }

    pub(crate) fn other_hub() -> Self {
        Self::new(ErrorKind::OtherHub, "the connection belongs to another hub")
    }

    pub(crate) fn refused(reason: Option<&str>) -> Self {
        let reason = reason.unwrap_or("the client refused the request");
        Self::new(ErrorKind::Refused, reason.to_owned())
    }

    /// Takes a shared error back; if others still hold it, returns a copy of it with the shared one as its
    /// source.
    pub(crate) fn unshared(shared: Arc<Self>) -> Self {
        Arc::try_unwrap(shared).unwrap_or_else(|shared| Self {
            kind: shared.kind,
            message: shared.message.clone(),
            details: shared.details.clone(),
            source: Some(Box::new(shared)),
        })
    }

    /// Adds data for the client besides the text, as `details`.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// Returns the kind, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the `error_type` that a client gets.
    pub fn error_type(&self) -> ErrorType {
        match self.kind {
            ErrorKind::Protocol(error) => error,
            ErrorKind::Refused | ErrorKind::Transition { .. } => ErrorType::ApplicationError,
            ErrorKind::Io
            | ErrorKind::Config
            | ErrorKind::Closed
            | ErrorKind::OtherHub
            | ErrorKind::NoRuntime => ErrorType::InternalError,
        }
    }

    /// Returns the code that closes a connection whose `on_open` or `on_reconnect` fails with this error. A
    /// permanent refusal keeps the client away; a failure of the server or of the application does not. The
    /// table is in `docs/errors.md`.
    pub(crate) fn close_code(&self) -> CloseCode {
        match self.kind {
            ErrorKind::Protocol(ErrorType::TokenExpired) => CloseCode::EXPIRED,
            ErrorKind::Protocol(ErrorType::ApplicationError) => CloseCode::INTERNAL_ERROR,
            ErrorKind::Protocol(error) if !error.is_temporary() => CloseCode::PERMISSION_DENIED,
            _ => CloseCode::INTERNAL_ERROR,
        }
    }

    /// Drops the error, and counts a panic of its source's destructor.
    pub(crate) fn discard(mut self, panics: &Counter) {
        crate::contain::discard(panics, self.source.take());
    }

    /// Returns the text that a client gets: the error's own if the protocol knows it, a fixed one otherwise.
    pub(crate) fn public_message(&self) -> &str {
        match self.kind {
            ErrorKind::Protocol(_) | ErrorKind::Refused | ErrorKind::Transition { .. } => &self.message,
            _ => "internal error",
        }
    }

    /// Returns the text with those of all sources: for the log and the application, never for a peer.
    pub(crate) fn whole_text(&self) -> String {
        let mut text = self.message.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    /// Returns the data for the client besides the text.
    pub fn details(&self) -> Option<&Value> {
        self.details.as_deref()
    }
}

impl Drop for Error {
    /// Drops the source, which may be the application's, without unwinding.
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            let _ = crate::contain::call_uncounted(|| drop(source));
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.kind).field("message", &self.message);
        if let Some(details) = &self.details {
            debug.field("details", details);
        }
        if let Some(source) = &self.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl From<std::io::Error> for Error {
    fn from(source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, source.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(source: serde_json::Error) -> Self {
        Self::other(source)
    }
}

impl From<InvalidValue> for Error {
    /// Returns `validation_error` with the text.
    fn from(invalid: InvalidValue) -> Self {
        Self::protocol(ErrorType::ValidationError, invalid.to_string())
    }
}

impl From<BrokerError> for Error {
    /// Returns `timeout` if the call may have had an effect, else `unavailable`.
    fn from(source: BrokerError) -> Self {
        let mut error = if source.is_unknown() {
            Self::protocol(ErrorType::Timeout, "the broker did not answer")
        } else {
            Self::protocol(ErrorType::Unavailable, "the broker is not reachable")
        };
        error.source = Some(Box::new(source));
        error
    }
}

impl From<Reject> for Error {
    fn from(reject: Reject) -> Self {
        let mut error = Self::protocol(reject.error, reject.message);
        error.details = reject.details.map(Box::new);
        error
    }
}

impl From<hauyna_protocol::Fault> for Error {
    fn from(fault: hauyna_protocol::Fault) -> Self {
        let mut error = Self::protocol(fault.error, fault.message);
        error.details = fault.details.map(Box::new);
        error
    }
}

/// A refusal by the application: an HTTP status before the upgrade, an `error` message after it.
///
/// There is a constructor for each [`ErrorType`] that an application has reason to refuse with. The others
/// are those of the library: `parse_error`, `unknown_event`, `payload_too_large`, `not_subscribed`,
/// `already_subscribed`, `unknown_user`, `timeout`, `internal_error`, and `application_error`, which is
/// [`Error::application`]. [`Reject::new`] takes them, too.
///
/// # Examples
///
/// ```
/// use hauyna::{ErrorType, Reject};
/// use hauyna::server::StatusCode;
///
/// let busy = Reject::unavailable("the database is restarting");
/// assert_eq!(busy, Reject::new(ErrorType::Unavailable, StatusCode::SERVICE_UNAVAILABLE, busy.to_string()));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    pub(crate) error: ErrorType,
    pub(crate) status: StatusCode,
    pub(crate) message: Cow<'static, str>,
    pub(crate) details: Option<Value>,
}

impl Reject {
    /// Creates a refusal with any `error_type` and an HTTP status from 400 to 599; 500 is sent in place of
    /// any other.
    pub fn new(error: ErrorType, status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let is_error = status.is_client_error() || status.is_server_error();
        let status = if is_error { status } else { StatusCode::INTERNAL_SERVER_ERROR };
        Self { error, status, message: message.into(), details: None }
    }

    /// Creates the refusal of missing or invalid credentials: 401, `unauthorized`.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorType::Unauthorized, StatusCode::UNAUTHORIZED, message)
    }

    /// Creates the refusal of expired credentials: 401, `token_expired`.
    pub fn expired(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorType::TokenExpired, StatusCode::UNAUTHORIZED, message)
    }

    /// Creates the refusal of a known client without permission: 403, `permission_denied`.
    pub fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorType::PermissionDenied, StatusCode::FORBIDDEN, message)
    }

    /// Creates the refusal of an invalid request: 400, `validation_error`.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorType::ValidationError, StatusCode::BAD_REQUEST, message)
    }

    /// Creates the refusal of what is more than the application allows at all, such as a tenth item: 429,
    /// `limit_exceeded`, with the number as `details.limit`.
    pub fn limit_exceeded(message: impl Into<Cow<'static, str>>, limit: u64) -> Self {
        let reject = Self::new(ErrorType::LimitExceeded, StatusCode::TOO_MANY_REQUESTS, message);
        reject.with_details(serde_json::json!({ "limit": limit }))
    }

    /// Creates the refusal of what comes too often: 429, `rate_limited`, with the time after which the client
    /// may repeat it as `details.retry_after`, in milliseconds.
    pub fn rate_limited(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let wait = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        let reject = Self::new(ErrorType::RateLimited, StatusCode::TOO_MANY_REQUESTS, message);
        reject.with_details(serde_json::json!({ "retry_after": wait }))
    }

    /// Creates the refusal of what cannot be decided or done now, for example while the database of the
    /// application cannot be reached: 503, `unavailable`. The client may repeat it.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorType::Unavailable, StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// Adds data for the client besides the text, as `details`.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Reject {}
