//! How the state of a connection changes: by the application, by what is heard of it, by failing and ending. Every
//! change is made under the outbox's lock, so that listeners and the client hear of them in their order.

use super::outbox::Outbox;
use super::state::Index;
use super::{CloseReason, ConnectionCore, ConnectionState, Phase};
use crate::clock::Tick;
use crate::error::Error;
use crate::event::{SystemEvent, SystemKind};
use crate::handler::Mode;
use hauyna_protocol::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl ConnectionCore {
    pub(crate) fn state(&self) -> ConnectionState {
        self.hub.states.state(self.index())
    }

    /// How long it has been in its state; counted up to 24 days.
    pub(crate) fn time_in_state(&self) -> Duration {
        self.hub.clock.tick().since(Tick(self.state_since_tick.load(Ordering::Relaxed)))
    }

    /// What ticks need now and then, from the sweep.
    pub(crate) fn keep_past(&self, now: Tick) {
        self.liveness.keep_past(now);
        now.keep_past(&self.state_since_tick);
    }

    fn index(&self) -> Index {
        Index(self.state.load(Ordering::Relaxed))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.index() == Index::IDLE
    }

    /// By the application: only while the connection is open, and only as the table allows.
    pub(crate) fn set_state(self: &Arc<Self>, state: ConnectionState) -> Result<(), Error> {
        let mut outbox = self.outbox.lock();
        if outbox.phase != Phase::Open {
            return Err(Error::closed());
        }
        let (states, from) = (&self.hub.states, self.index());
        let refused = || Error::transition(states.state(from), state);
        let to = states.index(state).ok_or_else(refused)?;
        if from == to {
            return Ok(());
        }
        if !states.allows(from, to) {
            return Err(refused());
        }
        self.check_control_room(&mut outbox, STATE_BYTES)?;
        if outbox.phase != Phase::Open {
            return Err(Error::closed());
        }
        self.change(&mut outbox, to);
        drop(outbox);
        self.request_flush();
        Ok(())
    }

    /// Nothing was heard for too long, or no message. States from which the table lets nobody idle stay.
    pub(crate) fn mark_idle(self: &Arc<Self>) {
        self.transition_to(Index::IDLE);
    }

    /// Something was read. Where messages are what counts, it must not be long since the last one.
    #[cold]
    pub(super) fn note_read_while_idle(self: &Arc<Self>) {
        let now = self.hub.clock.tick();
        let is_enough = |patience| now.since(self.liveness.last_message().assign_time(|| now)) < patience;
        if self.endpoint.idle_after.is_none_or(is_enough) {
            self.mark_active();
        }
    }

    /// A sign of life.
    pub(super) fn mark_active(self: &Arc<Self>) {
        if self.is_idle() {
            self.transition_to(Index::CONNECTED);
        }
    }

    fn transition_to(self: &Arc<Self>, to: Index) {
        if !self.hub.states.allows(self.index(), to) {
            return; // as most often: it is there already
        }
        let mut outbox = self.outbox.lock();
        if outbox.phase == Phase::Open && self.hub.states.allows(self.index(), to) {
            self.change(&mut outbox, to);
            drop(outbox);
            self.request_flush();
        }
    }

    /// The connection is being closed: where that is for a failure, its state says so until it is gone.
    pub(super) fn note_failure(self: &Arc<Self>, outbox: &Outbox, reason: CloseReason) {
        if outbox.phase == Phase::Open && is_failure(reason) && self.index() != Index::ERROR {
            self.change_unannounced(Index::ERROR);
        }
    }

    /// The connection is gone, and out of the registry.
    pub(super) fn leave_states(self: &Arc<Self>, reason: CloseReason) {
        let _outbox = self.outbox.lock();
        if is_failure(reason) && self.index() != Index::ERROR {
            self.change_unannounced(Index::ERROR);
        }
        if self.index() != Index::DISCONNECTED {
            self.change_unannounced(Index::DISCONNECTED);
        }
        self.hub.states.count_out(Index::DISCONNECTED);
    }

    /// The state that a connection which takes over this one's session begins with.
    pub(super) fn state_to_keep(&self) -> u8 {
        let index = self.index().0;
        if index >= FIRST_CUSTOM { index } else { Index::CONNECTED.0 }
    }

    /// The connection is gone, and its session waits for the client.
    pub(super) fn mark_reconnecting(self: &Arc<Self>) {
        let _outbox = self.outbox.lock();
        self.hub.states.count_in(Index::DISCONNECTED);
        self.change_unannounced(Index::RECONNECTING);
    }

    /// The client did not come back.
    pub(crate) fn mark_disconnected(self: &Arc<Self>) {
        let _outbox = self.outbox.lock();
        self.change_unannounced(Index::ERROR);
        self.hub.states.count_out(Index::ERROR);
    }

    /// The client is back: this connection is in the state that the old one was in before the loss.
    pub(crate) fn restore_state(self: &Arc<Self>, old: &Arc<Self>, state: u8) {
        {
            let _outbox = old.outbox.lock();
            old.change_unannounced(Index::CONNECTED);
            // A handle on the old one says for good that it is gone.
            old.state.store(Index::DISCONNECTED.0, Ordering::Relaxed);
        }
        if state != Index::CONNECTED.0 {
            let mut outbox = self.outbox.lock();
            if outbox.phase == Phase::Open {
                self.change(&mut outbox, Index(state));
            }
        }
    }

    fn change(self: &Arc<Self>, outbox: &mut Outbox, to: Index) {
        self.change_unannounced(to);
        if self.endpoint.mode == Mode::Protocol {
            let state = self.hub.states.state(to).name();
            let timestamp = crate::clock::unix_ms();
            let message = Message::ConnectionState { user: self.user().as_str(), state, timestamp };
            self.push_control_locked(outbox, super::frame(self, &message));
        }
    }

    /// The outbox is locked. The client is told nothing: a close code tells it more.
    fn change_unannounced(self: &Arc<Self>, to: Index) {
        let (states, from) = (&self.hub.states, self.index());
        self.state.store(to.0, Ordering::Relaxed);
        self.state_since_tick.store(self.hub.clock.tick().0, Ordering::Relaxed);
        states.count_in(to);
        states.count_out(from);
        self.hub.events.emit(SystemKind::StateChanged, || SystemEvent::StateChanged {
            connection: super::Connection::new(self.clone()),
            old: states.state(from),
            new: states.state(to),
        });
    }
}

/// The index of the first state of the application's own.
const FIRST_CUSTOM: u8 = 5;
/// Bytes of a `connection_state` message, at most: the names of the user and of the state, and what stands around them.
const STATE_BYTES: usize = 512;

/// Whether a connection that ends for this reason has failed. One that is lost has only gone.
fn is_failure(reason: CloseReason) -> bool {
    use CloseReason::{Failed, Protocol, SlowConsumer, WriteTimeout};
    matches!(reason, Failed | Protocol | SlowConsumer | WriteTimeout)
}
