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

pub(crate) use claim::{OwnExpiry, Shown, Vouched};
pub(crate) use end::{close, end, end_all, end_of, end_while, unsubscribe, unsubscribe_all, work};
pub(crate) use resume::{first_message, resume};
pub(crate) use store::{Kept, KeptSubscription};
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
use takeover::End;
use token::Key;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The sessions of one hub.
#[derive(Debug)]
pub(crate) struct Sessions {
    key: Key,
    options: SessionOptions,
    store: Mutex<SessionStore>,
    /// `on_close` callbacks of ended sessions that are at work.
    closing: AtomicUsize,
    /// Woken when a session has come to be kept, is about to be taken over, or is.
    settled: Notify,
    /// Woken when a callback has decided whether the client of a connection may stay, or the connection has ended: in
    /// stripes by its identifier, as many clients may be back at once.
    decided: Box<[Notify; STRIPES]>,
}

impl Sessions {
    pub(crate) fn new(options: SessionOptions) -> Self {
        Self {
            key: Key::new(),
            options,
            store: Mutex::default(),
            closing: AtomicUsize::new(0),
            settled: Notify::new(),
            decided: Box::new([const { Notify::const_new() }; STRIPES]),
        }
    }

    /// Whether lost connections may come back.
    pub(crate) fn are_kept(&self) -> bool {
        !self.options.window.is_zero()
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.store.lock().count()
    }

    /// Whether `on_close` of one that has ended is still at work, or will be.
    pub(crate) fn is_closing(&self) -> bool {
        self.store.lock().is_leaving() || self.closing.load(Ordering::Acquire) > 0
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
        let attempts = ATTEMPT.saturating_mul(policy.max_attempts.unwrap_or_default());
        policy.total().saturating_add(attempts).min(self.options.window)
    }

    /// A connection with a session, and subscriptions to these channels, leaves the registry now; under the lock of its
    /// part there.
    pub(crate) fn begin(&self, core: &Arc<ConnectionCore>, channels: Vec<ChannelName>) {
        self.store.lock().begin(core, channels);
    }

    /// It has left everything, and waits, unless its session was ended meanwhile.
    pub(crate) fn keep(&self, hub: &Arc<HubCore>, core: &Arc<ConnectionCore>, mut kept: Kept) {
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
        let (may_wait, ended) = store.arrive(core);
        if !may_wait {
            drop(store);
            self.notify_settled();
            end(hub, session);
            hub.departed.notify_waiters();
            return;
        }
        let left: Vec<_> =
            ended.iter().filter_map(|channel| session.kept.unsubscribe(channel.as_str())).collect();
        let is_first = store.first_end().is_none_or(|first| session.ends < first);
        store.put(Box::new(session));
        drop(store);
        for one in left {
            leave_lost(hub, core, &one.channel, one.metadata.as_deref());
        }
        self.has_put(hub, is_first);
        hub.departed.notify_waiters();
    }

    /// One session more waits: the oldest go for it where there are too many.
    fn has_put(&self, hub: &Arc<HubCore>, is_first: bool) {
        self.settled.notify_waiters();
        if is_first {
            hub.background.wake(Job::Sessions);
        }
        hub.background.ensure(Job::Sessions);
        while self.count() > self.options.most || self.bytes(hub) > self.options.bytes {
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
    fn give_back(&self, hub: &Arc<HubCore>, takeover: &Takeover, reason: Option<CloseReason>) -> bool {
        let _ending = Closing::new(hub);
        let mut store = self.store.lock();
        let Some(session) = takeover.end(End::GivenBack) else { return false };
        if reason.is_some_and(is_meant) || store.is_barred(&session.core) {
            store.release(session.core.id());
            drop(store);
            self.notify_settled();
            end(hub, *session);
            return true;
        }
        let is_first = store.first_end().is_none_or(|first| session.ends < first);
        store.put(session);
        drop(store);
        self.has_put(hub, is_first);
        true
    }

    /// The session that is taken over becomes its new connection's. Returns `None` where it has gone elsewhere.
    fn take(&self, takeover: &Arc<Takeover>) -> Option<LostSession> {
        let mut store = self.store.lock();
        if takeover.with_session(|session| store.is_barred(&session.core))? {
            let session = takeover.end(End::Withdrawn)?;
            let _ending = Closing::new(session.core.hub());
            store.release(session.core.id());
            drop(store);
            self.notify_settled();
            end(session.core.clone().hub(), *session);
            return None;
        }
        let session = takeover.take()?;
        store.succeed(&session.core, takeover);
        Some(*session)
    }

    /// All of a session has gone to its next connection. Returns the channels that the application has ended its
    /// subscriptions of meanwhile.
    fn settle(&self, takeover: &Takeover, lost: ConnectionId) -> Vec<ChannelName> {
        let mut store = self.store.lock();
        let ended = takeover.restored();
        store.release(lost);
        drop(store);
        self.notify_settled();
        ended
    }

    /// Whoever waits for a session looks again.
    fn notify_settled(&self) {
        self.settled.notify_waiters();
    }

    /// Whoever waits for what a callback decides of a connection looks again.
    pub(crate) fn notify_decided(&self, id: ConnectionId) {
        self.decided(id).notify_waiters();
    }

    fn decided(&self, id: ConnectionId) -> &Notify {
        #[expect(clippy::cast_possible_truncation, reason = "only the remainder counts")]
        let number = id.number() as usize;
        &self.decided[number % STRIPES]
    }

    /// A connection's session has ended.
    pub(crate) fn forget(&self, core: &ConnectionCore) {
        if core.takeover().is_some() {
            self.store.lock().forget_succession(core);
        }
    }

    fn due(&self) -> Result<Vec<LostSession>, Option<Instant>> {
        self.store.lock().due(Instant::now(), end::TURN)
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
fn is_meant(reason: CloseReason) -> bool {
    !is_resumable(reason) && !matches!(reason, CloseReason::Failed | CloseReason::Protocol)
}

/// What an attempt to connect may take besides the delay before it.
const ATTEMPT: Duration = Duration::from_secs(10);
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
        let mut waiting = pin!(sessions.decided(ConnectionId::new(7)).notified());
        let cx = &mut Context::from_waker(Waker::noop());
        sessions.notify_decided(ConnectionId::new(8));
        sessions.notify_settled();
        assert!(waiting.as_mut().poll(cx).is_pending());
        sessions.notify_decided(ConnectionId::new(7));
        assert!(waiting.as_mut().poll(cx).is_ready());
    }
}
