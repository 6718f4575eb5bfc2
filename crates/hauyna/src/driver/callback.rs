//! The callback that a connection waits for, and the polling of it; a panic in the application's code is
//! contained here. Part of the task in `driver`.

use crate::connection::ConnectionCore;
use crate::contain::{Contained, Panicked};
use crate::dispatch::{Pending, Reply};
use crate::error::Error;
use crate::guaranteed::Guaranteed;
use crate::shard::{post_count_of_thread, repeat_post_count};
use hauyna_broker::BoxFuture;
use hauyna_protocol::RequestId;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Something that a connection waits for before it continues to read.
pub(super) enum PendingCallback {
    Open(Contained<Result<(), Error>>),
    /// Boxed, because few callbacks wait and every connection has room for this value.
    Request(Box<RunningRequest>),
    Close(Guaranteed),
    /// A shard that has to write because of the connection's requests is congested.
    AwaitRoom(BoxFuture<()>),
}

/// A request whose callback is running.
pub(super) struct RunningRequest {
    pub(super) id: Option<RequestId>,
    future: Contained<Reply>,
    /// Whether something was sent while it was polled, perhaps to its own client.
    has_sent: bool,
    /// Whether it has waited. What it waited for may have sent something from another thread.
    has_waited: bool,
}

impl RunningRequest {
    /// Polls the callback. Returns `None` if it panicked.
    pub(super) fn poll(&mut self, core: &Arc<ConnectionCore>, cx: &mut Context<'_>) -> Poll<Option<Reply>> {
        let before = post_count_of_thread();
        let poll = poll_callback(core, &mut self.future, cx);
        self.has_sent |= post_count_of_thread() != before;
        self.has_waited |= poll.is_pending();
        poll
    }

    /// Writes the reply, either behind what its callback has sent or among the other replies.
    pub(super) fn write(&self, core: &Arc<ConnectionCore>, reply: Reply, replies: &mut Vec<u8>) {
        let may_have_sent = self.has_sent || self.has_waited && reply.is_of_callback();
        if !may_have_sent || !core.sender().has_before_reply() {
            return reply.write(core, replies);
        }
        // The earlier replies stay before this one.
        let mut ordered = std::mem::take(replies);
        reply.write(core, &mut ordered);
        if !ordered.is_empty() {
            core.sender().send_ordered_reply(ordered.into());
        }
    }
}

/// Polls a callback for the first time. Returns it if it has not finished.
pub(super) fn start_request(
    core: &Arc<ConnectionCore>,
    Pending { id, future }: Pending,
    replies: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Option<PendingCallback> {
    let future = Contained::new(&core.metrics().panics, future);
    let mut request = RunningRequest { id, future, has_sent: false, has_waited: false };
    match request.poll(core, cx) {
        Poll::Ready(Some(reply)) => request.write(core, reply, replies),
        Poll::Ready(None) => request.write(core, Reply::panicked(request.id.clone()), replies),
        Poll::Pending => {
            core.liveness.set_busy(true);
            return Some(PendingCallback::Request(Box::new(request)));
        }
    }
    None
}

/// Calls a function of the application while a request is handled. Returns its output, and whether it has
/// sent something, perhaps to the client: then the answer has to stay behind that, by [`answer_behind_sent`].
pub(crate) fn call_for_request<T>(f: impl FnOnce() -> T) -> (T, bool) {
    let before = post_count_of_thread();
    let output = f();
    (output, post_count_of_thread() != before)
}

/// Completes a request whose function has sent something before it returned: the reply of a pending request
/// stays behind what was sent while it was polled.
pub(crate) async fn answer_behind_sent<T>(answer: impl Future<Output = T>) -> T {
    repeat_post_count();
    answer.await
}

/// Waits for a congested shard that has to write because of this connection's requests. Returns `None` if
/// there is none.
pub(super) fn wait_for_room(core: &Arc<ConnectionCore>) -> Option<PendingCallback> {
    let shard = core.hub().congested_shard_of(core)?;
    core.liveness.set_busy(true);
    let hub = core.hub().clone();
    Some(PendingCallback::AwaitRoom(Box::pin(async move { hub.wait_for_shard_room(shard).await })))
}

/// Polls a future of the application. Returns `None` if it panicked; the panic is counted.
pub(super) fn poll_callback<T>(
    core: &Arc<ConnectionCore>,
    future: &mut (impl Future<Output = Result<T, Panicked>> + Unpin),
    cx: &mut Context<'_>,
) -> Poll<Option<T>> {
    let _span = core.span().entered();
    Pin::new(future).poll(cx).map(Result::ok)
}
