//! What handles tell the task without waiting, also from `Drop`. The queue is bounded by its subjects: a
//! channel is named once while its events wait, and a share ends once.

use super::subscriptions::Reply;
use crate::shared::ChannelShared;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A notification for the task.
pub(crate) enum WakeUp {
    /// Client events wait in this channel.
    Events(Arc<ChannelShared>),
    /// A share of a subscription has ended.
    Ended { channel: String, share: u64, reply: Reply<()> },
    /// A share of a subscription stays until the application unsubscribes.
    Kept { channel: String, share: u64 },
}

/// The notifications that the task has not handled yet.
#[derive(Default)]
pub(crate) struct WakeUps {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    wake_ups: VecDeque<WakeUp>,
    waker: Option<Waker>,
    is_closed: bool,
}

impl WakeUps {
    /// Adds a notification, unless the task has ended.
    pub(crate) fn push(&self, wake_up: WakeUp) {
        let mut waiting = self.waiting.lock();
        if !waiting.is_closed {
            waiting.wake_ups.push_back(wake_up);
        }
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<WakeUp> {
        let mut waiting = self.waiting.lock();
        if let Some(wake_up) = waiting.wake_ups.pop_front() {
            return Poll::Ready(wake_up);
        }
        waiting.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn next(&self) -> Option<WakeUp> {
        self.waiting.lock().wake_ups.pop_front()
    }

    /// Drops the notifications, because the task has ended. Callers that wait for an answer get none.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_closed = true;
        let wake_ups = std::mem::take(&mut waiting.wake_ups);
        drop(waiting);
        // A notification may hold the last handle on a channel.
        drop(wake_ups);
    }
}

impl fmt::Debug for WakeUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeUps")
            .field("waiting", &self.waiting.lock().wake_ups.len())
            .finish_non_exhaustive()
    }
}
