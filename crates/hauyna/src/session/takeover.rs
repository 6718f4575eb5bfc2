//! The takeover of a lost session by a new connection. `Takeover` alone holds its state; the connection, the
//! store of sessions and the `Claim` that drives it share it, and each calls the method named after what
//! happened. `resume` restores the subscriptions in between.

use super::store::{LostSession, Unsubscribed};
use crate::close::CloseReason;
use crate::connection::ConnectionCore;
use crate::hub::HubCore;
use hauyna_broker::{ChannelName, ConnectionId};
use hauyna_protocol::{Position, RequestId};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// The passage of one session from the store to a new connection.
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
/// Until `Taken` the session is here, and everything that ends the takeover returns it to the store or ends
/// it. From `Taken` on the connection has it. The lock of the store is taken before the one of `state`.
#[derive(Debug)]
pub(crate) struct Takeover {
    /// The connection whose token was presented.
    presented: ConnectionId,
    /// The connections that had the session before, newest last.
    former: Box<[ConnectionId]>,
    /// The connection that takes over, set once it exists.
    taker: OnceLock<ConnectionId>,
    state: Mutex<State>,
    /// Whether a message has arrived since the client was sent its new session.
    is_confirmed: AtomicBool,
    /// Wakes the driver of the takeover when `state` has changed.
    changed: Notify,
}

#[derive(Debug)]
enum State {
    /// The client has not sent its positions yet.
    Awaiting(Box<LostSession>),
    /// The subscriptions are brought up to date. The client's positions are here until the driver takes them.
    Restoring(Box<LostSession>, Option<Positions>),
    /// The connection has the session, and its subscriptions are being activated.
    Taken(ArrivingSubscriptions),
    Restored,
    Ended(TakeoverEnd),
}

/// The subscriptions of a session whose connection has it and has yet to activate them.
#[derive(Debug, Default)]
struct ArrivingSubscriptions {
    channels: Vec<ChannelName>,
    /// The channels among them whose subscriptions the application has ended meanwhile.
    ended: Vec<ChannelName>,
}

/// Where a session is after a takeover that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakeoverEnd {
    /// The session is kept again, or its client does not want it.
    GivenBack,
    /// The session was ended from outside during the takeover.
    Withdrawn,
}

/// What a client sends with `resume`.
#[derive(Debug, Default)]
pub(super) struct Positions {
    pub(super) id: Option<RequestId>,
    pub(super) positions: Vec<(Box<str>, Position)>,
}

impl Takeover {
    pub(super) fn new(presented: ConnectionId, session: Box<LostSession>) -> Self {
        Self {
            presented,
            former: former(&session.core),
            taker: OnceLock::new(),
            state: Mutex::new(State::Awaiting(session)),
            is_confirmed: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    // Events.

    /// Notes that the client has sent its positions, or another message instead. Returns whether they were
    /// awaited.
    pub(super) fn client_spoke(&self, positions: Positions) -> bool {
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

    /// Notes that the client closes or is gone before its first message.
    pub(crate) fn client_closed(&self, reason: CloseReason) {
        if self.is_awaiting() {
            self.give_up(Some(reason));
        }
    }

    /// Notes that the client has returned on another connection. Returns whether the session is kept for that
    /// one now.
    pub(super) fn superseded(&self) -> bool {
        self.give_up(None)
    }

    /// Notes that nothing drives the takeover any more; `reason` is why the connection is being closed, if it
    /// is.
    fn abandoned(&self, reason: Option<CloseReason>) {
        self.give_up(reason);
    }

    /// Takes the session for the connection. Returns `None` if it is not here any more.
    pub(super) fn take(&self) -> Option<Box<LostSession>> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Ended(TakeoverEnd::GivenBack)) {
            State::Restoring(session, _) => {
                let subscriptions = session.content.subscriptions.iter();
                let channels = subscriptions.map(|subscription| subscription.channel.clone()).collect();
                *state = State::Taken(ArrivingSubscriptions { channels, ended: Vec::new() });
                Some(session)
            }
            other => {
                *state = other;
                None
            }
        }
    }

    /// Notes that the client was sent its session and every subscription is active. Returns the channels
    /// whose subscriptions the application has ended meanwhile.
    pub(super) fn restored(&self) -> Vec<ChannelName> {
        match std::mem::replace(&mut *self.state.lock(), State::Restored) {
            State::Taken(arriving) => arriving.ended,
            _ => Vec::new(),
        }
    }

    /// Ends a subscription of the session for the application.
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

    /// Notes that a message has arrived: the client knows what it was sent before.
    pub(crate) fn confirm(&self) {
        if !self.is_confirmed.load(Ordering::Relaxed) && matches!(*self.state.lock(), State::Restored) {
            self.is_confirmed.store(true, Ordering::Relaxed);
        }
    }

    // State.

    /// Whether a connection had the session before.
    pub(crate) fn follows(&self, connection: ConnectionId) -> bool {
        self.former.contains(&connection)
    }

    /// Returns the bytes on the heap.
    pub(crate) fn weight(&self) -> usize {
        size_of_val(self) + size_of_val(&*self.former)
    }

    pub(super) fn presented(&self) -> ConnectionId {
        self.presented
    }

    pub(super) fn taker(&self) -> Option<ConnectionId> {
        self.taker.get().copied()
    }

    /// Returns the lost connection, under whose identifier the store finds the session; `None` once the
    /// connection has it.
    pub(super) fn lost_connection(&self) -> Option<ConnectionId> {
        match &*self.state.lock() {
            State::Awaiting(_) | State::Restoring(..) | State::Ended(_) => self.former.last().copied(),
            State::Taken(_) | State::Restored => None,
        }
    }

    pub(crate) fn is_awaiting(&self) -> bool {
        matches!(*self.state.lock(), State::Awaiting(_))
    }

    /// Whether the connection does not have the whole session, because the takeover is under way or has
    /// failed.
    pub(crate) fn is_under_way(&self) -> bool {
        !matches!(*self.state.lock(), State::Restored)
    }

    fn is_taken(&self) -> bool {
        matches!(*self.state.lock(), State::Taken(_))
    }

    /// Whether the session was ended from outside during the takeover.
    pub(super) fn is_withdrawn(&self) -> bool {
        matches!(*self.state.lock(), State::Ended(TakeoverEnd::Withdrawn))
    }

    /// Whether the client may not have got its new token.
    pub(super) fn is_unconfirmed(&self) -> bool {
        !self.is_confirmed.load(Ordering::Relaxed)
    }

    /// Returns how many subscriptions of the session the connection does not have yet, and whether one of
    /// them is to this channel; the application cannot subscribe to it a second time.
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

    // Methods for the driver of the takeover.

    /// Waits for the client's positions. Returns `None` if the takeover has ended.
    pub(super) async fn positions(&self) -> Option<Positions> {
        loop {
            let changed = self.changed.notified();
            match &mut *self.state.lock() {
                State::Awaiting(_) => {}
                State::Restoring(_, positions) => return Some(positions.take().unwrap_or_default()),
                State::Taken(_) | State::Restored | State::Ended(_) => return None,
            }
            changed.await;
        }
    }

    /// Reads the session while it is here.
    pub(super) fn with_session<R>(&self, read: impl FnOnce(&mut LostSession) -> R) -> Option<R> {
        match &mut *self.state.lock() {
            State::Awaiting(session) | State::Restoring(session, _) => Some(read(session)),
            State::Taken(_) | State::Restored | State::Ended(_) => None,
        }
    }

    /// Removes and returns the session while it is here. The caller holds the lock of the store and decides
    /// where the session goes.
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

/// Returns a lost connection and the connections that had its session before.
fn former(lost: &Arc<ConnectionCore>) -> Box<[ConnectionId]> {
    let earlier = lost.takeover().map_or(&[][..], |takeover| &takeover.former);
    let kept = earlier.len().saturating_sub(MAX_FORMER - 1);
    earlier[kept..].iter().copied().chain([lost.id()]).collect()
}

/// Connections of one session that are remembered, at most.
const MAX_FORMER: usize = 32;

/// The driver of one takeover. Where it is dropped before the session was taken, the session returns to the
/// store.
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

    /// Begins the takeover for a connection that exists and cannot be found by others yet.
    pub(crate) fn begin(&mut self, taker: &Arc<ConnectionCore>) {
        taker.begin_takeover(self.takeover.clone());
        let _ = self.takeover.taker.set(taker.id()); // a claim has only one taker
        self.taker = Some(taker.clone());
        self.hub.sessions.notify_takeover_changed();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.takeover.is_taken() {
            // A panic interrupted the takeover: the connection ends with what it has.
            self.hub.sessions.complete_takeover(&self.takeover, self.lost);
        }
        self.takeover.abandoned(self.taker.as_ref().and_then(|taker| taker.reason()));
    }
}
