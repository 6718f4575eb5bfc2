//! A shard: one task that writes to its share of the connections. It drains its inbox, joins what one
//! channel published into one buffer, and gives each subscriber one write. Its list of subscribers is
//! its own, so a fan-out takes no lock but each outbox's.

use crate::channel::{ChannelCore, Publication, Subscription};
use crate::clock::Tick;
use crate::connection::ConnectionCore;
use crate::hub::{Expiries, HubCore};
use crate::metrics::Traffic;
use parking_lot::Mutex;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;

mod fanout;
mod members;

use fanout::Fanout;

/// The inbox of a shard's task, and what others may know of it.
#[derive(Debug)]
pub(crate) struct Shard {
    inbox: Mutex<Inbox>,
    /// How much waits, for those who only want to know that.
    waiting: AtomicUsize,
    running: AtomicBool,
    /// The time of the last batch or sweep: precise enough for heartbeats, and free.
    now: AtomicU32,
    /// Milliseconds between two looks at the connections whose credentials end, or at all of them.
    period: AtomicU32,
    /// Milliseconds between two sweeps over all connections.
    sweep: AtomicU32,
    pub(crate) expiries: Expiries,
    pub(crate) traffic: Traffic,
}

#[derive(Debug, Default)]
struct Inbox {
    items: Vec<Item>,
    /// Of all of them; see [`Item::load`].
    load: usize,
    waker: Option<Waker>,
}

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum Item {
    Publish {
        channel: Arc<ChannelCore>,
        publication: Arc<Publication>,
    },
    /// Publications up to offset `after` came with the replay.
    Subscribe {
        subscription: Arc<Subscription>,
        after: u64,
    },
    Unsubscribe(Arc<Subscription>),
    /// The channel's stream goes on elsewhere: no offset that a subscriber has had counts any more. `notice` tells
    /// those who negotiated a sub-protocol.
    Turn {
        channel: Arc<ChannelCore>,
        notice: Arc<Publication>,
    },
    Direct {
        connection: Arc<ConnectionCore>,
        publication: Arc<Publication>,
    },
    /// To those connections of a user that are this shard's.
    User(Arc<Publication>),
    Everybody(Arc<Publication>),
    /// Somebody queued something for this connection.
    Flush(Arc<ConnectionCore>),
}

impl Item {
    /// One for the item, and one for each 4 KiB that it keeps in memory.
    fn load(&self) -> usize {
        match self {
            Self::Publish { publication, .. }
            | Self::Direct { publication, .. }
            | Self::User(publication)
            | Self::Everybody(publication) => 1 + publication.weight() / 4096,
            Self::Subscribe { .. } | Self::Unsubscribe(_) | Self::Turn { .. } | Self::Flush(_) => 1,
        }
    }
}

impl Shard {
    pub(crate) fn new() -> Self {
        Self {
            inbox: Mutex::default(),
            waiting: AtomicUsize::new(0),
            running: AtomicBool::new(false),
            now: AtomicU32::new(1),
            period: AtomicU32::new(SWEEP.as_millis() as u32),
            sweep: AtomicU32::new(SWEEP.as_millis() as u32),
            expiries: Expiries::default(),
            traffic: Traffic::default(),
        }
    }

    pub(crate) fn now(&self) -> Tick {
        Tick(self.now.load(Ordering::Relaxed))
    }

    pub(crate) fn post(&self, item: Item) {
        let mut inbox = self.inbox.lock();
        inbox.load += item.load();
        inbox.items.push(item);
        self.waiting.store(inbox.load, Ordering::Relaxed);
        let waker = inbox.waker.take();
        drop(inbox);
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
        self.running.load(Ordering::Acquire)
    }

    /// Whether so much is waiting that publishers should pause.
    fn is_congested(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= CONGESTED
    }

    /// Sweeps at least this often from now on.
    pub(crate) fn sweep_every(&self, period: Duration) {
        let period = u32::try_from(period.as_millis()).unwrap_or(u32::MAX).max(5);
        self.sweep.fetch_min(period, Ordering::Relaxed);
        self.look_every(period);
    }

    /// Looks often from now on at the connections whose credentials end, and at those alone.
    pub(crate) fn watch_expiries(&self) {
        self.look_every(EXPIRY);
    }

    fn look_every(&self, period: u32) {
        if self.period.fetch_min(period, Ordering::Relaxed) > period {
            self.wake();
        }
    }
}

/// Whether a publisher should let the shards catch up before it goes on.
pub(crate) fn is_congested(hub: &HubCore) -> bool {
    hub.shards.iter().any(Shard::is_congested)
}

thread_local! {
    static HOME: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Connections that this thread accepts belong to this shard: for servers with one runtime per core.
pub(crate) fn set_home(shard: usize) {
    HOME.set(Some(shard));
}

impl HubCore {
    /// The shard for a new connection, its task started.
    pub(crate) fn choose_shard(self: &Arc<Self>, id: u64) -> u8 {
        let shards = self.shards.len();
        #[expect(clippy::cast_possible_truncation, reason = "only the remainder counts")]
        let index = HOME.get().unwrap_or(id as usize) % shards;
        self.start(index);
        u8::try_from(index).unwrap_or_default()
    }

    /// Starts a shard's task on this runtime, unless it runs already.
    pub(crate) fn start(self: &Arc<Self>, index: usize) {
        if !self.shards[index].running.swap(true, Ordering::AcqRel) {
            self.shards[index].now.store(self.clock.tick().0, Ordering::Relaxed);
            tokio::spawn(run(Running { hub: Arc::downgrade(self), index }));
        }
    }
}

/// While the task lives. When its runtime drops it, the shard can be started on another.
struct Running {
    hub: Weak<HubCore>,
    index: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.shards[self.index].running.store(false, Ordering::Release);
        }
    }
}

/// Lets the other tasks of this thread have their turn. Tokio's own `yield_now` comes back only after the next
/// look at the sockets, and a busy connection on this thread puts that off for 61 turns of its own.
pub(crate) async fn take_turns() {
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

async fn run(running: Running) {
    let mut fanout = Fanout::new(running.index);
    let mut batch = Vec::new();
    let mut period = SWEEP;
    let mut due = Instant::now() + period;
    let mut timer = pin!(tokio::time::sleep_until(due));
    // The timer knows whom to wake. It is asked only before we rest: in work the clock says as much.
    let mut is_set = false;
    let mut swept = Instant::now();
    loop {
        let work = poll_fn(|cx| {
            let Some(hub) = running.hub.upgrade() else { return Poll::Ready(None) };
            let shard = &hub.shards[running.index];
            let now = Instant::now();
            let wanted = Duration::from_millis(shard.period.load(Ordering::Relaxed).into());
            if wanted < period {
                period = wanted;
                due = now + period;
                timer.as_mut().reset(due);
                is_set = false;
            }
            let mut inbox = shard.inbox.lock();
            std::mem::swap(&mut inbox.items, &mut batch);
            inbox.load = 0;
            shard.waiting.store(0, Ordering::Relaxed);
            if batch.is_empty() && now < due {
                if !inbox.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    inbox.waker = Some(cx.waker().clone());
                }
                if is_set || timer.as_mut().poll(cx).is_pending() {
                    is_set = true;
                    return Poll::Pending;
                }
            }
            drop(inbox);
            Poll::Ready(Some((hub, now)))
        });
        let Some((hub, now)) = work.await else { return };
        let tick = hub.clock.at(now);
        hub.shards[running.index].now.store(tick.0, Ordering::Relaxed);
        if !batch.is_empty() {
            fanout.serve(&hub, &mut batch, tick).await;
            if batch.capacity() > 4 * CONGESTED {
                batch = Vec::new();
            }
        }
        if now >= due {
            due = now + period;
            timer.as_mut().reset(due);
            is_set = false;
            crate::hub::expire(&hub, running.index);
            let sweep = Duration::from_millis(hub.shards[running.index].sweep.load(Ordering::Relaxed).into());
            if now.duration_since(swept) >= sweep {
                swept = now;
                crate::hub::sweep(&hub, running.index, tick).await;
            }
        }
    }
}

/// Every how long deadlines are looked at, unless a handler needs it more often.
const SWEEP: Duration = Duration::from_secs(1);
/// Milliseconds by which expired credentials may live on.
const EXPIRY: u32 = 200;
/// Load of an inbox past which publishers pause: so many small items, or 64 MiB of large ones.
const CONGESTED: usize = 16 * 1024;
