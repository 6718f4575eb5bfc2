//! Publications that not every subscriber has received yet. The workload `fanout` uses it.

use std::collections::VecDeque;

/// Number of outstanding deliveries of each publication, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    first: u64,
    /// Outstanding deliveries, from the publication `first`. Invariant: the front is not 0.
    awaited: VecDeque<u32>,
    publications: u64,
    deliveries: u64,
}

impl Outstanding {
    /// Records that the next publication was sent to this many subscribers.
    pub(super) fn push(&mut self, subscribers: u32) {
        self.awaited.push_back(subscribers);
        self.publications += u64::from(subscribers > 0);
        self.deliveries += u64::from(subscribers);
        self.trim();
    }

    /// Records one delivery as received or lost. Returns whether it was the publication's last.
    pub(super) fn settle(&mut self, number: u64) -> bool {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let Some(awaited) = at.and_then(|at| self.awaited.get_mut(at)).filter(|awaited| **awaited > 0) else {
            return false;
        };
        *awaited -= 1;
        let is_last = *awaited == 0;
        self.deliveries -= 1;
        self.publications -= u64::from(is_last);
        self.trim();
        is_last
    }

    pub(super) fn publications(&self) -> u64 {
        self.publications
    }

    pub(super) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Returns the numbers from the oldest outstanding publication to the newest.
    pub(super) fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.awaited.len() as u64
    }

    fn trim(&mut self) {
        while self.awaited.front() == Some(&0) {
            self.awaited.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_done_with_its_last_delivery() {
        let mut outstanding = Outstanding::default();
        outstanding.push(2);
        outstanding.push(1);
        outstanding.push(0);
        assert_eq!((outstanding.publications(), outstanding.deliveries()), (2, 3));
        assert!(outstanding.settle(1), "out of order, too");
        assert!(!outstanding.settle(0));
        assert!(!outstanding.settle(1), "counted once");
        assert!(outstanding.settle(0));
        assert_eq!((outstanding.publications(), outstanding.deliveries()), (0, 0));
        assert_eq!(outstanding.numbers(), 3..3);
        assert!(!outstanding.settle(9) && !outstanding.settle(0));
    }
}
