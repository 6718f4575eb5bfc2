//! Who is in which group, by group and by user, and that the live connections of members are in the groups'
//! channels. All changes and arrivals of one user are made one after the other, under the lock of that
//! user's part. Changed by `Groups`; asked by `dispatch`; `connection::run` reports arrivals.

use super::roles::{Permissions, Roles, RolesByPattern};
use crate::channel::{ChannelName, ChannelOptions, UserId, add_to_lists, end_subscription};
use crate::connection::{Connection, ConnectionCore};
use crate::error::Error;
use crate::event::{GroupChange, SystemEvent, SystemKind};
use crate::hub::HubCore;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// All groups of a hub.
#[derive(Debug)]
pub(crate) struct GroupMap {
    hasher: RandomState,
    by_user: Box<[Mutex<ByUser>]>,
    by_name: Mutex<HashMap<Box<str>, Arc<Group>>>,
    roles: RolesByPattern,
    /// What the channels of groups are like.
    pub(crate) options: Arc<ChannelOptions>,
    /// Whether there ever was a member, so that hubs without groups do not look for them.
    is_used: AtomicBool,
}

type ByUser = HashMap<UserId, Vec<Arc<Group>>>;

#[derive(Debug)]
pub(super) struct Group {
    name: Box<str>,
    channel: ChannelName,
    roles: Arc<Roles>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) members: HashMap<UserId, Option<Arc<str>>>,
    /// Roles of this group's own, which go before those of its pattern.
    pub(super) own_roles: Roles,
    /// The hub has dropped the group from its map; whoever still holds it looks the name up again.
    is_removed: bool,
}

impl GroupMap {
    pub(crate) fn new(roles: Vec<(String, Roles)>) -> Result<Self, Error> {
        Ok(Self {
            hasher: RandomState::new(),
            by_user: (0..STRIPES).map(|_| Mutex::default()).collect(),
            by_name: Mutex::default(),
            roles: RolesByPattern::new(roles)?,
            options: Arc::new(ChannelOptions::of_group()),
            is_used: AtomicBool::new(false),
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "only the remainder counts")]
    fn stripe(&self, user: &str) -> MutexGuard<'_, ByUser> {
        self.by_user[self.hasher.hash_one(user) as usize % STRIPES].lock()
    }

    /// Registers a connection that has come. It is in the channels of its user's groups before anybody finds it,
    /// and whoever changes them finds it afterwards. Returns what [`Registry::insert`](crate::hub::Registry) does.
    pub(crate) fn register(&self, hub: &HubCore, connection: &Arc<ConnectionCore>) -> (usize, usize) {
        let user = connection.user();
        let part = self.is_used.load(Ordering::Relaxed).then(|| self.stripe(user));
        let enter = |part: &ByUser| {
            for group in part.get(user).into_iter().flatten() {
                // It is there already, or is going: both are fine.
                let _ = add_to_lists(hub, connection, &group.channel);
            }
        };
        part.iter().for_each(|part| enter(part));
        let counts = hub.registry.insert(connection, || {
            let opened = || SystemEvent::Opened { connection: Connection::new(connection.clone()) };
            hub.events.emit(SystemKind::Opened, opened);
        });
        // The hub's first group was made meanwhile. The registry's lock orders this load and who looks there.
        if part.is_none() && self.is_used.load(Ordering::Relaxed) {
            enter(&self.stripe(user));
        }
        counts
    }

    /// Makes a user a member, or gives a member another role; without one it keeps its own.
    pub(super) fn set_member(
        &self,
        hub: &HubCore,
        user: UserId,
        group: &str,
        role: Option<&str>,
    ) -> MembershipChange {
        self.is_used.store(true, Ordering::Relaxed);
        let mut part = self.stripe(&user);
        let change = self.update_group(group, |group, state| {
            let Some(own) = state.members.get_mut(&user) else {
                state.members.insert(user.clone(), role.map(Into::into));
                return MembershipChange::Added(group.clone());
            };
            if role.is_none() || own.as_deref() == role {
                return MembershipChange::Nothing;
            }
            *own = role.map(Into::into);
            MembershipChange::Role
        });
        let role = role.map(str::to_owned);
        match (&change, role) {
            (MembershipChange::Nothing, _) | (MembershipChange::Role, None) => {}
            (MembershipChange::Role, Some(role)) => {
                notify_listeners(hub, &user, group, || GroupChange::RoleChanged(role))
            }
            (MembershipChange::Added(_), role) => {
                notify_listeners(hub, &user, group, || GroupChange::Added(role))
            }
        }
        if let MembershipChange::Added(group) = &change {
            for connection in hub.registry.of_user(&user) {
                let _ = add_to_lists(hub, &connection, &group.channel);
            }
            part.entry(user).or_default().push(group.clone());
        }
        change
    }

    /// Takes a user out. Afterwards nothing of the group is queued for its connections.
    pub(super) fn remove_member(&self, hub: &HubCore, user: &str, group: &str) -> bool {
        let mut part = self.stripe(user);
        let Some(groups) = part.get_mut(user) else { return false };
        let Some(index) = groups.iter().position(|own| *own.name == *group) else { return false };
        let group = groups.swap_remove(index);
        if groups.is_empty() {
            part.remove(user);
        }
        let member = group.state.lock().members.remove_entry(user);
        if let Some((user, _)) = member {
            notify_listeners(hub, &user, &group.name, || GroupChange::Removed);
        }
        for connection in hub.registry.of_user(user) {
            end_subscription(hub, &connection, &group.channel);
        }
        self.remove_if_unused(&group);
        true
    }

    /// Finds or makes the group, and changes it under its lock.
    pub(super) fn update_group<R>(&self, name: &str, f: impl FnOnce(&Arc<Group>, &mut State) -> R) -> R {
        loop {
            let group = self.find_or_insert(name);
            let mut state = group.state.lock();
            if !state.is_removed {
                return f(&group, &mut state);
            }
        }
    }

    fn find_or_insert(&self, name: &str) -> Arc<Group> {
        let mut groups = self.by_name.lock();
        if let Some(group) = groups.get(name) {
            return group.clone();
        }
        let group = Arc::new(Group {
            name: name.into(),
            channel: ChannelName::of_group(name),
            roles: self.roles.of(name).clone(),
            state: Mutex::default(),
        });
        groups.insert(name.into(), group.clone());
        group
    }

    fn find(&self, name: &str) -> Option<Arc<Group>> {
        self.by_name.lock().get(name).cloned()
    }

    /// Forgets a group that has neither members nor roles of its own.
    fn remove_if_unused(&self, group: &Group) {
        let mut groups = self.by_name.lock();
        let mut state = group.state.lock();
        if !state.is_removed && state.members.is_empty() && state.own_roles.is_empty() {
            state.is_removed = true;
            groups.remove(&group.name);
        }
    }

    /// Forgets the roles of a group's own.
    pub(super) fn clear_roles(&self, name: &str) {
        if let Some(group) = self.find(name) {
            group.state.lock().own_roles = Roles::new();
            self.remove_if_unused(&group);
        }
    }

    /// Reads a group under its lock, where there is one.
    pub(super) fn read<R>(&self, name: &str, f: impl FnOnce(&Group, &State) -> R) -> Option<R> {
        let group = self.find(name)?;
        let state = group.state.lock();
        Some(f(&group, &state))
    }

    pub(super) fn of_user(&self, user: &str) -> Vec<String> {
        let part = self.stripe(user);
        part.get(user).into_iter().flatten().map(|group| group.name.to_string()).collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.by_name.lock().keys().map(ToString::to_string).collect()
    }

    /// Whether a member's role permits something.
    pub(crate) fn can(&self, user: &str, group: &str, permission: &str) -> bool {
        let permitted = |group: &Group, state: &State| {
            let role = group.role(state, state.members.get(user)?.as_ref())?;
            group.permissions(state, role)?.get(permission).map(|_| ())
        };
        self.read(group, permitted).flatten().is_some()
    }
}

impl Group {
    /// The role in force: the member's own, or the default of the group, or that of its pattern.
    pub(super) fn role<'a>(&'a self, state: &'a State, own: Option<&'a Arc<str>>) -> Option<&'a str> {
        own.or(state.own_roles.default.as_ref()).or(self.roles.default.as_ref()).map(AsRef::as_ref)
    }

    fn permissions<'a>(&'a self, state: &'a State, role: &str) -> Option<&'a Permissions> {
        state.own_roles.defined.get(role).or_else(|| self.roles.defined.get(role))
    }
}

/// Tells the listeners, in the order of the changes of one user.
fn notify_listeners(hub: &HubCore, user: &UserId, group: &str, change: impl FnOnce() -> GroupChange) {
    hub.events.emit(SystemKind::GroupChanged, || SystemEvent::GroupChanged {
        user: user.clone(),
        group: group.to_owned(),
        change: change(),
    });
}

/// What became of a wish to make somebody a member.
#[derive(Debug)]
pub(super) enum MembershipChange {
    Nothing,
    Added(Arc<Group>),
    Role,
}

/// Locks over the users.
const STRIPES: usize = 64;
