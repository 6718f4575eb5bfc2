//! The queries of `Presence`: who is present, where, and how many. They read the rosters one lock at a time
//! and return copies; each stripe is copied at a slightly different moment.

use super::entry::PresenceEntry;
use super::members::Members;
use super::people::Person;
use super::{Presence, Status};
use crate::channel::ChannelCore;
use crate::hub::HubCore;
use hauyna_broker::UserId;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Conditions on a present user, all of which must hold. Without conditions, every present user matches.
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
    /// The values that each field must have. A field with several different values matches no user.
    fields: BTreeMap<String, Vec<Value>>,
    channels: BTreeSet<String>,
    groups: BTreeSet<String>,
    /// Whether they were made of a value that is no object, and so match no user.
    is_unmeetable: bool,
}

impl Criteria {
    /// Creates criteria without conditions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requires this status.
    pub fn status(self, status: impl Into<Status>) -> Self {
        self.with("status", status.into().as_str())
    }

    /// Requires that a field of the metadata has this value.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        let (values, value) = (self.fields.entry(field.to_owned()).or_default(), value.into());
        if !values.contains(&value) {
            values.push(value);
        }
        self
    }

    /// Requires that the user is in this channel.
    pub fn in_channel(mut self, channel: impl Into<String>) -> Self {
        self.channels.insert(channel.into());
        self
    }

    /// Requires that the user is a member of this group.
    pub fn in_group(mut self, group: impl Into<String>) -> Self {
        self.groups.insert(group.into());
        self
    }
}

/// Requires every field of an object. The strings `channel` and `group` name a channel and a group instead. A
/// value that is no object, such as `null` or a string, matches no user, whatever is added to it.
impl From<Value> for Criteria {
    fn from(value: Value) -> Self {
        let mut criteria = Self::new();
        let Value::Object(fields) = value else { return Self { is_unmeetable: true, ..criteria } };
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

/// Numbers of present users and connections, from [`Presence::stats`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct PresenceStats {
    /// Number of present users.
    pub users: usize,
    /// Number of their connections.
    pub connections: usize,
    /// Number of users with each status.
    pub statuses: BTreeMap<Status, usize>,
}

impl Presence {
    /// Whether any user of the hub, not only that of a connection's presence, is present: tracked, or in a
    /// channel with presence.
    pub fn is_present(&self, user: &str) -> impl Future<Output = bool> + Send + use<> {
        let user = user.to_owned();
        self.query(move |users| users.is_present(&user))
    }

    /// Returns the entry of any user of the hub, where they are present.
    pub fn get(&self, user: &str) -> impl Future<Output = Option<PresenceEntry>> + Send + use<> {
        let user = user.to_owned();
        self.query(move |users| users.get(&user))
    }

    /// Returns every user who is present in the hub, whatever handle it is called on, in no order. Those in
    /// one channel: [`list_in_channel`](Presence::list_in_channel).
    pub fn list(&self) -> impl Future<Output = Vec<PresenceEntry>> + Send + use<> {
        self.list_by(&Criteria::new())
    }

    /// Returns the number of users who are present in the hub, also on the presence of a connection or of one
    /// user. The number in one channel: `count_by(&Criteria::new().in_channel("room:7"))`.
    pub fn count(&self) -> impl Future<Output = usize> + Send + use<> {
        self.count_by(&Criteria::new())
    }

    /// Returns the number of users and connections that are present in the hub, and of users with each
    /// status.
    pub fn stats(&self) -> impl Future<Output = PresenceStats> + Send + use<> {
        self.query(|users| {
            let mut stats = PresenceStats::default();
            users.0.presence.for_each_visible(|_, person| {
                stats.users += 1;
                stats.connections += person.devices.iter().filter(|device| device.is_visible()).count();
                *stats.statuses.entry(person.profile.status().into()).or_default() += 1;
            });
            stats
        })
    }

    /// Returns the users who are present in the hub and meet the criteria, in no order.
    pub fn list_by(&self, criteria: &Criteria) -> impl Future<Output = Vec<PresenceEntry>> + Send + use<> {
        let criteria = criteria.clone();
        self.query(move |users| {
            let mut list = Vec::new();
            users.for_each_match(&criteria, |user, person| list.push(person.entry(user)));
            list
        })
    }

    /// Returns the number of users who are present in the hub and meet the criteria.
    pub fn count_by(&self, criteria: &Criteria) -> impl Future<Output = usize> + Send + use<> {
        let criteria = criteria.clone();
        self.query(move |users| {
            let mut count = 0;
            users.for_each_match(&criteria, |_, _| count += 1);
            count
        })
    }

    /// Whether any user of the hub, not only that of a connection's presence, is present and meets the
    /// criteria.
    pub fn present_in(&self, user: &str, criteria: &Criteria) -> impl Future<Output = bool> + Send + use<> {
        let (user, criteria) = (user.to_owned(), criteria.clone());
        self.query(move |users| users.has_match(&user, &criteria))
    }

    /// Returns the users that are present in one channel, ordered by name: its members where the channel has
    /// [presence](crate::ChannelOptions::presence), otherwise the present users among its subscribers.
    pub fn list_in_channel(&self, channel: &str) -> impl Future<Output = Vec<PresenceEntry>> + Send + use<> {
        let channel = channel.to_owned();
        self.query(move |users| users.list_in_channel(&channel))
    }

    /// Returns the names of the users that are present in one channel, as
    /// [`list_in_channel`](Presence::list_in_channel).
    pub fn in_channel(&self, channel: &str) -> impl Future<Output = Vec<UserId>> + Send + use<> {
        let channel = channel.to_owned();
        self.query(move |users| users.in_channel(&channel))
    }

    /// Returns the members of a group who are present anywhere in the hub.
    pub fn list_in_group(&self, group: &str) -> impl Future<Output = Vec<PresenceEntry>> + Send + use<> {
        let group = group.to_owned();
        self.query(move |users| {
            users.0.groups.members(&group).into_iter().filter_map(|user| users.get(&user)).collect()
        })
    }

    /// Returns the names of the members of a group who are present anywhere in the hub.
    pub fn in_group(&self, group: &str) -> impl Future<Output = Vec<UserId>> + Send + use<> {
        let group = group.to_owned();
        self.query(move |users| {
            users.0.groups.members(&group).into_iter().filter(|user| users.is_present(user)).collect()
        })
    }

    fn query<R, F>(&self, query: F) -> impl Future<Output = R> + Send + use<R, F>
    where
        F: FnOnce(PresentUsers<'_>) -> R + Send,
    {
        let hub = self.hub.clone();
        async move { query(PresentUsers::of(&hub.0)) }
    }
}

/// The queries as the hub itself makes them.
#[derive(Clone, Copy)]
pub(crate) struct PresentUsers<'a>(&'a HubCore);

impl<'a> PresentUsers<'a> {
    pub(crate) fn of(hub: &'a HubCore) -> Self {
        Self(hub)
    }

    fn is_present(self, user: &str) -> bool {
        self.0.presence.stripe(user).get(user).is_some_and(Person::is_visible)
    }

    pub(crate) fn get(self, user: &str) -> Option<PresenceEntry> {
        let people = self.0.presence.stripe(user);
        let (user, person) = people.get_key_value(user).filter(|(_, person)| person.is_visible())?;
        Some(person.entry(user))
    }

    fn has_match(self, user: &str, criteria: &Criteria) -> bool {
        let scope = self.search_scope(criteria);
        let people = self.0.presence.stripe(user);
        people
            .get_key_value(user)
            .is_some_and(|(user, person)| person.is_visible() && scope.contains_user(user, person))
    }

    fn for_each_match(self, criteria: &Criteria, mut look: impl FnMut(&UserId, &Person)) {
        let scope = self.search_scope(criteria);
        self.0.presence.for_each_visible(|user, person| {
            if scope.contains_user(user, person) {
                look(user, person);
            }
        });
    }

    fn list_in_channel(self, channel: &str) -> Vec<PresenceEntry> {
        let Some(core) = self.0.channels.find_str(channel) else { return Vec::new() };
        match &core.presence {
            Some(presence) => {
                presence.members().users.iter().map(|(user, member)| Members::entry(user, member)).collect()
            }
            None => subscribers(&core).iter().filter_map(|user| self.get(user)).collect(),
        }
    }

    pub(crate) fn in_channel(self, channel: &str) -> Vec<UserId> {
        let Some(core) = self.0.channels.find_str(channel) else { return Vec::new() };
        match &core.presence {
            Some(presence) => presence.members().users.keys().cloned().collect(),
            None => subscribers(&core).into_iter().filter(|user| self.is_present(user)).collect(),
        }
    }

    fn search_scope<'c>(self, criteria: &'c Criteria) -> SearchScope<'c> {
        let channel = |name: &String| match self.0.channels.find_str(name) {
            None => ChannelMembers::None,
            Some(channel) if channel.presence.is_some() => ChannelMembers::OfRoster(channel),
            Some(channel) => ChannelMembers::Subscribers(subscribers(&channel).into_iter().collect()),
        };
        let groups = criteria.groups.iter().map(|name| self.0.groups.members(name).into_iter().collect());
        SearchScope {
            criteria,
            channels: criteria.channels.iter().map(channel).collect(),
            groups: groups.collect(),
        }
    }
}

/// Returns the distinct users of a channel's subscribers, ordered by name.
fn subscribers(core: &ChannelCore) -> Vec<UserId> {
    let state = core.state.lock();
    let mut users: Vec<_> =
        state.subscribers.values().map(|subscription| subscription.connection.user().clone()).collect();
    drop(state);
    users.sort();
    users.dedup();
    users
}

/// Criteria with their channels and groups looked up.
struct SearchScope<'a> {
    criteria: &'a Criteria,
    channels: Vec<ChannelMembers>,
    groups: Vec<HashSet<UserId>>,
}

/// The users in one channel that the criteria name.
enum ChannelMembers {
    /// The channel does not exist.
    None,
    /// The members of a channel with presence.
    OfRoster(Arc<ChannelCore>),
    /// The subscribers of a channel without presence.
    Subscribers(HashSet<UserId>),
}

impl SearchScope<'_> {
    fn contains_user(&self, user: &UserId, person: &Person) -> bool {
        let field = |(name, values): (&String, &Vec<Value>)| {
            values.iter().all(|wanted| match name.as_str() {
                "status" => wanted.as_str() == Some(person.profile.status()),
                name => person.profile.metadata.get(name) == Some(wanted),
            })
        };
        !self.criteria.is_unmeetable
            && self.criteria.fields.iter().all(field)
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
                channels.any(|joined| Arc::ptr_eq(joined, channel))
            }
            Self::Subscribers(users) => users.contains(user),
        }
    }
}
