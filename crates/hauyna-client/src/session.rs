//! What survives a socket: the token, the subscriptions and where each stands. It decides what is a duplicate, what a gap,
//! and what a recovery proves. Pure; the task feeds it with what was received.

use crate::gap::{Gap, GapReason};
use hauyna_protocol::received::{Resume, Subscribed};
use hauyna_protocol::{Epoch, Position};
use std::collections::BTreeMap;

/// The session of a client.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) resume: Option<Resume>,
    /// Ordered, so that a simulation can be repeated.
    places: BTreeMap<String, Place>,
}

/// One subscription.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Whether the client asked for it; else the server made it.
    pub(crate) is_wanted: bool,
    pub(crate) standing: Standing,
    pub(crate) position: Option<Position>,
    pub(crate) is_recoverable: bool,
    /// Whether the server has proved since the last connection that its memory of this channel has lived on.
    is_vouched: bool,
    /// Whether it was found to have lost its memory, and what was sent before has not been failed yet. Outlives connections.
    has_forgotten: bool,
    /// Whether it was live in this session, so that a return may have missed something.
    was_live: bool,
    /// From where history is being fetched: live messages are held back meanwhile.
    catching: bool,
}

impl Place {
    /// From where the server is to bring it up to date.
    pub(crate) fn recover(&self) -> Option<Position> {
        self.position.filter(|_| self.was_live && self.is_recoverable)
    }

    pub(crate) const fn was_live(&self) -> bool {
        self.was_live
    }
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
}

impl Session {
    pub(crate) fn place(&mut self, channel: &str) -> Option<&mut Place> {
        self.places.get_mut(channel)
    }

    /// Wants a channel, from a position that the application has kept, if any.
    pub(crate) fn want(&mut self, channel: &str, recover: Option<Position>) -> &mut Place {
        let place = self.places.entry(channel.to_owned()).or_default();
        place.is_wanted = true;
        if let Some(position) = recover.filter(|_| place.position.is_none()) {
            (place.position, place.is_recoverable, place.was_live) = (Some(position), true, true);
        }
        place
    }

    pub(crate) fn forget(&mut self, channel: &str) {
        self.places.remove(channel);
    }

    /// Where every subscription stands, for the server that resumes the session.
    pub(crate) fn positions(&self) -> Vec<(Box<str>, Position)> {
        let known = |(channel, place): (&String, &Place)| Some((channel.as_str().into(), place.recover()?));
        self.places.iter().filter_map(known).collect()
    }

    /// The connection is gone: nobody is subscribed to anything.
    pub(crate) fn lost(&mut self) {
        for place in self.places.values_mut() {
            (place.standing, place.is_vouched, place.catching) = (Standing::Absent, false, false);
        }
    }

    /// Whether the server has said that a subscription is there. What comes of a channel without is left of an earlier one.
    pub(crate) fn is_live(&self, channel: &str) -> bool {
        self.places.get(channel).is_some_and(|place| place.standing == Standing::Live)
    }

    fn live_place(&mut self, channel: &str) -> Option<&mut Place> {
        self.places.get_mut(channel).filter(|place| place.standing == Standing::Live)
    }

    /// The channels that the client has to subscribe to by itself.
    pub(crate) fn absent(&self) -> Vec<String> {
        let absent = |place: &Place| place.is_wanted && place.standing == Standing::Absent;
        self.places.iter().filter(|(_, place)| absent(place)).map(|(channel, _)| channel.clone()).collect()
    }

    /// Whether a subscription has not been answered.
    pub(crate) fn is_restoring(&self) -> bool {
        self.places.values().any(|place| place.standing == Standing::Asked && place.was_live)
    }

    /// Whether the server still remembers what was published in a channel before the loss.
    pub(crate) fn vouches(&self, channel: &str) -> bool {
        self.places.get(channel).is_some_and(|place| place.is_vouched && !place.has_forgotten)
    }

    /// What was sent before has been judged.
    pub(crate) fn judged(&mut self) {
        self.places.values_mut().for_each(|place| place.has_forgotten = false);
    }

    /// A subscription is live, by whatever way, as the server says.
    pub(crate) fn live(&mut self, entry: &Subscribed) -> Missed {
        let place = self.places.entry(entry.channel.clone()).or_default();
        let old = place.position;
        (place.standing, place.catching) = (Standing::Live, false);
        place.is_recoverable = entry.recoverable;
        place.is_vouched = same_epoch(old, entry.position);
        let returns = std::mem::replace(&mut place.was_live, true);
        place.has_forgotten |= returns && !place.is_vouched;
        if !returns || entry.recovered == Some(true) {
            if entry.recovered != Some(true) || old.is_none() {
                place.position = entry.position;
            }
            return Missed::Nothing;
        }
        let reason = match (entry.recovered, &entry.reason) {
            (Some(_), reason) => GapReason::of(reason.as_deref().unwrap_or_default()),
            (None, _) if !entry.recoverable => GapReason::NotRecoverable,
            (None, _) if place.is_vouched => {
                let behind = old.zip(entry.position).is_some_and(|(old, now)| old.offset < now.offset);
                place.catching = behind;
                return if behind { Missed::InHistory } else { Missed::Nothing };
            }
            (None, _) => GapReason::EpochChanged,
        };
        place.position = entry.position;
        let channel = entry.channel.clone();
        Missed::Gap(Gap { channel, reason, from: old, to: entry.position, missed: None })
    }

    /// Judges a message of a channel, and remembers it.
    pub(crate) fn admit(&mut self, channel: &str, offset: Option<u64>) -> Verdict {
        let Some(place) = self.live_place(channel) else { return Verdict::Stray };
        let Some(offset) = offset else { return Verdict::Deliver };
        match &mut place.position {
            Some(position) if offset <= position.offset => Verdict::Drop,
            Some(_) if place.catching => Verdict::Hold,
            Some(position) => {
                position.offset = offset;
                Verdict::Deliver
            }
            None => Verdict::Deliver,
        }
    }

    /// The server dropped messages; without a position only such as have no offset.
    pub(crate) fn gap(&mut self, channel: &str, before: Option<Position>, missed: u64) -> Missed {
        let Some(place) = self.live_place(channel) else { return Missed::Nothing };
        let Some(before) = before else { return Missed::Nothing };
        if !place.is_recoverable || before.epoch == Epoch::UNKNOWN {
            return Missed::Gap(Gap {
                channel: channel.to_owned(),
                reason: GapReason::Dropped,
                from: place.position,
                to: None,
                missed: Some(missed),
            });
        }
        let own = place.position.filter(|own| same_epoch(Some(*own), Some(before)));
        (place.position, place.catching) = (Some(own.unwrap_or(before)), true);
        Missed::InHistory
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
            place.catching = false;
        }
    }
}

/// Two positions in the same life of a stream. What no server of ours wrote is the same as nothing.
fn same_epoch(one: Option<Position>, other: Option<Position>) -> bool {
    let known = |position: Option<Position>| position.map(|at| at.epoch).filter(|at| *at != Epoch::UNKNOWN);
    known(one).is_some_and(|epoch| known(other) == Some(epoch))
}

#[cfg(test)]
mod tests;
