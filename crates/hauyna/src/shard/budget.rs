//! The budget for one turn of a shard's work, after which other tasks of the thread run. Used by `fanout`.

use crate::connection::ConnectionCore;
use crate::outbox::TaskUrgency;
use std::sync::Arc;

/// What one turn of the work may cost.
pub(super) struct WorkBudget {
    remaining: u32,
    pub(super) waiting_for: Option<Arc<ConnectionCore>>,
}

impl WorkBudget {
    pub(super) fn new(cost: u32) -> Self {
        Self { remaining: cost, waiting_for: None }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.remaining == 0
    }

    pub(super) fn spend(&mut self, cost: u32) {
        self.remaining = self.remaining.saturating_sub(cost);
    }

    /// Ends the turn if a connection's task has to run before the next message.
    pub(super) fn follow(&mut self, connection: &Arc<ConnectionCore>, urgency: TaskUrgency) {
        if urgency != TaskUrgency::No {
            self.remaining = 0;
        }
        if urgency == TaskUrgency::Now {
            self.waiting_for = Some(connection.clone());
        }
    }
}

/// Cost of a system call, of queueing a message, and of a subscriber that is skipped.
pub(super) const WRITE_COST: u32 = 8;
pub(super) const PUSH_COST: u32 = 2;
pub(super) const SKIP_COST: u32 = 1;
/// Cost after which other tasks of the thread run: 128 writes, about a millisecond.
pub(super) const TURN_COST: u32 = 128 * WRITE_COST;
