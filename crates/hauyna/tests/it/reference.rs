//! A hub as simple as can be, for `model_all`: what every client must be sent, in which order, and what every
//! question to the server must give. It knows no sockets, no locks and no time. `View` is a client's own part.

mod view;

pub(crate) use view::View;

use hauyna::ConnectionState::{self, Connected, Disconnected, Error, Idle, Own, Reconnecting};
use hauyna::json;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// With a history, and without presence.
pub(crate) const PLAIN: &str = "plain";
/// With presence that is told change by change.
pub(crate) const ROOMS: [&str; 2] = ["room:a", "room:b"];
/// With presence that is gathered past one user, and only counted past [`CROWD_LISTED`].
pub(crate) const CROWD: &str = "crowd";
pub(crate) const CROWD_LISTED: usize = 3;
pub(crate) const BUSY: ConnectionState = Own("busy");

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Gone,
    /// It may come back: its presence stays.
    Lost,
}

/// A live connection.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) user: &'static str,
    pub(crate) state: ConnectionState,
    pub(crate) tracked: bool,
    pub(crate) channels: BTreeSet<&'static str>,
    /// What it must be sent: a message is behind those of the same lane.
    pub(crate) expected: VecDeque<(String, Value)>,
}

/// One connection of a user who is present in a channel; `None` is one that is lost.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) device: Option<u64>,
    pub(crate) metadata: Value,
}

#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) users: BTreeMap<&'static str, Vec<Place>>,
    pub(crate) number: u64,
}

/// What is left of a user's lost connections besides places in channels.
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
    /// The first and the last connection of users, as they came and went.
    pub(crate) online: Vec<(&'static str, bool)>,
    /// The offset of the plain channel.
    pub(crate) top: u64,
    pub(crate) closed: u64,
}

// Connections.
impl Reference {
    pub(crate) fn connect(&mut self, device: u64, user: &'static str) {
        let others = self.of(user).count();
        let lost = self.lost.entry(user).or_default();
        if others + lost.watched == 0 {
            self.online.push((user, true));
        }
        lost.watched = lost.watched.saturating_sub(1);
        let (channels, expected) = Default::default();
        self.devices.insert(device, Device { user, state: Connected, tracked: false, channels, expected });
    }

    pub(crate) fn end(&mut self, device: u64, end: End) {
        let gone = self.devices.remove(&device).expect("it is there");
        self.closed += 1;
        for channel in gone.channels {
            match (end, self.rooms.get_mut(channel)) {
                (End::Gone, Some(_)) => self.leave(device, gone.user, channel),
                (End::Lost, Some(room)) => {
                    let places = room.users.get_mut(gone.user).into_iter().flatten();
                    places.filter(|place| place.device == Some(device)).for_each(|place| place.device = None);
                }
                (_, None) => {}
            }
        }
        let lost = self.lost.entry(gone.user).or_default();
        if end == End::Lost {
            lost.tracked += usize::from(gone.tracked);
            lost.watched += 1;
        } else if lost.watched == 0 && !self.devices.values().any(|device| device.user == gone.user) {
            self.online.push((gone.user, false));
        }
        self.settle(gone.user);
    }

    pub(crate) fn of(&self, user: &str) -> impl Iterator<Item = u64> {
        self.devices.iter().filter(move |(_, device)| device.user == user).map(|(number, _)| *number)
    }

    /// A sign of life of the client.
    pub(crate) fn hear(&mut self, device: u64) {
        if self.devices[&device].state == Idle {
            self.enter_state(device, Connected);
        }
    }

    /// By the application: whether it may.
    pub(crate) fn set_state(&mut self, device: u64, to: ConnectionState) -> bool {
        let from = self.devices[&device].state;
        let allowed: &[ConnectionState] = match from {
            Connected => &[Idle, Disconnected, Error, BUSY],
            Idle => &[Connected, Disconnected, Error],
            Disconnected => &[Reconnecting, Error],
            Reconnecting => &[Connected, Disconnected, Error],
            Error => &[Reconnecting, Disconnected],
            Own(_) => &[Connected],
        };
        if from != to && allowed.contains(&to) {
            self.enter_state(device, to);
        }
        from == to || allowed.contains(&to)
    }

    fn enter_state(&mut self, device: u64, state: ConnectionState) {
        let own = self.devices.get_mut(&device).expect("it is there");
        own.state = state;
        let told = json!({ "type": "connection_state", "user": own.user, "state": state.name() });
        own.expected.push_back(("state".to_owned(), told));
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
        let mut message = json!({ "type": "message", "channel": channel, "content": content });
        if let Some(user) = user {
            message["user"] = user.into();
        }
        if channel == PLAIN {
            self.top += 1;
            message["offset"] = self.top.into();
        }
        self.send(|device| device.channels.contains(channel), channel, &message);
    }

    pub(crate) fn private(&mut self, from: Option<&str>, to: &str, content: u64) {
        let mut message = json!({ "type": "private", "message": content });
        if let Some(from) = from {
            message["from"] = from.into();
        }
        self.send(|device| device.user == to, "private", &message);
    }

    /// Whether the sender may.
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

    /// Whether that changed anything.
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
            || self.lost.get(user).is_some_and(|lost| lost.tracked > 0)
            || self.rooms.values().any(|room| room.users.contains_key(user))
    }

    pub(crate) fn profile(&self, user: &str) -> Map<String, Value> {
        self.profiles.get(user).cloned().unwrap_or_default()
    }

    pub(crate) fn status(&self, user: &str) -> String {
        self.profile(user).get("status").and_then(Value::as_str).unwrap_or("online").to_owned()
    }

    /// Whoever is not present has told nothing, and a channel without anybody has no numbers.
    fn settle(&mut self, user: &'static str) {
        if !self.is_present(user) {
            self.profiles.remove(user);
        }
        self.rooms.retain(|_, room| !room.users.is_empty());
    }

    fn tell(&mut self, event: &str, user: &str, channel: &'static str, except: Option<u64>) {
        let room = self.rooms.get_mut(channel).expect("it is there");
        room.number += 1;
        if channel == CROWD {
            return;
        }
        let connections = room.users.get(user).map_or(0, Vec::len);
        let number = room.number;
        let message = json!({ "type": "presence_change", "event": event, "user": user, "channel": channel,
            "metadata": self.profile(user), "status": self.status(user), "connections": connections,
            "offset": number });
        let others = self.devices.iter_mut().filter(|(number, _)| except != Some(**number));
        for (_, device) in others.filter(|(_, device)| device.channels.contains(channel)) {
            device.expected.push_back((channel.to_owned(), message.clone()));
        }
    }

    /// Whether it was not subscribed before.
    pub(crate) fn subscribe(&mut self, device: u64, channel: &'static str, metadata: &Value) -> bool {
        let own = self.devices.get_mut(&device).expect("it is there");
        if !own.channels.insert(channel) {
            return false;
        }
        if channel == PLAIN {
            return true;
        }
        let user = own.user;
        let metadata = if metadata.is_null() { json!({}) } else { metadata.clone() };
        let places = self.rooms.entry(channel).or_default().users.entry(user).or_default();
        let is_same = |place: &&mut Place| place.device.is_none() && place.metadata == metadata;
        if let Some(same) = places.iter_mut().find(is_same) {
            same.device = Some(device);
        } else if let Some(lost) = places.iter_mut().find(|place| place.device.is_none()) {
            *lost = Place { device: Some(device), metadata };
            self.tell("update", user, channel, Some(device));
        } else {
            places.push(Place { device: Some(device), metadata });
            let event = if places.len() == 1 { "join" } else { "update" };
            self.tell(event, user, channel, Some(device));
        }
        if channel != CROWD {
            let state = self.list(channel).expect("somebody is there");
            let own = self.devices.get_mut(&device).expect("it is there");
            own.expected.push_back((channel.to_owned(), state));
        }
        true
    }

    /// Everybody who is present in a channel, as a `presence_state`.
    pub(crate) fn list(&self, channel: &str) -> Option<Value> {
        let room = self.rooms.get(channel)?;
        let entry = |(user, places): (&&'static str, &Vec<Place>)| {
            let mut metadata: Vec<_> = places.iter().map(|place| place.metadata.to_string()).collect();
            metadata.sort();
            let entry = json!({ "status": self.status(user), "metadata": self.profile(user),
                "connections": metadata });
            ((*user).to_owned(), entry)
        };
        let users: Map<String, Value> = room.users.iter().map(entry).collect();
        let count = users.len();
        Some(json!({ "type": "presence_state", "channel": channel, "count": count, "users": users,
            "offset": room.number }))
    }

    /// Whether it was subscribed.
    pub(crate) fn unsubscribe(&mut self, device: u64, channel: &'static str) -> bool {
        let own = self.devices.get_mut(&device).expect("it is there");
        let (was_there, user) = (own.channels.remove(channel), own.user);
        if was_there && channel != PLAIN {
            self.leave(device, user, channel);
            self.settle(user);
        }
        was_there
    }

    fn leave(&mut self, device: u64, user: &'static str, channel: &'static str) {
        let users = &mut self.rooms.get_mut(channel).expect("it is there").users;
        let places = users.get_mut(user).expect("it is there");
        places.retain(|place| place.device != Some(device));
        let event = if places.is_empty() { "leave" } else { "update" };
        users.retain(|_, places| !places.is_empty());
        self.tell(event, user, channel, Some(device));
    }

    /// Whether the user is present.
    pub(crate) fn update(&mut self, user: &'static str, fields: &Value) -> bool {
        if !self.is_present(user) {
            return false;
        }
        let mut profile = self.profile(user);
        profile.extend(fields.as_object().expect("an object").clone());
        if profile != self.profile(user) {
            self.profiles.insert(user, profile);
            let channels: Vec<_> =
                self.rooms.iter().filter(|(_, room)| room.users.contains_key(user)).collect();
            for channel in channels.into_iter().map(|(channel, _)| *channel).collect::<Vec<_>>() {
                self.tell("update", user, channel, None);
            }
        }
        true
    }

    pub(crate) fn track(&mut self, device: u64, fields: &Value) {
        let own = self.devices.get_mut(&device).expect("it is there");
        let (was_tracked, user) = (std::mem::replace(&mut own.tracked, true), own.user);
        if !was_tracked {
            let lost = self.lost.entry(user).or_default();
            lost.tracked = lost.tracked.saturating_sub(1);
        }
        self.update(user, fields);
    }

    pub(crate) fn untrack(&mut self, device: u64) {
        let own = self.devices.get_mut(&device).expect("it is there");
        own.tracked = false;
        let user = own.user;
        self.settle(user);
    }

    /// The users of whom something lost is still kept.
    pub(crate) fn missed(&self) -> Option<(&'static str, Vec<&'static str>)> {
        let is_missed = |room: &Room, user: &str| {
            room.users.get(user).is_some_and(|places| places.iter().any(|place| place.device.is_none()))
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

    /// Channels and subscriptions, as the hub counts them.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let mut channels: BTreeSet<_> = self.devices.values().flat_map(|device| &device.channels).collect();
        channels.extend(self.rooms.keys());
        let own: usize = self.devices.values().map(|device| device.channels.len()).sum();
        let (groups, members) = self.members_connected();
        (channels.len() + groups, (own + members) as u64)
    }

    pub(crate) fn in_state(&self, state: ConnectionState) -> BTreeSet<u64> {
        let devices = self.devices.iter().filter(|(_, device)| device.state == state);
        devices.map(|(number, _)| *number).collect()
    }

    /// Everybody present whom a question asks for.
    pub(crate) fn users(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let present = super::model_all::USERS.iter().filter(|user| self.is_present(user) && wanted(user));
        present.map(|user| (*user).to_owned()).collect()
    }
}

/// The message without what the reference does not know.
pub(crate) fn told(mut message: Value) -> Value {
    let is_plain = message["channel"] == PLAIN;
    let fields = message.as_object_mut().unwrap();
    fields.remove("timestamp");
    match fields["type"].as_str().unwrap() {
        "message" if !is_plain => {
            fields.remove("offset");
        }
        "presence_state" => fields["users"] = summed(&fields["users"]),
        _ => {}
    }
    message
}

/// Entries with the metadata of their connections in order, and nothing else of these.
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
