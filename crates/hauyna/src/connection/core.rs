//! The shared state of a connection, held by its task, its shard and every handle. It is small, because there
//! may be a hundred thousand: what few connections need is in `cold`, and what all connections share is in
//! the endpoint.

use super::cold::ColdState;
use super::connect_info::ConnectInfo;
use super::extensions::DetachedExtensions;
use super::liveness::Liveness;
use crate::channel::Subscription;
use crate::close::CloseReason;
use crate::counters::{Metrics, Traffic};
use crate::error::Error;
use crate::handler::Endpoint;
use crate::hub::HubCore;
use crate::outbox::{Outbox, Phase};
use crate::retry::RetryPolicy;
use crate::state::Index;
use hauyna_broker::{ChannelName, ConnectionId, UserId, Wire};
use hauyna_websocket::Deflate;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32};
use std::sync::{Arc, OnceLock};

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

    // Subscriptions.

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.is_open() { Ok(()) } else { Err(Error::closed()) }
    }

    /// Returns why it is being closed, if it is.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.outbox.lock().reason
    }

    pub(crate) fn is_open(&self) -> bool {
        self.outbox.lock().phase == Phase::Open
    }

    // Values for handles and metrics.

    // Liveness.
}

impl fmt::Debug for ConnectionCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).field("user", &self.user).finish_non_exhaustive()
    }
}
