//! Presence: who is there, in a channel and in the hub, with status and metadata.
//!
//! A channel shows its subscribers with [`ChannelOptions::presence`](crate::ChannelOptions::presence) and
//! [`PresenceOptions`]. A [`Presence`] changes what is shown of a user or a connection, and answers questions
//! about all users, for which [`Criteria`] are the filter. The guide is [presence](crate::guide::presence).
//
// Presence, per channel and over the whole hub. `Presence` is the public handle: its changes are here, its
// queries in `query`. `people` and `members` hold the rosters as pure data. `changes` changes them under the
// guards of `change`. `notify` sends each change to subscribers and listeners, `message` encodes it, and
// `timers` runs what is due later. `options` and `entry` are the types that applications set and read.

mod change;
mod changes;
mod entry;
mod handle;
mod lost_members;
mod members;
mod message;
mod notify;
mod options;
mod people;
mod query;
mod timers;

pub use entry::{PresenceEntry, PresentConnection, Status};
pub use handle::Presence;
pub use options::PresenceOptions;
pub use query::{Criteria, PresenceStats};

pub(crate) use changes::{ChannelPresence, connection_gone, expire, join, leave, take_over, watch_user};
pub(crate) use handle::{describe, set_subscription_metadata, update_status, with_page};
pub(crate) use lost_members::{evict_oldest_lost_channel, leave_lost, weight, weight_of_lost_channel};
pub(crate) use people::People;
pub(crate) use query::PresentUsers;
pub(crate) use timers::{has_tasks, run_due};

use handle::{Scope, Subject, not_present};
