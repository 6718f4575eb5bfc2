//! What survives a socket: the token, the subscriptions and where each stands. It decides what is a
//! duplicate, what a gap, and what a recovery proves. Pure; the task feeds it with what was received.

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
    /// Ordered, so that a simulation can be repeated.
    channels: BTreeMap<String, ChannelState>,
}

/// What the server knows of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SubscriptionState {
    /// Nothing.
    #[default]
    Absent,
    /// It was asked, and has not answered.
    Asked,
    Live,
}

/// What to do with a message of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Deliver,
    /// It was seen before.
    Drop,
    /// Keep it until the history has caught up.
    Hold,
    /// The numbering went back, and nobody has said that the epoch has changed: keep it, and ask the history.
    NumberingRestarted,
    /// No subscription is live: it is left of an earlier one, or was never of one.
    Unexpected,
}

/// What a subscription has missed.
#[derive(Debug, PartialEq)]
pub(crate) enum MissedMessages {
    /// Nothing, or it follows.
    Nothing,
    /// What the history can tell, from the position on.
    InHistory,
    Gap(Gap),
    /// Something that no history has, and then what it can tell.
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
        // Where a live one stands is the server's to say, also where that is lost.
        let begins = state.position.is_none() && state.subscription != SubscriptionState::Live;
        if let Some(position) = recover.filter(|_| begins) {
            (state.position, state.is_recoverable, state.was_live) = (Some(position), true, true);
        }
        state
    }

    pub(crate) fn forget(&mut self, channel: &str) {
        self.channels.remove(channel);
    }

    /// Where every subscription stands, for the server that resumes the session.
    pub(crate) fn positions(&mut self) -> Vec<(Box<str>, Position)> {
        let known = |(channel, state): (&String, &mut ChannelState)| {
            Some((channel.as_str().into(), state.resume_position()?))
        };
        self.channels.iter_mut().filter_map(known).collect()
    }

    /// The connection is gone: nobody is subscribed to anything.
    pub(crate) fn connection_lost(&mut self) {
        for state in self.channels.values_mut() {
            // Also where the server said only that there is a subscription already.
            state.was_live |= state.subscription == SubscriptionState::Live;
            (state.subscription, state.is_same_epoch, state.is_catching_up) =
                (SubscriptionState::Absent, false, false);
            state.expect_live_after(None);
            (state.is_epoch_in_doubt, state.announced) = (false, state.resumed_from);
        }
    }

    /// Whether the server has said that a subscription is there. What comes of a channel without is left of
    /// an earlier one.
    pub(crate) fn is_live(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|state| state.subscription == SubscriptionState::Live)
    }

    /// Whether the application wants a channel, and the server has not said that the subscription is there.
    pub(crate) fn is_awaited(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(ChannelState::is_awaited)
    }

    fn live_channel(&mut self, channel: &str) -> Option<&mut ChannelState> {
        self.channels.get_mut(channel).filter(|state| state.subscription == SubscriptionState::Live)
    }

    /// The channels that the client has to subscribe to by itself.
    pub(crate) fn absent_channels(&self) -> Vec<String> {
        let absent =
            |state: &ChannelState| state.is_wanted && state.subscription == SubscriptionState::Absent;
        self.channels.iter().filter(|(_, state)| absent(state)).map(|(channel, _)| channel.clone()).collect()
    }

    /// The channels that the server had subscribed this client to, and has not again.
    pub(crate) fn unrestored_channels(&self) -> Vec<String> {
        let lapsed =
            |state: &ChannelState| !state.is_wanted && state.subscription == SubscriptionState::Absent;
        self.channels.iter().filter(|(_, state)| lapsed(state)).map(|(channel, _)| channel.clone()).collect()
    }

    /// Whether a subscription has not been answered.
    pub(crate) fn is_restoring(&self) -> bool {
        self.channels.values().any(ChannelState::is_restoring)
    }

    /// Whether that of one channel has not.
    pub(crate) fn is_channel_restoring(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(ChannelState::is_restoring)
    }

    /// Whether the server still remembers what was published in a channel before the loss.
    pub(crate) fn has_same_epoch(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|state| state.is_same_epoch && !state.lost_history)
    }

    /// What was sent before has been judged, but of the channels whose subscription is on its way.
    pub(crate) fn note_judged(&mut self) {
        let channels = self.channels.values_mut().filter(|state| !state.is_awaited());
        channels.for_each(|state| state.lost_history = false);
    }

    /// Whether what the server says of a subscription names another epoch than the own one, or the own one is
    /// lost.
    pub(crate) fn has_other_epoch(&self, entry: &Subscribed) -> bool {
        let is_turned = |state: &ChannelState| {
            let is_numbered = state.position.is_some() || entry.position.is_some();
            state.was_live && is_numbered && !same_epoch(state.position, entry.position)
        };
        self.channels.get(&entry.channel).is_some_and(is_turned)
    }

    /// A subscription is live, by whatever way, as the server says.
    pub(crate) fn set_live(&mut self, entry: &Subscribed) -> MissedMessages {
        let state = self.channels.entry(entry.channel.clone()).or_default();
        let was_live_here = state.subscription == SubscriptionState::Live && state.was_live;
        state.is_recoverable = entry.recoverable;
        if was_live_here { state.continue_numbering(entry) } else { state.begin_subscription(entry) }
    }

    /// Judges a message of a channel, and remembers it. `mark` tells what it says from what others say.
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

    /// A publication of this client's, which it does not get live, stands here. It is seen where it is the
    /// next one: nothing that was not lies before it.
    pub(crate) fn note_own_publication(&mut self, channel: &str, at: Position) -> bool {
        let Some(state) = self.live_channel(channel).filter(|state| !state.is_catching_up) else {
            return false;
        };
        let is_next = same_epoch(state.position, Some(at))
            && state.position.is_some_and(|own| own.offset.checked_add(1) == Some(at.offset));
        if is_next {
            // No echo comes: a live message that is not further on is one of another epoch.
            state.position = Some(at);
            state.expect_live_after(Some(at));
        }
        is_next
    }

    /// The server dropped messages; without a position only such as have no offset.
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
        // From the own position, never from one further on: the history has what lies between.
        (state.position, state.is_catching_up) = (state.position.or(Some(before)), true);
        state.arrived.get_or_insert(before.offset);
        MissedMessages::InHistory
    }

    /// More is to be fetched, after the own position or, where that is lost, after the one that the server
    /// has announced. `false` where neither is known.
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

    /// Nothing is known any more of where a subscription stands: everything is delivered until the server
    /// says so again.
    pub(crate) fn forget_position(&mut self, channel: &str) {
        if let Some(state) = self.channels.get_mut(channel) {
            (state.position, state.is_epoch_in_doubt) = (None, false);
            state.expect_live_after(None);
        }
    }

    /// Nothing is recovered of any subscription: each tells a gap when it is back.
    pub(crate) fn forget_positions(&mut self) {
        self.channels.values_mut().for_each(|state| state.position = None);
    }

    /// A page of the history is there; `false` if it ends before the own position, and so is of another
    /// numbering. Under another epoch the numbering has gone on.
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

    /// The history gives a message. Where it is the one that comes live next, what comes has to be the same.
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

    /// A message of the history; `false` if it was seen before.
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

    /// The history has caught up, or cannot: live messages are admitted again.
    pub(crate) fn finish_catch_up(&mut self, channel: &str) {
        if let Some(state) = self.channels.get_mut(channel) {
            (state.is_catching_up, state.is_epoch_in_doubt) = (false, false);
        }
    }
}

#[cfg(test)]
mod tests;
