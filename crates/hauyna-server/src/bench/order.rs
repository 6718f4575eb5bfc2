//! The order in which one subscriber receives a numbered stream: in order, late, twice, or not at all.

use std::ops::Range;

/// Tracker of the numbers 0, 1, 2… of one stream as they arrive.
#[derive(Debug, Default)]
pub(super) struct Order {
    next: u64,
    /// Skipped numbers, ascending and not adjacent.
    missing: Vec<Range<u64>>,
}

/// How a number arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderCheck {
    /// After all lower numbers that have arrived.
    InOrder,
    /// After a higher number.
    Late,
    /// A second time.
    Again,
}

impl Order {
    pub(super) fn note(&mut self, number: u64) -> OrderCheck {
        if number >= self.next {
            if number > self.next {
                self.missing.push(self.next..number);
            }
            self.next = number + 1;
            return OrderCheck::InOrder;
        }
        let Some(at) = self.missing.iter().position(|gap| gap.contains(&number)) else {
            return OrderCheck::Again;
        };
        let gap = self.missing[at].clone();
        let parts = [gap.start..number, number + 1..gap.end];
        self.missing.splice(at..=at, parts.into_iter().filter(|part| !part.is_empty()));
        OrderCheck::Late
    }

    /// Returns how many of the first `sent` numbers have not arrived.
    pub(super) fn lost(&self, sent: u64) -> u64 {
        let skipped: u64 = self.missing.iter().map(|gap| gap.end - gap.start).sum();
        skipped + sent.saturating_sub(self.next)
    }

    /// Whether the number has not arrived yet.
    pub(super) fn awaits(&self, number: u64) -> bool {
        number >= self.next || self.missing.iter().any(|gap| gap.contains(&number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note_all(numbers: &[u64]) -> (Order, Vec<OrderCheck>) {
        let mut order = Order::default();
        let arrivals = numbers.iter().map(|&number| order.note(number)).collect();
        (order, arrivals)
    }

    #[test]
    fn a_whole_stream_in_order_has_no_faults() {
        let (order, arrivals) = note_all(&[0, 1, 2, 3]);
        assert!(arrivals.iter().all(|arrival| *arrival == OrderCheck::InOrder));
        assert_eq!(order.lost(4), 0);
        assert_eq!(order.lost(6), 2, "the end can be lost, too");
        assert!(order.awaits(4) && !order.awaits(3));
    }

    #[test]
    fn late_numbers_fill_their_gap_once() {
        use OrderCheck::{Again, InOrder, Late};
        let (order, arrivals) = note_all(&[0, 5, 3, 3, 1, 2, 4, 5]);
        assert_eq!(arrivals, [InOrder, InOrder, Late, Again, Late, Late, Late, Again]);
        assert_eq!(order.lost(6), 0);
        assert!(order.missing.is_empty());
    }

    #[test]
    fn what_never_comes_is_lost() {
        let (order, _) = note_all(&[2, 4, 3, 9]);
        assert_eq!(order.lost(10), 2 + 4);
        assert!(order.awaits(0) && !order.awaits(4) && order.awaits(5));
    }
}
