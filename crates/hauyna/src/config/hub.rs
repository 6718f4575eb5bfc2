//! The options of a hub, with their defaults. `HubBuilder` sets them.

use super::{LimitOptions, SessionOptions};
use crate::retry::RetryPolicy;
use std::time::Duration;

/// The limits of a hub, in all and per connection.
#[derive(Debug, Clone)]
pub(crate) struct HubConfig {
    pub(crate) shards: usize,
    /// Limit of the bytes and frames that wait for one slow connection.
    pub(crate) outbox: OutboxLimits,
    /// Maximum number of publications replayed to one recovering subscriber, or returned for one `history`.
    pub(crate) recovery_limit: u32,
    pub(crate) channels: usize,
    pub(crate) channels_per_connection: u32,
    /// The limits of connections, indexed by [`Limit`](crate::limits::Limit).
    pub(crate) limits: [LimitOptions; 3],
    pub(crate) unknown_users: UnknownUsers,
    /// How long a lost connection stays present.
    pub(crate) presence_grace: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) sessions: SessionOptions,
    pub(crate) listener_timeout: Duration,
    /// How long the hub waits for an answer of the broker.
    pub(crate) broker_timeout: Duration,
}

/// Whether a client learns that the user it sends to has no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum UnknownUsers {
    /// `private` is acknowledged in either case. The default: names cannot be probed.
    #[default]
    Hidden,
    /// `private` answers `unknown_user`, to clients that may send to the user.
    Refused,
}

/// How much may wait for a connection that does not read: the slow-consumer policy applies beyond either
/// limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutboxLimits {
    pub(crate) bytes: usize,
    pub(crate) frames: usize,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            shards: std::thread::available_parallelism().map_or(1, usize::from).next_power_of_two(),
            outbox: OutboxLimits { bytes: 256 * 1024, frames: 1024 },
            recovery_limit: 1000,
            channels: 1 << 20,
            channels_per_connection: 128,
            limits: Default::default(),
            unknown_users: UnknownUsers::default(),
            presence_grace: Duration::from_secs(5),
            retry: RetryPolicy::default(),
            sessions: SessionOptions::default(),
            listener_timeout: Duration::from_secs(30),
            broker_timeout: Duration::from_secs(10),
        }
    }
}
