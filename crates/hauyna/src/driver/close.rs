//! Closes a connection: sends the close frame, removes the connection from the registry, its channels and
//! groups, and keeps its session where the client may resume it. Its own task, the sweep, and everything that
//! closes it from outside call this.

use crate::close::{CloseReason, DepartureKind};
use crate::connection::{Connection, ConnectionCore, close_frame_of, end_requests};
use crate::contain;
use crate::dispatch::keep_remainder;
use crate::event::emit;
use crate::outbox::{Backlog, Outbox, Phase, SessionNotice};
use crate::presence;
use crate::session::{self, KeptSubscription, SessionContent};
use hauyna_protocol::close::CloseCode;
use std::sync::Arc;

impl ConnectionCore {
    /// Closes the connection with a code and a text for the client. `reason` is what the application gets,
    /// and `backlog` says what happens to queued publications.
    pub(crate) fn close(
        self: &Arc<Self>,
        code: CloseCode,
        text: &str,
        reason: CloseReason,
        backlog: Backlog,
    ) {
        if backlog == Backlog::Write {
            self.hub().process_inline(self.shard()); // what was sent earlier goes out before the close frame
        }
        let mut outbox = self.outbox.lock();
        self.transitions().note_failure(&outbox, reason);
        let is_undecided = outbox.session_notice.is_undecided();
        forbid_resume(&mut outbox, reason);
        outbox.close(close_frame_of(code, text), reason, backlog);
        self.sender().wake(&outbox);
        if is_undecided {
            self.hub().sessions.notify_decided(self.id()); // a client that waits with its token checks again
        }
    }

    /// Closes the connection with the name of the code as the text, and drops queued publications.
    pub(crate) fn close_with(self: &Arc<Self>, code: CloseCode, reason: CloseReason) {
        self.close(code, code.name().unwrap_or_default(), reason, Backlog::Drop);
    }

    /// Closes the connection behind these replies, which are already framed.
    pub(crate) fn close_after_queued(
        self: &Arc<Self>,
        replies: &mut Vec<u8>,
        CloseDetails { code, text, reason, backlog }: CloseDetails<'_>,
    ) {
        match backlog {
            Backlog::Write => self.hub().process_inline(self.shard()),
            Backlog::Drop => self.sender().wait_for_ordered_replies(),
        }
        let mut outbox = self.outbox.lock();
        let _ = outbox.write_replies(replies, self.traffic());
        replies.clear();
        self.transitions().note_failure(&outbox, reason);
        forbid_resume(&mut outbox, reason);
        outbox.close(close_frame_of(code, text), reason, backlog);
        self.sender().wake(&outbox);
    }

    /// Makes the task close the connection as soon as it has answered what it has read.
    pub(crate) fn close_when_answered(self: &Arc<Self>) {
        let mut outbox = self.outbox.lock();
        outbox.closes_when_answered = true;
        self.sender().wake(&outbox);
    }

    /// Closes the connection if the hub drains it. Called when everything that was read is answered. Returns
    /// whether it closed it.
    pub(super) fn close_if_draining(self: &Arc<Self>) -> bool {
        let mut outbox = self.outbox.lock();
        let is_due = outbox.closes_when_answered && outbox.phase == Phase::Open;
        if is_due {
            let frame = close_frame_of(CloseCode::DRAIN, self.hub().lifecycle.reason());
            outbox.close(frame, CloseReason::Drain, Backlog::Write);
        }
        is_due
    }

    /// Closes the connection of a peer that does not answer. The close frame is sent in case the peer can
    /// still read, but the connection does not wait for it.
    pub(crate) fn close_dead(self: &Arc<Self>) {
        let mut outbox = self.outbox.lock();
        let is_written = self.send_session_end(
            &mut outbox,
            CloseCode::HEARTBEAT_TIMEOUT,
            "heartbeat timeout",
            CloseReason::Heartbeat,
        );
        if is_written {
            outbox.end(CloseReason::Heartbeat);
        }
        self.sender().wake(&outbox);
    }

    /// Closes the connection because its client has resumed the session on another socket.
    pub(super) fn replace(self: &Arc<Self>, outbox: &mut Outbox) {
        self.send_session_end(outbox, CloseCode::REPLACED, "replaced by a resume", CloseReason::Resumed);
        self.sender().wake(outbox);
    }

    /// Closes with what can be written now. Returns false where only the task may write: then the task has to
    /// be woken, and the sweep ends the connection if the task does not write the close frame.
    fn send_session_end(
        self: &Arc<Self>,
        outbox: &mut Outbox,
        code: CloseCode,
        text: &str,
        reason: CloseReason,
    ) -> bool {
        outbox.close(close_frame_of(code, text), reason, Backlog::Drop);
        let may_write = !outbox.socket.is_of_task();
        if may_write {
            let _ = outbox.flush(self.sender().outgoing());
        }
        may_write
    }

    pub(crate) fn end(self: &Arc<Self>, reason: CloseReason) {
        let mut outbox = self.outbox.lock();
        outbox.end(reason);
        self.sender().wake(&outbox);
    }
}

/// How a connection is closed behind its replies: code and text of the close frame, the reason that the
/// application gets, and what happens to queued publications.
#[derive(Clone, Copy)]
pub(crate) struct CloseDetails<'a> {
    pub(crate) code: CloseCode,
    pub(crate) text: &'a str,
    pub(crate) reason: CloseReason,
    pub(crate) backlog: Backlog,
}

/// Makes a connection that is already closing, or has just broken, leave no session behind, if it is closed
/// once more and may not be resumed after that.
fn forbid_resume(outbox: &mut Outbox, reason: CloseReason) {
    if outbox.phase == Phase::Open || reason.is_resumable() {
        return;
    }
    if outbox.session_notice.is_token() {
        outbox.session_notice = SessionNotice::Session;
    }
    let gives_way = |old: CloseReason| match old {
        // A connection that a resume has replaced keeps its reason: with it, nothing waits for the peer.
        CloseReason::Resumed => false,
        // The hub has closed it, and its client had its rights until now.
        CloseReason::Shutdown | CloseReason::Drain | CloseReason::Replaced => reason.ends_rights(),
        old => old.is_resumable(),
    };
    if outbox.reason.is_some_and(gives_way) {
        outbox.reason = Some(reason);
    }
}

/// What happens after a connection has ended.
pub(super) enum CloseNotice {
    /// The connection is over, and `on_close` has to be called.
    Over(CloseReason),
    /// The session waits for its client, or never belonged to this connection; `on_close` is not called.
    Silent,
}

/// Removes the connection from the registry, its channels and groups, then closes the socket.
/// O(subscriptions). Keeps the session where the client may resume it.
pub(super) fn tear_down(core: &Arc<ConnectionCore>) -> CloseNotice {
    {
        let mut outbox = core.outbox.lock();
        if !outbox.is_replaced() {
            outbox.end(CloseReason::Lost);
        }
    }
    let hub = &core.hub();
    let mut channels =
        core.subscriptions.lock().iter().map(|subscription| subscription.channel.name.clone()).collect();
    let (mut reason, mut is_kept, mut is_undecided) = (CloseReason::Lost, false, false);
    // Decided in one step with the removal from the registry, so that a caller that ends all sessions of a
    // user finds this one either there or here.
    let was_there = hub.registry.remove(core, || {
        let outbox = core.outbox.lock();
        reason = outbox.reason.unwrap_or(CloseReason::Lost);
        is_undecided = outbox.session_notice.is_undecided();
        // No client can resume on a hub that shuts down.
        is_kept = outbox.session_notice.has_session() && reason.is_resumable() && hub.lifecycle.is_open();
        if is_kept {
            hub.sessions.begin(core, std::mem::take(&mut channels));
        }
    });
    if !was_there {
        return CloseNotice::Silent;
    }
    // A panic in one step does not keep the next ones from running.
    let contained = |step: &dyn Fn()| {
        let _ = contain::call(&hub.metrics.panics, step);
    };
    contained(&|| core.credentials().clear_expiry());
    contained(&|| end_requests(core));
    let state = core.transitions().state_to_keep();
    let departure = if is_kept { DepartureKind::Kept } else { reason.departure() };
    let mut subscriptions = core.subscription_list().take_subscriptions();
    // A subscription that somebody else ends at this moment has ended for the session, too.
    subscriptions.retain(|subscription| {
        let detach = || crate::channel::detach(hub, subscription, departure);
        contain::call(&hub.metrics.panics, detach).unwrap_or(false)
    });
    contained(&|| presence::connection_gone(hub, core, departure));
    contained(&|| core.transitions().leave_states(reason));
    hub.limits.release(core);
    hub.release_user(core.user());
    keep_remainder(core);
    hub.metrics.close(reason);
    core.endpoint().connections.decrement();
    emit!(hub.events, Closed { connection: Connection::new(core.clone()), reason });
    hub.connection_gone.notify_waiters();
    if !hub.shards[core.shard()].is_running() {
        hub.process_inline(core.shard()); // no task removes it from the shard's lists
    }
    tracing::debug!(target: "hauyna::connection", id = %core.id(), reason = reason.as_str(), "closed");
    if is_kept {
        core.transitions().mark_reconnecting();
        let kept = subscriptions.iter().filter(|subscription| !subscription.channel.name.is_of_group());
        let kept = kept.map(|subscription| KeptSubscription {
            channel: subscription.channel.name.clone(),
            metadata: subscription.metadata.lock().clone(),
        });
        hub.sessions.keep(hub, core, SessionContent { subscriptions: kept.collect(), state, reason });
    } else {
        hub.sessions.forget(core);
    }
    if is_undecided {
        hub.sessions.notify_decided(core.id()); // its client may wait for this already
    }
    if is_kept {
        return CloseNotice::Silent;
    }
    if core.is_resuming() { CloseNotice::Silent } else { CloseNotice::Over(reason) }
}

/// Removes a registered connection whose handshake failed, as if it had never been opened. No callback has
/// seen it, and none is called for its end.
pub(super) fn take_back_session(core: &Arc<ConnectionCore>) {
    {
        let mut outbox = core.outbox.lock();
        outbox.session_notice = SessionNotice::Nothing; // a client that got no session message has no session
        outbox.end(CloseReason::Lost);
    }
    let _ = tear_down(core);
}

/// Closes the socket of a connection that still seems to be alive although its client has returned, and keeps
/// the session. Returns false where there is no session to resume.
pub(crate) fn evict(core: &Arc<ConnectionCore>) -> bool {
    {
        let mut outbox = core.outbox.lock();
        // A connection that is closing without a resumable session stays so.
        if !outbox.session_notice.has_session() || outbox.reason.is_some_and(|reason| !reason.is_resumable())
        {
            return false;
        }
        core.replace(&mut outbox);
    }
    match tear_down(core) {
        CloseNotice::Silent => true,
        // The hub has begun to shut down.
        CloseNotice::Over(reason) => {
            session::close(core, reason);
            false
        }
    }
}

/// Closes the socket of a connection whose client has returned on another one before it sent its first
/// message: the other connection has the session now.
pub(crate) fn close_replaced(core: &Arc<ConnectionCore>) {
    core.replace(&mut core.outbox.lock());
    let _ = tear_down(core); // silent: its client was never told about a session
}
