//! Rate limits: `Rate` is the option, `Bucket` counts it for one connection or channel. Pure: the time is an
//! argument, in milliseconds of any clock; nothing waits, nothing is allocated. `dispatch::admission` uses
//! it; `used_limits` keeps what is left when the connection or the channel is gone.

use std::time::Duration;

/// How often something may happen: a number per time on average, and a number at once.
///
/// # Examples
///
/// ```
/// use hauyna::Rate;
/// use std::time::Duration;
///
/// let chatter = Rate::per_second(10).burst(50); // 50 at once, then 10 each second
/// let rare = Rate::new(3, Duration::from_secs(60)); // 3 at once, then one every 20 s
/// # let _ = (chatter, rare);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Rate {
    count: u32,
    /// The time of `count`, in milliseconds.
    per: u32,
    burst: u32,
}

impl Rate {
    /// Creates a rate of `count` per `time` on average, and `count` at once. `count` is at least 1; `time` is
    /// between 1 ms and a day.
    pub fn new(count: u32, time: Duration) -> Self {
        let per = u32::try_from(time.as_millis()).unwrap_or(u32::MAX).clamp(1, DAY_MS);
        Self { count: count.max(1), per, burst: count.max(1) }
    }

    /// Creates a rate of `count` per second on average, and `count` at once. `count` is at least 1.
    pub fn per_second(count: u32) -> Self {
        Self::new(count, Duration::from_secs(1))
    }

    /// Sets how many there may be at once, after a time without any. At least 1. Default: the number for the
    /// whole time of the rate.
    pub fn burst(mut self, burst: u32) -> Self {
        self.burst = burst.max(1);
        self
    }

    /// Returns the same rate for something that is counted in units smaller than one.
    pub(crate) fn in_units(self, parts: u32) -> Self {
        Self {
            count: self.count.saturating_mul(parts),
            burst: self.burst.saturating_mul(parts),
            per: self.per,
        }
    }
}

/// A token bucket: what is left of a [`Rate`] at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    /// Level in fractions of one, as many as the rate's time has milliseconds, so that no refill is rounded.
    /// Below zero after something larger than the whole bucket.
    level: i64,
    at: u64,
    /// The latest moment for which a retry was promised.
    latest_promise: u64,
}

impl Bucket {
    pub(crate) fn full(rate: Rate, now: u64) -> Self {
        Self { level: rate.capacity(), at: now, latest_promise: 0 }
    }

    /// Takes `cost` out, or returns how long to wait for it. If `cost` is more than the bucket holds, a full
    /// bucket is enough, and its level becomes negative.
    pub(crate) fn take(&mut self, rate: Rate, cost: u32, now: u64) -> Result<(), Duration> {
        self.check(rate, cost, now)?;
        self.spend(rate, cost);
        Ok(())
    }

    /// Returns how long to wait before `cost` can be taken.
    pub(crate) fn check(&mut self, rate: Rate, cost: u32, now: u64) -> Result<(), Duration> {
        self.refill(rate, now);
        match rate.refill_time(rate.scaled(cost).min(rate.capacity()) - self.level) {
            Duration::ZERO => Ok(()),
            wait => Err(wait),
        }
    }

    /// Checks like [`Bucket::check`], but a refused request is given a time after those of earlier refusals:
    /// requests that were refused together do not come back together. For limits that only one client uses.
    pub(crate) fn check_in_turn(&mut self, rate: Rate, cost: u32, now: u64) -> Result<(), Duration> {
        let Err(wait) = self.check(rate, cost, now) else { return Ok(()) };
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (earliest, turn) = (now.saturating_add(ms(wait)), ms(rate.refill_time(rate.scaled(cost))));
        let latest = earliest.saturating_add(turn.saturating_mul(MAX_TURNS_AHEAD));
        self.latest_promise = self.latest_promise.saturating_add(turn).clamp(earliest, latest);
        Err(Duration::from_millis(self.latest_promise - now))
    }

    /// Returns how long it takes to be full again; zero if it is full.
    pub(crate) fn full_after(mut self, rate: Rate, now: u64) -> Duration {
        self.refill(rate, now);
        rate.refill_time(rate.capacity() - self.level)
    }

    fn refill(&mut self, rate: Rate, now: u64) {
        let passed = i64::try_from(now.saturating_sub(self.at)).unwrap_or(i64::MAX);
        let gained = passed.saturating_mul(rate.count.into());
        self.level = self.level.saturating_add(gained).min(rate.capacity());
        // Of two threads the later one may have read the clock first: no time counts twice.
        self.at = self.at.max(now);
    }

    /// Puts back `cost` that was taken out.
    pub(crate) fn give_back(&mut self, rate: Rate, cost: u32) {
        self.level = self.level.saturating_add(rate.scaled(cost)).min(rate.capacity());
    }

    /// Takes `cost` out after a check that allowed it.
    pub(crate) fn spend(&mut self, rate: Rate, cost: u32) {
        self.level = self.level.saturating_sub(rate.scaled(cost));
    }
}

impl Rate {
    fn scaled(self, cost: u32) -> i64 {
        i64::from(cost).saturating_mul(self.per.into())
    }

    fn capacity(self) -> i64 {
        self.scaled(self.burst)
    }

    /// Returns how long it takes to refill what is missing.
    fn refill_time(self, missing: i64) -> Duration {
        let missing = u64::try_from(missing).unwrap_or_default();
        Duration::from_millis(missing.div_ceil(self.count.into()))
    }
}

/// Maximum number of turns ahead for which a refused request is given a time.
const MAX_TURNS_AHEAD: u64 = 256;
/// A day in milliseconds.
const DAY_MS: u32 = 24 * 60 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_at_once_and_then_the_rate_decides() {
        let rate = Rate::per_second(10).burst(3);
        let mut bucket = Bucket::full(rate, 5);
        for _ in 0..3 {
            bucket.take(rate, 1, 5).unwrap();
        }
        assert_eq!(bucket.take(rate, 1, 5), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(rate, 1, 104), Err(Duration::from_millis(1)));
        bucket.take(rate, 1, 105).unwrap();
        assert_eq!(bucket.take(rate, 1, 105), Err(Duration::from_millis(100)), "refusals cost nothing");
        for _ in 0..3 {
            bucket.take(rate, 1, 100_000).unwrap();
        }
        bucket.take(rate, 1, 100_000).unwrap_err();
    }

    #[test]
    fn nothing_is_lost_to_rounding_however_often_one_looks() {
        let rate = Rate::new(7, Duration::from_secs(10)).burst(2);
        let mut bucket = Bucket::full(rate, 1);
        let taken = (1..=100_001).filter(|ms| bucket.take(rate, 1, *ms).is_ok()).count();
        assert_eq!(taken, 72, "the burst, and seven every ten seconds");
    }

    #[test]
    fn what_is_refused_together_comes_back_one_after_the_other() {
        let rate = Rate::per_second(20);
        let mut bucket = Bucket::full(rate, 5);
        for _ in 0..20 {
            bucket.check_in_turn(rate, 1, 5).unwrap();
            bucket.spend(rate, 1);
        }
        let waits: Vec<_> =
            (0..80).map(|_| bucket.check_in_turn(rate, 1, 5).unwrap_err().as_millis()).collect();
        assert_eq!(waits, (1..=80).map(|turn| turn * 50).collect::<Vec<_>>());
        for wait in waits {
            bucket.check_in_turn(rate, 1, 5 + wait as u64).unwrap();
            bucket.spend(rate, 1);
        }
        let wait = (0..10_000).map(|_| bucket.check_in_turn(rate, 1, 4_005).unwrap_err()).max().unwrap();
        assert!(wait <= Duration::from_millis(50 * 257), "a flood is not told to wait for ever: {wait:?}");
    }

    #[test]
    fn what_is_larger_than_the_bucket_is_taken_from_a_full_one_and_owed() {
        let rate = Rate::per_second(1000).burst(100);
        let mut bucket = Bucket::full(rate, 1);
        bucket.take(rate, 600, 1).unwrap();
        assert_eq!(bucket.take(rate, 1, 1), Err(Duration::from_millis(501)));
        assert_eq!(bucket.take(rate, 600, 502), Err(Duration::from_millis(99)));
        bucket.take(rate, 600, 601).unwrap();
    }

    #[test]
    fn extreme_rates_and_times_do_not_overflow() {
        let rate = Rate::new(u32::MAX, Duration::MAX).burst(u32::MAX);
        let mut bucket = Bucket::full(rate, 1);
        bucket.take(rate, u32::MAX, 1).unwrap();
        bucket.take(rate, u32::MAX, u64::from(u32::MAX) * 1000).unwrap();
        let least = Rate::new(0, Duration::ZERO).burst(0);
        let mut bucket = Bucket::full(least, u64::MAX);
        bucket.take(least, 1, u64::MAX).unwrap();
        assert_eq!(bucket.take(least, 1, u64::MAX), Err(Duration::from_millis(1)));
    }

    #[test]
    fn a_bucket_knows_when_it_is_whole_again() {
        let rate = Rate::new(1, Duration::from_secs(60)).burst(3);
        let mut bucket = Bucket::full(rate, 7);
        assert_eq!(bucket.full_after(rate, 7), Duration::ZERO);
        bucket.take(rate, 2, 7).unwrap();
        assert_eq!(bucket.full_after(rate, 7), Duration::from_secs(120));
        assert_eq!(bucket.full_after(rate, 60_007), Duration::from_secs(60));
        assert_eq!(bucket.full_after(rate, u64::MAX), Duration::ZERO);
    }

    #[test]
    fn an_earlier_moment_that_comes_later_gains_nothing() {
        let rate = Rate::per_second(1000).burst(1);
        let mut bucket = Bucket::full(rate, 100);
        bucket.take(rate, 1, 100).unwrap();
        for now in [99, 100, 99, 100, 0, 100] {
            assert!(bucket.take(rate, 1, now).is_err(), "{now}");
        }
        bucket.take(rate, 1, 101).unwrap();
    }

    #[test]
    fn a_bucket_that_nobody_looks_at_for_a_month_is_full() {
        let rate = Rate::new(1, Duration::from_secs(3600));
        let mut bucket = Bucket::full(rate, 1);
        bucket.take(rate, 1, 1).unwrap();
        bucket.take(rate, 1, 30 * 24 * 60 * 60 * 1000).unwrap();
    }
}
