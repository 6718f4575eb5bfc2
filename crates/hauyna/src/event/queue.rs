//! The way of the hub's own events to their listeners: one bounded queue and one task for each hub, started
//! with the first event on the runtime that emits it. Where that runtime ends, the next event starts another.

use super::system::{SystemEvent, SystemKind};
use crate::hub::HubCore;
use crate::metrics::Counter;
use crate::shard::take_turns;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use tokio::runtime::Handle;
use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Queue {
    hub: Weak<HubCore>,
    waiting: Mutex<Waiting>,
    running: AtomicBool,
    /// Waits are woken whenever nothing is left to tell.
    idle: Notify,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<SystemEvent>,
    /// Of the task, while it has nothing to do.
    waker: Option<Waker>,
    /// Listeners are at work on what was taken last.
    is_telling: bool,
}

impl Queue {
    pub(super) fn new(hub: Weak<HubCore>) -> Self {
        Self {
            hub,
            waiting: Mutex::default(),
            running: AtomicBool::new(false),
            idle: Notify::new(),
            dropped: Counter::default(),
        }
    }

    #[cold]
    pub(super) fn push(&self, event: SystemEvent) {
        // Failures come as often as clients like; they must not push out what comes once for each connection.
        let room = if event.kind() == SystemKind::Errored { ROOM / 2 } else { ROOM };
        let runtime = Handle::try_current().ok();
        let mut waiting = self.waiting.lock();
        if waiting.events.len() >= room || runtime.is_none() && !self.running.load(Ordering::Acquire) {
            drop(waiting);
            return self.count_dropped(1);
        }
        waiting.events.push_back(event);
        let waker = waiting.waker.take();
        drop(waiting);
        match (waker, runtime) {
            (Some(waker), _) => waker.wake(),
            (None, Some(runtime)) if !self.running.swap(true, Ordering::AcqRel) => {
                runtime.spawn(work(Running(self.hub.clone())));
            }
            _ => {}
        }
    }

    fn count_dropped(&self, events: usize) {
        self.dropped.add(events as u64);
        crate::log::limited("events", || {
            tracing::warn!(target: "hauyna::event", events, "system events dropped");
        });
    }

    /// Events that no listener was told.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.value()
    }

    /// Wakes the task to see that the hub is gone.
    pub(crate) fn wake(&self) {
        let waker = self.waiting.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Resolves when everything emitted so far was told.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            {
                let waiting = self.waiting.lock();
                if waiting.events.is_empty() && !waiting.is_telling {
                    return;
                }
            }
            idle.await;
        }
    }

    /// The next event, or a promise to wake for it.
    fn poll_next(&self, waker: &Waker) -> Poll<SystemEvent> {
        let mut waiting = self.waiting.lock();
        if let Some(event) = waiting.events.pop_front() {
            waiting.is_telling = true;
            return Poll::Ready(event);
        }
        waiting.waker = Some(waker.clone());
        waiting.is_telling = false;
        if waiting.events.capacity() > SPARE {
            waiting.events = VecDeque::new();
        }
        drop(waiting);
        self.idle.notify_waiters();
        Poll::Pending
    }
}

/// While the task lives.
struct Running(Weak<HubCore>);

impl Drop for Running {
    /// The runtime has ended. Events hold their connections, and these the hub: none may stay.
    fn drop(&mut self) {
        let Some(hub) = self.0.upgrade() else { return };
        let queue = hub.events.queue();
        let mut waiting = queue.waiting.lock();
        let left = std::mem::take(&mut *waiting).events;
        queue.running.store(false, Ordering::Release);
        drop(waiting);
        queue.idle.notify_waiters();
        if !left.is_empty() {
            queue.count_dropped(left.len());
        }
    }
}

async fn work(running: Running) {
    loop {
        for _ in 0..TURN {
            let next = poll_fn(|cx| {
                let Some(hub) = running.0.upgrade() else { return Poll::Ready(None) };
                let event = hub.events.queue().poll_next(cx.waker());
                event.map(|event| Some((hub, event)))
            });
            let Some((hub, event)) = next.await else { return };
            let told = hub.clone();
            hub.events.tell(told, event).await;
        }
        take_turns().await;
    }
}

/// Events that may wait.
const ROOM: usize = 16 * 1024;
/// Events whose room is kept when nothing waits.
const SPARE: usize = 256;
/// Events told before other tasks of the thread have their turn.
const TURN: usize = 16;
