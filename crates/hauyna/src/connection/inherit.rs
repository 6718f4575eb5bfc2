//! What a connection takes over from the lost one whose session it goes on with, and how far it is with that.
//! `session` drives it.

use super::outbox::Told;
use super::{CloseReason, ConnectionCore, ConnectionId};
use crate::dispatch::take_remainder;
use crate::handler::Endpoint;
use crate::session::{First, Positions, Resuming};
use hauyna_protocol::{Position, RequestId};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

impl ConnectionCore {
    /// Whether it came by this endpoint.
    pub(crate) fn is_of(&self, endpoint: &Arc<Endpoint>) -> bool {
        ptr::eq(self.endpoint(), &raw const **endpoint)
    }

    /// Its client gets the messages that only those who negotiated a sub-protocol get.
    pub(crate) fn is_negotiated(&self) -> bool {
        self.outbox.lock().told != Told::Nothing
    }

    /// From now on the client's first message is awaited, and until then it is told nothing.
    pub(super) fn await_positions(&self) -> oneshot::Receiver<First> {
        let (sender, asked) = oneshot::channel();
        self.outbox.lock().told = Told::NotYet;
        self.set_resuming(Resuming::Awaiting(sender));
        asked
    }

    pub(crate) fn set_resuming(&self, resuming: Resuming) {
        *self.attached().resuming.lock() = resuming;
    }

    /// Whether it has begun to take over a session, and is not done.
    pub(crate) fn is_resuming(&self) -> bool {
        self.attached_already().is_some_and(|attached| !matches!(*attached.resuming.lock(), Resuming::Not))
    }

    /// Hands in the client's positions, none where its first message is another one; false where nobody waits.
    pub(crate) fn take_positions(
        &self,
        id: Option<&RequestId>,
        positions: Vec<(Box<str>, Position)>,
    ) -> bool {
        let Some(sender) = self.stop_awaiting() else { return false };
        sender.send(First::Stands(Positions { id: id.cloned(), positions })).is_ok()
    }

    /// Its client closes, before it has said anything.
    pub(super) fn close_unsaid(&self, reason: CloseReason) {
        if let Some(sender) = self.stop_awaiting() {
            let _ = sender.send(First::Closes(reason)); // dropped in the same moment
        }
    }

    /// Who waited learns that no message can come any more, unless one is handed in.
    pub(super) fn stop_awaiting(&self) -> Option<oneshot::Sender<First>> {
        let mut resuming = self.attached_already()?.resuming.lock();
        if !matches!(*resuming, Resuming::Awaiting(_)) {
            return None;
        }
        match std::mem::replace(&mut *resuming, Resuming::Restoring) {
            Resuming::Awaiting(sender) => Some(sender),
            _ => None,
        }
    }

    /// It has taken over a session, and its client is being told.
    pub(crate) fn note_resumed(&self, old: ConnectionId) {
        let attached = self.attached();
        attached.is_confirmed.store(false, Ordering::Relaxed);
        *attached.resumed_from.lock() = Some(old);
    }

    /// Whose session it has taken over, if any.
    pub(crate) fn resumed_from(&self) -> Option<ConnectionId> {
        *self.attached_already()?.resumed_from.lock()
    }

    /// Whether its client may not have got its new token: nothing was heard of it since it was told.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        let Some(attached) = self.attached_already() else { return false };
        attached.resumed_from.lock().is_some() && !attached.is_confirmed.load(Ordering::Relaxed)
    }

    /// A message has come: by the protocol its client knows by now what it was told.
    pub(super) fn confirm(&self) {
        if let Some(attached) = self.attached_already() {
            attached.is_confirmed.store(true, Ordering::Relaxed);
        }
    }

    /// What is the client's, whatever its socket: what callbacks attached, its retry policy, what is left of its
    /// limits. What came with its own request stays.
    pub(crate) fn inherit(&self, old: &Self) {
        take_remainder(self, old.id());
        let Some(old) = old.attached_already() else { return };
        let own = self.attached();
        own.extensions.lock().take_over(&mut old.extensions.lock());
        *own.retry.lock() = *old.retry.lock();
    }
}
