//! How one connection is treated: delayed, sliced, stalled, cut after so many bytes. Plain data.

use std::time::Duration;

/// How a [`FaultProxy`](super::FaultProxy) treats a connection. It begins as one that does nothing.
///
/// ```
/// use hauyna_test::{Conduct, Cut, Direction};
/// use std::time::Duration;
///
/// let slow = Conduct::new().delay(Duration::from_millis(80), Duration::from_millis(40));
/// let silent = Conduct::new().stall(Direction::Down);
/// let unanswered = Conduct::new().cut_after(Direction::Down, 400, Cut::Reset);
/// # let _ = (slow, silent, unanswered);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behaviour {
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    pub(super) slice: Option<usize>,
    stalls_up: bool,
    stalls_down: bool,
    cut_after: Option<(Direction, u64, Cut)>,
}

/// A way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// RST to both sides: reading and writing fail at once.
    Reset,
    /// FIN to both sides: the stream ends, without the WebSocket's close frame.
    Fin,
}

impl Behaviour {
    /// Forwards at once and whole.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Delays every byte by `latency` and up to `jitter` more, at random, in order.
    #[must_use]
    pub fn delay(self, latency: Duration, jitter: Duration) -> Self {
        Self { latency, jitter, ..self }
    }

    /// Forwards at most so many bytes in one segment, 1 at least.
    #[must_use]
    pub fn slice(self, bytes: usize) -> Self {
        Self { slice: Some(bytes.max(1)), ..self }
    }

    /// Forwards nothing in this direction, neither bytes nor the end of the stream, and does not see that the
    /// sender has gone: a cable that was pulled. Another conduct lets it go on where it was.
    #[must_use]
    pub fn stall(self, direction: Direction) -> Self {
        match direction {
            Direction::Up => Self { stalls_up: true, ..self },
            Direction::Down => Self { stalls_down: true, ..self },
        }
    }

    /// Stalls both directions.
    #[must_use]
    pub fn stall_both(self) -> Self {
        self.stall(Direction::Up).stall(Direction::Down)
    }

    /// Cuts once this many bytes were forwarded in this direction since the connection's beginning, the handshake
    /// among them.
    #[must_use]
    pub fn cut_after(self, direction: Direction, bytes: u64, cut: Cut) -> Self {
        Self { cut_after: Some((direction, bytes, cut)), ..self }
    }

    pub(super) fn stalls(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.stalls_up,
            Direction::Down => self.stalls_down,
        }
    }

    /// How many bytes may be forwarded before it is cut, and how.
    pub(super) fn allowance(&self, direction: Direction, forwarded: u64) -> Option<(u64, Cut)> {
        let (limited, bytes, cut) = self.cut_after?;
        (limited == direction).then(|| (bytes.saturating_sub(forwarded), cut))
    }
}
