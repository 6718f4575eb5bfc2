//! The deadlines of a connection's peer and callbacks, as the sweep checks them.

use super::{ConnectionCore, Deadlines};
use crate::clock::Tick;
use crate::outbox::Phase;
use hauyna_websocket::{OpCode, encode};
use std::sync::Arc;
use std::time::Duration;

/// The deadlines of a connection's peer and callbacks, as the sweep checks them.
#[derive(Clone, Copy)]
pub(crate) struct LivenessChecks<'a> {
    core: &'a Arc<ConnectionCore>,
}

impl ConnectionCore {
    /// Returns the deadlines of a connection's peer and callbacks, as the sweep checks them.
    pub(crate) fn liveness_checks(self: &Arc<Self>) -> LivenessChecks<'_> {
        LivenessChecks { core: self }
    }
}

impl LivenessChecks<'_> {
    /// Returns how long ago something was read.
    pub(crate) fn silent_for(self) -> Duration {
        let now = self.core.hub.clock.tick();
        now.since(self.core.liveness.last_read().assign_time(|| now))
    }

    /// Returns its phase, since when its socket accepts nothing, and how many bytes are queued. What was
    /// noted since the last sweep gets the current time.
    pub(crate) fn note_progress(self) -> (Phase, Option<Tick>, usize) {
        let mut outbox = self.core.outbox.lock();
        outbox.set_times(|| self.core.hub.clock.tick());
        (outbox.phase, outbox.blocked, outbox.bytes())
    }

    pub(crate) fn deadlines(self) -> Deadlines {
        self.core.liveness.with_known_times(|| self.core.hub.clock.tick())
    }

    /// Restarts the deadlines of the peer, because nothing can be read from it now and so it cannot be late.
    pub(crate) fn stop_reading_timeout(self) {
        self.core.liveness.hold(self.core.hub.clock.tick());
    }

    pub(crate) fn ping(self, last: Tick, interval: Duration) {
        let now = self.core.hub.clock.tick();
        // Pings keep their interval, although the sweep is late by a part of its own period each time.
        let is_late = now.since(last) >= interval.saturating_mul(2);
        self.core.liveness.note_ping(if is_late { now } else { last.after(interval) }, now);
        self.core.sender().push_control(encode(OpCode::Ping, b""));
    }

    /// Wakes the task, so that it notices that its callback is overdue.
    pub(crate) fn expire_callback(self) {
        self.core.sender().wake(&self.core.outbox.lock());
    }

    /// Gives the running callback its whole time again.
    pub(crate) fn restart_callback(self) {
        if self.core.liveness.busy().is_some() {
            self.core.liveness.set_busy(true);
        }
    }

    /// Whether the running callback is overdue. A takeover of a session is no callback and has deadlines of
    /// its own.
    pub(crate) fn has_expired(self) -> bool {
        let is_over = |since: Tick| {
            since != Tick::RECENT
                && self.core.hub.clock.tick().since(since) >= self.core.endpoint.callback_timeout
        };
        self.core.liveness.busy().is_some_and(is_over) && !self.core.is_resuming()
    }
}
