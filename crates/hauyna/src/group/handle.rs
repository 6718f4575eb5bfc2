//! The public handle on groups, `Groups`. Applications call it.

use super::members::MembershipChange;
use super::roles::permitted;
use super::{GroupMap, Roles};
use crate::channel::PublishBuilder;
use crate::error::Error;
use crate::hub::Hub;
use hauyna_broker::name::check;
use hauyna_broker::{BoxFuture, ChannelName, Content, PublicationKind, UserId};
use serde::Serialize;

/// The permission that the request `group` needs.
pub(crate) const SEND: &str = "send";

/// The groups of a hub: named sets of users with roles, from [`Hub::groups`] and
/// [`Context::groups`](crate::Context::groups).
///
/// Users are members, not connections: membership needs no live connection and lasts until the application
/// ends it. Clients cannot create groups or join them; they may send to a group that they are a member of,
/// where their role permits `send`. Each hub keeps its groups in its own memory: an application with several
/// nodes adds its users on each, and a message to the group reaches the members of every node.
///
/// A method that returns a future does nothing before it is awaited.
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
/// groups.define_role("admins", "owner", ["send", "invite"]).await?;
/// groups.add("ann", "admins").await?;
/// groups.add_with_role("bob", "admins", "owner").await?;
/// assert!(groups.contains("ann", "admins").await && !groups.can("ann", "admins", "send").await);
/// assert!(groups.can("bob", "admins", "invite").await);
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
    /// changed. Nothing happens before it is awaited.
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad name.
    pub fn add(&self, user: &str, group: &str) -> impl Future<Output = Result<bool, Error>> + Send + use<> {
        self.set_member(user, group, None)
    }

    /// Makes a user a member with a role, or gives a member another role. The role may be defined later;
    /// until then it permits nothing. Returns whether anything changed. Nothing happens before it is awaited.
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad name.
    pub fn add_with_role(
        &self,
        user: &str,
        group: &str,
        role: &str,
    ) -> impl Future<Output = Result<bool, Error>> + Send + use<> {
        self.set_member(user, group, Some(role))
    }

    fn set_member(
        &self,
        user: &str,
        group: &str,
        role: Option<&str>,
    ) -> impl Future<Output = Result<bool, Error>> + Send + use<> {
        let (hub, group, role) = (self.0.clone(), group.to_owned(), role.map(str::to_owned));
        let user = UserId::new(user);
        async move {
            role.as_ref().map_or(Ok(()), |role| check(role, "role"))?;
            check(&group, "group")?;
            let change = hub.0.groups.set_member(&hub.0, user?, &group, role.as_deref());
            hub.0.process_congested_inline();
            Ok(!matches!(change, MembershipChange::Nothing))
        }
    }

    /// Removes a user from a group. After it returns, no message of the group reaches them, not even those
    /// that waited for a slow connection. Returns whether they were a member. Nothing happens before it is
    /// awaited.
    pub fn remove(&self, user: &str, group: &str) -> impl Future<Output = bool> + Send + use<> {
        let (groups, user, group) = (self.clone(), user.to_owned(), group.to_owned());
        async move { groups.remove_member(&user, &group) }
    }

    fn remove_member(&self, user: &str, group: &str) -> bool {
        let was_member = self.map().remove_member(&self.0.0, user, group);
        self.0.0.process_congested_inline();
        was_member
    }

    /// Removes a user from all groups, for example when an account is deleted. Returns the number of these
    /// groups. Nothing happens before it is awaited.
    pub fn remove_from_all(&self, user: &str) -> impl Future<Output = usize> + Send + use<> {
        let (groups, user) = (self.clone(), user.to_owned());
        async move {
            let joined = groups.map().of_user(&user);
            joined.iter().filter(|group| groups.remove_member(&user, group)).count()
        }
    }

    /// Removes every member from a group, and the roles that were defined for this group. Nothing happens
    /// before it is awaited.
    pub fn dissolve(&self, group: &str) -> impl Future<Output = ()> + Send + use<> {
        let (groups, group) = (self.clone(), group.to_owned());
        async move {
            for user in groups.map().members(&group) {
                groups.remove_member(&user, &group);
            }
            groups.map().clear_roles(&group);
        }
    }

    /// Returns the members of a group, in no order. O(members).
    pub fn members(&self, group: &str) -> impl Future<Output = Vec<UserId>> + Send + use<> {
        let (hub, group) = (self.0.clone(), group.to_owned());
        async move { hub.0.groups.members(&group) }
    }

    /// Returns the number of members of a group.
    pub fn count(&self, group: &str) -> impl Future<Output = usize> + Send + use<> {
        let (hub, group) = (self.0.clone(), group.to_owned());
        async move { hub.0.groups.read(&group, |_, state| state.members.len()).unwrap_or(0) }
    }

    /// Returns the names of a user's groups, in no order. O(groups of the user).
    pub fn groups_of(&self, user: &str) -> impl Future<Output = Vec<String>> + Send + use<> {
        let (hub, user) = (self.0.clone(), user.to_owned());
        async move { hub.0.groups.of_user(&user) }
    }

    /// Returns the names of all groups that have members or roles of their own, in no order.
    pub fn names(&self) -> impl Future<Output = Vec<String>> + Send + use<> {
        let hub = self.0.clone();
        async move { hub.0.groups.names() }
    }

    /// Whether a user is a member of a group.
    pub fn contains(&self, user: &str, group: &str) -> impl Future<Output = bool> + Send + use<> {
        let (hub, user, group) = (self.0.clone(), user.to_owned(), group.to_owned());
        async move {
            let is_member = hub.0.groups.read(&group, |_, state| state.members.contains_key(user.as_str()));
            is_member.unwrap_or(false)
        }
    }

    // Roles.

    /// Returns the role of a member: their own, or otherwise the default role. `None` where there is neither,
    /// or the user is not a member.
    pub fn role(&self, user: &str, group: &str) -> impl Future<Output = Option<String>> + Send + use<> {
        let (hub, user, group) = (self.0.clone(), user.to_owned(), group.to_owned());
        async move {
            let role = hub.0.groups.read(&group, |group, state| {
                let member_role = state.members.get(user.as_str())?;
                group.role(state, member_role.as_ref()).map(str::to_owned)
            });
            role.flatten()
        }
    }

    /// Defines the permissions of a role in one group. This replaces the definition of that role by the
    /// group's pattern ([`HubBuilder::roles`](crate::HubBuilder::roles)), and applies at once to present and
    /// future members. Nothing happens before it is awaited.
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad name.
    pub fn define_role<P: AsRef<str>>(
        &self,
        group: &str,
        role: &str,
        permissions: impl IntoIterator<Item = P>,
    ) -> BoxFuture<Result<(), Error>> {
        let permissions = permitted(permissions);
        Box::pin(self.set_own_roles(group, role, move |own_roles, role| {
            own_roles.defined.insert(role.into(), permissions);
        }))
    }

    /// Sets the role of the members of one group that were added without a role. Nothing happens before it is
    /// awaited.
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad name.
    pub fn set_default_role(
        &self,
        group: &str,
        role: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        self.set_own_roles(group, role, |own_roles, role| own_roles.default = Some(role.into()))
    }

    fn set_own_roles<F>(
        &self,
        group: &str,
        role: &str,
        set: F,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<F>
    where
        F: FnOnce(&mut Roles, &str) + Send,
    {
        let (hub, group, role) = (self.0.clone(), group.to_owned(), role.to_owned());
        async move {
            check(&group, "group")?;
            check(&role, "role")?;
            hub.0.groups.update_group(&group, |_, state| set(&mut state.own_roles, &role));
            Ok(())
        }
    }

    /// Whether a user is a member whose role has this permission. What is not declared is not permitted.
    pub fn can(
        &self,
        user: &str,
        group: &str,
        permission: &str,
    ) -> impl Future<Output = bool> + Send + use<> {
        let (hub, user, group) = (self.0.clone(), user.to_owned(), group.to_owned());
        let permission = permission.to_owned();
        async move { hub.0.groups.can(&user, &group, &permission) }
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
        let group = group.as_ref();
        let prepared = check(group, "group")
            .and_then(|()| Ok((ChannelName::of_group(group), Content::of_application(&message)?)));
        PublishBuilder::new(self.0.clone(), PublicationKind::Group, prepared)
    }
}
