//! How a channel shows who is there: each change, the changes of a while, or a mere count; and from how many
//! users on. Part of a channel pattern's options; read by `members` and `flow`.

use super::Presence;
use std::time::Duration;

/// How a channel shows who is present; see [`ChannelOptions::presence`](crate::ChannelOptions::presence).
///
/// Whoever subscribes to such a channel is present in it and gets `presence_state`. What follows depends on how many
/// users are there, so that N joiners cost O(N) and not O(N²):
///
/// | users present | subscribers get |
/// |---|---|
/// | up to [`each_up_to`](Self::each_up_to) (100) | a `presence_change` for each change, at once |
/// | up to [`list_up_to`](Self::list_up_to) (2,000) | one `presence_diff` a [`tick`](Self::tick) (250 ms) |
/// | more, or more than 512 KiB of them | one `occupancy` every four ticks, with the mere count |
///
/// A list that had become too long comes back, as a `presence_state`, when it is half as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct PresenceOptions {
    pub(crate) each_up_to: usize,
    pub(crate) list_up_to: usize,
    pub(crate) tick: Duration,
}

impl Presence {
    /// Shows each change at once, while the channel is small.
    pub fn each() -> PresenceOptions {
        PresenceOptions { each_up_to: 100, list_up_to: 2000, tick: Duration::from_millis(250) }
    }

    /// Shows the changes of each tick together, from the first user on.
    pub fn diff() -> PresenceOptions {
        Self::each().each_up_to(0)
    }

    /// Shows how many are there, and never who.
    pub fn occupancy() -> PresenceOptions {
        Self::diff().list_up_to(0)
    }
}

impl PresenceOptions {
    /// Sets up to how many users each change is shown at once. Default: 100.
    pub fn each_up_to(mut self, users: usize) -> Self {
        self.each_up_to = users;
        self
    }

    /// Sets up to how many users they are named at all. Default: 2,000.
    pub fn list_up_to(mut self, users: usize) -> Self {
        self.list_up_to = users;
        self
    }

    /// Sets how long changes are gathered for one `presence_diff`; an `occupancy` takes four times as long.
    /// At least 10 ms. Default: 250 ms.
    pub fn tick(mut self, tick: Duration) -> Self {
        self.tick = tick.max(Duration::from_millis(10));
        self
    }
}
