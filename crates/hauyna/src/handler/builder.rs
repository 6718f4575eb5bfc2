//! The builder of a handler, `Handler`: its callbacks.

use super::callback::{EventTask, call_in_future, decode_event, trigger_event};
use super::{Context, Endpoint, Mode, Signature};
use crate::close::CloseReason;
use crate::connection::Connection;
use crate::error::Error;
use crate::once::call_once;
use crate::request::Origins;
use hauyna_protocol::Request;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::any::TypeId;
use std::future::Future;
use std::sync::Arc;

/// The callbacks and bounds for the connections of one route.
///
/// Callbacks are `async fn`s. The requests of one connection are handled one after the other, in their
/// order; a slow callback delays no other connection.
///
/// # Panics
///
/// A callback, [`identify`](Handler::identify) or [`authenticate`](Handler::authenticate), the
/// [origins](Handler::origins), the [rate limit](Handler::rate_limit) and each type of
/// [state](Handler::state) can be set only once: a method that would replace an earlier call panics, and the
/// handler is not built. For a single number, time or switch (timeouts, [`heartbeat`](Handler::heartbeat) and
/// `no_heartbeat`, `max_message`, `error_budget` and `no_error_budget`, `retry_policy`) the last call counts,
/// so that a handler made elsewhere can be adjusted.
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
    pub(super) endpoint: Endpoint,
    pub(super) origins: Option<Origins>,
}

impl Handler {
    /// Creates a handler without callbacks: the hub generates a user name for every client.
    pub fn new() -> Self {
        Self::of_mode(Mode::Protocol)
    }

    /// Creates a handler that sends every message back unchanged, without the protocol: for conformance and
    /// load tests. It handles no messages, so methods that set how to (`on`, `on_message`, `authorize_…`,
    /// `validate`) panic.
    pub fn echo() -> Self {
        Self::of_mode(Mode::Echo)
    }

    fn of_mode(mode: Mode) -> Self {
        Self { endpoint: Endpoint::new(mode), origins: None }
    }

    /// Checks that the handler handles messages.
    ///
    /// # Panics
    ///
    /// If the handler echoes, because it would never call `method`'s function.
    #[track_caller]
    pub(super) fn assert_handles_messages(&self, method: &str) {
        assert!(self.endpoint.mode == Mode::Protocol, "`{method}`: `Handler::echo` handles no messages");
    }

    /// Runs when a connection has opened, before its first request. An error closes it: with 3507 if it
    /// refuses the client permanently, with 3005 for [`Reject::expired`](crate::Reject::expired), and with
    /// 1011 if the callback failed, panicked or took too long. `docs/errors.md` has the table. A client that
    /// wants to resume this session meanwhile waits until the callback has finished.
    #[track_caller]
    pub fn on_open<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let f = Box::new(move |cx| Box::pin(f(cx)) as _);
        call_once(&mut self.endpoint.on_open, f, "on_open");
        self
    }

    /// Handles the messages whose `type` is `event`, decoded into `T`: a message that does not fit never
    /// reaches `f` and is answered with `validation_error`. For a message with an `id` the result is the
    /// `data` of the `ack`. An event without data is decoded as `()`.
    ///
    /// # Panics
    ///
    /// If `event` is one of the protocol's own request types, or is registered twice.
    #[track_caller]
    pub fn on<T, F, Fut, R>(self, event: &str, f: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Context, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Error>> + Send + 'static,
        R: Serialize,
    {
        self.insert(event, Some(Signature::of::<T, R>()), decode_event(f))
    }

    /// Lets clients trigger these events of the application: a message with one of these types runs the
    /// listeners of [`Events::on`](crate::Events::on), with the whole message as data and its connection. A
    /// client can trigger no other event. The answer is the first failure of a listener, `unknown_event` if
    /// there is no listener, else an `ack` without data.
    ///
    /// What the subscribers of a channel send to each other, such as cursors, is something else:
    /// [`ChannelOptions::client_events`](crate::ChannelOptions::client_events).
    ///
    /// # Panics
    ///
    /// If an event is one of the protocol's own request types, or is registered twice, here or by
    /// [`Handler::on`].
    #[track_caller]
    pub fn trigger_events<E: AsRef<str>>(mut self, events: impl IntoIterator<Item = E>) -> Self {
        for event in events {
            let event = event.as_ref();
            self = self.insert(event, None, trigger_event(event));
        }
        self
    }

    #[track_caller]
    pub(super) fn insert(mut self, event: &str, signature: Option<Signature>, task: EventTask) -> Self {
        self.assert_handles_messages("on");
        check_event(event);
        self.endpoint.signatures.insert(event.into(), signature);
        let old = self.endpoint.events.insert(event.into(), task);
        assert!(old.is_none(), "`{event}` is registered twice");
        self
    }

    /// Handles every message whose `type` has no [`Handler::on`].
    #[track_caller]
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

    /// Handles frames of the other kind than the connection's encoding, such as binary frames of a JSON
    /// client.
    #[track_caller]
    pub fn on_binary<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.assert_handles_messages("on_binary");
        call_once(&mut self.endpoint.on_binary, call_in_future(f), "on_binary");
        self
    }

    /// Runs in place of `on_open` when a lost client resumes its session. The context is that of the new
    /// connection; `old` is the lost one. Subscriptions, attached values, presence, state and retry policy
    /// have moved to the new connection already. An error closes it, like an error of [`Handler::on_open`].
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
    #[track_caller]
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
    /// to it any more. If its session is kept, it runs when the session has ended, and not at all if another
    /// connection resumes the session: see [`Handler::on_reconnect`].
    #[track_caller]
    pub fn on_close<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, CloseReason) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let f = Box::new(move |cx, reason| Box::pin(f(cx, reason)) as _);
        call_once(&mut self.endpoint.on_close, f, "on_close");
        self
    }

    /// Runs when the client has sent a WebSocket ping; the pong is already queued.
    #[track_caller]
    pub fn on_ping<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        call_once(&mut self.endpoint.on_ping, call_in_future(f), "on_ping");
        self
    }

    /// Runs when the client has sent a WebSocket pong.
    #[track_caller]
    pub fn on_pong<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        call_once(&mut self.endpoint.on_pong, call_in_future(f), "on_pong");
        self
    }

    /// Shares a value with the callbacks, one of each type; see [`Context::state`].
    ///
    /// # Panics
    ///
    /// If a value of this type was set before.
    #[track_caller]
    pub fn state<S: Send + Sync + 'static>(mut self, state: S) -> Self {
        let old = self.endpoint.state.insert(TypeId::of::<S>(), Arc::new(state));
        assert!(old.is_none(), "`state` is called twice with a value of type {}", std::any::type_name::<S>());
        self
    }

    /// Returns the finished handler, for [`Connections::register`](crate::connection::Connections::register).
    pub fn share(self) -> SharedHandler {
        SharedHandler(Arc::new(self.into_endpoint()))
    }

    #[cfg(feature = "contract")]
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Finishes the handler.
    ///
    /// # Panics
    ///
    /// If a validator is for an event that the handler does not handle.
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

/// A finished [`Handler`], for connections that come from no router. A handle that is cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedHandler(pub(crate) Arc<Endpoint>);

impl Default for Handler {
    fn default() -> Self {
        Self::new()
    }
}

#[track_caller]
pub(super) fn check_event(event: &str) {
    assert!(!is_request_of_protocol(event), "`{event}` is a request of the protocol");
}

pub(crate) fn is_request_of_protocol(event: &str) -> bool {
    // `session` is a message of the server, so no event may have its name either.
    Request::KINDS.contains(&event) || event == "session"
}
