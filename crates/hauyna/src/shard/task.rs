//! The task of a shard: it processes what was posted, checks deadlines, and sleeps. When its runtime ends or
//! is not driven, another runtime from which connections of the shard came continues: see `standby`.

use super::fanout::Remaining;
use super::{Shard, budget};
use crate::contain;
use crate::hub::HubCore;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, Sleep};

thread_local! {
    static HOME_SHARD: Cell<Option<usize>> = const { Cell::new(None) };
    /// Whether this thread is working for a shard.
    static IS_WORKING: Cell<bool> = const { Cell::new(false) };
}

/// Assigns the connections that this thread accepts to this shard: for servers with one runtime per core.
pub(crate) fn set_home(shard: usize) {
    HOME_SHARD.set(Some(shard));
}

impl HubCore {
    /// Returns the shard for a new connection, and starts its task.
    pub(crate) fn choose_shard(self: &Arc<Self>, id: u64) -> u8 {
        let shards = self.shards.len();
        #[expect(clippy::cast_possible_truncation, reason = "only the remainder counts")]
        let index = HOME_SHARD.get().unwrap_or(id as usize) % shards;
        self.start(index);
        u8::try_from(index).unwrap_or_default()
    }

    /// Starts a shard's task on this runtime, unless it runs already.
    pub(crate) fn start(self: &Arc<Self>, index: usize) {
        let shard = &self.shards[index];
        shard.has_started.store(true, Ordering::Release);
        let Ok(runtime) = Handle::try_current() else { return };
        shard.remember_runtime(&runtime);
        if !self.start_on(index, &runtime) {
            super::standby::ensure(self, index, &runtime);
        }
    }

    /// Starts the task on a runtime. Returns whether it was not running.
    fn start_on(self: &Arc<Self>, index: usize, runtime: &Handle) -> bool {
        let shard = &self.shards[index];
        let is_new = !shard.is_running.swap(true, Ordering::AcqRel);
        if is_new {
            let turn = shard.standby.begin_turn(runtime.id());
            runtime.spawn(serve(Running { hub: Arc::downgrade(self), index, runtime: runtime.id(), turn }));
        }
        is_new
    }

    /// Processes on this thread what was posted to a shard so far. For callers that cannot wait.
    pub(crate) fn process_inline(&self, index: usize) {
        let shard = &self.shards[index];
        let goal = shard.posted.load(Ordering::SeqCst);
        // If the work runs a destructor of the application that calls this, this thread has the lock already.
        while shard.processed.load(Ordering::SeqCst) < goal && !IS_WORKING.get() {
            if process(self, index, WaitPolicy::WaitForNobody) == Remaining::Late {
                shard.wait_for_task();
            }
        }
    }

    /// Gives up waiting for the task of a connection that did not run in time.
    pub(super) fn give_up_late_task(&self, index: usize) {
        let shard = &self.shards[index];
        if !IS_WORKING.get() && !shard.fanout.lock().must_wait_for_task() {
            shard.end_wait_for_task();
        }
    }
}

impl Shard {
    /// Notes a runtime that can run the task.
    fn remember_runtime(&self, runtime: &Handle) {
        let mut runtimes = self.runtimes.lock();
        if runtimes.iter().any(|known| known.id() == runtime.id()) {
            return;
        }
        if runtimes.len() >= MAX_RUNTIMES {
            runtimes.remove(0);
        }
        runtimes.push(runtime.clone());
    }

    /// Returns another runtime than the one that has ended.
    fn other_runtime(&self, ended: Id) -> Option<Handle> {
        let mut runtimes = self.runtimes.lock();
        runtimes.retain(|known| known.id() != ended);
        runtimes.last().cloned()
    }
}

/// Exists while a task of the shard does, working or on standby.
pub(super) struct Running {
    pub(super) hub: Weak<HubCore>,
    pub(super) index: usize,
    pub(super) runtime: Id,
    /// The turn of this task, as the shard counts them.
    pub(super) turn: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(hub) = self.hub.upgrade() else { return };
        let shard = &hub.shards[self.index];
        shard.standby.remove_runtime(self.runtime);
        if !shard.standby.is_turn(self.turn) {
            return; // another task works for the shard
        }
        shard.is_running.store(false, Ordering::Release);
        shard.notify_publishers();
        // A runtime that has ended, too, drops the new task at once, which then looks for the next runtime.
        match shard.other_runtime(self.runtime) {
            Some(runtime) => drop(hub.start_on(self.index, &runtime)),
            // Connections that have ended before this are still in the lists.
            None => hub.process_inline(self.index),
        }
    }
}

/// Works for the shard while it is this task's turn, and is on standby meanwhile.
pub(super) async fn serve(mut running: Running) {
    loop {
        run(&running).await;
        if super::standby::stand_by(&mut running).await.is_none() {
            return;
        }
    }
}

/// Whether the work waits for the task of a connection that has more queued than its bounds allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitPolicy {
    WaitForTasks,
    WaitForNobody,
}

/// Does one turn of the work.
fn process(hub: &HubCore, index: usize, policy: WaitPolicy) -> Remaining {
    let shard = &hub.shards[index];
    IS_WORKING.set(true);
    let result = contain::call(&hub.metrics.panics, || {
        let mut fanout = shard.fanout.lock();
        if policy == WaitPolicy::WaitForTasks {
            if fanout.must_wait_for_task() {
                return Remaining::Late;
            }
            shard.end_wait_for_task();
        }
        fanout.process(hub, shard, budget::TURN_COST)
    });
    IS_WORKING.set(false);
    // The work continues behind the step that panicked.
    result.unwrap_or(Remaining::Some)
}

/// Lets the other tasks of this thread run. Tokio's own `yield_now` returns only after the next poll of the
/// sockets, and a busy connection on this thread delays that by 61 of its own polls.
pub(crate) async fn yield_to_thread() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The times at which the task checks deadlines and sweeps.
struct Schedule {
    period: Duration,
    due: Instant,
    swept: Instant,
    /// Whether the timer has this task's waker. It is polled only before the task sleeps: during work the
    /// clock is enough.
    is_set: bool,
}

impl Schedule {
    fn set(&mut self, period: Duration, now: Instant, timer: Pin<&mut Sleep>) {
        self.period = period;
        self.due = now + period;
        timer.reset(self.due);
        self.is_set = false;
    }
}

/// Runs the task's turn. Returns when the hub is gone or another runtime works for the shard.
async fn run(running: &Running) {
    let now = Instant::now();
    let mut schedule =
        Schedule { period: SWEEP_INTERVAL, due: now + SWEEP_INTERVAL, swept: now, is_set: false };
    let mut timer = pin!(tokio::time::sleep_until(schedule.due));
    // Number of yields in a row to a connection's task.
    let mut yields = 0;
    loop {
        let next = poll_fn(|cx| wait(running, &mut schedule, timer.as_mut(), cx));
        let Some((hub, now)) = next.await else { return };
        let shard = &hub.shards[running.index];
        if !shard.is_idle() {
            match process(&hub, running.index, WaitPolicy::WaitForTasks) {
                Remaining::Nothing => yields = 0,
                Remaining::Some => {
                    yields = 0;
                    yield_to_thread().await;
                }
                // Usually that task is next on the same thread; otherwise a sleep costs it nothing.
                Remaining::Late if yields < YIELDS_BEFORE_SLEEP => {
                    yields += 1;
                    yield_to_thread().await;
                }
                Remaining::Late => tokio::time::sleep(SLEEP_INTERVAL).await,
            }
        }
        if now >= schedule.due {
            schedule.set(schedule.period, now, timer.as_mut());
            contain_panics(&hub, async { super::expiries::expire(&hub, running.index) }).await;
            let sweep = Duration::from_millis(shard.sweep_interval.load(Ordering::Relaxed).into());
            if now.duration_since(schedule.swept) >= sweep {
                schedule.swept = now;
                contain_panics(&hub, super::sweep::sweep(&hub, running.index)).await;
            }
        }
    }
}

/// Waits until there is something to do. Returns `None` when the task's turn is over.
fn wait(
    running: &Running,
    schedule: &mut Schedule,
    mut timer: Pin<&mut Sleep>,
    cx: &mut Context<'_>,
) -> Poll<Option<(Arc<HubCore>, Instant)>> {
    let Some(hub) = running.hub.upgrade() else { return Poll::Ready(None) };
    let shard = &hub.shards[running.index];
    if !shard.standby.note_alive(running.turn) {
        return Poll::Ready(None);
    }
    let now = Instant::now();
    let wanted = Duration::from_millis(shard.check_period.load(Ordering::Relaxed).into());
    if wanted < schedule.period {
        schedule.set(wanted, now, timer.as_mut());
    }
    if shard.is_idle() && now < schedule.due {
        let mut inbox = shard.inbox.lock();
        if !inbox.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            inbox.waker = Some(cx.waker().clone());
        }
        // An item that is posted from now on wakes the task.
        if shard.is_idle() && (schedule.is_set || timer.poll(cx).is_pending()) {
            schedule.is_set = true;
            return Poll::Pending;
        }
    }
    Poll::Ready(Some((hub, now)))
}

/// Runs a future; a panic ends only that future.
async fn contain_panics(hub: &HubCore, future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    poll_fn(|cx| contain::call(&hub.metrics.panics, || future.as_mut().poll(cx)).unwrap_or(Poll::Ready(())))
        .await;
}

/// Yields to a connection's task before the shard's task sleeps instead.
const YIELDS_BEFORE_SLEEP: u32 = 16;
const SLEEP_INTERVAL: Duration = Duration::from_millis(1);
/// Runtimes that a shard remembers, at most.
const MAX_RUNTIMES: usize = 4;
/// How often deadlines are checked, unless a handler needs it more often.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Milliseconds by which credentials may outlast their end.
pub(super) const EXPIRY_TOLERANCE: u32 = 200;
