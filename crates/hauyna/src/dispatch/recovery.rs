//! Carries out what a handler's `on_error` decides about a failure: an answer, silence, a close, or a retry.
//! `dispatch` and `connection` put it between a callback and its answer if there is an `on_error`; without
//! one nothing of this runs.

use super::authority::RequestStart;
use super::{Core, Next, Pending, Reply, retry};
use crate::contain::{self, Contained, Panicked};
use crate::error::Error;
use crate::handler::{Context, Failed, Operation, Recovery};
use hauyna_broker::BoxFuture;
use hauyna_protocol::{ErrorType, Limits, RequestId};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

/// A message or callback, kept so that it can be run once more.
#[derive(Debug)]
pub(crate) enum Attempt {
    Open,
    Message(Box<[u8]>),
    Binary(Box<[u8]>),
    Ping(Box<[u8]>),
    Pong(Box<[u8]>),
}

/// Lets `on_error` decide about a callback that belongs to no request, if there is one.
pub(crate) fn with_recovery(core: &Core, attempt: impl FnOnce() -> Attempt, pending: Pending) -> Pending {
    if core.endpoint().on_error.is_none() {
        return pending;
    }
    run_with_recovery(core, pending.id, attempt(), Next::Later(pending.future))
}

/// Lets `on_error` decide about `on_open`, like [`with_recovery`].
pub(crate) fn open_with_recovery(
    core: &Core,
    future: BoxFuture<Result<(), Error>>,
) -> BoxFuture<Result<(), Error>> {
    if core.endpoint().on_error.is_none() {
        return future;
    }
    let core = core.clone();
    Box::pin(async move {
        let first = Next::Later(Box::pin(async move { Reply::of(None, future.await) }));
        watch_outcome(&core, None, Attempt::Open, first).await.end_of_open(&core)
    })
}

pub(super) fn run_with_recovery(core: &Core, id: Option<RequestId>, attempt: Attempt, next: Next) -> Pending {
    let (core, request_id) = (core.clone(), id.clone());
    Pending { id, future: Box::pin(async move { watch_outcome(&core, request_id, attempt, next).await }) }
}

async fn watch_outcome(core: &Core, id: Option<RequestId>, attempt: Attempt, mut next: Next) -> Reply {
    let (mut retries, start) = (0, RequestStart::now(core));
    loop {
        let reply = into_reply(core, &id, next).await;
        let error = match reply.into_refusal() {
            Ok(reply) => return reply,
            Err(error) if error.error_type() == ErrorType::RateLimited => return Reply::refused(id, error),
            Err(error) => Arc::new(error),
        };
        let failed = Failed { error: error.clone(), operation: attempt.operation(core), retries };
        let recovery = decision(core, failed).await;
        match recovery {
            Recovery::Retry { after } if retries < MAX_RETRIES && is_transient(error.error_type()) => {
                retries += 1;
                core.liveness_checks().restart_callback();
                let after = after.min(core.endpoint().callback_timeout / 2);
                tokio::time::sleep_until(crate::clock::after(after)).await;
                core.liveness_checks().restart_callback();
                if let Err(error) = start.check_rights(core) {
                    return Reply::refused(id, error);
                }
                next = retry(core, &attempt);
            }
            Recovery::Ignore if id.is_none() => return Reply::ignored(error.error_type()),
            Recovery::Close(code, reason) => return Reply::closing(code, reason),
            Recovery::Reply | Recovery::Ignore | Recovery::Retry { .. } => {
                return Reply::refused(id, Error::unshared(error)).of_callback();
            }
        }
    }
}

/// Waits for the reply; a callback that panics or takes too long has failed.
async fn into_reply(core: &Core, id: &Option<RequestId>, next: Next) -> Reply {
    let future = match next {
        Next::Now(reply) => return reply,
        Next::Later(future) => future,
    };
    match poll_contained(core, future).await {
        Ok(reply) => reply,
        Err(Stopped::Panicked) => Reply::panicked(id.clone()),
        Err(Stopped::Expired) => Reply::expired(id.clone()),
    }
}

/// Calls `on_error`, which has the full callback timeout for itself.
async fn decision(core: &Core, failed: Failed) -> Recovery {
    let Some(on_error) = &core.endpoint().on_error else { return Recovery::Reply };
    core.liveness_checks().restart_callback();
    let cx = Context::new(core.clone());
    let stopped = match contain::call(&core.metrics().panics, || on_error(cx, failed)) {
        Ok(future) => match poll_contained(core, future).await {
            Ok(recovery) => return recovery,
            Err(stopped) => stopped,
        },
        Err(Panicked) => Stopped::Panicked,
    };
    crate::log::limited("on_error failed", || {
        tracing::error!(target: "hauyna::connection", id = %core.id(), ?stopped, "on_error failed");
    });
    Recovery::Reply
}

/// Why a callback did not finish.
#[derive(Debug)]
enum Stopped {
    Panicked,
    Expired,
}

async fn poll_contained<T: Send + 'static>(core: &Core, future: BoxFuture<T>) -> Result<T, Stopped> {
    let mut future = Contained::new(&core.metrics().panics, future);
    poll_fn(|cx| match Pin::new(&mut future).poll(cx) {
        Poll::Ready(Ok(value)) => Poll::Ready(Ok(value)),
        Poll::Ready(Err(Panicked)) => Poll::Ready(Err(Stopped::Panicked)),
        Poll::Pending if core.liveness_checks().has_expired() => Poll::Ready(Err(Stopped::Expired)),
        Poll::Pending => Poll::Pending,
    })
    .await
}

impl Attempt {
    fn operation(&self, core: &Core) -> Operation {
        match self {
            Self::Open => Operation::Open,
            Self::Binary(_) => Operation::Binary,
            Self::Ping(_) => Operation::Ping,
            Self::Pong(_) => Operation::Pong,
            Self::Message(bytes) => {
                match hauyna_protocol::decode(core.wire().encoding(), bytes, &Limits::default()) {
                    Ok(incoming) => Operation::Request(incoming.request.kind().into()),
                    Err(_) => Operation::Unreadable,
                }
            }
        }
    }
}

/// Whether a retry may succeed. What the client did wrong stays wrong.
fn is_transient(error: ErrorType) -> bool {
    error.is_temporary() || error == ErrorType::ApplicationError
}

/// Maximum number of retries of one request.
const MAX_RETRIES: u32 = 3;
