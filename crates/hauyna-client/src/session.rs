//! What survives a socket: the token, the subscriptions and where each stands. It decides what is a
//! duplicate, what a gap, and what a recovery proves. Pure; the task feeds it with what was received.

mod place;

use crate::gap::{Gap, GapReason};
use hauyna_protocol::received::{Resume, Subscribed};
use hauyna_protocol::{Epoch, Position};
pub(crate) use place::ChannelPlace;
use place::same_epoch;
use std::collections::BTreeMap;

/// The session of a client.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) resume: Option<Resume>,
    /// Ordered, so that a simulation can be repeated.
    places: BTreeMap<String, ChannelPlace>,
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
    pub(crate) fn place_of(&mut self, channel: &str) -> Option<&mut ChannelPlace> {
        self.places.get_mut(channel)
    }

    /// Wants a channel, from a position that the application has kept, if any.
    pub(crate) fn set_wanted(&mut self, channel: &str, recover: Option<Position>) -> &mut ChannelPlace {
        let place = self.places.entry(channel.to_owned()).or_default();
        place.is_wanted = true;
        // Where a live one stands is the server's to say, also where that is lost.
        let begins = place.position.is_none() && place.state != SubscriptionState::Live;
        if let Some(position) = recover.filter(|_| begins) {
            (place.position, place.is_recoverable, place.was_live) = (Some(position), true, true);
        }
        place
    }

    pub(crate) fn forget(&mut self, channel: &str) {
        self.places.remove(channel);
    }

    /// Where every subscription stands, for the server that resumes the session.
    pub(crate) fn positions(&mut self) -> Vec<(Box<str>, Position)> {
        let known =
            |(channel, place): (&String, &mut ChannelPlace)| Some((channel.as_str().into(), place.resume()?));
        self.places.iter_mut().filter_map(known).collect()
    }

    /// The connection is gone: nobody is subscribed to anything.
    pub(crate) fn connection_lost(&mut self) {
        for place in self.places.values_mut() {
            // Also where the server said only that there is a subscription already.
            place.was_live |= place.state == SubscriptionState::Live;
            (place.state, place.is_same_epoch, place.catching_up_to) =
                (SubscriptionState::Absent, false, false);
            place.expect_after(None);
            (place.needs_judgement, place.named) = (false, place.resumed_from);
        }
    }

    /// Whether the server has said that a subscription is there. What comes of a channel without is left of
    /// an earlier one.
    pub(crate) fn is_live(&self, channel: &str) -> bool {
        self.places.get(channel).is_some_and(|place| place.state == SubscriptionState::Live)
    }

    /// Whether the application wants a channel, and the server has not said that the subscription is there.
    pub(crate) fn is_awaited(&self, channel: &str) -> bool {
        self.places.get(channel).is_some_and(ChannelPlace::is_awaited)
    }

    fn live_place(&mut self, channel: &str) -> Option<&mut ChannelPlace> {
        self.places.get_mut(channel).filter(|place| place.state == SubscriptionState::Live)
    }

    /// The channels that the client has to subscribe to by itself.
    pub(crate) fn set_absent(&self) -> Vec<String> {
        let absent = |place: &ChannelPlace| place.is_wanted && place.state == SubscriptionState::Absent;
        self.places.iter().filter(|(_, place)| absent(place)).map(|(channel, _)| channel.clone()).collect()
    }

    /// The channels that the server had subscribed this client to, and has not again.
    pub(crate) fn end_restored(&self) -> Vec<String> {
        let lapsed = |place: &ChannelPlace| !place.is_wanted && place.state == SubscriptionState::Absent;
        self.places.iter().filter(|(_, place)| lapsed(place)).map(|(channel, _)| channel.clone()).collect()
    }

    /// Whether a subscription has not been answered.
    pub(crate) fn is_restoring(&self) -> bool {
        self.places.values().any(ChannelPlace::is_restoring)
    }

    /// Whether that of one channel has not.
    pub(crate) fn is_restored_by(&self, channel: &str) -> bool {
        self.places.get(channel).is_some_and(ChannelPlace::is_restoring)
    }

    /// Whether the server still remembers what was published in a channel before the loss.
    pub(crate) fn has_same_epoch(&self, channel: &str) -> bool {
        self.places.get(channel).is_some_and(|place| place.is_same_epoch && !place.lost_history)
    }

    /// What was sent before has been judged, but of the channels whose subscription is on its way.
    pub(crate) fn judged(&mut self) {
        let places = self.places.values_mut().filter(|place| !place.is_awaited());
        places.for_each(|place| place.lost_history = false);
    }

    /// Whether what the server says of a subscription names another epoch than the own one, or the own one is
    /// lost.
    pub(crate) fn is_turned_by(&self, entry: &Subscribed) -> bool {
        let is_turned = |place: &ChannelPlace| {
            let is_numbered = place.position.is_some() || entry.position.is_some();
            place.was_live && is_numbered && !same_epoch(place.position, entry.position)
        };
        self.places.get(&entry.channel).is_some_and(is_turned)
    }

    /// A subscription is live, by whatever way, as the server says.
    pub(crate) fn set_live(&mut self, entry: &Subscribed) -> MissedMessages {
        let place = self.places.entry(entry.channel.clone()).or_default();
        let was_live_here = place.state == SubscriptionState::Live && place.was_live;
        place.is_recoverable = entry.recoverable;
        if was_live_here { place.continue_numbering(entry) } else { place.begin_subscription(entry) }
    }

    /// Judges a message of a channel, and remembers it. `mark` tells what it says from what others say.
    pub(crate) fn admit(
        &mut self,
        channel: &str,
        offset: Option<u64>,
        mark: impl FnOnce() -> String,
    ) -> Verdict {
        let Some(place) = self.live_place(channel) else { return Verdict::Unexpected };
        let Some(offset) = offset.filter(|_| place.position.is_some()) else { return Verdict::Deliver };
        if place.note_arrived(offset, mark) {
            (place.catching_up_to, place.needs_judgement) = (true, true);
            return Verdict::NumberingRestarted;
        }
        let Some(position) = &mut place.position else { return Verdict::Deliver };
        if place.needs_judgement {
            return Verdict::Hold;
        }
        if offset <= position.offset {
            return Verdict::Drop;
        }
        if place.catching_up_to {
            return Verdict::Hold;
        }
        position.offset = offset;
        Verdict::Deliver
    }

    /// A publication of this client's, which it does not get live, stands here. It is seen where it is the
    /// next one: nothing that was not lies before it.
    pub(crate) fn publishes(&mut self, channel: &str, at: Position) -> bool {
        let Some(place) = self.live_place(channel).filter(|place| !place.catching_up_to) else {
            return false;
        };
        let is_next = same_epoch(place.position, Some(at))
            && place.position.is_some_and(|own| own.offset.checked_add(1) == Some(at.offset));
        if is_next {
            // No echo comes: a live message that is not further on is one of another epoch.
            place.position = Some(at);
            place.expect_after(Some(at));
        }
        is_next
    }

    /// The server dropped messages; without a position only such as have no offset.
    pub(crate) fn gap(&mut self, channel: &str, before: Option<Position>, missed: u64) -> MissedMessages {
        let Some(place) = self.live_place(channel) else { return MissedMessages::Nothing };
        let Some(before) = before else { return MissedMessages::Nothing };
        let is_known = before.epoch != Epoch::UNKNOWN;
        let is_turned = is_known && place.position.is_some() && !same_epoch(place.position, Some(before));
        let is_lost = !place.is_recoverable || (place.position.is_none() && !is_known);
        if is_lost || is_turned {
            let (reason, to) = match is_turned {
                true => (GapReason::EpochChanged, Some(before)),
                false => (GapReason::Dropped, None),
            };
            let missed = Some(missed).filter(|_| !is_turned);
            let gap = Gap { channel: channel.to_owned(), reason, from: place.position, to, missed };
            if is_lost {
                return MissedMessages::Gap(gap);
            }
            (place.position, place.catching_up_to) = (Some(before), true);
            place.expect_after(Some(before));
            place.needs_judgement = false;
            return MissedMessages::GapThenHistory(gap);
        }
        // From the own position, never from one further on: the history has what lies between.
        (place.position, place.catching_up_to) = (place.position.or(Some(before)), true);
        place.arrived.get_or_insert(before.offset);
        MissedMessages::InHistory
    }

    /// More is to be fetched, after the own position or, where that is lost, after the one that the server
    /// has named. `false` where neither is known.
    pub(crate) fn catch_up_again(
        &mut self,
        channel: &str,
        before: Option<Position>,
        is_doubtful: bool,
    ) -> bool {
        let Some(place) = self.live_place(channel) else { return false };
        place.position = place.position.or(before);
        place.arrived = place.arrived.or(before.map(|before| before.offset));
        (place.catching_up_to, place.needs_judgement) = (place.position.is_some(), is_doubtful);
        place.catching_up_to
    }

    /// Nothing is known any more of where a subscription stands: everything is delivered until the server
    /// says so again.
    pub(crate) fn lose_position(&mut self, channel: &str) {
        if let Some(place) = self.places.get_mut(channel) {
            (place.position, place.needs_judgement) = (None, false);
            place.expect_after(None);
        }
    }

    /// Nothing is recovered of any subscription: each tells a gap when it is back.
    pub(crate) fn lose_positions(&mut self) {
        self.places.values_mut().for_each(|place| place.position = None);
    }

    /// A page of the history is there; `false` if it ends before the own position, and so is of another
    /// numbering. Under another epoch the numbering has gone on.
    pub(crate) fn take_page(&mut self, channel: &str, end: Position) -> bool {
        let Some(place) = self.places.get_mut(channel) else { return true };
        let Some(position) = &mut place.position else { return true };
        place.needs_judgement &= end.offset < position.offset;
        if end.epoch != Epoch::UNKNOWN && end.offset >= position.offset {
            position.epoch = end.epoch;
        }
        end.offset >= position.offset
    }

    pub(crate) fn set_position(&mut self, channel: &str, position: Option<Position>) {
        if let Some(place) = self.places.get_mut(channel) {
            place.position = position;
        }
    }

    pub(crate) fn is_catching(&self, channel: &str) -> bool {
        self.places.get(channel).is_some_and(|place| place.catching_up_to)
    }

    /// The history gives a message. Where it is the one that comes live next, what comes has to be the same.
    pub(crate) fn expects(&mut self, channel: &str, offset: Option<u64>, mark: impl FnOnce() -> String) {
        let place = self.places.get_mut(channel);
        let is_next = |place: &&mut ChannelPlace| place.arrived.unwrap_or(0).checked_add(1) == offset;
        if let (Some(place), Some(offset)) = (place.filter(is_next), offset) {
            place.expected = Some((offset, mark()));
        }
    }

    /// A message of the history; `false` if it was seen before.
    pub(crate) fn replay(&mut self, channel: &str, offset: Option<u64>) -> bool {
        let Some(position) = self.places.get_mut(channel).and_then(|place| place.position.as_mut()) else {
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
    pub(crate) fn caught_up(&mut self, channel: &str) {
        if let Some(place) = self.places.get_mut(channel) {
            (place.catching_up_to, place.needs_judgement) = (false, false);
        }
    }
}

#[cfg(test)]
mod tests;
