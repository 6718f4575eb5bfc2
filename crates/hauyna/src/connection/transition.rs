//! Changes the state of a connection: at the application's request, by activity and silence, on failure and
//! when the connection ends. Every change is made under the outbox's lock, so that listeners and the client
//! get the changes in order.

use super::ConnectionCore;
use crate::clock::Tick;
use crate::close::CloseReason;
use crate::connection::frame;
use crate::error::Error;
use crate::event::emit;
use crate::handler::Mode;
use crate::outbox::{Outbox, Phase};
use crate::state::{ConnectionState, Index};
use hauyna_protocol::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl ConnectionCore {
    pub(crate) fn state(self: &Arc<Self>) -> ConnectionState {
        self.hub.states.state(self.transitions().index())
    }

    /// Returns how long it has been in its state, up to 24 days.
    pub(crate) fn time_in_state(self: &Arc<Self>) -> Duration {
        self.hub.clock.tick().since(Tick(self.state_since_tick.load(Ordering::Relaxed)))
    }

    pub(crate) fn is_idle(self: &Arc<Self>) -> bool {
        self.transitions().index() == Index::IDLE
    }
}

/// The index of the first custom state.
const FIRST_CUSTOM: u8 = 5;
/// Bytes of a `connection_state` message, at most: the names of the user and of the state, and the rest of
/// the message.
const STATE_BYTES: usize = 512;

/// Whether a connection that ends for this reason has failed. A lost connection has not failed.
fn is_failure(reason: CloseReason) -> bool {
    use CloseReason::{Failed, Protocol, SlowConsumer, WriteTimeout};
    matches!(reason, Failed | Protocol | SlowConsumer | WriteTimeout)
}

/// The changes of a connection's state. Each is made under the outbox's lock.
#[derive(Clone, Copy)]
pub(crate) struct Transitions<'a> {
    core: &'a Arc<ConnectionCore>,
}

impl ConnectionCore {
    /// Returns the changes of a connection's state. Each is made under the outbox's lock.
    pub(crate) fn transitions(self: &Arc<Self>) -> Transitions<'_> {
        Transitions { core: self }
    }
}

impl Transitions<'_> {
    /// Keeps its ticks from wrapping around; the sweep calls it now and then.
    pub(crate) fn keep_past(self, now: Tick) {
        self.core.liveness.keep_past(now);
        now.keep_past(&self.core.state_since_tick);
    }

    fn index(self) -> Index {
        Index(self.core.state.load(Ordering::Relaxed))
    }

    /// Sets the state for the application: only while the connection is open, and only as the table allows.
    pub(super) fn set_state(self, state: ConnectionState) -> Result<(), Error> {
        let mut outbox = self.core.outbox.lock();
        if outbox.phase != Phase::Open {
            return Err(Error::closed());
        }
        let (states, from) = (&self.core.hub.states, self.index());
        let refused = || Error::transition(states.state(from), state);
        let to = states.index(state).ok_or_else(refused)?;
        if from == to {
            return Ok(());
        }
        if !states.allows(from, to) {
            return Err(refused());
        }
        self.core.sender().check_control_room(&mut outbox, STATE_BYTES)?;
        if outbox.phase != Phase::Open {
            return Err(Error::closed());
        }
        self.change(&mut outbox, to);
        drop(outbox);
        self.core.sender().request_flush();
        Ok(())
    }

    /// Sets the state to idle, after nothing was read for too long, or no message. It stays in a state from
    /// which the table does not allow `Idle`.
    pub(crate) fn mark_idle(self) {
        self.transition_to(Index::IDLE);
    }

    /// Notes that something was read. Where only messages count, the last message must be recent.
    #[cold]
    pub(crate) fn note_read_while_idle(self) {
        let now = self.core.hub.clock.tick();
        let is_recent = |timeout| now.since(self.core.liveness.last_message().assign_time(|| now)) < timeout;
        if self.core.endpoint.idle_after.is_none_or(is_recent) {
            self.mark_active();
        }
    }

    /// Notes activity: an idle connection becomes connected.
    pub(crate) fn mark_active(self) {
        if self.core.is_idle() {
            self.transition_to(Index::CONNECTED);
        }
    }

    fn transition_to(self, to: Index) {
        if !self.core.hub.states.allows(self.index(), to) {
            return; // the most common case: it is in this state already
        }
        let mut outbox = self.core.outbox.lock();
        if outbox.phase == Phase::Open && self.core.hub.states.allows(self.index(), to) {
            self.change(&mut outbox, to);
            drop(outbox);
            self.core.sender().request_flush();
        }
    }

    /// Notes that the connection is being closed. If it is closed for a failure, its state is `Error` until
    /// it is gone.
    pub(crate) fn note_failure(self, outbox: &Outbox, reason: CloseReason) {
        if outbox.phase == Phase::Open && is_failure(reason) && self.index() != Index::ERROR {
            self.change_unannounced(Index::ERROR);
        }
    }

    /// Counts the connection out of the states: it is gone, and out of the registry.
    pub(crate) fn leave_states(self, reason: CloseReason) {
        let _outbox = self.core.outbox.lock();
        if is_failure(reason) && self.index() != Index::ERROR {
            self.change_unannounced(Index::ERROR);
        }
        if self.index() != Index::DISCONNECTED {
            self.change_unannounced(Index::DISCONNECTED);
        }
        self.core.hub.states.count_out(Index::DISCONNECTED);
    }

    /// Returns the state in which a connection starts that takes over this one's session.
    pub(crate) fn state_to_keep(self) -> u8 {
        let index = self.index().0;
        if index >= FIRST_CUSTOM { index } else { Index::CONNECTED.0 }
    }

    /// Notes that the connection is gone and its session waits for the client.
    pub(crate) fn mark_reconnecting(self) {
        let _outbox = self.core.outbox.lock();
        self.core.hub.states.count_in(Index::DISCONNECTED);
        self.change_unannounced(Index::RECONNECTING);
    }

    /// Notes that the client did not return.
    pub(crate) fn mark_disconnected(self) {
        let _outbox = self.core.outbox.lock();
        self.change_unannounced(Index::ERROR);
        self.core.hub.states.count_out(Index::ERROR);
    }

    /// Notes that the client has returned, and puts this connection into the state that the old one was in
    /// before the loss.
    pub(crate) fn restore_state(self, old: &Arc<ConnectionCore>, state: u8) {
        {
            let _outbox = old.outbox.lock();
            old.transitions().change_unannounced(Index::CONNECTED);
            // A handle on the old connection shows from now on that it is gone.
            old.state.store(Index::DISCONNECTED.0, Ordering::Relaxed);
        }
        if state != Index::CONNECTED.0 {
            let mut outbox = self.core.outbox.lock();
            // A state of the application that was set during the resume is newer.
            if outbox.phase == Phase::Open && self.index().0 < FIRST_CUSTOM {
                self.change(&mut outbox, Index(state));
            }
        }
    }

    fn change(self, outbox: &mut Outbox, to: Index) {
        self.change_unannounced(to);
        if self.core.endpoint.mode == Mode::Protocol {
            let state = self.core.hub.states.state(to);
            let (state, timestamp) = (state.name(), crate::clock::unix_ms());
            let message = Message::ConnectionState { user: self.core.user().as_str(), state, timestamp };
            self.core.sender().push_control_locked(outbox, frame(self.core, &message));
        }
    }

    /// Changes the state without a message to the client, which learns more from the close code. The caller
    /// holds the outbox's lock.
    fn change_unannounced(self, to: Index) {
        let (states, from) = (&self.core.hub.states, self.index());
        self.core.state.store(to.0, Ordering::Relaxed);
        self.core.state_since_tick.store(self.core.hub.clock.tick().0, Ordering::Relaxed);
        states.count_in(to);
        states.count_out(from);
        emit!(
            self.core.hub.events,
            StateChanged {
                connection: super::Connection::new(self.core.clone()),
                old: states.state(from),
                new: states.state(to),
            }
        );
    }
}
