//! Real-time channels over WebSocket, for Rust.
//!
//! A [`Hub`] is the centre: it holds the live [`Connection`]s, the [`Channel`]s they subscribe to and the
//! users behind them. A [`Router`] takes WebSocket upgrades by their path to a [`Handler`], which says who a
//! client is and what its messages do. Publications are numbered and kept by a [`Broker`](broker::Broker), so
//! that a client which lost its connection recovers what it missed: nothing is lost silently.
//!
//! ```text
//! socket ─▶ frame ─▶ request ─▶ permission ─▶ publish ─▶ broker: number, keep ─▶ deliver ─▶ shard ─▶ outbox ─▶ socket
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
//!
//! # Where things are
//!
//! The module [`guide`] has a tutorial and a page for each part.
//!
//! The root holds what most programs need. The rest lives in modules by concept: [`auth`], [`broker`],
//! [`channel`], [`connection`], [`error`], [`events`], [`groups`], [`handler`], [`inspect`], [`limits`],
//! [`middleware`], [`presence`], [`server`], [`validate`], and with their features `contract` and `metrics`.
//!
//! # The log
//!
//! The library logs with `tracing`. Install a subscriber, for example with `tracing_subscriber::fmt().init()`
//! at the beginning of `main`: without one, nobody learns why a callback failed. [`guide::operations`] lists
//! the lines.
//!
//! # Options
//!
//! Options are builders, and every kind begins in one of two ways. `new()` returns the defaults, which
//! `Default` returns, too: [`Handler`], [`ChannelOptions`], [`PresenceOptions`], [`SessionOptions`],
//! [`handler::RateLimit`], [`connection::RetryPolicy`], [`channel::ClientEvents`], [`groups::Roles`],
//! [`broker::LocalBrokerOptions`]. Where a value is needed, the constructor takes it:
//! `Heartbeat::every(interval)`, `Drain::over(window)` (both have a `Default`), `Rate::per_second(count)`.
//! The one of a hub is [`Hub::builder`].
//!
//! # Features
//!
//! None is on by default, and none changes what the others do.
//!
//! | feature | what it adds |
//! |---|---|
//! | `axum` | `Router::into_axum`: mounts the routes in an axum application |
//! | `contract` | `contract`: message types as JSON Schema, AsyncAPI and TypeScript |
//! | `json-schema` | `validate::Schema`: a validator by JSON Schema |
//! | `jwt` | `auth::Jwt`: JSON web tokens |
//! | `metrics` | `metrics`: counters for Prometheus |
//! | `tls` | `Server::tls`: TLS by rustls |

pub mod auth;
mod background;
pub mod broker;
pub mod channel;
mod clock;
mod close;
mod cluster;
mod config;
pub mod connection;
mod contain;
#[cfg(feature = "contract")]
pub mod contract;
mod counters;
mod dispatch;
mod driver;
pub mod error;
mod event;
mod group;
mod guaranteed;
#[cfg(any(doc, doctest))]
pub mod guide;
pub mod handler;
mod hub;
mod liveness;
mod log;
#[cfg(feature = "metrics")]
pub mod metrics;
mod once;
mod outbox;
pub mod presence;
mod random;
mod rate;
mod request;
mod retry;
mod router;
mod session;
mod shard;
mod state;
mod stripes;
mod transport;
mod used_limits;
mod user;
pub mod validate;

/// Events of the application and of the hub, and what their listeners return.
///
/// Listeners are added with [`Events::on`] for events of the application, which [`Events::trigger`] and, if
/// the handler permits it, clients trigger, and with [`Events::on_system`] for what happens in the hub. None
/// of them can harm or delay the hub. The guide is [events](crate::guide::events).
///
/// ```
/// use hauyna::Hub;
/// use hauyna::events::{SystemEvent, SystemKind};
///
/// Hub::new().events().on_system([SystemKind::Closed], |_, event| async move {
///     if let SystemEvent::Closed { connection, reason, .. } = event {
///         println!("{} went: {reason:?}", connection.user());
///     }
///     Ok(())
/// });
/// ```
pub mod events {
    pub use crate::event::{
        Event, Failure, Flow, GroupChange, ListenerId, Outcome, PresenceChange, SystemEvent, SystemKind,
    };
}

/// Roles of groups and what they permit.
///
/// [`Groups`], from [`Hub::groups`], holds named sets of users. [`Roles`](groups::Roles) are declared for all
/// groups whose names match a pattern, or for one group with [`Groups::define_role`]; what is not declared is
/// not permitted. The guide is [groups](crate::guide::groups).
///
/// ```
/// use hauyna::{Hub, groups::Roles};
///
/// let roles = Roles::new().define("owner", ["send", "invite"]).default_role("owner");
/// let hub = Hub::builder().roles("team:{id}", roles).build();
/// # drop(hub);
/// ```
pub mod groups {
    pub use crate::group::Roles;
}

/// What a hub says about itself: counts, snapshots, readiness.
///
/// [`Hub::stats`] counts, [`Hub::inspect`] looks at one connection, user or channel, and [`Hub::readiness`]
/// is the answer to a load balancer. All of it is about this node, costs little and can be serialised;
/// [`Hub::nodes`] lists the others. The guide is [operations](crate::guide::operations).
///
/// ```
/// let hub = hauyna::Hub::new();
/// assert_eq!(hub.stats().connections, 0);
/// assert_eq!(hub.inspect().user("ann").connection_count, 0);
/// ```
pub mod inspect {
    pub use crate::cluster::NodeSnapshot;
    pub use crate::hub::{
        ChannelSnapshot, ConnectionSnapshot, Inspect, Memory, OptionsSnapshot, PositionSnapshot, Readiness,
        Stats, SubscriberSnapshot, UserSnapshot,
    };
}

/// What happens at a limit of the hub.
///
/// [`HubBuilder::max_connections`] and its relatives set how many connections there may be; at a
/// [`Limit`](limits::Limit), [`AtLimit`](limits::AtLimit) refuses the newcomer or closes the oldest. The
/// guide is [errors and limits](crate::guide::errors#bounds-that-are-always-there).
///
/// ```
/// use hauyna::{Hub, limits::{AtLimit, Limit}};
///
/// let hub = Hub::builder().max_connections_per_user(8).at_limit(Limit::PerUser, AtLimit::CloseOldest);
/// # drop(hub.build());
/// ```
pub mod limits {
    pub use crate::config::{AtLimit, Limit, UnknownUsers};
}

/// Middleware of a [`Router`], which sees each upgrade before its handler.
///
/// A middleware is an `async fn` of a [`ConnectRequest`] and a [`Next`](middleware::Next), which it runs or
/// does not: it can refuse, measure, or attach values that callbacks read. It is added with
/// [`Handler::middleware`] or [`Router::middleware`]. The guide is
/// [routing](crate::guide::routing#middleware).
pub mod middleware {
    pub use crate::router::{Admitted, Next};
}

/// The server and the service that a [`Router`] becomes.
///
/// [`Router::serve`] is enough for most programs. [`Router::into_server`] returns a
/// [`Server`](server::Server) with options of its own: TLS, a socket that is bound already, a runtime for
/// each core. [`Router::into_service`] returns a tower service, for another server. The guide is
/// [deployment](crate::guide::deployment).
///
/// ```no_run
/// use hauyna::{Handler, Hub, Router};
///
/// # async fn run() -> hauyna::Result {
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// println!("listening on {}", listener.local_addr()?);
/// let router = Router::new(Hub::new()).websocket("/chat", Handler::new());
/// router.into_server().serve_listener(listener).await
/// # }
/// ```
pub mod server {
    pub use crate::request::AllowedOrigin;
    #[cfg(feature = "tls")]
    pub use crate::router::TlsConfig;
    pub use crate::router::{Body, RouterService, Server};
    pub use http::StatusCode;
}

#[doc(inline)]
pub use broker::HistoryRange;
#[doc(inline)]
pub use channel::{Channel, ChannelName, ChannelOptions, Publishers, SlowConsumer, UserId};
pub use config::{Heartbeat, SessionOptions};
#[doc(inline)]
pub use connection::{CloseReason, Connection, ConnectionId};
#[doc(inline)]
pub use error::{Error, Reject, Result};
pub use event::Events;
pub use group::Groups;
#[doc(inline)]
pub use handler::{Context, Handler, Identity};
pub use hauyna_protocol::close::CloseCode;
pub use hauyna_protocol::{ErrorType, Position};
pub use hub::{Drain, Hub, HubBuilder};
#[doc(inline)]
pub use presence::{Presence, PresenceOptions};
pub use rate::Rate;
pub use request::{ConnectRequest, Origins};
pub use router::Router;
pub use serde_json::{Value, json};
pub use user::User;

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct CrateReadme;
