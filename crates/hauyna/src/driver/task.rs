//! The task of one connection, as one small future: it writes queued messages, polls the running callback,
//! reads, and handles what it has read. Reading pauses while the socket accepts no data or a callback is
//! running, so that a peer can make the server hold no more than what one read brought. `Drop` for `Driver`
//! cleans up in every case.

use super::callback::{PendingCallback, poll_callback, start_request, wait_for_room};
use super::close::{CloseNotice, tear_down};
use super::read_ahead::ReadAhead;
use super::reader::{self, Handled};
use super::replies::{MAX_REPLY_BYTES, ReplyProgress, flush_replies};
use super::stream::{poll_unconstrained, retry_after_look, write_other};
use crate::close::CloseReason;
use crate::connection::{ConnectionCore, end_requests};
use crate::contain;
use crate::dispatch::Reply;
use crate::handler::Context as HandlerContext;
use crate::outbox::{Flushed, Phase, SessionNotice};
use crate::transport::{Io, with_replies, with_scratch};
use hauyna_protocol::close::CloseCode;
use hauyna_websocket::{Decoder, Event};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

pub(super) struct Driver {
    pub(super) core: Arc<ConnectionCore>,
    pub(super) decoder: Decoder,
    pub(super) io: Option<Box<dyn Io>>,
    /// Input that was read and is not handled yet.
    pub(super) read_ahead: Option<Box<ReadAhead>>,
    pub(super) callback: Option<PendingCallback>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The connection was closed before `on_open`, so `on_close` does not run either.
    Unopened,
    Living,
    /// The connection is cleaned up; `on_close` may still be running.
    Ended,
}

/// What remains to do when the socket has accepted everything that was queued.
enum WriteProgress {
    All,
    /// A subscriber catches up, and the next page of the history may be fetched.
    ReplayIsDue,
    Closing(Phase),
}

pub(super) enum Next {
    Again,
    Wait,
    End,
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        for _ in 0..MAX_READS_PER_TURN {
            match this.step(cx) {
                Next::Again => {}
                Next::Wait => return Poll::Pending,
                Next::End => return Poll::Ready(()),
            }
        }
        // A peer that floods the connection offers no other moment to close it for a drain.
        if this.callback.is_none() && this.read_ahead.is_none() {
            this.close_if_draining();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Driver {
    /// Creates the task of a connection. `rest` is the input that came with the handshake.
    pub(super) fn new(
        core: Arc<ConnectionCore>,
        decoder: Decoder,
        io: Option<Box<dyn Io>>,
        rest: Option<Box<[u8]>>,
        callback: Option<PendingCallback>,
    ) -> Self {
        Self { core, decoder, io, read_ahead: rest.and_then(ReadAhead::of), callback, stage: Stage::Living }
    }

    /// Marks the driver of a connection that was closed before it was opened.
    pub(super) fn unopened(mut self) -> Self {
        self.stage = Stage::Unopened;
        self
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Next {
        if self.stage == Stage::Ended {
            return self.finish(cx);
        }
        let mut is_replaying = false;
        match self.write(cx) {
            Poll::Ready(WriteProgress::All) => {}
            // Reading continues during a long replay.
            Poll::Ready(WriteProgress::ReplayIsDue) => is_replaying = self.core.sender().fetch_replay(),
            Poll::Ready(WriteProgress::Closing(phase)) => {
                if self.continue_closing(phase) {
                    return Next::Again;
                }
            }
            // A callback may continue; reading may not.
            Poll::Pending if self.callback.is_some() => {}
            Poll::Pending => return Next::Wait,
        }
        match self.resume_reading(cx) {
            Next::Wait if is_replaying => Next::Again,
            next => next,
        }
    }

    fn resume_reading(&mut self, cx: &mut Context<'_>) -> Next {
        if let Some(callback) = self.callback.take() {
            return self.poll_callback(callback, cx);
        }
        if let Some(mut read_ahead) = self.read_ahead.take() {
            self.contain_panic(|driver| match read_ahead.has_messages() {
                true => driver.replay_held(read_ahead, cx),
                false => driver.handle(&mut read_ahead.rest_bytes, cx),
            });
            return Next::Again;
        }
        let read = with_scratch(|scratch| {
            let read = self.poll_read(cx, scratch);
            if let Poll::Ready(Ok(read @ 1..)) = read {
                self.core.traffic().received.add(read as u64);
                self.contain_panic(|driver| driver.handle(&mut scratch[..read], cx));
            }
            read
        });
        match read {
            Poll::Pending => self.close_if_draining(),
            Poll::Ready(Ok(1..)) => Next::Again,
            Poll::Ready(Ok(0) | Err(_)) => {
                self.core.end(CloseReason::Lost);
                Next::Again
            }
        }
    }

    /// Continues a close that has begun. Returns whether it made progress.
    fn continue_closing(&mut self, phase: Phase) -> bool {
        end_requests(&self.core);
        match phase {
            Phase::Gone => self.clean_up(),
            Phase::Closed(_) if self.is_lingering() => {
                // We send nothing more; what the peer still sends is read and dropped.
                self.core.outbox.lock().socket.shutdown();
                return false;
            }
            Phase::Closed(_) if self.decoder.is_finished() => self.core.end(CloseReason::Lost),
            _ => return false,
        }
        true
    }

    /// Closes the connection if the hub drains. Called when everything that was read is answered.
    fn close_if_draining(&self) -> Next {
        if !self.core.hub().lifecycle.is_draining() {
            return Next::Wait;
        }
        self.core.hub().process_inline(self.core.shard()); // the close frame goes behind earlier publications
        if self.core.close_if_draining() { Next::Again } else { Next::Wait }
    }

    /// Whether the connection was closed for a fault of the peer. Such a peer may still be sending, and
    /// closing the socket with unread data would reset it before the peer has read the close frame.
    fn is_lingering(&self) -> bool {
        let reason = self.core.outbox.lock().reason;
        matches!(
            reason,
            Some(CloseReason::Protocol | CloseReason::MessageTooBig | CloseReason::TooManyErrors)
        )
    }

    /// Writes what is queued; ready when nothing is.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<WriteProgress> {
        let mut outbox = self.core.outbox.lock();
        if !outbox.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            outbox.waker = Some(cx.waker().clone());
        }
        while !outbox.is_empty() {
            let out = self.core.sender().outgoing();
            let flushed = match &mut self.io {
                None => {
                    if outbox.blocked.is_some() && ready!(outbox.socket.poll_write_ready(cx)).is_err() {
                        outbox.end(CloseReason::Lost);
                        break;
                    }
                    outbox.flush(out)
                }
                Some(io) => outbox.flush_with(out, &mut |slices| write_other(io, cx, slices)),
            };
            // A TCP socket is polled again and reports when it accepts more; other streams have been polled.
            if let (Flushed::Blocked, Some(_)) = (flushed, &self.io) {
                if outbox.is_replaced() {
                    break;
                }
                if outbox.is_overdue(self.core.sender().bounded()) {
                    self.core.sender().close_as_slow(&mut outbox);
                    continue;
                }
                if outbox.awaits_look() {
                    drop(outbox);
                    retry_after_look(&self.core);
                }
                return Poll::Pending;
            }
        }
        if let Some(io) = &mut self.io {
            let flushed = poll_unconstrained(cx, |cx| Pin::new(&mut *io).poll_flush(cx));
            if let (Poll::Ready(Ok(())), Phase::Closed(_)) = (&flushed, outbox.phase) {
                let _ = Pin::new(io).poll_shutdown(cx);
            }
            if outbox.is_replaced() {
                outbox.end(CloseReason::Lost);
            }
        }
        Poll::Ready(match outbox.phase {
            Phase::Open if outbox.wants_replay() => WriteProgress::ReplayIsDue,
            Phase::Open => WriteProgress::All,
            phase => WriteProgress::Closing(phase),
        })
    }

    /// Handles input. A panic in the application's code closes only this connection.
    fn contain_panic(&mut self, handle: impl FnOnce(&mut Self)) {
        if contain::call_uncounted(|| handle(self)).is_err() {
            self.core.metrics().panics.increment();
            self.core.close_with(CloseCode::INTERNAL_ERROR, CloseReason::Failed);
        }
    }

    fn handle(&mut self, input: &mut [u8], cx: &mut Context<'_>) {
        let Self { core, decoder, callback, read_ahead, .. } = self;
        core.liveness.note_read();
        let is_idle = core.is_idle();
        if is_idle {
            core.transitions().note_read_while_idle();
        }
        let mut has_ended = false;
        with_replies(|replies| {
            let mut events = decoder.feed(input);
            loop {
                let handled = match events.next() {
                    Ok(None) => break,
                    Ok(Some(event)) => {
                        let is_message = matches!(event, Event::Text(_) | Event::Binary(_));
                        if is_idle && is_message {
                            core.transitions().mark_active();
                        }
                        has_ended |= is_message;
                        reader::handle(core, event, replies)
                    }
                    Err(error) => {
                        reader::close_for_fault(core, &error, replies);
                        break;
                    }
                };
                let mut is_full = false;
                if let Handled::Later(pending) = handled {
                    *callback = start_request(core, pending, replies, cx);
                    is_full = core.sender().is_backed_up();
                }
                is_full |= replies.len() >= MAX_REPLY_BYTES
                    && flush_replies(core, replies) == ReplyProgress::Waiting;
                if callback.is_none() {
                    *callback = wait_for_room(core);
                }
                if callback.is_some() || is_full {
                    *read_ahead = ReadAhead::of((&*events.rest()).into());
                    break;
                }
            }
            flush_replies(core, replies);
        });
        self.update_message_deadline(has_ended);
    }

    /// Notes whether a message ended, and sets since when the current message is unfinished.
    pub(super) fn update_message_deadline(&self, has_ended: bool) {
        if has_ended {
            self.core.liveness.note_message();
            if let Some(takeover) = self.core.takeover() {
                takeover.confirm();
            }
        }
        self.core.liveness.set_unfinished(self.decoder.is_mid_message());
    }

    /// Polls the running callback.
    fn poll_callback(&mut self, callback: PendingCallback, cx: &mut Context<'_>) -> Next {
        let core = self.core.clone();
        match callback {
            PendingCallback::Close(future) => self.callback = Some(PendingCallback::Close(future)),
            PendingCallback::AwaitRoom(mut room) => {
                if room.as_mut().poll(cx).is_pending() {
                    self.callback = Some(PendingCallback::AwaitRoom(room));
                    return Next::Wait;
                }
            }
            PendingCallback::Open(mut future) => match poll_callback(&core, &mut future, cx) {
                // What the callback has sent goes out before the answer to the first request.
                Poll::Ready(Some(Ok(()))) => {
                    core.hub().process_inline(core.shard());
                    core.end_decision(SessionNotice::Token);
                }
                Poll::Ready(Some(Err(error))) => reader::refuse_open(&core, &error),
                Poll::Ready(None) => {
                    core.close_with(CloseCode::INTERNAL_ERROR, CloseReason::Failed);
                }
                Poll::Pending if core.liveness_checks().has_expired() => {
                    core.close_with(CloseCode::INTERNAL_ERROR, CloseReason::Failed);
                }
                Poll::Pending => {
                    self.callback = Some(PendingCallback::Open(future));
                    return self.read_ahead(cx);
                }
            },
            PendingCallback::Request(mut request) => {
                let reply = match request.poll(&core, cx) {
                    Poll::Ready(Some(reply)) => reply,
                    Poll::Ready(None) => Reply::panicked(request.id.clone()),
                    Poll::Pending if core.liveness_checks().has_expired() => {
                        Reply::expired(request.id.clone())
                    }
                    Poll::Pending => {
                        self.callback = Some(PendingCallback::Request(request));
                        return self.read_ahead(cx);
                    }
                };
                with_replies(|replies| {
                    request.write(&core, reply, replies);
                    flush_replies(&core, replies);
                });
            }
        }
        core.liveness.set_busy(false);
        // A message that began meanwhile could not continue, so its time begins now.
        core.liveness.set_unfinished(false);
        core.liveness.set_unfinished(self.decoder.is_mid_message());
        Next::Again
    }

    /// Removes the connection from every list, once. What runs afterwards can no longer reach it.
    fn clean_up(&mut self) {
        if self.stage == Stage::Ended {
            return;
        }
        let was_opened = self.stage != Stage::Unopened;
        self.stage = Stage::Ended;
        self.callback = None;
        self.read_ahead = None;
        // The application made the socket, and its destructor may panic; the next steps run in any case.
        contain::discard(&self.core.metrics().panics, self.io.take());
        if let (CloseNotice::Over(reason), true) = (tear_down(&self.core), was_opened) {
            let cx = HandlerContext::new(self.core.clone());
            self.callback = self.core.endpoint().call_on_close(&cx, reason).map(PendingCallback::Close);
        }
    }

    fn finish(&mut self, cx: &mut Context<'_>) -> Next {
        if let Some(PendingCallback::Close(future)) = &mut self.callback
            && poll_callback(&self.core, future, cx).is_pending()
        {
            return Next::Wait;
        }
        self.callback = None;
        self.core.outbox.lock().waker = None;
        Next::End
    }
}

impl Drop for Driver {
    /// Cleans up where the runtime drops the task or the task panicked.
    fn drop(&mut self) {
        self.clean_up();
        self.core.outbox.lock().waker = None;
    }
}

/// Reads in one poll of the task. A peer that floods the connection gets so many, then other tasks run.
const MAX_READS_PER_TURN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_of_a_connection_stays_within_144_bytes() {
        assert!(size_of::<Driver>() <= 144, "{} bytes", size_of::<Driver>());
    }
}
