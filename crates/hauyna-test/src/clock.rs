//! Turning the clock in tests under `#[tokio::test(start_paused = true)]`: hours pass in milliseconds, and every
//! deadline on the way is kept in its order.

use std::time::Duration;

/// Lets time pass and everything happen that falls due in it, in order: heartbeats, time-outs, grace times, sweeps,
/// and what clients that are being read from another task do about them. Takes one [`settle`] more than `duration`.
///
/// `tokio::time::advance` is something else: it jumps, so that what was due on the way is all late at once.
///
/// # Panics
///
/// Where the clock is not paused, seen from one second on.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use hauyna::{Handler, Heartbeat, Hub};
/// use hauyna_test::{MemoryServer, advance};
/// use std::time::Duration;
///
/// let heartbeat = Heartbeat::every(Duration::from_secs(10)).timeout(Duration::from_secs(20));
/// let handler = Handler::new().identify(|_| Ok("ann")).heartbeat(heartbeat);
/// let server = MemoryServer::start(Hub::new(), handler);
/// let _silent = server.connect("/").await; // nobody reads, so no ping is answered
/// assert!(server.hub().user("ann").is_connected());
/// advance(Duration::from_secs(38)).await; // pinged after 10 s, given up 20 s later, five for the close frame
/// assert!(!server.hub().user("ann").is_connected());
/// # }
/// ```
pub async fn advance(duration: Duration) {
    let began = std::time::Instant::now();
    tokio::time::sleep_until(after(duration)).await;
    let is_paused = duration < Duration::from_secs(1) || began.elapsed() < duration;
    assert!(is_paused, "the clock is not paused: `#[tokio::test(start_paused = true)]`");
    settle().await;
}

/// The instant that is `duration` from now; of a duration without end, one in thirty years.
pub(crate) fn after(duration: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + duration.min(Duration::from_secs(30 * 365 * 24 * 60 * 60))
}

/// Waits until no task of the runtime has anything left to do but to wait. The clock goes on by one millisecond.
pub async fn settle() {
    // A paused clock moves only when everything rests.
    tokio::time::sleep(Duration::from_millis(1)).await;
}
