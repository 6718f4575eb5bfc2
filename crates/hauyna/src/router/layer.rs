//! Tower services with their types erased: the fallback, and the layers around the routes. Also the part of
//! the router's builder that adds middleware and layers. `service` calls the erased services.

use super::middleware::erase_middleware;
use super::{Admitted, Body, Next, Router, RouterService};
use crate::error::Reject;
use crate::request::ConnectRequest;
use bytes::Bytes;
use hauyna_broker::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use std::future::Future;
use std::sync::Arc;
use tower_layer::Layer;
use tower_service::Service;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service of any type; every call gets its own clone.
pub(super) type ErasedService =
    Arc<dyn Fn(Request<Body>) -> BoxFuture<Result<Response<Body>, BoxError>> + Send + Sync>;

pub(super) fn erase<S, B>(service: S) -> ErasedService
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Arc::new(move |request| {
        let mut service = service.clone();
        Box::pin(async move {
            std::future::poll_fn(|cx| service.poll_ready(cx).map_err(Into::into)).await?;
            called(&mut service, request).await
        })
    })
}

/// Calls the service and boxes the future before anything awaits it: otherwise the compiler cannot prove that
/// the future is `Send`.
fn called<S, B>(service: &mut S, request: Request<Body>) -> BoxFuture<Result<Response<Body>, BoxError>>
where
    S: Service<Request<Body>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let future: BoxFuture<Result<Response<B>, S::Error>> = Box::pin(service.call(request));
    Box::pin(async move { future.await.map(|response| response.map(boxed)).map_err(Into::into) })
}

/// Boxes a body of any type as the one body type of all services here.
pub(super) fn boxed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

impl Router {
    /// Adds a middleware for all routes: it runs before `identify`, in the order in which they were added,
    /// and before a handler's own. See [`Handler::middleware`](crate::Handler::middleware).
    pub fn middleware<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(ConnectRequest, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Admitted, Reject>> + Send + 'static,
    {
        self.middleware.push(erase_middleware(f));
        self
    }

    /// Puts a tower layer around everything: every request passes it before its route is looked up, including
    /// those for the fallback. The layer added last is the outermost.
    ///
    /// Values that a layer attaches to the request can be read in `identify` and in callbacks. The address of
    /// the peer is attached as a `SocketAddr`, if the server knows it. Upgrades, layers included, have to
    /// finish within the handshake's deadline. An error of a layer is answered with 500.
    ///
    /// With a layer the stand-alone server reads its requests through hyper; an open connection costs the
    /// same as without, its handshake about twice as much.
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::{Handler, Hub, Router};
    ///
    /// let realtime = Router::new(Hub::new())
    ///     .websocket("/chat", Handler::new())
    ///     .layer(tower_layer::layer_fn(|service| service)); // or any of tower-http
    /// # drop(realtime);
    /// ```
    pub fn layer<L, B>(mut self, layer: L) -> Self
    where
        L: Layer<RouterService> + Send + Sync + 'static,
        L::Service: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<Body>>>::Error: Into<BoxError>,
        <L::Service as Service<Request<Body>>>::Future: Send + 'static,
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.layers.push(Box::new(move |inner: RouterService| {
            let routes = inner.routes.clone();
            RouterService::layered(routes, erase(layer.layer(inner)))
        }));
        self
    }
}
