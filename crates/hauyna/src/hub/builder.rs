//! Builds a hub: the application sets options, then calls `build` or `try_build`. Mistakes that only the
//! author of the program can make are reported there.

use super::limits::{ClientAddress, Limits};
use super::{ChannelMap, Hub, HubCore, Lifecycle, Registry};
use crate::auth::Revocations;
use crate::background::{Background, Job};
use crate::broker::{Broker, LocalBroker, Relay};
use crate::channel::{self, AwaitingSubscriptions, ChannelOptions, Declarations};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::config::{AtLimit, HubConfig, Limit, OutboxLimits, SessionOptions, check_policies};
use crate::contain::Foreign;
use crate::counters::Metrics;
use crate::error::Error;
use crate::event::{Events, Listeners};
use crate::group::{GroupMap, Roles};
use crate::limits::UnknownUsers;
use crate::presence::People;
use crate::request::ConnectRequest;
use crate::retry::RetryPolicy;
use crate::session::Sessions;
use crate::shard::Shards;
use crate::state::{ConnectionState, States};
use parking_lot::Mutex;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Options of a [`Hub`].
///
/// Patterns of channels and roles, listeners and transitions add up. The broker and
/// [`client_address`](HubBuilder::client_address) are given once, and each pattern is declared once: anything
/// else is an error of [`try_build`](HubBuilder::try_build). Of a single number, time or policy the last call
/// counts.
#[must_use]
pub struct HubBuilder {
    config: HubConfig,
    channels: Vec<(String, ChannelOptions)>,
    broker: Option<Arc<dyn Broker>>,
    roles: Vec<(String, Roles)>,
    transitions: Vec<(ConnectionState, ConnectionState)>,
    pub(super) hooks: Vec<Listen>,
    client_address: Option<ClientAddress>,
    /// The first mistake, which `try_build` returns.
    first_error: Option<Error>,
}

/// Number of hubs that this process has created.
static HUBS: AtomicU64 = AtomicU64::new(0);

/// Registers a listener.
pub(super) type Listen = Box<dyn FnOnce(&Events) + Send>;

impl HubBuilder {
    pub(super) fn new() -> Self {
        Self {
            config: HubConfig::default(),
            channels: Vec::new(),
            broker: None,
            roles: Vec::new(),
            transitions: Vec::new(),
            hooks: Vec::new(),
            client_address: None,
            first_error: None,
        }
    }

    /// Notes that `method` was called a second time for a value that can be set only once.
    fn note_second_call(&mut self, method: &str) {
        let fault = format!("`{method}` is called twice, but can be set only once");
        self.first_error.get_or_insert_with(|| Error::config(fault));
    }

    /// Declares the channels whose names match a pattern: `room:{id}` takes one part, `{*rest}` the rest. The
    /// first pattern that matches decides; a pattern is refused if an earlier one matches all of its names.
    pub fn channels(mut self, pattern: &str, options: ChannelOptions) -> Self {
        self.channels.push((pattern.to_owned(), options));
        self
    }

    /// Declares the roles of the groups whose names match a pattern, in the syntax of
    /// [`HubBuilder::channels`]; `{*any}` matches every group. The first pattern that matches decides. A
    /// single group can have its own roles, too: see [`Groups::define_role`](crate::Groups::define_role).
    /// Default: no role has any permission.
    pub fn roles(mut self, pattern: &str, roles: Roles) -> Self {
        self.roles.push((pattern.to_owned(), roles));
        self
    }

    /// Sets the broker. Default: a [`LocalBroker`], which keeps everything in this process.
    pub fn broker(mut self, broker: impl Broker) -> Self {
        if self.broker.replace(Arc::new(broker)).is_some() {
            self.note_second_call("broker");
        }
        self
    }

    /// Sets the number of shards, the tasks that write to sockets; rounded up to a power of two. Default:
    /// one per core.
    pub fn shards(mut self, shards: usize) -> Self {
        self.config.shards = shards.clamp(1, 256).next_power_of_two();
        self
    }

    /// Sets how many bytes and messages may wait for one connection before it counts as a slow consumer.
    /// Default: 256 KiB, 1,024 messages. A single larger message is accepted when nothing else waits.
    pub fn outbox(mut self, bytes: usize, messages: usize) -> Self {
        self.config.outbox = OutboxLimits { bytes, frames: messages.max(1) };
        self
    }

    /// Sets the maximum number of publications that one recovery replays or one `history` returns. Default:
    /// 1,000.
    pub fn recovery_limit(mut self, publications: u32) -> Self {
        self.config.recovery_limit = publications;
        self
    }

    /// Sets how many channels may have subscribers on this node at one time; a subscription to one more is
    /// refused with `limit_exceeded`. Default: 1,048,576.
    pub fn max_channels(mut self, channels: usize) -> Self {
        self.config.channels = channels;
        self
    }

    /// Sets how many channels one connection may subscribe to. Default: 128.
    pub fn max_channels_per_connection(mut self, channels: u32) -> Self {
        self.config.channels_per_connection = channels;
        self
    }

    /// Sets how many connections this node accepts; further ones get 503, unless [`HubBuilder::at_limit`]
    /// says otherwise. Default: no limit.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.limits[Limit::Total as usize].max = connections;
        self
    }

    /// Sets how many connections one user may have on this node; further ones get 429, unless
    /// [`HubBuilder::at_limit`] says otherwise. Default: no limit.
    pub fn max_connections_per_user(mut self, connections: usize) -> Self {
        self.config.limits[Limit::PerUser as usize].max = connections;
        self
    }

    /// Sets how many connections one address may have on this node, or one IPv6 network of 64 bits; further
    /// ones get 429, unless [`HubBuilder::at_limit`] says otherwise. Many people may share an address: leave
    /// room. Behind a proxy see [`HubBuilder::client_address`]. Connections without a known address are not
    /// counted, but logged. Default: no limit.
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.config.limits[Limit::PerAddress as usize].max = connections;
        self
    }

    /// Sets what happens when a limit is reached. The limit itself has to be set. Default:
    /// [`AtLimit::Reject`].
    ///
    /// ```
    /// use hauyna::Hub;
    /// use hauyna::limits::{AtLimit, Limit};
    ///
    /// // The newest tab counts.
    /// let hub = Hub::builder()
    ///     .max_connections_per_user(1)
    ///     .at_limit(Limit::PerUser, AtLimit::CloseOldest)
    ///     .build();
    /// ```
    pub fn at_limit(mut self, limit: Limit, at_limit: AtLimit) -> Self {
        self.config.limits[limit as usize].at_limit = at_limit;
        self
    }

    /// Sets how the address of a client is read from its request, for
    /// [`HubBuilder::max_connections_per_address`]. Without it, and where `f` returns `None`, the address is
    /// the peer of the socket: behind a proxy, that is the proxy for every client.
    ///
    /// No header is trusted by itself, because a client can send any: read the one that *your* proxy sets,
    /// and only the part that it has added.
    ///
    /// ```
    /// use hauyna::{ConnectRequest, Hub};
    ///
    /// // nginx, with `proxy_set_header X-Real-IP $remote_addr`, on this machine
    /// let hub = Hub::builder().max_connections_per_address(50).client_address(|request: &ConnectRequest| {
    ///     let is_proxy = request.peer().is_some_and(|peer| peer.ip().is_loopback());
    ///     request.header("x-real-ip").filter(|_| is_proxy)?.parse().ok()
    /// });
    /// ```
    pub fn client_address<F>(mut self, f: F) -> Self
    where
        F: Fn(&ConnectRequest) -> Option<IpAddr> + Send + Sync + 'static,
    {
        let f = Foreign::new(f);
        if self.client_address.replace(Box::new(move |request: &ConnectRequest| f(request))).is_some() {
            self.note_second_call("client_address");
        }
        self
    }

    /// Sets whether `private` reveals that a user is not connected. Default: it does not.
    pub fn unknown_users(mut self, unknown: UnknownUsers) -> Self {
        self.config.unknown_users = unknown;
        self
    }

    /// Sets how clients reconnect after a lost connection, unless their handler or connection says otherwise.
    /// The server sends them this policy. Default: [`RetryPolicy::default`].
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.config.retry = policy;
        self
    }

    /// Allows connections to go from one state to another, in addition to the table of [`ConnectionState`].
    /// The application declares its own states by naming them here; there are at most 59. A name that is read
    /// at run time, for example from a file, is parsed: `name.parse::<ConnectionState>()?`.
    ///
    /// ```
    /// use hauyna::Hub;
    /// use hauyna::connection::ConnectionState;
    ///
    /// const BUSY: ConnectionState = ConnectionState::custom("busy");
    /// let hub = Hub::builder()
    ///     .allow_transition(ConnectionState::Connected, BUSY)
    ///     .allow_transition(BUSY, ConnectionState::Connected)
    ///     .build();
    /// assert_eq!(hub.stats().states.of(BUSY), 0);
    /// ```
    pub fn allow_transition(mut self, from: ConnectionState, to: ConnectionState) -> Self {
        self.transitions.push((from, to));
        self
    }

    /// Sets how many sessions are kept for lost clients, and for how long. See [`SessionOptions`].
    pub fn sessions(mut self, sessions: SessionOptions) -> Self {
        self.config.sessions = sessions;
        self
    }

    /// Sets how long a lost connection without a [session](HubBuilder::sessions) stays in presence: a user
    /// who is back by then was never reported as gone. It does not apply to connections that unsubscribe or
    /// close permanently. Default: 5 s; 0 for none.
    pub fn presence_grace(mut self, grace: Duration) -> Self {
        self.config.presence_grace = grace;
        self
    }

    /// Sets how long a listener of [`Hub::events`] may run before the listeners after it start. Default: 30
    /// s.
    pub fn listener_timeout(mut self, timeout: Duration) -> Self {
        self.config.listener_timeout = timeout;
        self
    }

    /// Sets how long the hub waits for an answer of its broker. After that a publication fails with
    /// `timeout`, because it may have been published, and every other operation with `unavailable`. Default:
    /// 10 s.
    pub fn broker_timeout(mut self, timeout: Duration) -> Self {
        self.config.broker_timeout = timeout;
        self
    }

    /// Builds the hub.
    ///
    /// # Panics
    ///
    /// If an option is invalid; [`HubBuilder::try_build`] returns that as an error.
    #[track_caller]
    pub fn build(self) -> Hub {
        match self.try_build() {
            Ok(hub) => hub,
            Err(error) => panic!("{error}"),
        }
    }

    /// Builds the hub, or returns what is wrong with its options.
    ///
    /// # Errors
    ///
    /// A pattern of channels or groups is malformed or can never decide, because an earlier one matches all
    /// of its names; the broker, `client_address`, a role or a default role is set twice; the retry policy
    /// has a value out of its range, or a state an invalid name.
    pub fn try_build(self) -> Result<Hub, Error> {
        if let Some(fault) = self.first_error {
            return Err(fault);
        }
        self.config.retry.validate().and_then(|()| check_policies(&self.config.limits))?;
        let declarations = Declarations::new(self.channels)?;
        let groups = GroupMap::new(self.roles)?;
        let states = States::new(&self.transitions)?;
        let broker = self.broker.unwrap_or_else(|| Arc::new(LocalBroker::default()));
        let core = Arc::new_cyclic(|hub| HubCore {
            number: HUBS.fetch_add(1, Ordering::Relaxed),
            shards: Shards::new(self.config.shards),
            registry: Registry::new(self.config.shards),
            revocations: Revocations::default(),
            states,
            limits: Limits::new(&self.config.limits, self.client_address),
            channels: ChannelMap::new(),
            awaiting_subscriptions: AwaitingSubscriptions::new(),
            declarations,
            cluster: broker.directory().map(Cluster::new),
            broker,
            broker_is_up: AtomicBool::new(true),
            broker_seen: AtomicU32::new(0),
            presence: People::new(),
            sessions: Sessions::new(self.config.sessions),
            events: Listeners::new(hub.clone()),
            groups,
            metrics: Metrics::default(),
            routes: Mutex::default(),
            clock: Clock::start(),
            lifecycle: Lifecycle::new(),
            background: Background::new(hub.clone()),
            connection_gone: Notify::new(),
            config: self.config,
        });
        core.broker.start(relay_into(&core));
        if core.cluster.is_some() {
            core.background.ensure_running(Job::Cluster);
        }
        let hub = Hub(core);
        for listen in self.hooks {
            listen(&hub.events());
        }
        Ok(hub)
    }
}

/// Returns the relay that a broker gets. It holds the hub weakly, as the hub holds the broker.
fn relay_into(core: &Arc<HubCore>) -> Relay {
    let (receiver, turned, congested) = (Arc::downgrade(core), Arc::downgrade(core), Arc::downgrade(core));
    let relay = Relay::to(move |publication| {
        if let Some(hub) = receiver.upgrade() {
            channel::deliver(&hub, publication);
        }
    });
    let relay = relay.on_turn(move |channel, to, continuity| {
        if let Some(hub) = turned.upgrade() {
            channel::turned(&hub, channel, to, continuity);
        }
    });
    relay.congested_when(move |channel| congested.upgrade().is_some_and(|hub| hub.is_congested_for(channel)))
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubBuilder")
            .field("config", &self.config)
            .field("channels", &self.channels)
            .field("broker", &self.broker)
            .field("transitions", &self.transitions)
            .finish_non_exhaustive()
    }
}
