//! How a connection ends: the close frame that its client gets, and its leaving of every list, be it for good or with a
//! session that waits. Called by its own task, by the sweep, and by whoever closes it from outside.

use super::outbox::{Outbox, SessionNotice};
use super::{Backlog, CloseReason, Connection, ConnectionCore, Phase};
use crate::contain;
use crate::dispatch::keep_remainder;
use crate::event::{SystemEvent, SystemKind};
use crate::presence::{self, DepartureKind};
use crate::session::{self, KeptSubscription, SessionContent};
use bytes::Bytes;
use hauyna_protocol::close::CloseCode;
use hauyna_websocket::close_frame;
use std::sync::Arc;

impl ConnectionCore {
    pub(crate) fn close(
        self: &Arc<Self>,
        code: CloseCode,
        text: &str,
        (reason, backlog): (CloseReason, Backlog),
    ) {
        if backlog == Backlog::Write {
            self.hub.process_inline(self.shard()); // what was sent before goes out before
        }
        let mut outbox = self.outbox.lock();
        self.note_failure(&outbox, reason);
        let is_undecided = outbox.session_notice.is_undecided();
        if outbox.phase != Phase::Open && !session::is_resumable(reason) {
            forbid_resume(&mut outbox, reason);
        }
        outbox.close(close_frame_of(code, text), reason, backlog);
        self.wake(&outbox);
        if is_undecided {
            self.hub.sessions.notify_decided(self.id()); // whoever shows its token looks again
        }
    }

    pub(crate) fn close_with(self: &Arc<Self>, code: CloseCode, reason: CloseReason) {
        self.close(code, code.name().unwrap_or_default(), (reason, Backlog::Drop));
    }

    /// Closes behind these replies, already framed.
    pub(crate) fn close_after_queued(
        self: &Arc<Self>,
        replies: &mut Vec<u8>,
        (code, text): (CloseCode, &str),
        (reason, backlog): (CloseReason, Backlog),
    ) {
        match backlog {
            Backlog::Write => self.hub.process_inline(self.shard()),
            Backlog::Drop => self.wait_for_ordered_replies(),
        }
        let mut outbox = self.outbox.lock();
        let _ = outbox.write_replies(replies, self.traffic());
        replies.clear();
        self.note_failure(&outbox, reason);
        outbox.close(close_frame_of(code, text), reason, backlog);
        self.wake(&outbox);
    }

    /// Has its task close the connection as soon as it has answered what it has read.
    pub(crate) fn close_when_answered(&self) {
        let mut outbox = self.outbox.lock();
        outbox.closes_when_answered = true;
        self.wake(&outbox);
    }

    /// All that was read is answered: closes the connection where it has to leave. Returns whether it had.
    pub(super) fn close_if_draining(&self) -> bool {
        let mut outbox = self.outbox.lock();
        let is_due = outbox.closes_when_answered && outbox.phase == Phase::Open;
        if is_due {
            let frame = close_frame_of(CloseCode::DRAIN, self.hub.lifecycle.reason());
            outbox.close(frame, CloseReason::Drain, Backlog::Write);
        }
        is_due
    }

    /// The peer does not answer: it is told, for the case that it only cannot speak, and not waited for.
    pub(crate) fn close_dead(&self) {
        let mut outbox = self.outbox.lock();
        let is_written = self.send_session_end(
            &mut outbox,
            (CloseCode::HEARTBEAT_TIMEOUT, "heartbeat timeout"),
            CloseReason::Heartbeat,
        );
        if is_written {
            outbox.end(CloseReason::Heartbeat);
        }
        self.wake(&outbox);
    }

    /// Its client is on another socket, and need not hear of it on this one.
    pub(super) fn replace(&self, outbox: &mut Outbox) {
        self.send_session_end(outbox, (CloseCode::REPLACED, "replaced by a resume"), CloseReason::Resumed);
        self.wake(outbox);
    }

    /// Closes with what can be written now. Where only the task may write, returns false: it has to be woken to, and the
    /// sweep ends what it does not get written.
    fn send_session_end(
        &self,
        outbox: &mut Outbox,
        (code, text): (CloseCode, &str),
        reason: CloseReason,
    ) -> bool {
        outbox.close(close_frame_of(code, text), reason, Backlog::Drop);
        let may_write = !outbox.socket.is_of_task();
        if may_write {
            let _ = outbox.flush(self.outgoing());
        }
        may_write
    }

    pub(crate) fn end(&self, reason: CloseReason) {
        let mut outbox = self.outbox.lock();
        outbox.end(reason);
        self.wake(&outbox);
    }
}

/// A connection that is being closed, or has just broken, is to stay away: it leaves no session behind.
fn forbid_resume(outbox: &mut Outbox, reason: CloseReason) {
    if outbox.session_notice.is_token() {
        outbox.session_notice = SessionNotice::Session;
    }
    // One whose client is back elsewhere keeps its reason, which says that nobody waits for the peer.
    let may_return = |old| old != CloseReason::Resumed && session::is_resumable(old);
    if outbox.reason.is_some_and(may_return) {
        outbox.reason = Some(reason);
    }
}

pub(super) fn close_frame_of(code: CloseCode, reason: &str) -> Bytes {
    close_frame(hauyna_websocket::CloseCode::new(code.0), reason)
}

/// What becomes of a connection that has ended.
pub(super) enum CloseNotice {
    /// It is over: `on_close` is to know.
    Over(CloseReason),
    /// Its session waits for the client, or was never this connection's.
    Silent,
}

/// Takes the connection out of every list and closes its descriptor. Costs as much as it has subscriptions. Where its
/// client may come back, the session is kept.
pub(super) fn tear_down(core: &Arc<ConnectionCore>) -> CloseNotice {
    {
        let mut outbox = core.outbox.lock();
        if !outbox.is_replaced() {
            outbox.end(CloseReason::Lost);
        }
    }
    let hub = &core.hub;
    let mut channels = core.subscriptions.lock().iter().map(|own| own.channel.name.clone()).collect();
    let (mut reason, mut is_kept, mut is_undecided) = (CloseReason::Lost, false, false);
    // Decided in one step with leaving the registry: whoever ends the sessions of a user finds this one here or there.
    let was_there = hub.registry.remove(core, || {
        let outbox = core.outbox.lock();
        reason = outbox.reason.unwrap_or(CloseReason::Lost);
        is_undecided = outbox.session_notice.is_undecided();
        // Nobody comes back to a hub that ends.
        is_kept =
            outbox.session_notice.has_session() && session::is_resumable(reason) && hub.lifecycle.is_open();
        if is_kept {
            hub.sessions.begin(core, std::mem::take(&mut channels));
        }
    });
    if !was_there {
        return CloseNotice::Silent;
    }
    // Whatever panics in one step, the next ones follow.
    let contained = |step: &dyn Fn()| {
        let _ = contain::call(&hub.metrics.panics, step);
    };
    contained(&|| core.clear_expiry());
    contained(&|| core.end_requests());
    let state = core.state_to_keep();
    let departure = if is_kept { DepartureKind::Kept } else { presence::departure(reason) };
    let mut subscriptions = core.take_subscriptions();
    // What somebody else ends in this moment has ended for the session, too.
    subscriptions.retain(|subscription| {
        let detach = || crate::channel::detach(hub, subscription, departure);
        contain::call(&hub.metrics.panics, detach).unwrap_or(false)
    });
    contained(&|| presence::connection_gone(hub, core, departure));
    contained(&|| core.leave_states(reason));
    hub.limits.release(core);
    keep_remainder(core);
    hub.metrics.close(reason);
    core.endpoint.connections.decrement();
    hub.events.emit(SystemKind::Closed, || {
        let connection = Connection::new(core.clone());
        SystemEvent::Closed { connection, reason }
    });
    hub.connection_gone.notify_waiters();
    if !hub.shards[core.shard()].is_running() {
        hub.process_inline(core.shard()); // no task takes it out of the lists
    }
    tracing::debug!(target: "hauyna::connection", id = %core.id(), reason = reason.as_str(), "closed");
    if is_kept {
        core.mark_reconnecting();
        let kept = subscriptions.iter().filter(|own| !own.channel.name.is_of_group());
        let kept = kept.map(|own| KeptSubscription {
            channel: own.channel.name.clone(),
            metadata: own.metadata.lock().clone(),
        });
        hub.sessions.keep(hub, core, SessionContent { subscriptions: kept.collect(), state, reason });
    } else {
        hub.sessions.forget(core);
    }
    if is_undecided {
        hub.sessions.notify_decided(core.id()); // its client may be back already, and wait for what becomes of this one
    }
    if is_kept {
        return CloseNotice::Silent;
    }
    if core.is_resuming() { CloseNotice::Silent } else { CloseNotice::Over(reason) }
}

/// The handshake of a registered connection failed: it leaves everything, as if it had not come. No callback has seen
/// it, and none hears of its end.
pub(super) fn take_back_session(core: &Arc<ConnectionCore>) {
    {
        let mut outbox = core.outbox.lock();
        outbox.session_notice = SessionNotice::Nothing; // a client that was told nothing has no session to come back to
        outbox.end(CloseReason::Lost);
    }
    let _ = tear_down(core);
}

/// The client of a connection that still seems to live is back: its socket is closed, its session kept. False where
/// there is no session to go on with.
pub(crate) fn evict(core: &Arc<ConnectionCore>) -> bool {
    {
        let mut outbox = core.outbox.lock();
        // One that is being closed for good stays so.
        if !outbox.session_notice.has_session()
            || outbox.reason.is_some_and(|reason| !session::is_resumable(reason))
        {
            return false;
        }
        core.replace(&mut outbox);
    }
    match tear_down(core) {
        CloseNotice::Silent => true,
        // The hub has begun to end.
        CloseNotice::Over(reason) => {
            session::close(core, reason);
            false
        }
    }
}

/// The client of a connection that has yet to say where it stands is back on another one, which has the session now:
/// the socket is closed.
pub(crate) fn close_replaced(core: &Arc<ConnectionCore>) {
    core.replace(&mut core.outbox.lock());
    let _ = tear_down(core); // silent: its client was told of no session
}
