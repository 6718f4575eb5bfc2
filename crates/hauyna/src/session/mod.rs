//! What survives a socket. `Sessions` keeps what lost connections leave behind, as long as their clients may come
//! back, and gives it to the connections that show their `token`; `takeover` is the state of that, `resume` what is
//! done meanwhile, `store` the sessions that wait, `end` what happens to those who do not come. A live connection
//! costs nothing here.

mod claim;
mod end;
mod options;
mod resume;
mod store;
mod takeover;
mod token;
mod weight;

pub use options::SessionOptions;

pub(crate) use claim::{OwnExpiry, PresentedToken, RestoredIdentity};
pub(crate) use end::{
    close, end, end_all, end_due, end_matching, end_session_of, unsubscribe, unsubscribe_all,
};
pub(crate) use resume::{first_message, resume};
pub(crate) use store::{KeptSubscription, SessionContent};
pub(crate) use takeover::{Claim, Takeover};

use crate::background::Job;
use crate::channel::{ChannelName, leave_lost};
use crate::connection::{CloseReason, ConnectionCore, ConnectionId};
use crate::hub::HubCore;
use crate::presence::{self, DepartureKind, departure};
use end::Closing;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use store::{LostSession, SessionStore};
use takeover::TakeoverEnd;
use token::TokenKey;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The sessions of one hub.
#[derive(Debug)]
pub(crate) struct Sessions {
    key: TokenKey,
    options: SessionOptions,
    store: Mutex<SessionStore>,
    /// `on_close` callbacks of ended sessions that are at work.
    running_close_callbacks: AtomicUsize,
    /// Woken when a session has come to be kept, is about to be taken over, or is.
    takeover_changed: Notify,
    /// Woken when a callback has decided whether the client of a connection may stay, or the connection has ended: in
    /// stripes by its identifier, as many clients may be back at once.
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

    /// Whether lost connections may come back.
    pub(crate) fn is_enabled(&self) -> bool {
        !self.options.window.is_zero()
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.store.lock().count()
    }

    /// Whether `on_close` of one that has ended is still at work, or will be.
    pub(crate) fn is_closing(&self) -> bool {
        self.store.lock().is_leaving() || self.running_close_callbacks.load(Ordering::Acquire) > 0
    }

    /// Bytes that they take, about, with the channels that lost connections alone hold.
    pub(crate) fn bytes(&self, hub: &HubCore) -> usize {
        let channels = hub.channels.count_lost() * presence::weight_of_lost_channel(hub.shards.len());
        self.store.lock().bytes() + channels
    }

    pub(crate) fn token(&self, id: ConnectionId) -> String {
        self.key.token(id)
    }

    /// How long a connection's session is kept: as long as its client may still try, each attempt taking a while.
    pub(crate) fn window(&self, core: &ConnectionCore) -> Duration {
        let policy = core.retry_policy();
        let attempts = ATTEMPT_DURATION.saturating_mul(policy.max_attempts.unwrap_or_default());
        policy.total().saturating_add(attempts).min(self.options.window)
    }

    /// A connection with a session, and subscriptions to these channels, leaves the registry now; under the lock of its
    /// part there.
    pub(crate) fn begin(&self, core: &Arc<ConnectionCore>, channels: Vec<ChannelName>) {
        self.store.lock().begin(core, channels);
    }

    /// It has left everything, and waits, unless its session was ended meanwhile.
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
            end(hub, session);
            hub.connection_gone.notify_waiters();
            return;
        }
        let left: Vec<_> =
            ended.iter().filter_map(|channel| session.content.unsubscribe(channel.as_str())).collect();
        let is_first = store.first_end().is_none_or(|first| session.ends_at < first);
        store.put(Box::new(session));
        drop(store);
        for one in left {
            leave_lost(hub, core, &one.channel, one.metadata.as_deref());
        }
        self.evict_for_new(hub, is_first);
        hub.connection_gone.notify_waiters();
    }

    /// One session more waits: the oldest go for it where there are too many.
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
            // With it go the channels that it alone held.
            end(hub, *oldest);
        }
    }

    /// A takeover comes to nothing: its session waits again, or ends where the client does not mean to come back.
    /// Returns whether it was here.
    fn return_session(&self, hub: &Arc<HubCore>, takeover: &Takeover, reason: Option<CloseReason>) -> bool {
        let _ending = Closing::new(hub);
        let mut store = self.store.lock();
        let Some(session) = takeover.end(TakeoverEnd::GivenBack) else { return false };
        if reason.is_some_and(ends_session) || store.is_barred(&session.core) {
            store.release(session.core.id());
            drop(store);
            self.notify_takeover_changed();
            end(hub, *session);
            return true;
        }
        let is_first = store.first_end().is_none_or(|first| session.ends_at < first);
        store.put(session);
        drop(store);
        self.evict_for_new(hub, is_first);
        true
    }

    /// The session that is taken over becomes its new connection's. Returns `None` where it has gone elsewhere.
    fn take(&self, takeover: &Arc<Takeover>) -> Option<LostSession> {
        let mut store = self.store.lock();
        if takeover.with_session(|session| store.is_barred(&session.core))? {
            let session = takeover.end(TakeoverEnd::Withdrawn)?;
            let _ending = Closing::new(session.core.hub());
            store.release(session.core.id());
            drop(store);
            self.notify_takeover_changed();
            end(session.core.clone().hub(), *session);
            return None;
        }
        let session = takeover.take()?;
        store.succeed(&session.core, takeover);
        Some(*session)
    }

    /// All of a session has gone to its next connection. Returns the channels that the application has ended its
    /// subscriptions of meanwhile.
    fn complete_takeover(&self, takeover: &Takeover, lost: ConnectionId) -> Vec<ChannelName> {
        let mut store = self.store.lock();
        let ended = takeover.restored();
        store.release(lost);
        drop(store);
        self.notify_takeover_changed();
        ended
    }

    /// Whoever waits for a session looks again.
    fn notify_takeover_changed(&self) {
        self.takeover_changed.notify_waiters();
    }

    /// Whoever waits for what a callback decides of a connection looks again.
    pub(crate) fn notify_decided(&self, id: ConnectionId) {
        self.decision_made(id).notify_waiters();
    }

    fn decision_made(&self, id: ConnectionId) -> &Notify {
        #[expect(clippy::cast_possible_truncation, reason = "only the remainder counts")]
        let number = id.number() as usize;
        &self.decision_made[number % STRIPES]
    }

    /// A connection's session has ended.
    pub(crate) fn forget(&self, core: &ConnectionCore) {
        if core.takeover().is_some() {
            self.store.lock().forget_succession(core);
        }
    }

    fn due(&self) -> Result<Vec<LostSession>, Option<Instant>> {
        self.store.lock().due(Instant::now(), end::MAX_ENDED_PER_TURN)
    }
}

/// Whether a connection that ended for this reason may be resumed: one whose client means to come back, and is not a
/// page that was left or a client that was told to stay away. Nobody comes back to a hub that ends.
pub(crate) fn is_resumable(reason: CloseReason) -> bool {
    use CloseReason::{Client, Drain, Shutdown, TooManyErrors};
    let stays_away = matches!(reason, Client(1001) | Drain | Shutdown | TooManyErrors);
    !stays_away && departure(reason) == DepartureKind::Lost
}

/// Whether somebody meant a session to end that was to be taken over: its client, the application, or the hub that goes.
/// What only went wrong before the connection had the session costs the connection.
fn ends_session(reason: CloseReason) -> bool {
    !is_resumable(reason) && !matches!(reason, CloseReason::Failed | CloseReason::Protocol)
}

/// What an attempt to connect may take besides the delay before it.
const ATTEMPT_DURATION: Duration = Duration::from_secs(10);
/// Connections whose callbacks are waited for, by the last digits of their identifiers.
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
