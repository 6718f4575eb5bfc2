//! How long the sessions of lost connections are kept, and how many: `SessionOptions`.

use std::time::Duration;

/// What a hub keeps for clients that were lost, from [`HubBuilder::sessions`](crate::HubBuilder::sessions).
///
/// A session is kept for the [`window`](SessionOptions::window), or less where its client's
/// [`RetryPolicy`](crate::RetryPolicy) gives up earlier: the delays, and 10 s for each attempt. Beyond either bound on
/// memory the oldest end early.
///
/// # Examples
///
/// ```
/// use hauyna::{Hub, SessionOptions};
/// use std::time::Duration;
///
/// let sessions = SessionOptions { window: Duration::from_secs(300), ..SessionOptions::default() };
/// let hub = Hub::builder().sessions(sessions).build();
/// # drop(hub);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// The longest time for which a session is kept. Default: 120 s. Zero: none is.
    pub window: Duration,
    /// Sessions that wait at once, at most. Default: 65,536.
    pub max_sessions: usize,
    /// Bytes that they may take, about; at least 1 KiB each. Default: 128 MiB.
    pub max_bytes: usize,
}

impl SessionOptions {
    /// No session is kept: a client that was lost begins anew.
    pub const fn none() -> Self {
        Self { window: Duration::ZERO, max_sessions: 0, max_bytes: 0 }
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { window: Duration::from_secs(120), max_sessions: 65_536, max_bytes: 128 * 1024 * 1024 }
    }
}
