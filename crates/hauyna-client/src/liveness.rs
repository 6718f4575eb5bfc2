//! Detects a dead server: a ping after silence, and the end of the connection after more of it. Pure:
//! instants are parameters. The task asks it whenever its timer fires.

use hauyna_protocol::HeartbeatTerms;
use std::time::Duration;
use tokio::time::Instant;

/// What the task does about the silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LivenessCheck {
    Alive,
    /// The task sends a ping.
    Ping,
    /// The task gives up the connection.
    Lost,
}

/// The liveness of one connection.
#[derive(Debug)]
pub(crate) struct Liveness {
    interval: Duration,
    timeout: Duration,
    last_read: Instant,
    /// The moment at which the connection counts as lost; set by a ping.
    pong_timeout: Option<Instant>,
}

impl Liveness {
    pub(crate) fn new(terms: Option<HeartbeatTerms>, now: Instant) -> Self {
        let (interval, timeout) = terms.map_or((DEFAULT_INTERVAL, DEFAULT_TIMEOUT), |terms| {
            let interval = Duration::from_millis(terms.interval.max(1));
            (interval, Duration::from_millis(terms.timeout).max(interval + interval / 2))
        });
        Self { interval, timeout, last_read: now, pong_timeout: None }
    }

    /// Notes that bytes were read.
    pub(crate) const fn note_read(&mut self, now: Instant) {
        self.last_read = now;
        self.pong_timeout = None;
    }

    /// Returns the next moment at which [`check`](Self::check) has something to do.
    pub(crate) fn deadline(&self) -> Instant {
        self.pong_timeout.unwrap_or(self.last_read + self.interval)
    }

    pub(crate) fn check(&mut self, now: Instant) -> LivenessCheck {
        match self.pong_timeout {
            Some(end) if now >= end => LivenessCheck::Lost,
            Some(_) => LivenessCheck::Alive,
            None if now >= self.last_read + self.interval => {
                // A timer this late shows that the process or the machine slept, so the socket may be dead.
                let slept = now.duration_since(self.last_read + self.interval) >= LATE_WAKE_UP;
                self.pong_timeout =
                    Some(if slept { now + PONG_TIMEOUT } else { self.last_read + self.timeout });
                LivenessCheck::Ping
            }
            None => LivenessCheck::Alive,
        }
    }

    /// Expects an answer to a ping soon, because the connection is in doubt.
    pub(crate) fn expect_answer(&mut self, now: Instant) {
        let end = now + PONG_TIMEOUT;
        self.pong_timeout = Some(self.pong_timeout.map_or(end, |earlier| earlier.min(end)));
    }
}

/// The terms of servers that name none, which are their defaults.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(25);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer may take if the connection is in doubt.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);
/// A timer that is this late shows that the machine slept.
const LATE_WAKE_UP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Option<HeartbeatTerms> = Some(HeartbeatTerms { interval: 25_000, timeout: 60_000 });

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_causes_a_ping_and_then_a_loss() {
        let now = Instant::now();
        let mut liveness = Liveness::new(TERMS, now);
        assert_eq!(liveness.check(after(now, 24)), LivenessCheck::Alive);
        assert_eq!(liveness.check(after(now, 25)), LivenessCheck::Ping);
        assert_eq!(liveness.check(after(now, 59)), LivenessCheck::Alive, "one ping, not many");
        assert_eq!(liveness.check(after(now, 60)), LivenessCheck::Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn any_read_restarts_the_interval() {
        let now = Instant::now();
        let mut liveness = Liveness::new(TERMS, now);
        assert_eq!(liveness.check(after(now, 25)), LivenessCheck::Ping);
        liveness.note_read(after(now, 26));
        assert_eq!(liveness.deadline(), after(now, 51));
        assert_eq!(liveness.check(after(now, 50)), LivenessCheck::Alive);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_sleep_the_pong_has_five_seconds() {
        let now = Instant::now();
        let mut liveness = Liveness::new(TERMS, now);
        assert_eq!(liveness.check(after(now, 3_600)), LivenessCheck::Ping);
        assert_eq!(liveness.check(after(now, 3_604)), LivenessCheck::Alive);
        assert_eq!(liveness.check(after(now, 3_605)), LivenessCheck::Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn doubt_shortens_the_pong_timeout_and_never_extends_it() {
        let now = Instant::now();
        let mut liveness = Liveness::new(TERMS, now);
        liveness.expect_answer(now);
        assert_eq!(liveness.deadline(), after(now, 5));
        liveness.expect_answer(after(now, 3));
        assert_eq!(liveness.check(after(now, 5)), LivenessCheck::Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_shorter_than_the_interval_leaves_time_for_a_pong() {
        let now = Instant::now();
        let mut liveness = Liveness::new(Some(HeartbeatTerms { interval: 1_000, timeout: 0 }), now);
        assert_eq!(liveness.check(now + Duration::from_secs(1)), LivenessCheck::Ping);
        assert_eq!(liveness.check(now + Duration::from_millis(1_400)), LivenessCheck::Alive);
    }
}
