//! A connection on its way to the session of a lost one. `Takeover` is the only home of that state: it is shared by
//! the connection, by the store of sessions and by the `Claim` that drives it, and each calls the method that is named
//! after what happened. `resume` restores the subscriptions in between.

use super::store::{LostSession, Unsubscribed};
use crate::channel::ChannelName;
use crate::connection::{CloseReason, ConnectionCore, ConnectionId};
use crate::hub::HubCore;
use hauyna_protocol::{Position, RequestId};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// The way of one session from its store to a new connection.
///
/// ```text
///          client_spoke, or 5 s             take                restored
/// Awaiting ───────────────────▶ Restoring ─────────▶ Taken ─────────────▶ Restored
///     │                             │
///     │ client_closed,              │ superseded,
///     │ superseded, abandoned       │ abandoned
///     └───────────────▶ Ended ◀─────┘   the session waits again, or has ended
/// ```
///
/// Up to `Taken` the session is here, and whatever ends the takeover puts it back. From `Taken` on it is the
/// connection's. The lock of the store comes before the one of `state`.
#[derive(Debug)]
pub(crate) struct Takeover {
    /// The connection whose token was shown.
    presented: ConnectionId,
    /// The connections that had the session before, the newest last.
    former: Box<[ConnectionId]>,
    /// The connection that takes over, set when it is there.
    taker: OnceLock<ConnectionId>,
    state: Mutex<State>,
    /// Whether a message has come since the client was told of its new session.
    is_confirmed: AtomicBool,
    /// Wakes the driver when `state` has changed.
    changed: Notify,
}

#[derive(Debug)]
enum State {
    /// The client has not said where it stands.
    Awaiting(Box<LostSession>),
    /// The subscriptions are brought up to date; what the client said is there until the driver takes it.
    Restoring(Box<LostSession>, Option<Positions>),
    /// The connection has the session, and its subscriptions go live.
    Taken(ArrivingSubscriptions),
    Restored,
    Ended(TakeoverEnd),
}

/// The subscriptions of a session on their way to the connection that has it.
#[derive(Debug, Default)]
struct ArrivingSubscriptions {
    channels: Vec<ChannelName>,
    /// Those among them that the application has ended meanwhile.
    ended: Vec<ChannelName>,
}

/// Where a session has gone that was not taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakeoverEnd {
    /// It waits again, or its client does not want it.
    GivenBack,
    /// It was ended from outside, while its client was there.
    Withdrawn,
}

/// What a client says with `resume`.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    pub(crate) id: Option<RequestId>,
    pub(crate) positions: Vec<(Box<str>, Position)>,
}

impl Takeover {
    pub(super) fn new(shown: ConnectionId, session: Box<LostSession>) -> Self {
        Self {
            presented: shown,
            former: former(&session.core),
            taker: OnceLock::new(),
            state: Mutex::new(State::Awaiting(session)),
            is_confirmed: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    // What happens.

    /// The client has said where it stands, or something else instead. Returns whether that was awaited.
    pub(crate) fn client_spoke(&self, positions: Positions) -> bool {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Ended(TakeoverEnd::GivenBack)) {
            State::Awaiting(session) => *state = State::Restoring(session, Some(positions)),
            other => {
                *state = other;
                return false;
            }
        }
        self.changed.notify_one();
        true
    }

    /// The client closes, or is gone, before it has said anything.
    pub(crate) fn client_closed(&self, reason: CloseReason) {
        if self.is_awaiting() {
            self.give_up(Some(reason));
        }
    }

    /// The client is back on another connection. Returns whether the session waits for that one now.
    pub(super) fn superseded(&self) -> bool {
        self.give_up(None)
    }

    /// Nobody drives it any more; `reason` is why the connection is being closed, if it is.
    fn abandoned(&self, reason: Option<CloseReason>) {
        self.give_up(reason);
    }

    /// The session becomes the connection's. Returns `None` where it has gone elsewhere.
    pub(super) fn take(&self) -> Option<Box<LostSession>> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Ended(TakeoverEnd::GivenBack)) {
            State::Restoring(session, _) => {
                let channels = session.content.subscriptions.iter().map(|one| one.channel.clone()).collect();
                *state = State::Taken(ArrivingSubscriptions { channels, ended: Vec::new() });
                Some(session)
            }
            other => {
                *state = other;
                None
            }
        }
    }

    /// The client is told, and every subscription is live. Returns those that the application has ended meanwhile.
    pub(super) fn restored(&self) -> Vec<ChannelName> {
        match std::mem::replace(&mut *self.state.lock(), State::Restored) {
            State::Taken(arriving) => arriving.ended,
            _ => Vec::new(),
        }
    }

    /// The application ends a subscription of the session. Returns whether there was one.
    pub(super) fn unsubscribe(&self, channel: &str) -> Unsubscribed {
        match &mut *self.state.lock() {
            State::Awaiting(session) | State::Restoring(session, _) => session
                .content
                .unsubscribe(channel)
                .map_or(Unsubscribed::Nothing, |kept| Unsubscribed::OfSession(session.core.clone(), kept)),
            State::Taken(ArrivingSubscriptions { channels, ended }) => {
                let found = channels.iter().find(|one| one.as_str() == channel);
                ended.extend(found.cloned());
                if found.is_some() { Unsubscribed::Later } else { Unsubscribed::Nothing }
            }
            State::Restored | State::Ended(_) => Unsubscribed::Nothing,
        }
    }

    /// A message has come: the client knows what it was told before.
    pub(crate) fn confirm(&self) {
        if !self.is_confirmed.load(Ordering::Relaxed) && matches!(*self.state.lock(), State::Restored) {
            self.is_confirmed.store(true, Ordering::Relaxed);
        }
    }

    // What is so.

    /// Whether a connection had the session before.
    pub(crate) fn follows(&self, connection: ConnectionId) -> bool {
        self.former.contains(&connection)
    }

    /// Bytes on the heap.
    pub(crate) fn weight(&self) -> usize {
        size_of_val(self) + size_of_val(&*self.former)
    }

    pub(super) fn presented(&self) -> ConnectionId {
        self.presented
    }

    pub(super) fn taker(&self) -> Option<ConnectionId> {
        self.taker.get().copied()
    }

    pub(crate) fn is_awaiting(&self) -> bool {
        matches!(*self.state.lock(), State::Awaiting(_))
    }

    /// Whether the connection does not have the whole session yet, and will not be found without one.
    pub(crate) fn is_under_way(&self) -> bool {
        !matches!(*self.state.lock(), State::Restored)
    }

    fn is_taken(&self) -> bool {
        matches!(*self.state.lock(), State::Taken(_))
    }

    /// Whether the session was ended while its client was there.
    pub(super) fn is_withdrawn(&self) -> bool {
        matches!(*self.state.lock(), State::Ended(TakeoverEnd::Withdrawn))
    }

    /// Whether the client may not know of its new token.
    pub(super) fn is_unconfirmed(&self) -> bool {
        !self.is_confirmed.load(Ordering::Relaxed)
    }

    /// How many subscriptions the session has that are not the connection's yet, and whether one is to this channel:
    /// the application cannot make it a second time.
    pub(crate) fn reserved(&self, channel: &ChannelName) -> (usize, bool) {
        let count = |channels: &mut dyn Iterator<Item = &ChannelName>| {
            channels.fold((0, false), |(count, is_there), one| (count + 1, is_there || one == channel))
        };
        match &*self.state.lock() {
            State::Awaiting(session) | State::Restoring(session, _) => {
                count(&mut session.content.subscriptions.iter().map(|one| &one.channel))
            }
            State::Taken(arriving) => count(&mut arriving.channels.iter()),
            State::Restored | State::Ended(_) => (0, false),
        }
    }

    // For the driver.

    /// Waits for what the client says. Returns `None` where the takeover has ended.
    pub(super) async fn positions(&self) -> Option<Positions> {
        loop {
            let changed = self.changed.notified();
            match &mut *self.state.lock() {
                State::Awaiting(_) => {}
                State::Restoring(_, said) => return Some(said.take().unwrap_or_default()),
                State::Taken(_) | State::Restored | State::Ended(_) => return None,
            }
            changed.await;
        }
    }

    /// Reads the session, as long as it is here.
    pub(super) fn with_session<R>(&self, read: impl FnOnce(&mut LostSession) -> R) -> Option<R> {
        match &mut *self.state.lock() {
            State::Awaiting(session) | State::Restoring(session, _) => Some(read(session)),
            State::Taken(_) | State::Restored | State::Ended(_) => None,
        }
    }

    /// Takes the session out, as long as it is here. The store is locked, and decides where the session goes.
    pub(super) fn end(&self, end: TakeoverEnd) -> Option<Box<LostSession>> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Ended(end)) {
            State::Awaiting(session) | State::Restoring(session, _) => {
                self.changed.notify_one();
                Some(session)
            }
            other => {
                *state = other;
                None
            }
        }
    }

    fn give_up(&self, reason: Option<CloseReason>) -> bool {
        let hub = self.with_session(|session| session.core.hub().clone());
        hub.is_some_and(|hub| hub.sessions.return_session(&hub, self, reason))
    }
}

/// A lost connection, and those whose session it had.
fn former(lost: &ConnectionCore) -> Box<[ConnectionId]> {
    let earlier = lost.takeover().map_or(&[][..], |takeover| &takeover.former);
    let kept = earlier.len().saturating_sub(MAX_FORMER - 1);
    earlier[kept..].iter().copied().chain([lost.id()]).collect()
}

/// Connections of one session that are remembered, at most.
const MAX_FORMER: usize = 32;

/// Drives one takeover. Dropped before the session was taken, it gives it back.
#[derive(Debug)]
pub(crate) struct Claim {
    hub: Arc<HubCore>,
    takeover: Arc<Takeover>,
    /// The connection that was lost.
    lost: ConnectionId,
    taker: Option<Arc<ConnectionCore>>,
}

impl Claim {
    pub(super) fn new(hub: &Arc<HubCore>, lost: ConnectionId, takeover: Arc<Takeover>) -> Self {
        Self { hub: hub.clone(), takeover, lost, taker: None }
    }

    pub(super) fn takeover(&self) -> &Arc<Takeover> {
        &self.takeover
    }

    /// The connection that takes over is there, and nobody has found it yet.
    pub(crate) fn begin(&mut self, taker: &Arc<ConnectionCore>) {
        taker.begin_takeover(self.takeover.clone());
        let _ = self.takeover.taker.set(taker.id()); // a claim has one taker
        self.taker = Some(taker.clone());
        self.hub.sessions.notify_takeover_changed();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.takeover.is_taken() {
            // Something panicked in the midst of it: the connection ends with what it has.
            self.hub.sessions.complete_takeover(&self.takeover, self.lost);
        }
        self.takeover.abandoned(self.taker.as_ref().and_then(|taker| taker.reason()));
    }
}
