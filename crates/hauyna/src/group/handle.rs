//! The public handle on groups, `Groups`. Applications call it.

use super::GroupMap;
use super::members::MembershipChange;
use super::roles::permitted;
use crate::channel::PublishBuilder;
use crate::error::Error;
use crate::hub::Hub;
use crate::name::{UserId, check};
use serde::Serialize;

/// The permission that the request `group` needs.
pub(crate) const SEND: &str = "send";

/// The groups of a hub: named sets of users with roles, from [`Hub::groups`] and
/// [`Context::groups`](crate::Context::groups).
///
/// Users are members, not connections: membership needs no live connection and lasts until the application
/// ends it. Clients cannot create groups or join them; they may send to a group that they are a member of,
/// where their role permits `send`. Each hub keeps its groups in its own memory: an application with several
/// nodes adds its users on each.
///
/// Names of groups, users and roles are 1 to 255 bytes without control characters. Methods that take a user
/// and a group take the user first.
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

    /// Makes a user a member. A user that is a member already keeps their role. Returns whether anything
    /// changed.
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad name.
    pub fn add(&self, user: impl AsRef<str>, group: impl AsRef<str>) -> Result<bool, Error> {
        self.set_member(user.as_ref(), group.as_ref(), None)
    }

    /// Makes a user a member with a role, or gives a member another role. The role may be defined later;
    /// until then it permits nothing. Returns whether anything changed.
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

    /// Removes a user from a group. After it returns, no message of the group reaches them, not even those
    /// that waited for a slow connection. Returns whether they were a member.
    pub fn remove(&self, user: impl AsRef<str>, group: impl AsRef<str>) -> bool {
        let was_member = self.map().remove_member(&self.0.0, user.as_ref(), group.as_ref());
        self.0.0.process_congested_inline();
        was_member
    }

    /// Removes a user from all groups, for example when an account is deleted. Returns the number of these
    /// groups.
    pub fn remove_from_all(&self, user: impl AsRef<str>) -> usize {
        let user = user.as_ref();
        self.groups_of(user).iter().filter(|group| self.remove(user, group)).count()
    }

    /// Removes every member from a group, and the roles that were defined for this group.
    pub fn dissolve(&self, group: impl AsRef<str>) {
        let group = group.as_ref();
        for user in self.members(group) {
            self.remove(user, group);
        }
        self.map().clear_roles(group);
    }

    /// Returns the members of a group, in no order. O(members).
    pub fn members(&self, group: impl AsRef<str>) -> Vec<UserId> {
        self.map()
            .read(group.as_ref(), |_, state| state.members.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Returns the number of members of a group.
    pub fn count(&self, group: impl AsRef<str>) -> usize {
        self.map().read(group.as_ref(), |_, state| state.members.len()).unwrap_or(0)
    }

    /// Returns the names of a user's groups, in no order. O(groups of the user).
    pub fn groups_of(&self, user: impl AsRef<str>) -> Vec<String> {
        self.map().of_user(user.as_ref())
    }

    /// Returns the names of all groups that have members or roles of their own, in no order.
    pub fn names(&self) -> Vec<String> {
        self.map().names()
    }

    /// Whether a user is a member of a group.
    pub fn contains(&self, user: impl AsRef<str>, group: impl AsRef<str>) -> bool {
        let is_member = self.map().read(group.as_ref(), |_, state| state.members.contains_key(user.as_ref()));
        is_member.unwrap_or(false)
    }

    // Roles.

    /// Returns the role of a member: their own, or otherwise the default role. `None` where there is neither,
    /// or the user is not a member.
    pub fn role(&self, user: impl AsRef<str>, group: impl AsRef<str>) -> Option<String> {
        let role = self.map().read(group.as_ref(), |group, state| {
            let member_role = state.members.get(user.as_ref())?;
            group.role(state, member_role.as_ref()).map(str::to_owned)
        });
        role.flatten()
    }

    /// Defines the permissions of a role in one group. This replaces the definition of that role by the
    /// group's pattern ([`HubBuilder::roles`](crate::HubBuilder::roles)), and applies at once to present and
    /// future members.
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

    /// Sets the role of the members of one group that were added without a role.
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

    /// Whether a user is a member whose role has this permission. What is not declared is not permitted.
    pub fn can(&self, user: impl AsRef<str>, group: impl AsRef<str>, permission: impl AsRef<str>) -> bool {
        self.map().can(user.as_ref(), group.as_ref(), permission.as_ref())
    }

    // Messages.

    /// Returns a message to every connection of the members, to set options on; await it to send it. An
    /// object with a `type` of its own is sent as it is; anything else becomes the `message` of a `group`.
    /// All members see a group's messages in one order. Members that are not connected do not get it, because
    /// it is not kept. A connection that is opened or closed meanwhile may or may not get it.
    ///
    /// # Errors
    ///
    /// When awaited: `validation_error` for a bad name or a value that cannot be represented as JSON;
    /// `unavailable`.
    pub fn send(&self, group: impl AsRef<str>, message: impl Serialize) -> PublishBuilder {
        PublishBuilder::to_group(self.0.clone(), group.as_ref(), &message)
    }
}
