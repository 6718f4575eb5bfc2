//! The questions to presence: who, where, how many. Reads the rosters one lock at a time; what comes out is a
//! copy, as of the moment each part was looked at.

use super::entry::PresenceEntry;
use super::members::Members;
use super::people::Person;
use super::{Presence, Status};
use crate::channel::{ChannelCore, UserId};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// What a present user must be like: everything that is said must hold. Without anything, everybody is.
///
/// ```
/// use hauyna::json;
/// use hauyna::presence::{Criteria, Status};
/// let here = Criteria::new().status(Status::Online).in_channel("room:7").with("role", "admin");
/// assert_eq!(here, Criteria::from(json!({ "status": "online", "channel": "room:7", "role": "admin" })));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use]
pub struct Criteria {
    /// The values that each field must have: of several different ones no user has all.
    fields: BTreeMap<String, Vec<Value>>,
    channels: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl Criteria {
    /// No condition.
    pub fn new() -> Self {
        Self::default()
    }

    /// The status.
    pub fn status(self, status: impl Into<Status>) -> Self {
        self.with("status", status.into().as_str())
    }

    /// A field of the metadata has this value.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        let (values, value) = (self.fields.entry(field.to_owned()).or_default(), value.into());
        if !values.contains(&value) {
            values.push(value);
        }
        self
    }

    /// The user is in this channel.
    pub fn in_channel(mut self, channel: impl Into<String>) -> Self {
        self.channels.insert(channel.into());
        self
    }

    /// The user is a member of this group.
    pub fn in_group(mut self, group: impl Into<String>) -> Self {
        self.groups.insert(group.into());
        self
    }
}

/// The fields of an object; `channel` and `group` say where, where they are texts.
impl From<Value> for Criteria {
    fn from(value: Value) -> Self {
        let mut criteria = Self::new();
        let Value::Object(fields) = value else { return criteria };
        for (name, value) in fields {
            criteria = match (name.as_str(), value) {
                ("channel", Value::String(channel)) => criteria.in_channel(channel),
                ("group", Value::String(group)) => criteria.in_group(group),
                (name, value) => criteria.with(name, value),
            };
        }
        criteria
    }
}

/// How many are present, from [`Presence::stats`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct PresenceStats {
    /// Users.
    pub users: usize,
    /// Their connections.
    pub connections: usize,
    /// Users by status.
    pub statuses: BTreeMap<Status, usize>,
}

impl Presence {
    /// Whether a user is present anywhere.
    pub fn is_present(&self, user: impl AsRef<str>) -> bool {
        let user = user.as_ref();
        self.core().presence.stripe(user).get(user).is_some_and(Person::is_visible)
    }

    /// A present user.
    pub fn get(&self, user: impl AsRef<str>) -> Option<PresenceEntry> {
        let people = self.core().presence.stripe(user.as_ref());
        let (user, person) = people.get_key_value(user.as_ref()).filter(|(_, person)| person.is_visible())?;
        Some(person.entry(user))
    }

    /// Everybody present, in no order.
    pub fn list(&self) -> Vec<PresenceEntry> {
        let mut list = Vec::new();
        self.core().presence.for_each_visible(|user, person| list.push(person.entry(user)));
        list
    }

    /// How many users are present.
    pub fn count(&self) -> usize {
        let mut count = 0;
        self.core().presence.for_each_visible(|_, _| count += 1);
        count
    }

    /// How many users and connections are present, and with which status.
    pub fn stats(&self) -> PresenceStats {
        let mut stats = PresenceStats::default();
        self.core().presence.for_each_visible(|_, person| {
            stats.users += 1;
            stats.connections += person.devices.iter().filter(|device| device.is_visible()).count();
            *stats.statuses.entry(person.profile.status().into()).or_default() += 1;
        });
        stats
    }

    /// Those who meet the criteria, in no order.
    pub fn list_by(&self, criteria: &Criteria) -> Vec<PresenceEntry> {
        let mut list = Vec::new();
        self.for_each_match(criteria, |user, person| list.push(person.entry(user)));
        list
    }

    /// How many meet the criteria.
    pub fn count_by(&self, criteria: &Criteria) -> usize {
        let mut count = 0;
        self.for_each_match(criteria, |_, _| count += 1);
        count
    }

    /// Whether a user is present and meets the criteria.
    pub fn present_in(&self, user: impl AsRef<str>, criteria: &Criteria) -> bool {
        let user = user.as_ref();
        let place = self.search_scope(criteria);
        let people = self.core().presence.stripe(user);
        people
            .get_key_value(user)
            .is_some_and(|(user, person)| person.is_visible() && place.contains_user(user, person))
    }

    fn for_each_match(&self, criteria: &Criteria, mut look: impl FnMut(&UserId, &Person)) {
        let place = self.search_scope(criteria);
        self.core().presence.for_each_visible(|user, person| {
            if place.contains_user(user, person) {
                look(user, person);
            }
        });
    }

    /// Those who are present in a channel, by name: its members where the channel has
    /// [presence](crate::ChannelOptions::presence), else the present users among its subscribers.
    pub fn list_in_channel(&self, channel: impl AsRef<str>) -> Vec<PresenceEntry> {
        let Some(core) = self.core().channels.find_str(channel.as_ref()) else { return Vec::new() };
        match &core.presence {
            Some(presence) => {
                presence.members().users.iter().map(|(user, member)| Members::entry(user, member)).collect()
            }
            None => subscribers(&core).iter().filter_map(|user| self.get(user)).collect(),
        }
    }

    /// The names of those who are present in a channel, as [`list_in_channel`](Presence::list_in_channel).
    pub fn in_channel(&self, channel: impl AsRef<str>) -> Vec<UserId> {
        let Some(core) = self.core().channels.find_str(channel.as_ref()) else { return Vec::new() };
        match &core.presence {
            Some(presence) => presence.members().users.keys().cloned().collect(),
            None => subscribers(&core).into_iter().filter(|user| self.is_present(user)).collect(),
        }
    }

    /// The present members of a group, by name.
    pub fn list_in_group(&self, group: impl AsRef<str>) -> Vec<PresenceEntry> {
        self.hub.groups().members(group).into_iter().filter_map(|user| self.get(user)).collect()
    }

    /// The names of the present members of a group.
    pub fn in_group(&self, group: impl AsRef<str>) -> Vec<UserId> {
        self.hub.groups().members(group).into_iter().filter(|user| self.is_present(user)).collect()
    }
}

/// The distinct users of a channel's subscribers, by name.
fn subscribers(core: &ChannelCore) -> Vec<UserId> {
    let state = core.state.lock();
    let mut users: Vec<_> = state.subscribers.values().map(|own| own.connection.user().clone()).collect();
    drop(state);
    users.sort();
    users.dedup();
    users
}

/// Criteria with what they refer to looked up.
struct SearchScope<'a> {
    criteria: &'a Criteria,
    channels: Vec<ChannelMembers>,
    groups: Vec<HashSet<UserId>>,
}

/// Who is in a channel of some criteria.
enum ChannelMembers {
    None,
    OfRoster(Arc<ChannelCore>),
    Subscribers(HashSet<UserId>),
}

impl Presence {
    fn search_scope<'a>(&self, criteria: &'a Criteria) -> SearchScope<'a> {
        let channel = |name: &String| match self.core().channels.find_str(name) {
            None => ChannelMembers::None,
            Some(channel) if channel.presence.is_some() => ChannelMembers::OfRoster(channel),
            Some(channel) => ChannelMembers::Subscribers(subscribers(&channel).into_iter().collect()),
        };
        let groups = criteria.groups.iter().map(|name| self.hub.groups().members(name).into_iter().collect());
        SearchScope {
            criteria,
            channels: criteria.channels.iter().map(channel).collect(),
            groups: groups.collect(),
        }
    }
}

impl SearchScope<'_> {
    fn contains_user(&self, user: &UserId, person: &Person) -> bool {
        let field = |(name, values): (&String, &Vec<Value>)| {
            values.iter().all(|wanted| match name.as_str() {
                "status" => wanted.as_str() == Some(person.profile.status()),
                name => person.profile.metadata.get(name) == Some(wanted),
            })
        };
        self.criteria.fields.iter().all(field)
            && self.groups.iter().all(|members| members.contains(user))
            && self.channels.iter().all(|channel| channel.has(user, person))
    }
}

impl ChannelMembers {
    fn has(&self, user: &UserId, person: &Person) -> bool {
        match self {
            Self::None => false,
            Self::OfRoster(channel) => {
                let mut channels = person.devices.iter().flat_map(|device| &device.channels);
                channels.any(|own| Arc::ptr_eq(own, channel))
            }
            Self::Subscribers(users) => users.contains(user),
        }
    }
}
