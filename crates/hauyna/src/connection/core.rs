//! What a connection is made of, shared by its task, its shard and every handle. Small, because there may
//! be a hundred thousand: what few connections need is boxed, what all share is in the endpoint.

use super::cold::ColdState;
use super::connect_info::ConnectInfo;
use super::extensions::DetachedExtensions;
use super::liveness::{Deadlines, Liveness};
use super::outbox::Outbox;
use super::state::Index;
use super::{CloseReason, ConnectionId, Outgoing, Phase, QueueBounds, Widening};
use crate::channel::{ChannelCore, ChannelName, Subscription, UserId, Wire};
use crate::clock::Tick;
use crate::error::Error;
use crate::handler::Endpoint;
use crate::hub::HubCore;
use crate::metrics::{Metrics, Traffic};
use crate::retry::RetryPolicy;
use hauyna_protocol::ErrorType;
use hauyna_websocket::{Deflate, OpCode, encode};
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The order of the fields counts: what a delivery needs stands in the first two cache lines.
#[repr(C)]
pub(crate) struct ConnectionCore {
    pub(super) outbox: Mutex<Outbox>,
    wire: Wire,
    /// The index of its state in the hub's table.
    pub(super) state: AtomicU8,
    /// There are at most 256.
    shard: u8,
    /// In how many lists of its shard it stands; 255 stands for more, too, and then stays. Changed by its shard alone.
    pub(super) shard_list_count: AtomicU8,
    /// When it came into its state.
    pub(super) state_since_tick: AtomicU32,
    pub(super) hub: Arc<HubCore>,
    pub(super) endpoint: Arc<Endpoint>,
    id: ConnectionId,
    user: UserId,
    pub(crate) subscriptions: Mutex<Vec<Arc<Subscription>>>,
    pub(super) liveness: Liveness,
    connect_info: ConnectInfo,
    pub(super) cold: OnceLock<Box<ColdState>>,
}

/// Whose a subscription is: the connection's own, or its user's by a group.
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

/// What a new connection is.
pub(crate) struct ConnectionParts {
    pub(crate) id: ConnectionId,
    pub(crate) shard: u8,
    pub(crate) user: UserId,
    pub(crate) wire: Wire,
    pub(crate) arrival: ConnectInfo,
    /// To the HTTP request, and by `identify`; callbacks see it.
    pub(crate) attached: Option<DetachedExtensions>,
    /// What its session is bound to, where the handler says so.
    pub(crate) session_key: Option<Box<str>>,
}

impl ConnectionCore {
    pub(super) fn new(
        hub: Arc<HubCore>,
        endpoint: Arc<Endpoint>,
        particulars: ConnectionParts,
        outbox: Outbox,
    ) -> Self {
        let ConnectionParts { id, shard, user, wire, arrival, attached, session_key } = particulars;
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
            connect_info: arrival,
            cold: OnceLock::new(),
        };
        if let Some(attached) = attached.filter(|attached| !attached.is_empty()) {
            this.cold().extensions.begin(attached);
        }
        if let Some(key) = session_key {
            let _ = this.cold().session_key.set(key); // it is new
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

    /// How it came.
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

    /// What the connections of its shard count.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.hub.shards[self.shard()].traffic
    }

    /// The compressor for this connection's frames, where it negotiated one.
    pub(crate) fn deflate(&self) -> Option<&Deflate> {
        if self.wire.is_deflated() { self.endpoint.deflate.as_ref() } else { None }
    }

    /// What the log of the application's code stands in, where anybody wants it.
    pub(super) fn span(&self) -> tracing::Span {
        let user = crate::log::name(&self.user);
        tracing::debug_span!(target: "hauyna::connection", "callback", id = %self.id, %user)
    }

    /// What few connections have, made when it is first asked for.
    pub(crate) fn cold(&self) -> &ColdState {
        self.cold.get_or_init(Box::default)
    }

    pub(crate) fn existing_cold(&self) -> Option<&ColdState> {
        self.cold.get().map(|attached| &**attached)
    }

    /// How the client comes back: as was said of it, else of its handler, else of the hub.
    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        let own = self.cold.get().and_then(|attached| *attached.retry.lock());
        own.or(self.endpoint.retry).unwrap_or(self.hub.config.retry)
    }

    pub(super) fn outgoing(&self) -> Outgoing<'_> {
        let (wire, deflate, traffic) = (self.wire, self.deflate(), self.traffic());
        let (room, stretch) = (self.bounded(), Widening::Short);
        Outgoing { wire, deflate, bounds: room, bounds_kind: stretch, may_conflate: false, traffic }
    }

    /// As [`outgoing`](Self::outgoing), for what was posted to its shard.
    pub(super) fn outgoing_for_inbox(&self) -> Outgoing<'_> {
        Outgoing { bounds_kind: Widening::Inbox, ..self.outgoing() }
    }

    pub(super) fn bounded(&self) -> QueueBounds {
        let limits = self.hub.config.outbox;
        QueueBounds { bytes: limits.bytes, frames: limits.frames }
    }

    /// Whether so much waits to be written that nothing more should be read.
    pub(super) fn is_backed_up(&self) -> bool {
        self.outbox.lock().is_over_bounds(self.bounded())
    }

    // Subscriptions.

    /// The list that subscriptions of this kind stand in.
    pub(crate) fn subscriptions_of(&self, belongs: Owner) -> &Mutex<Vec<Arc<Subscription>>> {
        match belongs {
            Owner::Connection => &self.subscriptions,
            Owner::Group => &self.cold().groups,
        }
    }

    /// Takes one subscription out of its list; the channel still has it.
    pub(crate) fn take_subscription(&self, channel: &str, belongs: Owner) -> Option<Arc<Subscription>> {
        let mut own = self.subscriptions_of(belongs).lock();
        let index = own.iter().position(|subscription| subscription.channel.name.as_str() == channel)?;
        let subscription = own.swap_remove(index);
        Some(subscription)
    }

    /// Takes one subscription out of its list, where it is in it; the channel's lock is held.
    pub(crate) fn drop_subscription(&self, subscription: &Arc<Subscription>) {
        let belongs = Owner::of(&subscription.channel.name);
        let mut own = self.subscriptions_of(belongs).lock();
        if let Some(index) = own.iter().position(|other| Arc::ptr_eq(other, subscription)) {
            own.swap_remove(index);
        }
    }

    /// Takes all of them, when the connection is gone.
    pub(crate) fn take_subscriptions(&self) -> Vec<Arc<Subscription>> {
        let mut all = std::mem::take(&mut *self.subscriptions.lock());
        if let Some(attached) = self.cold.get() {
            all.append(&mut attached.groups.lock());
        }
        all
    }

    pub(crate) fn subscription(&self, channel: &str) -> Option<Arc<Subscription>> {
        let subscriptions = self.subscriptions.lock();
        subscriptions.iter().find(|own| own.channel.name.as_str() == channel).cloned()
    }

    /// An early answer, before the history is fetched; [`ConnectionCore::check_subscribe`] has the last word.
    pub(crate) fn may_subscribe(&self, channel: &ChannelName) -> Result<(), Error> {
        self.check_open()?;
        let own = self.subscriptions.lock();
        self.check(&own, Owner::Connection, 0, |subscription| subscription.channel.name == *channel)
    }

    /// As [`may_subscribe`](Self::may_subscribe), for anybody but the session that the connection takes over.
    pub(crate) fn check_new_subscription(&self, channel: &ChannelName) -> Result<(), Error> {
        if self.reserved(channel).1 { Err(already_subscribed()) } else { Ok(()) }
    }

    pub(crate) fn check_subscribe(
        &self,
        own: &[Arc<Subscription>],
        channel: &Arc<ChannelCore>,
        (belongs, is_going_on): (Owner, bool),
    ) -> Result<(), Error> {
        let is_same = |subscription: &Subscription| Arc::ptr_eq(&subscription.channel, channel);
        // A session that goes on stays whole where its connection is gone again: its task takes it out when this is
        // done. Nor may others have taken its places.
        if is_going_on {
            return Self::check_same(own, is_same);
        }
        self.check_open()?;
        let (reserved, is_reserved) = match belongs {
            Owner::Connection => self.reserved(&channel.name),
            Owner::Group => (0, false),
        };
        if is_reserved {
            return Err(already_subscribed());
        }
        self.check(own, belongs, reserved, is_same)
    }

    fn check_same(own: &[Arc<Subscription>], is_same: impl Fn(&Subscription) -> bool) -> Result<(), Error> {
        if own.iter().any(|subscription| is_same(subscription)) { Err(already_subscribed()) } else { Ok(()) }
    }

    pub(super) fn check_open(&self) -> Result<(), Error> {
        if self.is_open() { Ok(()) } else { Err(Error::closed()) }
    }

    fn check(
        &self,
        own: &[Arc<Subscription>],
        belongs: Owner,
        reserved: usize,
        is_same: impl Fn(&Subscription) -> bool,
    ) -> Result<(), Error> {
        Self::check_same(own, is_same)?;
        let most = self.hub.config.channels_per_connection;
        if belongs == Owner::Connection && own.len() + reserved >= most as usize {
            let error = Error::protocol(ErrorType::LimitExceeded, "too many channels on this connection");
            return Err(error.with_details(serde_json::json!({ "limit": most })));
        }
        Ok(())
    }

    /// Why it is being closed, if it is.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.outbox.lock().reason
    }

    pub(crate) fn is_open(&self) -> bool {
        self.outbox.lock().phase == Phase::Open
    }

    // What can be seen from outside.

    /// How long ago something was read.
    pub(crate) fn silent_for(&self) -> Duration {
        let now = self.hub.clock.tick();
        now.since(self.liveness.last_read().assign_time(|| now))
    }

    /// Bytes that wait to be written.
    pub(crate) fn backlog(&self) -> usize {
        self.outbox.lock().bytes()
    }

    // Liveness.

    /// How far it is, since when its socket takes nothing, and how many bytes wait. What was noted since the last sweep
    /// is now.
    pub(crate) fn note_progress(&self) -> (Phase, Option<Tick>, usize) {
        let mut outbox = self.outbox.lock();
        outbox.set_times(|| self.hub.clock.tick());
        (outbox.phase, outbox.blocked, outbox.bytes())
    }

    pub(crate) fn deadlines(&self) -> Deadlines {
        self.liveness.with_known_times(|| self.hub.clock.tick())
    }

    /// Nothing can be read of the peer now, and so it cannot be late.
    pub(crate) fn stop_reading_timeout(&self) {
        self.liveness.hold(self.hub.clock.tick());
    }

    pub(crate) fn ping(self: &Arc<Self>, last: Tick, interval: Duration) {
        let now = self.hub.clock.tick();
        // Pings keep their pace, though the sweep is late by a part of its own period each time.
        let is_late = now.since(last) >= interval.saturating_mul(2);
        self.liveness.note_ping(if is_late { now } else { last.after(interval) }, now);
        self.push_control(encode(OpCode::Ping, b""));
    }

    /// Has the task see that its callback is overdue.
    pub(crate) fn expire_callback(&self) {
        self.wake(&self.outbox.lock());
    }

    /// The callback at work has its whole time again.
    pub(crate) fn restart_callback(&self) {
        if self.liveness.busy().is_some() {
            self.liveness.set_busy(true);
        }
    }

    /// Whether the callback at work is overdue. To take over a session is none, and has deadlines of its own.
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
