//! Faults at random moments on random connections, from a seed: the same seed gives the same faults in the same
//! order. The proxy's `follow` runs it.

use super::{Behaviour, Cut, Direction, Link, Shared};
use crate::clock::after;
use crate::random::Random;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Something that happens to one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is cut.
    Cut(Cut),
    /// It is treated like this for a while.
    Conduct(Behaviour),
}

/// Which faults happen, how often and for how long. It begins with cuts of both kinds, stalls of both directions
/// and of each, slices, and delays of 100 to 300 ms, each as likely; one in about 250 ms, each for at most 2 s.
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
    lasting: Duration,
}

impl Schedule {
    /// The schedule of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let stall = Behaviour::new();
        let faults = vec![
            Fault::Cut(Cut::Reset),
            Fault::Cut(Cut::Fin),
            Fault::Conduct(stall.stall_both()),
            Fault::Conduct(stall.stall(Direction::Up)),
            Fault::Conduct(stall.stall(Direction::Down)),
            Fault::Conduct(Behaviour::new().slice(3)),
            Fault::Conduct(Behaviour::new().delay(Duration::from_millis(100), Duration::from_millis(200))),
        ];
        let (every, lasting) = (Duration::from_millis(250), Duration::from_secs(2));
        Self { random: Random(seed), faults, every, lasting }
    }

    /// Sets which faults happen; one that is listed twice is twice as likely.
    #[must_use]
    pub fn faults(self, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { faults: faults.into_iter().collect(), ..self }
    }

    /// Sets the mean time between two faults.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Sets how long a conduct lasts at most.
    #[must_use]
    pub fn duration(self, lasting: Duration) -> Self {
        Self { lasting, ..self }
    }

    pub(super) async fn run(mut self, shared: Arc<Shared>) {
        let mut disturbed: Vec<(Instant, Link)> = Vec::new();
        let mut next = after(self.up_to(self.every.saturating_mul(2)));
        loop {
            let first = disturbed.iter().map(|(until, _)| *until).min().unwrap_or(next);
            sleep_until(next.min(first)).await;
            let now = Instant::now();
            let usual = shared.state.lock().conduct;
            disturbed.retain(|(until, link)| {
                let is_over = *until <= now;
                if is_over {
                    link.set(usual);
                }
                !is_over
            });
            if next <= now {
                disturbed.extend(self.apply_fault(&shared));
                next = after(self.up_to(self.every.saturating_mul(2)));
            }
        }
    }

    /// Does one fault to one connection; gives until when it lasts.
    fn apply_fault(&mut self, shared: &Shared) -> Option<(Instant, Link)> {
        let kind = usize::try_from(self.random.next() % (self.faults.len() as u64).max(1)).ok()?;
        let fault = *self.faults.get(kind)?;
        let pick = self.random.next();
        let lasting = self.up_to(self.lasting);
        let mut state = shared.state.lock();
        let count = state.links.len() as u64;
        let link = state.links.values().nth(usize::try_from(pick.checked_rem(count)?).ok()?)?.clone();
        match fault {
            Fault::Cut(cut) => {
                link.cut(cut);
                None
            }
            Fault::Conduct(conduct) => {
                link.set(conduct);
                state.faults.disturbed += 1;
                Some((after(lasting), link))
            }
        }
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.below(micros.saturating_add(1)))
    }
}
