//! The faults of an engine in memory: how often each happens, and the random numbers that decide.

use crate::Random;
use std::time::Duration;

/// How often an engine fails in which way. Every rate is in thousandths, from 0 (never) to 1000 (always).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EngineFaults {
    lose: u16,
    repeat: u16,
    reorder: u16,
    refuse: u16,
    lose_answer: u16,
    max_delay: Duration,
}

impl EngineFaults {
    /// Returns an engine without faults.
    pub fn none() -> Self {
        Self::default()
    }

    /// Sets how many of a thousand deliveries to a node are lost.
    #[must_use]
    pub fn lose(self, rate: u16) -> Self {
        Self { lose: rate, ..self }
    }

    /// Sets how many of a thousand deliveries to a node arrive twice. Publications without a number never do.
    #[must_use]
    pub fn repeat(self, rate: u16) -> Self {
        Self { repeat: rate, ..self }
    }

    /// Sets how many of a thousand deliveries to a node may be overtaken by later ones. Publications without
    /// a number never are.
    #[must_use]
    pub fn reorder(self, rate: u16) -> Self {
        Self { reorder: rate, ..self }
    }

    /// Sets how many of a thousand calls are refused, so that nothing happens.
    #[must_use]
    pub fn refuse(self, rate: u16) -> Self {
        Self { refuse: rate, ..self }
    }

    /// Sets how many of a thousand calls happen, while their answer is lost.
    #[must_use]
    pub fn lose_answer(self, rate: u16) -> Self {
        Self { lose_answer: rate, ..self }
    }

    /// Sets the longest time that a call or a delivery takes. Each takes a random time up to it.
    #[must_use]
    pub fn max_delay(self, delay: Duration) -> Self {
        Self { max_delay: delay, ..self }
    }

    pub(super) fn draw_delay(&self, random: &mut Random) -> Duration {
        let micros = u64::try_from(self.max_delay.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(if micros == 0 { 0 } else { random.below(micros) })
    }

    pub(super) fn draw_delivery(&self, random: &mut Random) -> DeliveryFault {
        DeliveryFault {
            is_lost: happens(random, self.lose),
            is_repeated: happens(random, self.repeat),
            is_overtaken: happens(random, self.reorder),
        }
    }

    pub(super) fn draw_call(&self, random: &mut Random) -> CallFault {
        if happens(random, self.refuse) {
            CallFault::Refused
        } else if happens(random, self.lose_answer) {
            CallFault::AnswerLost
        } else {
            CallFault::None
        }
    }
}

/// What happens to one delivery.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeliveryFault {
    pub(super) is_lost: bool,
    pub(super) is_repeated: bool,
    pub(super) is_overtaken: bool,
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallFault {
    None,
    Refused,
    AnswerLost,
}

fn happens(random: &mut Random, rate: u16) -> bool {
    random.below(1000) < u64::from(rate)
}
