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
mod stream;
mod takeover;
mod transition;
mod write;

pub use crate::close::CloseReason;
pub use crate::name::ConnectionId;
pub use crate::retry::RetryPolicy;
pub use crate::state::{ConnectionState, StateCounts};
pub use client_requests::ClientRequest;
pub use connections::Connections;
pub use extensions::Extensions;
pub use handle::Connection;
pub use hauyna_protocol::Encoding;

pub(crate) use self::core::{ConnectionCore, ConnectionParts, Owner};
pub(crate) use close::{CloseDetails, close_replaced, evict};
pub(crate) use connect_info::ConnectInfo;
pub(crate) use extensions::DetachedExtensions;
pub(crate) use liveness::Deadlines;
pub(crate) use open::{Opening, SessionAnnouncement, UnopenedConnection, register};
pub(crate) use outbox::{Backlog, Phase, SessionNotice};
pub(crate) use queued::{QueueBounds, Widening};
pub(crate) use reader::{Resumed, announce_session, frame};
pub(crate) use write::TaskUrgency;

use crate::metrics::Traffic;
use crate::publication::Wire;
use hauyna_websocket::Deflate;

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
