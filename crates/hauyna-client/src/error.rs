//! The errors of requests, connections and streams, each with a type of its own. Texts of the peer may have
//! any length.

use crate::gap::Gap;
use hauyna_protocol::ErrorType;
use serde_json::value::RawValue;
use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

/// Why a request has failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused the request.
    #[error("{0}")]
    Refused(Refusal),
    /// The request was not sent within its `ttl`, or not before the token source gave the token of another
    /// user. Nothing has happened.
    #[error("the request could not be sent in time")]
    Expired,
    /// The request was sent, but no answer came in time. It may have been done.
    #[error("no answer in time")]
    Timeout,
    /// The request was sent, and the connection was lost before the answer. Repeating it might do it twice,
    /// or was refused. It may have been done.
    #[error("the connection was lost before the answer")]
    OutcomeUnknown,
    /// The request was `volatile`, and there is no connection. Nothing has happened.
    #[error("not connected")]
    NotConnected,
    /// The outbox is full. Nothing has happened.
    #[error("too much waits to be sent")]
    OutboxFull,
    /// The client is closed. Nothing has happened, unless the request was in flight.
    #[error("the client is closed: {0}")]
    Closed(Closed),
    /// The attempts that the retry policy allows are used up. Nothing has happened.
    /// [`Client::reconnect`](crate::Client::reconnect) makes a new attempt.
    #[error("the attempts to connect are used up")]
    GaveUp,
    /// The application has unsubscribed before the subscription was live.
    #[error("unsubscribed meanwhile")]
    Unsubscribed,
    /// The value cannot be encoded as JSON, is not an object where one is required, or is larger than the
    /// whole outbox.
    #[error("cannot be sent: {0}")]
    Unsendable(String),
    /// The answer is not of the requested type.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

impl Error {
    /// Returns whether the same request may succeed later.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.temporary,
            Self::Expired | Self::Timeout | Self::NotConnected | Self::OutboxFull => true,
            _ => false,
        }
    }

    /// Returns the name of this kind of error, which is the same in the TypeScript client
    /// (`HauynaError.kind`).
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Expired => "expired",
            Self::Timeout => "timeout",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::NotConnected => "not_connected",
            Self::OutboxFull => "outbox_full",
            Self::Closed(_) => "closed",
            Self::GaveUp => "gave_up",
            Self::Unsubscribed => "unsubscribed",
            Self::Unsendable(_) => "invalid",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// Returns the kind of a refusal, if this version knows it.
    #[must_use]
    pub fn error_type(&self) -> Option<ErrorType> {
        match self {
            Self::Refused(refusal) => ErrorType::from_str(&refusal.error_type).ok(),
            _ => None,
        }
    }
}

impl From<Closed> for Error {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::GaveUp => Self::GaveUp,
            closed => Self::Closed(closed),
        }
    }
}

/// An `error` message of the server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The kind of error, which a later version may have added.
    pub error_type: String,
    /// Text for people.
    pub message: String,
    /// Whether the same request may succeed later.
    pub temporary: bool,
    /// Details for programs.
    pub details: Option<Box<RawValue>>,
}

impl Refusal {
    /// Returns how long to wait before a request that was `rate_limited` is repeated, if the server says so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        #[derive(serde::Deserialize)]
        struct Details {
            retry_after: Option<u64>,
        }
        let details: Details = serde_json::from_str(self.details.as_ref()?.get()).ok()?;
        details.retry_after.map(Duration::from_millis)
    }

    /// Returns the refusal of a message that is larger than the server accepts.
    pub(crate) fn too_large(limit: Option<usize>) -> Self {
        let details = limit.and_then(|limit| RawValue::from_string(format!("{{\"limit\":{limit}}}")).ok());
        Self {
            error_type: ErrorType::PayloadTooLarge.as_str().to_owned(),
            message: "the message is too large".to_owned(),
            temporary: false,
            details,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error_type, self.message)
    }
}

impl From<hauyna_protocol::received::Refused> for Refusal {
    fn from(refused: hauyna_protocol::received::Refused) -> Self {
        let hauyna_protocol::received::Refused { error_type, message, temporary, details, .. } = refused;
        Self { error_type, message, temporary, details }
    }
}

/// Why a client is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// [`Client::close`](crate::Client::close) was called, or the last handle was dropped.
    ByUs,
    /// The server closed the connection with a code after which clients stay away.
    ByServer {
        /// The close code.
        code: u16,
        /// Text for people.
        reason: String,
    },
    /// The server answered the handshake with a status that another attempt will not change.
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The handshake cannot be written, because the token or the address contains characters that HTTP does
    /// not allow there.
    InvalidRequest,
    /// Every attempt that the retry policy allows has failed.
    GaveUp,
    /// The runtime in which the client was started has ended.
    TaskEnded,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByUs => f.write_str("by us"),
            Self::ByServer { code, reason } => write!(f, "by the server, {code} {reason}"),
            Self::Refused { status } => write!(f, "the handshake was answered with {status}"),
            Self::InvalidRequest => f.write_str("the token or the address cannot stand in a handshake"),
            Self::GaveUp => f.write_str("gave up"),
            Self::TaskEnded => f.write_str("its runtime has ended"),
        }
    }
}

/// An error in the place of an item of a stream.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The reader was too slow, and this number of items was dropped here.
    #[error("{0} items were dropped, because they were not read in time")]
    Missed(u64),
    /// Messages may be missing here.
    #[error("messages may be missing: {0}")]
    Gap(Gap),
    /// An item is not of the type of the stream.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// Why a client cannot be started with a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// It cannot be parsed, or its port is not a port number.
    #[error("not a URL with scheme, host and path")]
    Malformed,
    /// The scheme is neither `ws` nor `wss`.
    #[error("the scheme is neither ws nor wss")]
    Scheme,
    /// The scheme is `wss`, but TLS is not configured.
    #[error("wss needs the feature `tls` and `Builder::tls`, or a connector of your own")]
    NoTls,
}
