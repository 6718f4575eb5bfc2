//! The router as a tower service: upgrades of its routes, everything else to the fallback, layers around
//! both. The stand-alone server uses it behind hyper, and applications mount it.

use super::admit::admit;
use super::layer::{BoxError, ErasedService, boxed};
use super::{HANDSHAKE_TIMEOUT, Routes};
use crate::clock::TimeoutError;
use crate::request::ConnectRequest;
use crate::transport::{on_upgrade, upgraded};
use bytes::Bytes;
use hauyna_broker::BoxFuture;
use hauyna_websocket::handshake::wants_websocket;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tower_service::Service;

/// The body of a request behind layers, and of an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A tower service for the routes of a router, from [`Router::into_service`](super::Router::into_service).
#[derive(Clone)]
pub struct RouterService {
    pub(super) routes: Arc<Routes>,
    layered: Option<ErasedService>,
    /// The peer's address, if this service serves one socket.
    peer: Option<SocketAddr>,
    /// Timeout for a handshake; `None` inside of layers, which share the time with the service around them.
    timeout: Option<Duration>,
}

impl RouterService {
    pub(super) fn new(routes: Arc<Routes>) -> Self {
        Self { routes, layered: None, peer: None, timeout: None }
    }

    pub(super) fn layered(routes: Arc<Routes>, service: ErasedService) -> Self {
        Self { layered: Some(service), ..Self::new(routes) }
    }

    pub(super) fn is_layered(&self) -> bool {
        self.layered.is_some()
    }

    pub(super) fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    pub(super) fn for_peer(mut self, peer: SocketAddr) -> Self {
        self.peer = Some(peer);
        self
    }

    async fn answer(self, mut request: Request<Body>) -> Response<Body> {
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        match self.layered {
            None => answer(self.routes, request).await,
            Some(layered) => layered(request).await.unwrap_or_else(|error| {
                crate::log::limited("a layer failed", || {
                    let error = crate::log::error_text(&error);
                    tracing::error!(target: "hauyna::server", %error, "a layer failed");
                });
                plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
            }),
        }
    }
}

impl<B> Service<Request<B>> for RouterService
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        let (parts, body) = request.into_parts();
        let is_upgrade = wants_websocket(&parts);
        let mut request = Request::from_parts(parts, boxed(body));
        Box::pin(async move {
            let (routes, timeout) = (this.routes.clone(), this.timeout.filter(|_| is_upgrade));
            let Some(timeout) = timeout else { return Ok(this.answer(request).await) };
            let handshake = Handshake { timeout, refused: Arc::default() };
            let refused = handshake.refused.clone();
            request.extensions_mut().insert(handshake);
            let answered = crate::clock::timeout(timeout, this.answer(request)).await;
            if answered.as_ref().map_or(true, |answer| answer.status() != StatusCode::SWITCHING_PROTOCOLS) {
                refused.notify_one();
            }
            Ok(answered.unwrap_or_else(|late| {
                routes.hub.0.metrics.handshakes_refused.increment();
                match late {
                    TimeoutError::Elapsed => {
                        plain(StatusCode::SERVICE_UNAVAILABLE, "the handshake took too long")
                    }
                    TimeoutError::NoTimers => {
                        plain(StatusCode::NOT_IMPLEMENTED, "connections need a Tokio runtime")
                    }
                }
            }))
        })
    }
}

async fn answer(routes: Arc<Routes>, mut request: Request<Body>) -> Response<Body> {
    let Some(endpoint) = routes.find(request.uri().path()).cloned() else {
        return fall_back(&routes, request).await;
    };
    let start = Instant::now();
    let upgrade = on_upgrade(&mut request);
    let (mut parts, _) = request.into_parts();
    let Handshake { timeout, refused } = parts.extensions.remove().unwrap_or_default();
    let peer = take_peer(&mut parts.extensions);
    let request = ConnectRequest::new(parts, peer, endpoint.clone());
    let admission = match admit(&routes, &endpoint, request).await {
        Ok(admission) => admission,
        Err(refused) => return refused.response().map(|text| full(text.into())),
    };
    let Some(upgrade) = upgrade else {
        return plain(StatusCode::NOT_IMPLEMENTED, "this server cannot upgrade connections");
    };
    let Ok(runtime) = crate::clock::runtime() else {
        return plain(StatusCode::NOT_IMPLEMENTED, "connections need a Tokio runtime");
    };
    let response = admission.upgrade.response(admission.protocol(), admission.extensions());
    // Registered before the client can know; if the answer is lost on its way, dropping it takes it back.
    let connection = admission.register(&routes);
    runtime.spawn(async move {
        // The server hands the socket over even if a layer has replaced the answer.
        let upgraded = tokio::select! {
            biased;
            () = refused.notified() => return,
            upgraded = crate::clock::timeout(timeout, upgraded(upgrade)) => upgraded,
        };
        match upgraded {
            Ok(Ok(link)) => {
                connection.start(link);
                routes.hub.0.metrics.handshakes.observe(start.elapsed());
            }
            Ok(Err(error)) => tracing::debug!(target: "hauyna::server", %error, "lost before its upgrade"),
            Err(_) => tracing::debug!(target: "hauyna::server", "the answer was not sent in time"),
        }
    });
    response.map(|()| full(Bytes::new()))
}

/// The state of one handshake; attached to its request on the way through layers.
#[derive(Debug, Clone)]
struct Handshake {
    /// How long layers and the server may take to send the answer.
    timeout: Duration,
    /// Notified when the client gets an answer other than the upgrade.
    refused: Arc<Notify>,
}

impl Default for Handshake {
    fn default() -> Self {
        Self { timeout: HANDSHAKE_TIMEOUT, refused: Arc::default() }
    }
}

async fn fall_back(routes: &Routes, request: Request<Body>) -> Response<Body> {
    let Some(fallback) = &routes.fallback else {
        return plain(StatusCode::NOT_FOUND, "not found");
    };
    fallback(request).await.unwrap_or_else(|error| {
        crate::log::limited("fallback", || {
            let error = crate::log::error_text(&error);
            tracing::error!(target: "hauyna::server", %error, "the fallback service failed");
        });
        plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    })
}

/// Takes the peer's address out of the values that layers have attached.
fn take_peer(extensions: &mut http::Extensions) -> Option<SocketAddr> {
    let peer = extensions.remove::<SocketAddr>();
    #[cfg(feature = "axum")]
    let peer = super::axum::take_peer(extensions).or(peer);
    peer
}

fn full(bytes: Bytes) -> Body {
    if bytes.is_empty() {
        return Empty::new().map_err(|never| match never {}).boxed_unsync();
    }
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

impl fmt::Debug for RouterService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterService").field("routes", &self.routes).finish()
    }
}
