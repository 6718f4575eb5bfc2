//! The delays between attempts: full jitter over a delay that grows, and that starts over after a stable
//! connection. Pure: instants and random numbers are parameters. The task asks it after every loss.

use hauyna_protocol::RetryTerms;
use std::time::Duration;
use tokio::time::Instant;

/// The failed attempts, and the policy that spaces and limits them.
#[derive(Debug)]
pub(crate) struct Backoff {
    terms: RetryTerms,
    /// Whether the application gave the terms, so that those of the server are ignored.
    has_own_terms: bool,
    /// Attempts since the last stable connection. The delay grows with them.
    attempts: u32,
    /// Attempts since the last session. `max_attempts` limits them.
    failures: u32,
    connected_at: Option<Instant>,
    /// Moves to another node that followed each other closely, and the moment of the last one.
    moves: u32,
    moved_at: Option<Instant>,
}

impl Backoff {
    /// `application_terms` are the terms of the application, if it gave any.
    pub(crate) fn new(application_terms: Option<RetryTerms>) -> Self {
        Self {
            terms: application_terms.unwrap_or(DEFAULT_TERMS),
            has_own_terms: application_terms.is_some(),
            attempts: 0,
            failures: 0,
            connected_at: None,
            moves: 0,
            moved_at: None,
        }
    }

    /// Takes the server's terms, unless the application gave its application_terms.
    pub(crate) const fn set_server_terms(&mut self, terms: RetryTerms) {
        if !self.has_own_terms {
            self.terms = terms;
        }
    }

    /// Notes a session. A client that gets one never gives up, however short its connections are.
    pub(crate) const fn note_connected(&mut self, now: Instant) {
        self.connected_at = Some(now);
        self.failures = 0;
    }

    /// Notes the end of a connection. The delay starts over only after a stable one; otherwise a server that
    /// accepts and drops would be called without a pause.
    pub(crate) fn note_lost(&mut self, now: Instant) {
        if self.connected_at.take().is_some_and(|since| now.duration_since(since) >= STABLE_AFTER) {
            self.attempts = 0;
        }
    }

    /// Returns the number of the next attempt, from 1.
    pub(crate) const fn next_attempt(&self) -> u32 {
        self.attempts.saturating_add(1)
    }

    /// Returns the number of the attempt that was counted last.
    pub(crate) const fn last_attempt(&self) -> u32 {
        self.attempts
    }

    /// Counts an attempt and returns the pause before it; `None` if the policy allows no more. `random` is in
    /// [0, 1).
    pub(crate) fn next_delay(&mut self, random: f64) -> Option<Duration> {
        if self.terms.max_attempts.is_some_and(|max| self.failures >= max) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        self.attempts = self.attempts.saturating_add(1);
        Some(self.max_delay(self.attempts).mul_f64(random.clamp(0.0, 1.0)))
    }

    /// Starts over, because the user or the network gives a reason to.
    pub(crate) const fn reset(&mut self) {
        self.attempts = 0;
        self.failures = 0;
    }

    /// Notes a move to another node that a server has requested.
    pub(crate) fn note_moved(&mut self, now: Instant) {
        let is_soon = self.moved_at.is_some_and(|last| now.duration_since(last) < STABLE_AFTER * 2);
        self.moves = if is_soon { self.moves.saturating_add(1) } else { 0 };
        self.moved_at = Some(now);
    }

    /// Returns the earliest moment of the next move, whatever a server requests: now after a stable
    /// connection, otherwise after pauses that grow from one second to [`STABLE_AFTER`].
    pub(crate) fn next_move(&self, now: Instant) -> Instant {
        let pause = Duration::from_secs(1 << self.moves.min(5)).min(STABLE_AFTER);
        self.moved_at.map_or(now, |last| last + pause)
    }

    /// Returns the longest pause before attempt `n`: `min(max_delay, base_delay × multiplier^(n−1))`.
    fn max_delay(&self, n: u32) -> Duration {
        let RetryTerms { base_delay, max_delay, backoff_multiplier, .. } = self.terms;
        let exponent = i32::try_from(n.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = base_delay as f64 * backoff_multiplier.max(1.0).powi(exponent);
        let longest = grown.min(max_delay as f64) as u64;
        // A policy without delays does not make a client hurry.
        Duration::from_millis(if longest == 0 { DEFAULT_TERMS.max_delay } else { longest })
    }
}

/// The terms until a server names others. They never give up.
pub(crate) const DEFAULT_TERMS: RetryTerms = RetryTerms {
    max_attempts: None,
    base_delay: 1_000,
    max_delay: 30_000,
    backoff_multiplier: 2.0,
    jitter: 1.0,
};

/// How long a connection has to last to count as stable.
const STABLE_AFTER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(max_attempts: Option<u32>) -> RetryTerms {
        RetryTerms { max_attempts, ..DEFAULT_TERMS }
    }

    fn backoff(max_attempts: Option<u32>) -> Backoff {
        Backoff::new(Some(terms(max_attempts)))
    }

    #[test]
    fn delays_have_full_jitter_from_the_first_attempt_on() {
        let at = |random| {
            let mut backoff = backoff(None);
            (0..7).map(|_| backoff.next_delay(random).unwrap().as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(at(1.0), [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(at(0.5)[..2], [500, 1_000]);
        assert_eq!(at(0.0), [0; 7]);
    }

    #[test]
    fn no_attempt_follows_the_last_one() {
        let mut backoff = backoff(Some(2));
        assert!(backoff.next_delay(0.5).is_some() && backoff.next_delay(0.5).is_some());
        assert_eq!(backoff.next_delay(0.5), None);
        backoff.reset();
        assert!(backoff.next_delay(0.5).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_starts_over_after_thirty_stable_seconds() {
        let mut backoff = backoff(None);
        backoff.next_delay(1.0);
        for (lasted, upcoming) in [(29, 2), (30, 1)] {
            backoff.note_connected(Instant::now());
            tokio::time::advance(Duration::from_secs(lasted)).await;
            backoff.note_lost(Instant::now());
            assert_eq!(backoff.next_attempt(), upcoming, "after {lasted} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_resets_the_failures_but_not_the_delay() {
        let mut backoff = backoff(Some(3));
        for n in 1..=100 {
            assert!(backoff.next_delay(1.0).is_some(), "connection {n}");
            backoff.note_connected(Instant::now());
            tokio::time::advance(Duration::from_secs(3)).await;
            backoff.note_lost(Instant::now());
        }
        assert_eq!(backoff.next_delay(1.0), Some(Duration::from_secs(30)));
        assert!(backoff.next_delay(1.0).is_some() && backoff.next_delay(1.0).is_some());
        assert_eq!(backoff.next_delay(1.0), None, "three attempts without a session");
    }

    #[test]
    fn terms_of_the_application_win_over_those_of_the_server() {
        let mut given = backoff(Some(1));
        given.set_server_terms(terms(Some(9)));
        assert!(given.next_delay(0.5).is_some() && given.next_delay(0.5).is_none());
        let mut default = Backoff::new(None);
        default.set_server_terms(terms(Some(1)));
        assert!(default.next_delay(0.5).is_some() && default.next_delay(0.5).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_between_successive_moves_grow() {
        let began = Instant::now();
        let mut backoff = backoff(None);
        assert_eq!(backoff.next_move(began), began, "the first is made at once");
        let mut now = began;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            backoff.note_moved(now);
            let next = backoff.next_move(now);
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        let later = now + STABLE_AFTER * 2;
        assert!(backoff.next_move(later) <= later);
        backoff.note_moved(later);
        assert_eq!((backoff.next_move(later) - later).as_secs(), 1);
    }

    #[test]
    fn terms_without_delays_use_the_default_maximum() {
        let none = RetryTerms { base_delay: 0, ..terms(None) };
        for terms in [none, RetryTerms { max_delay: 0, ..terms(None) }] {
            assert_eq!(Backoff::new(Some(terms)).next_delay(1.0), Some(Duration::from_secs(30)));
        }
    }

    #[test]
    fn hostile_terms_neither_overflow_nor_shrink() {
        let terms =
            RetryTerms { base_delay: u64::MAX, max_delay: 5, backoff_multiplier: -3.0, ..terms(None) };
        let mut backoff = Backoff::new(Some(terms));
        for _ in 0..100 {
            assert!(backoff.next_delay(1.0).unwrap() <= Duration::from_millis(5));
        }
    }
}
