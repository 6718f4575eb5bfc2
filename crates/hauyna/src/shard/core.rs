//! One share of the connections of a hub: `Shard` with its inbox and the items that are posted to it.

use super::fanout::Fanout;
use super::standby::Standby;
use super::{Congestion, Expiries, congestion, task};
use crate::channel::{ChannelCore, Subscription};
use crate::connection::ConnectionCore;
use crate::counters::Traffic;
use bytes::Bytes;
use hauyna_broker::Publication;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// One share of a hub's connections.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(super) inbox: Mutex<Inbox>,
    /// Sum of the loads of all items that were ever posted.
    pub(super) posted: AtomicU64,
    /// Sum of the loads of all items that were processed: their receivers' sockets have been asked.
    pub(super) processed: AtomicU64,
    pub(super) fanout: Mutex<Fanout>,
    /// Whether publishers wait until the load is low again.
    pub(super) is_congested: AtomicBool,
    /// Whether inline processing has left more for a connection than its task, which alone may write, has
    /// taken yet.
    pub(super) is_task_due: AtomicBool,
    /// Notified when the load is low again.
    pub(super) room_freed: Notify,
    pub(super) congestion: Congestion,
    pub(super) is_running: AtomicBool,
    /// Whether a connection ever belonged to this shard.
    pub(super) has_started: AtomicBool,
    /// Runtimes from which connections of this shard came, newest last; one of them runs the task.
    pub(super) runtimes: Mutex<Vec<Handle>>,
    pub(super) standby: Standby,
    /// Milliseconds between two checks of the connections whose credentials end, or of all connections.
    pub(super) check_period: AtomicU32,
    /// Milliseconds between two sweeps over all connections.
    pub(super) sweep_interval: AtomicU32,
    pub(crate) expiries: Expiries,
    pub(crate) traffic: Traffic,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) items: VecDeque<Item>,
    /// Sum of [`Item::load`] over all items that were ever posted.
    load: u64,
    pub(super) waker: Option<Waker>,
}

/// A piece of work for a shard.
#[derive(Debug)]
pub(crate) enum Item {
    Publish {
        channel: Arc<ChannelCore>,
        publication: Arc<Publication>,
        /// Number of subscribers in this shard when it was posted.
        receivers: u32,
    },
    /// The subscriber has the publications up to offset `after`, or replays them.
    Subscribe {
        subscription: Arc<Subscription>,
        after: u64,
    },
    /// The replay of a subscription has reached offset `after`.
    Activate {
        subscription: Arc<Subscription>,
        after: u64,
    },
    Unsubscribe(Arc<Subscription>),
    /// The channel's stream continues under another epoch: the offsets that subscribers have no longer count.
    /// `notice` reports that to clients that negotiated a sub-protocol.
    EpochTurned {
        channel: Arc<ChannelCore>,
        notice: Arc<Publication>,
    },
    Direct {
        connection: Arc<ConnectionCore>,
        publication: Arc<Publication>,
    },
    /// A publication to the connections of a user that belong to this shard.
    User(Arc<Publication>),
    Everybody(Arc<Publication>),
    /// A frame for one connection, behind everything that was posted before it.
    Frame(Box<OrderedFrame>),
    /// Something was queued for this connection.
    Flush(Arc<ConnectionCore>),
}

/// A frame that keeps its order among the publications.
#[derive(Debug)]
pub(crate) struct OrderedFrame {
    pub(crate) connection: Arc<ConnectionCore>,
    pub(crate) frame: Bytes,
    pub(crate) origin: FrameOrigin,
}

/// The sender of a frame to one connection alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameOrigin {
    /// The application sends it, so it counts towards the bounds of the outbox.
    Application,
    /// It is a reply or a message of the protocol, which is bounded by what the client requested.
    Protocol,
}

impl Item {
    /// Returns its load: one for the item, one for each 4 KiB that it keeps in memory, and one for each 64
    /// KiB that it makes the shard write.
    pub(super) fn load(&self) -> u64 {
        let load = match self {
            Self::Publish { publication, receivers, .. } => {
                let (weight, written) = (publication.weight(), publication.weight_of_one());
                1 + weight / 4096 + (written / 64).saturating_mul(*receivers as usize) / 1024
            }
            Self::Direct { publication, .. } | Self::User(publication) | Self::Everybody(publication) => {
                1 + publication.weight() / 4096
            }
            Self::Frame(frame) => 1 + frame.frame.len() / 4096,
            Self::Subscribe { .. }
            | Self::Activate { .. }
            | Self::Unsubscribe(_)
            | Self::EpochTurned { .. }
            | Self::Flush(_) => 1,
        };
        load as u64
    }
}

thread_local! {
    /// Number of items that this thread has posted. A callback that posts nothing needs no ordered reply.
    static POST_COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Returns how many items this thread has posted so far.
pub(crate) fn post_count_of_thread() -> u64 {
    POST_COUNT.get()
}

/// Counts an earlier item of this thread again, for a request that was answered after the item was posted.
pub(crate) fn repeat_post_count() {
    POST_COUNT.set(POST_COUNT.get().wrapping_add(1));
}

impl Shard {
    pub(super) fn new(index: usize, congestion: Congestion) -> Self {
        Self {
            inbox: Mutex::default(),
            posted: AtomicU64::new(0),
            processed: AtomicU64::new(0),
            fanout: Mutex::new(Fanout::new(index)),
            is_congested: AtomicBool::new(false),
            is_task_due: AtomicBool::new(false),
            room_freed: Notify::new(),
            congestion,
            is_running: AtomicBool::new(false),
            has_started: AtomicBool::new(false),
            runtimes: Mutex::default(),
            standby: Standby::default(),
            check_period: AtomicU32::new(task::SWEEP_INTERVAL.as_millis() as u32),
            sweep_interval: AtomicU32::new(task::SWEEP_INTERVAL.as_millis() as u32),
            expiries: Expiries::default(),
            traffic: Traffic::default(),
        }
    }

    /// Posts an item to the shard. Never waits; it may be called under any lock except that of an outbox of
    /// the same shard.
    pub(crate) fn post(&self, item: Item) {
        let load = item.load();
        let mut inbox = self.inbox.lock();
        inbox.load += load;
        inbox.items.push_back(item);
        let posted = inbox.load;
        self.posted.store(posted, Ordering::SeqCst);
        let waker = inbox.waker.take();
        drop(inbox);
        POST_COUNT.set(POST_COUNT.get().wrapping_add(1));
        if posted.saturating_sub(self.processed.load(Ordering::Relaxed)) >= congestion::CONGESTED_LOAD {
            self.note_congestion();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn wake(&self) {
        let waker = self.inbox.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire)
    }

    /// Whether a connection ever belonged to this shard.
    pub(crate) fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Acquire)
    }

    /// Whether everything that was posted has been processed.
    pub(crate) fn is_drained(&self) -> bool {
        self.processed.load(Ordering::Acquire) == self.posted.load(Ordering::SeqCst)
    }

    /// Whether there is nothing to do and nothing to wait for.
    pub(super) fn is_idle(&self) -> bool {
        self.is_drained() && !self.is_task_due.load(Ordering::Acquire)
    }

    /// Makes the shard sweep at least this often from now on.
    pub(crate) fn sweep_every(&self, period: Duration) {
        let period = u32::try_from(period.as_millis()).unwrap_or(u32::MAX).max(5);
        self.sweep_interval.fetch_min(period, Ordering::Relaxed);
        self.check_at_least_every(period);
    }

    /// Returns the milliseconds between two sweeps over all connections.
    pub(super) fn sweep_period(&self) -> u32 {
        self.sweep_interval.load(Ordering::Relaxed)
    }

    /// Makes the shard check the connections whose credentials end more often from now on, and only those.
    pub(crate) fn watch_expiries(&self) {
        self.check_at_least_every(task::EXPIRY_TOLERANCE);
    }

    fn check_at_least_every(&self, period: u32) {
        if self.check_period.fetch_min(period, Ordering::Relaxed) > period {
            self.wake();
        }
    }
}
