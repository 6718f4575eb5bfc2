//! How long a shard waits for the task of a connection, which alone may write to its stream. Used by `fanout`.

use std::time::Duration;
use tokio::time::Instant;

/// How long the work waits for a connection's task. Where tasks do not run, as of a runtime that nobody drives, each further
/// one is waited for half as long as the one before, so that many of them do not add up.
#[derive(Debug, Default)]
pub(super) struct TaskTimeout {
    /// Connections that were given up one soon after the other.
    timeouts_in_a_row: u32,
    last: Option<Instant>,
}

impl TaskTimeout {
    /// How long a task is waited for now.
    pub(super) fn current(&self, now: Instant) -> Duration {
        let is_recent = |last: Instant| now.saturating_duration_since(last) < RECOVERY_TIME;
        if self.last.is_some_and(is_recent) {
            MAX_TIMEOUT / (1 << self.timeouts_in_a_row)
        } else {
            MAX_TIMEOUT
        }
    }

    /// A task was waited for in vain.
    pub(super) fn note_timeout(&mut self, now: Instant) {
        let is_first = self.current(now) == MAX_TIMEOUT;
        self.timeouts_in_a_row = if is_first { 1 } else { MAX_HALVINGS.min(self.timeouts_in_a_row + 1) };
        self.last = Some(now);
    }
}

/// How long the work waits for a connection's task, which a busy system may hold up.
const MAX_TIMEOUT: Duration = Duration::from_secs(1);
/// How often that time is halved at most.
const MAX_HALVINGS: u32 = 6;
/// Without a task that does not run for so long, the work waits for its whole time again.
const RECOVERY_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_do_not_run_do_not_add_up() {
        let (mut patience, mut now) = (TaskTimeout::default(), Instant::now());
        let began = now;
        for _ in 0..100 {
            now += patience.current(now);
            patience.note_timeout(now);
        }
        assert!(now - began < 4 * MAX_TIMEOUT, "{:?}", now - began);
        assert_eq!(patience.current(now + RECOVERY_TIME), MAX_TIMEOUT);
    }
}
