//! How the proxy treats one connection: delays, slices, stalls, and a cut after a number of bytes. Plain
//! data.

use std::time::Duration;

/// How a [`FaultProxy`](super::FaultProxy) treats a connection. By default it only forwards.
///
/// ```
/// use hauyna_test::{Behaviour, Cut, Direction};
/// use std::time::Duration;
///
/// let slow = Behaviour::new().delay(Duration::from_millis(80), Duration::from_millis(40));
/// let silent = Behaviour::new().stall(Direction::Down);
/// let unanswered = Behaviour::new().cut_after(Direction::Down, 400, Cut::Reset);
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

/// A direction through the proxy.
///
/// Exhaustive: there are only two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// How a connection is cut.
///
/// Exhaustive: a TCP connection ends by RST or by FIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The proxy sends RST to both sides: reads and writes fail at once.
    Reset,
    /// The proxy sends FIN to both sides: the stream ends without a WebSocket close frame.
    Fin,
}

impl Behaviour {
    /// Returns the default behaviour: it forwards everything at once.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Delays every byte by `latency` plus a random time up to `jitter`. Bytes keep their order.
    #[must_use]
    pub fn delay(self, latency: Duration, jitter: Duration) -> Self {
        Self { latency, jitter, ..self }
    }

    /// Forwards at most this many bytes per segment, at least 1.
    #[must_use]
    pub fn slice(self, bytes: usize) -> Self {
        Self { slice: Some(bytes.max(1)), ..self }
    }

    /// Forwards nothing in this direction, neither bytes nor the end of the stream, and does not notice when
    /// the sender closes, as with a pulled cable. Another behaviour resumes where it stopped.
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

    /// Cuts once this many bytes were forwarded in this direction since the connection began, the handshake
    /// included.
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

    /// Returns how many bytes may be forwarded before the cut, and the kind of cut.
    pub(super) fn allowance(&self, direction: Direction, forwarded: u64) -> Option<(u64, Cut)> {
        let (limited, bytes, cut) = self.cut_after?;
        (limited == direction).then(|| (bytes.saturating_sub(forwarded), cut))
    }
}
