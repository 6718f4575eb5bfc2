//! How a client reconnects after a lost connection: `RetryPolicy`, which the server sends in `session` and
//! `retry_policy`, and the estimate of how long a lost session is worth keeping. Pure: it neither waits nor
//! connects.

use crate::error::Error;
use hauyna_protocol::RetryTerms;
use std::time::Duration;

/// How often and with which delays a client tries to reconnect.
///
/// The delay before attempt *n* is `base_delay × backoff_multiplier^(n−1)`, at most `max_delay`, lengthened
/// or shortened at random by up to the fraction `jitter` of it. A policy is set for a hub
/// ([`HubBuilder::retry_policy`](crate::HubBuilder::retry_policy)), for a handler
/// ([`Handler::retry_policy`](crate::Handler::retry_policy)) or for one connection
/// ([`Connection::set_retry_policy`](crate::Connection::set_retry_policy)), which validate it.
///
/// # Examples
///
/// ```
/// use hauyna::connection::RetryPolicy;
/// use std::time::Duration;
///
/// let policy = RetryPolicy::new().max_attempts(8).jitter(0.0);
/// let delays: Vec<u64> = (1..=8).map(|attempt| policy.delay(attempt).as_secs()).collect();
/// assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30, 30]);
/// assert_eq!(policy.total(), Duration::from_secs(121));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Failed attempts in a row after which the client gives up; at least 1. `None`: it never gives up.
    pub max_attempts: Option<u32>,
    /// The delay before the first attempt; at least 1 ms.
    pub base_delay: Duration,
    /// The longest delay; at least `base_delay`, at most 24 hours.
    pub max_delay: Duration,
    /// The factor between one delay and the next; 1 or more.
    pub backoff_multiplier: f64,
    /// The random fraction of a delay, 0 to 1, to either side.
    pub jitter: f64,
}

impl RetryPolicy {
    /// Returns the default policy: attempts without end, 1 s × 2 up to 30 s, jitter 0.1: about 1, 2, 4, 8,
    /// 16, 30, 30 … s, so that clients come back after an outage of any length.
    pub const fn new() -> Self {
        Self {
            max_attempts: None,
            base_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(30),
            backoff_multiplier: 2.0,
            jitter: 0.1,
        }
    }

    /// Returns many quick attempts, for connections that matter: 10 of them, 0.5 s × 1.5 up to 5 s, jitter
    /// 0.05.
    pub const fn aggressive() -> Self {
        Self {
            max_attempts: Some(10),
            base_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(5),
            backoff_multiplier: 1.5,
            jitter: 0.05,
        }
    }

    /// Returns few attempts far apart, for crowds: 3 of them, 5 s × 3 up to 60 s, jitter 0.2.
    pub const fn conservative() -> Self {
        Self {
            max_attempts: Some(3),
            base_delay: Duration::from_secs(5),
            max_delay: Duration::from_secs(60),
            backoff_multiplier: 3.0,
            jitter: 0.2,
        }
    }

    /// Sets the number of failed attempts in a row after which the client gives up; `None`: it never does.
    #[must_use]
    pub fn max_attempts(self, max_attempts: impl Into<Option<u32>>) -> Self {
        Self { max_attempts: max_attempts.into(), ..self }
    }

    /// Sets the delay before the first attempt.
    #[must_use]
    pub const fn base_delay(self, base_delay: Duration) -> Self {
        Self { base_delay, ..self }
    }

    /// Sets the longest delay.
    #[must_use]
    pub const fn max_delay(self, max_delay: Duration) -> Self {
        Self { max_delay, ..self }
    }

    /// Sets the factor between one delay and the next.
    #[must_use]
    pub const fn backoff_multiplier(self, backoff_multiplier: f64) -> Self {
        Self { backoff_multiplier, ..self }
    }

    /// Sets the random fraction of a delay, to either side.
    #[must_use]
    pub const fn jitter(self, jitter: f64) -> Self {
        Self { jitter, ..self }
    }

    /// Returns the delay before an attempt, the first being 1, with its own randomness.
    pub fn delay(&self, attempt: u32) -> Duration {
        // 53 bits are the precision of a double.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let random = (crate::random::u64() >> 11) as f64 / (1_u64 << 53) as f64;
        self.delay_with(attempt, random)
    }

    /// Returns the delay before an attempt, the first being 1; `random`, 0 to 1, chooses between the shortest
    /// and the longest. Whatever the numbers, it is at most `max_delay`.
    ///
    /// ```
    /// let policy = hauyna::connection::RetryPolicy::default();
    /// assert_eq!(policy.delay_with(3, 0.0).as_millis(), 3600);
    /// assert_eq!(policy.delay_with(3, 0.5).as_millis(), 4000);
    /// assert_eq!(policy.delay_with(3, 1.0).as_millis(), 4400);
    /// ```
    pub fn delay_with(&self, attempt: u32, random: f64) -> Duration {
        let max = self.max_delay.as_secs_f64();
        let exponent = f64::from(attempt.saturating_sub(1));
        let nominal = (self.base_delay.as_secs_f64() * self.backoff_multiplier.powf(exponent)).min(max);
        // At the longest delay only the shorter side is left, and all of it is used, so that clients do not
        // meet there.
        let (shortest, longest) = (nominal * (1.0 - self.jitter), (nominal * (1.0 + self.jitter)).min(max));
        let random = if random.is_nan() { 0.5 } else { random.clamp(0.0, 1.0) };
        let seconds = shortest + (longest - shortest) * random;
        Duration::try_from_secs_f64(seconds).unwrap_or(self.max_delay).min(self.max_delay)
    }

    /// Returns the longest time that all attempts may take, [`Duration::MAX`] if they never end: how long a
    /// lost session is worth keeping. The attempts themselves count as no time.
    pub fn total(&self) -> Duration {
        let Some(max_attempts) = self.max_attempts else { return Duration::MAX };
        let mut total = Duration::ZERO;
        for attempt in 1..=max_attempts {
            let delay = self.delay_with(attempt, 1.0);
            let remaining = max_attempts - attempt;
            if attempt == EXACT_STEPS || delay >= self.max_delay {
                return total.saturating_add(delay.saturating_mul(remaining.saturating_add(1)));
            }
            total = total.saturating_add(delay);
        }
        total
    }

    /// Checks that all values are in their ranges.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config), with the first value that is out of its range.
    pub fn validate(&self) -> Result<(), Error> {
        let fault = if self.max_attempts == Some(0) {
            "max_attempts is 0"
        } else if self.base_delay < Duration::from_millis(1) {
            "base_delay is shorter than 1 ms"
        } else if self.max_delay < self.base_delay {
            "max_delay is shorter than base_delay"
        } else if self.max_delay > MAX_DELAY {
            "max_delay is longer than 24 hours"
        } else if !(self.backoff_multiplier >= 1.0 && self.backoff_multiplier.is_finite()) {
            "backoff_multiplier is not 1 or more"
        } else if !(0.0..=1.0).contains(&self.jitter) {
            "jitter is not between 0 and 1"
        } else {
            return Ok(());
        };
        Err(Error::config(format!("retry policy: {fault}")))
    }

    pub(crate) fn terms(&self) -> RetryTerms {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        RetryTerms {
            max_attempts: self.max_attempts,
            base_delay: ms(self.base_delay),
            max_delay: ms(self.max_delay),
            backoff_multiplier: self.backoff_multiplier,
            jitter: self.jitter,
        }
    }
}

impl Default for RetryPolicy {
    /// Returns [`RetryPolicy::new`].
    fn default() -> Self {
        Self::new()
    }
}

const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Attempts that [`RetryPolicy::total`] adds up one by one; each later one counts like the last of them.
const EXACT_STEPS: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(policy: RetryPolicy, random: f64) -> Vec<f64> {
        (1..=policy.max_attempts.unwrap_or(7))
            .map(|attempt| policy.delay_with(attempt, random).as_secs_f64())
            .collect()
    }

    #[test]
    fn the_presets_have_the_delays_they_promise() {
        assert_eq!(RetryPolicy::default().max_attempts, None);
        // The last two are the middle of the range that jitter allows below 30 s.
        assert_eq!(seconds(RetryPolicy::default(), 0.5), [1.0, 2.0, 4.0, 8.0, 16.0, 28.5, 28.5]);
        assert_eq!(seconds(RetryPolicy::conservative(), 0.5), [5.0, 15.0, 45.0]);
        let aggressive = seconds(RetryPolicy::aggressive(), 0.5);
        assert_eq!(aggressive[..3], [0.5, 0.75, 1.125]);
        assert!(aggressive[9] < 5.0 && aggressive[9] > 4.8, "the middle of what jitter leaves below 5 s");
        for preset in [RetryPolicy::default(), RetryPolicy::aggressive(), RetryPolicy::conservative()] {
            preset.validate().unwrap();
        }
    }

    #[test]
    fn jitter_goes_to_both_sides_and_never_past_the_longest_delay() {
        let policy = RetryPolicy::default();
        for attempt in 1..=40 {
            let nominal = (1.0 * 2.0_f64.powi(attempt - 1)).min(30.0);
            let attempt = attempt.try_into().unwrap();
            for _ in 0..200 {
                let delay = policy.delay(attempt).as_secs_f64();
                assert!(delay >= nominal * 0.9 - 1e-6 && delay <= (nominal * 1.1).min(30.0), "{delay}");
            }
        }
        let (min, max) = (policy.delay_with(9, 0.0), policy.delay_with(9, 1.0));
        assert_eq!((min, max), (Duration::from_secs(27), Duration::from_secs(30)));
        let distinct: std::collections::HashSet<_> = (0..50).map(|_| policy.delay(1)).collect();
        assert!(distinct.len() > 40, "clients do not come back together");
    }

    #[test]
    fn no_number_makes_a_delay_overflow_or_exceed_the_longest() {
        let numbers = [0.0, -1.0, 1.0, 1.0 + f64::EPSILON, 2.0, 1e300, f64::MAX, f64::INFINITY, f64::NAN];
        let durations = [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(1), Duration::MAX];
        for (multiplier, jitter) in numbers.iter().flat_map(|one| numbers.iter().map(move |two| (*one, *two)))
        {
            for (base_delay, max_delay) in durations.iter().flat_map(|one| durations.map(|two| (*one, two))) {
                let policy = RetryPolicy {
                    max_attempts: Some(u32::MAX),
                    base_delay,
                    max_delay,
                    backoff_multiplier: multiplier,
                    jitter,
                };
                for attempt in [0, 1, 2, 1000, u32::MAX] {
                    for random in numbers {
                        assert!(policy.delay_with(attempt, random) <= max_delay, "{policy:?} {attempt}");
                    }
                }
                assert!(policy.total() >= policy.delay_with(1, 1.0), "{policy:?}");
            }
        }
    }

    #[test]
    fn the_total_is_what_all_attempts_may_take_at_most() {
        let five = RetryPolicy { max_attempts: Some(5), ..RetryPolicy::default() };
        assert_eq!(five.total(), Duration::from_secs_f64(34.1));
        let even = RetryPolicy { jitter: 0.0, ..five };
        assert_eq!(even.total(), Duration::from_secs(31));
        assert_eq!(RetryPolicy { max_attempts: Some(7), ..even }.total(), Duration::from_secs(91));
        let long = RetryPolicy { max_attempts: Some(u32::MAX), ..even };
        assert_eq!(long.total(), Duration::from_secs(31 + 30 * (u64::from(u32::MAX) - 5)));
        assert_eq!(RetryPolicy::default().total(), Duration::MAX);
        let flat = RetryPolicy { max_attempts: Some(100_000), backoff_multiplier: 1.0, ..even };
        assert_eq!(flat.total(), Duration::from_secs(100_000));
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let good = RetryPolicy::default();
        let bad = [
            (RetryPolicy { max_attempts: Some(0), ..good }, "max_attempts"),
            (RetryPolicy { base_delay: Duration::ZERO, ..good }, "base_delay"),
            (RetryPolicy { max_delay: Duration::from_millis(999), ..good }, "max_delay"),
            (RetryPolicy { max_delay: Duration::MAX, ..good }, "max_delay"),
            (RetryPolicy { backoff_multiplier: 0.5, ..good }, "backoff_multiplier"),
            (RetryPolicy { backoff_multiplier: -2.0, ..good }, "backoff_multiplier"),
            (RetryPolicy { backoff_multiplier: f64::NAN, ..good }, "backoff_multiplier"),
            (RetryPolicy { backoff_multiplier: f64::INFINITY, ..good }, "backoff_multiplier"),
            (RetryPolicy { jitter: -0.1, ..good }, "jitter"),
            (RetryPolicy { jitter: 1.1, ..good }, "jitter"),
            (RetryPolicy { jitter: f64::NAN, ..good }, "jitter"),
        ];
        for (policy, name) in bad {
            let error = policy.validate().unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::Config);
            assert!(error.to_string().starts_with(&format!("retry policy: {name} ")), "{error}");
        }
        let edges = RetryPolicy { max_attempts: Some(1), backoff_multiplier: 1.0, jitter: 1.0, ..good };
        edges.validate().unwrap();
    }
}
