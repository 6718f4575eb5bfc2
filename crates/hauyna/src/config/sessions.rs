//! How long the sessions of lost connections are kept, and how many: `SessionOptions`, which the application
//! passes to the hub.

use std::time::Duration;

/// What a hub keeps for lost connections, from [`HubBuilder::sessions`](crate::HubBuilder::sessions).
///
/// A session is kept for the [`window`](SessionOptions::window), or shorter if its client's
/// [`RetryPolicy`](crate::connection::RetryPolicy) gives up earlier: after the sum of the delays, and 10 s
/// for each attempt. Beyond either bound on memory the oldest sessions end early.
///
/// # Examples
///
/// ```
/// use hauyna::{Hub, SessionOptions};
/// use std::time::Duration;
///
/// let sessions = SessionOptions::new().window(Duration::from_secs(300));
/// let hub = Hub::builder().sessions(sessions).build();
/// # drop(hub);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct SessionOptions {
    pub(crate) window: Duration,
    pub(crate) max_sessions: usize,
    pub(crate) max_bytes: usize,
}

impl SessionOptions {
    /// Returns the default options: sessions are kept for 120 s, at most 65,536 of them in at most 128 MiB.
    pub const fn new() -> Self {
        Self { window: Duration::from_secs(120), max_sessions: 65_536, max_bytes: 128 * 1024 * 1024 }
    }

    /// Returns options under which no session is kept: a client whose connection was lost starts a new
    /// session.
    pub const fn none() -> Self {
        Self { window: Duration::ZERO, max_sessions: 0, max_bytes: 0 }
    }

    /// Sets the longest time for which a session is kept. Zero keeps none. Default: 120 s.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how many sessions are kept at once at most. Zero keeps none. Default: 65,536.
    pub const fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Sets how many bytes all kept sessions take at most, by an estimate of at least 1 KiB each. Default:
    /// 128 MiB.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self::new()
    }
}
