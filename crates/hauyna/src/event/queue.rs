//! The queue of system events on their way to the listeners: bounded, one per hub. `Listeners` fills it; a
//! job of the hub's `background` delivers the events one after the other. Where the runtime of its task ends,
//! the next task continues with the events that are left.

use super::listeners::SystemListeners;
use super::system::{SystemEvent, SystemKind};
use crate::counters::Counter;
use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::sync::Notify;

/// The system events that wait for their listeners.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<QueueState>,
    /// Wakes the waits of [`Queue::until_idle`] when the queue is empty.
    idle: Notify,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct QueueState {
    events: VecDeque<SystemEvent>,
    /// The event whose listeners are running.
    current: Option<EventDelivery>,
    /// Number of events that were started so far.
    started_count: u64,
}

/// An event that is being delivered to the listeners that were registered when it was started.
#[derive(Debug)]
struct EventDelivery {
    event: SystemEvent,
    number: u64,
    listeners: SystemListeners,
    /// Index of the next listener to run.
    next: usize,
}

/// One listener to run for one event.
pub(super) struct ListenerTurn {
    pub(super) event: SystemEvent,
    /// Number of the event.
    pub(super) number: u64,
    pub(super) listeners: SystemListeners,
    /// Index of the listener.
    pub(super) index: usize,
}

impl Queue {
    /// Adds an event, or drops it where the queue is full. Returns whether it was added.
    pub(super) fn push(&self, event: SystemEvent) -> bool {
        // Clients can cause any number of failures, which must not use up the capacity for other events.
        let capacity = if event.kind() == SystemKind::Errored { CAPACITY / 2 } else { CAPACITY };
        let mut waiting = self.waiting.lock();
        if waiting.events.len() < capacity {
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

    /// Returns the number of events that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.value()
    }

    /// Whether everything emitted so far was delivered.
    pub(crate) fn is_idle(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.events.is_empty() && waiting.current.is_none()
    }

    /// Waits until everything emitted so far was delivered.
    pub(crate) async fn until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.is_idle() {
                return;
            }
            idle.await;
        }
    }

    /// Returns the next listener to run. Each listener runs once for each event, even if it fails.
    /// `listeners` returns the present listeners, for an event that is started now.
    pub(super) fn next(&self, listeners: impl FnOnce() -> SystemListeners) -> Option<ListenerTurn> {
        let mut waiting = self.waiting.lock();
        if waiting.current.is_none() {
            let event = waiting.events.pop_front();
            waiting.started_count += 1;
            let number = waiting.started_count;
            waiting.current =
                event.map(|event| EventDelivery { event, number, listeners: listeners(), next: 0 });
        }
        if let Some(delivery) = &mut waiting.current {
            let index = delivery.next;
            delivery.next += 1;
            let EventDelivery { event, number, listeners, .. } = &*delivery;
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

    /// Ends the delivery of the event of this number, unless it has ended meanwhile.
    pub(super) fn end_event(&self, number: u64) {
        // It is dropped after the lock, because the event may have the last handle of a connection.
        let ended = self.waiting.lock().current.take_if(|delivery| delivery.number == number);
        drop(ended);
    }
}

/// Maximum number of events that wait.
const CAPACITY: usize = 16 * 1024;
/// Number of events whose memory is kept when the queue is empty.
const SPARE_CAPACITY: usize = 256;
