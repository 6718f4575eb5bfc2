//! The roles of groups, each with its permissions, declared for all groups whose names match a pattern. What
//! is not declared is not permitted. Read by `members`.

use crate::channel::Pattern;
use crate::error::Error;
use hauyna_broker::name::check;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The roles of the groups whose names match a pattern; see [`HubBuilder::roles`](crate::HubBuilder::roles).
///
/// A member has the permissions of its role and no others. A role that is not defined has no permissions. A
/// member without a role has the default role, or no permissions where there is none. The request `group` of
/// a client needs the permission `send`; the application chooses the names of all others.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hauyna::Result {
/// use hauyna::Hub;
/// use hauyna::groups::Roles;
///
/// let roles = Roles::new()
///     .define("owner", ["send", "invite"])
///     .define("member", ["send"])
///     .default_role("member");
/// let hub = Hub::builder().roles("team:{id}", roles).build();
/// let groups = hub.groups();
/// groups.add("ann", "team:7").await?;
/// groups.add_with_role("bob", "team:7", "owner").await?;
/// assert!(groups.can("ann", "team:7", "send").await);
/// assert!(!groups.can("ann", "team:7", "invite").await);
/// assert!(groups.can("bob", "team:7", "invite").await);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Roles {
    pub(super) defined: HashMap<Box<str>, Permissions>,
    pub(super) default: Option<Arc<str>>,
    /// The fault of a second definition, which `HubBuilder::try_build` returns.
    defined_twice: Option<String>,
}

pub(super) type Permissions = HashSet<Box<str>>;

impl Roles {
    /// Creates a set without roles: members have no permissions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Defines a role and its permissions. A role that is defined twice is an error of
    /// [`HubBuilder::try_build`](crate::HubBuilder::try_build).
    pub fn define<P: AsRef<str>>(mut self, role: &str, permissions: impl IntoIterator<Item = P>) -> Self {
        if self.defined.insert(role.into(), permitted(permissions)).is_some() {
            self.defined_twice = Some(format!("`{role}` is defined twice"));
        }
        self
    }

    /// Sets the role of members that were added without one. A second call is an error of
    /// [`HubBuilder::try_build`](crate::HubBuilder::try_build).
    pub fn default_role(mut self, role: &str) -> Self {
        if let Some(earlier) = self.default.replace(role.into()) {
            self.defined_twice =
                Some(format!("the default role is `{earlier}` already, and `{role}` would replace it"));
        }
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.defined.is_empty() && self.default.is_none()
    }
}

pub(super) fn permitted<P: AsRef<str>>(permissions: impl IntoIterator<Item = P>) -> Permissions {
    permissions.into_iter().map(|permission| permission.as_ref().into()).collect()
}

/// The patterns of a hub, in the order of their declaration: the first that matches applies.
#[derive(Debug)]
pub(super) struct RolesByPattern {
    declared: Vec<(Pattern, Arc<Roles>)>,
    none: Arc<Roles>,
}

impl RolesByPattern {
    /// Parses the patterns.
    ///
    /// # Errors
    ///
    /// `Config` where a pattern is malformed or never applies, the name of a role is malformed, or a role or
    /// the default role is defined twice.
    pub(super) fn new(declared: Vec<(String, Roles)>) -> Result<Self, Error> {
        let mut patterns: Vec<(Pattern, Arc<Roles>)> = Vec::with_capacity(declared.len());
        for (text, roles) in declared {
            for role in roles.defined.keys().map(AsRef::as_ref).chain(roles.default.as_deref()) {
                check(role, "role").map_err(|error| Error::config(format!("roles of `{text}`: {error}")))?;
            }
            if let Some(fault) = &roles.defined_twice {
                return Err(Error::config(format!("roles of `{text}`: {fault}")));
            }
            let pattern = Pattern::parse(&text)?;
            pattern.check_behind(patterns.iter().map(|(earlier, _)| earlier))?;
            patterns.push((pattern, Arc::new(roles)));
        }
        Ok(Self { declared: patterns, none: Arc::new(Roles::new()) })
    }

    pub(super) fn of(&self, group: &str) -> &Arc<Roles> {
        let found = self.declared.iter().find(|(pattern, _)| pattern.matches(group));
        found.map_or(&self.none, |(_, roles)| roles)
    }
}
