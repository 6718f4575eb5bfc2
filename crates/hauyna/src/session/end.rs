//! The end of sessions whose clients did not come back: presence, announcements, states and `on_close` follow now. One
//! task for each hub, which lives only while there are sessions, ends some at a time.

use super::store::{Kept, LostSession};
use crate::channel::announce_removed;
use crate::connection::{CloseReason, ConnectionCore};
use crate::handler::Context;
use crate::hub::HubCore;
use crate::presence;
use crate::shard::take_turns;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Ends a session for good.
pub(crate) fn end(hub: &Arc<HubCore>, session: LostSession) {
    let LostSession { core, kept, .. } = session;
    tracing::debug!(target: "hauyna::connection", id = %core.id(), "its session has ended");
    core.give_up();
    hub.sessions.forget(&core);
    presence::expire(hub, core.user(), core.id());
    let Kept { subscriptions, reason, .. } = kept;
    for one in &subscriptions {
        announce_removed(hub, &one.channel, core.user(), one.metadata.as_deref());
    }
    hub.metrics.sessions_ended.increment();
    close(&core, reason);
}

/// Runs `on_close` for a connection whose own task does not.
pub(crate) fn close(core: &Arc<ConnectionCore>, reason: CloseReason) {
    if let Some(closing) = core.endpoint().closed(&Context::new(core.clone()), reason)
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        let at_work = Closing::new(core.hub());
        // A panic ends this task alone.
        runtime.spawn(async move {
            let _ = closing.await; // it has logged its failure
            drop(at_work);
        });
    }
}

/// Counts one `on_close` that is at work: the hub's end waits for it.
struct Closing(Arc<HubCore>);

impl Closing {
    fn new(hub: &Arc<HubCore>) -> Self {
        hub.sessions.closing.fetch_add(1, Ordering::AcqRel);
        Self(hub.clone())
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.sessions.closing.fetch_sub(1, Ordering::AcqRel);
        self.0.departed.notify_waiters();
    }
}

/// Ends all sessions that are meant. Returns how many there were.
pub(crate) fn end_all(hub: &Arc<HubCore>, is_meant: impl Fn(&ConnectionCore) -> bool) -> usize {
    let taken = hub.sessions.take_if(is_meant);
    let count = taken.len();
    for session in taken {
        end(hub, session);
    }
    count
}

pub(super) fn ensure_running(hub: &Arc<HubCore>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if !hub.sessions.is_running.swap(true, Ordering::AcqRel) {
        runtime.spawn(run(Running(Arc::downgrade(hub))));
    }
}

/// The task can begin anew when this is dropped, be it with its runtime.
struct Running(Weak<HubCore>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(hub) = self.0.upgrade() {
            hub.sessions.is_running.store(false, Ordering::Release);
        }
    }
}

async fn run(running: Running) {
    loop {
        let Some(hub) = running.0.upgrade() else { return };
        let changed = hub.sessions.changed.clone();
        match hub.sessions.due() {
            Ok(due) => {
                for session in due {
                    end(&hub, session);
                }
                drop(hub);
                take_turns().await;
            }
            Err(Some(next)) => {
                drop(hub);
                let _ = tokio::time::timeout_at(next, changed.notified()).await;
            }
            Err(None) => {
                drop(running);
                // One that was put meanwhile has seen the task running.
                if hub.sessions.count() > 0 {
                    ensure_running(&hub);
                }
                return;
            }
        }
    }
}

/// Sessions that are ended before others have their turn.
pub(super) const TURN: usize = 64;
