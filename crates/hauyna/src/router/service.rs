//! The router as a tower service: upgrades of its routes, everything else to the fallback. Used by the
//! stand-alone server behind hyper, and mounted into other applications.

use super::admit::admit;
use super::{ConnectRequest, Routes};
use crate::broker::BoxFuture;
use crate::transport::{on_upgrade, upgraded};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;
use tower_service::Service;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(super) type Fallback =
    Arc<dyn Fn(Request<hyper::body::Incoming>) -> BoxFuture<Result<Response<Body>, BoxError>> + Send + Sync>;

/// A tower service for the routes of a router, from [`Router::into_service`](super::Router::into_service).
#[derive(Clone)]
pub struct RouterService {
    routes: Arc<Routes>,
    /// Where one service serves one socket.
    peer: Option<SocketAddr>,
}

impl RouterService {
    pub(super) fn new(routes: Arc<Routes>) -> Self {
        Self { routes, peer: None }
    }

    pub(super) fn of_peer(routes: Arc<Routes>, peer: SocketAddr) -> Self {
        Self { routes, peer: Some(peer) }
    }
}

impl<B: Send + 'static> Service<Request<B>> for RouterService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (routes, own) = (self.routes.clone(), self.peer);
        Box::pin(async move { Ok(answer(routes, request, own).await) })
    }
}

async fn answer<B: Send + 'static>(
    routes: Arc<Routes>,
    mut request: Request<B>,
    own: Option<SocketAddr>,
) -> Response<Body> {
    let Some(endpoint) = routes.find(request.uri().path()).cloned() else {
        return fall_back(&routes, request).await;
    };
    let began = Instant::now();
    let upgrade = on_upgrade(&mut request);
    let (parts, _) = request.into_parts();
    let peer = own.or_else(|| peer(&parts.extensions));
    let request = ConnectRequest::new(parts, peer, endpoint.clone());
    let admission = match admit(&routes, &endpoint, request).await {
        Ok(admission) => admission,
        Err(refused) => return refused.response().map(|text| full(text.into())),
    };
    let Some(upgrade) = upgrade else {
        return plain(StatusCode::NOT_IMPLEMENTED, "this server cannot upgrade connections");
    };
    let response = admission.upgrade.response(admission.protocol(), admission.extensions());
    tokio::spawn(async move {
        match upgraded(upgrade).await {
            Ok(link) => {
                admission.open(&routes, link);
                routes.hub.0.metrics.handshakes.observe(began.elapsed());
            }
            Err(error) => tracing::debug!(target: "hauyna::server", %error, "lost before its upgrade"),
        }
    });
    response.map(|()| full(Bytes::new()))
}

async fn fall_back<B: Send + 'static>(routes: &Routes, request: Request<B>) -> Response<Body> {
    let (Some(fallback), Ok(request)) = (&routes.fallback, incoming(request)) else {
        return plain(StatusCode::NOT_FOUND, "not found");
    };
    fallback(request).await.unwrap_or_else(|error| {
        crate::log::limited("fallback", || {
            let error = crate::log::fault(&error);
            tracing::error!(target: "hauyna::server", %error, "the fallback service failed");
        });
        plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    })
}

/// The fallback is for requests straight from hyper; other bodies have their own application around us.
fn incoming<B: 'static>(request: Request<B>) -> Result<Request<hyper::body::Incoming>, ()> {
    let (parts, body) = request.into_parts();
    let mut body = Some(body);
    let any: &mut dyn Any = &mut body;
    let body = any.downcast_mut::<Option<hyper::body::Incoming>>().and_then(Option::take).ok_or(())?;
    Ok(Request::from_parts(parts, body))
}

pub(super) fn erase<S, B>(service: S) -> Fallback
where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Arc::new(move |request| {
        let mut service = service.clone();
        Box::pin(async move {
            std::future::poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
            let response = service.call(request).await.map_err(Into::into)?;
            Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    })
}

fn peer(extensions: &http::Extensions) -> Option<SocketAddr> {
    #[cfg(feature = "axum")]
    if let Some(peer) = super::axum::peer(extensions) {
        return Some(peer);
    }
    extensions.get::<SocketAddr>().copied()
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
