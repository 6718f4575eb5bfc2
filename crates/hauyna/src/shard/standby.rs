//! Whose turn it is to work for a shard, where its connections came with several runtimes. Each of them has a task; those
//! that are not at work look now and then whether the one that is shows life. A runtime may live and yet be driven by
//! nobody, as between two calls of `block_on`; then the next one takes over.

use super::task::{Running, serve};
use crate::hub::HubCore;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::{Handle, Id};

#[derive(Debug, Default)]
pub(super) struct Standby {
    /// Counts the turns; the newest task works.
    turn: AtomicU64,
    /// Grows while that task is driven: at least with each look at deadlines.
    sign_count: AtomicU64,
    /// Runtimes with a task of the shard.
    runtimes: Mutex<Vec<Id>>,
}

/// How far the shard is with its turns, and whether the one at work shows life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signs {
    turn: u64,
    life: u64,
}

impl Standby {
    /// A new task of this runtime is to work; returns its turn.
    pub(super) fn begin_turn(&self, runtime: Id) -> u64 {
        self.runtimes.lock().push(runtime);
        self.turn.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Returns the next turn, unless another one has it.
    fn take_turn(&self, last: u64) -> Option<u64> {
        let next = last + 1;
        let taken = self.turn.compare_exchange(last, next, Ordering::AcqRel, Ordering::Relaxed);
        taken.is_ok().then_some(next)
    }

    fn signs(&self) -> Signs {
        Signs { turn: self.turn.load(Ordering::Acquire), life: self.sign_count.load(Ordering::Relaxed) }
    }

    pub(super) fn is_turn(&self, turn: u64) -> bool {
        self.turn.load(Ordering::Acquire) == turn
    }

    /// A task is driven; returns whether it is its turn.
    pub(super) fn note_alive(&self, turn: u64) -> bool {
        let is_turn = self.is_turn(turn);
        if is_turn {
            // No other task writes it.
            self.sign_count.store(self.sign_count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        is_turn
    }

    /// A task of this runtime has ended.
    pub(super) fn remove_runtime(&self, runtime: Id) {
        self.runtimes.lock().retain(|known| *known != runtime);
    }
}

/// Has a task of this runtime stand by for a shard that another one works for, unless there is one.
pub(super) fn ensure(hub: &Arc<HubCore>, index: usize, runtime: &Handle) {
    let mut runtimes = hub.shards[index].standby.runtimes.lock();
    if !runtimes.contains(&runtime.id()) {
        runtimes.push(runtime.id());
        drop(runtimes);
        let running = Running { hub: Arc::downgrade(hub), index, runtime: runtime.id(), turn: NO_TURN };
        runtime.spawn(serve(running));
    }
}

/// Waits until it is this task's turn; `None` where the hub is gone.
pub(super) async fn stand_by(running: &mut Running) -> Option<()> {
    let (mut last, mut quiet) = (Signs { turn: NO_TURN, life: 0 }, 0);
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let hub = running.hub.upgrade()?;
        let shard = &hub.shards[running.index];
        let signs = shard.standby.signs();
        quiet = if signs == last { quiet + 1 } else { 0 };
        last = signs;
        let patience = if shard.is_drained() { MAX_SILENT_CHECKS } else { 1 };
        if quiet >= patience
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
/// How often a task that stands by looks at the one at work.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Looks without a sign of life after which it takes over where nothing waits to be written: deadlines are looked at each
/// second. Where something waits, one is enough.
const MAX_SILENT_CHECKS: u32 = 4;
