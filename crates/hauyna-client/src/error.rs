//! What can go wrong with a request, a connection and a stream, each by its own type. No text of the peer's
//! is trusted to be short.

use crate::gap::Gap;
use hauyna_protocol::ErrorType;
use serde_json::value::RawValue;
use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

/// Why a request has no answer, or not the one that was hoped for.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server said no.
    #[error("{0}")]
    Refused(Refusal),
    /// It was not sent within its `ttl`, or before the token source gave the token of another user: nothing
    /// has happened.
    #[error("the request could not be sent in time")]
    Expired,
    /// It was sent, and no answer came in time. It may have been done.
    #[error("no answer in time")]
    Timeout,
    /// It was sent, the connection was lost before the answer, and a repetition might do it twice, or was
    /// refused. It may have been done.
    #[error("the connection was lost before the answer")]
    OutcomeUnknown,
    /// It was `volatile`, and there is no connection: nothing has happened.
    #[error("not connected")]
    NotConnected,
    /// Too much waits to be sent already: nothing has happened.
    #[error("too much waits to be sent")]
    OutboxFull,
    /// The client is closed: nothing has happened, unless the request was on its way.
    #[error("the client is closed: {0}")]
    Closed(Closed),
    /// The attempts that the retry policy grants are used up: nothing has happened.
    /// [`Client::reconnect`](crate::Client::reconnect) makes a new attempt.
    #[error("the attempts to connect are used up")]
    GaveUp,
    /// The application has ended the subscription before it was there.
    #[error("unsubscribed meanwhile")]
    Unsubscribed,
    /// What was to be sent cannot be JSON, is not the object that it has to be, or is larger than the whole
    /// outbox.
    #[error("cannot be sent: {0}")]
    Unsendable(String),
    /// The answer is not of the type that was asked for.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

impl Error {
    /// Tells whether the same request may succeed later.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.temporary,
            Self::Expired | Self::Timeout | Self::NotConnected | Self::OutboxFull => true,
            _ => false,
        }
    }

    /// Returns the word for this kind of error, which is the same in the client in TypeScript
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

    /// Returns the kind of a refusal, where it is one that this version knows.
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

/// An `error` message of the server's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The kind, perhaps one of a later version.
    pub error_type: String,
    /// For people.
    pub message: String,
    /// Whether the same request may succeed later.
    pub temporary: bool,
    /// For programs.
    pub details: Option<Box<RawValue>>,
}

impl Refusal {
    /// Returns how long to wait before a request that is `rate_limited` is made again, where the server says
    /// so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        #[derive(serde::Deserialize)]
        struct Details {
            retry_after: Option<u64>,
        }
        let details: Details = serde_json::from_str(self.details.as_ref()?.get()).ok()?;
        details.retry_after.map(Duration::from_millis)
    }

    /// A message that is larger than the server takes.
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
    /// [`Client::close`](crate::Client::close), or the last handle is gone.
    ByUs,
    /// The server closed with a code that means to stay away.
    ByServer {
        /// The code.
        code: u16,
        /// For people.
        reason: String,
    },
    /// The server answered the handshake with a status that another attempt will not change.
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The handshake cannot be written, because the token or the address has characters that HTTP does not
    /// allow there.
    InvalidRequest,
    /// Every attempt that the retry policy grants has failed.
    GaveUp,
    /// The runtime that the client was started in has ended.
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

/// What stands in a stream where an item would.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The reader was too slow: so many items were dropped here.
    #[error("{0} items were dropped, because they were not read in time")]
    Missed(u64),
    /// It cannot be proved that nothing is missing here.
    #[error("messages may be missing: {0}")]
    Gap(Gap),
    /// An item is not of the stream's type.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// The options of a client make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// It cannot be parsed, or its port is none.
    #[error("not a URL with scheme, host and path")]
    Malformed,
    /// Neither `ws` nor `wss`.
    #[error("the scheme is neither ws nor wss")]
    Scheme,
    /// `wss`, without a way to speak TLS.
    #[error("wss needs the feature `tls` and `Builder::tls`, or a connector of your own")]
    NoTls,
}
