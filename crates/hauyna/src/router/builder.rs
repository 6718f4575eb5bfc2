//! The builder of a router, `Router`, and the routes that serving needs.

use super::layer::{self, ErasedService};
use super::{Body, Middleware, RouterService, Server, path};
use crate::error::Result;
use crate::handler::{Endpoint, Handler};
use crate::hub::Hub;
use crate::once::call_once;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
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
    pub(super) paths: Vec<String>,
    pub(super) middleware: Vec<Middleware>,
    pub(super) layers: Vec<Wrap>,
    pub(super) fallback: Option<ErasedService>,
}

/// The parts of a router that serving needs, shared by all connections.
pub(crate) struct Routes {
    pub(super) hub: Hub,
    routes: matchit::Router<Arc<Endpoint>>,
    pub(super) middleware: Vec<Middleware>,
    pub(super) fallback: Option<ErasedService>,
}

/// A tower layer that has not been applied yet.
type Wrap = Box<dyn FnOnce(RouterService) -> RouterService + Send + Sync>;

impl Router {
    /// Creates a router without routes.
    pub fn new(hub: Hub) -> Self {
        Self {
            hub,
            routes: matchit::Router::new(),
            paths: Vec::new(),
            middleware: Vec::new(),
            layers: Vec::new(),
            fallback: None,
        }
    }

    /// Mounts a handler. `path` may have parameters, `{name}` for one whole segment and `{*name}` for the
    /// rest.
    ///
    /// Paths are compared after they are decoded: `/café/{name}` matches `/caf%C3%A9/ada`, and may itself be
    /// written in either way. An escaped slash (`%2F`) separates no segments.
    ///
    /// # Panics
    ///
    /// If the path can never match (`chat`, `/:id`, `/room-{id}`, `/a/../b`) or is already mounted.
    #[track_caller]
    pub fn websocket(mut self, path: &str, handler: Handler) -> Self {
        let mut endpoint = handler.into_endpoint();
        path.clone_into(&mut endpoint.route);
        let endpoint = Arc::new(endpoint);
        self.hub.0.add_route(&endpoint);
        let canonical = path::canonical_route(path);
        let inserted =
            canonical.and_then(|path| self.routes.insert(path, endpoint).map_err(|error| error.to_string()));
        if let Err(fault) = inserted {
            panic!("route `{path}`: {fault}");
        }
        self.paths.push(path.to_owned());
        self
    }

    /// Sets a tower service, such as an axum router, for all other HTTP requests. Without one they get 404.
    ///
    /// # Panics
    ///
    /// If it is called twice.
    #[track_caller]
    pub fn fallback<S, B>(mut self, service: S) -> Self
    where
        S: tower_service::Service<http::Request<Body>, Response = http::Response<B>>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Error: Into<layer::BoxError>,
        S::Future: Send + 'static,
        B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<layer::BoxError>,
    {
        call_once(&mut self.fallback, layer::erase(service), "fallback");
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

    /// Returns the stand-alone server, to set its options first.
    pub fn into_server(self) -> Server {
        Server::new(self.into_service())
    }

    /// Returns a tower service for `http::Request`s. Requests that are no upgrade of one of the routes go to
    /// the fallback. A handshake has 10 s.
    pub fn into_service(self) -> RouterService {
        let Self { hub, routes, middleware, layers, fallback, .. } = self;
        let inner = RouterService::new(Arc::new(Routes { hub, routes, middleware, fallback }));
        layers.into_iter().fold(inner, |service, wrap| wrap(service)).with_timeout(HANDSHAKE_TIMEOUT)
    }
}

impl Routes {
    pub(super) fn find(&self, path: &str) -> Option<&Arc<Endpoint>> {
        self.routes.at(&path::canonical(path)).ok().map(|found| found.value)
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

/// How long a client may take from its TCP connection, or its request, to its upgrade.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
