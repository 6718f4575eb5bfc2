//! The messages of one channel that one client must receive, in order, compared with those received. Exactly
//! one gap counts each dropped message, and stands where the first dropped message was.

use hauyna::Position;
use hauyna::broker::Epoch;
use serde_json::Value;

/// One message of a channel in the model.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    Publication { number: u64, position: Option<Position>, sender: Sender },
    Turn { to: Position, is_whole: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// One task of the application: its messages keep their order, whatever the method.
    Application,
    Client,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<Entry>,
    /// Entries before this one are delivered or counted by a gap.
    next: usize,
    /// Publications that a gap has counted and that are not yet known to be missing.
    counted: u64,
    /// Whether a gap names the next entry as the first missing one.
    is_next_missing: bool,
    /// Whether messages are dropped from the middle, so that a gap may count some after the next one.
    pub(super) is_conflating: bool,
    /// Whether it recovers: other messages may arrive in between, and a new epoch is reported as a loss.
    pub(super) is_catching_up: bool,
    /// Epochs that only the history reports, which a replay reads.
    pub(super) unannounced: Vec<Epoch>,
    /// Whether the application ended the subscription: what has not arrived may be dropped.
    pub(super) is_ended: bool,
    /// The position that the client must learn first, if the application began the subscription.
    pub(super) announced: Option<Option<Position>>,
}

impl Log {
    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Whether every entry is delivered or counted by a gap.
    pub(super) fn is_complete(&self) -> bool {
        self.open() == self.counted && !self.has_turn(self.next, self.entries.len())
    }

    /// Returns how many publications may have been dropped without a gap so far.
    pub(super) fn unreported(&self) -> u64 {
        self.open() - self.counted
    }

    fn open(&self) -> u64 {
        (self.entries.len() - self.next) as u64
    }

    fn has_turn(&self, from: usize, to: usize) -> bool {
        self.entries[from..to].iter().any(|entry| matches!(entry, Entry::Turn { .. }))
    }

    /// Restarts after the complete entries.
    pub(super) fn settle(&mut self) {
        assert!(self.is_complete());
        self.entries.clear();
        (self.next, self.counted, self.is_next_missing) = (0, 0, false);
        self.is_catching_up = false;
        self.unannounced.clear();
    }

    /// Skips the entries before this one, which a gap has counted as missing.
    fn skip_to(&mut self, index: usize) {
        assert!(!self.has_turn(self.next, index), "an epoch change was not reported: {self:?}");
        let missing = (index - self.next) as u64;
        assert!(missing <= self.counted, "{missing} are missing and {} were counted: {self:?}", self.counted);
        assert!(!self.is_next_missing || missing > 0, "a gap names a delivered publication: {self:?}");
        self.is_next_missing &= missing == 0;
        self.counted -= missing;
        self.next = index;
    }

    /// Processes a publication. Returns its sender.
    pub(super) fn publication(&mut self, number: u64, offset: Option<u64>) -> Sender {
        let index = self.entries[self.next..]
            .iter()
            .position(|entry| matches!(entry, Entry::Publication { number: other, .. } if *other == number));
        let index = self.next + index.unwrap_or_else(|| panic!("{number} was not expected: {self:?}"));
        self.skip_to(index);
        self.next += 1;
        let Entry::Publication { position, sender, .. } = self.entries[index] else { unreachable!() };
        assert_eq!(position.map(|position| position.offset), offset);
        sender
    }

    /// Processes a gap: exactly what follows its position is missing, and what earlier gaps counted is before
    /// it.
    pub(super) fn gap(&mut self, message: &Value) {
        let missed = message["missed"].as_u64().unwrap();
        assert!(missed > 0, "{message}");
        if let Some(after) = position(message).filter(|after| after.epoch != Epoch::UNKNOWN) {
            let first = self.entries[self.next..].iter().position(|entry| match entry {
                Entry::Publication { position: Some(position), .. } => {
                    (position.epoch, position.offset) == (after.epoch, after.offset + 1)
                }
                _ => false,
            });
            self.skip_to(
                self.next
                    + first.unwrap_or_else(|| panic!("gap although nothing is missing: {message} {self:?}")),
            );
            let is_counted_later = self.is_conflating || self.counted == 0;
            assert!(is_counted_later, "a gap counted a delivered publication: {self:?}");
            self.is_next_missing = true;
        }
        self.counted += missed;
        assert!(self.counted <= self.open(), "{message} {self:?}");
    }

    /// Processes the message that the stream continues under another epoch.
    pub(super) fn turn(&mut self, message: &Value) {
        let to = position(message).expect("an epoch change has a position");
        let is_whole = message["recovered"] == true;
        let next = self.entries[self.next..].iter().position(|entry| matches!(entry, Entry::Turn { .. }));
        let is_told = next.is_some_and(|next| {
            let is_reached = next as u64 == self.counted;
            is_reached
                && matches!(self.entries[self.next + next], Entry::Turn { to: other, is_whole: whole }
                if other == to && whole == is_whole)
        });
        if is_told {
            self.skip_to(self.next + next.unwrap());
            self.next += 1;
        } else {
            assert!(self.is_catching_up && self.counted == 0, "{message} {self:?}");
            assert!(self.has_turned_to(to), "unexpected epoch change: {message} {self:?}");
            if is_whole { self.continue_replay(to) } else { self.jump(to) }
        }
        assert_eq!(self.counted, 0);
    }

    /// Whether an unreported change leads to this epoch.
    fn has_turned_to(&self, to: Position) -> bool {
        let turns = self.entries[self.next..].iter().filter_map(|entry| match entry {
            Entry::Turn { to, .. } => Some(to.epoch),
            Entry::Publication { .. } => None,
        });
        turns.chain(self.unannounced.iter().copied()).any(|epoch| epoch == to.epoch)
    }

    /// Continues a replay that an epoch change without a loss overtook.
    fn continue_replay(&mut self, to: Position) {
        let mut is_lost = false;
        let mut index = 0;
        let next = self.next;
        self.entries.retain(|entry| {
            index += 1;
            let Entry::Turn { to: turned, is_whole } = entry else { return true };
            let is_passed = index > next && turned.epoch.value() <= to.epoch.value();
            is_lost |= is_passed && !is_whole;
            !is_passed
        });
        assert!(!is_lost, "reported as whole: {to:?} {self:?}");
        let at = self.entries[self.next..].first().map(|entry| match entry {
            Entry::Publication { position, .. } => position.unwrap().offset - 1,
            Entry::Turn { to, .. } => to.offset,
        });
        assert!(at.is_none_or(|at| at == to.offset), "{to:?} {self:?}");
    }

    /// Continues after this position when a loss overtook the replay.
    fn jump(&mut self, to: Position) {
        let is_behind = |entry: &Entry| match entry {
            Entry::Publication { position, .. } => position.is_some_and(|position| {
                (position.epoch.value(), position.offset) > (to.epoch.value(), to.offset)
            }),
            Entry::Turn { to: turned, .. } => turned.epoch.value() > to.epoch.value(),
        };
        let index = self.entries.iter().position(is_behind).unwrap_or(self.entries.len());
        (self.next, self.is_next_missing) = (index, false);
    }
}

/// Returns the position in a message, if it has one.
pub(super) fn position(message: &Value) -> Option<Position> {
    let epoch = Epoch::parse(message["epoch"].as_str()?);
    Some(Position { epoch, offset: message["offset"].as_u64()? })
}
