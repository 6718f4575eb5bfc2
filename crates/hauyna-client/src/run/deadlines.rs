//! When the task has something to do without being told, and doing it: time-outs, retries, renewals. Part of
//! the task.

use super::ClientTask;
use super::catch_up::HeldMessages;
use super::requests::Purpose;
use super::sockets::NextSocket;
use super::subscriptions::WantedChannel;
use crate::clock::Moment;
use crate::gap::GapReason;
use crate::liveness::{Liveness, LivenessCheck};
use crate::socket::ConnectionLoss;
use tokio::time::Instant;

impl ClientTask {
    /// The next moment at which [`due`](Self::due) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let next = match &self.sockets.next {
            NextSocket::At(at) | NextSocket::Opened(_, at) | NextSocket::Greeting(_, at) => Some(*at),
            NextSocket::Idle | NextSocket::Offline | NextSocket::Opening(_) => None,
        };
        let former = self.sockets.former.as_ref().map(|former| former.until);
        let liveness = self.sockets.liveness.as_ref().map(Liveness::deadline);
        let waiting = self.subscriptions.wanted.values().filter_map(WantedChannel::deadline);
        let asked = self.requests.open.values().filter_map(Purpose::deadline);
        let catching = self.subscriptions.held.values().filter_map(|held| held.retry_at.or(held.answer_by));
        [
            next,
            former,
            liveness,
            self.requests.outbox.deadline(),
            self.refresh_at,
            self.drain_at,
            self.restore_by,
        ]
        .into_iter()
        .flatten()
        .chain(self.restored_lapse_at)
        .chain(self.subscriptions.queue.deadline())
        .chain(self.events_deadline())
        .chain(waiting)
        .chain(self.subscriptions.list_waiters.values().flatten().map(|waiter| waiter.answer_by))
        .chain(asked)
        .chain(catching)
        .min()
    }

    /// Does whatever its moment has come for.
    pub(super) fn due(&mut self, now: Instant) {
        match self.sockets.liveness.as_mut().map(|liveness| liveness.check(now)) {
            Some(LivenessCheck::Ping) => self.ping(),
            Some(LivenessCheck::Lost) => self.connection_lost(&ConnectionLoss::abnormal("nothing was heard")),
            Some(LivenessCheck::Alive) | None => {}
        }
        self.requests.outbox.expire(Moment::now());
        self.expire_waiters(now);
        self.continue_attempt(now);
        self.expire_subscriptions(now);
        self.expire_lists(now);
        if self.restore_by.is_some_and(|by| now >= by) {
            // What the application or a rate limit delays goes on behind the requests.
            self.restored();
        }
        if self.refresh_at.take_if(|at| now >= *at).is_some() {
            self.fetch_refresh();
        }
        if self.restored_lapse_at.take_if(|at| now >= *at).is_some() {
            self.give_up_lapsed();
        }
        let retry = |kept: &mut WantedChannel| kept.retry_at.take_if(|at| now >= *at).is_some();
        let due: Vec<_> = self
            .subscriptions
            .wanted
            .values_mut()
            .filter_map(|kept| retry(kept).then(|| kept.wish.channel.clone()))
            .collect();
        for channel in due {
            self.subscribe(&channel);
        }
        let retry = |(name, held): (&String, &mut HeldMessages)| {
            held.retry_at.take_if(|at| now >= *at).is_some().then(|| name.clone())
        };
        let due: Vec<_> = self.subscriptions.held.iter_mut().filter_map(retry).collect();
        for channel in due {
            self.ask_history(&channel);
        }
        let is_late = |held: &HeldMessages| held.answer_by.is_some_and(|by| now >= by);
        let late: Vec<_> = self
            .subscriptions
            .held
            .iter()
            .filter(|(_, held)| is_late(held))
            .map(|(name, _)| name.clone())
            .collect();
        for channel in late {
            self.give_up_catching(&channel, GapReason::Dropped);
        }
    }
}
