//! How a hub ends. Owns the stage of the hub, which is checked before a connection is accepted; the immediate
//! end (`Hub::shutdown`), and what it shares with the gentle one in `drain`: waiting for the last connection.
//! Also `Hub::readiness`, which depends on the stage and the broker.

use super::drain::DrainPlan;
use super::{Hub, HubCore};
use crate::clock::{TimeoutError, timeout};
use crate::close::CloseReason;
use crate::error::Error;
use crate::outbox::Backlog;
use crate::session;
use hauyna_protocol::close::CloseCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;

/// The stage of a hub's end.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    stage: AtomicU8,
    changed: Notify,
    /// The plan of the first drain, set when it begins.
    pub(super) plan: OnceLock<DrainPlan>,
    /// Whether the drain has finished.
    is_drained: AtomicBool,
}

/// A stage of a hub, which only ever moves to a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Open,
    /// No connection is accepted, open ones are closed one by one; HTTP is answered.
    Draining,
    /// Servers stop listening.
    Stopped,
}

impl Lifecycle {
    pub(super) fn new() -> Self {
        Self {
            stage: AtomicU8::new(Stage::Open as u8),
            changed: Notify::new(),
            plan: OnceLock::new(),
            is_drained: AtomicBool::new(false),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Open,
            1 => Stage::Draining,
            _ => Stage::Stopped,
        }
    }

    /// Whether connections are accepted.
    pub(crate) fn is_open(&self) -> bool {
        self.stage() == Stage::Open
    }

    /// Whether a drain is under way. Called whenever a connection becomes idle: one load.
    pub(crate) fn is_draining(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == Stage::Draining as u8
    }

    /// Moves to a later stage. Returns whether the hub was in an earlier one.
    pub(super) fn advance(&self, to: Stage) -> bool {
        let is_later = self.stage.fetch_max(to as u8, Ordering::AcqRel) < to as u8;
        self.changed.notify_waiters();
        is_later
    }

    /// Returns how a connection that arrives now is closed, or `None` if it is accepted.
    pub(crate) fn close_for_newcomers(&self) -> Option<(CloseCode, CloseReason)> {
        match self.stage() {
            Stage::Open => None,
            Stage::Draining => Some((CloseCode::DRAIN, CloseReason::Drain)),
            Stage::Stopped => Some((CloseCode::SHUTDOWN, CloseReason::Shutdown)),
        }
    }

    /// Returns the reason sent to connections that are drained.
    pub(crate) fn reason(&self) -> &str {
        self.plan.get().map_or("drain", |plan| &plan.reason)
    }

    /// Wakes all tasks that wait for the end, so that they check again.
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }

    pub(super) fn end_drain(&self) {
        self.is_drained.store(true, Ordering::Release);
        self.wake();
    }

    /// Resolves when servers have to stop listening.
    pub(crate) async fn until_stopped(&self) {
        loop {
            let changed = self.changed.notified();
            if self.stage() == Stage::Stopped {
                return;
            }
            changed.await;
        }
    }
}

impl Hub {
    /// Whether [`Hub::drain`] or [`Hub::shutdown`] has begun: no connection is accepted any more.
    pub fn is_stopping(&self) -> bool {
        self.0.lifecycle.stage() != Stage::Open
    }

    /// Whether publishing would work now and new connections are accepted. [`Hub::readiness`] returns why
    /// not.
    pub fn is_ready(&self) -> bool {
        self.readiness() == Readiness::Ready
    }

    /// Returns whether a load balancer can send connections to this node, and else why not: the answer of
    /// `/ready`.
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::Hub;
    /// use hauyna::inspect::Readiness;
    ///
    /// let hub = Hub::new();
    /// assert_eq!(hub.readiness(), Readiness::Ready);
    /// # #[cfg(feature = "axum")] {
    /// use axum::routing::get;
    /// let health: axum::Router = axum::Router::new()
    ///     .route("/live", get(|| async { "live" }))
    ///     .route("/ready", get(move || async move { hub.readiness().response() }));
    /// # }
    /// ```
    pub fn readiness(&self) -> Readiness {
        match self.0.lifecycle.stage() {
            Stage::Draining => Readiness::Draining,
            Stage::Stopped => Readiness::Stopped,
            Stage::Open if self.0.broker.is_ready() => Readiness::Ready,
            Stage::Open => Readiness::BrokerDown,
        }
    }

    /// Ends the hub at once: listeners stop accepting, every connection is closed with 3000 (come back), and
    /// queued messages are written. Returns when the last connection is gone and the listeners of system
    /// events have run, or after `timeout`. [`Hub::drain`] spares the other nodes from all clients
    /// reconnecting at once. Nothing happens before it is awaited.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoRuntime`](crate::error::ErrorKind::NoRuntime) outside of a Tokio runtime, or in one
    /// without timers: all connections are closed then, and the call has not waited for their ends.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, all connections are closed already, but nothing waits for their ends.
    pub async fn shutdown(&self, timeout: Duration) -> Result<(), Error> {
        if self.0.lifecycle.advance(Stage::Stopped) {
            tracing::info!(target: "hauyna::server", connections = self.0.registry.count(), "shutting down");
        }
        for connection in self.0.registry.all() {
            connection.close(CloseCode::SHUTDOWN, "shutdown", CloseReason::Shutdown, Backlog::Write);
        }
        self.0.wait_until_empty(timeout, CloseReason::Shutdown).await.map(drop)
    }
}

impl HubCore {
    /// Resolves when a drain has finished. Takes over the drain if its runtime ended.
    pub(super) async fn until_drained(&self) {
        loop {
            let changed = self.lifecycle.changed.notified();
            self.background.adopt();
            if self.lifecycle.is_drained.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }

    /// Resolves when there is no connection, and no running callback of a session that has ended.
    pub(crate) async fn until_empty(&self) {
        loop {
            let gone = self.connection_gone.notified();
            if self.registry.count() == 0 && !self.sessions.is_closing() {
                return;
            }
            gone.await;
        }
    }

    /// Ends the sessions of connections that were lost before, and waits for the last connection and the
    /// listeners of system events. After `max_wait`, ends the connections that are left and returns how many
    /// those were.
    ///
    /// # Errors
    ///
    /// There is no runtime here to wait with.
    pub(super) async fn wait_until_empty(
        self: &Arc<Self>,
        max_wait: Duration,
        reason: CloseReason,
    ) -> Result<usize, Error> {
        session::end_all(self);
        self.background.adopt();
        let ended = async {
            self.until_empty().await;
            self.events.queue().until_idle().await;
        };
        match timeout(max_wait, ended).await {
            Ok(()) => return Ok(0),
            Err(TimeoutError::NoTimers) => return Err(Error::no_runtime()),
            Err(TimeoutError::Elapsed) => {}
        }
        let late = self.registry.all();
        late.iter().for_each(|connection| connection.end(reason));
        Ok(late.len())
    }
}

/// Whether a hub takes connections, from [`Hub::readiness`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Readiness {
    /// It accepts connections.
    Ready,
    /// [`Hub::drain`] is in progress.
    Draining,
    /// It was drained or shut down.
    Stopped,
    /// The broker cannot be reached.
    BrokerDown,
}

impl Readiness {
    /// Returns why the hub is not ready, as one word: `draining`, `stopped`, `broker_down`.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Ready => None,
            Self::Draining => Some("draining"),
            Self::Stopped => Some("stopped"),
            Self::BrokerDown => Some("broker_down"),
        }
    }

    /// Returns the answer to a health check: 200 with `{"status":"ready"}`, or 503 with
    /// `{"status":"not_ready","reason":"draining"}`. An axum handler can return it as it is.
    #[must_use]
    pub fn response(self) -> Response<String> {
        let (status, body) = match self.reason() {
            None => (StatusCode::OK, r#"{"status":"ready"}"#.to_owned()),
            Some(reason) => {
                let body = format!(r#"{{"status":"not_ready","reason":"{reason}"}}"#);
                (StatusCode::SERVICE_UNAVAILABLE, body)
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
