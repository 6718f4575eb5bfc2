//! The way of the hub's own events to their listeners: one bounded queue for each hub. A job of the hub's `background`
//! tells them, one after the other; what its task had not told when its runtime ended, the next task does.

use super::listeners::SystemListeners;
use super::system::{SystemEvent, SystemKind};
use crate::metrics::Counter;
use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<QueueState>,
    /// Waits are woken whenever nothing is left to tell.
    idle: Notify,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct QueueState {
    events: VecDeque<SystemEvent>,
    /// The event whose listeners are at work.
    current: Option<EventDelivery>,
    /// How many events have had their turn.
    started_count: u64,
}

/// An event on its way through the listeners that there were when its turn came.
#[derive(Debug)]
struct EventDelivery {
    event: SystemEvent,
    number: u64,
    listeners: SystemListeners,
    /// Index of the next listener.
    next: usize,
}

/// One listener's turn with one event.
pub(super) struct ListenerTurn {
    pub(super) event: SystemEvent,
    /// The number of the event.
    pub(super) number: u64,
    pub(super) listeners: SystemListeners,
    /// Index of the listener.
    pub(super) index: usize,
}

impl Queue {
    /// Returns whether it was taken in.
    pub(super) fn push(&self, event: SystemEvent) -> bool {
        // Failures come as often as clients like; they must not push out what comes once for each connection.
        let room = if event.kind() == SystemKind::Errored { CAPACITY / 2 } else { CAPACITY };
        let mut waiting = self.waiting.lock();
        if waiting.events.len() < room {
            waiting.events.push_back(event);
            return true;
        }
        drop(waiting);
        self.dropped.increment();
        crate::log::limited("events", || {
            tracing::warn!(target: "hauyna::event", events = 1, "system events dropped");
        });
        false
    }

    /// Events that no listener was told.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.value()
    }

    /// Whether everything emitted so far was told.
    pub(crate) fn is_idle(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.events.is_empty() && waiting.current.is_none()
    }

    /// Resolves when everything emitted so far was told.
    pub(crate) async fn until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.is_idle() {
                return;
            }
            idle.await;
        }
    }

    /// The next listener's turn; each has one turn with each event, whatever becomes of it. `listeners` are those of now,
    /// for an event that begins.
    pub(super) fn next(&self, listeners: impl FnOnce() -> SystemListeners) -> Option<ListenerTurn> {
        let mut waiting = self.waiting.lock();
        if waiting.current.is_none() {
            let event = waiting.events.pop_front();
            waiting.started_count += 1;
            let number = waiting.started_count;
            waiting.current =
                event.map(|event| EventDelivery { event, number, listeners: listeners(), next: 0 });
        }
        if let Some(telling) = &mut waiting.current {
            let index = telling.next;
            telling.next += 1;
            let EventDelivery { event, number, listeners, .. } = &*telling;
            return Some(ListenerTurn {
                event: event.clone(),
                number: *number,
                listeners: listeners.clone(),
                index,
            });
        }
        if waiting.events.capacity() > SPARE_CAPACITY {
            waiting.events = VecDeque::new();
        }
        drop(waiting);
        self.idle.notify_waiters();
        None
    }

    /// No listener is left for the event of this number, or none is to have it. It may have ended meanwhile.
    pub(super) fn end_event(&self, number: u64) {
        // Dropped after the lock: with an event may go the last handle on a connection.
        let ended = self.waiting.lock().current.take_if(|telling| telling.number == number);
        drop(ended);
    }
}

/// Events that may wait.
const CAPACITY: usize = 16 * 1024;
/// Events whose room is kept when nothing waits.
const SPARE_CAPACITY: usize = 256;
