//! A minimal hub for `model_all`: what every client must receive, in which order, and the result of every
//! query. It has no sockets, locks or time. `View` is the part of one client.

mod beside;
mod sessions;
mod view;

pub(crate) use beside::lane_of_events;
pub(crate) use sessions::{Asked, Waiting};
pub(crate) use view::View;

use hauyna::connection::ConnectionState::{self, Connected, Disconnected, Error, Idle, Reconnecting};
use hauyna::json;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A channel with history, and without presence.
pub(crate) const PLAIN: &str = "plain";
/// Channels whose presence is sent change by change.
pub(crate) const ROOMS: [&str; 2] = ["room:a", "room:b"];
/// A channel whose presence is sent as diffs above one user, and only counted above [`CROWD_LISTED`].
pub(crate) const CROWD: &str = "crowd";
pub(crate) const CROWD_LISTED: usize = 3;
pub(crate) const BUSY: ConnectionState = ConnectionState::custom("busy");

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Gone,
    /// It did not reconnect within the grace time, which the sequence waited for.
    Late,
    /// It may reconnect without a session: its presence stays.
    Lost,
}

/// A live connection.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) user: &'static str,
    /// Number of connections opened before it.
    pub(crate) number: u64,
    /// Number of the connection with which its session began.
    pub(crate) line: u64,
    pub(crate) state: ConnectionState,
    pub(crate) tracked: bool,
    /// Channels with the metadata of the subscriptions.
    pub(crate) channels: BTreeMap<&'static str, Value>,
    /// Messages that it must receive; the order is that of each lane.
    pub(crate) expected: VecDeque<(String, Value)>,
}

/// The owner of a place in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Device(u64),
    /// A lost connection with a session.
    Session(u64),
    /// A lost connection without a session: the next connection of the user may take the place.
    Nobody,
}

/// One connection of a user who is present in a channel.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) holder: Holder,
    pub(crate) metadata: Value,
}

/// The publications of a channel.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) top: u64,
    pub(crate) kept: VecDeque<Kept>,
}

/// A past publication.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) offset: u64,
    /// The session that is excluded from it.
    pub(crate) left_out: Option<u64>,
    pub(crate) message: Value,
}

#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) users: BTreeMap<&'static str, Vec<Place>>,
    pub(crate) number: u64,
}

/// State of a user's lost connections without a session, except places in channels.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    pub(crate) tracked: usize,
    pub(crate) watched: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Reference {
    pub(crate) devices: BTreeMap<u64, Device>,
    pub(crate) rooms: BTreeMap<&'static str, Room>,
    pub(crate) profiles: BTreeMap<&'static str, Map<String, Value>>,
    pub(crate) lost: BTreeMap<&'static str, Lost>,
    pub(crate) groups: BTreeMap<&'static str, BTreeMap<&'static str, Option<&'static str>>>,
    /// The first and last connections of users, in order.
    pub(crate) online: Vec<(&'static str, bool)>,
    pub(crate) streams: BTreeMap<&'static str, Stream>,
    /// Whether the plain channel and the rooms announce joins and leaves.
    pub(crate) announces: bool,
    /// The sessions of lost connections.
    pub(crate) waiting: BTreeMap<u64, Waiting>,
    /// Maximum number of waiting sessions.
    pub(crate) most: usize,
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    /// Sessions that waited, that were resumed, that ended, and that were evicted.
    pub(crate) losses: u64,
    pub(crate) resumed: u64,
    pub(crate) ended: u64,
    pub(crate) evicted: u64,
}

// Connections.
impl Reference {
    pub(crate) fn connect(&mut self, device: u64, user: &'static str) {
        let others = self.of(user).count() + self.waiting_of(user).count();
        let lost = self.lost.entry(user).or_default();
        if others + lost.watched == 0 {
            self.online.push((user, true));
        }
        lost.watched = lost.watched.saturating_sub(1);
        self.open(device, user);
    }

    fn open(&mut self, device: u64, user: &'static str) {
        let (number, channels, expected) = (self.opened, BTreeMap::new(), VecDeque::new());
        self.opened += 1;
        let line = number;
        let opened = Device { user, number, line, state: Connected, tracked: false, channels, expected };
        assert!(self.devices.insert(device, opened).is_none());
    }

    pub(crate) fn end(&mut self, device: u64, end: End) {
        let gone = self.devices.remove(&device).expect("invariant: the caller checked that it exists");
        self.closed += 1;
        for (channel, metadata) in gone.channels {
            let (is_present, holder) = (channel != PLAIN, Holder::Device(device));
            if is_present && end == End::Gone {
                self.leave(holder, gone.user, channel);
            }
            self.announce("subscription_removed", channel, (gone.user, &metadata));
            match end {
                End::Late if is_present => self.leave(holder, gone.user, channel),
                End::Lost if is_present => self.change_owner(channel, gone.user, (holder, Holder::Nobody)),
                _ => {}
            }
        }
        let lost = self.lost.entry(gone.user).or_default();
        if end == End::Lost {
            lost.tracked += usize::from(gone.tracked);
            lost.watched += 1;
        } else {
            self.note_offline(gone.user);
        }
        self.settle(gone.user);
    }

    /// Records that a connection of the user has ended permanently; it may have been the last.
    fn note_offline(&mut self, user: &'static str) {
        let lost = self.lost.get(user).map_or(0, |lost| lost.watched);
        if lost + self.of(user).count() + self.waiting_of(user).count() == 0 {
            self.online.push((user, false));
        }
    }

    /// Gives a place in a channel to another owner, without a message.
    fn change_owner(&mut self, channel: &str, user: &str, (from, to): (Holder, Holder)) {
        let room = self.rooms.get_mut(channel).expect("invariant: the caller checked that it exists");
        let places = room.users.get_mut(user).into_iter().flatten();
        places.filter(|place| place.holder == from).for_each(|place| place.holder = to);
    }

    pub(crate) fn of(&self, user: &str) -> impl Iterator<Item = u64> {
        self.devices.iter().filter(move |(_, device)| device.user == user).map(|(number, _)| *number)
    }

    /// Records a sign of life of the client.
    pub(crate) fn hear(&mut self, device: u64) {
        if self.devices[&device].state == Idle {
            self.enter_state(device, Connected);
        }
    }

    /// Sets a state as the application does. Returns whether that is allowed.
    pub(crate) fn set_state(&mut self, device: u64, to: ConnectionState) -> bool {
        let from = self.devices[&device].state;
        let allowed: &[ConnectionState] = match from {
            Connected => &[Idle, Disconnected, Error, BUSY],
            Idle => &[Connected, Disconnected, Error],
            Disconnected => &[Reconnecting, Error],
            Reconnecting => &[Connected, Disconnected, Error],
            Error => &[Reconnecting, Disconnected],
            _ => &[Connected], // BUSY
        };
        if from != to && allowed.contains(&to) {
            self.enter_state(device, to);
        }
        from == to || allowed.contains(&to)
    }

    fn enter_state(&mut self, device: u64, state: ConnectionState) {
        let own = self.devices.get_mut(&device).expect("invariant: the caller checked that it exists");
        own.state = state;
        let known_part = json!({ "type": "connection_state", "user": own.user, "state": state.name() });
        own.expected.push_back(("state".to_owned(), known_part));
    }
}

// What is sent.
impl Reference {
    fn send(&mut self, receivers: impl Fn(&Device) -> bool, lane: &str, message: &Value) {
        for device in self.devices.values_mut().filter(|device| receivers(device)) {
            device.expected.push_back((lane.to_owned(), message.clone()));
        }
    }

    pub(crate) fn publish(&mut self, channel: &'static str, user: Option<&str>, content: u64) {
        self.publish_without(None, channel, (user, content));
    }

    /// Publishes with `echo: false`.
    pub(crate) fn publish_silently(&mut self, device: u64, channel: &'static str, content: u64) {
        let own = &self.devices[&device];
        self.publish_without(Some(own.line), channel, (Some(own.user), content));
    }

    fn publish_without(
        &mut self,
        left_out: Option<u64>,
        channel: &'static str,
        (user, content): (Option<&str>, u64),
    ) {
        let mut message = json!({ "type": "message", "channel": channel, "content": content });
        if let Some(user) = user {
            message["user"] = user.into();
        }
        let stream = self.streams.entry(channel).or_default();
        stream.top += 1;
        if channel == PLAIN {
            message["offset"] = stream.top.into();
        }
        stream.kept.push_back(Kept { offset: stream.top, left_out, message: message.clone() });
        while stream.kept.len() > kept_of(channel) {
            stream.kept.pop_front();
        }
        let is_for = |device: &Device| device.channels.contains_key(channel) && left_out != Some(device.line);
        self.send(is_for, channel, &message);
    }

    pub(crate) fn top(&self, channel: &str) -> u64 {
        self.streams.get(channel).map_or(0, |stream| stream.top)
    }

    /// Announces a subscriber to the other subscribers of a channel that does so.
    fn announce(&mut self, event: &str, channel: &'static str, (user, metadata): (&str, &Value)) {
        if self.announces && channel != CROWD {
            let message = json!({ "type": "channel_event", "event": event, "channel": channel, "user": user,
                "metadata": metadata });
            self.send(|device| device.channels.contains_key(channel), channel, &message);
        }
    }

    pub(crate) fn private(&mut self, from: Option<&str>, to: &str, content: u64) {
        let mut message = json!({ "type": "private", "message": content });
        if let Some(from) = from {
            message["from"] = from.into();
        }
        self.send(|device| device.user == to, "private", &message);
    }

    /// Sends to a group. Returns whether the sender may.
    pub(crate) fn group(&mut self, from: Option<&str>, group: &'static str, content: u64) -> bool {
        let members = self.groups.entry(group).or_default().clone();
        let mut message = json!({ "type": "group", "room": group, "message": content });
        if let Some(from) = from {
            if members.get(from) != Some(&Some("speaker")) {
                return false;
            }
            message["from"] = from.into();
        }
        self.send(|device| members.contains_key(device.user), group, &message);
        true
    }

    /// Adds a user to a group. Returns whether that changed anything.
    pub(crate) fn add(
        &mut self,
        user: &'static str,
        group: &'static str,
        role: Option<&'static str>,
    ) -> bool {
        let members = self.groups.entry(group).or_default();
        let old = members.get(user).copied();
        if old.is_none() || role.is_some() {
            members.insert(user, role);
        }
        members.get(user).copied() != old
    }
}

// Presence.
impl Reference {
    pub(crate) fn is_present(&self, user: &str) -> bool {
        self.devices.values().any(|device| device.user == user && device.tracked)
            || self.waiting_of(user).any(|waiting| waiting.tracked)
            || self.lost.get(user).is_some_and(|lost| lost.tracked > 0)
            || self.rooms.values().any(|room| room.users.contains_key(user))
    }

    pub(crate) fn profile(&self, user: &str) -> Map<String, Value> {
        self.profiles.get(user).cloned().unwrap_or_default()
    }

    /// Returns the profile as others see it.
    pub(crate) fn profile_of(&self, user: &str) -> Map<String, Value> {
        let mut profile = self.profile(user);
        profile.entry("status").or_insert("online".into());
        profile
    }

    pub(crate) fn status(&self, user: &str) -> String {
        self.profile(user).get("status").and_then(Value::as_str).unwrap_or("online").to_owned()
    }

    /// Forgets what an absent user said, and the numbers of an empty channel.
    fn settle(&mut self, user: &'static str) {
        if !self.is_present(user) {
            self.profiles.remove(user);
        }
        self.rooms.retain(|_, room| !room.users.is_empty());
    }

    fn tell(
        &mut self,
        event: &str,
        user: &str,
        channel: &'static str,
        (about, except): (Option<u64>, Option<u64>),
    ) {
        let room = self.rooms.get_mut(channel).expect("invariant: the caller checked that it exists");
        room.number += 1;
        if channel == CROWD {
            return;
        }
        let connections = room.users.get(user).map_or(0, Vec::len);
        let number = room.number;
        let mut message = json!({ "type": "presence_change", "event": event, "user": user, "channel": channel,
            "metadata": self.profile_of(user), "status": self.status(user), "connections": connections,
            "offset": number });
        // A new connection does not get its own join; one that changes something gets its own change.
        if let Some(own) = about.and_then(|device| self.devices.get(&device)?.channels.get(channel)) {
            message["connection"] = if own.is_null() { json!({}) } else { own.clone() };
        }
        let others = self.devices.iter_mut().filter(|(number, _)| except != Some(**number));
        for (_, device) in others.filter(|(_, device)| device.channels.contains_key(channel)) {
            device.expected.push_back((channel.to_owned(), message.clone()));
        }
    }

    /// Subscribes. Returns whether it was not subscribed before.
    pub(crate) fn subscribe(&mut self, device: u64, channel: &'static str, metadata: &Value) -> bool {
        let own = self.devices.get_mut(&device).expect("invariant: the caller checked that it exists");
        if own.channels.contains_key(channel) {
            return false;
        }
        let metadata = if metadata.is_null() { json!({}) } else { metadata.clone() };
        let user = own.user;
        self.enter(device, channel, (&metadata, None));
        self.announce("subscription_added", channel, (user, &metadata));
        true
    }

    /// Subscribes in the place that its session kept, if any.
    fn enter(&mut self, device: u64, channel: &'static str, (metadata, session): (&Value, Option<u64>)) {
        let own = self.devices.get_mut(&device).expect("invariant: the caller checked that it exists");
        own.channels.insert(channel, metadata.clone());
        if channel == PLAIN {
            return;
        }
        let (user, holder) = (own.user, Holder::Device(device));
        let places = self.rooms.entry(channel).or_default().users.entry(user).or_default();
        let is_own = |place: &&mut Place| session.is_some_and(|own| place.holder == Holder::Session(own));
        let is_free = |place: &&mut Place| place.holder == Holder::Nobody;
        let is_same = |place: &&mut Place| is_free(place) && place.metadata == *metadata;
        if let Some(own) = places.iter_mut().find(is_own) {
            own.holder = holder;
        } else if let Some(same) = places.iter_mut().find(is_same) {
            same.holder = holder;
        } else if let Some(lost) = places.iter_mut().find(is_free) {
            *lost = Place { holder, metadata: metadata.clone() };
            self.tell("update", user, channel, (Some(device), Some(device)));
        } else {
            places.push(Place { holder, metadata: metadata.clone() });
            let event = if places.len() == 1 { "join" } else { "update" };
            self.tell(event, user, channel, (Some(device), Some(device)));
        }
        if channel != CROWD {
            let state = self.list(channel).expect("invariant: the channel has a member");
            let own = self.devices.get_mut(&device).expect("invariant: the caller checked that it exists");
            own.expected.push_back((channel.to_owned(), state));
        }
    }

    /// Returns all present users of a channel, as a `presence_state`.
    pub(crate) fn list(&self, channel: &str) -> Option<Value> {
        let room = self.rooms.get(channel)?;
        let entry = |(user, places): (&&'static str, &Vec<Place>)| {
            let mut metadata: Vec<_> = places.iter().map(|place| place.metadata.to_string()).collect();
            metadata.sort();
            let entry = json!({ "status": self.status(user), "metadata": self.profile_of(user),
                "connections": metadata });
            ((*user).to_owned(), entry)
        };
        let users: Map<String, Value> = room.users.iter().map(entry).collect();
        let count = users.len();
        Some(json!({ "type": "presence_state", "channel": channel, "count": count, "users": users,
            "offset": room.number }))
    }

    /// Unsubscribes. Returns whether it was subscribed.
    pub(crate) fn unsubscribe(&mut self, device: u64, channel: &'static str) -> bool {
        let own = self.devices.get_mut(&device).expect("invariant: the caller checked that it exists");
        let (left, user) = (own.channels.remove(channel), own.user);
        let Some(metadata) = left else { return false };
        if channel != PLAIN {
            self.leave(Holder::Device(device), user, channel);
            self.settle(user);
        }
        self.announce("subscription_removed", channel, (user, &metadata));
        true
    }

    fn leave(&mut self, holder: Holder, user: &'static str, channel: &'static str) {
        let users =
            &mut self.rooms.get_mut(channel).expect("invariant: the caller checked that it exists").users;
        let places = users.get_mut(user).expect("invariant: the caller checked that it exists");
        places.retain(|place| place.holder != holder);
        let event = if places.is_empty() { "leave" } else { "update" };
        users.retain(|_, places| !places.is_empty());
        self.tell(event, user, channel, (None, None));
    }

    /// Updates a user. Returns whether the user is present.
    pub(crate) fn update(&mut self, user: &'static str, fields: &Value) -> bool {
        if !self.is_present(user) {
            return false;
        }
        let mut profile = self.profile(user);
        profile.extend(fields.as_object().expect("the fields are an object").clone());
        if profile != self.profile(user) {
            self.profiles.insert(user, profile);
            let channels: Vec<_> =
                self.rooms.iter().filter(|(_, room)| room.users.contains_key(user)).collect();
            for channel in channels.into_iter().map(|(channel, _)| *channel).collect::<Vec<_>>() {
                self.tell("update", user, channel, (None, None));
            }
        }
        true
    }

    pub(crate) fn track(&mut self, device: u64, fields: &Value) {
        let own = self.devices.get_mut(&device).expect("invariant: the caller checked that it exists");
        let (was_tracked, user) = (std::mem::replace(&mut own.tracked, true), own.user);
        if !was_tracked {
            let lost = self.lost.entry(user).or_default();
            lost.tracked = lost.tracked.saturating_sub(1);
        }
        self.update(user, fields);
    }

    pub(crate) fn untrack(&mut self, device: u64) {
        let own = self.devices.get_mut(&device).expect("invariant: the caller checked that it exists");
        own.tracked = false;
        let user = own.user;
        self.settle(user);
    }

    /// Returns the users who have lost connections without a session.
    pub(crate) fn missed(&self) -> Option<(&'static str, Vec<&'static str>)> {
        let is_missed = |room: &Room, user: &str| {
            room.users
                .get(user)
                .is_some_and(|places| places.iter().any(|place| place.holder == Holder::Nobody))
        };
        self.lost.iter().find_map(|(user, lost)| {
            let rooms = self.rooms.iter().filter(|(_, room)| is_missed(room, user)).map(|(name, _)| *name);
            let rooms: Vec<_> = rooms.collect();
            (lost.tracked + lost.watched + rooms.len() > 0).then_some((*user, rooms))
        })
    }
}

// Counts.
impl Reference {
    pub(crate) fn members_connected(&self) -> (usize, usize) {
        let connected = |members: &BTreeMap<&'static str, _>| {
            self.devices.values().filter(|device| members.contains_key(device.user)).count()
        };
        let counts: Vec<_> = self.groups.values().map(connected).collect();
        (counts.iter().filter(|count| **count > 0).count(), counts.iter().sum())
    }

    /// Returns the numbers of channels and subscriptions, as the hub counts them.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let mut channels: BTreeSet<_> =
            self.devices.values().flat_map(|device| device.channels.keys()).collect();
        channels.extend(self.rooms.keys());
        let own: usize = self.devices.values().map(|device| device.channels.len()).sum();
        let (groups, members) = self.members_connected();
        (channels.len() + groups, (own + members) as u64)
    }

    pub(crate) fn in_state(&self, state: ConnectionState) -> BTreeSet<u64> {
        let devices = self.devices.iter().filter(|(_, device)| device.state == state);
        devices.map(|(number, _)| *number).collect()
    }

    /// Returns all present users that a query matches.
    pub(crate) fn users(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let present = super::model_all::USERS.iter().filter(|user| self.is_present(user) && wanted(user));
        present.map(|user| (*user).to_owned()).collect()
    }
}

/// Returns how many publications a channel with sessions keeps.
pub(crate) fn kept_of(channel: &str) -> usize {
    match channel {
        PLAIN => 3,
        CROWD => 100,
        _ => 0,
    }
}

/// Maximum number of replayed publications.
pub(crate) const REPLAYED: usize = 2;

/// Returns the message without what the reference does not know.
pub(crate) fn known_part(mut message: Value) -> Value {
    let is_plain = message["channel"] == PLAIN;
    let fields = message.as_object_mut().unwrap();
    fields.remove("timestamp");
    match fields["type"].as_str().unwrap() {
        "message" if !is_plain => {
            fields.remove("offset");
        }
        "presence_change" if fields.contains_key("connection") => {
            fields["connection"] = fields["connection"]["metadata"].take();
        }
        "presence_state" => fields["users"] = summed(&fields["users"]),
        _ => {}
    }
    message
}

/// Returns the entries with only the sorted metadata of their connections.
pub(crate) fn summed(users: &Value) -> Value {
    let users = users.as_object().unwrap().iter().map(|(user, entry)| {
        let connections = entry["connections"].as_array().unwrap().iter();
        let mut metadata: Vec<_> = connections.map(|one| one["metadata"].to_string()).collect();
        metadata.sort();
        let status = &entry["status"];
        (user.clone(), json!({ "status": status, "metadata": entry["metadata"], "connections": metadata }))
    });
    Value::Object(users.collect())
}
