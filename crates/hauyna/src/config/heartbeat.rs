//! How dead peers are detected: `Heartbeat`, which the application sets for a handler.

use crate::clock::MAX_TIME;
use std::time::Duration;

/// How dead peers are detected. Part of a [`Handler`](crate::Handler).
///
/// With `Heartbeat::every(30 s).timeout(60 s)` a client that falls silent is pinged after 30 and 60 s, is
/// [idle](crate::connection::ConnectionState::Idle) after 60 s (twice the interval), and closed after 90 s:
/// the timeout counts from the first unanswered ping. Anything that the client sends answers all pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

impl Heartbeat {
    /// Creates a heartbeat with a ping every `interval`, which anything that the client sends answers; the
    /// timeout is 8 s, or the interval if that is shorter.
    ///
    /// `interval` is at least 10 ms; one of more than 24 days never elapses.
    pub fn every(interval: Duration) -> Self {
        let interval = interval.clamp(Duration::from_millis(10), MAX_TIME);
        Self { interval, timeout: interval.min(Duration::from_secs(8)) }
    }

    /// Sets how long a ping may stay unanswered before the connection is closed with 3012. At least 10 ms;
    /// more than 24 days never elapse.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.clamp(Duration::from_millis(10), MAX_TIME);
        self
    }
}

impl Default for Heartbeat {
    /// Returns a ping every 25 s, with 8 s to answer.
    fn default() -> Self {
        Self::every(Duration::from_secs(25))
    }
}
