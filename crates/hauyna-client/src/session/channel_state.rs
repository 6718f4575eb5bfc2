//! The state of one channel: its position, and what was missed when a subscription starts on a connection or
//! continues in another epoch. Pure: the session asks it.

use super::{MissedMessages, SubscriptionState};
use crate::gap::{Gap, GapReason};
use hauyna_protocol::received::Subscribed;
use hauyna_protocol::{Epoch, Position};

/// The state of one channel in a session.
#[derive(Debug, Default)]
pub(crate) struct ChannelState {
    /// Whether the application has subscribed to it. Otherwise the server has.
    pub(crate) is_wanted: bool,
    pub(crate) subscription: SubscriptionState,
    pub(crate) position: Option<Position>,
    pub(crate) is_recoverable: bool,
    /// Whether the server has proved on this connection that the epoch is the same as before.
    pub(super) is_same_epoch: bool,
    /// Whether the server has lost the history, and the requests that the loss interrupted have not been
    /// failed yet. It outlives connections.
    pub(super) lost_history: bool,
    /// Whether it was live in this session, so that messages may be missing when it is back.
    pub(super) was_live: bool,
    /// Whether its history is being fetched. Live messages are held meanwhile.
    pub(super) is_catching_up: bool,
    /// The position that the server was told last. It replays from there, whatever the former socket of a
    /// move has received since.
    pub(super) announced: Option<Position>,
    /// The position in the last `resume` request. A subscription that is requested on the old socket of a
    /// move does not change it.
    pub(super) resumed_from: Option<Position>,
    /// The offset of the last live message. The next one is higher while the epoch is the same.
    pub(super) arrived: Option<u64>,
    /// The offset and the fingerprint of the message that arrives live next, if the history has delivered it
    /// already. A different message at that offset belongs to another epoch.
    pub(super) expected: Option<(u64, String)>,
    /// Whether the numbering went back, and the history was requested to learn whether the epoch has changed.
    pub(super) is_epoch_in_doubt: bool,
}

impl ChannelState {
    /// Returns the position from which the server is asked to recover.
    pub(crate) fn recover_position(&mut self) -> Option<Position> {
        self.announced = self.position.filter(|_| self.was_live && self.is_recoverable);
        self.announced
    }

    /// Returns the position from which the server that resumes the session recovers.
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
        self.subscription == SubscriptionState::Requested && self.was_live
    }

    /// Expects the next live message after this position.
    pub(super) fn expect_live_after(&mut self, position: Option<Position>) {
        (self.arrived, self.expected) = (position.map(|position| position.offset), None);
    }

    /// Notes a live message; `true` if it belongs to another epoch.
    pub(super) fn note_arrived(&mut self, offset: u64, fingerprint: impl FnOnce() -> String) -> bool {
        let expected = self.expected.take();
        let is_other = expected.is_some_and(|(at, expected)| at == offset && expected != fingerprint());
        self.arrived.replace(offset).is_some_and(|last| offset <= last) || is_other
    }

    /// Starts the subscription on this connection.
    pub(super) fn begin_subscription(&mut self, entry: &Subscribed) -> MissedMessages {
        let old = self.position;
        (self.subscription, self.is_catching_up, self.is_epoch_in_doubt) =
            (SubscriptionState::Live, false, false);
        self.is_same_epoch = same_epoch(old, entry.position);
        let returns = std::mem::replace(&mut self.was_live, true);
        self.lost_history |= returns && !self.is_same_epoch;
        if entry.recovered == Some(true) {
            // Messages after the announced position, which the former socket of a move may have delivered,
            // arrive once more.
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

    /// Keeps the position of this client, after which the missed messages follow. It cannot lie after the
    /// end that the server has named.
    fn follow_own_position(&mut self, entry: &Subscribed) -> MissedMessages {
        self.position = match (self.position, entry.position) {
            (Some(position), Some(_)) if self.is_same_epoch => Some(position),
            (Some(position), Some(end)) => {
                Some(Position { epoch: end.epoch, offset: position.offset.min(end.offset) })
            }
            (_, end) => end,
        };
        MissedMessages::Nothing
    }

    /// Handles messages that follow another position than this client's, because the channel was given up and
    /// wanted again from there. The history has what lies between, unless the epoch has changed.
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

    /// Takes a subscription as live whose position the server has not named. The history has what lies after
    /// the position of this client.
    pub(crate) fn join_unannounced(&mut self) -> MissedMessages {
        self.subscription = SubscriptionState::Live;
        self.is_catching_up = self.was_live && self.position.is_some();
        // The server has not named the epoch, and the position may be of an earlier one.
        self.is_epoch_in_doubt = self.is_catching_up;
        if self.is_catching_up { MissedMessages::InHistory } else { MissedMessages::Nothing }
    }

    /// Handles a position that the server names for a live subscription, in the order of the messages of the
    /// channel.
    pub(super) fn continue_numbering(&mut self, entry: &Subscribed) -> MissedMessages {
        let is_same = same_epoch(self.position, entry.position);
        let is_behind = is_behind(self.position, entry.position);
        match entry.recovered {
            Some(_) if is_same && !is_behind => return MissedMessages::Nothing,
            // The history that is being fetched has what lies between.
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

    /// Returns what was missed, if the server has not proved that nothing was.
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

/// Whether two positions are in the same epoch. An unknown epoch equals no other.
pub(super) fn same_epoch(one: Option<Position>, other: Option<Position>) -> bool {
    let known = |position: Option<Position>| position.map(|at| at.epoch).filter(|at| *at != Epoch::UNKNOWN);
    known(one).is_some_and(|epoch| known(other) == Some(epoch))
}
