//! The deadlines of the task: timeouts, retries and renewals.

use super::ClientTask;
use crate::clock::Moment;
use crate::gap::GapReason;
use crate::liveness::LivenessCheck;
use crate::socket::ConnectionLoss;
use tokio::time::Instant;

/// The deadlines that belong to no socket, request or subscription.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// The moment at which requests are sent even if a subscription is not answered.
    pub(super) restore_by: Option<Instant>,
    /// The moment at which subscriptions of the server count as ended if it has not restored them.
    pub(super) restored_lapse_at: Option<Instant>,
    /// The moment at which the credentials are renewed.
    pub(super) renew_at: Option<Instant>,
    /// The moment at which the client moves to another node, as a drain requires.
    pub(super) move_at: Option<Instant>,
}

impl Deadlines {
    /// Returns the earliest.
    fn next(&self) -> Option<Instant> {
        let Self { restore_by, restored_lapse_at, renew_at, move_at } = *self;
        [restore_by, restored_lapse_at, renew_at, move_at].into_iter().flatten().min()
    }

    /// Forgets all of them, because the connection has ended.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl ClientTask {
    /// Returns the next moment at which [`process_deadlines`](Self::process_deadlines) has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let Self { sockets, requests, subscriptions, deadlines, .. } = self;
        // Client events wait until the socket has room.
        let events = subscriptions.events_due.values().min().copied().filter(|_| sockets.has_room());
        [sockets.deadline(), requests.deadline(), subscriptions.deadline(), events, deadlines.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does everything whose deadline has passed.
    pub(super) fn process_deadlines(&mut self, now: Instant) {
        match self.sockets.check_liveness(now) {
            LivenessCheck::Ping => self.ping(),
            LivenessCheck::Lost => self.connection_lost(&ConnectionLoss::abnormal("nothing was heard")),
            LivenessCheck::Alive => {}
        }
        self.requests.outbox.expire(Moment::now());
        self.subscriptions.expire_waiters(now);
        self.requests.expire_waiters(now);
        self.advance_next_socket(now);
        self.expire_subscribes(now);
        self.expire_lists(now);
        if self.deadlines.restore_by.is_some_and(|by| now >= by) {
            // Subscriptions that the application or a rate limit delays continue after the requests.
            self.finish_restoring();
        }
        if self.deadlines.renew_at.take_if(|at| now >= *at).is_some() {
            self.fetch_renewed_token();
        }
        if self.deadlines.restored_lapse_at.take_if(|at| now >= *at).is_some() {
            self.end_all_unrestored();
        }
        for channel in self.subscriptions.take_due_retries(now) {
            self.subscriptions.enqueue(&channel);
        }
        for channel in self.subscriptions.take_due_history_retries(now) {
            self.request_history(&channel);
        }
        for channel in self.subscriptions.late_histories(now) {
            self.give_up_catch_up(&channel, GapReason::Dropped);
        }
    }
}
