//! Connections: one live socket each, with its state, its values, and requests to its client.
//!
//! A [`Connection`] comes from [`Context::connection`](crate::Context::connection) or
//! [`Hub::connections`](crate::Hub::connections): it sends, asks its client, changes its [`ConnectionState`]
//! and closes. [`Extensions`] are the values attached to it, and a [`RetryPolicy`] says how its client
//! reconnects. The guides are [state](crate::guide::state) for values and [states](crate::guide::states) for
//! states.
//
// One live socket, as an object: `Connection` is the handle that applications hold, `core` the state behind
// it with `cold` for what few connections have, `state` and `transition` its states, `credentials` its rights
// and their end. `connections` is the handle on all connections of a hub. `outbox` holds what waits to be
// sent to it, `driver` runs it.

mod client_requests;
mod cold;
mod connect_info;
mod connections;
mod core;
mod credentials;
mod extensions;
mod frame;
mod handle;
mod liveness;
mod liveness_checks;
mod send_to_many;
mod subscription_list;
mod takeover;
mod transition;

pub use crate::close::CloseReason;
pub use crate::retry::RetryPolicy;
pub use crate::state::{ConnectionState, StateCounts, StateName};
pub use client_requests::ClientRequest;
pub use connections::Connections;
pub use extensions::Extensions;
pub use handle::Connection;
pub use hauyna_broker::ConnectionId;
pub use hauyna_protocol::Encoding;
pub use send_to_many::SendToManyBuilder;

pub(crate) use self::core::{ConnectionCore, ConnectionParts, Owner};
pub(crate) use client_requests::{awaits_answer, deliver_answer, end_requests};
pub(crate) use connect_info::ConnectInfo;
pub(crate) use extensions::DetachedExtensions;
pub(crate) use frame::{append_frame, append_payload, close_frame_of, content_frame, frame, message_frame};
pub(crate) use liveness::Deadlines;
