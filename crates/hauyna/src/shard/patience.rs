//! How long a shard waits for the task of a connection, which alone may write to its stream. Used by `fanout`.

use std::time::Duration;
use tokio::time::Instant;

/// How long the work waits for a connection's task. Where tasks do not run, as of a runtime that nobody drives, each further
/// one is waited for half as long as the one before, so that many of them do not add up.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Connections that were given up one soon after the other.
    given_up: u32,
    last: Option<Instant>,
}

impl Patience {
    /// How long a task is waited for now.
    pub(super) fn time(&self, now: Instant) -> Duration {
        let is_recent = |last: Instant| now.saturating_duration_since(last) < RECOVERY;
        if self.last.is_some_and(is_recent) { PATIENCE / (1 << self.given_up) } else { PATIENCE }
    }

    /// A task was waited for in vain.
    pub(super) fn give_up(&mut self, now: Instant) {
        let is_first = self.time(now) == PATIENCE;
        self.given_up = if is_first { 1 } else { HALVINGS.min(self.given_up + 1) };
        self.last = Some(now);
    }
}

/// How long the work waits for a connection's task, which a busy system may hold up.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often that time is halved at most.
const HALVINGS: u32 = 6;
/// Without a task that does not run for so long, the work waits for its whole time again.
const RECOVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_do_not_run_do_not_add_up() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let began = now;
        for _ in 0..100 {
            now += patience.time(now);
            patience.give_up(now);
        }
        assert!(now - began < 4 * PATIENCE, "{:?}", now - began);
        assert_eq!(patience.time(now + RECOVERY), PATIENCE);
    }
}
