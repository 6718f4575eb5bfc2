//! What presence has to do later: send a channel's diff, let a lost connection's grace time end. One task per
//! hub, which lives only while something is to be done.

use super::{flow, telling};
use crate::channel::{ChannelCore, UserId};
use crate::connection::ConnectionId;
use crate::hub::HubCore;
use crate::shard::take_turns;
use parking_lot::Mutex;
use std::cmp::{Ordering as Compared, Reverse};
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The tasks that are not due yet.
#[derive(Debug)]
pub(crate) struct Agenda {
    hub: Weak<HubCore>,
    entries: Mutex<BinaryHeap<Reverse<Entry>>>,
    is_running: AtomicBool,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    task: Task,
}

/// One thing to do.
#[derive(Debug)]
pub(super) enum Task {
    /// A channel's diff or count.
    Tell(Arc<ChannelCore>),
    /// The grace time of a connection ends.
    Expire(UserId, ConnectionId),
}

impl Agenda {
    pub(super) fn new(hub: Weak<HubCore>) -> Self {
        Self { hub, entries: Mutex::default(), is_running: AtomicBool::new(false), changed: Arc::default() }
    }

    /// Innermost of the locks. Starts the task where it does not run.
    pub(super) fn add(&self, after: Duration, task: Task) {
        let entry = Entry { at: Instant::now() + after, task };
        let mut entries = self.entries.lock();
        let is_first = entries.peek().is_none_or(|Reverse(first)| entry.at < first.at);
        entries.push(Reverse(entry));
        drop(entries);
        if is_first {
            self.changed.notify_one();
        }
        self.ensure_running();
    }

    fn ensure_running(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.is_running.swap(true, Ordering::AcqRel) {
            runtime.spawn(run(Running { hub: self.hub.clone(), has_ended: false }));
        }
    }

    /// Up to a turn's worth of what is due now, else when the next will be.
    fn due(&self) -> Result<Vec<Task>, Option<Instant>> {
        let mut entries = self.entries.lock();
        let now = Instant::now();
        let mut tasks = Vec::new();
        while tasks.len() < TURN && entries.peek().is_some_and(|Reverse(first)| first.at <= now) {
            tasks.extend(entries.pop().map(|Reverse(entry)| entry.task));
        }
        if !tasks.is_empty() {
            return Ok(tasks);
        }
        if entries.is_empty() {
            // Under the lock: whoever adds the next entry starts the task anew.
            self.is_running.store(false, Ordering::Release);
            entries.shrink_to(64);
        }
        Err(entries.peek().map(|Reverse(first)| first.at))
    }

    /// The hub is going: so does its task.
    pub(super) fn stop(&self) {
        self.changed.notify_one();
    }
}

/// While the task lives. When its runtime drops it, the next entry starts another.
struct Running {
    hub: Weak<HubCore>,
    has_ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade().filter(|_| !self.has_ended) {
            hub.presence.agenda.is_running.store(false, Ordering::Release);
        }
    }
}

async fn run(mut running: Running) {
    loop {
        let Some(hub) = running.hub.upgrade() else { return };
        match hub.presence.agenda.due() {
            Ok(tasks) => {
                for task in tasks {
                    match task {
                        Task::Tell(channel) => telling::tell_gathered(&hub, &channel),
                        Task::Expire(user, connection) => flow::expire(&hub, &user, connection),
                    }
                }
                drop(hub);
                take_turns().await;
            }
            Err(None) => {
                running.has_ended = true;
                return;
            }
            Err(Some(next)) => {
                let changed = hub.presence.agenda.changed.clone();
                drop(hub); // it may go meanwhile
                let _ = tokio::time::timeout_at(next, changed.notified()).await;
            }
        }
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Compared> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Compared {
        self.at.cmp(&other.at)
    }
}

/// Tasks done before others of the thread have their turn.
const TURN: usize = 64;
