//! One portion of a shard's work: what it may cost until other tasks of the thread have their turn. Used by `fanout`.

use crate::connection::{ConnectionCore, TaskUrgency};
use std::sync::Arc;

/// What one portion of the work may cost.
pub(super) struct WorkBudget {
    left: u32,
    pub(super) waiting_for: Option<Arc<ConnectionCore>>,
}

impl WorkBudget {
    pub(super) fn new(cost: u32) -> Self {
        Self { left: cost, waiting_for: None }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    pub(super) fn spend(&mut self, cost: u32) {
        self.left = self.left.saturating_sub(cost);
    }

    /// Ends where a connection's task has to run before the next message.
    pub(super) fn follow(&mut self, connection: &Arc<ConnectionCore>, task: TaskUrgency) {
        if task != TaskUrgency::No {
            self.left = 0;
        }
        if task == TaskUrgency::Now {
            self.waiting_for = Some(connection.clone());
        }
    }
}

/// Cost of a system call, of a message that is queued, and of a subscriber that is passed over.
pub(super) const WRITE_COST: u32 = 8;
pub(super) const PUSH_COST: u32 = 2;
pub(super) const SKIP_COST: u32 = 1;
/// Cost after which other tasks of the thread get their turn: 128 writes, about a millisecond.
pub(super) const TURN_COST: u32 = 128 * WRITE_COST;
