//! The integration with axum: the routes as an axum router, to be merged with others.

use super::Router;
use super::path::spellings;
use super::request::without_tokens;
use axum::extract::{ConnectInfo, OriginalUri};
use std::borrow::Cow;
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

/// Returns the path that the client requested, if axum has cut off the prefix that the router is nested
/// under.
pub(super) fn whole_path(extensions: &http::Extensions) -> Option<&str> {
    extensions.get::<OriginalUri>().map(|original| original.path())
}

/// Removes tokens from the target that axum attaches to a request, because the connection keeps it.
pub(super) fn forget_tokens(extensions: &mut http::Extensions, parameter: Option<&str>) {
    let Some(OriginalUri(uri)) = extensions.get::<OriginalUri>() else { return };
    let Some(target) = uri.path_and_query() else { return };
    if let Cow::Owned(target) = without_tokens(target.as_str(), parameter) {
        match target.parse() {
            Ok(uri) => drop(extensions.insert(OriginalUri(uri))),
            Err(_) => drop(extensions.remove::<OriginalUri>()),
        }
    }
}

/// Returns the peer's address that axum attached.
pub(super) fn take_peer(extensions: &mut http::Extensions) -> Option<SocketAddr> {
    extensions.remove::<ConnectInfo<SocketAddr>>().map(|info| info.0)
}

/// Returns the bytes of the target that axum attaches to a request.
pub(crate) fn weight_of_target(extensions: &http::Extensions) -> usize {
    let target = extensions.get::<OriginalUri>().and_then(|uri| uri.path_and_query());
    target.map_or(0, |target| target.as_str().len())
}
