//! Groups: users with roles. `Groups` is the public handle, `members` who is in which group, `roles` what a
//! role permits. What a group is sent goes through a channel of its own, which the live connections of its
//! members are in; here nothing is delivered.

mod members;
mod roles;

pub use roles::Roles;

pub(crate) use members::GroupMap;

use crate::channel::{PublishBuilder, UserId, check};
use crate::error::Error;
use crate::hub::Hub;
use members::MembershipChange;
use roles::permitted;
use serde::Serialize;

/// The permission that the request `group` needs.
pub(crate) const SEND: &str = "send";

/// The groups of a hub: users with roles, by name. From [`Hub::groups`] and [`Context::groups`](crate::Context::groups).
///
/// Membership is the user's: it needs no live connection and outlives every one, until the application ends it.
/// Clients cannot make groups or join them; they may send to a group they are a member of where their role
/// permits `send`. Groups are this hub's own memory: an application of several nodes adds its users on each.
///
/// Names of groups, users and roles are 1 to 255 bytes without control characters. In every verb with both the
/// user comes first.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hauyna::Result {
/// use hauyna::{Hub, json};
/// let hub = Hub::new();
/// let groups = hub.groups();
/// groups.define_role("admins", "owner", ["send", "invite"])?;
/// groups.add("ann", "admins")?;
/// groups.add_with_role("bob", "admins", "owner")?;
/// assert!(groups.contains("ann", "admins") && !groups.can("ann", "admins", "send"));
/// assert!(groups.can("bob", "admins", "invite"));
///
/// groups.send("admins", json!({ "notice": "a new release" })).await?; // to every connection of ann and bob
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Groups(Hub);

impl Groups {
    pub(crate) fn new(hub: Hub) -> Self {
        Self(hub)
    }

    fn map(&self) -> &GroupMap {
        &self.0.0.groups
    }

    // Members.

    /// Makes a user a member. One who is a member already keeps their role. Returns whether that changed
    /// anything.
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad name.
    pub fn add(&self, user: impl AsRef<str>, group: impl AsRef<str>) -> Result<bool, Error> {
        self.set_member(user.as_ref(), group.as_ref(), None)
    }

    /// Makes a user a member with a role, or gives a member another one. The role may be defined later; until
    /// then it permits nothing. Returns whether that changed anything.
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad name.
    pub fn add_with_role(
        &self,
        user: impl AsRef<str>,
        group: impl AsRef<str>,
        role: impl AsRef<str>,
    ) -> Result<bool, Error> {
        check(role.as_ref(), "role")?;
        self.set_member(user.as_ref(), group.as_ref(), Some(role.as_ref()))
    }

    fn set_member(&self, user: &str, group: &str, role: Option<&str>) -> Result<bool, Error> {
        check(group, "group")?;
        let change = self.map().set_member(&self.0.0, UserId::new(user)?, group, role);
        self.0.0.process_congested_inline();
        Ok(!matches!(change, MembershipChange::Nothing))
    }

    /// Takes a user out of a group. When it returns, nothing more of the group reaches them, not even what
    /// waited for a slow connection. Returns whether they were a member.
    pub fn remove(&self, user: impl AsRef<str>, group: impl AsRef<str>) -> bool {
        let was_member = self.map().remove_member(&self.0.0, user.as_ref(), group.as_ref());
        self.0.0.process_congested_inline();
        was_member
    }

    /// Takes a user out of all groups, as when an account is deleted. Returns how many those were.
    pub fn remove_from_all(&self, user: impl AsRef<str>) -> usize {
        let user = user.as_ref();
        self.groups_of(user).iter().filter(|group| self.remove(user, group)).count()
    }

    /// Takes every member out of a group and forgets the roles of its own.
    pub fn dissolve(&self, group: impl AsRef<str>) {
        let group = group.as_ref();
        for user in self.members(group) {
            self.remove(user, group);
        }
        self.map().clear_roles(group);
    }

    /// The members of a group, in no order. Costs as much as there are.
    pub fn members(&self, group: impl AsRef<str>) -> Vec<UserId> {
        self.map()
            .read(group.as_ref(), |_, state| state.members.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// How many members a group has.
    pub fn count(&self, group: impl AsRef<str>) -> usize {
        self.map().read(group.as_ref(), |_, state| state.members.len()).unwrap_or(0)
    }

    /// The names of a user's groups, in no order. Costs as much as there are.
    pub fn groups_of(&self, user: impl AsRef<str>) -> Vec<String> {
        self.map().of_user(user.as_ref())
    }

    /// The names of all groups that have members or roles of their own, in no order.
    pub fn names(&self) -> Vec<String> {
        self.map().names()
    }

    /// Whether a user is a member.
    pub fn contains(&self, user: impl AsRef<str>, group: impl AsRef<str>) -> bool {
        let is_member = self.map().read(group.as_ref(), |_, state| state.members.contains_key(user.as_ref()));
        is_member.unwrap_or(false)
    }

    // Roles.

    /// The role of a member: their own, or else the default role; none where there is neither, or no member.
    pub fn role(&self, user: impl AsRef<str>, group: impl AsRef<str>) -> Option<String> {
        let role = self.map().read(group.as_ref(), |group, state| {
            let own = state.members.get(user.as_ref())?;
            group.role(state, own.as_ref()).map(str::to_owned)
        });
        role.flatten()
    }

    /// Defines a role in one group by what it permits, instead of what the group's pattern says of that role
    /// ([`HubBuilder::roles`](crate::HubBuilder::roles)). It holds at once, for members old and new.
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad name.
    pub fn define_role<P: AsRef<str>>(
        &self,
        group: impl AsRef<str>,
        role: impl AsRef<str>,
        permissions: impl IntoIterator<Item = P>,
    ) -> Result<(), Error> {
        check(group.as_ref(), "group")?;
        check(role.as_ref(), "role")?;
        let permissions = permitted(permissions);
        self.map().update_group(group.as_ref(), |_, state| {
            state.own_roles.defined.insert(role.as_ref().into(), permissions);
        });
        Ok(())
    }

    /// Sets the role of those members of one group that were added without a role.
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad name.
    pub fn set_default_role(&self, group: impl AsRef<str>, role: impl AsRef<str>) -> Result<(), Error> {
        check(group.as_ref(), "group")?;
        check(role.as_ref(), "role")?;
        self.map()
            .update_group(group.as_ref(), |_, state| state.own_roles.default = Some(role.as_ref().into()));
        Ok(())
    }

    /// Whether a user is a member whose role permits something. Whatever is not said is not permitted.
    pub fn can(&self, user: impl AsRef<str>, group: impl AsRef<str>, permission: impl AsRef<str>) -> bool {
        self.map().can(user.as_ref(), group.as_ref(), permission.as_ref())
    }

    // Messages.

    /// Sends to every connection of the members, those that come and go meanwhile aside: an object with a `type` of its
    /// own as it is, anything else as the `message` of a `group`. Await it, with options or without. All members see a group's messages in one order. Members that are not
    /// connected do not get it: it is not kept.
    ///
    /// # Errors
    ///
    /// When awaited: `validation_error` for a bad name or a value that JSON cannot hold; `unavailable`.
    pub fn send(&self, group: impl AsRef<str>, message: impl Serialize) -> PublishBuilder {
        PublishBuilder::to_group(self.0.clone(), group.as_ref(), &message)
    }
}

#[cfg(test)]
mod tests;
