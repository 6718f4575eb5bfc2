//! Groups: named sets of users with roles. `Groups` is the public handle, `members` stores who is in which
//! group, `roles` stores what a role permits. Each group has a channel, to which the live connections of its
//! members are subscribed; `channel` delivers its messages.

mod handle;
mod members;
mod roles;

#[cfg(test)]
mod tests;

pub use handle::Groups;
pub use roles::Roles;

pub(crate) use handle::SEND;
pub(crate) use members::GroupMap;
