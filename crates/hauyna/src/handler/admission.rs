//! The part of the builder that decides which clients connect, and as whom: middleware, `identify`,
//! `authenticate` and `on_refresh`. `router::admit` runs the first three before the upgrade, `dispatch` the
//! last one.

use super::{Context, Handler};
use crate::auth::{IntoIdentity, IntoIdentityFuture, Verifier};
use crate::error::Reject;
use crate::once::{call_once, set_once};
use crate::request::{ConnectRequest, RESUME_PARAMETER};
use crate::router::{Admitted, Next, erase_middleware};
use std::future::Future;
use std::sync::Arc;

impl Handler {
    /// Decides who a client is, or refuses it, before the upgrade. `f` is a closure or an `async fn` from the
    /// request to `Result<name, Reject>`, or to an [`Identity`](super::Identity) instead of a name; for
    /// `None` as the name, the hub generates one.
    ///
    /// # Panics
    ///
    /// If `identify` or [`Handler::authenticate`] was called before.
    #[track_caller]
    pub fn identify<F, R, M>(mut self, f: F) -> Self
    where
        F: Fn(ConnectRequest) -> R + Send + Sync + 'static,
        R: IntoIdentityFuture<M>,
    {
        let f = Box::new(move |request| f(request).into_identity_future());
        set_once(&mut self.endpoint.identify, f, &decide_later("identify"));
        self
    }

    /// Identifies clients by a token: a [`Jwt`](crate::auth::Jwt), an [API key](crate::auth::ApiKeys), or a
    /// token that your own [`Verifier`] understands. Also answers `refresh`, so it cannot be combined with
    /// [`Handler::identify`] or [`Handler::on_refresh`].
    ///
    /// The token is a bearer token from the header `Authorization`, or from the sub-protocol item
    /// `hauyna.bearer.<token>`, which is the way for browsers. A client without a token gets 401. To accept
    /// clients without a token too, use [`Handler::identify`] and call a verifier there.
    ///
    /// # Panics
    ///
    /// If `identify`, `on_refresh` or `authenticate` was called before.
    #[track_caller]
    pub fn authenticate<V: Verifier>(mut self, verifier: V) -> Self {
        let verifier = Arc::new(verifier);
        let again = verifier.clone();
        let identify = Box::new(move |request: ConnectRequest| {
            let verifier = verifier.clone();
            Box::pin(async move {
                let token = request.token().ok_or(Reject::unauthorized("a token is required"))?;
                verifier.verify(&token).await
            }) as _
        });
        set_once(&mut self.endpoint.identify, identify, &decide_later("authenticate"));
        self.on_refresh(move |_, token| {
            let verifier = again.clone();
            async move { verifier.verify(&token).await }
        })
    }

    /// Binds sessions to a key of the request: a lost client resumes its session only if its new request has
    /// the same key. Without this, the path of the request is the key.
    ///
    /// # Panics
    ///
    /// If it is called twice.
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::Handler;
    ///
    /// // `/rooms/{id}`: a client may resume in any room of the same tenant.
    /// let handler = Handler::new().session_key(|request| request.param("tenant").unwrap_or_default());
    /// # drop(handler);
    /// ```
    #[track_caller]
    pub fn session_key<F, K>(mut self, key: F) -> Self
    where
        F: Fn(&ConnectRequest) -> K + Send + Sync + 'static,
        K: Into<String>,
    {
        assert!(self.endpoint.session_key.is_none(), "`session_key` is called twice");
        self.endpoint.session_key = Some(Box::new(move |request| key(request).into()));
        self
    }

    /// Accepts a token in this query parameter, too, for clients that can send it no other way.
    ///
    /// This is the last resort: a URL is written into the access logs of proxies, into histories and
    /// referrers. The server never logs the token, and drops it after the handshake.
    ///
    /// # Panics
    ///
    /// If it is called twice, or for `resume`, the parameter of sessions.
    #[track_caller]
    pub fn token_in_query(mut self, parameter: impl Into<String>) -> Self {
        let parameter = parameter.into();
        assert!(parameter != RESUME_PARAMETER, "`{RESUME_PARAMETER}` is the query parameter of sessions");
        call_once(&mut self.endpoint.token_parameter, parameter, "token_in_query");
        self
    }

    /// Verifies new credentials that a client sends on a live connection (`refresh`). The returned identity
    /// replaces the one from `identify` as a whole: its expiry, its token and its attached values, so that a
    /// value which it does not attach is removed. Values that middleware and callbacks attached stay. It must
    /// name the same user, or none.
    ///
    /// # Panics
    ///
    /// If it is called twice, or together with [`Handler::authenticate`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::{Context, Handler, Identity, Reject};
    /// use std::time::{Duration, SystemTime};
    ///
    /// let handler = Handler::new().on_refresh(async |cx: Context, token: String| {
    ///     if token != format!("secret of {}", cx.user()) {
    ///         return Err(Reject::unauthorized("bad token"));
    ///     }
    ///     Ok(Identity::anonymous().expires_at(SystemTime::now() + Duration::from_secs(900)))
    /// });
    /// # drop(handler);
    /// ```
    #[track_caller]
    pub fn on_refresh<F, Fut, U>(mut self, f: F) -> Self
    where
        F: Fn(Context, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<U, Reject>> + Send + 'static,
        U: IntoIdentity,
    {
        let f = Arc::new(f);
        let f = Box::new(move |cx, token| {
            let f = f.clone();
            Box::pin(async move { f(cx, token).await.map(IntoIdentity::into_identity) }) as _
        });
        let fault =
            "`on_refresh` or `authenticate` verifies new credentials already; call only one of them, once";
        set_once(&mut self.endpoint.refresh, f, fault);
        self
    }

    /// Adds a middleware for this route: it runs before `identify`, after those of the
    /// [router](crate::Router::middleware) and those added before.
    ///
    /// A middleware may refuse the request, attach values to it, and see whether it was admitted. It gets
    /// only requests that are valid upgrades from an allowed origin. All middleware together with `identify`
    /// has to finish within the handshake's deadline, and a panic refuses this one client with 500.
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::{ConnectRequest, Handler, Reject};
    /// use hauyna::middleware::{Admitted, Next};
    ///
    /// async fn only_with_version(request: ConnectRequest, next: Next) -> Result<Admitted, Reject> {
    ///     if request.header("x-app-version").is_none() {
    ///         return Err(Reject::invalid("the header x-app-version is missing"));
    ///     }
    ///     next.run(request).await
    /// }
    ///
    /// let handler = Handler::new().middleware(only_with_version);
    /// # drop(handler);
    /// ```
    pub fn middleware<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(ConnectRequest, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Admitted, Reject>> + Send + 'static,
    {
        self.endpoint.middleware.push(erase_middleware(f));
        self
    }
}

fn decide_later(method: &str) -> String {
    format!(
        "`{method}`: an earlier `identify` or `authenticate` identifies clients already; call only one of them, \
         once"
    )
}
