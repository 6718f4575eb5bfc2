//! Decides which task works for a shard whose connections come from several runtimes. Each runtime has a
//! task; those on standby check now and then whether the working one is alive. A runtime may exist and yet
//! not be driven, as between two calls of `block_on`; then the next task takes over. Called by `task`.

use super::task::{Running, serve};
use crate::hub::HubCore;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::{Handle, Id};

#[derive(Debug, Default)]
pub(super) struct Standby {
    /// Number of turns so far; the newest task works.
    turn: AtomicU64,
    /// Number that grows while that task is driven: at least with each check of deadlines.
    sign_count: AtomicU64,
    /// Runtimes that have a task of the shard.
    runtimes: Mutex<Vec<Id>>,
}

/// The turn of a shard, and the signs of life of the task that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signs {
    turn: u64,
    sign_count: u64,
}

impl Standby {
    /// Gives the turn to a new task of this runtime. Returns the number of the turn.
    pub(super) fn begin_turn(&self, runtime: Id) -> u64 {
        self.runtimes.lock().push(runtime);
        self.turn.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Takes the next turn. Returns `None` if another task has taken it.
    fn take_turn(&self, last: u64) -> Option<u64> {
        let next = last + 1;
        let taken = self.turn.compare_exchange(last, next, Ordering::AcqRel, Ordering::Relaxed);
        taken.is_ok().then_some(next)
    }

    fn signs(&self) -> Signs {
        Signs { turn: self.turn.load(Ordering::Acquire), sign_count: self.sign_count.load(Ordering::Relaxed) }
    }

    pub(super) fn is_turn(&self, turn: u64) -> bool {
        self.turn.load(Ordering::Acquire) == turn
    }

    /// Notes that a task is driven. Returns whether it is its turn.
    pub(super) fn note_alive(&self, turn: u64) -> bool {
        let is_turn = self.is_turn(turn);
        if is_turn {
            // No other task writes this value.
            self.sign_count.store(self.sign_count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        is_turn
    }

    /// Notes that a task of this runtime has ended.
    pub(super) fn remove_runtime(&self, runtime: Id) {
        self.runtimes.lock().retain(|known| *known != runtime);
    }
}

/// Starts a standby task on this runtime for a shard that another runtime works for, unless there is one.
pub(super) fn ensure(hub: &Arc<HubCore>, index: usize, runtime: &Handle) {
    let mut runtimes = hub.shards[index].standby.runtimes.lock();
    if !runtimes.contains(&runtime.id()) {
        runtimes.push(runtime.id());
        drop(runtimes);
        let running = Running { hub: Arc::downgrade(hub), index, runtime: runtime.id(), turn: NO_TURN };
        runtime.spawn(serve(running));
    }
}

/// Waits until it is this task's turn. Returns `None` if the hub is gone.
pub(super) async fn stand_by(running: &mut Running) -> Option<()> {
    let (mut last, mut silent_checks) = (Signs { turn: NO_TURN, sign_count: 0 }, 0);
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let hub = running.hub.upgrade()?;
        let shard = &hub.shards[running.index];
        let signs = shard.standby.signs();
        silent_checks = if signs == last { silent_checks + 1 } else { 0 };
        last = signs;
        let max_silent_checks = if shard.is_drained() { MAX_SILENT_CHECKS } else { 1 };
        if silent_checks >= max_silent_checks
            && let Some(turn) = shard.standby.take_turn(signs.turn)
        {
            running.turn = turn;
            shard.is_running.store(true, Ordering::Release);
            tracing::debug!(target: "hauyna::connection", shard = running.index, "another runtime takes over");
            return Some(());
        }
    }
}

/// The turn of a task that has had none.
const NO_TURN: u64 = u64::MAX;
/// How often a task on standby checks the working one.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Checks without a sign of life after which a task takes over if nothing is waiting to be written: deadlines
/// are checked each second. If something is waiting, one check is enough.
const MAX_SILENT_CHECKS: u32 = 4;
