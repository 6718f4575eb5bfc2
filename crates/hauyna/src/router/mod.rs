//! From paths to handlers. `Router` is the builder; `admit` decides about one upgrade; `serve` is the
//! stand-alone server, `service` the tower service, `axum` the way into an axum application.

mod accept;
mod admit;
#[cfg(feature = "axum")]
mod axum;
mod origin;
mod request;
mod serve;
mod service;

pub use origin::Origins;
pub use request::ConnectRequest;
pub use serve::Server;
pub use service::{Body, RouterService};

pub(crate) use request::{path_param, query};

use crate::error::Result;
use crate::handler::{Endpoint, Handler};
use crate::hub::Hub;
use service::Fallback;
use std::fmt;
use std::sync::Arc;
use tokio::net::ToSocketAddrs;

/// Routes WebSocket upgrades by their path to handlers.
///
/// # Examples
///
/// ```no_run
/// use hauyna::{Handler, Hub, Router};
/// # async fn run() -> hauyna::Result {
/// Router::new(Hub::new())
///     .websocket("/rooms/{room}", Handler::new())
///     .serve("127.0.0.1:8080")
///     .await
/// # }
/// ```
#[must_use]
pub struct Router {
    hub: Hub,
    routes: matchit::Router<Arc<Endpoint>>,
    paths: Vec<String>,
    fallback: Option<Fallback>,
}

/// What serving needs of a router, shared by all connections.
pub(crate) struct Routes {
    pub(crate) hub: Hub,
    routes: matchit::Router<Arc<Endpoint>>,
    fallback: Option<Fallback>,
}

impl Router {
    /// A router without routes.
    pub fn new(hub: Hub) -> Self {
        Self { hub, routes: matchit::Router::new(), paths: Vec::new(), fallback: None }
    }

    /// Mounts a handler. `path` may have parameters, `{name}` for one segment and `{*name}` for the rest.
    ///
    /// # Panics
    ///
    /// Where the path is malformed or already taken.
    pub fn websocket(mut self, path: &str, handler: Handler) -> Self {
        let mut endpoint = handler.into_endpoint();
        path.clone_into(&mut endpoint.route);
        let endpoint = Arc::new(endpoint);
        self.hub.0.add_route(&endpoint);
        if let Err(error) = self.routes.insert(path, endpoint) {
            panic!("route `{path}`: {error}");
        }
        self.paths.push(path.to_owned());
        self
    }

    /// Answers every other HTTP request of [`Router::serve`] with a tower service, such as an axum router.
    /// Without one they get 404.
    pub fn fallback<S, B>(mut self, service: S) -> Self
    where
        S: tower_service::Service<http::Request<hyper::body::Incoming>, Response = http::Response<B>>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send,
        B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.fallback = Some(service::erase(service));
        self
    }

    /// Listens on an address and serves until the hub is shut down.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn serve(self, address: impl ToSocketAddrs) -> Result {
        self.into_server().serve(address).await
    }

    /// The stand-alone server, to set its options first.
    pub fn into_server(self) -> Server {
        Server::new(self.into_routes())
    }

    /// A tower service for `http::Request`s of any body. Requests that are no upgrade of one of the routes
    /// get an error answer.
    pub fn into_service(self) -> RouterService {
        RouterService::new(self.into_routes())
    }

    pub(crate) fn into_routes(self) -> Arc<Routes> {
        Arc::new(Routes { hub: self.hub, routes: self.routes, fallback: self.fallback })
    }
}

impl Routes {
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Endpoint>> {
        self.routes.at(path).ok().map(|found| found.value)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("hub", &self.hub).finish_non_exhaustive()
    }
}
