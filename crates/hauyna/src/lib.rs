//! Real-time channels over WebSocket, for Rust.
//!
//! A [`Hub`] is the centre: it holds the live [`Connection`]s, the [`Channel`]s they subscribe to and the
//! users behind them. A [`Router`] takes WebSocket upgrades by their path to a [`Handler`], which says who
//! a client is and what its messages do. Publications are numbered and kept by a [`Broker`], so that a
//! client which lost its connection recovers what it missed: nothing is lost silently.
//!
//! ```text
//! socket ─▶ frame ─▶ request ─▶ may it? ─▶ publish ─▶ broker: number, keep ─▶ deliver ─▶ shard ─▶ outbox ─▶ socket
//! ```
//!
//! # A chat, whole
//!
//! ```no_run
//! use hauyna::{json, Context, Handler, Heartbeat, Hub, Reject, Router};
//! use serde::Deserialize;
//! use std::time::Duration;
//!
//! #[derive(Deserialize)]
//! struct ChatMessage { content: String }
//!
//! async fn welcome(cx: Context) -> hauyna::Result {
//!     cx.presence().track(json!({ "status": "online" })).await?;
//!     cx.subscribe("general", ()).await?;
//!     cx.channel("general").broadcast(json!({ "type": "system", "message": format!("{} joined", cx.user()) })).await?;
//!     Ok(())
//! }
//!
//! async fn say(cx: Context, message: ChatMessage) -> hauyna::Result {
//!     cx.channel("general").broadcast(json!({
//!         "type": "message", "user": cx.user(), "content": message.content,
//!     })).await?;
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> hauyna::Result {
//!     let chat = Handler::new()
//!         .identify(|request| request.query("user_id").ok_or(Reject::unauthorized("user_id is required")))
//!         .on_open(welcome)
//!         .on("chat_message", say) // typed: bad input never reaches the function
//!         .heartbeat(Heartbeat::every(Duration::from_secs(30)));
//!
//!     Router::new(Hub::new()).websocket("/chat", chat).serve("0.0.0.0:8080").await
//! }
//! ```

mod auth;
mod background;
mod broker;
mod channel;
mod clock;
mod config;
mod connection;
mod contain;
#[cfg(feature = "contract")]
mod contract;
mod dispatch;
mod error;
mod event;
mod group;
mod handler;
mod hub;
mod liveness;
mod log;
#[cfg(not(feature = "metrics"))]
mod metrics;
#[cfg(feature = "metrics")]
pub mod metrics;
mod once;
mod presence;
mod random;
mod rate;
mod retry;
mod router;
mod session;
mod shard;
mod spent;
mod transport;
mod user;
mod validate;

pub use auth::{ApiKeys, Claims, Revocation, Verifier};
#[cfg(feature = "jwt")]
pub use auth::{Jwt, JwtAlgorithm, JwtKey, JwtKeys};
pub use broker::{
    Answer, Broker, Continuity, HistoryPage, HistoryRange, LocalBroker, LocalOptions, Order, Publish,
    Published, Relay, Repeat, Retention,
};
pub use channel::{
    Channel, ChannelName, ChannelRequest, Channels, ClientEvent, ClientEvents, Content, Draft, Kind, Params,
    Publication, Publishers, Publishing, SlowConsumer, UserId,
};
pub use config::{Heartbeat, UnknownUsers};
pub use connection::{
    CloseReason, Connection, ConnectionId, ConnectionState, Connections, Extensions, Requesting, StateCounts,
};
#[cfg(feature = "contract")]
pub use contract::{ChannelContract, Contract, Question};
pub use error::{BrokerError, Error, ErrorKind, Reject, Result};
pub use event::{
    Event, Events, Failure, Flow, GroupChange, ListenerId, Outcome, PresenceChange, SystemEvent, SystemKind,
};
pub use group::{Groups, Roles};
pub use handler::{
    Context, Decided, Failed, Handler, Identified, Identity, IntoIdentity, Occasion, RateLimit, Recovery,
    SharedHandler,
};
pub use hauyna_protocol::close::CloseCode;
pub use hauyna_protocol::{Encoding, Epoch, ErrorType, Position};
pub use http::StatusCode;
pub use hub::{
    AtLimit, ChannelSnapshot, ConnectionSnapshot, Drain, Hub, HubBuilder, Inspect, Limit, Memory,
    OptionsSnapshot, PositionSnapshot, Readiness, Stats, SubscriberSnapshot, UserSnapshot,
};
pub use presence::{
    Criteria, Presence, PresenceEntry, PresenceOptions, PresenceStats, PresentConnection, Status,
};
pub use rate::Rate;
pub use retry::RetryPolicy;
#[cfg(feature = "tls")]
pub use router::TlsConfig;
pub use router::{
    Admitted, AllowedOrigin, Body, ConnectRequest, Next, Origins, Router, RouterService, Server,
};
pub use serde_json::{Value, json};
pub use session::SessionOptions;
pub use user::User;
#[cfg(feature = "json-schema")]
pub use validate::Schema;
pub use validate::{Invalid, Validate, Validator};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// So do the guides'.
#[cfg(doctest)]
mod guides {
    #[cfg(feature = "axum")]
    #[doc = include_str!("../../../docs/tutorial.md")]
    struct Tutorial;
    #[doc = include_str!("../../../docs/deployment.md")]
    struct Deployment;
    #[doc = include_str!("../../../docs/events.md")]
    struct Events;
    #[doc = include_str!("../../../docs/errors.md")]
    struct Errors;
    #[doc = include_str!("../../../docs/groups.md")]
    struct Groups;
    #[doc = include_str!("../../../docs/channels.md")]
    struct Channels;
    #[doc = include_str!("../../../docs/contract.md")]
    struct Contract;
    #[doc = include_str!("../../../docs/from-the-original.md")]
    struct FromTheOriginal;
    #[doc = include_str!("../../../docs/testing.md")]
    struct Testing;
    #[doc = include_str!("../../../docs/states.md")]
    struct States;
    #[doc = include_str!("../../../docs/sessions.md")]
    struct Sessions;

    #[doc = include_str!("../../../docs/validation.md")]
    struct Validation;
    #[doc = include_str!("../../../docs/operations.md")]
    struct Operations;
    #[doc = include_str!("../../../docs/presence.md")]
    struct Presence;
    #[doc = include_str!("../../../docs/routing.md")]
    struct Routing;
}
