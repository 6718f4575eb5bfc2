//! How long a shard waits for the task of a connection, which alone may write to its stream. `fanout` uses
//! it.

use std::time::Duration;
use tokio::time::Instant;

/// The time that the work waits for a connection's task. If tasks do not run, for example because their
/// runtime is not driven, each further one is waited for half as long as the one before, so that the times of
/// many tasks do not add up.
#[derive(Debug, Default)]
pub(super) struct TaskTimeout {
    /// Number of connections that were given up shortly after one another.
    timeouts_in_a_row: u32,
    last: Option<Instant>,
}

impl TaskTimeout {
    /// Returns how long a task is waited for at present.
    pub(super) fn current(&self, now: Instant) -> Duration {
        let is_recent = |last: Instant| now.saturating_duration_since(last) < RECOVERY_TIME;
        if self.last.is_some_and(is_recent) {
            MAX_TIMEOUT / (1 << self.timeouts_in_a_row)
        } else {
            MAX_TIMEOUT
        }
    }

    /// Notes that a task did not run in time.
    pub(super) fn note_timeout(&mut self, now: Instant) {
        let is_first = self.current(now) == MAX_TIMEOUT;
        self.timeouts_in_a_row = if is_first { 1 } else { MAX_HALVINGS.min(self.timeouts_in_a_row + 1) };
        self.last = Some(now);
    }
}

/// How long the work waits for a connection's task, which a busy system may delay.
const MAX_TIMEOUT: Duration = Duration::from_secs(1);
/// How often that time is halved, at most.
const MAX_HALVINGS: u32 = 6;
/// After this time without a task that did not run, the work waits for the whole time again.
const RECOVERY_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_do_not_run_do_not_add_up() {
        let (mut timeout, mut now) = (TaskTimeout::default(), Instant::now());
        let began = now;
        for _ in 0..100 {
            now += timeout.current(now);
            timeout.note_timeout(now);
        }
        assert!(now - began < 4 * MAX_TIMEOUT, "{:?}", now - began);
        assert_eq!(timeout.current(now + RECOVERY_TIME), MAX_TIMEOUT);
    }
}
