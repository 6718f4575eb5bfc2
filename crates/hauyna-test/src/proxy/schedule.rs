//! Random faults on random connections, from a seed: the same seed yields the same faults in the same order.
//! `FaultProxy::follow` runs it.

use super::{Behaviour, Cut, Direction, Link, Shared};
use crate::clock::after;
use crate::random::Random;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A fault of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The connection is cut.
    Cut(Cut),
    /// The connection is treated like this for a while.
    Behaviour(Behaviour),
}

/// Which faults happen, how often and for how long. The default: cuts of both kinds, stalls of both
/// directions and of each, slices, and delays of 100 to 300 ms, all equally likely; one fault about every 250
/// ms, each for at most 2 s.
///
/// ```
/// use hauyna_test::{Cut, Fault, Schedule};
/// use std::time::Duration;
///
/// let schedule = Schedule::new(7).faults([Fault::Cut(Cut::Reset)]).every(Duration::from_millis(20));
/// # let _ = schedule;
/// ```
#[derive(Debug, Clone)]
pub struct Schedule {
    random: Random,
    faults: Vec<Fault>,
    every: Duration,
    duration: Duration,
}

impl Schedule {
    /// Creates the default schedule with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let stall = Behaviour::new();
        let faults = vec![
            Fault::Cut(Cut::Reset),
            Fault::Cut(Cut::Fin),
            Fault::Behaviour(stall.stall_both()),
            Fault::Behaviour(stall.stall(Direction::Up)),
            Fault::Behaviour(stall.stall(Direction::Down)),
            Fault::Behaviour(Behaviour::new().slice(3)),
            Fault::Behaviour(Behaviour::new().delay(Duration::from_millis(100), Duration::from_millis(200))),
        ];
        let (every, duration) = (Duration::from_millis(250), Duration::from_secs(2));
        Self { random: Random(seed), faults, every, duration }
    }

    /// Sets which faults happen. A fault that is listed twice is twice as likely.
    #[must_use]
    pub fn faults(self, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { faults: faults.into_iter().collect(), ..self }
    }

    /// Sets the mean time between two faults.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Sets the maximum duration of a changed behaviour.
    #[must_use]
    pub fn duration(self, duration: Duration) -> Self {
        Self { duration, ..self }
    }

    pub(super) async fn run(mut self, shared: Arc<Shared>) {
        let mut disturbed: Vec<(Instant, Link)> = Vec::new();
        let mut next = after(self.up_to(self.every.saturating_mul(2)));
        loop {
            let first = disturbed.iter().map(|(until, _)| *until).min().unwrap_or(next);
            sleep_until(next.min(first)).await;
            let now = Instant::now();
            let default = shared.state.lock().behaviour;
            disturbed.retain(|(until, link)| {
                let is_over = *until <= now;
                if is_over {
                    link.set(default);
                }
                !is_over
            });
            if next <= now {
                disturbed.extend(self.apply_fault(&shared));
                next = after(self.up_to(self.every.saturating_mul(2)));
            }
        }
    }

    /// Applies one fault to one connection. Returns when the fault ends, unless it is a cut.
    fn apply_fault(&mut self, shared: &Shared) -> Option<(Instant, Link)> {
        let kind = usize::try_from(self.random.next() % (self.faults.len() as u64).max(1)).ok()?;
        let fault = *self.faults.get(kind)?;
        let index = self.random.next();
        let duration = self.up_to(self.duration);
        let mut state = shared.state.lock();
        let count = state.links.len() as u64;
        let link = state.links.values().nth(usize::try_from(index.checked_rem(count)?).ok()?)?.clone();
        match fault {
            Fault::Cut(cut) => {
                link.cut(cut);
                None
            }
            Fault::Behaviour(behaviour) => {
                link.set(behaviour);
                state.faults.disturbed += 1;
                Some((after(duration), link))
            }
        }
    }

    fn up_to(&mut self, max: Duration) -> Duration {
        let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.below(micros.saturating_add(1)))
    }
}
