//! The sessions of one hub: they begin, are kept, and are handed over to new connections.

use super::end::{self, Closing, end_session};
use super::store::{LostSession, SessionStore};
use super::takeover::TakeoverEnd;
use super::token::TokenKey;
use super::{SessionContent, Takeover};
use crate::background::{Due, Job};
use crate::channel::leave_lost;
use crate::close::CloseReason;
use crate::config::SessionOptions;
use crate::connection::ConnectionCore;
use crate::hub::HubCore;
use crate::presence;
use hauyna_broker::{ChannelName, ConnectionId};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The sessions of one hub.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(super) key: TokenKey,
    options: SessionOptions,
    pub(super) store: Mutex<SessionStore>,
    /// Number of `on_close` callbacks of ended sessions that are running.
    pub(super) running_close_callbacks: AtomicUsize,
    /// Notified when a session is kept, is about to be taken over, or is taken over.
    pub(super) takeover_changed: Notify,
    /// Notified when a callback has decided whether the client of a connection may stay, or the connection
    /// has ended; in stripes by the connection's identifier, as many clients may return at once.
    decision_made: Box<[Notify; STRIPES]>,
}

impl Sessions {
    pub(crate) fn new(options: SessionOptions) -> Self {
        Self {
            key: TokenKey::new(),
            options,
            store: Mutex::default(),
            running_close_callbacks: AtomicUsize::new(0),
            takeover_changed: Notify::new(),
            decision_made: Box::new([const { Notify::const_new() }; STRIPES]),
        }
    }

    /// Whether lost connections can be resumed.
    pub(crate) fn is_enabled(&self) -> bool {
        !self.options.window.is_zero()
    }

    /// Returns the number of sessions that wait for their clients.
    pub(crate) fn count(&self) -> usize {
        self.store.lock().count()
    }

    /// Whether `on_close` of an ended session is running or has yet to run.
    pub(crate) fn is_closing(&self) -> bool {
        self.store.lock().is_leaving() || self.running_close_callbacks.load(Ordering::Acquire) > 0
    }

    /// Returns roughly how many bytes the sessions take, including the channels that only lost connections
    /// hold.
    pub(crate) fn bytes(&self, hub: &HubCore) -> usize {
        let channels = hub.channels.count_lost() * presence::weight_of_lost_channel(hub.shards.len());
        self.store.lock().bytes() + channels
    }

    pub(crate) fn token(&self, id: ConnectionId) -> String {
        self.key.token(id)
    }

    /// Returns how long a connection's session is kept: as long as its client may try to reconnect, including
    /// the time of each attempt.
    pub(crate) fn window(&self, core: &Arc<ConnectionCore>) -> Duration {
        let policy = core.retry_policy();
        let attempts = ATTEMPT_DURATION.saturating_mul(policy.max_attempts.unwrap_or_default());
        policy.total().saturating_add(attempts).min(self.options.window)
    }

    /// Notes that a connection with a session, and subscriptions to these channels, leaves the registry now.
    /// The caller holds the lock of its stripe there.
    pub(crate) fn begin(&self, core: &Arc<ConnectionCore>, channels: Vec<ChannelName>) {
        self.store.lock().begin(core, channels);
    }

    /// Keeps the session after its connection has left everything, unless the session was ended meanwhile.
    pub(crate) fn keep(&self, hub: &Arc<HubCore>, core: &Arc<ConnectionCore>, mut kept: SessionContent) {
        let window = self.window(core);
        tracing::debug!(
            target: "hauyna::connection",
            id = %core.id(),
            window_ms = window.as_millis(),
            "lost, its session waits",
        );
        let ends = crate::clock::after(window);
        kept.subscriptions.shrink_to_fit();
        let mut session = LostSession::new(core.clone(), kept, ends);
        let _ending = Closing::new(hub);
        let mut store = self.store.lock();
        let (may_wait, ended) = store.finish_leaving(core);
        if !may_wait {
            drop(store);
            self.notify_takeover_changed();
            end_session(hub, session);
            hub.connection_gone.notify_waiters();
            return;
        }
        let unsubscribed: Vec<_> =
            ended.iter().filter_map(|channel| session.content.unsubscribe(channel.as_str())).collect();
        let is_first = store.first_end().is_none_or(|first| session.ends_at < first);
        store.put(Box::new(session));
        drop(store);
        for subscription in unsubscribed {
            leave_lost(hub, core, &subscription.channel, subscription.metadata.as_deref());
        }
        self.evict_for_new(hub, is_first);
        hub.connection_gone.notify_waiters();
    }

    /// Ends the oldest sessions if there are too many, after one more was kept.
    fn evict_for_new(&self, hub: &Arc<HubCore>, is_first: bool) {
        self.takeover_changed.notify_waiters();
        if is_first {
            hub.background.wake(Job::Sessions);
        }
        hub.background.ensure_running(Job::Sessions);
        while self.count() > self.options.max_sessions || self.bytes(hub) > self.options.max_bytes {
            let _ending = Closing::new(hub);
            let Some(oldest) = self.store.lock().take_oldest() else { return };
            hub.metrics.sessions_evicted.increment();
            crate::log::limited("sessions", || {
                tracing::warn!(target: "hauyna::connection", "sessions end early, as there are too many");
            });
            // The channels that only this session held end with it.
            end_session(hub, *oldest);
        }
    }

    /// Returns the session of a failed takeover to the store, or ends it if the client does not mean to
    /// return. Returns whether the takeover still had the session.
    pub(super) fn return_session(
        &self,
        hub: &Arc<HubCore>,
        takeover: &Takeover,
        reason: Option<CloseReason>,
    ) -> bool {
        let _ending = Closing::new(hub);
        let mut store = self.store.lock();
        let Some(session) = takeover.end(TakeoverEnd::GivenBack) else { return false };
        if reason.is_some_and(CloseReason::ends_session) || store.is_barred(&session.core) {
            store.release(session.core.id());
            drop(store);
            self.notify_takeover_changed();
            end_session(hub, *session);
            return true;
        }
        let is_first = store.first_end().is_none_or(|first| session.ends_at < first);
        store.put(session);
        drop(store);
        self.evict_for_new(hub, is_first);
        true
    }

    /// Takes the session for its new connection. Returns `None` if the takeover does not have it any more.
    pub(super) fn take(&self, takeover: &Arc<Takeover>) -> Option<LostSession> {
        let mut store = self.store.lock();
        if takeover.with_session(|session| store.is_barred(&session.core))? {
            let session = takeover.end(TakeoverEnd::Withdrawn)?;
            let _ending = Closing::new(session.core.hub());
            store.release(session.core.id());
            drop(store);
            self.notify_takeover_changed();
            end_session(session.core.clone().hub(), *session);
            return None;
        }
        let session = takeover.take()?;
        store.succeed(&session.core, takeover);
        Some(*session)
    }

    /// Completes a takeover: everything of the session belongs to its new connection. Returns the channels
    /// whose subscriptions the application has ended meanwhile.
    pub(super) fn complete_takeover(&self, takeover: &Takeover, lost: ConnectionId) -> Vec<ChannelName> {
        let mut store = self.store.lock();
        let ended = takeover.restored();
        store.release(lost);
        drop(store);
        self.notify_takeover_changed();
        ended
    }

    /// Notifies everything that waits for a change of a session.
    pub(super) fn notify_takeover_changed(&self) {
        self.takeover_changed.notify_waiters();
    }

    /// Notifies everything that waits for the decision of a callback about a connection.
    pub(crate) fn notify_decided(&self, id: ConnectionId) {
        self.decision_made(id).notify_waiters();
    }

    pub(super) fn decision_made(&self, id: ConnectionId) -> &Notify {
        #[expect(clippy::cast_possible_truncation, reason = "only the remainder counts")]
        let number = id.number() as usize;
        &self.decision_made[number % STRIPES]
    }

    /// Forgets the succession to a connection whose session has ended.
    pub(crate) fn forget(&self, core: &Arc<ConnectionCore>) {
        if core.takeover().is_some() {
            self.store.lock().forget_succession(core);
        }
    }

    /// Returns some of the sessions whose time has passed, and when more have to end.
    pub(super) fn take_due(&self) -> (Vec<LostSession>, Due) {
        let mut store = self.store.lock();
        let sessions = store.take_due(Instant::now(), end::MAX_ENDED_PER_TURN);
        let next = if sessions.is_empty() { store.first_end().map_or(Due::Never, Due::At) } else { Due::Now };
        (sessions, next)
    }
}

/// How long an attempt to connect may take, besides the delay before it.
const ATTEMPT_DURATION: Duration = Duration::from_secs(10);
/// Stripes of `decision_made`, by the last digits of the connections' identifiers.
const STRIPES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn who_waits_for_the_callback_of_one_connection_is_not_woken_by_that_of_another() {
        let sessions = Sessions::new(SessionOptions::default());
        let mut waiting = pin!(sessions.decision_made(ConnectionId::new(7)).notified());
        let cx = &mut Context::from_waker(Waker::noop());
        sessions.notify_decided(ConnectionId::new(8));
        sessions.notify_takeover_changed();
        assert!(waiting.as_mut().poll(cx).is_pending());
        sessions.notify_decided(ConnectionId::new(7));
        assert!(waiting.as_mut().poll(cx).is_ready());
    }
}
