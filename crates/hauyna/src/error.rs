//! What can go wrong, by who is told: `Error` (the caller of our API), `Reject` (the application says
//! no) and `BrokerError` (the broker failed). Each kind is one `error_type` of the protocol.
//! No text of a source error ever reaches a peer.

use crate::connection::ConnectionState;
use crate::metrics::Counter;
use hauyna_protocol::ErrorType;
use hauyna_protocol::close::CloseCode;
use http::StatusCode;
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The result of this crate's calls; `hauyna::Result` alone is `Result<(), hauyna::Error>`.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Why a call failed, and what a client is told when a callback returns it.
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
    /// An error that the protocol knows; this is what a client sees.
    Protocol(ErrorType),
    /// An address could not be bound, or a socket failed.
    Io,
    /// The hub or the server was put together wrongly (a route twice, a bad pattern).
    Config,
    /// The connection is already closed.
    Closed,
    /// A connection may not go from one state to another.
    Transition {
        /// The state it is in.
        from: ConnectionState,
        /// The state that was refused, also where the hub does not know it.
        to: ConnectionState,
    },
    /// A client refused a request of ours; the text is the client's.
    Refused,
    /// The connection belongs to another hub than the one that was asked to do something with it.
    OtherHub,
    /// The call needs a Tokio runtime with timers, that of a server one with I/O too, and was made outside of one or after
    /// its end.
    NoRuntime,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), details: None, source: None }
    }

    /// An error that a client sees as `error_type`, with a text for people.
    pub fn protocol(error: ErrorType, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Protocol(error), message)
    }

    /// An error of the application: the client sees `application_error` and this text.
    pub fn application(message: impl Into<Cow<'static, str>>) -> Self {
        Self::protocol(ErrorType::ApplicationError, message)
    }

    /// Any other error: the client sees `internal_error` and none of its text, the log has it all.
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

    /// Takes an error back from whom it was shown to; where they keep it, it becomes the source of one like it.
    pub(crate) fn unshared(shared: Arc<Self>) -> Self {
        Arc::try_unwrap(shared).unwrap_or_else(|shared| Self {
            kind: shared.kind,
            message: shared.message.clone(),
            details: shared.details.clone(),
            source: Some(Box::new(shared)),
        })
    }

    /// Adds what the client may see besides the text, as `details`.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// The kind, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The `error_type` a client is told.
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

    /// The code that closes a connection whose `on_open` or `on_reconnect` fails with this error. A permanent refusal
    /// keeps the client away; a failure of the server or of the application does not. The table is in `docs/errors.md`.
    pub(crate) fn close_code(&self) -> CloseCode {
        match self.kind {
            ErrorKind::Protocol(ErrorType::TokenExpired) => CloseCode::EXPIRED,
            ErrorKind::Protocol(ErrorType::ApplicationError) => CloseCode::INTERNAL_ERROR,
            ErrorKind::Protocol(error) if !error.is_temporary() => CloseCode::PERMISSION_DENIED,
            _ => CloseCode::INTERNAL_ERROR,
        }
    }

    /// Drops it, and counts where what it was made of panics in doing so.
    pub(crate) fn discard(mut self, panics: &Counter) {
        crate::contain::discard(panics, self.source.take());
    }

    /// The text a client is told: the error's own where the protocol knows it, a fixed one otherwise.
    pub(crate) fn public_message(&self) -> &str {
        match self.kind {
            ErrorKind::Protocol(_) | ErrorKind::Refused | ErrorKind::Transition { .. } => &self.message,
            _ => "internal error",
        }
    }

    /// The text with those of the errors behind it: for the log and the application, never for a peer.
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

    /// What the client may see besides the text.
    pub fn details(&self) -> Option<&Value> {
        self.details.as_deref()
    }
}

impl Drop for Error {
    /// What it was made of may be the application's.
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

impl From<BrokerError> for Error {
    /// `timeout` where it may have happened, else `unavailable`.
    fn from(source: BrokerError) -> Self {
        let mut error = if source.is_unknown {
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

/// The application says no: an HTTP status before the upgrade, an `error` message after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    pub(crate) error: ErrorType,
    pub(crate) status: StatusCode,
    pub(crate) message: Cow<'static, str>,
    pub(crate) details: Option<Value>,
}

impl Reject {
    /// A refusal with any `error_type` and the HTTP status of an error, 400 to 599; 500 is sent in place of any other.
    pub fn new(error: ErrorType, status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let is_error = status.is_client_error() || status.is_server_error();
        let status = if is_error { status } else { StatusCode::INTERNAL_SERVER_ERROR };
        Self { error, status, message: message.into(), details: None }
    }

    /// No or bad credentials: 401, `unauthorized`.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorType::Unauthorized, StatusCode::UNAUTHORIZED, message)
    }

    /// Good credentials whose time is over: 401, `token_expired`.
    pub fn expired(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorType::TokenExpired, StatusCode::UNAUTHORIZED, message)
    }

    /// Known, but not allowed: 403, `permission_denied`.
    pub fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorType::PermissionDenied, StatusCode::FORBIDDEN, message)
    }

    /// The request makes no sense: 400, `validation_error`.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorType::ValidationError, StatusCode::BAD_REQUEST, message)
    }

    /// Adds what the client may see besides the text, as `details`.
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

/// The broker failed: the publication or subscription did not happen, or is not known to have.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BrokerError {
    message: Cow<'static, str>,
    is_unknown: bool,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl BrokerError {
    /// A failure with a text of its own: nothing happened.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), is_unknown: false, source: None }
    }

    /// A failure with a text of its own, where it may have happened: an answer was lost.
    pub fn unknown(message: impl Into<Cow<'static, str>>) -> Self {
        Self { is_unknown: true, ..Self::new(message) }
    }

    /// A failure caused by another error: nothing happened.
    pub fn from_source(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..Self::new("the broker failed") }
    }

    /// Whether it may have happened.
    pub fn is_unknown(&self) -> bool {
        self.is_unknown
    }
}
