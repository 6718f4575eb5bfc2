//! A handler in the form that connections use: the boxed callbacks, and the bounds. One per route, shared by
//! all of its connections; `connection`, `dispatch` and `router` call it.

use super::callback::{EventTask, Signature, Task};
use super::recovery::OnError;
use super::{Context, ERROR_UNITS, RateLimit};
use crate::auth::Identity;
use crate::channel::Rule;
use crate::close::CloseReason;
use crate::config::Heartbeat;
use crate::connection::Connection;
use crate::contain::{self, Contained, Panicked};
use crate::counters::Counter;
use crate::dispatch::{Pending, Remainder, Reply};
use crate::error::{Error, Reject};
use crate::guaranteed::Guaranteed;
use crate::rate::Rate;
use crate::request::{ConnectRequest, Origins, Route};
use crate::retry::RetryPolicy;
use crate::router::Middleware;
use crate::used_limits::UsedLimits;
use crate::validate::Validators;
use hauyna_broker::BoxFuture;
use hauyna_websocket::{Deflate, Limits};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

type Identify = Box<dyn Fn(ConnectRequest) -> BoxFuture<Result<Identity, Reject>> + Send + Sync>;
type SessionKey = Box<dyn Fn(&ConnectRequest) -> String + Send + Sync>;
type OnOpen = Box<dyn Fn(Context) -> BoxFuture<Result<(), Error>> + Send + Sync>;

pub(crate) struct Endpoint {
    pub(crate) mode: Mode,
    /// The query parameter that may hold a token.
    pub(crate) token_parameter: Option<String>,
    pub(crate) middleware: Vec<Middleware>,
    pub(crate) identify: Option<Identify>,
    /// The key that a session is bound to; without it the path of the request.
    pub(crate) session_key: Option<SessionKey>,
    pub(crate) refresh: Option<Task<String, Result<Identity, Reject>>>,
    pub(crate) on_open: Option<OnOpen>,
    pub(crate) on_reconnect: Option<Task<Connection, Result<(), Error>>>,
    pub(crate) events: HashMap<Box<str>, EventTask>,
    /// The types of `events`; `None` for those that trigger listeners.
    pub(crate) signatures: HashMap<Box<str>, Option<Signature>>,
    pub(crate) on_message: Option<EventTask>,
    pub(crate) validators: Option<Box<Validators>>,
    pub(crate) on_binary: Option<Task<Vec<u8>, Result<(), Error>>>,
    pub(super) on_close: Option<Task<CloseReason, Result<(), Error>>>,
    pub(crate) on_error: Option<OnError>,
    pub(super) on_ping: Option<Task<Vec<u8>, Result<(), Error>>>,
    pub(super) on_pong: Option<Task<Vec<u8>, Result<(), Error>>>,
    pub(super) authorize: [Option<Rule>; 7],
    pub(crate) heartbeat: Option<Heartbeat>,
    /// Time without a message after which a connection is idle, even if pings or pongs were read.
    pub(crate) idle_after: Option<Duration>,
    pub(crate) message_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) callback_timeout: Duration,
    /// How its clients reconnect; without it the hub's policy applies.
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) limits: Limits,
    pub(crate) rate_limit: Option<Box<RateLimit>>,
    pub(crate) error_budget: Option<Rate>,
    pub(crate) deflate: Option<Deflate>,
    pub(crate) origins: Origins,
    /// Values that callbacks share, by their type.
    pub(super) state: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    /// The route's pattern, for the path parameters.
    pub(crate) route: String,
    /// Number of live connections.
    pub(crate) connections: Counter,
    /// What is left of the limits of users whose connections are gone.
    pub(crate) used_limits: UsedLimits<Remainder>,
}

/// How the server treats messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Protocol,
    Echo,
}

/// An action that can be authorised; the index of its callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Subscribe,
    Publish,
    Private,
    Group,
    Broadcast,
    History,
    Presence,
}

impl Action {
    /// Returns the builder's method that sets its callback.
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Subscribe => "authorize_subscribe",
            Self::Publish => "authorize_publish",
            Self::Private => "authorize_private",
            Self::Group => "authorize_group",
            Self::Broadcast => "authorize_broadcast",
            Self::History => "authorize_history",
            Self::Presence => "authorize_presence",
        }
    }
}

impl Route for Endpoint {
    fn pattern(&self) -> &str {
        &self.route
    }

    fn token_parameter(&self) -> Option<&str> {
        self.token_parameter.as_deref()
    }
}

impl Endpoint {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            token_parameter: None,
            middleware: Vec::new(),
            identify: None,
            session_key: None,
            refresh: None,
            on_open: None,
            on_reconnect: None,
            events: HashMap::new(),
            signatures: HashMap::new(),
            on_message: None,
            validators: None,
            on_binary: None,
            on_close: None,
            on_error: None,
            on_ping: None,
            on_pong: None,
            authorize: [const { None }; 7],
            heartbeat: Some(Heartbeat::default()),
            idle_after: None,
            message_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            callback_timeout: Duration::from_secs(30),
            retry: None,
            limits: Limits::default(),
            rate_limit: None,
            error_budget: Some(Rate::new(1000, Duration::from_secs(10)).in_units(ERROR_UNITS)),
            deflate: None,
            origins: Origins::default(),
            state: HashMap::new(),
            route: String::new(),
            connections: Counter::default(),
            used_limits: UsedLimits::default(),
        }
    }

    /// Returns how often the deadlines must be checked so that they are kept within a quarter.
    pub(crate) fn sweep_period(&self) -> Duration {
        let heartbeat =
            self.heartbeat.map_or(Duration::MAX, |heartbeat| heartbeat.interval.min(heartbeat.timeout));
        let heartbeat = heartbeat.min(self.idle_after.unwrap_or(Duration::MAX));
        let shortest = heartbeat.min(self.message_timeout).min(self.write_timeout).min(self.callback_timeout);
        shortest / 4
    }

    pub(crate) fn call_on_open(&self, cx: &Context) -> Option<BoxFuture<Result<(), Error>>> {
        self.on_open.as_ref().map(|f| start_callback(cx, || f(cx.clone())))
    }

    /// Calls `on_reconnect`, when a session was resumed on the connection of `cx`.
    pub(crate) fn call_on_reconnect(
        &self,
        cx: &Context,
        old: Connection,
    ) -> Option<BoxFuture<Result<(), Error>>> {
        self.on_reconnect.as_ref().map(|f| start_callback(cx, || f(cx.clone(), old)))
    }

    /// Calls `on_close`, the last callback of a connection. If its runtime ends before the callback has
    /// started, it runs on another one.
    pub(crate) fn call_on_close(&self, cx: &Context, reason: CloseReason) -> Option<Guaranteed> {
        let f = self.on_close.as_ref()?;
        let hub = &cx.hub().0;
        let ran = Contained::new(&hub.metrics.panics, start_callback(cx, || f(cx.clone(), reason)));
        let (timeout, cx) = (self.callback_timeout, cx.clone());
        let finished = async move {
            let (id, hub) = (cx.connection().id(), cx.hub());
            match crate::clock::timeout(timeout, ran).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => {
                    crate::log::limited("on_close", || {
                        let error = crate::log::error_text(&error).counting(&hub.0.metrics.panics);
                        tracing::warn!(target: "hauyna::connection", %id, %error, "on_close failed");
                    });
                    error.discard(&hub.0.metrics.panics);
                }
                Ok(Err(Panicked)) => crate::log::limited("on_close", || {
                    tracing::warn!(target: "hauyna::connection", %id, "on_close panicked");
                }),
                Err(late) => crate::log::limited("on_close", || {
                    tracing::warn!(target: "hauyna::connection", %id, ?late, "on_close took too long");
                }),
            }
        };
        Some(Guaranteed::new(hub, Box::pin(finished)))
    }

    pub(crate) fn call_on_ping(&self, cx: &Context, payload: &[u8]) -> Option<Pending> {
        Self::call_on_message(self.on_ping.as_ref()?, cx, payload)
    }

    pub(crate) fn call_on_pong(&self, cx: &Context, payload: &[u8]) -> Option<Pending> {
        Self::call_on_message(self.on_pong.as_ref()?, cx, payload)
    }

    fn call_on_message(
        f: &Task<Vec<u8>, Result<(), Error>>,
        cx: &Context,
        payload: &[u8],
    ) -> Option<Pending> {
        let future = f(cx.clone(), payload.to_vec());
        let future = Box::pin(async move { Reply::of_event(None, future.await.map(|()| None)) });
        Some(Pending { id: None, future })
    }

    pub(crate) fn authorizer(&self, action: Action) -> Option<&Rule> {
        self.authorize[action as usize].as_ref()
    }
}

/// Calls a callback; a panic before its first await fails it like a later panic.
fn start_callback(
    cx: &Context,
    f: impl FnOnce() -> BoxFuture<Result<(), Error>>,
) -> BoxFuture<Result<(), Error>> {
    contain::call(&cx.hub().0.metrics.panics, f)
        .unwrap_or_else(|_| Box::pin(std::future::ready(Err(Error::other("a callback panicked")))))
}

impl Drop for Endpoint {
    /// Drops the values that the application gave to its callbacks, each protected from panics of the others.
    fn drop(&mut self) {
        fn each<T>(values: impl IntoIterator<Item = T>) {
            for value in values {
                let _ = contain::call_uncounted(|| drop(value));
            }
        }
        each(self.middleware.drain(..));
        each(self.identify.take());
        each(self.session_key.take());
        each(self.refresh.take());
        each(self.on_open.take());
        each(self.on_reconnect.take());
        each(self.events.drain());
        each(self.on_message.take());
        each(self.validators.take());
        each([self.on_binary.take(), self.on_ping.take(), self.on_pong.take()]);
        each(self.on_close.take());
        each(self.on_error.take());
        each(self.authorize.iter_mut().map(Option::take));
        each(self.state.drain());
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("mode", &self.mode)
            .field("events", &self.signatures)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}
