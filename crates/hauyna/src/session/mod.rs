//! What survives a socket. `Sessions` keeps what lost connections leave behind, as long as their clients may come
//! back, and gives it to the connections that show their `token`; `waiting` is the store, `resume` the way back,
//! `end` what happens to those who do not come. A live connection costs nothing here.

mod end;
mod options;
mod resume;
mod token;
mod waiting;

pub use options::SessionOptions;

pub(crate) use end::{close, end, end_all};
pub(crate) use resume::{First, Positions, Resuming, resume};

use crate::channel::{ChannelName, UserId};
use crate::connection::{CloseReason, ConnectionCore, ConnectionId, evict, supersede};
use crate::handler::Endpoint;
use crate::hub::HubCore;
use crate::presence::{Departure, departure};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use token::Key;
use tokio::sync::Notify;
use tokio::time::Instant;
use waiting::{Found, Waiting, Waitings};

/// The sessions of one hub.
#[derive(Debug)]
pub(crate) struct Sessions {
    key: Key,
    options: SessionOptions,
    waiting: Mutex<Waitings>,
    /// `on_close` callbacks of ended sessions that are at work.
    closing: AtomicUsize,
    /// Woken when a session has come to be kept, is about to be taken over, or is.
    settled: Notify,
    /// The task that ends sessions.
    is_running: AtomicBool,
    changed: Arc<Notify>,
}

/// What a lost connection had.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) subscriptions: Vec<(ChannelName, Option<Arc<str>>)>,
    /// The index of its state before it was lost.
    pub(crate) state: u8,
    pub(crate) reason: CloseReason,
}

impl Kept {
    fn bytes(&self) -> usize {
        let one = |(channel, metadata): &(ChannelName, Option<Arc<str>>)| {
            channel.as_str().len() + metadata.as_ref().map_or(0, |metadata| metadata.len()) + 96
        };
        self.subscriptions.iter().map(one).sum()
    }
}

/// A session that a new connection takes over. Dropped before it was [taken](Claim::take), it waits on, unless that
/// connection was closed for good.
#[derive(Debug)]
pub(crate) struct Claim {
    hub: Arc<HubCore>,
    /// Whose token was shown.
    shown: ConnectionId,
    waiting: Option<Box<Waiting>>,
    /// The connection that is to have it, once its handshake is done.
    taker: Option<Arc<ConnectionCore>>,
    /// Why that one is about to be closed.
    ending: Option<CloseReason>,
}

impl Claim {
    /// The connection that was lost.
    pub(crate) fn old(&self) -> Option<&Arc<ConnectionCore>> {
        self.waiting.as_ref().map(|waiting| &waiting.core)
    }

    fn kept(&self) -> Option<&Kept> {
        self.waiting.as_ref().map(|waiting| &waiting.kept)
    }

    /// The connection that is to have it is there, and may be asked to give it back.
    pub(crate) fn set_taker(&mut self, taker: &Arc<ConnectionCore>) {
        self.taker = Some(taker.clone());
        let sessions = &self.hub.sessions;
        if let Some(old) = self.old() {
            sessions.waiting.lock().claimed_by(old.id(), taker.id());
        }
        sessions.settled.notify_waiters();
    }

    /// The connection that is to have it does not take it.
    fn give_back(mut self, ending: CloseReason) {
        self.ending = Some(ending);
    }

    /// From now on it is the new connection's.
    fn take(mut self) -> Option<Box<Waiting>> {
        self.waiting.take()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(waiting) = self.waiting.take() else { return };
        let ending = self.ending.or_else(|| self.taker.as_ref()?.reason());
        if ending.is_some_and(|reason| !is_resumable(reason)) {
            self.hub.sessions.release(waiting.core.id());
            end(&self.hub, *waiting);
        } else {
            let Waiting { core, kept, ends, .. } = *waiting;
            self.hub.sessions.put(&self.hub, (core, kept), ends);
        }
    }
}

impl Sessions {
    pub(crate) fn new(options: SessionOptions) -> Self {
        Self {
            key: Key::new(),
            options,
            waiting: Mutex::default(),
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
        self.waiting.lock().count()
    }

    /// Whether `on_close` of one that has ended is still at work.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire) > 0
    }

    /// Bytes that they take, about.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.lock().bytes()
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
        let id = self.current(hub, shown);
        hub.registry.by_id(id).is_some() || self.waiting.lock().is_claimed(id)
    }

    /// Whose session a token names.
    pub(crate) fn user_of(&self, hub: &HubCore, token: &str) -> Option<UserId> {
        let id = self.current(hub, self.key.read(token)?);
        let live = hub.registry.by_id(id).map(|core| core.user().clone());
        live.or_else(|| self.waiting.lock().core(id).map(|core| core.user().clone()))
    }

    /// A connection with a session leaves the registry now; under the lock of its part there.
    pub(crate) fn begin(&self, core: &Arc<ConnectionCore>) {
        self.waiting.lock().begin(core);
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
        self.put(hub, (core.clone(), kept), Instant::now() + window);
    }

    fn put(&self, hub: &Arc<HubCore>, session: (Arc<ConnectionCore>, Kept), ends: Instant) {
        let mut waiting = self.waiting.lock();
        let is_first = waiting.first_end().is_none_or(|first| ends < first);
        let gone = waiting.put(session, ends, (self.options.most, self.options.bytes));
        drop(waiting);
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
        for waiting in gone {
            end(hub, waiting);
        }
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
            let id = self.current(hub, shown);
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
            let found = self.waiting.lock().claim(id, user);
            match found {
                Found::Nothing => return None,
                Found::Leaving => settled.await,
                Found::Claimed(by) => {
                    // Where its client has yet to say where it stands, it gives the session back, now.
                    let taker = by.and_then(|by| hub.registry.by_id(by));
                    if !taker.is_some_and(|taker| taker.is_of(endpoint) && supersede(&taker)) {
                        settled.await;
                    }
                }
                Found::Waiting(waiting) => {
                    let claim =
                        Claim { hub: hub.clone(), shown, waiting: Some(waiting), taker: None, ending: None };
                    return claim.old().is_some_and(|old| old.is_of(endpoint)).then_some(claim);
                }
            }
        }
    }

    /// The connection that a token stands for: the one it was made for, or that which took over its session, as long
    /// as the client has not shown that it knows.
    fn current(&self, hub: &HubCore, id: ConnectionId) -> ConnectionId {
        let Some(next) = self.waiting.lock().moved(id) else { return id };
        let live = hub.registry.by_id(next);
        let core = live.or_else(|| self.waiting.lock().core(next).cloned());
        if core.is_some_and(|core| core.is_unconfirmed()) { next } else { id }
    }

    /// A connection has taken over a session, and its client is being told.
    fn move_on(&self, shown: ConnectionId, old: &ConnectionCore, new: &ConnectionCore) {
        new.note_resumed(shown);
        let mut waiting = self.waiting.lock();
        if let Some(before) = old.resumed_from() {
            waiting.forget_move(before);
        }
        waiting.move_on(shown, old.id(), new.id());
    }

    /// A session that was claimed ends.
    fn release(&self, id: ConnectionId) {
        self.waiting.lock().release(id);
        self.settled.notify_waiters();
    }

    /// All of a session is its new connection's.
    fn tell_moved(&self) {
        self.settled.notify_waiters();
    }

    /// A connection's session has ended.
    pub(crate) fn forget(&self, core: &ConnectionCore) {
        if let Some(old) = core.resumed_from() {
            self.waiting.lock().forget_move(old);
        }
    }

    fn due(&self) -> Result<Vec<Waiting>, Option<Instant>> {
        self.waiting.lock().due(Instant::now(), end::TURN)
    }

    fn take_if(&self, is_meant: impl Fn(&ConnectionCore) -> bool) -> Vec<Waiting> {
        self.waiting.lock().take_if(|waiting| is_meant(&waiting.core))
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
