//! What one reader received: for each source the numbers that arrived and those that are missing, and the sum
//! of the reported gaps. Pure data; `client` fills it.

use std::collections::BTreeMap;

/// Everything that one reader received.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sources: BTreeMap<u64, Sequence>,
    /// Highest number of each source of client events.
    events: BTreeMap<u64, u64>,
    /// Client events that arrived late or twice.
    misplaced: Difference,
    /// Sum of `missed` over the received gaps.
    reported_missing: u64,
}

/// The messages of one source, numbered from 1.
#[derive(Debug, Default)]
struct Sequence {
    expected: u64,
    last: u64,
    received: u64,
    /// Skipped numbers: first to last of each hole.
    holes: BTreeMap<u64, u64>,
    disorder: u64,
    duplicates: u64,
}

/// Differences between a tally and the expected messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Number of messages that are missing without a gap.
    pub(crate) lost: u64,
    /// Number of messages that arrived after a later one.
    pub(crate) disorder: u64,
    /// Number of messages that arrived twice.
    pub(crate) duplicates: u64,
    /// Number of messages that gaps count although they arrived or never existed.
    pub(crate) overcounted: u64,
}

impl Tally {
    /// Expects the numbers 1 to `count` of a source.
    pub(crate) fn expect(&mut self, source: u64, count: u64) {
        self.sources.entry(source).or_default().expected = count;
    }

    /// Expects the numbers of a source after `before`, up to `count`.
    pub(crate) fn expect_after(&mut self, source: u64, before: u64, count: u64) {
        let received = before;
        let sequence = Sequence { expected: count, last: before, received, ..Sequence::default() };
        self.sources.insert(source, sequence);
    }

    /// Reduces the expected numbers of a source to at most 1 to `count`.
    pub(crate) fn limit(&mut self, source: u64, count: u64) {
        if let Some(sequence) = self.sources.get_mut(&source) {
            sequence.expected = sequence.expected.min(count);
        }
    }

    pub(crate) fn note(&mut self, source: u64, number: u64) {
        self.sources.entry(source).or_default().note(number);
    }

    /// Records a client event. Any may be missing, but they must keep their order.
    pub(crate) fn note_event(&mut self, source: u64, number: u64) {
        let last = self.events.entry(source).or_default();
        self.misplaced.disorder += u64::from(number < *last);
        self.misplaced.duplicates += u64::from(number == *last);
        *last = number.max(*last);
    }

    pub(crate) fn note_gap(&mut self, missed: u64) {
        self.reported_missing += missed;
    }

    pub(crate) fn received(&self) -> u64 {
        self.sources.values().map(|sequence| sequence.received).sum()
    }

    /// Returns the sum of `missed` over the received gaps.
    pub(crate) fn reported_missing(&self) -> u64 {
        self.reported_missing
    }

    /// Returns the highest number of a source.
    pub(crate) fn last(&self, source: u64) -> u64 {
        self.sources.get(&source).map_or(0, |sequence| sequence.last)
    }

    /// Whether everything expected has arrived or was reported as missing.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing() <= self.reported_missing
    }

    fn missing(&self) -> u64 {
        self.sources.values().map(|sequence| sequence.missing(sequence.expected)).sum()
    }

    /// Returns the difference for a connected reader, or for a closed one, which must have everything up to
    /// some point.
    pub(crate) fn difference(&self, is_closed: bool) -> Difference {
        let missing: u64 = match is_closed {
            true => self.sources.values().map(|sequence| sequence.missing(sequence.last)).sum(),
            false => self.missing(),
        };
        // The gaps of a closed reader may lie beyond its last message.
        let overcounted = if is_closed { 0 } else { self.reported_missing.saturating_sub(missing) };
        Difference {
            lost: missing.saturating_sub(self.reported_missing),
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

    /// Returns how many of the first `count` numbers have not arrived.
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
