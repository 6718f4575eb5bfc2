//! How a hub is put together: options first, then one call. Mistakes that only the program's author can
//! make are reported there.

use super::limits::{AtLimit, ClientAddress, Limit, Limits, check_policies};
use super::{ChannelMap, Hub, HubCore, Lifecycle, Registry};
use crate::auth::Revocations;
use crate::background::Background;
use crate::broker::{Broker, LocalBroker, Relay};
use crate::channel::{ChannelOptions, Declarations, UserId};
use crate::clock::Clock;
use crate::config::{HubConfig, OutboxLimits};
use crate::connection::{Connection, ConnectionState, States};
use crate::contain::Foreign;
use crate::error::Error;
use crate::event::{Event, Events, Listeners, SystemEvent, SystemKind};
use crate::group::{GroupMap, Roles};
use crate::limits::UnknownUsers;
use crate::metrics::Metrics;
use crate::presence::People;
use crate::retry::RetryPolicy;
use crate::router::ConnectRequest;
use crate::session::{SessionOptions, Sessions};
use crate::shard::Shards;
use parking_lot::Mutex;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Options of a [`Hub`].
///
/// Patterns of channels and roles, listeners and transitions add up. The broker and
/// [`client_address`](HubBuilder::client_address) are given once, and each pattern is declared once: anything else is an
/// error of [`try_build`](HubBuilder::try_build). Of a single number, time or policy the last call counts.
#[must_use]
pub struct HubBuilder {
    config: HubConfig,
    channels: Vec<(String, ChannelOptions)>,
    broker: Option<Arc<dyn Broker>>,
    roles: Vec<(String, Roles)>,
    transitions: Vec<(ConnectionState, ConnectionState)>,
    hooks: Vec<Listen>,
    client_address: Option<ClientAddress>,
    /// The first mistake, for `try_build` to tell.
    first_error: Option<Error>,
}

/// Hubs that this process has had.
static HUBS: AtomicU64 = AtomicU64::new(0);

/// Registers a listener.
type Listen = Box<dyn FnOnce(&Events) + Send>;

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

    /// Notes that `method` was called for a part that has been given already.
    fn note_second_call(&mut self, method: &str) {
        let fault = format!("`{method}` is called twice: the second call would take the place of the first");
        self.first_error.get_or_insert_with(|| Error::config(fault));
    }

    /// Declares the channels whose names match a pattern: `room:{id}` takes one part, `{*rest}` the rest.
    /// The first pattern that matches decides, so a pattern all of whose names an earlier one matches is refused.
    pub fn channels(mut self, pattern: &str, options: ChannelOptions) -> Self {
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

    /// Sets how many connections this node takes; further ones get 503, unless [`HubBuilder::at_limit`] says
    /// otherwise. Default: no limit.
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

    /// Sets how many connections one address may have on this node, or one IPv6 network of 64 bits; further ones
    /// get 429, unless [`HubBuilder::at_limit`] says otherwise. Many people may share an address: leave room.
    /// Behind a proxy see [`HubBuilder::client_address`]. Who has no known address is not counted, but logged. Default: no limit.
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.config.limits[Limit::PerAddress as usize].max = connections;
        self
    }

    /// Sets what happens when a limit is reached, which has to be set. Default: [`AtLimit::Reject`].
    ///
    /// ```
    /// use hauyna::Hub;
    /// use hauyna::limits::{AtLimit, Limit};
    ///
    /// // The newest tab counts.
    /// let hub = Hub::builder().max_connections_per_user(1).at_limit(Limit::PerUser, AtLimit::CloseOldest).build();
    /// ```
    pub fn at_limit(mut self, limit: Limit, at_limit: AtLimit) -> Self {
        self.config.limits[limit as usize].at_limit = at_limit;
        self
    }

    /// Sets from which address a request comes, for [`HubBuilder::max_connections_per_address`]. Without it, and
    /// where `f` gives none, that is the other end of the socket: behind a proxy, the proxy for everybody.
    ///
    /// No header is believed by itself, because a client can send any: read the one that *your* proxy sets, and
    /// only the part that it has added.
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

    /// Allows connections to go from one state to another, beside what the table of [`ConnectionState`] allows.
    /// Own states are declared by naming them here; their names are 1 to 64 bytes without control characters,
    /// and there are at most 59.
    ///
    /// ```
    /// use hauyna::Hub;
    /// use hauyna::connection::ConnectionState;
    ///
    /// const BUSY: ConnectionState = ConnectionState::Own("busy");
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

    /// Runs when the state of a connection changed, with the old and the new state: one change after the other, in
    /// their order, beside the connections' own work. What fails or panics is logged and harms nobody else. May be
    /// given several times; it is a listener like those of [`Hub::events`].
    pub fn on_state_change<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Connection, ConnectionState, ConnectionState) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let f = Arc::new(f);
        let hook = move |_, event| {
            let f = f.clone();
            async move {
                match event {
                    SystemEvent::StateChanged { connection, old, new } => f(connection, old, new).await,
                    _ => Ok(()),
                }
            }
        };
        self.hooks.push(Box::new(|events| {
            events.on_system([SystemKind::StateChanged], hook);
        }));
        self
    }

    /// Runs when the first connection of a user is there; one that was lost counts until the
    /// [grace time](HubBuilder::presence_grace) is over. Runs beside the connections' own work, in order with
    /// [`HubBuilder::on_user_offline`]; a listener like those of [`Hub::events`].
    ///
    /// ```
    /// use hauyna::Hub;
    /// let hub = Hub::builder()
    ///     .on_user_online(|event, user| async move {
    ///         event.hub().channel("lobby").broadcast(format!("{user} is here")).await?;
    ///         Ok(())
    ///     })
    ///     .on_user_offline(|_, user| async move { Ok(println!("{user} has gone")) })
    ///     .build();
    /// # drop(hub);
    /// ```
    pub fn on_user_online<F, Fut>(self, f: F) -> Self
    where
        F: Fn(Event, UserId) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.on_user(SystemKind::UserOnline, f)
    }

    /// Runs when the last connection of a user is gone; see [`HubBuilder::on_user_online`].
    pub fn on_user_offline<F, Fut>(self, f: F) -> Self
    where
        F: Fn(Event, UserId) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.on_user(SystemKind::UserOffline, f)
    }

    fn on_user<F, Fut>(mut self, kind: SystemKind, f: F) -> Self
    where
        F: Fn(Event, UserId) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let f = Arc::new(f);
        let hook = move |event: Event, told| {
            let f = f.clone();
            async move {
                match told {
                    SystemEvent::UserOnline { user } | SystemEvent::UserOffline { user } => {
                        f(event, user).await
                    }
                    _ => Ok(()),
                }
            }
        };
        self.hooks.push(Box::new(move |events| {
            events.on_system([kind], hook);
        }));
        self
    }

    /// Sets how long, and how many, sessions are kept for clients that were lost. See [`SessionOptions`].
    pub fn sessions(mut self, sessions: SessionOptions) -> Self {
        self.config.sessions = sessions;
        self
    }

    /// Sets how long a lost connection without a [session](HubBuilder::sessions) stays in presence: whoever is back by then was never gone. It does not apply to
    /// those who unsubscribe or close for good. Default: 5 s; 0 for none.
    pub fn presence_grace(mut self, grace: Duration) -> Self {
        self.config.presence_grace = grace;
        self
    }

    /// Sets how long a listener of [`Hub::events`] may take before those after it run. Default: 30 s.
    pub fn listener_timeout(mut self, timeout: Duration) -> Self {
        self.config.listener_timeout = timeout;
        self
    }

    /// Sets how long the hub waits for an answer of its broker. Past it a publication fails with `timeout`, for it may
    /// have been published, everything else with `unavailable`. Default: 10 s.
    pub fn broker_timeout(mut self, timeout: Duration) -> Self {
        self.config.broker_timeout = timeout;
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
    /// A pattern of channels or groups is malformed or can never decide, because an earlier one matches all of its names;
    /// the broker, `client_address`, a role or a default role is given twice; the retry policy has a value out of its range, or a state a
    /// bad name.
    pub fn try_build(self) -> Result<Hub, Error> {
        if let Some(fault) = self.first_error {
            return Err(fault);
        }
        self.config.retry.validate().and_then(|()| check_policies(&self.config.limits))?;
        let declarations = Declarations::new(self.channels)?;
        let groups = GroupMap::new(self.roles)?;
        let states = States::new(&self.transitions)?;
        let core = Arc::new_cyclic(|hub| HubCore {
            number: HUBS.fetch_add(1, Ordering::Relaxed),
            shards: Shards::new(self.config.shards),
            registry: Registry::new(self.config.shards),
            revocations: Revocations::default(),
            states,
            limits: Limits::new(&self.config.limits, self.client_address),
            channels: ChannelMap::new(),
            declarations,
            broker: self.broker.unwrap_or_else(|| Arc::new(LocalBroker::default())),
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
        core.broker.start(Relay::new(Arc::downgrade(&core)));
        let hub = Hub(core);
        for listen in self.hooks {
            listen(&hub.events());
        }
        Ok(hub)
    }
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
