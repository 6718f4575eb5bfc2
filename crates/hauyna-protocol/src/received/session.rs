//! The session of a connection, as a client reads it: its start, the terms of a resume, the notice of a
//! drain.

use super::Subscribed;
use super::field::or_default;
use crate::{HeartbeatTerms, RetryTerms, SessionLimits};
use serde::Deserialize;

/// What the client needs to know about its connection.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Session {
    /// Id of this connection.
    pub connection_id: String,
    /// The authenticated user.
    pub user: String,
    /// Whether it resumes the session of a lost connection.
    #[serde(default, deserialize_with = "or_default")]
    pub resumed: bool,
    /// How to resume this session; `None` if sessions are not kept.
    pub resume: Option<Resume>,
    /// Heartbeat of the server.
    pub heartbeat: Option<HeartbeatTerms>,
    /// Retry policy after a loss.
    pub retry: Option<RetryTerms>,
    /// Subscriptions of a resumed session, and those that the server made.
    #[serde(default, deserialize_with = "or_default")]
    pub subscriptions: Vec<Subscribed>,
    /// Subscriptions of a resumed session that could not continue and have ended.
    #[serde(default, deserialize_with = "or_default")]
    pub failed: Vec<FailedSubscription>,
    /// Expiry of the credentials, in ms since the Unix epoch.
    pub expires_at: Option<u64>,
    /// Time until the credentials expire, in ms.
    pub expires_in: Option<u64>,
    /// Limits of what the server accepts from this client.
    pub limits: Option<SessionLimits>,
}

/// A subscription of a resumed session that could not continue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct FailedSubscription {
    /// The channel.
    pub channel: String,
    /// Kind of the error, possibly of a later version; see [`ErrorType`](crate::ErrorType).
    pub error_type: String,
    /// Text for people.
    #[serde(default, deserialize_with = "or_default")]
    pub message: String,
    /// Whether a new subscription may succeed later.
    #[serde(default, deserialize_with = "or_default")]
    pub temporary: bool,
}

/// Terms on which a later connection can resume the session.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Resume {
    /// Token that can be used once.
    pub token: String,
    /// How long the session is kept after a loss, in ms.
    pub window: u64,
}

// The token is a secret.
impl std::fmt::Debug for Resume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resume").field("window", &self.window).finish_non_exhaustive()
    }
}

/// The node closes this connection soon.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Drain {
    /// Earliest and latest moment of the close, in ms from now.
    pub after: (u64, u64),
    /// Reason, for people.
    #[serde(default, deserialize_with = "or_default")]
    pub reason: String,
}
