//! The part of the builder that says what is made of a failure: `on_error` is told what `Failed` and decides on a
//! `Recovery`. Carried out by `dispatch::recovery`.

use super::{Context, Handler};
use crate::broker::BoxFuture;
use crate::error::Error;
use crate::once::call_once;
use hauyna_protocol::close::CloseCode;
use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A request or callback that failed, as [`Handler::on_error`] is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failed {
    /// What it failed with, source and all; a client sees nothing of an internal error but its kind.
    pub error: Arc<Error>,
    /// What was under way.
    pub operation: Operation,
    /// How many times it has been tried again already.
    pub retries: u32,
}

/// What was under way when something failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// `on_open`.
    Open,
    /// A message of this `type`: a request of the protocol or an event, the callbacks that decide about it
    /// included.
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

/// What is made of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Recovery {
    /// The client is told, as without [`Handler::on_error`]: an `error` message; after `on_open` a close, too.
    #[default]
    Reply,
    /// Nothing is said, and after `on_open` the connection goes on. A request with an `id` is answered with its
    /// error all the same, because every `id` is answered once.
    Ignore,
    /// The connection is closed with this code and reason, as by
    /// [`Connection::close`](crate::Connection::close), and the failed request gets no other answer.
    Close(CloseCode, Cow<'static, str>),
    /// The same is done once more from the beginning, decisions about permission included, after this time; at
    /// most three times for one request, and for half of the callback timeout each. Later requests of the
    /// connection wait. Only what may pass is tried again (`timeout`, `unavailable`, `internal_error`,
    /// `token_expired`, `application_error`); any other failure is answered.
    Retry {
        /// How long to wait before.
        after: Duration,
    },
}

pub(crate) type OnError = Box<dyn Fn(Context, Failed) -> BoxFuture<Recovery> + Send + Sync>;

/// What [`Handler::on_error`] may return: a [`Recovery`], or a future of it. The parameter only tells the two
/// apart.
pub trait IntoRecovery<M>: Send {
    /// The decision, later.
    fn into_recovery(self) -> BoxFuture<Recovery>;
}

impl IntoRecovery<super::identity::IsValue> for Recovery {
    fn into_recovery(self) -> BoxFuture<Recovery> {
        Box::pin(std::future::ready(self))
    }
}

impl<Fut> IntoRecovery<super::identity::IsFuture> for Fut
where
    Fut: Future<Output = Recovery> + Send + 'static,
{
    fn into_recovery(self) -> BoxFuture<Recovery> {
        Box::pin(self)
    }
}

impl Handler {
    /// Decides what is made of requests that fail and of callbacks that fail, panic or take too long. `f` is a
    /// closure or an `async fn`. Default: the client is told.
    ///
    /// It is not asked about `rate_limited`, which is to be cheap, nor about `on_close`, after which nobody can
    /// be told. Where it panics or takes too long itself, the client is told of the first failure. Setting it
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
