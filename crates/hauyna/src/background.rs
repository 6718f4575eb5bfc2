//! What a hub does beside its connections: presence that is due, sessions that end, events on their way to listeners, a
//! drain, and callbacks whose own task is gone. One task for each job, which lives only while there is something to do.
//! What is to be done belongs to the hub: when a task's runtime ends, or nobody drives it, another runtime that connections
//! came with goes on with it, or the next one that calls into the hub; a panic costs the item it happens in.

use crate::broker::BoxFuture;
use crate::contain::{self, Contained, Guaranteed};
use crate::hub::HubCore;
use crate::liveness::Liveness;
use crate::{presence, session};
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

/// One kind of work that a hub does beside its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    Presence,
    Sessions,
    Events,
    Drain,
    /// Callbacks and answers of the broker that no other task waits for.
    Errands,
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
    /// The jobs that have something to do and no runtime, as bits.
    orphans: AtomicU32,
    /// Runtimes that connections came with, the newest last.
    runtimes: Mutex<Vec<Handle>>,
    errands: Mutex<VecDeque<Guaranteed>>,
}

/// Whether the task of one job exists.
#[derive(Debug, Default)]
struct TaskState {
    is_running: AtomicBool,
    /// Wakes the task before its time.
    changed: Arc<Notify>,
    /// Whether its runtime is driven.
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

    /// Sees that the task of a job exists, on this runtime or another; called after something was added to the job. May be
    /// called under any lock of the hub.
    pub(crate) fn ensure_running(&self, job: Job) {
        if self.tasks[job as usize].is_running.load(Ordering::SeqCst) {
            return;
        }
        match current_runtime() {
            Some(runtime) => self.start_on(job, &runtime),
            None => self.hand_over(job, None),
        }
    }

    /// Goes on, on this runtime, with the jobs whose tasks stand on a runtime that nobody drives.
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

    /// Has the task of a job look again: what is due first has changed.
    pub(crate) fn wake(&self, job: Job) {
        self.tasks[job as usize].changed.notify_one();
    }

    /// The hub is going: so do its tasks.
    pub(crate) fn stop(&self) {
        for task in &self.tasks {
            task.changed.notify_one();
        }
    }

    /// Notes the runtime that a connection came with, so that it can go on with what others leave behind.
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

    /// Goes on, on this runtime, with the jobs that have none: one relaxed load where there are no such jobs.
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

    /// Lets a future come to its end that nobody waits for, on this runtime or on the next.
    pub(crate) fn finish_detached(&self, future: BoxFuture<()>) {
        if let Some(hub) = self.hub.upgrade() {
            self.spawn(Guaranteed::new(&hub, future));
        }
    }

    fn spawn(&self, future: Guaranteed) {
        match Handle::try_current() {
            // Where the runtime ends before the future has begun, it comes back to `keep`.
            Ok(runtime) => drop(runtime.spawn(future)),
            Err(_) => drop(future),
        }
    }

    /// Keeps a future that has not begun for the next runtime.
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

    /// Starts a task that takes the turn of the one before.
    fn spawn_task(&self, job: Job, runtime: &Handle) {
        let TaskState { changed, liveness, .. } = &self.tasks[job as usize];
        let (changed, liveness) = (changed.clone(), liveness.clone());
        let turn = liveness.begin_turn();
        let running = Running { hub: self.hub.clone(), job, runtime: runtime.id(), turn, has_ended: false };
        runtime.spawn(async move {
            let mut work = pin!(run(running, changed));
            let done = poll_fn(|cx| liveness.poll(turn, cx, |cx| work.as_mut().poll(cx))).await;
            if done.is_none() && job == Job::Events {
                work.await; // a listener that has begun comes to its end
            }
        });
    }

    /// Starts the task of a job that `ended` has dropped on another runtime; one that has ended, too, drops it at once.
    fn hand_over(&self, job: Job, ended: Option<Id>) {
        let mut runtimes = self.runtimes.lock();
        runtimes.retain(|known| Some(known.id()) != ended);
        let next = runtimes.last().cloned();
        drop(runtimes);
        match next {
            Some(runtime) => self.start_on(job, &runtime),
            None => {
                self.orphans.fetch_or(job.bit(), Ordering::AcqRel);
                // Whoever waits for the end of the hub does it.
                if let Some(hub) = self.hub.upgrade() {
                    hub.lifecycle.wake();
                }
            }
        }
    }
}

impl Job {
    const ALL: [Self; 5] = [Self::Presence, Self::Sessions, Self::Events, Self::Drain, Self::Errands];

    fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Does some of what is due.
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

/// Exists while a task does.
struct Running {
    hub: Weak<HubCore>,
    job: Job,
    runtime: Id,
    turn: u64,
    has_ended: bool,
}

impl Running {
    /// Nothing is left to do. Returns false where something was added meanwhile by somebody who saw the task running.
    fn end(&mut self, hub: &HubCore) -> bool {
        let TaskState { is_running, liveness, .. } = &hub.background.tasks[self.job as usize];
        if !liveness.is_turn(self.turn) {
            self.has_ended = true; // another one is at work
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
            return; // another one is at work
        }
        let worker = hub.clone();
        // A panic that gets here is ours: the item it happened in is gone, and the next one has its turn.
        let due =
            Contained::new(&hub.metrics.panics, Box::pin(async move { job.run_due(&worker, turn).await }))
                .await;
        match due.unwrap_or(Due::Now) {
            Due::Now => {
                drop(hub);
                crate::shard::yield_to_thread().await;
            }
            Due::At(next) => {
                drop(hub); // it may go meanwhile
                let _ = tokio::time::timeout_at(next, changed.notified()).await;
            }
            Due::Never if running.end(&hub) => return,
            Due::Never => {}
        }
    }
}

/// The runtime that this is called on, where it has the timers that the jobs need.
fn current_runtime() -> Option<Handle> {
    let runtime = Handle::try_current().ok()?;
    crate::clock::timers().is_ok().then_some(runtime)
}

/// Whether a runtime still runs what it is given. One that has ended drops it at once.
fn is_alive(runtime: &Handle) -> bool {
    let probe = runtime.spawn(std::future::poll_fn(|_| Poll::<()>::Pending));
    let is_alive = !probe.is_finished();
    probe.abort();
    is_alive
}

/// Runtimes that a hub remembers.
const MAX_RUNTIMES: usize = 8;
/// Callbacks that wait for a runtime.
const MAX_ERRANDS: usize = 16 * 1024;
/// Callbacks begun before other tasks have their turn.
const MAX_ERRANDS_PER_TURN: usize = 64;
