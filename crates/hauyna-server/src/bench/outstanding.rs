//! Publications that not every subscriber has received yet.

use std::collections::VecDeque;

/// How many deliveries each publication still waits for, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    first: u64,
    /// Invariant: the front is not 0.
    awaited: VecDeque<u32>,
    publications: u64,
    deliveries: u64,
}

impl Outstanding {
    /// The next publication has gone out to so many subscribers.
    pub(super) fn push(&mut self, subscribers: u32) {
        self.awaited.push_back(subscribers);
        self.publications += u64::from(subscribers > 0);
        self.deliveries += u64::from(subscribers);
        self.trim();
    }

    /// One delivery came, or will never; `true` if it was the publication's last.
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

    /// From the oldest publication that is under way to the newest there is.
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
