//! What survives a socket. `Sessions` keeps what lost connections leave behind, as long as their clients may come
//! back, and gives it to the connections that show their `token`; `takeover` is the state of that, `resume` what is
//! done meanwhile, `store` the sessions that wait, `end` what happens to those who do not come. A live connection
//! costs nothing here.

mod end;
mod options;
mod resume;
mod store;
mod takeover;
mod token;

pub use options::SessionOptions;

pub(crate) use end::{close, end, end_all};
pub(crate) use resume::{first_message, resume};
pub(crate) use store::{Kept, KeptSubscription};
pub(crate) use takeover::{Claim, Takeover};

use crate::channel::UserId;
use crate::connection::{CloseReason, ConnectionCore, ConnectionId, evict, supersede};
use crate::handler::Endpoint;
use crate::hub::HubCore;
use crate::presence::{Departure, departure};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use store::{Bounds, Found, LostSession, SessionStore};
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
    /// The task that ends sessions.
    is_running: AtomicBool,
    changed: Arc<Notify>,
}

impl Sessions {
    pub(crate) fn new(options: SessionOptions) -> Self {
        Self {
            key: Key::new(),
            options,
            store: Mutex::default(),
            closing: AtomicUsize::new(0),
            settled: Notify::new(),
            is_running: AtomicBool::new(false),
            changed: Arc::default(),
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

    /// Whether `on_close` of one that has ended is still at work.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire) > 0
    }

    /// Bytes that they take, about.
    pub(crate) fn bytes(&self) -> usize {
        self.store.lock().bytes()
    }

    pub(crate) fn token(&self, id: ConnectionId) -> String {
        self.key.token(id)
    }

    /// How long a connection's session is kept: as long as its client may still try, each attempt taking a while.
    pub(crate) fn window(&self, core: &ConnectionCore) -> Duration {
        let policy = core.retry_policy();
        let attempts = ATTEMPT.saturating_mul(policy.max_attempts);
        policy.total().saturating_add(attempts).min(self.options.window)
    }

    /// Whether a token names a live connection, or one that is about to take over: whoever shows it will take that
    /// one's place under the limits.
    pub(crate) fn is_live(&self, hub: &HubCore, token: &str) -> bool {
        let Some(shown) = self.key.read(token) else { return false };
        let id = self.current(shown);
        hub.registry.by_id(id).is_some() || self.store.lock().is_claimed(id)
    }

    /// Whose session a token names.
    pub(crate) fn user_of(&self, hub: &HubCore, token: &str) -> Option<UserId> {
        let id = self.current(self.key.read(token)?);
        let live = hub.registry.by_id(id).map(|core| core.user().clone());
        live.or_else(|| self.store.lock().core(id).map(|core| core.user().clone()))
    }

    /// A connection with a session leaves the registry now; under the lock of its part there.
    pub(crate) fn begin(&self, core: &Arc<ConnectionCore>) {
        self.store.lock().begin(core);
    }

    /// It has left everything, and waits.
    pub(crate) fn keep(&self, hub: &Arc<HubCore>, core: &Arc<ConnectionCore>, kept: Kept) {
        let window = self.window(core);
        tracing::debug!(
            target: "hauyna::connection",
            id = %core.id(),
            window_ms = window.as_millis(),
            "lost, its session waits",
        );
        let session = LostSession::new(core.clone(), kept, Instant::now() + window);
        let mut store = self.store.lock();
        let is_first = store.first_end().is_none_or(|first| session.ends < first);
        let gone = store.put(Box::new(session), self.bounds());
        drop(store);
        self.has_put(hub, is_first, gone);
    }

    fn bounds(&self) -> Bounds {
        Bounds { sessions: self.options.most, bytes: self.options.bytes }
    }

    /// One session more waits; `gone` had to go for it.
    fn has_put(&self, hub: &Arc<HubCore>, is_first: bool, gone: Vec<LostSession>) {
        self.settled.notify_waiters();
        if is_first {
            self.changed.notify_one();
        }
        end::ensure_running(hub);
        if gone.is_empty() {
            return;
        }
        hub.metrics.sessions_evicted.add(gone.len() as u64);
        crate::log::limited("sessions", || {
            tracing::warn!(target: "hauyna::connection", "sessions end early, as there are too many");
        });
        for session in gone {
            end(hub, session);
        }
    }

    /// A takeover comes to nothing: its session waits again, or ends where the client does not mean to come back.
    /// Returns whether it was here.
    fn give_back(&self, hub: &Arc<HubCore>, takeover: &Takeover, reason: Option<CloseReason>) -> bool {
        let mut store = self.store.lock();
        let Some(session) = takeover.end() else { return false };
        if reason.is_some_and(|reason| !is_resumable(reason)) {
            store.release(session.core.id());
            drop(store);
            self.notify_settled();
            end(hub, *session);
            return true;
        }
        let is_first = store.first_end().is_none_or(|first| session.ends < first);
        let gone = store.put(session, self.bounds());
        drop(store);
        self.has_put(hub, is_first, gone);
        true
    }

    /// The session that is taken over becomes its new connection's. Returns `None` where it has gone elsewhere.
    fn take(&self, takeover: &Arc<Takeover>) -> Option<LostSession> {
        let mut store = self.store.lock();
        let session = takeover.take()?;
        store.succeed(&session.core, takeover);
        Some(*session)
    }

    /// Takes over the session that a token names, from its waiting or from a connection that still seems to live,
    /// where it is the user's and of the same endpoint.
    pub(crate) async fn claim(
        &self,
        hub: &Arc<HubCore>,
        (token, user): (&str, &UserId),
        endpoint: &Arc<Endpoint>,
    ) -> Option<Claim> {
        let shown = self.key.read(token)?;
        loop {
            let settled = self.settled.notified();
            let id = self.current(shown);
            if let Some(core) = hub.registry.by_id(id) {
                if core.user() != user || !core.is_of(endpoint) {
                    return None;
                }
                if core.is_resuming() {
                    settled.await; // it has the session in a moment
                    continue;
                }
                if !evict(&core) {
                    return None;
                }
            }
            let found = self.store.lock().claim(id, user, shown);
            match found {
                Found::Nothing => return None,
                Found::Leaving => settled.await,
                Found::Claimed(takeover) => {
                    // Where its client has yet to say where it stands, it gives the session back, now.
                    let taker = takeover.taker().and_then(|taker| hub.registry.by_id(taker));
                    let taker = taker.filter(|taker| taker.is_of(endpoint) && takeover.superseded());
                    match taker {
                        Some(taker) => supersede(&taker),
                        None => settled.await,
                    }
                }
                Found::Waiting(takeover) => {
                    let claim = Claim::new(hub, takeover);
                    let is_same = claim.takeover().with_session(|session| session.core.is_of(endpoint));
                    return is_same.unwrap_or(false).then_some(claim);
                }
            }
        }
    }

    /// The connection that a token stands for: the one it was made for, or that which took over its session, as long
    /// as the client has not shown that it knows.
    fn current(&self, shown: ConnectionId) -> ConnectionId {
        let store = self.store.lock();
        let successor = store.successor(shown).filter(|takeover| takeover.is_unconfirmed());
        successor.and_then(|takeover| takeover.taker()).unwrap_or(shown)
    }

    /// Whoever waits for a session looks again.
    fn notify_settled(&self) {
        self.settled.notify_waiters();
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

    fn take_if(&self, is_meant: impl Fn(&ConnectionCore) -> bool) -> Vec<LostSession> {
        self.store.lock().take_if(is_meant)
    }

    /// The hub is going.
    pub(crate) fn stop(&self) {
        self.changed.notify_one();
    }
}

/// Whether a connection that ended for this reason may be resumed: one whose client means to come back, and is not a
/// page that was left or a client that was told to stay away. Nobody comes back to a hub that ends.
pub(crate) fn is_resumable(reason: CloseReason) -> bool {
    use CloseReason::{Client, Drain, Shutdown, TooManyErrors};
    let stays_away = matches!(reason, Client(1001) | Drain | Shutdown | TooManyErrors);
    !stays_away && departure(reason) == Departure::Lost
}

/// What an attempt to connect may take besides the delay before it.
const ATTEMPT: Duration = Duration::from_secs(10);
