//! The deadlines of presence: a channel's next diff, the end of a lost connection's grace time. A task of the
//! hub's `background` runs what is due.

use super::{changes, notify};
use crate::background::{Due, Job};
use crate::channel::ChannelCore;
use crate::contain;
use crate::hub::HubCore;
use hauyna_broker::{ConnectionId, UserId};
use parking_lot::Mutex;
use std::cmp::{Ordering as Compared, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The tasks that wait for their deadline, ordered by it.
#[derive(Debug, Default)]
pub(super) struct Timers(Mutex<BinaryHeap<Reverse<Timer>>>);

#[derive(Debug)]
struct Timer {
    at: Instant,
    task: Task,
}

/// What to do at a deadline.
#[derive(Debug)]
pub(super) enum Task {
    /// Send a channel's diff or count.
    NotifyChannel(Arc<ChannelCore>),
    /// End the grace time of a connection.
    ExpireConnection(UserId, ConnectionId),
}

impl Timers {
    /// Adds a task that runs `after` this time. It may be called under any lock: the lock of the timers is
    /// innermost.
    pub(super) fn add(&self, hub: &HubCore, after: Duration, task: Task) {
        let entry = Timer { at: crate::clock::after(after), task };
        let mut entries = self.0.lock();
        let is_first = entries.peek().is_none_or(|Reverse(first)| entry.at < first.at);
        entries.push(Reverse(entry));
        drop(entries);
        if is_first {
            hub.background.wake(Job::Presence);
        }
        hub.background.ensure_running(Job::Presence);
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Returns one task that is due, or else when the next one will be.
    fn next_due(&self) -> Result<Task, Due> {
        let mut entries = self.0.lock();
        if entries.peek().is_some_and(|Reverse(first)| first.at <= Instant::now())
            && let Some(Reverse(entry)) = entries.pop()
        {
            return Ok(entry.task);
        }
        if entries.is_empty() {
            entries.shrink_to(64);
        }
        Err(entries.peek().map_or(Due::Never, |Reverse(first)| Due::At(first.at)))
    }
}

/// Runs up to `MAX_TASKS_PER_RUN` tasks that are due.
pub(crate) fn run_due(hub: &HubCore) -> Due {
    for _ in 0..MAX_TASKS_PER_RUN {
        let task = match hub.presence.timers.next_due() {
            Ok(task) => task,
            Err(due) => return due,
        };
        let _ = contain::call(&hub.metrics.panics, || match task {
            Task::NotifyChannel(channel) => notify::notify_pending(hub, &channel),
            Task::ExpireConnection(user, connection) => changes::expire(hub, &user, connection),
        });
    }
    Due::Now
}

/// Whether any task waits, due or not.
pub(crate) fn has_tasks(hub: &HubCore) -> bool {
    !hub.presence.timers.is_empty()
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Compared> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> Compared {
        self.at.cmp(&other.at)
    }
}

/// Maximum number of tasks in one run, before other tasks of the thread run.
const MAX_TASKS_PER_RUN: usize = 64;
