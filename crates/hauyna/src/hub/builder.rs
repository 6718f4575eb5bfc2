//! How a hub is put together: options first, then one call. Mistakes that only the program's author can
//! make are reported there.

use super::{ChannelMap, Hub, HubCore, Registry};
use crate::UnknownUsers;
use crate::broker::{Broker, LocalBroker, Relay};
use crate::channel::{Channels, Declarations};
use crate::clock::Clock;
use crate::config::{HubConfig, OutboxLimits};
use crate::error::Error;
use crate::event::Listeners;
use crate::group::{GroupMap, Roles};
use crate::metrics::Metrics;
use crate::presence::Roster;
use crate::retry::RetryPolicy;
use crate::shard::Shard;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::Notify;

/// Options of a [`Hub`].
#[derive(Debug)]
#[must_use]
pub struct HubBuilder {
    config: HubConfig,
    channels: Vec<(String, Channels)>,
    broker: Option<Arc<dyn Broker>>,
    roles: Vec<(String, Roles)>,
}

impl HubBuilder {
    pub(super) fn new() -> Self {
        Self { config: HubConfig::default(), channels: Vec::new(), broker: None, roles: Vec::new() }
    }

    /// Declares the channels whose names match a pattern: `room:{id}` takes one part, `{*rest}` the rest.
    /// The first pattern that matches decides.
    pub fn channels(mut self, pattern: &str, options: Channels) -> Self {
        self.channels.push((pattern.to_owned(), options));
        self
    }

    /// Declares the roles of the groups whose names match a pattern, as [`HubBuilder::channels`] has it; `{*any}`
    /// matches every group. The first pattern that matches decides. A group can have roles of its own, too: see
    /// [`Groups::define_role`](crate::Groups::define_role). Default: no role may do anything.
    pub fn roles(mut self, pattern: &str, roles: Roles) -> Self {
        self.roles.push((pattern.to_owned(), roles));
        self
    }

    /// Sets the broker. Default: a [`LocalBroker`], everything in this process.
    pub fn broker(mut self, broker: impl Broker) -> Self {
        self.broker = Some(Arc::new(broker));
        self
    }

    /// Sets the number of shards, the tasks that write to sockets; rounded up to a power of two. Default:
    /// one per core.
    pub fn shards(mut self, shards: usize) -> Self {
        self.config.shards = shards.clamp(1, 256).next_power_of_two();
        self
    }

    /// Sets how much may wait for one connection before it counts as a slow consumer. Default: 256 KiB,
    /// 1,024 messages. A single larger message is taken when nothing else waits.
    pub fn outbox(mut self, bytes: usize, messages: usize) -> Self {
        self.config.outbox = OutboxLimits { bytes, frames: messages.max(1) };
        self
    }

    /// Sets how many publications one recovery replays, and one `history` answers, at most. Default: 1,000.
    pub fn recovery_limit(mut self, publications: u32) -> Self {
        self.config.recovery_limit = publications;
        self
    }

    /// Sets how many channels one connection may subscribe to. Default: 128.
    pub fn max_channels_per_connection(mut self, channels: u32) -> Self {
        self.config.channels_per_connection = channels;
        self
    }

    /// Sets how many connections this node takes; further ones get 503. Default: no limit.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.connections = connections;
        self
    }

    /// Sets how many connections one user may have on this node; further ones get 429. Default: no limit.
    pub fn max_connections_per_user(mut self, connections: usize) -> Self {
        self.config.connections_per_user = connections;
        self
    }

    /// Sets whether `private` tells that a user is not connected. Default: it does not.
    pub fn unknown_users(mut self, unknown: UnknownUsers) -> Self {
        self.config.unknown_users = unknown;
        self
    }

    /// Sets how clients come back after a loss, unless their handler or connection says otherwise; they are
    /// told. Default: [`RetryPolicy::default`].
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.config.retry = policy;
        self
    }

    /// Sets how long a listener of [`Hub::events`] may take before those after it run. Default: 30 s.
    pub fn listener_timeout(mut self, timeout: Duration) -> Self {
        self.config.listener_timeout = timeout;
        self
    }

    /// The hub.
    ///
    /// # Panics
    ///
    /// Where an option makes no sense; [`HubBuilder::try_build`] returns that as an error.
    pub fn build(self) -> Hub {
        match self.try_build() {
            Ok(hub) => hub,
            Err(error) => panic!("{error}"),
        }
    }

    /// The hub, or what is wrong with its options.
    ///
    /// # Errors
    ///
    /// A pattern of channels or groups is malformed, or the retry policy has a value out of its range.
    pub fn try_build(self) -> Result<Hub, Error> {
        self.config.retry.validate()?;
        let shards = self.config.shards;
        let declarations = Declarations::new(self.channels)?;
        let groups = GroupMap::new(self.roles)?;
        let core = Arc::new_cyclic(|hub| HubCore {
            shards: (0..shards).map(|_| Shard::new()).collect(),
            registry: Registry::new(shards),
            channels: ChannelMap::new(),
            declarations,
            broker: self.broker.unwrap_or_else(|| Arc::new(LocalBroker::default())),
            broker_is_up: AtomicBool::new(true),
            presence: Roster::default(),
            events: Listeners::new(hub.clone()),
            groups,
            metrics: Metrics::default(),
            clock: Clock::start(),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
            departed: Notify::new(),
            config: self.config,
        });
        core.broker.start(Relay::new(Arc::downgrade(&core)));
        Ok(Hub(core))
    }
}
