//! One subscription: where it stands, and what was missed when it begins on a connection or goes on under
//! another epoch. Pure; the session asks it.

use super::{MissedMessages, SubscriptionState};
use crate::gap::{Gap, GapReason};
use hauyna_protocol::received::Subscribed;
use hauyna_protocol::{Epoch, Position};

/// One subscription.
#[derive(Debug, Default)]
pub(crate) struct ChannelState {
    /// Whether the client asked for it; else the server made it.
    pub(crate) is_wanted: bool,
    pub(crate) subscription: SubscriptionState,
    pub(crate) position: Option<Position>,
    pub(crate) is_recoverable: bool,
    /// Whether the server has proved since the last connection that its memory of this channel has lived on.
    pub(super) is_same_epoch: bool,
    /// Whether it was found to have lost its memory, and what was sent before has not been failed yet.
    /// Outlives connections.
    pub(super) lost_history: bool,
    /// Whether it was live in this session, so that a return may have missed something.
    pub(super) was_live: bool,
    /// From where history is being fetched: live messages are held back meanwhile.
    pub(super) is_catching_up: bool,
    /// The position that the server was last told. What it replays begins behind it, whatever has come since
    /// on the socket of before.
    pub(super) announced: Option<Position>,
    /// The position that the last `resume` announced. What is asked for on the old socket of a move meanwhile
    /// says nothing of it.
    pub(super) resumed_from: Option<Position>,
    /// The offset of the last message that arrived live. The next one is higher while the epoch is the same.
    pub(super) arrived: Option<u64>,
    /// Where the history was quicker: the offset of the message that comes live next, and the mark of what it
    /// says. One of the same offset that says something else is of another epoch.
    pub(super) expected: Option<(u64, String)>,
    /// Whether it was not, and it is being asked whether the epoch is the same still.
    pub(super) is_epoch_in_doubt: bool,
}

impl ChannelState {
    /// The position from which the server is asked to bring it up to date.
    pub(crate) fn recover_position(&mut self) -> Option<Position> {
        self.announced = self.position.filter(|_| self.was_live && self.is_recoverable);
        self.announced
    }

    /// The same, of the session that is resumed.
    pub(super) fn resume_position(&mut self) -> Option<Position> {
        self.resumed_from = self.recover_position();
        self.resumed_from
    }

    pub(crate) const fn was_live(&self) -> bool {
        self.was_live
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.is_wanted && self.subscription != SubscriptionState::Live
    }

    pub(super) fn is_restoring(&self) -> bool {
        self.subscription == SubscriptionState::Asked && self.was_live
    }

    /// The next message that arrives live is behind this position.
    pub(super) fn expect_live_after(&mut self, position: Option<Position>) {
        (self.arrived, self.expected) = (position.map(|position| position.offset), None);
    }

    /// Notes a message that arrives live; `true` where it is one of another epoch.
    pub(super) fn note_arrived(&mut self, offset: u64, fingerprint: impl FnOnce() -> String) -> bool {
        let expected = self.expected.take();
        let is_other = expected.is_some_and(|(at, expected)| at == offset && expected != fingerprint());
        self.arrived.replace(offset).is_some_and(|last| offset <= last) || is_other
    }

    /// The subscription begins on this connection.
    pub(super) fn begin_subscription(&mut self, entry: &Subscribed) -> MissedMessages {
        let old = self.position;
        (self.subscription, self.is_catching_up, self.is_epoch_in_doubt) =
            (SubscriptionState::Live, false, false);
        self.is_same_epoch = same_epoch(old, entry.position);
        let returns = std::mem::replace(&mut self.was_live, true);
        self.lost_history |= returns && !self.is_same_epoch;
        if entry.recovered == Some(true) {
            // Between the two may lie what the old socket of a move has brought meanwhile: it comes once
            // more.
            self.expect_live_after(self.announced);
            return match self.announced {
                None if returns && old.is_some() => self.follow_other_position(entry),
                _ => self.follow_own_position(entry),
            };
        }
        self.expect_live_after(entry.position);
        if !returns {
            self.position = entry.position;
            return MissedMessages::Nothing;
        }
        self.judge_missed(entry)
    }

    /// What was missed comes: it follows from the own offset on, which cannot be past the end that the server
    /// has announced.
    fn follow_own_position(&mut self, entry: &Subscribed) -> MissedMessages {
        self.position = match (self.position, entry.position) {
            (Some(own), Some(_)) if self.is_same_epoch => Some(own),
            (Some(own), Some(end)) => Some(Position { epoch: end.epoch, offset: own.offset.min(end.offset) }),
            (_, end) => end,
        };
        MissedMessages::Nothing
    }

    /// What comes follows a position of before: the channel was given up and wanted again from another one
    /// meanwhile. What lies behind that is in the history, unless it is of another epoch.
    fn follow_other_position(&mut self, entry: &Subscribed) -> MissedMessages {
        let old = self.position;
        if self.is_same_epoch {
            self.is_catching_up = is_behind(old, entry.position);
            return if self.is_catching_up { MissedMessages::InHistory } else { MissedMessages::Nothing };
        }
        self.position = entry.position;
        let (channel, reason) = (entry.channel.clone(), GapReason::EpochChanged);
        MissedMessages::Gap(Gap { channel, reason, from: old, to: entry.position, missed: None })
    }

    /// The server has this subscription, and has not said where it stands: what lies behind the own position
    /// is in the history.
    pub(crate) fn join_unannounced(&mut self) -> MissedMessages {
        self.subscription = SubscriptionState::Live;
        self.is_catching_up = self.was_live && self.position.is_some();
        if self.is_catching_up { MissedMessages::InHistory } else { MissedMessages::Nothing }
    }

    /// The server says again where a live subscription stands, in the order of the channel's messages.
    pub(super) fn continue_numbering(&mut self, entry: &Subscribed) -> MissedMessages {
        let is_same = same_epoch(self.position, entry.position);
        let is_behind = is_behind(self.position, entry.position);
        match entry.recovered {
            Some(_) if is_same && !is_behind => return MissedMessages::Nothing,
            // The history that is being fetched gives what lies between.
            Some(true) if is_same && self.is_catching_up => return MissedMessages::Nothing,
            _ => {}
        }
        self.expect_live_after(entry.position);
        self.is_epoch_in_doubt = false;
        if entry.recovered == Some(true) {
            self.position = entry.position;
            return MissedMessages::Nothing;
        }
        self.is_same_epoch = is_same;
        self.judge_missed(entry)
    }

    /// What was missed, where the server has not vouched for everything.
    fn judge_missed(&mut self, entry: &Subscribed) -> MissedMessages {
        let old = self.position;
        let reason = match (entry.recovered, &entry.reason) {
            (Some(_), reason) => GapReason::of(reason.as_deref().unwrap_or_default()),
            (None, _) if !entry.recoverable => GapReason::NotRecoverable,
            (None, _) if self.is_same_epoch => {
                self.is_catching_up |= is_behind(old, entry.position);
                return if self.is_catching_up { MissedMessages::InHistory } else { MissedMessages::Nothing };
            }
            (None, _) => GapReason::EpochChanged,
        };
        (self.position, self.is_catching_up) = (entry.position, false);
        let channel = entry.channel.clone();
        MissedMessages::Gap(Gap { channel, reason, from: old, to: entry.position, missed: None })
    }
}

fn is_behind(one: Option<Position>, other: Option<Position>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.offset < other.offset)
}

/// Two positions in the same life of a stream. What no server of ours wrote is the same as nothing.
pub(super) fn same_epoch(one: Option<Position>, other: Option<Position>) -> bool {
    let known = |position: Option<Position>| position.map(|at| at.epoch).filter(|at| *at != Epoch::UNKNOWN);
    known(one).is_some_and(|epoch| known(other) == Some(epoch))
}
