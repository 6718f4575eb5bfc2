//! What survives a socket: the token, the subscriptions and where each stands. It decides what is a duplicate, what a gap,
//! and what a recovery proves. Pure; the task feeds it with what was received.

mod place;

use crate::gap::{Gap, GapReason};
use hauyna_protocol::received::{Resume, Subscribed};
use hauyna_protocol::{Epoch, Position};
pub(crate) use place::Place;
use place::same_epoch;
use std::collections::BTreeMap;

/// The session of a client.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) resume: Option<Resume>,
    /// Ordered, so that a simulation can be repeated.
    places: BTreeMap<String, Place>,
}

/// What the server knows of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
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
    WentBack,
    /// No subscription is live: it is left of an earlier one, or was never of one.
    Stray,
}

/// What a subscription has missed.
#[derive(Debug, PartialEq)]
pub(crate) enum Missed {
    /// Nothing, or it follows.
    Nothing,
    /// What the history can tell, from the position on.
    InHistory,
    Gap(Gap),
    /// Something that no history has, and then what it can tell.
    GapThenHistory(Gap),
}

impl Session {
    pub(crate) fn place(&mut self, channel: &str) -> Option<&mut Place> {
        self.places.get_mut(channel)
    }

    /// Wants a channel, from a position that the application has kept, if any.
    pub(crate) fn want(&mut self, channel: &str, recover: Option<Position>) -> &mut Place {
        let place = self.places.entry(channel.to_owned()).or_default();
        place.is_wanted = true;
        // Where a live one stands is the server's to say, also where that is lost.
        let begins = place.position.is_none() && place.standing != Standing::Live;
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
            |(channel, place): (&String, &mut Place)| Some((channel.as_str().into(), place.resume()?));
        self.places.iter_mut().filter_map(known).collect()
    }

    /// The connection is gone: nobody is subscribed to anything.
    pub(crate) fn lost(&mut self) {
        for place in self.places.values_mut() {
            // Also where the server said only that there is a subscription already.
            place.was_live |= place.standing == Standing::Live;
            (place.standing, place.is_vouched, place.catching) = (Standing::Absent, false, false);
            place.arrives_after(None);
            (place.is_doubtful, place.named) = (false, place.resumed_from);
        }
    }

    /// Whether the server has said that a subscription is there. What comes of a channel without is left of an earlier one.
    pub(crate) fn is_live(&self, channel: &str) -> bool {
        self.places.get(channel).is_some_and(|place| place.standing == Standing::Live)
    }

    /// Whether the application wants a channel, and the server has not said that the subscription is there.
    pub(crate) fn is_awaited(&self, channel: &str) -> bool {
        self.places.get(channel).is_some_and(Place::is_awaited)
    }

    fn live_place(&mut self, channel: &str) -> Option<&mut Place> {
        self.places.get_mut(channel).filter(|place| place.standing == Standing::Live)
    }

    /// The channels that the client has to subscribe to by itself.
    pub(crate) fn absent(&self) -> Vec<String> {
        let absent = |place: &Place| place.is_wanted && place.standing == Standing::Absent;
        self.places.iter().filter(|(_, place)| absent(place)).map(|(channel, _)| channel.clone()).collect()
    }

    /// The channels that the server had subscribed this client to, and has not again.
    pub(crate) fn lapsed(&self) -> Vec<String> {
        let lapsed = |place: &Place| !place.is_wanted && place.standing == Standing::Absent;
        self.places.iter().filter(|(_, place)| lapsed(place)).map(|(channel, _)| channel.clone()).collect()
    }

    /// Whether a subscription has not been answered.
    pub(crate) fn is_restoring(&self) -> bool {
        self.places.values().any(Place::is_restoring)
    }

    /// Whether that of one channel has not.
    pub(crate) fn restores(&self, channel: &str) -> bool {
        self.places.get(channel).is_some_and(Place::is_restoring)
    }

    /// Whether the server still remembers what was published in a channel before the loss.
    pub(crate) fn vouches(&self, channel: &str) -> bool {
        self.places.get(channel).is_some_and(|place| place.is_vouched && !place.has_forgotten)
    }

    /// What was sent before has been judged, but of the channels whose subscription is on its way.
    pub(crate) fn judged(&mut self) {
        let places = self.places.values_mut().filter(|place| !place.is_awaited());
        places.for_each(|place| place.has_forgotten = false);
    }

    /// Whether what the server says of a subscription names another epoch than the own one, or the own one is
    /// lost.
    pub(crate) fn is_turned_by(&self, entry: &Subscribed) -> bool {
        let is_turned = |place: &Place| {
            let is_numbered = place.position.is_some() || entry.position.is_some();
            place.was_live && is_numbered && !same_epoch(place.position, entry.position)
        };
        self.places.get(&entry.channel).is_some_and(is_turned)
    }

    /// A subscription is live, by whatever way, as the server says.
    pub(crate) fn live(&mut self, entry: &Subscribed) -> Missed {
        let place = self.places.entry(entry.channel.clone()).or_default();
        let was_live_here = place.standing == Standing::Live && place.was_live;
        place.is_recoverable = entry.recoverable;
        if was_live_here { place.goes_on(entry) } else { place.begins(entry) }
    }

    /// Judges a message of a channel, and remembers it. `mark` tells what it says from what others say.
    pub(crate) fn admit(
        &mut self,
        channel: &str,
        offset: Option<u64>,
        mark: impl FnOnce() -> String,
    ) -> Verdict {
        let Some(place) = self.live_place(channel) else { return Verdict::Stray };
        let Some(offset) = offset.filter(|_| place.position.is_some()) else { return Verdict::Deliver };
        if place.arrives(offset, mark) {
            (place.catching, place.is_doubtful) = (true, true);
            return Verdict::WentBack;
        }
        let Some(position) = &mut place.position else { return Verdict::Deliver };
        if place.is_doubtful {
            return Verdict::Hold;
        }
        if offset <= position.offset {
            return Verdict::Drop;
        }
        if place.catching {
            return Verdict::Hold;
        }
        position.offset = offset;
        Verdict::Deliver
    }

    /// A publication of this client's, which it does not get live, stands here. It is seen where it is the next one: nothing that
    /// was not lies before it.
    pub(crate) fn publishes(&mut self, channel: &str, at: Position) -> bool {
        let Some(place) = self.live_place(channel).filter(|place| !place.catching) else { return false };
        let is_next = same_epoch(place.position, Some(at))
            && place.position.is_some_and(|own| own.offset.checked_add(1) == Some(at.offset));
        if is_next {
            // No echo comes: a live message that is not further on is one of another epoch.
            place.position = Some(at);
            place.arrives_after(Some(at));
        }
        is_next
    }

    /// The server dropped messages; without a position only such as have no offset.
    pub(crate) fn gap(&mut self, channel: &str, before: Option<Position>, missed: u64) -> Missed {
        let Some(place) = self.live_place(channel) else { return Missed::Nothing };
        let Some(before) = before else { return Missed::Nothing };
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
                return Missed::Gap(gap);
            }
            (place.position, place.catching) = (Some(before), true);
            place.arrives_after(Some(before));
            place.is_doubtful = false;
            return Missed::GapThenHistory(gap);
        }
        // From the own position, never from one further on: the history has what lies between.
        (place.position, place.catching) = (place.position.or(Some(before)), true);
        place.arrived.get_or_insert(before.offset);
        Missed::InHistory
    }

    /// More is to be fetched, after the own position or, where that is lost, after the one that the server has named. `false`
    /// where neither is known.
    pub(crate) fn catches_again(
        &mut self,
        channel: &str,
        before: Option<Position>,
        is_doubtful: bool,
    ) -> bool {
        let Some(place) = self.live_place(channel) else { return false };
        place.position = place.position.or(before);
        place.arrived = place.arrived.or(before.map(|before| before.offset));
        (place.catching, place.is_doubtful) = (place.position.is_some(), is_doubtful);
        place.catching
    }

    /// Nothing is known any more of where a subscription stands: everything is delivered until the server says so anew.
    pub(crate) fn lose_position(&mut self, channel: &str) {
        if let Some(place) = self.places.get_mut(channel) {
            (place.position, place.is_doubtful) = (None, false);
            place.arrives_after(None);
        }
    }

    /// Nothing is recovered of any subscription: each tells a gap when it is back.
    pub(crate) fn lose_positions(&mut self) {
        self.places.values_mut().for_each(|place| place.position = None);
    }

    /// A page of the history is there; `false` if it ends before the own position, and so is of another numbering.
    /// Under another epoch the numbering has gone on.
    pub(crate) fn takes_page(&mut self, channel: &str, end: Position) -> bool {
        let Some(place) = self.places.get_mut(channel) else { return true };
        let Some(position) = &mut place.position else { return true };
        place.is_doubtful &= end.offset < position.offset;
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
        self.places.get(channel).is_some_and(|place| place.catching)
    }

    /// The history gives a message. Where it is the one that comes live next, what comes has to be the same.
    pub(crate) fn expects(&mut self, channel: &str, offset: Option<u64>, mark: impl FnOnce() -> String) {
        let place = self.places.get_mut(channel);
        let is_next = |place: &&mut Place| place.arrived.unwrap_or(0).checked_add(1) == offset;
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
            (place.catching, place.is_doubtful) = (false, false);
        }
    }
}

#[cfg(test)]
mod tests;
