//! What one reader got: per source the numbers that came, those that were left out, and how many it was told it had
//! missed. Pure data; `client` fills it.

use std::collections::BTreeMap;

/// Everything that one reader got.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sources: BTreeMap<u64, Sequence>,
    /// The highest number of each source of client events.
    events: BTreeMap<u64, u64>,
    /// Client events that came late or twice.
    misplaced: Difference,
    /// Sum of `missed` over the gaps that came.
    told: u64,
}

/// The messages of one source, numbered from 1.
#[derive(Debug, Default)]
struct Sequence {
    expected: u64,
    last: u64,
    received: u64,
    /// Numbers that were jumped over: first to last.
    holes: BTreeMap<u64, u64>,
    disorder: u64,
    duplicates: u64,
}

/// How a tally differs from what was expected.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Messages that are missing without a gap.
    pub(crate) lost: u64,
    /// Messages that came after a later one.
    pub(crate) disorder: u64,
    /// Messages that came twice.
    pub(crate) duplicates: u64,
    /// Messages that gaps count, and that came all the same or never were.
    pub(crate) overcounted: u64,
}

impl Tally {
    /// The reader must get the numbers 1 to `count` of a source.
    pub(crate) fn expect(&mut self, source: u64, count: u64) {
        self.sources.entry(source).or_default().expected = count;
    }

    /// The reader must get the numbers of a source behind `before`, up to `count`.
    pub(crate) fn expect_after(&mut self, source: u64, before: u64, count: u64) {
        let received = before;
        let sequence = Sequence { expected: count, last: before, received, ..Sequence::default() };
        self.sources.insert(source, sequence);
    }

    /// The reader must get no more than the numbers 1 to `count` of a source.
    pub(crate) fn limit(&mut self, source: u64, count: u64) {
        if let Some(sequence) = self.sources.get_mut(&source) {
            sequence.expected = sequence.expected.min(count);
        }
    }

    pub(crate) fn note(&mut self, source: u64, number: u64) {
        self.sources.entry(source).or_default().note(number);
    }

    /// A client event: any may be left out, but they keep their order.
    pub(crate) fn note_event(&mut self, source: u64, number: u64) {
        let last = self.events.entry(source).or_default();
        self.misplaced.disorder += u64::from(number < *last);
        self.misplaced.duplicates += u64::from(number == *last);
        *last = number.max(*last);
    }

    pub(crate) fn note_gap(&mut self, missed: u64) {
        self.told += missed;
    }

    pub(crate) fn received(&self) -> u64 {
        self.sources.values().map(|sequence| sequence.received).sum()
    }

    /// Sum of `missed` over the gaps that came.
    pub(crate) fn told(&self) -> u64 {
        self.told
    }

    /// The highest number of a source.
    pub(crate) fn last(&self, source: u64) -> u64 {
        self.sources.get(&source).map_or(0, |sequence| sequence.last)
    }

    /// Whether everything that is expected has come or was told to be missing.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing() <= self.told
    }

    fn missing(&self) -> u64 {
        self.sources.values().map(|sequence| sequence.missing(sequence.expected)).sum()
    }

    /// Compares, for a reader that is still connected, or for one that was closed and so must have everything up to
    /// some point.
    pub(crate) fn difference(&self, is_closed: bool) -> Difference {
        let missing: u64 = match is_closed {
            true => self.sources.values().map(|sequence| sequence.missing(sequence.last)).sum(),
            false => self.missing(),
        };
        // What a closed reader was told of may lie beyond the last message that it got.
        let overcounted = if is_closed { 0 } else { self.told.saturating_sub(missing) };
        Difference {
            lost: missing.saturating_sub(self.told),
            disorder: self.sources.values().map(|one| one.disorder).sum::<u64>() + self.misplaced.disorder,
            duplicates: self.sources.values().map(|one| one.duplicates).sum::<u64>()
                + self.misplaced.duplicates,
            overcounted,
        }
    }
}

impl Sequence {
    fn note(&mut self, number: u64) {
        if number > self.last {
            if number > self.last + 1 {
                self.holes.insert(self.last + 1, number - 1);
            }
            self.last = number;
            self.received += 1;
            return;
        }
        let hole = self.holes.range(..=number).next_back().map(|(first, last)| (*first, *last));
        match hole {
            Some((first, last)) if number <= last => {
                self.disorder += 1;
                self.received += 1;
                self.holes.remove(&first);
                if first < number {
                    self.holes.insert(first, number - 1);
                }
                if number < last {
                    self.holes.insert(number + 1, last);
                }
            }
            _ => self.duplicates += 1,
        }
    }

    /// How many of the first `count` numbers have not come.
    fn missing(&self, count: u64) -> u64 {
        count.max(self.last).saturating_sub(self.received)
    }
}

#[cfg(test)]
mod tests {
    use super::{Difference, Tally};

    fn tally(expected: u64, numbers: &[u64]) -> Tally {
        let mut tally = Tally::default();
        tally.expect(1, expected);
        numbers.iter().for_each(|number| tally.note(1, *number));
        tally
    }

    #[test]
    fn whole_sequence_differs_in_nothing() {
        let tally = tally(3, &[1, 2, 3]);
        assert!(tally.is_complete());
        assert_eq!(tally.difference(false), Difference::default());
    }

    #[test]
    fn missing_messages_are_lost_unless_a_gap_counts_them() {
        let mut tally = tally(5, &[1, 4]);
        assert_eq!(tally.difference(false).lost, 3);
        tally.note_gap(2);
        assert_eq!(tally.difference(false).lost, 1);
        tally.note_gap(1);
        assert!(tally.is_complete());
        tally.note_gap(1);
        assert_eq!(tally.difference(false), Difference { overcounted: 1, ..Difference::default() });
    }

    #[test]
    fn client_events_may_be_missing_and_keep_their_order() {
        let mut tally = tally(1, &[1]);
        [1, 5, 5, 3, 9].iter().for_each(|number| tally.note_event(1, *number));
        assert!(tally.is_complete());
        assert_eq!(
            tally.difference(false),
            Difference { disorder: 1, duplicates: 1, ..Difference::default() }
        );
    }

    #[test]
    fn what_follows_the_end_of_a_closed_reader_is_not_lost() {
        let tally = tally(5, &[1, 2]);
        assert_eq!(tally.difference(true).lost, 0);
        assert_eq!(tally.difference(false).lost, 3);
    }

    #[test]
    fn late_and_repeated_messages_are_told_apart() {
        let tally = tally(5, &[1, 5, 3, 3, 2, 4]);
        let difference = tally.difference(false);
        assert_eq!((difference.disorder, difference.duplicates, difference.lost), (3, 1, 0));
    }
}
