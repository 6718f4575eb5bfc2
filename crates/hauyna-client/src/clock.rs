//! Moments, and arithmetic that does not overflow for any duration of a user. Everything in this crate that
//! waits uses it.

use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Returns the instant `wait` after `now`, but none that is too late for a timer.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(MAX_WAIT)
}

/// A moment by two clocks: the monotonic clock stands still while the machine sleeps, and the wall clock may
/// be set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }

    /// Returns the time since an earlier moment, by the clock that shows more.
    pub(crate) fn since(&self, earlier: Self) -> Duration {
        let by_wall = self.wall.duration_since(earlier.wall).unwrap_or_default();
        self.instant.duration_since(earlier.instant).max(by_wall)
    }
}

/// Longer than any client runs, and within the range of a timer.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(86_400 * 365 * 30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn durations_do_not_overflow() {
        let now = Instant::now();
        assert_eq!(after(now, Duration::MAX), now + MAX_WAIT);
        assert_eq!(after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn elapsed_time_is_the_larger_of_both_clocks() {
        let began = Moment::now();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(Moment::now().since(began) >= Duration::from_secs(60));
        let slept = Moment { wall: began.wall + Duration::from_secs(600), ..began };
        assert_eq!(slept.since(began), Duration::from_secs(600));
        let set_back = Moment { wall: began.wall - Duration::from_secs(600), ..began };
        assert_eq!(set_back.since(began), Duration::ZERO);
    }
}
