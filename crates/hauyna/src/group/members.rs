//! The members of each group, indexed by group and by user. It also keeps the live connections of members
//! subscribed to the channels of their groups. All changes of one user, and all registrations of their
//! connections, run one after the other under the lock of the user's stripe. Called by `Groups` and
//! `dispatch`; `connection` registers new connections.

use super::roles::{Permissions, Roles, RolesByPattern};
use crate::channel::{ChannelOptions, add_to_lists, end_subscription};
use crate::connection::ConnectionCore;
use crate::error::Error;
use crate::event::{GroupChange, emit};
use crate::hub::HubCore;
use crate::stripes::Stripes;
use hauyna_broker::{ChannelName, UserId};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// All groups of a hub.
#[derive(Debug)]
pub(crate) struct GroupMap {
    by_user: Stripes<ByUser>,
    by_name: Mutex<HashMap<Box<str>, Arc<Group>>>,
    roles: RolesByPattern,
    /// The options of the groups' channels.
    pub(crate) options: Arc<ChannelOptions>,
    /// Whether there ever was a member, so that hubs without groups skip the lookup.
    is_used: AtomicBool,
}

type ByUser = HashMap<UserId, Vec<Arc<Group>>>;

/// One group and its channel.
#[derive(Debug)]
pub(super) struct Group {
    name: Box<str>,
    channel: ChannelName,
    roles: Arc<Roles>,
    state: Mutex<State>,
}

/// The state of a group that is under its lock.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The members, each with its role, where it was added with one.
    pub(super) members: HashMap<UserId, Option<Arc<str>>>,
    /// Roles that were defined for this group; they take precedence over those of its pattern.
    pub(super) own_roles: Roles,
    /// Whether the hub has removed the group from its map. A caller that still holds it looks the name up
    /// again.
    is_removed: bool,
}

/// The groups of one user, locked. Where the hub has no group yet, nothing is locked.
pub(crate) struct Memberships<'a> {
    groups: &'a GroupMap,
    user: &'a str,
    stripe: Option<MutexGuard<'a, ByUser>>,
}

impl Memberships<'_> {
    /// Subscribes a new connection of the user to the channels of their groups, before others can find it.
    pub(crate) fn subscribe(&self, hub: &HubCore, connection: &Arc<ConnectionCore>) {
        if let Some(stripe) = &self.stripe {
            self.subscribe_to(stripe, hub, connection);
        }
    }

    /// Subscribes the connection to groups that were created while it was registered. The lock of the
    /// registry orders this after the insertion, so that either this sees the hub's first group, or
    /// [`GroupMap::set_member`] finds the connection.
    pub(crate) fn subscribe_to_first_groups(self, hub: &HubCore, connection: &Arc<ConnectionCore>) {
        if self.stripe.is_none() && self.groups.is_used.load(Ordering::Relaxed) {
            self.subscribe_to(&self.groups.stripe(self.user), hub, connection);
        }
    }

    fn subscribe_to(&self, stripe: &ByUser, hub: &HubCore, connection: &Arc<ConnectionCore>) {
        for group in stripe.get(self.user).into_iter().flatten() {
            // It fails where the connection is subscribed already, or is closing: both are fine.
            let _ = add_to_lists(hub, connection, &group.channel);
        }
    }
}

impl GroupMap {
    pub(crate) fn new(roles: Vec<(String, Roles)>) -> Result<Self, Error> {
        Ok(Self {
            by_user: Stripes::new(),
            by_name: Mutex::default(),
            roles: RolesByPattern::new(roles)?,
            options: Arc::new(ChannelOptions::of_group()),
            is_used: AtomicBool::new(false),
        })
    }

    fn stripe(&self, user: &str) -> MutexGuard<'_, ByUser> {
        self.by_user.lock(user)
    }

    /// Locks the memberships of a user, while a connection of theirs is registered.
    pub(crate) fn memberships_of<'a>(&'a self, user: &'a str) -> Memberships<'a> {
        let stripe = self.is_used.load(Ordering::Relaxed).then(|| self.stripe(user));
        Memberships { groups: self, user, stripe }
    }

    /// Makes a user a member, or gives a member another role. Without a role, a member keeps its present one.
    pub(super) fn set_member(
        &self,
        hub: &HubCore,
        user: UserId,
        group: &str,
        role: Option<&str>,
    ) -> MembershipChange {
        self.is_used.store(true, Ordering::Relaxed);
        let mut stripe = self.stripe(&user);
        let change = self.update_group(group, |group, state| {
            let Some(member_role) = state.members.get_mut(&user) else {
                state.members.insert(user.clone(), role.map(Into::into));
                return MembershipChange::Added(group.clone());
            };
            if role.is_none() || member_role.as_deref() == role {
                return MembershipChange::Nothing;
            }
            *member_role = role.map(Into::into);
            MembershipChange::Role
        });
        let role = role.map(str::to_owned);
        match (&change, role) {
            (MembershipChange::Nothing, _) | (MembershipChange::Role, None) => {}
            (MembershipChange::Role, Some(role)) => {
                notify_listeners(hub, &user, group, || GroupChange::RoleChanged(role));
            }
            (MembershipChange::Added(_), role) => {
                notify_listeners(hub, &user, group, || GroupChange::Added(role));
            }
        }
        if let MembershipChange::Added(group) = &change {
            for connection in hub.registry.of_user(&user) {
                let _ = add_to_lists(hub, &connection, &group.channel);
            }
            stripe.entry(user).or_default().push(group.clone());
        }
        change
    }

    /// Removes a user from a group. Afterwards no message of the group is queued for their connections.
    pub(super) fn remove_member(&self, hub: &HubCore, user: &str, group: &str) -> bool {
        let mut stripe = self.stripe(user);
        let Some(groups) = stripe.get_mut(user) else { return false };
        let Some(index) = groups.iter().position(|joined| *joined.name == *group) else { return false };
        let group = groups.swap_remove(index);
        if groups.is_empty() {
            stripe.remove(user);
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

    /// Finds or inserts the group, and changes it under its lock.
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

    /// Removes a group that has neither members nor roles of its own.
    fn remove_if_unused(&self, group: &Group) {
        let mut groups = self.by_name.lock();
        let mut state = group.state.lock();
        if !state.is_removed && state.members.is_empty() && state.own_roles.is_empty() {
            state.is_removed = true;
            groups.remove(&group.name);
        }
    }

    /// Removes the roles that were defined for a group.
    pub(super) fn clear_roles(&self, name: &str) {
        if let Some(group) = self.find(name) {
            group.state.lock().own_roles = Roles::new();
            self.remove_if_unused(&group);
        }
    }

    /// Calls `f` with a group under its lock, where the group exists.
    pub(super) fn read<R>(&self, name: &str, f: impl FnOnce(&Group, &State) -> R) -> Option<R> {
        let group = self.find(name)?;
        let state = group.state.lock();
        Some(f(&group, &state))
    }

    /// Returns the names of a user's groups.
    pub(crate) fn of_user(&self, user: &str) -> Vec<String> {
        let stripe = self.stripe(user);
        stripe.get(user).into_iter().flatten().map(|group| group.name.to_string()).collect()
    }

    /// Returns the members of a group.
    pub(crate) fn members(&self, name: &str) -> Vec<UserId> {
        self.read(name, |_, state| state.members.keys().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.by_name.lock().keys().map(ToString::to_string).collect()
    }

    /// Whether a user is a member.
    pub(crate) fn is_member(&self, user: &str, group: &str) -> bool {
        self.read(group, |_, state| state.members.contains_key(user)) == Some(true)
    }

    /// Whether a user is a member whose role has this permission.
    pub(crate) fn can(&self, user: &str, group: &str, permission: &str) -> bool {
        let permitted = |group: &Group, state: &State| {
            let role = group.role(state, state.members.get(user)?.as_ref())?;
            group.permissions(state, role)?.get(permission).map(|_| ())
        };
        self.read(group, permitted).flatten().is_some()
    }
}

impl Group {
    /// Returns the role that applies: the member's own, or the default of the group, or the default of its
    /// pattern.
    pub(super) fn role<'a>(&'a self, state: &'a State, member_role: Option<&'a Arc<str>>) -> Option<&'a str> {
        let default = state.own_roles.default.as_ref().or(self.roles.default.as_ref());
        member_role.or(default).map(AsRef::as_ref)
    }

    fn permissions<'a>(&'a self, state: &'a State, role: &str) -> Option<&'a Permissions> {
        state.own_roles.defined.get(role).or_else(|| self.roles.defined.get(role))
    }
}

/// Notifies listeners of a change. It is called under the lock of the user's stripe, so the order is that of
/// the changes.
fn notify_listeners(hub: &HubCore, user: &UserId, group: &str, change: impl FnOnce() -> GroupChange) {
    emit!(hub.events, GroupChanged { user: user.clone(), group: group.to_owned(), change: change() });
}

/// The effect of making a user a member.
#[derive(Debug)]
pub(super) enum MembershipChange {
    /// The user was a member with this role already.
    Nothing,
    /// The user was added.
    Added(Arc<Group>),
    /// The role of the member was changed.
    Role,
}
