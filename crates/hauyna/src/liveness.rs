//! Detects whether a background task is driven. A runtime may exist and yet not be driven, as between two
//! calls of `block_on`; then another task has to take over. `background` polls its tasks through this, and
//! checks them in the sweeps of the shards.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// Signs of life of the current task, and of those before it.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// Number of the current task; earlier ones end.
    turn: AtomicU64,
    /// Number of starts and ends of polls.
    polls: AtomicU64,
    /// Whether the task is being polled at this moment.
    is_polled: AtomicBool,
    /// Wakes the task to check whether it is driven.
    waker: Mutex<Option<Waker>>,
    /// The signs seen at the last check, and since when they are unchanged.
    seen: Mutex<Option<(Signs, Instant)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signs {
    turn: u64,
    polls: u64,
}

impl Liveness {
    /// Starts the turn of a new task and returns its number.
    pub(crate) fn begin_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(crate) fn is_turn(&self, turn: u64) -> bool {
        self.turn.load(Ordering::Acquire) == turn
    }

    /// Polls the future of a task. Returns `Ready(None)` if another task has taken over.
    pub(crate) fn poll<T>(
        &self,
        turn: u64,
        cx: &mut Context<'_>,
        poll_task: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Option<T>> {
        if !self.is_turn(turn) {
            return Poll::Ready(None);
        }
        let mut waker = self.waker.lock();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.is_polled.store(true, Ordering::Release);
        let polled = poll_task(cx);
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.is_polled.store(false, Ordering::Release);
        polled.map(Some)
    }

    /// Wakes the task to check whether it is driven; returns whether it has not been polled for too long. A
    /// task that blocks its thread counts as driven.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let (turn, polls) = (self.turn.load(Ordering::Acquire), self.polls.load(Ordering::Relaxed));
        let signs = Signs { turn, polls };
        let mut seen = self.seen.lock();
        let is_polled = self.is_polled.load(Ordering::Acquire);
        match *seen {
            Some((known, since)) if known == signs && !is_polled => {
                if now.saturating_duration_since(since) >= MAX_POLL_DELAY {
                    *seen = None;
                    return true;
                }
            }
            _ => *seen = Some((signs, now)),
        }
        drop(seen);
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
        false
    }
}

/// How long a task that was woken may take until it is polled.
const MAX_POLL_DELAY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_nobody_polls_is_idle_and_one_that_is_polled_or_blocks_is_not() {
        let (liveness, mut now) = (Liveness::default(), Instant::now());
        let cx = &mut Context::from_waker(Waker::noop());
        let first = liveness.begin_turn();
        for _ in 0..10 {
            assert!(!liveness.is_idle(now));
            now += MAX_POLL_DELAY;
            assert_eq!(liveness.poll(first, cx, |_| Poll::<()>::Pending), Poll::Pending);
        }
        let blocking = liveness.poll(first, cx, |_| {
            let is_idle = |step: u32| liveness.is_idle(now + MAX_POLL_DELAY * step);
            Poll::Ready((0..5).any(is_idle))
        });
        assert_eq!(blocking, Poll::Ready(Some(false)));
        now += MAX_POLL_DELAY * 5;
        assert!(!liveness.is_idle(now) && !liveness.is_idle(now + MAX_POLL_DELAY / 2));
        assert!(liveness.is_idle(now + MAX_POLL_DELAY));
        assert!(!liveness.is_idle(now + MAX_POLL_DELAY), "another one has just taken over");
        let second = liveness.begin_turn();
        assert_eq!(liveness.poll(first, cx, |_| Poll::Ready(())), Poll::Ready(None));
        assert_eq!(liveness.poll(second, cx, |_| Poll::Ready(())), Poll::Ready(Some(())));
    }
}
