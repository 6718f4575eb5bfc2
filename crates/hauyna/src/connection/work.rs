//! A callback at work for a connection: what it is, and the polling of it, which no panic of the application's
//! gets out of. A part of the life in `run`.

use super::ConnectionCore;
use crate::broker::BoxFuture;
use crate::dispatch::{Pending, Reply};
use crate::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

/// A callback that has not come to its end.
pub(super) enum Work {
    Open(BoxFuture<Result<(), Error>>),
    Request(Pending),
    Close(BoxFuture<Result<(), Error>>),
}

/// Polls a callback for the first time; gives it back where it is not done.
pub(super) fn begin(
    core: &Arc<ConnectionCore>,
    mut pending: Pending,
    replies: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Option<Work> {
    match poll_callback(core, &mut pending.future, cx) {
        Poll::Ready(Some(reply)) => reply.write(core, replies),
        Poll::Ready(None) => Reply::panicked(core, pending.id).write(core, replies),
        Poll::Pending => {
            core.pulse.set_busy(Some(core.now()));
            return Some(Work::Request(pending));
        }
    }
    None
}

/// Polls a future of the application's; `None` where it panicked.
pub(super) fn poll_callback<T>(
    core: &ConnectionCore,
    future: &mut BoxFuture<T>,
    cx: &mut Context<'_>,
) -> Poll<Option<T>> {
    let _span = core.span().entered();
    match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    }
}
