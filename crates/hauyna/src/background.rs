//! The background tasks of a hub: presence timers, sessions that expire, events on their way to listeners, a
//! drain, and callbacks whose own task is gone. One task for each job, which lives only while there is
//! something to do. The queues belong to the hub: when a task's runtime ends or is not driven, another
//! runtime that connections came with takes the job over, or the next one that calls into the hub. A panic
//! costs only the item it happens in.

use crate::cluster;
use crate::contain::{self, Contained};
use crate::guaranteed::Guaranteed;
use crate::hub::HubCore;
use crate::liveness::Liveness;
use crate::presence;
use crate::session;
use hauyna_broker::BoxFuture;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::time::Instant;

/// One kind of background work of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    Presence,
    Sessions,
    Events,
    Drain,
    /// Callbacks and calls to the broker that no other task waits for.
    Errands,
    /// The beat of this node, and what the directory has to be told.
    Cluster,
}

/// When a job has something to do again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    At(Instant),
    Never,
}

/// The jobs of one hub.
#[derive(Debug)]
pub(crate) struct Background {
    hub: Weak<HubCore>,
    tasks: [TaskState; Job::ALL.len()],
    /// Bits of the jobs that have something to do and no runtime.
    orphans: AtomicU32,
    /// Runtimes that connections came with, the newest last.
    runtimes: Mutex<Vec<Handle>>,
    errands: Mutex<VecDeque<Guaranteed>>,
}

/// Whether the task of one job exists.
#[derive(Debug, Default)]
struct TaskState {
    is_running: AtomicBool,
    /// Wakes the task before its timer.
    changed: Arc<Notify>,
    /// Whether the task's runtime is driven.
    liveness: Arc<Liveness>,
}

impl Background {
    pub(crate) fn new(hub: Weak<HubCore>) -> Self {
        Self {
            hub,
            tasks: Default::default(),
            orphans: AtomicU32::new(0),
            runtimes: Mutex::default(),
            errands: Mutex::default(),
        }
    }

    /// Starts the task of a job unless it runs, on this runtime or another; called after something was added
    /// to the job. May be called under any lock of the hub.
    pub(crate) fn ensure_running(&self, job: Job) {
        if self.tasks[job as usize].is_running.load(Ordering::SeqCst) {
            return;
        }
        match current_runtime() {
            Some(runtime) => self.start_on(job, &runtime),
            None => self.hand_over(job, None),
        }
    }

    /// Takes over, on this runtime, the jobs whose tasks are on a runtime that is not driven.
    pub(crate) fn adopt_stalled(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        for job in Job::ALL {
            let task = &self.tasks[job as usize];
            if task.is_running.load(Ordering::SeqCst) && task.liveness.is_idle(Instant::now()) {
                tracing::debug!(target: "hauyna::connection", ?job, "another runtime takes over");
                self.spawn_task(job, &runtime);
            }
        }
    }

    /// Wakes the task of a job, because what is due first has changed.
    pub(crate) fn wake(&self, job: Job) {
        self.tasks[job as usize].changed.notify_one();
    }

    /// Wakes the tasks so that they end with the hub.
    pub(crate) fn stop(&self) {
        for task in &self.tasks {
            task.changed.notify_one();
        }
    }

    /// Adds the runtime that a connection came with, so that it can take over jobs of other runtimes.
    pub(crate) fn remember_runtime(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut runtimes = self.runtimes.lock();
        if runtimes.iter().any(|known| known.id() == runtime.id()) {
            return;
        }
        runtimes.retain(is_alive);
        if runtimes.len() >= MAX_RUNTIMES {
            runtimes.remove(0);
        }
        runtimes.push(runtime);
    }

    /// Takes over, on this runtime, the jobs without one: one relaxed load if there are no such jobs.
    #[inline]
    pub(crate) fn adopt(&self) {
        if self.orphans.load(Ordering::Relaxed) != 0 {
            self.adopt_orphans();
        }
    }

    #[cold]
    fn adopt_orphans(&self) {
        let Some(runtime) = current_runtime() else { return };
        let orphans = self.orphans.swap(0, Ordering::AcqRel);
        for job in Job::ALL {
            if orphans & job.bit() != 0 {
                self.start_on(job, &runtime);
            }
        }
    }

    /// Runs a future that no task waits for to its end, on this runtime or on the next.
    pub(crate) fn finish_detached(&self, future: BoxFuture<()>) {
        if let Some(hub) = self.hub.upgrade() {
            self.spawn(Guaranteed::new(&hub, future));
        }
    }

    fn spawn(&self, future: Guaranteed) {
        match Handle::try_current() {
            // If the runtime ends before the future has started, it is passed to `keep`.
            Ok(runtime) => drop(runtime.spawn(future)),
            Err(_) => drop(future),
        }
    }

    /// Keeps a future that has not started for the next runtime.
    pub(crate) fn keep(&self, future: BoxFuture<()>) {
        let Some(hub) = self.hub.upgrade() else { return };
        let mut errands = self.errands.lock();
        if errands.len() >= MAX_ERRANDS {
            drop(errands);
            crate::log::limited("errands", || {
                tracing::warn!(target: "hauyna::connection", most = MAX_ERRANDS, "no runtime for a callback");
            });
            return contain::discard(&hub.metrics.panics, [future]);
        }
        errands.push_back(Guaranteed::new(&hub, future));
        drop(errands);
        self.ensure_running(Job::Errands);
    }

    fn start_on(&self, job: Job, runtime: &Handle) {
        if !self.tasks[job as usize].is_running.swap(true, Ordering::SeqCst) {
            self.spawn_task(job, runtime);
        }
    }

    /// Starts a task that replaces the one before.
    fn spawn_task(&self, job: Job, runtime: &Handle) {
        let TaskState { changed, liveness, .. } = &self.tasks[job as usize];
        let (changed, liveness) = (changed.clone(), liveness.clone());
        let turn = liveness.begin_turn();
        let running = Running { hub: self.hub.clone(), job, runtime: runtime.id(), turn, has_ended: false };
        runtime.spawn(async move {
            let mut job_loop = pin!(run(running, changed));
            let done = poll_fn(|cx| liveness.poll(turn, cx, |cx| job_loop.as_mut().poll(cx))).await;
            if done.is_none() && job == Job::Events {
                job_loop.await; // a listener that has started runs to its end
            }
        });
    }

    /// Starts the task of a job that the runtime `ended` has dropped on another one; if that has ended too,
    /// it is handed over again.
    fn hand_over(&self, job: Job, ended: Option<Id>) {
        let mut runtimes = self.runtimes.lock();
        runtimes.retain(|known| Some(known.id()) != ended);
        let next = runtimes.last().cloned();
        drop(runtimes);
        match next {
            Some(runtime) => self.start_on(job, &runtime),
            None => {
                self.orphans.fetch_or(job.bit(), Ordering::AcqRel);
                // The task that waits for the end of the hub takes the job over.
                if let Some(hub) = self.hub.upgrade() {
                    hub.lifecycle.wake();
                }
            }
        }
    }
}

impl Job {
    const ALL: [Self; 6] =
        [Self::Presence, Self::Sessions, Self::Events, Self::Drain, Self::Errands, Self::Cluster];

    fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Does some of the work that is due.
    async fn run_due(self, hub: &Arc<HubCore>, turn: u64) -> Due {
        match self {
            Self::Presence => presence::run_due(hub),
            Self::Sessions => session::end_due(hub),
            Self::Events => {
                let liveness = &hub.background.tasks[self as usize].liveness;
                hub.events.notify_pending(hub, || !liveness.is_turn(turn)).await
            }
            Self::Drain => hub.run_drain().await,
            Self::Errands => run_errands(&hub.background),
            Self::Cluster => cluster::run_due(hub).await,
        }
    }

    /// Whether there is anything to do, now or later.
    fn is_needed(self, hub: &HubCore) -> bool {
        match self {
            Self::Presence => presence::has_tasks(hub),
            Self::Sessions => hub.sessions.count() > 0,
            Self::Events => !hub.events.queue().is_idle(),
            Self::Drain => false,
            Self::Errands => !hub.background.errands.lock().is_empty(),
            Self::Cluster => hub.cluster.is_some(),
        }
    }
}

fn run_errands(background: &Background) -> Due {
    for _ in 0..MAX_ERRANDS_PER_TURN {
        let next = background.errands.lock().pop_front();
        let Some(errand) = next else { return Due::Never };
        background.spawn(errand);
    }
    Due::Now
}

/// Guard that exists while a task runs.
struct Running {
    hub: Weak<HubCore>,
    job: Job,
    runtime: Id,
    turn: u64,
    has_ended: bool,
}

impl Running {
    /// Ends the task when nothing is left to do. Returns false if something was added meanwhile by a thread
    /// that saw the task running.
    fn end(&mut self, hub: &HubCore) -> bool {
        let TaskState { is_running, liveness, .. } = &hub.background.tasks[self.job as usize];
        if !liveness.is_turn(self.turn) {
            self.has_ended = true; // another task has taken over
            return true;
        }
        is_running.store(false, Ordering::SeqCst);
        self.has_ended = !self.job.is_needed(hub) || is_running.swap(true, Ordering::SeqCst);
        self.has_ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(hub) = self.hub.upgrade().filter(|_| !self.has_ended) else { return };
        let TaskState { is_running, liveness, .. } = &hub.background.tasks[self.job as usize];
        if liveness.is_turn(self.turn) {
            is_running.store(false, Ordering::SeqCst);
            hub.background.hand_over(self.job, Some(self.runtime));
        }
    }
}

async fn run(mut running: Running, changed: Arc<Notify>) {
    loop {
        let Some(hub) = running.hub.upgrade() else { return };
        let (job, turn) = (running.job, running.turn);
        if !hub.background.tasks[job as usize].liveness.is_turn(turn) {
            return; // another task has taken over
        }
        let worker = hub.clone();
        // A panic that arrives here is a bug of ours: the item it happened in is gone, and the next one runs.
        let due =
            Contained::new(&hub.metrics.panics, Box::pin(async move { job.run_due(&worker, turn).await }))
                .await;
        match due.unwrap_or(Due::Now) {
            Due::Now => {
                drop(hub);
                crate::shard::yield_to_thread().await;
            }
            Due::At(next) => {
                drop(hub); // the hub may be dropped meanwhile
                let _ = tokio::time::timeout_at(next, changed.notified()).await;
            }
            Due::Never if running.end(&hub) => return,
            Due::Never => {}
        }
    }
}

/// Returns the current runtime, if it has the timers that the jobs need.
fn current_runtime() -> Option<Handle> {
    let runtime = Handle::try_current().ok()?;
    crate::clock::timers().is_ok().then_some(runtime)
}

/// Whether a runtime still runs new tasks. One that has ended drops them at once.
fn is_alive(runtime: &Handle) -> bool {
    let probe = runtime.spawn(std::future::poll_fn(|_| Poll::<()>::Pending));
    let is_alive = !probe.is_finished();
    probe.abort();
    is_alive
}

/// Maximum number of runtimes that a hub remembers.
const MAX_RUNTIMES: usize = 8;
/// Maximum number of callbacks that wait for a runtime.
const MAX_ERRANDS: usize = 16 * 1024;
/// Callbacks started before other tasks get their turn.
const MAX_ERRANDS_PER_TURN: usize = 64;
