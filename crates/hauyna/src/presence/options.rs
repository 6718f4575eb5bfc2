//! How a channel shows its members, depending on their number: each change, the changes of a tick, or the
//! count alone. Part of the options of a channel pattern; read by `members`, `change` and `notify`.

use super::Presence;
use std::time::Duration;

/// How a channel shows who is present; see [`ChannelOptions::presence`](crate::ChannelOptions::presence).
///
/// A subscriber of such a channel is present in it and gets `presence_state`. What follows depends on how
/// many users are present, so that N joins cost O(N) and not O(N²):
///
/// | users present | subscribers get |
/// |---|---|
/// | up to [`each_up_to`](Self::each_up_to) (100) | a `presence_change` for each change, at once |
/// | up to [`list_up_to`](Self::list_up_to) (2,000) | one `presence_diff` a [`tick`](Self::tick) (250 ms) |
/// | more, or a list of more than 512 KiB | one `occupancy` every four ticks, with the count alone |
///
/// After a list became too long, subscribers get it again, as a `presence_state`, when it is half as long.
///
/// [`PresenceOptions::new`] has these defaults. [`Presence::each`], which is the same, [`Presence::diff`] and
/// [`Presence::occupancy`] are named after what subscribers get.
///
/// # Examples
///
/// ```
/// use hauyna::{ChannelOptions, Presence, PresenceOptions};
/// use std::time::Duration;
///
/// let calm = PresenceOptions::new().each_up_to(20).tick(Duration::from_secs(1));
/// let options = ChannelOptions::new().presence(calm);
/// assert_eq!(PresenceOptions::new(), Presence::each());
/// # drop(options);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct PresenceOptions {
    pub(super) each_up_to: usize,
    pub(super) list_up_to: usize,
    pub(super) tick: Duration,
}

impl Presence {
    /// Returns the default options, [`PresenceOptions::new`]: each change is shown at once, while the channel
    /// is small.
    pub fn each() -> PresenceOptions {
        PresenceOptions::new()
    }

    /// Returns options that show the changes of each tick together, from the first user on.
    pub fn diff() -> PresenceOptions {
        Self::each().each_up_to(0)
    }

    /// Returns options that show the number of users, and never their names.
    pub fn occupancy() -> PresenceOptions {
        Self::diff().list_up_to(0)
    }
}

impl PresenceOptions {
    /// Returns the default options: each change at once up to 100 users, by name up to 2,000, a tick of 250
    /// ms.
    pub const fn new() -> Self {
        Self { each_up_to: 100, list_up_to: 2000, tick: Duration::from_millis(250) }
    }

    /// Sets the number of users up to which each change is shown at once. Default: 100.
    pub fn each_up_to(mut self, users: usize) -> Self {
        self.each_up_to = users;
        self
    }

    /// Sets the number of users up to which they are listed by name. Default: 2,000.
    pub fn list_up_to(mut self, users: usize) -> Self {
        self.list_up_to = users;
        self
    }

    /// Sets the interval in which changes are gathered for one `presence_diff`; an `occupancy` is sent every
    /// four ticks. At least 10 ms. Default: 250 ms.
    pub fn tick(mut self, tick: Duration) -> Self {
        self.tick = tick.max(Duration::from_millis(10));
        self
    }
}

impl Default for PresenceOptions {
    fn default() -> Self {
        Self::new()
    }
}
