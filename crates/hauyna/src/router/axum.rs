//! The integration with axum: the routes as an axum router, to be merged with others.

use super::Router;
use super::path::spellings;
use axum::extract::ConnectInfo;
use std::net::SocketAddr;

impl Router {
    /// Returns the WebSocket routes as an axum router, to be merged into an application beside its own
    /// routes. The peer's address is known if the application is served with connect info
    /// (`app.into_make_service_with_connect_info::<SocketAddr>()`), which limits per address need. A
    /// [`fallback`](Router::fallback) becomes that of the axum router; an application merged with it can have
    /// no other.
    ///
    /// If the router is nested, its routes and [`param`](crate::ConnectRequest::param) see the path without
    /// the prefix, as everything in axum does. Sessions are bound to the whole path.
    ///
    /// axum compares paths undecoded. A route with letters beyond ASCII is mounted in three spellings: as
    /// browsers escape it (`/caf%C3%A9`), with lower-case digits, and unescaped; a client that escapes ASCII
    /// letters too gets 404.
    ///
    /// ```
    /// use axum::routing::get;
    /// use hauyna::{Handler, Hub, Router};
    ///
    /// let realtime = Router::new(Hub::new()).websocket("/chat", Handler::new());
    /// let app: axum::Router =
    ///     axum::Router::new().route("/", get(|| async { "home" })).merge(realtime.into_axum());
    /// # drop(app);
    /// ```
    pub fn into_axum<S: Clone + Send + Sync + 'static>(self) -> axum::Router<S> {
        let (paths, has_fallback) = (self.paths.clone(), self.fallback.is_some());
        let service = self.into_service();
        let mut router = axum::Router::new();
        if has_fallback {
            router = router.fallback_service(service.clone());
        }
        // axum compares paths as they are on the wire.
        let spellings = paths.iter().flat_map(|path| spellings(path));
        spellings.fold(router, |router, path| router.route_service(&path, service.clone()))
    }
}

/// Returns the peer's address that axum attached.
pub(super) fn take_peer(extensions: &mut http::Extensions) -> Option<SocketAddr> {
    extensions.remove::<ConnectInfo<SocketAddr>>().map(|info| info.0)
}
