//! One live socket. `Connection` is the handle that applications hold and `core` the state behind it. `open`
//! registers a connection, `driver` runs its task (with `reader`, `callback` and `read_ahead`), `close` ends
//! it, and `expiry` ends it with its credentials. `outbox` and `lanes` hold what is sent to the client,
//! `state` and `transition` hold its state, and `connections` is the handle on all connections of a hub.

mod callback;
mod client_requests;
mod close;
mod cold;
mod connect_info;
mod connections;
mod core;
mod driver;
mod expiry;
mod extensions;
mod handle;
mod lanes;
mod latest;
mod liveness;
mod open;
mod outbox;
mod queued;
mod read_ahead;
mod reader;
mod replay;
mod replies;
mod send;
mod slow_consumer;
mod state;
mod stream;
mod takeover;
mod transition;
mod write;

pub use crate::retry::RetryPolicy;
pub use client_requests::ClientRequest;
pub use connections::Connections;
pub use extensions::Extensions;
pub use handle::Connection;
pub use hauyna_protocol::Encoding;
pub use state::{ConnectionState, StateCounts};

pub(crate) use self::callback::call_in_order;
pub(crate) use self::core::{ConnectionCore, ConnectionParts, Owner};
pub(crate) use close::{CloseDetails, close_replaced, evict};
pub(crate) use connect_info::ConnectInfo;
pub(crate) use extensions::DetachedExtensions;
pub(crate) use liveness::Deadlines;
pub(crate) use open::{Opening, SessionAnnouncement, UnopenedConnection, register};
pub(crate) use outbox::{Backlog, Phase, SessionNotice};
pub(crate) use queued::{QueueBounds, Widening};
pub(crate) use reader::{Resumed, announce_session, frame};
pub(crate) use state::States;
pub(crate) use write::TaskUrgency;

use crate::channel::Wire;
use crate::metrics::Traffic;
use hauyna_protocol::close::CloseCode;
use hauyna_websocket::Deflate;
use serde::{Serialize, Serializer};
use std::fmt;

/// Identifies one connection on one node, for as long as the node runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    pub(crate) fn new(value: u64) -> Self {
        Self(value)
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a connection ended; `on_close` gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed it, with this code (1005 where it gave none).
    Client(u16),
    /// The socket broke, or the client disconnected without a close frame.
    Lost,
    /// A ping was not answered in time.
    Heartbeat,
    /// The client did not read fast enough, and its outbox was full.
    SlowConsumer,
    /// The socket accepted no data for longer than the write timeout.
    WriteTimeout,
    /// The application closed it, with this code.
    Application(u16),
    /// The hub was shut down.
    Shutdown,
    /// The hub drains: the client reconnects to another node.
    Drain,
    /// The client violated the protocol.
    Protocol,
    /// The client sent a message larger than [`Handler::max_message`](crate::Handler::max_message).
    MessageTooBig,
    /// More of the client's requests were refused than its error budget allows.
    TooManyErrors,
    /// A newer connection replaced this one under a connection limit.
    Replaced,
    /// The credentials have expired.
    Expired,
    /// A callback failed or panicked while the connection was opened.
    Failed,
    /// The client returned with another connection, which took over the session.
    Resumed,
}

impl CloseReason {
    /// The names of the reasons in metrics and the log, by [`CloseReason::index`].
    pub(crate) const NAMES: [&'static str; 15] = [
        "client",
        "lost",
        "heartbeat",
        "slow_consumer",
        "write_timeout",
        "application",
        "shutdown",
        "protocol",
        "replaced",
        "failed",
        "too_many_errors",
        "expired",
        "drain",
        "resumed",
        "message_too_big",
    ];

    /// Returns the reason for a close by the application with this code, or with the code that is sent in its
    /// place.
    pub(crate) fn application(code: CloseCode) -> Self {
        Self::Application(sendable(code).0)
    }

    /// Returns the index in [`CloseReason::NAMES`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Client(_) => 0,
            Self::Lost => 1,
            Self::Heartbeat => 2,
            Self::SlowConsumer => 3,
            Self::WriteTimeout => 4,
            Self::Application(_) => 5,
            Self::Shutdown => 6,
            Self::Protocol => 7,
            Self::Replaced => 8,
            Self::Failed => 9,
            Self::TooManyErrors => 10,
            Self::Expired => 11,
            Self::Drain => 12,
            Self::Resumed => 13,
            Self::MessageTooBig => 14,
        }
    }

    /// Returns the name of the reason in metrics and the log: `client`, `lost`, `heartbeat`, `slow_consumer`,
    /// `write_timeout`, `application`, `shutdown`, `protocol`, `replaced`, `failed`, `too_many_errors`,
    /// `expired`, `drain`, `resumed`, `message_too_big`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self.index()]
    }
}

/// Returns the code that is sent for `code`: the same, or 1011 where RFC 6455 §7.4 forbids sending it.
pub(crate) fn sendable(code: CloseCode) -> CloseCode {
    let sent = CloseCode(hauyna_websocket::CloseCode::new(code.0).sendable().as_u16());
    if sent != code {
        crate::log::limited("close code", || {
            tracing::warn!(target: "hauyna::connection", code = code.0, "a close code that may not be sent");
        });
    }
    sent
}

/// How the messages of one connection are encoded and bounded; lent to its outbox for one call.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) wire: Wire,
    pub(crate) deflate: Option<&'a Deflate>,
    pub(crate) bounds: QueueBounds,
    pub(crate) bounds_kind: Widening,
    /// Whether the socket accepts nothing, so that a queued publication may be superseded.
    pub(crate) may_conflate: bool,
    pub(crate) traffic: &'a Traffic,
}
