//! Advances the clock in tests with `#[tokio::test(start_paused = true)]`: hours pass in milliseconds, and
//! all timers fire in order.

use crate::located::Located;
use std::time::Duration;

/// Advances the clock by `duration`. All timers that fall due fire in order (heartbeats, timeouts, grace
/// times, sweeps), and clients that are read by other tasks react to them. Ends with one [`settle`], which
/// adds a millisecond.
///
/// `tokio::time::advance` differs: it jumps, so that all timers on the way fire late and at once.
///
/// # Panics
///
/// Panics if the clock is not paused. Only durations of at least one second are checked.
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
/// assert!(server.hub().user("ann").is_connected().await);
/// advance(Duration::from_secs(38)).await; // ping after 10 s, timeout 20 s later, 5 s for the close frame
/// assert!(!server.hub().user("ann").is_connected().await);
/// # }
/// ```
#[track_caller]
pub fn advance(duration: Duration) -> impl Future<Output = ()> + Send {
    Located::new(async move {
        let began = std::time::Instant::now();
        tokio::time::sleep_until(after(duration)).await;
        if duration >= Duration::from_secs(1) && began.elapsed() >= duration {
            return Err("the clock is not paused: `#[tokio::test(start_paused = true)]`".to_owned());
        }
        settle().await;
        Ok(())
    })
}

/// Returns the instant `duration` from now, at most thirty years ahead.
pub(crate) fn after(duration: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + duration.min(Duration::from_secs(30 * 365 * 24 * 60 * 60))
}

/// Waits until all tasks of the runtime are idle. The clock advances by one millisecond.
pub async fn settle() {
    // A paused clock advances only when all tasks are idle.
    tokio::time::sleep(Duration::from_millis(1)).await;
}
