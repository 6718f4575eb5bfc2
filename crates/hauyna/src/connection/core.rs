//! The shared state of a connection, held by its task, its shard and every handle. It is small, because there
//! may be a hundred thousand: what few connections need is in `cold`, and what all connections share is in
//! the endpoint.

use super::cold::ColdState;
use super::connect_info::ConnectInfo;
use super::extensions::DetachedExtensions;
use super::liveness::{Deadlines, Liveness};
use crate::channel::{ChannelCore, Subscription};
use crate::clock::Tick;
use crate::close::CloseReason;
use crate::counters::{Metrics, Traffic};
use crate::error::Error;
use crate::handler::Endpoint;
use crate::hub::HubCore;
use crate::name::{ChannelName, ConnectionId, UserId};
use crate::outbox::{Outbox, Outgoing, Phase, QueueBounds, Widening};
use crate::publication::Wire;
use crate::retry::RetryPolicy;
use crate::state::Index;
use hauyna_protocol::ErrorType;
use hauyna_websocket::{Deflate, OpCode, encode};
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The order of the fields matters: the fields that a delivery needs are in the first two cache lines.
#[repr(C)]
pub(crate) struct ConnectionCore {
    pub(crate) outbox: Mutex<Outbox>,
    wire: Wire,
    /// The index of its state in the hub's table.
    pub(super) state: AtomicU8,
    /// The index of its shard; there are at most 256 shards.
    shard: u8,
    /// The number of its shard's lists that contain it; 255 also stands for more, and then stays. Only the
    /// shard changes it.
    pub(crate) shard_list_count: AtomicU8,
    /// The time when it entered its state.
    pub(super) state_since_tick: AtomicU32,
    pub(super) hub: Arc<HubCore>,
    pub(super) endpoint: Arc<Endpoint>,
    id: ConnectionId,
    user: UserId,
    pub(crate) subscriptions: Mutex<Vec<Arc<Subscription>>>,
    pub(crate) liveness: Liveness,
    connect_info: ConnectInfo,
    pub(crate) cold: OnceLock<Box<ColdState>>,
}

/// Who holds a subscription: the connection itself, or its user through a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Connection,
    Group,
}

impl Owner {
    pub(crate) fn of(channel: &ChannelName) -> Self {
        if channel.is_of_group() { Self::Group } else { Self::Connection }
    }
}

/// The properties of a new connection.
pub(crate) struct ConnectionParts {
    pub(crate) id: ConnectionId,
    pub(crate) shard: u8,
    pub(crate) user: UserId,
    pub(crate) wire: Wire,
    pub(crate) connect_info: ConnectInfo,
    /// Values attached to the HTTP request and by `identify`; callbacks see them.
    pub(crate) attached: Option<DetachedExtensions>,
    /// The key that its session is bound to, where the handler gives one.
    pub(crate) session_key: Option<Box<str>>,
}

impl ConnectionCore {
    pub(crate) fn new(
        hub: Arc<HubCore>,
        endpoint: Arc<Endpoint>,
        particulars: ConnectionParts,
        outbox: Outbox,
    ) -> Self {
        let ConnectionParts { id, shard, user, wire, connect_info, attached, session_key } = particulars;
        let now = hub.clock.tick();
        let this = Self {
            outbox: Mutex::new(outbox),
            wire,
            state: AtomicU8::new(Index::CONNECTED.0),
            shard,
            shard_list_count: AtomicU8::new(0),
            state_since_tick: AtomicU32::new(now.0),
            id,
            endpoint,
            hub,
            user,
            subscriptions: Mutex::default(),
            liveness: Liveness::new(now),
            connect_info,
            cold: OnceLock::new(),
        };
        if let Some(attached) = attached.filter(|attached| !attached.is_empty()) {
            this.cold().extensions.begin(attached);
        }
        if let Some(key) = session_key {
            let _ = this.cold().session_key.set(key); // the connection is new, so the key was not set yet
        }
        this
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(crate) fn shard(&self) -> usize {
        self.shard.into()
    }

    pub(crate) fn user(&self) -> &UserId {
        &self.user
    }

    pub(crate) fn wire(&self) -> Wire {
        self.wire
    }

    /// Returns how the client connected.
    pub(crate) fn connect_info(&self) -> &ConnectInfo {
        &self.connect_info
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn hub(&self) -> &Arc<HubCore> {
        &self.hub
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.hub.metrics
    }

    /// Returns the counters that the connections of its shard share.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.hub.shards[self.shard()].traffic
    }

    /// Returns the compressor for this connection's frames if it negotiated one.
    pub(crate) fn deflate(&self) -> Option<&Deflate> {
        if self.wire.is_deflated() { self.endpoint.deflate.as_ref() } else { None }
    }

    /// Returns the tracing span for the application's code.
    pub(crate) fn span(&self) -> tracing::Span {
        let user = crate::log::name(&self.user);
        tracing::debug_span!(target: "hauyna::connection", "callback", id = %self.id, %user)
    }

    /// Returns the rarely used state, which is created on the first call.
    pub(crate) fn cold(&self) -> &ColdState {
        self.cold.get_or_init(Box::default)
    }

    pub(crate) fn existing_cold(&self) -> Option<&ColdState> {
        self.cold.get().map(|cold| &**cold)
    }

    /// Returns how the client reconnects: its own policy, else its handler's, else the hub's.
    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        let policy = self.cold.get().and_then(|cold| *cold.retry.lock());
        policy.or(self.endpoint.retry).unwrap_or(self.hub.config.retry)
    }

    pub(crate) fn outgoing(&self) -> Outgoing<'_> {
        let (wire, deflate, traffic) = (self.wire, self.deflate(), self.traffic());
        let (bounds, bounds_kind) = (self.bounded(), Widening::Short);
        Outgoing { wire, deflate, bounds, bounds_kind, may_conflate: false, traffic }
    }

    /// Does the same as [`outgoing`](Self::outgoing), for what was posted to its shard.
    pub(crate) fn outgoing_for_inbox(&self) -> Outgoing<'_> {
        Outgoing { bounds_kind: Widening::Inbox, ..self.outgoing() }
    }

    pub(crate) fn bounded(&self) -> QueueBounds {
        let limits = self.hub.config.outbox;
        QueueBounds { bytes: limits.bytes, frames: limits.frames }
    }

    /// Whether so much is queued that nothing more should be read.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.outbox.lock().is_over_bounds(self.bounded())
    }

    // Subscriptions.

    /// Returns the list of the subscriptions of this owner.
    pub(crate) fn subscriptions_of(&self, owner: Owner) -> &Mutex<Vec<Arc<Subscription>>> {
        match owner {
            Owner::Connection => &self.subscriptions,
            Owner::Group => &self.cold().groups,
        }
    }

    /// Removes one subscription from its list; the channel still has it.
    pub(crate) fn take_subscription(&self, channel: &str, owner: Owner) -> Option<Arc<Subscription>> {
        let mut subscriptions = self.subscriptions_of(owner).lock();
        let index =
            subscriptions.iter().position(|subscription| subscription.channel.name.as_str() == channel)?;
        let subscription = subscriptions.swap_remove(index);
        Some(subscription)
    }

    /// Removes one subscription from its list if it is in it; the caller holds the channel's lock.
    pub(crate) fn drop_subscription(&self, subscription: &Arc<Subscription>) {
        let owner = Owner::of(&subscription.channel.name);
        let mut subscriptions = self.subscriptions_of(owner).lock();
        if let Some(index) = subscriptions.iter().position(|other| Arc::ptr_eq(other, subscription)) {
            subscriptions.swap_remove(index);
        }
    }

    /// Removes and returns all subscriptions, when the connection is gone.
    pub(crate) fn take_subscriptions(&self) -> Vec<Arc<Subscription>> {
        let mut all = std::mem::take(&mut *self.subscriptions.lock());
        if let Some(cold) = self.cold.get() {
            all.append(&mut cold.groups.lock());
        }
        all
    }

    pub(crate) fn subscription(&self, channel: &str) -> Option<Arc<Subscription>> {
        let subscriptions = self.subscriptions.lock();
        subscriptions.iter().find(|subscription| subscription.channel.name.as_str() == channel).cloned()
    }

    /// Checks early, before the history is fetched; [`ConnectionCore::check_subscribe`] decides.
    pub(crate) fn may_subscribe(&self, channel: &ChannelName) -> Result<(), Error> {
        self.check_open()?;
        let subscriptions = self.subscriptions.lock();
        self.check(&subscriptions, Owner::Connection, 0, |subscription| subscription.channel.name == *channel)
    }

    /// Checks a subscription that does not come from the session that the connection takes over.
    pub(crate) fn check_new_subscription(&self, channel: &ChannelName) -> Result<(), Error> {
        if self.reserved(channel).1 { Err(already_subscribed()) } else { Ok(()) }
    }

    /// Checks whether a subscription may be added. `is_resumed` says that it comes from a resumed session.
    pub(crate) fn check_subscribe(
        &self,
        subscriptions: &[Arc<Subscription>],
        channel: &Arc<ChannelCore>,
        owner: Owner,
        is_resumed: bool,
    ) -> Result<(), Error> {
        let is_same = |subscription: &Subscription| Arc::ptr_eq(&subscription.channel, channel);
        // A resumed session stays complete even if its connection is gone again: the connection's task
        // removes the subscriptions afterwards. Nor may others have taken its places.
        if is_resumed {
            return Self::check_same(subscriptions, is_same);
        }
        self.check_open()?;
        let (reserved, is_reserved) = match owner {
            Owner::Connection => self.reserved(&channel.name),
            Owner::Group => (0, false),
        };
        if is_reserved {
            return Err(already_subscribed());
        }
        self.check(subscriptions, owner, reserved, is_same)
    }

    fn check_same(
        subscriptions: &[Arc<Subscription>],
        is_same: impl Fn(&Subscription) -> bool,
    ) -> Result<(), Error> {
        if subscriptions.iter().any(|subscription| is_same(subscription)) {
            Err(already_subscribed())
        } else {
            Ok(())
        }
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.is_open() { Ok(()) } else { Err(Error::closed()) }
    }

    fn check(
        &self,
        subscriptions: &[Arc<Subscription>],
        owner: Owner,
        reserved: usize,
        is_same: impl Fn(&Subscription) -> bool,
    ) -> Result<(), Error> {
        Self::check_same(subscriptions, is_same)?;
        let max = self.hub.config.channels_per_connection;
        if owner == Owner::Connection && subscriptions.len() + reserved >= max as usize {
            let error = Error::protocol(ErrorType::LimitExceeded, "too many channels on this connection");
            return Err(error.with_details(serde_json::json!({ "limit": max })));
        }
        Ok(())
    }

    /// Returns why it is being closed, if it is.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.outbox.lock().reason
    }

    pub(crate) fn is_open(&self) -> bool {
        self.outbox.lock().phase == Phase::Open
    }

    // Values for handles and metrics.

    /// Returns how long ago something was read.
    pub(crate) fn silent_for(&self) -> Duration {
        let now = self.hub.clock.tick();
        now.since(self.liveness.last_read().assign_time(|| now))
    }

    /// Returns the bytes that are queued.
    pub(crate) fn backlog(&self) -> usize {
        self.outbox.lock().bytes()
    }

    // Liveness.

    /// Returns its phase, since when its socket accepts nothing, and how many bytes are queued. What was
    /// noted since the last sweep gets the current time.
    pub(crate) fn note_progress(&self) -> (Phase, Option<Tick>, usize) {
        let mut outbox = self.outbox.lock();
        outbox.set_times(|| self.hub.clock.tick());
        (outbox.phase, outbox.blocked, outbox.bytes())
    }

    pub(crate) fn deadlines(&self) -> Deadlines {
        self.liveness.with_known_times(|| self.hub.clock.tick())
    }

    /// Restarts the deadlines of the peer, because nothing can be read from it now and so it cannot be late.
    pub(crate) fn stop_reading_timeout(&self) {
        self.liveness.hold(self.hub.clock.tick());
    }

    pub(crate) fn ping(self: &Arc<Self>, last: Tick, interval: Duration) {
        let now = self.hub.clock.tick();
        // Pings keep their interval, although the sweep is late by a part of its own period each time.
        let is_late = now.since(last) >= interval.saturating_mul(2);
        self.liveness.note_ping(if is_late { now } else { last.after(interval) }, now);
        self.push_control(encode(OpCode::Ping, b""));
    }

    /// Wakes the task, so that it notices that its callback is overdue.
    pub(crate) fn expire_callback(&self) {
        self.wake(&self.outbox.lock());
    }

    /// Gives the running callback its whole time again.
    pub(crate) fn restart_callback(&self) {
        if self.liveness.busy().is_some() {
            self.liveness.set_busy(true);
        }
    }

    /// Whether the running callback is overdue. A takeover of a session is no callback and has deadlines of
    /// its own.
    pub(crate) fn has_expired(&self) -> bool {
        let is_over = |since: Tick| {
            since != Tick::RECENT && self.hub.clock.tick().since(since) >= self.endpoint.callback_timeout
        };
        self.liveness.busy().is_some_and(is_over) && !self.is_resuming()
    }
}

fn already_subscribed() -> Error {
    Error::protocol(ErrorType::AlreadySubscribed, "already subscribed to this channel")
}

impl fmt::Debug for ConnectionCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).field("user", &self.user).finish_non_exhaustive()
    }
}
