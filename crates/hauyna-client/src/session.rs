//! What survives a socket: the token of the session, the subscriptions and their positions. It decides which
//! messages are duplicates, where gaps are, and what a recovery proves. Pure: the task feeds it with what it
//! receives.

mod channel_state;

use crate::gap::{Gap, GapReason};
pub(crate) use channel_state::ChannelState;
use channel_state::same_epoch;
use hauyna_protocol::received::{Resume, Subscribed};
use hauyna_protocol::{Epoch, Position};
use std::collections::BTreeMap;

/// The session of a client.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) resume: Option<Resume>,
    /// Ordered, so that simulations are repeatable.
    channels: BTreeMap<String, ChannelState>,
}

/// What the server knows about a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SubscriptionState {
    /// The server has no subscription.
    #[default]
    Absent,
    /// The subscription was requested and is not answered.
    Requested,
    Live,
}

/// What happens to a message of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Deliver,
    /// It was delivered before.
    Drop,
    /// It is held until the history has caught up.
    Hold,
    /// The numbering went back, although no message has announced another epoch: the message is held, and the
    /// history is requested.
    NumberingRestarted,
    /// No subscription is live. The message belongs to an earlier one, or to none.
    Unexpected,
}

/// What a subscription has missed.
#[derive(Debug, PartialEq)]
pub(crate) enum MissedMessages {
    /// Nothing is missing, or the server sends it next.
    Nothing,
    /// The history has what is missing, from the position on.
    InHistory,
    Gap(Gap),
    /// Messages are missing that no history has; the history has those after them.
    GapThenHistory(Gap),
}

impl Session {
    pub(crate) fn channel(&mut self, channel: &str) -> Option<&mut ChannelState> {
        self.channels.get_mut(channel)
    }

    /// Wants a channel, from a position that the application has kept, if any.
    pub(crate) fn set_wanted(&mut self, channel: &str, recover: Option<Position>) -> &mut ChannelState {
        let state = self.channels.entry(channel.to_owned()).or_default();
        state.is_wanted = true;
        // The server alone knows the position of a live subscription, even if it was lost here.
        let begins = state.position.is_none() && state.subscription != SubscriptionState::Live;
        if let Some(position) = recover.filter(|_| begins) {
            (state.position, state.is_recoverable, state.was_live) = (Some(position), true, true);
        }
        state
    }

    pub(crate) fn forget(&mut self, channel: &str) {
        self.channels.remove(channel);
    }

    /// Returns the position of every subscription, for the server that resumes the session.
    pub(crate) fn positions(&mut self) -> Vec<(Box<str>, Position)> {
        let known = |(channel, state): (&String, &mut ChannelState)| {
            Some((channel.as_str().into(), state.resume_position()?))
        };
        self.channels.iter_mut().filter_map(known).collect()
    }

    /// Ends every subscription, because the connection has ended.
    pub(crate) fn connection_lost(&mut self) {
        for state in self.channels.values_mut() {
            // This includes subscriptions that the server has only named as existing.
            state.was_live |= state.subscription == SubscriptionState::Live;
            (state.subscription, state.is_same_epoch, state.is_catching_up) =
                (SubscriptionState::Absent, false, false);
            state.expect_live_after(None);
            (state.is_epoch_in_doubt, state.announced) = (false, state.resumed_from);
        }
    }

    /// Whether the server has confirmed a subscription. Messages of a channel without one belong to an
    /// earlier subscription.
    pub(crate) fn is_live(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|state| state.subscription == SubscriptionState::Live)
    }

    /// Whether the application wants a channel whose subscription the server has not confirmed.
    pub(crate) fn is_awaited(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(ChannelState::is_awaited)
    }

    fn live_channel(&mut self, channel: &str) -> Option<&mut ChannelState> {
        self.channels.get_mut(channel).filter(|state| state.subscription == SubscriptionState::Live)
    }

    /// Returns the channels that the client has to subscribe to.
    pub(crate) fn absent_channels(&self) -> Vec<String> {
        let absent =
            |state: &ChannelState| state.is_wanted && state.subscription == SubscriptionState::Absent;
        self.channels.iter().filter(|(_, state)| absent(state)).map(|(channel, _)| channel.clone()).collect()
    }

    /// Returns the channels to which the server had subscribed this client, and has not again.
    pub(crate) fn unrestored_channels(&self) -> Vec<String> {
        let lapsed =
            |state: &ChannelState| !state.is_wanted && state.subscription == SubscriptionState::Absent;
        self.channels.iter().filter(|(_, state)| lapsed(state)).map(|(channel, _)| channel.clone()).collect()
    }

    /// Whether a subscription that was live before the loss is not answered yet.
    pub(crate) fn is_restoring(&self) -> bool {
        self.channels.values().any(ChannelState::is_restoring)
    }

    /// Whether the subscription of this channel was live before the loss and is not answered yet.
    pub(crate) fn is_channel_restoring(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(ChannelState::is_restoring)
    }

    /// Whether the server still has what was published in a channel before the loss.
    pub(crate) fn has_same_epoch(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|state| state.is_same_epoch && !state.lost_history)
    }

    /// Notes that the interrupted requests were judged, except those of channels whose subscription is
    /// awaited.
    pub(crate) fn note_judged(&mut self) {
        let channels = self.channels.values_mut().filter(|state| !state.is_awaited());
        channels.for_each(|state| state.lost_history = false);
    }

    /// Whether a subscription is in another epoch than the known one, or one of the two epochs is unknown.
    pub(crate) fn has_other_epoch(&self, entry: &Subscribed) -> bool {
        let is_turned = |state: &ChannelState| {
            let is_numbered = state.position.is_some() || entry.position.is_some();
            state.was_live && is_numbered && !same_epoch(state.position, entry.position)
        };
        self.channels.get(&entry.channel).is_some_and(is_turned)
    }

    /// Takes a subscription as live that an answer, a session or a message has confirmed. Returns what it has
    /// missed.
    pub(crate) fn set_live(&mut self, entry: &Subscribed) -> MissedMessages {
        let state = self.channels.entry(entry.channel.clone()).or_default();
        let was_live_here = state.subscription == SubscriptionState::Live && state.was_live;
        state.is_recoverable = entry.recoverable;
        if was_live_here { state.continue_numbering(entry) } else { state.begin_subscription(entry) }
    }

    /// Judges a message of a channel, and records its offset. `fingerprint` tells it from others with the
    /// same offset.
    pub(crate) fn admit(
        &mut self,
        channel: &str,
        offset: Option<u64>,
        fingerprint: impl FnOnce() -> String,
    ) -> Verdict {
        let Some(state) = self.live_channel(channel) else { return Verdict::Unexpected };
        let Some(offset) = offset.filter(|_| state.position.is_some()) else { return Verdict::Deliver };
        if state.note_arrived(offset, fingerprint) {
            (state.is_catching_up, state.is_epoch_in_doubt) = (true, true);
            return Verdict::NumberingRestarted;
        }
        let Some(position) = &mut state.position else { return Verdict::Deliver };
        if state.is_epoch_in_doubt {
            return Verdict::Hold;
        }
        if offset <= position.offset {
            return Verdict::Drop;
        }
        if state.is_catching_up {
            return Verdict::Hold;
        }
        position.offset = offset;
        Verdict::Deliver
    }

    /// Records the position of a publication of this client that is not echoed. Returns whether it is the
    /// next one, so that no unseen message lies before it.
    pub(crate) fn note_own_publication(&mut self, channel: &str, at: Position) -> bool {
        let Some(state) = self.live_channel(channel).filter(|state| !state.is_catching_up) else {
            return false;
        };
        let is_next = same_epoch(state.position, Some(at))
            && state.position.is_some_and(|position| position.offset.checked_add(1) == Some(at.offset));
        if is_next {
            // No echo follows, so a live message at this offset or below belongs to another epoch.
            state.position = Some(at);
            state.expect_live_after(Some(at));
        }
        is_next
    }

    /// Records that the server has dropped messages. Without a position, only messages without offsets are
    /// missing.
    pub(crate) fn note_gap(
        &mut self,
        channel: &str,
        before: Option<Position>,
        missed: u64,
    ) -> MissedMessages {
        let Some(state) = self.live_channel(channel) else { return MissedMessages::Nothing };
        let Some(before) = before else { return MissedMessages::Nothing };
        let is_known = before.epoch != Epoch::UNKNOWN;
        let is_turned = is_known && state.position.is_some() && !same_epoch(state.position, Some(before));
        let is_lost = !state.is_recoverable || (state.position.is_none() && !is_known);
        if is_lost || is_turned {
            let (reason, to) = match is_turned {
                true => (GapReason::EpochChanged, Some(before)),
                false => (GapReason::Dropped, None),
            };
            let missed = Some(missed).filter(|_| !is_turned);
            let gap = Gap { channel: channel.to_owned(), reason, from: state.position, to, missed };
            if is_lost {
                return MissedMessages::Gap(gap);
            }
            (state.position, state.is_catching_up) = (Some(before), true);
            state.expect_live_after(Some(before));
            state.is_epoch_in_doubt = false;
            return MissedMessages::GapThenHistory(gap);
        }
        // The catch-up starts at the position of this client and not at a later one, because the history has
        // what lies between.
        (state.position, state.is_catching_up) = (state.position.or(Some(before)), true);
        state.arrived.get_or_insert(before.offset);
        MissedMessages::InHistory
    }

    /// Continues to catch up from the position of this client or, if that is lost, from the one that the
    /// server has named. `false` if both are unknown.
    pub(crate) fn continue_catch_up(
        &mut self,
        channel: &str,
        before: Option<Position>,
        is_doubtful: bool,
    ) -> bool {
        let Some(state) = self.live_channel(channel) else { return false };
        state.position = state.position.or(before);
        state.arrived = state.arrived.or(before.map(|before| before.offset));
        (state.is_catching_up, state.is_epoch_in_doubt) = (state.position.is_some(), is_doubtful);
        state.is_catching_up
    }

    /// Forgets the position of a subscription. Everything is delivered until the server names a position
    /// again.
    pub(crate) fn forget_position(&mut self, channel: &str) {
        if let Some(state) = self.channels.get_mut(channel) {
            (state.position, state.is_epoch_in_doubt) = (None, false);
            state.expect_live_after(None);
        }
    }

    /// Forgets all positions, so that every subscription reports a gap when it is back.
    pub(crate) fn forget_positions(&mut self) {
        self.channels.values_mut().for_each(|state| state.position = None);
    }

    /// Takes over the epoch of a history page. `false` if the page ends before the position of this client,
    /// and so belongs to another numbering.
    pub(crate) fn adopt_page_end(&mut self, channel: &str, end: Position) -> bool {
        let Some(state) = self.channels.get_mut(channel) else { return true };
        let Some(position) = &mut state.position else { return true };
        state.is_epoch_in_doubt &= end.offset < position.offset;
        if end.epoch != Epoch::UNKNOWN && end.offset >= position.offset {
            position.epoch = end.epoch;
        }
        end.offset >= position.offset
    }

    pub(crate) fn set_position(&mut self, channel: &str, position: Option<Position>) {
        if let Some(state) = self.channels.get_mut(channel) {
            state.position = position;
        }
    }

    pub(crate) fn is_catching_up(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|state| state.is_catching_up)
    }

    /// Records a message of the history. If it is the one that arrives live next, that one has to be the
    /// same.
    pub(crate) fn expect_live(
        &mut self,
        channel: &str,
        offset: Option<u64>,
        fingerprint: impl FnOnce() -> String,
    ) {
        let state = self.channels.get_mut(channel);
        let is_next = |state: &&mut ChannelState| state.arrived.unwrap_or(0).checked_add(1) == offset;
        if let (Some(state), Some(offset)) = (state.filter(is_next), offset) {
            state.expected = Some((offset, fingerprint()));
        }
    }

    /// Records a message of the history; `false` if it was delivered before.
    pub(crate) fn accept_replayed(&mut self, channel: &str, offset: Option<u64>) -> bool {
        let Some(position) = self.channels.get_mut(channel).and_then(|state| state.position.as_mut()) else {
            return true;
        };
        match offset {
            Some(offset) if offset <= position.offset => false,
            Some(offset) => {
                position.offset = offset;
                true
            }
            None => true,
        }
    }

    /// Delivers live messages again, because the history has caught up or was given up.
    pub(crate) fn finish_catch_up(&mut self, channel: &str) {
        if let Some(state) = self.channels.get_mut(channel) {
            (state.is_catching_up, state.is_epoch_in_doubt) = (false, false);
        }
    }
}

#[cfg(test)]
mod tests;
