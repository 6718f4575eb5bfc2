//! Whether the server is still there: a ping after silence, and the end after too much of it. Pure: instants are given.
//! The task asks it whenever its timer fires.

use hauyna_protocol::HeartbeatTerms;
use std::time::Duration;
use tokio::time::Instant;

/// What to do about the silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    Fine,
    /// Ask whether somebody is there.
    Ping,
    /// Nobody is.
    Lost,
}

/// The silence of one connection.
#[derive(Debug)]
pub(crate) struct Liveness {
    interval: Duration,
    timeout: Duration,
    heard: Instant,
    /// When the silence is taken for the end; set by a ping.
    patience: Option<Instant>,
}

impl Liveness {
    pub(crate) fn new(terms: Option<HeartbeatTerms>, now: Instant) -> Self {
        let (interval, timeout) = terms.map_or((DEFAULT_INTERVAL, DEFAULT_TIMEOUT), |terms| {
            let interval = Duration::from_millis(terms.interval.max(1));
            (interval, Duration::from_millis(terms.timeout).max(interval + interval / 2))
        });
        Self { interval, timeout, heard: now, patience: None }
    }

    /// Something was heard, whatever it was.
    pub(crate) const fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.patience = None;
    }

    /// The next moment at which [`check`](Self::check) has something to say.
    pub(crate) fn deadline(&self) -> Instant {
        self.patience.unwrap_or(self.heard + self.interval)
    }

    pub(crate) fn check(&mut self, now: Instant) -> Pulse {
        match self.patience {
            Some(end) if now >= end => Pulse::Lost,
            Some(_) => Pulse::Fine,
            None if now >= self.heard + self.interval => {
                // A timer this late means that the process or the machine slept: the socket may be long dead.
                let slept = now.duration_since(self.heard + self.interval) >= LATE;
                self.patience = Some(if slept { now + PATIENCE } else { self.heard + self.timeout });
                Pulse::Ping
            }
            None => Pulse::Fine,
        }
    }

    /// There is reason to doubt: a ping, and a short patience.
    pub(crate) fn doubt(&mut self, now: Instant) {
        let end = now + PATIENCE;
        self.patience = Some(self.patience.map_or(end, |earlier| earlier.min(end)));
    }
}

/// Without terms of the server's: what it says by default.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(25);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer may take where the connection is in doubt.
const PATIENCE: Duration = Duration::from_secs(5);
/// How late a timer is where the machine slept.
const LATE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Option<HeartbeatTerms> = Some(HeartbeatTerms { interval: 25_000, timeout: 60_000 });

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_answered_with_a_ping_and_then_with_the_end() {
        let now = Instant::now();
        let mut liveness = Liveness::new(TERMS, now);
        assert_eq!(liveness.check(after(now, 24)), Pulse::Fine);
        assert_eq!(liveness.check(after(now, 25)), Pulse::Ping);
        assert_eq!(liveness.check(after(now, 59)), Pulse::Fine, "one ping, not many");
        assert_eq!(liveness.check(after(now, 60)), Pulse::Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_is_heard_begins_the_silence_anew() {
        let now = Instant::now();
        let mut liveness = Liveness::new(TERMS, now);
        assert_eq!(liveness.check(after(now, 25)), Pulse::Ping);
        liveness.heard(after(now, 26));
        assert_eq!(liveness.deadline(), after(now, 51));
        assert_eq!(liveness.check(after(now, 50)), Pulse::Fine);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_sleep_the_answer_has_five_seconds() {
        let now = Instant::now();
        let mut liveness = Liveness::new(TERMS, now);
        assert_eq!(liveness.check(after(now, 3_600)), Pulse::Ping);
        assert_eq!(liveness.check(after(now, 3_604)), Pulse::Fine);
        assert_eq!(liveness.check(after(now, 3_605)), Pulse::Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn doubt_shortens_the_patience_and_never_lengthens_it() {
        let now = Instant::now();
        let mut liveness = Liveness::new(TERMS, now);
        liveness.doubt(now);
        assert_eq!(liveness.deadline(), after(now, 5));
        liveness.doubt(after(now, 3));
        assert_eq!(liveness.check(after(now, 5)), Pulse::Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_shorter_than_the_interval_leaves_time_for_the_answer() {
        let now = Instant::now();
        let mut liveness = Liveness::new(Some(HeartbeatTerms { interval: 1_000, timeout: 0 }), now);
        assert_eq!(liveness.check(now + Duration::from_secs(1)), Pulse::Ping);
        assert_eq!(liveness.check(now + Duration::from_millis(1_400)), Pulse::Fine);
    }
}
