//! The one clock: wall time for what people read, monotonic time (which tests can pause) for deadlines.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    to_unix_ms(SystemTime::now())
}

pub(crate) fn to_unix_ms(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since a hub was built, never 0: small enough to keep several in every connection. 1 is [`Tick::RECENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u32);

impl Tick {
    /// A moment since the last sweep. What a deadline counts from is noted as this, which costs no look at the clock; the
    /// next sweep [dates](Tick::date) it with its own time. So no deadline is ever early, and each is late by two sweeps
    /// at most: the one that dates its beginning, and the one that finds it over.
    pub(crate) const RECENT: Self = Self(1);

    /// Gives a recent moment the time of the sweep that finds it, rounded up.
    pub(crate) fn date(self, now: impl FnOnce() -> Self) -> Self {
        if self == Self::RECENT { now().after(Duration::from_millis(1)) } else { self }
    }

    /// As [`date`](Tick::date), for a moment that others may note anew meanwhile. 0 stands for none.
    pub(crate) fn date_in(moment: &AtomicU32, now: impl FnOnce() -> Self) {
        if moment.load(Ordering::Relaxed) == Self::RECENT.0 {
            let dated = Self::RECENT.date(now).0;
            let _ = moment.compare_exchange(Self::RECENT.0, dated, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "ticks wrap by design")]
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.wrapping_add(time.as_millis() as u32).max(2))
    }

    /// Moves a moment that is 24 days ago or more to 24 days ago: beyond, ticks cannot tell it from a later one.
    /// Called about once a second for each moment that is kept for so long.
    pub(crate) fn keep_past(self, moment: &AtomicU32) {
        let then = moment.load(Ordering::Relaxed);
        if then == Self::RECENT.0 {
            return;
        }
        if self.0.wrapping_sub(then) > LONGEST && self.since(Self(then)) > Duration::ZERO {
            let _ = moment.compare_exchange(
                then,
                self.0.wrapping_sub(LONGEST).max(2),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    /// The time between two ticks; zero where `earlier` is later. Right across the wrap after 49 days.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let passed = self.0.wrapping_sub(earlier.0);
        if passed > u32::MAX / 2 { Duration::ZERO } else { Duration::from_millis(passed.into()) }
    }
}

/// 24 days, in ms.
const LONGEST: u32 = 24 * 24 * 60 * 60 * 1000;

/// Counts ticks from the moment it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since it was made; does not wrap.
    pub(crate) fn millis(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn tick(&self) -> Tick {
        self.at(Instant::now())
    }

    #[expect(clippy::cast_possible_truncation, reason = "ticks wrap by design")]
    pub(crate) fn at(&self, now: Instant) -> Tick {
        Tick((now.duration_since(self.0).as_millis() as u32).max(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_compared_across_their_wrap() {
        assert_eq!(Tick(5).since(Tick(u32::MAX - 4)), Duration::from_millis(10));
        assert_eq!(Tick(5).since(Tick(9)), Duration::ZERO);
    }

    #[test]
    fn a_recent_moment_is_dated_once_and_never_before_it_was() {
        assert_eq!(Tick::RECENT.date(|| Tick(500)), Tick(501));
        assert_eq!(Tick(7).date(|| unreachable!("it has its date")), Tick(7));
        let moment = AtomicU32::new(Tick::RECENT.0);
        Tick(900_000).keep_past(&moment);
        Tick::date_in(&moment, || Tick(20));
        Tick::date_in(&moment, || unreachable!("it has its date"));
        assert_eq!(moment.load(Ordering::Relaxed), 21);
        let none = AtomicU32::new(0);
        Tick::date_in(&none, || unreachable!("there is none"));
        assert_eq!(none.load(Ordering::Relaxed), 0);
        assert!(Clock::start().tick() > Tick::RECENT && Tick(0).after(Duration::ZERO) > Tick::RECENT);
    }

    #[test]
    fn a_moment_of_long_ago_stays_in_the_past() {
        let moment = AtomicU32::new(7);
        let mut now = Tick(7);
        for _ in 0..200 {
            now = Tick(now.0.wrapping_add(12 * 60 * 60 * 1000));
            now.keep_past(&moment);
            assert!(now.since(Tick(moment.load(Ordering::Relaxed))) >= Duration::from_secs(12 * 60 * 60));
        }
        assert_eq!(now.since(Tick(moment.load(Ordering::Relaxed))), Duration::from_secs(24 * 24 * 60 * 60));
        let ahead = AtomicU32::new(now.0.wrapping_add(5));
        now.keep_past(&ahead);
        assert_eq!(ahead.load(Ordering::Relaxed), now.0.wrapping_add(5));
    }
}
