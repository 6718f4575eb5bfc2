//! The session of a lost connection in the reference, until its client is back or the session ends.

use super::{Device, Holder, PLAIN, REPLAYED, Reference, kept_of};
use hauyna::connection::ConnectionState::{self, Connected, Custom};
use hauyna::json;
use serde_json::Value;
use std::collections::BTreeMap;

/// A session that waits for its client.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) user: &'static str,
    pub(crate) tracked: bool,
    state: ConnectionState,
    channels: BTreeMap<&'static str, Value>,
    line: u64,
    /// When the session ends, in the time of the model.
    pub(crate) ends: u64,
    /// Its position in the order of eviction.
    order: u64,
}

/// What a client says about its position in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    OtherEpoch,
    After(u64),
}

impl Reference {
    pub(crate) fn waiting_of(&self, user: &str) -> impl Iterator<Item = &Waiting> {
        self.waiting.values().filter(move |waiting| waiting.user == user)
    }

    /// Records a lost connection. Returns the number of its session.
    pub(crate) fn lose(&mut self, device: u64, ends: u64) -> u64 {
        let Device { user, number, line, state, tracked, channels, .. } =
            self.devices.remove(&device).expect("invariant: the caller checked that it exists");
        self.closed += 1;
        for channel in channels.keys().filter(|channel| **channel != PLAIN) {
            self.change_owner(channel, user, (Holder::Device(device), Holder::Session(number)));
        }
        let state = if matches!(state, Custom(_)) { state } else { Connected };
        let waiting = Waiting { user, tracked, state, channels, line, ends, order: 0 };
        self.put(number, waiting);
        number
    }

    fn put(&mut self, session: u64, waiting: Waiting) {
        self.losses += 1;
        self.waiting.insert(session, Waiting { order: self.losses, ..waiting });
        while self.waiting.len() > self.most {
            let oldest = self.waiting.iter().min_by_key(|(_, waiting)| waiting.order);
            let oldest = *oldest.expect("invariant: a session waits").0;
            self.evicted += 1;
            self.end_session(oldest);
        }
    }

    /// Ends the sessions whose clients did not reconnect in time.
    pub(crate) fn pass(&mut self, now: u64) {
        let mut due: Vec<_> = self.waiting.iter().filter(|(_, waiting)| waiting.ends <= now).collect();
        due.sort_by_key(|(_, waiting)| waiting.ends);
        for session in due.into_iter().map(|(session, _)| *session).collect::<Vec<_>>() {
            self.end_session(session);
        }
    }

    pub(crate) fn end_session(&mut self, session: u64) {
        let Waiting { user, channels, .. } =
            self.waiting.remove(&session).expect("invariant: the session waits");
        self.ended += 1;
        for channel in channels.keys().filter(|channel| **channel != PLAIN) {
            self.leave(Holder::Session(session), user, channel);
        }
        for (channel, metadata) in channels {
            self.announce("subscription_removed", channel, (user, &metadata));
        }
        self.note_offline(user);
        self.settle(user);
    }

    /// Records that a new connection claims the session and has not sent positions.
    pub(crate) fn claim(&mut self, device: u64, session: u64) -> Waiting {
        let waiting = self.waiting.remove(&session).expect("invariant: the session waits");
        self.open(device, waiting.user);
        waiting
    }

    /// Records that the claiming connection is lost before it sent positions.
    pub(crate) fn release_claim(&mut self, device: u64, (session, waiting): (u64, Waiting)) {
        self.devices.remove(&device).expect("invariant: the caller checked that it exists");
        self.closed += 1;
        self.put(session, waiting);
    }

    /// Records that the session ends before its client sent positions, whose connection is closed.
    pub(crate) fn end_claimed(&mut self, device: u64, (session, waiting): (u64, Waiting)) {
        self.devices.remove(&device).expect("invariant: the caller checked that it exists");
        self.closed += 1;
        self.waiting.insert(session, waiting);
        self.end_session(session);
    }

    /// Ends a subscription of a waiting session, as the application does. Returns whether there was one.
    pub(crate) fn cut(&mut self, session: u64, channel: &'static str) -> bool {
        let waiting = self.waiting.get_mut(&session).expect("invariant: the session waits");
        let user = waiting.user;
        let Some(metadata) = waiting.channels.remove(channel) else { return false };
        if channel != PLAIN {
            self.leave(Holder::Session(session), user, channel);
        }
        self.announce("subscription_removed", channel, (user, &metadata));
        self.settle(user);
        true
    }

    /// Resumes the session. Returns what its client must learn of each subscription.
    pub(crate) fn go_on(
        &mut self,
        device: u64,
        (session, waiting): (u64, Waiting),
        asked: &BTreeMap<String, Asked>,
    ) -> BTreeMap<&'static str, Value> {
        self.resumed += 1;
        let Waiting { user, tracked, state, channels, line, .. } = waiting;
        let own = self.devices.get_mut(&device).expect("invariant: the caller checked that it exists");
        (own.tracked, own.line) = (tracked, line);
        let mut subscriptions = BTreeMap::new();
        for (channel, metadata) in channels {
            let asked = asked.get(channel).copied().unwrap_or(Asked::Nothing);
            let (entry, replay) = self.welcome(channel, asked, line);
            subscriptions.insert(channel, entry);
            self.enter(device, channel, (&metadata, Some(session)));
            let own = self.devices.get_mut(&device).expect("invariant: the caller checked that it exists");
            own.expected.extend(replay.into_iter().map(|message| (channel.to_owned(), message)));
            self.announce("subscription_reconnected", channel, (user, &metadata));
        }
        if state != Connected {
            self.enter_state(device, state);
        }
        self.settle(user);
        subscriptions
    }

    /// Returns what a client learns of a resumed subscription, and what follows.
    fn welcome(&self, channel: &str, asked: Asked, line: u64) -> (Value, Vec<Value>) {
        let events = json!({ "cursor": 1000 });
        if kept_of(channel) == 0 {
            return (
                json!({ "channel": channel, "recoverable": false, "client_events": events }),
                Vec::new(),
            );
        }
        let top = self.top(channel);
        let mut entry = json!({ "channel": channel, "offset": top, "recoverable": true, "recovered": false,
            "client_events": events });
        let kept = self.streams.get(channel).map(|stream| &stream.kept);
        let missed = |after: u64| kept.into_iter().flatten().filter(move |kept| kept.offset > after);
        let reason = match asked {
            Asked::Nothing => "unknown_position",
            Asked::OtherEpoch => "epoch_changed",
            Asked::After(after) if (missed(after).count() as u64) < top - after => "too_old",
            Asked::After(after) if missed(after).count() > REPLAYED => "too_many",
            Asked::After(after) => {
                entry["recovered"] = true.into();
                let own = missed(after).filter(|kept| kept.left_out != Some(line));
                return (entry, own.map(|kept| kept.message.clone()).collect());
            }
        };
        entry["reason"] = reason.into();
        (entry, Vec::new())
    }
}
