//! Ends sessions whose clients did not return: presence, announcements, states and `on_close` follow then. A
//! task of the hub's `background` ends some at a time; the hub and the application end others.

use super::store::{LostSession, SessionContent, Unsubscribed};
use crate::background::Due;
use crate::channel::{announce_removed, leave_lost};
use crate::close::CloseReason;
use crate::connection::ConnectionCore;
use crate::contain;
use crate::handler::Context;
use crate::hub::HubCore;
use crate::presence;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Ends a session.
pub(super) fn end_session(hub: &Arc<HubCore>, session: LostSession) {
    let LostSession { core, content: kept, .. } = session;
    tracing::debug!(target: "hauyna::connection", id = %core.id(), "its session has ended");
    core.transitions().mark_disconnected();
    hub.sessions.forget(&core);
    presence::expire(hub, core.user(), core.id());
    let SessionContent { subscriptions, reason, .. } = kept;
    for subscription in &subscriptions {
        announce_removed(hub, &subscription.channel, core.user(), subscription.metadata.as_deref());
    }
    hub.metrics.sessions_ended.increment();
    close(&core, reason);
}

/// Runs `on_close` for a connection whose own task does not run it.
pub(crate) fn close(core: &Arc<ConnectionCore>, reason: CloseReason) {
    if let Some(callback) = core.endpoint().call_on_close(&Context::new(core.clone()), reason) {
        let closing = Closing::new(core.hub());
        core.hub().background.finish_detached(Box::pin(async move {
            let _ = callback.await; // it has logged its failure
            drop(closing);
        }));
    }
}

/// Counts what the shutdown of the hub waits for: an `on_close` that is running, or a session that has left
/// the store, where it was counted until now, and whose `on_close` has yet to run.
pub(super) struct Closing(Arc<HubCore>);

impl Closing {
    pub(super) fn new(hub: &Arc<HubCore>) -> Self {
        hub.sessions.running_close_callbacks.fetch_add(1, Ordering::AcqRel);
        Self(hub.clone())
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.sessions.running_close_callbacks.fetch_sub(1, Ordering::AcqRel);
        self.0.connection_gone.notify_waiters();
    }
}

/// Ends all sessions that match, whether they are kept, about to be kept or being taken over, while `close`
/// closes the connections. No session escapes from one to the other: each is found by one of the two sweeps,
/// or refused in between.
pub(crate) fn end_matching<R>(
    hub: &Arc<HubCore>,
    matches: impl Fn(&Arc<ConnectionCore>) -> bool + Send + 'static,
    close: impl FnOnce() -> R,
) -> R {
    let number = hub.sessions.store.lock().bar(Box::new(matches));
    let lifted = LiftBar { hub, number };
    sweep_barred(hub);
    let result = close();
    drop(lifted);
    result
}

/// Lifts a bar when it is dropped, after it has ended the sessions that the bar has stopped.
struct LiftBar<'a> {
    hub: &'a Arc<HubCore>,
    number: u64,
}

impl Drop for LiftBar<'_> {
    fn drop(&mut self) {
        let _ending = Closing::new(self.hub);
        let mut store = self.hub.sessions.store.lock();
        let taken = store.take_barred();
        store.lift(self.number);
        drop(store);
        end_each(self.hub, taken);
    }
}

fn sweep_barred(hub: &Arc<HubCore>) {
    let _ending = Closing::new(hub);
    let taken = hub.sessions.store.lock().take_barred();
    end_each(hub, taken);
}

fn end_each(hub: &Arc<HubCore>, taken: Vec<LostSession>) {
    if taken.is_empty() {
        return;
    }
    hub.sessions.notify_takeover_changed();
    for session in taken {
        end_session(hub, session);
    }
}

/// Ends all sessions of a hub that shuts down; no session is kept any more.
pub(crate) fn end_all(hub: &Arc<HubCore>) {
    hub.sessions.store.lock().close();
    sweep_barred(hub);
}

/// Ends the session of a connection that was lost, or the one that a connection is about to take over or has
/// failed to take over. Returns whether there was one.
pub(crate) fn end_session_of(core: &Arc<ConnectionCore>) -> bool {
    let hub = core.hub();
    let _ending = Closing::new(hub);
    let mut store = hub.sessions.store.lock();
    let lost = core.takeover().and_then(|takeover| takeover.lost_connection());
    let session = store.withdraw(lost.unwrap_or(core.id()));
    drop(store);
    let was_there = session.is_some();
    end_each(hub, session.into_iter().collect());
    was_there
}

/// Ends one subscription of the session of a lost connection, or of a connection that is about to take it
/// over or has failed to. Returns whether there was one.
pub(crate) fn unsubscribe(core: &Arc<ConnectionCore>, channel: &str) -> bool {
    let hub = core.hub();
    let mut store = hub.sessions.store.lock();
    let mut ended = store.unsubscribe(core.id(), channel);
    if let (Unsubscribed::Nothing, Some(takeover)) = (&ended, core.takeover()) {
        ended = match takeover.lost_connection() {
            Some(lost) => store.unsubscribe(lost, channel),
            None => takeover.unsubscribe(channel),
        };
    }
    drop(store);
    leave_channel(hub, ended)
}

/// Ends the subscriptions of all sessions to one channel.
pub(crate) fn unsubscribe_all(hub: &Arc<HubCore>, channel: &str) {
    let ids = hub.sessions.store.lock().ids();
    for id in ids {
        let ended = hub.sessions.store.lock().unsubscribe(id, channel);
        leave_channel(hub, ended);
    }
}

/// Removes a lost connection from a channel where it may still be present, and notifies the other members.
fn leave_channel(hub: &HubCore, ended: Unsubscribed) -> bool {
    match ended {
        Unsubscribed::Nothing => false,
        Unsubscribed::Later => true,
        Unsubscribed::OfSession(core, kept) => {
            leave_lost(hub, &core, &kept.channel, kept.metadata.as_deref());
            true
        }
    }
}

/// Ends some of the sessions whose time has passed.
pub(crate) fn end_due(hub: &Arc<HubCore>) -> Due {
    let _ending = Closing::new(hub);
    let (sessions, next) = hub.sessions.take_due();
    for session in sessions {
        let _ = contain::call(&hub.metrics.panics, || end_session(hub, session));
    }
    next
}

/// Sessions that are ended in one turn of the background task, at most.
pub(super) const MAX_ENDED_PER_TURN: usize = 64;
