//! What runs between an upgrade and its admission: the middleware of the router, then that of the handler,
//! then `identify`. `admit` runs it within the handshake's deadline; nothing here outlives the handshake.

use super::{Routes, admit};
use crate::auth::{Credentials, Expiry};
use crate::contain::Foreign;
use crate::error::Reject;
use crate::handler::Endpoint;
use crate::request::ConnectRequest;
use hauyna_broker::{BoxFuture, UserId};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) type Middleware =
    Arc<dyn Fn(ConnectRequest, Next) -> BoxFuture<Result<Admitted, Reject>> + Send + Sync>;

pub(crate) fn erase_middleware<F, Fut>(f: F) -> Middleware
where
    F: Fn(ConnectRequest, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Admitted, Reject>> + Send + 'static,
{
    let f = Arc::new(Foreign::new(f));
    Arc::new(move |request, next| {
        let f = f.clone();
        // Called inside the future, so that a panic is caught where those of later polls are.
        Box::pin(async move { f(request, next).await })
    })
}

/// The rest of the chain after a middleware: the next one, and in the end `identify`.
pub struct Next {
    routes: Arc<Routes>,
    endpoint: Arc<Endpoint>,
    /// Number of middleware that have run.
    position: usize,
}

impl Next {
    pub(super) fn new(routes: Arc<Routes>, endpoint: Arc<Endpoint>) -> Self {
        Self { routes, endpoint, position: 0 }
    }

    /// Passes a request on, unchanged or with something attached. The result says whether it was admitted;
    /// only then is the connection opened.
    ///
    /// # Errors
    ///
    /// The refusal by a later middleware, by `identify` or by a limit.
    pub async fn run(mut self, request: ConnectRequest) -> Result<Admitted, Reject> {
        let all = self.routes.middleware.iter().chain(&self.endpoint.middleware);
        let Some(middleware) = all.clone().nth(self.position).cloned() else {
            return admit::check_identity(&self.routes, &self.endpoint, request).await;
        };
        self.position += 1;
        middleware(request, self).await
    }
}

/// A request that was admitted: its connection opens when every middleware has returned this.
pub struct Admitted {
    pub(super) request: ConnectRequest,
    pub(super) user: UserId,
    /// The credentials of the request itself, without those of a session.
    pub(super) credentials: Credentials,
    pub(super) name_origin: NameOrigin,
    /// The key that a session is bound to, if the handler sets one.
    pub(super) session_key: Option<Box<str>>,
    /// Values that `identify` attached.
    pub(super) attached: http::Extensions,
}

/// Where the name of an admitted user comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameOrigin {
    Application,
    /// The hub has generated it for this request.
    Generated,
    /// The hub had generated it for the session whose token the request shows. The credentials of the session
    /// had this expiry then.
    Session(Option<Expiry>),
}

impl Admitted {
    /// Returns the user that it was admitted as.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Returns when its credentials expire, if they do.
    pub fn expires_at(&self) -> Option<SystemTime> {
        let of_session = match self.name_origin {
            NameOrigin::Session(expiry) => expiry,
            NameOrigin::Application | NameOrigin::Generated => None,
        };
        self.credentials.expiry.or(of_session).map(|expiry| expiry.at)
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("position", &self.position).finish_non_exhaustive()
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("user", &self.user).finish_non_exhaustive()
    }
}
