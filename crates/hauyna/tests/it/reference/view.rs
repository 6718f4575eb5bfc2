//! The view of one client: which users are present in a channel, by the messages that it received.

use super::{CROWD, CROWD_LISTED, Reference};
use serde_json::Value;
use std::collections::BTreeMap;

/// The members of one channel, as a client that follows the protocol knows them.
#[derive(Debug, Default)]
pub(crate) struct View {
    offset: u64,
    count: u64,
    /// Status, metadata and number of connections by user; none while users are only counted.
    users: Option<BTreeMap<String, (Value, Value, u64)>>,
}

impl View {
    pub(crate) fn apply(&mut self, message: &Value) {
        let kind = message["type"].as_str().unwrap();
        if kind == "occupancy" {
            self.count = message["count"].as_u64().unwrap();
            self.users = None;
            return;
        }
        let offset = message["offset"].as_u64().unwrap();
        if offset <= self.offset && self.users.is_some() {
            return;
        }
        self.offset = offset;
        if kind == "presence_state" {
            self.users = Some(entries(&message["users"]));
        } else {
            let users = self.users.as_mut().unwrap_or_else(|| panic!("change without a list: {message}"));
            match (kind, message["event"].as_str()) {
                ("presence_change", Some("leave")) => {
                    users.remove(message["user"].as_str().unwrap());
                }
                ("presence_change", _) => {
                    let entry = (message["status"].clone(), message["metadata"].clone());
                    let connections = message["connections"].as_u64().unwrap();
                    users.insert(
                        message["user"].as_str().unwrap().to_owned(),
                        (entry.0, entry.1, connections),
                    );
                }
                _ => {
                    users.extend(entries(&message["joins"]));
                    users.extend(entries(&message["updates"]));
                    for user in message["leaves"].as_array().unwrap() {
                        users.remove(user.as_str().unwrap());
                    }
                    assert_eq!(message["count"], users.len(), "{message} leads to {users:?}");
                }
            }
        }
        self.count = self.users.as_ref().map_or(0, |users| users.len() as u64);
    }

    /// Whether it matches the reference.
    pub(crate) fn is_of(&self, model: &Reference, channel: &str) -> bool {
        let Some(room) = model.rooms.get(channel) else { return false };
        let users = room.users.iter().map(|(user, places)| {
            let entry = (model.status(user).into(), model.profile_of(user).into(), places.len() as u64);
            ((*user).to_owned(), entry)
        });
        match &self.users {
            Some(known) => *known == users.collect() && (channel != CROWD || known.len() <= CROWD_LISTED),
            None => self.count == room.users.len() as u64,
        }
    }
}

fn entries(users: &Value) -> BTreeMap<String, (Value, Value, u64)> {
    let entry = |(user, entry): (&String, &Value)| {
        let connections = entry["connections"].as_array().unwrap().len() as u64;
        (user.clone(), (entry["status"].clone(), entry["metadata"].clone(), connections))
    };
    users.as_object().unwrap().iter().map(entry).collect()
}
