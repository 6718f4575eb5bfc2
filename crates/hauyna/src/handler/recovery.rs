//! The part of the builder that decides what follows a failure: `on_error` gets a `Failed` and returns a
//! `Recovery`. `dispatch::recovery` carries it out.

use super::{Context, Handler};
use crate::error::Error;
use crate::once::call_once;
use hauyna_broker::BoxFuture;
use hauyna_protocol::close::CloseCode;
use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A request or callback that failed, as [`Handler::on_error`] gets it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failed {
    /// The error with its source; a client sees nothing of an internal error but its kind.
    pub error: Arc<Error>,
    /// The operation that failed.
    pub operation: Operation,
    /// Number of times that it has been retried already.
    pub retries: u32,
}

/// An operation that can fail.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// `on_open`.
    Open,
    /// A message of this `type`: a request of the protocol or an event, including the callbacks that decide
    /// about it.
    Request(Box<str>),
    /// `on_binary`.
    Binary,
    /// `on_ping`.
    Ping,
    /// `on_pong`.
    Pong,
    /// A message that could not be read.
    Unreadable,
}

/// What follows a failure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Recovery {
    /// The client gets an `error` message, as without [`Handler::on_error`]; after `on_open` the connection
    /// is closed, too.
    #[default]
    Reply,
    /// The client gets nothing, and after `on_open` the connection stays open. A request with an `id` still
    /// gets its error, because every `id` is answered once.
    Ignore,
    /// The connection is closed with this code and reason, as by
    /// [`Connection::close`](crate::Connection::close), and the failed request gets no other answer.
    Close(CloseCode, Cow<'static, str>),
    /// The same operation runs once more from the beginning, including decisions about permission, after this
    /// time; at most three times for one request, and for half of the callback timeout each. Later requests
    /// of the connection wait. Only failures that may pass are retried (`timeout`, `unavailable`,
    /// `internal_error`, `token_expired`, `application_error`); any other failure is answered.
    Retry {
        /// How long to wait before the retry.
        after: Duration,
    },
}

pub(super) type OnError = Box<dyn Fn(Context, Failed) -> BoxFuture<Recovery> + Send + Sync>;

/// A value that [`Handler::on_error`] may return: a [`Recovery`], or a future of it. The parameter only
/// distinguishes the two.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what `on_error` returns",
    label = "expected `Recovery` or a `Send` future of it",
    note = "return a `hauyna::handler::Recovery`, such as `Recovery::Reply`"
)]
pub trait IntoRecovery<M>: Send {
    /// Converts the value into a future of the decision.
    fn into_recovery(self) -> BoxFuture<Recovery>;
}

impl IntoRecovery<crate::auth::IsValue> for Recovery {
    fn into_recovery(self) -> BoxFuture<Recovery> {
        Box::pin(std::future::ready(self))
    }
}

impl<Fut> IntoRecovery<crate::auth::IsFuture> for Fut
where
    Fut: Future<Output = Recovery> + Send + 'static,
{
    fn into_recovery(self) -> BoxFuture<Recovery> {
        Box::pin(self)
    }
}

impl Handler {
    /// Decides what follows when a request fails, or a callback fails, panics or takes too long. `f` is a
    /// closure or an `async fn`. Default: [`Recovery::Reply`].
    ///
    /// It is not called for `rate_limited`, which has to be cheap, nor for `on_close`, because no client is
    /// left to answer. If it panics or takes too long itself, the client gets the first failure. Setting it
    /// costs a copy of each message that is not answered at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::{CloseCode, ErrorType, Handler};
    /// use hauyna::handler::{Operation, Recovery};
    /// use std::time::Duration;
    ///
    /// let handler = Handler::new().on_error(|cx, failed| match failed.error.error_type() {
    ///     ErrorType::Unavailable => Recovery::Retry { after: Duration::from_millis(200) },
    ///     ErrorType::PermissionDenied if failed.operation == Operation::Request("admin".into()) => {
    ///         println!("{} tried to be an administrator", cx.user());
    ///         Recovery::Close(CloseCode::PERMISSION_DENIED, "not here".into())
    ///     }
    ///     _ => Recovery::Reply,
    /// });
    /// ```
    #[track_caller]
    pub fn on_error<F, R, M>(mut self, f: F) -> Self
    where
        F: Fn(Context, Failed) -> R + Send + Sync + 'static,
        R: IntoRecovery<M>,
    {
        let f = Box::new(move |cx, failed| f(cx, failed).into_recovery());
        call_once(&mut self.endpoint.on_error, f, "on_error");
        self
    }
}
