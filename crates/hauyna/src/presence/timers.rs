//! What presence has to do later: send a channel's diff, let a lost connection's grace time end. Done by a task of
//! the hub's `background`.

use super::{changes, notify};
use crate::background::{Due, Job};
use crate::channel::{ChannelCore, UserId};
use crate::connection::ConnectionId;
use crate::contain;
use crate::hub::HubCore;
use parking_lot::Mutex;
use std::cmp::{Ordering as Compared, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The tasks that are not due yet.
#[derive(Debug, Default)]
pub(crate) struct Timers(Mutex<BinaryHeap<Reverse<Timer>>>);

#[derive(Debug)]
struct Timer {
    at: Instant,
    task: Task,
}

/// One thing to do.
#[derive(Debug)]
pub(super) enum Task {
    /// A channel's diff or count.
    NotifyChannel(Arc<ChannelCore>),
    /// The grace time of a connection ends.
    ExpireConnection(UserId, ConnectionId),
}

impl Timers {
    /// Innermost of the locks.
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

    /// What is due now, one at a time, else when the next will be.
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

/// Does up to a turn's worth of what is due.
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

/// Whether anything is to be done, now or later.
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

/// Tasks done before others of the thread have their turn.
const MAX_TASKS_PER_RUN: usize = 64;
