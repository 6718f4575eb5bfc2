//! From paths to handlers. `Router` is the builder; `admit` decides about one upgrade; `serve` is the
//! stand-alone server, `service` the tower service, `axum` the integration with axum; `middleware` and
//! `layer` run before the decision, `params` reads parameters, `path` normalises paths, `origin` checks
//! pages.

mod accept;
mod admit;
#[cfg(feature = "axum")]
mod axum;
mod builder;
mod layer;
mod middleware;
mod path;
mod serve;
mod service;
#[cfg(feature = "tls")]
mod tls;

pub use builder::Router;
pub use middleware::{Admitted, Next};
pub use serve::Server;
pub use service::{Body, RouterService};
#[cfg(feature = "tls")]
pub use tls::TlsConfig;

pub(crate) use builder::Routes;
pub(crate) use middleware::{Middleware, erase_middleware};

use builder::HANDSHAKE_TIMEOUT;
