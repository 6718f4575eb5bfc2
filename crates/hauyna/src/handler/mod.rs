//! What the application decides: who a client is, what happens when it comes, speaks and goes. `Handler`
//! is the builder, `admission`, `authorize`, `bounds`, `limits` and `validate` parts of it; `endpoint` is what connections call;
//! `identity` is who a client is; `callback`
//! makes functions into it; `context` is what a callback gets.

mod admission;
mod authorize;
mod bounds;
mod callback;
mod context;
mod endpoint;
mod identity;
mod input;
mod limits;
mod recovery;
mod validate;

pub use context::Context;
pub use identity::{Identity, IntoIdentity, IntoIdentityFuture};
pub(crate) use limits::ERROR_UNITS;
pub use limits::RateLimit;
pub use recovery::{Failed, IntoRecovery, Operation, Recovery};

pub(crate) use callback::{EventAnswer, Signature};
pub(crate) use endpoint::{Action, Endpoint, Mode};
pub(crate) use identity::{Credentials, Expiry};
pub(crate) use input::decode_input;

use crate::connection::{CloseReason, Connection};
use crate::error::Error;
use crate::once::call_once;
use crate::router::Origins;
use callback::{EventTask, decode_event, trigger_event};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::any::TypeId;
use std::future::Future;
use std::sync::Arc;

/// What the application decides about the connections of one route.
///
/// Callbacks are `async fn`s. The requests of one connection are handled one after the other, in their
/// order; a slow callback delays nobody else's.
///
/// # Panics
///
/// A callback, [`identify`](Handler::identify) or [`authenticate`](Handler::authenticate), the
/// [origins](Handler::origins), the [rate limit](Handler::rate_limit) and each type of [state](Handler::state) are given
/// once: a method that would take the place of an earlier call panics, and the handler is not built. Of a single number,
/// time or switch (time-outs, [`heartbeat`](Handler::heartbeat) and `no_heartbeat`, `max_message`, `error_budget` and
/// `no_error_budget`, `retry_policy`) the last call counts, so that a handler made elsewhere can be adjusted.
///
/// # Examples
///
/// ```
/// use hauyna::{Context, Handler, Reject, json};
///
/// #[derive(serde::Deserialize)]
/// struct Add { a: i64, b: i64 }
///
/// async fn add(_: Context, numbers: Add) -> hauyna::Result<i64> {
///     Ok(numbers.a + numbers.b) // the `data` of the client's `ack`
/// }
///
/// let handler = Handler::new()
///     .identify(|request| request.query("user").ok_or(Reject::unauthorized("who are you?")))
///     .on("add", add);
/// ```
#[derive(Debug)]
#[must_use]
pub struct Handler {
    endpoint: Endpoint,
    origins: Option<Origins>,
}

impl Handler {
    /// A handler without callbacks: every client gets an identifier of its own.
    pub fn new() -> Self {
        Self::of_mode(Mode::Protocol)
    }

    /// A handler that sends every message back as it came, without the protocol: for conformance and load
    /// tests. It handles no messages, so methods that say how to (`on`, `on_message`, `authorize_…`, `validate`) panic.
    pub fn echo() -> Self {
        Self::of_mode(Mode::Echo)
    }

    fn of_mode(mode: Mode) -> Self {
        Self { endpoint: Endpoint::new(mode), origins: None }
    }

    /// # Panics
    ///
    /// Where the handler echoes, and would never call `method`'s function.
    #[track_caller]
    fn assert_handles_messages(&self, method: &str) {
        assert!(self.endpoint.mode == Mode::Protocol, "`{method}`: `Handler::echo` handles no messages");
    }

    /// Runs when a connection is there, before its first request. An error closes it: with 3507 where it refuses the
    /// client for good, with 3005 for [`Reject::expired`](crate::Reject::expired), and with 1011 where the callback
    /// failed, panicked or took too long. `docs/errors.md` has the table. A client that shows its session's token
    /// meanwhile waits for it.
    pub fn on_open<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let f = Box::new(move |cx| Box::pin(f(cx)) as _);
        call_once(&mut self.endpoint.on_open, f, "on_open");
        self
    }

    /// Handles the messages whose `type` is `event`, decoded into `T`: what does not fit never reaches `f`
    /// and is answered with `validation_error`. With an `id` the result is the `data` of the `ack`. An event without
    /// data is taken as `()`.
    ///
    /// # Panics
    ///
    /// Where `event` is one of the protocol's own request types, or is registered twice.
    pub fn on<T, F, Fut, R>(self, event: &str, f: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Context, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Error>> + Send + 'static,
        R: Serialize,
    {
        self.insert(event, Some(Signature::of::<T, R>()), decode_event(f))
    }

    /// Lets clients trigger these events of the application: a message with one of these types runs the listeners
    /// of [`Events::on`](crate::Events::on), with the whole message as data and its connection. No other event can be
    /// triggered by a client. The answer is the first failure of a listener, `unknown_event` where nobody listens,
    /// else an `ack` without data.
    ///
    /// # Panics
    ///
    /// Where an event is one of the protocol's own request types, or is registered twice, here or by
    /// [`Handler::on`].
    pub fn client_events<E: AsRef<str>>(mut self, events: impl IntoIterator<Item = E>) -> Self {
        for event in events {
            let event = event.as_ref();
            self = self.insert(event, None, trigger_event(event));
        }
        self
    }

    fn insert(mut self, event: &str, signature: Option<Signature>, task: EventTask) -> Self {
        self.assert_handles_messages("on");
        check_event(event);
        self.endpoint.signatures.insert(event.into(), signature);
        let old = self.endpoint.events.insert(event.into(), task);
        assert!(old.is_none(), "`{event}` is registered twice");
        self
    }

    /// Handles every message whose `type` no [`Handler::on`] knows.
    pub fn on_message<F, Fut, R>(mut self, f: F) -> Self
    where
        F: Fn(Context, Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Error>> + Send + 'static,
        R: Serialize,
    {
        self.assert_handles_messages("on_message");
        call_once(&mut self.endpoint.on_message, decode_event(f), "on_message");
        self
    }

    /// Handles frames of the other kind than the connection's encoding: binary ones of a JSON client.
    pub fn on_binary<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.assert_handles_messages("on_binary");
        let f = Box::new(move |cx, bytes| Box::pin(f(cx, bytes)) as _);
        call_once(&mut self.endpoint.on_binary, f, "on_binary");
        self
    }

    /// Runs in place of `on_open` when a client that was lost is back with its session: the context is that of the new
    /// connection, the other one was lost. Subscriptions, what was attached, presence, state and retry policy are the
    /// new one's already. An error closes it, as one of [`Handler::on_open`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::{Connection, Context, Handler};
    ///
    /// let handler = Handler::new()
    ///     .on_open(async |cx: Context| cx.subscribe("news", ()).await) // once for each session
    ///     .on_reconnect(async |cx: Context, old: Connection| {
    ///         println!("{} was {} and is {}", cx.user(), old.id(), cx.connection().id());
    ///         Ok(())
    ///     });
    /// # drop(handler);
    /// ```
    pub fn on_reconnect<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, Connection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let f = Box::new(move |cx, old| Box::pin(f(cx, old)) as _);
        call_once(&mut self.endpoint.on_reconnect, f, "on_reconnect");
        self
    }

    /// Runs when a connection is gone, with the reason: it has left its channels and nothing can be sent
    /// to it any more. Where its session is kept for the client to come back, it runs when that has ended, and not
    /// at all where another connection goes on with it: see [`Handler::on_reconnect`].
    pub fn on_close<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, CloseReason) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let f = Box::new(move |cx, reason| Box::pin(f(cx, reason)) as _);
        call_once(&mut self.endpoint.on_close, f, "on_close");
        self
    }

    /// Runs when the client sent a WebSocket ping; the pong is already on its way.
    pub fn on_ping<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let f = Box::new(move |cx, payload| Box::pin(f(cx, payload)) as _);
        call_once(&mut self.endpoint.on_ping, f, "on_ping");
        self
    }

    /// Runs when the client sent a WebSocket pong.
    pub fn on_pong<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let f = Box::new(move |cx, payload| Box::pin(f(cx, payload)) as _);
        call_once(&mut self.endpoint.on_pong, f, "on_pong");
        self
    }

    /// Shares a value with the callbacks, one of each type; see [`Context::state`].
    ///
    /// # Panics
    ///
    /// Where a value of this type was given before.
    pub fn state<S: Send + Sync + 'static>(mut self, state: S) -> Self {
        let old = self.endpoint.state.insert(TypeId::of::<S>(), Arc::new(state));
        assert!(old.is_none(), "`state` is called twice with a value of type {}", std::any::type_name::<S>());
        self
    }

    /// The handler, finished, for [`Connections::register`](crate::connection::Connections::register).
    pub fn share(self) -> SharedHandler {
        SharedHandler(Arc::new(self.into_endpoint()))
    }

    #[cfg(feature = "contract")]
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// # Panics
    ///
    /// Where a validator is for an event that the handler does not take.
    pub(crate) fn into_endpoint(self) -> Endpoint {
        let Self { mut endpoint, origins } = self;
        if let Some(origins) = origins {
            endpoint.origins = origins;
        }
        if let Some(validators) = endpoint.validators.as_ref().filter(|_| endpoint.on_message.is_none()) {
            for event in validators.by_event.keys() {
                assert!(
                    endpoint.events.contains_key(event),
                    "`validate`: the handler has no event `{event}`"
                );
            }
        }
        endpoint
    }
}

/// A finished [`Handler`], for connections that come from no router. A cheap handle.
#[derive(Debug, Clone)]
pub struct SharedHandler(pub(crate) Arc<Endpoint>);

impl Default for Handler {
    fn default() -> Self {
        Self::new()
    }
}

fn check_event(event: &str) {
    assert!(!is_request_of_protocol(event), "`{event}` is a request of the protocol");
}

pub(crate) fn is_request_of_protocol(event: &str) -> bool {
    RESERVED.contains(&event)
}

/// Request types that the protocol has for itself.
const RESERVED: [&str; 17] = [
    "subscribe_channel",
    "unsubscribe_channel",
    "channel_message",
    "private",
    "group",
    "broadcast",
    "update_status",
    "update_presence",
    "client_event",
    "presence",
    "history",
    "refresh",
    "ping",
    "ack",
    "error",
    "resume",
    "session",
];
