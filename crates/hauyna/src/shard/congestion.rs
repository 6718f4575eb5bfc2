//! Backpressure: publishers wait while a shard that they write to has too much to do, and the shard wakes them.
//! One relaxed load says that no shard is congested.

use super::Shard;
use crate::channel::{ChannelName, Target};
use crate::clock::TimeoutError;
use crate::connection::ConnectionCore;
use crate::hub::HubCore;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

/// How many shards of a hub are congested.
#[derive(Debug, Clone, Default)]
pub(crate) struct Congestion(Arc<AtomicUsize>);

/// The shards of a hub.
#[derive(Debug)]
pub(crate) struct Shards {
    shards: Box<[Shard]>,
    congestion: Congestion,
}

impl Shards {
    pub(crate) fn new(count: usize) -> Self {
        let congestion = Congestion::default();
        let shards = (0..count).map(|index| Shard::new(index, congestion.clone())).collect();
        Self { shards, congestion }
    }
}

impl Deref for Shards {
    type Target = [Shard];

    fn deref(&self) -> &[Shard] {
        &self.shards
    }
}

impl Shard {
    /// Load of the items that were posted and not yet worked off.
    fn load(&self) -> u64 {
        let served = self.processed.load(Ordering::SeqCst);
        self.posted.load(Ordering::SeqCst).saturating_sub(served)
    }

    #[cold]
    pub(super) fn note_congestion(&self) {
        if !self.is_congested.swap(true, Ordering::SeqCst) {
            self.congestion.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Notes that items of this load were worked off, and wakes who waited for that.
    pub(super) fn note_processed(&self, load: u64) {
        self.processed.fetch_add(load, Ordering::SeqCst);
        if self.is_congested.load(Ordering::SeqCst) {
            self.end_congestion();
        }
    }

    /// Whether the load is low; then whoever waits is woken.
    fn end_congestion(&self) -> bool {
        let is_low = self.load() < RELIEVED_LOAD && !self.is_task_due.load(Ordering::SeqCst);
        if is_low && self.is_congested.swap(false, Ordering::SeqCst) {
            self.congestion.0.fetch_sub(1, Ordering::SeqCst);
            self.room_freed.notify_waiters();
        }
        is_low
    }

    /// The task of a connection has to run before more is published.
    pub(super) fn wait_for_task(&self) {
        self.is_task_due.store(true, Ordering::SeqCst);
        self.note_congestion();
        self.wake();
    }

    /// No task of a connection is waited for any more.
    pub(super) fn end_wait_for_task(&self) {
        if self.is_task_due.load(Ordering::Relaxed) {
            self.is_task_due.store(false, Ordering::SeqCst);
            self.end_congestion();
        }
    }

    /// Wakes whoever waits for the shard's task, which has ended.
    pub(super) fn notify_publishers(&self) {
        self.room_freed.notify_waiters();
    }

    fn is_congested(&self) -> bool {
        self.is_congested.load(Ordering::SeqCst)
    }
}

impl HubCore {
    /// Whether any shard is past its bound.
    pub(crate) fn is_congested(&self) -> bool {
        self.shards.congestion.0.load(Ordering::Relaxed) > 0
    }

    /// Whether a shard that publications in this channel are written by is past its bound.
    pub(crate) fn is_congested_for(&self, channel: &ChannelName) -> bool {
        self.shards.congestion.0.load(Ordering::Relaxed) > 0 && self.congested_shard(channel).is_some()
    }

    /// Whether the shard of a connection is past its bound.
    pub(crate) fn is_shard_congested(&self, shard: usize) -> bool {
        self.shards.congestion.0.load(Ordering::Relaxed) > 0 && self.shards[shard].is_congested()
    }

    /// A shard past its bound that the requests of this connection make write: its own, or one with subscribers of a
    /// channel that it is subscribed to.
    pub(crate) fn congested_shard_of(&self, connection: &ConnectionCore) -> Option<usize> {
        if self.shards.congestion.0.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let shard = connection.shard();
        if self.shards[shard].is_congested() {
            return Some(shard);
        }
        let subscriptions = connection.subscriptions.lock().clone();
        subscriptions.iter().find_map(|subscription| self.congested_shard(&subscription.channel.name))
    }

    /// Waits until all shards that write publications in this channel have room.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed where the future is dropped.
    pub(crate) async fn wait_for_channel_room(&self, channel: &ChannelName) {
        while self.shards.congestion.0.load(Ordering::Relaxed) > 0
            && let Some(shard) = self.congested_shard(channel)
        {
            self.wait_for_shard_room(shard).await;
        }
    }

    /// As [`HubCore::wait_for_channel_room`], for what is told in many channels. Each shard is waited for once: of many that have much
    /// to do, one is past its bound at almost any time.
    pub(crate) async fn wait_for_any_room(&self) {
        for index in 0..self.shards.len() {
            if self.is_shard_congested(index) {
                self.wait_for_shard_room(index).await;
            }
        }
    }

    /// Works off what was posted to shards past their bound, on this thread: for callers that cannot wait, and hold no
    /// lock.
    pub(crate) fn process_congested_inline(&self) {
        if self.shards.congestion.0.load(Ordering::Relaxed) > 0 {
            let congested = (0..self.shards.len()).filter(|index| self.shards[*index].is_congested());
            congested.for_each(|index| self.process_inline(index));
        }
    }

    /// Waits until a shard has room.
    pub(crate) async fn wait_for_shard_room(&self, index: usize) {
        let shard = &self.shards[index];
        loop {
            let mut room = pin!(shard.room_freed.notified());
            room.as_mut().enable();
            // Said before the load is looked at: whoever lowers it then sees that somebody waits.
            shard.note_congestion();
            if shard.end_congestion() {
                return;
            }
            if !shard.is_running() {
                self.process_inline(index);
                shard.end_wait_for_task(); // nobody waits for it
                shard.end_congestion();
                return;
            }
            let waited = match crate::clock::timeout(MAX_PUBLISHER_WAIT, room.as_mut()).await {
                Err(TimeoutError::NoTimers) => without_timers(MAX_PUBLISHER_WAIT, room).await,
                waited => waited,
            };
            // The task may stand on a runtime that nobody drives at present: its work is done here then.
            if waited.is_err() {
                self.process_inline(index);
                self.give_up_late_task(index);
            }
        }
    }

    fn congested_shard(&self, channel: &ChannelName) -> Option<usize> {
        let mut congested = (0..self.shards.len()).filter(|index| self.shards[*index].is_congested());
        match channel.target() {
            Target::Everybody => congested.next(),
            Target::User(user) => {
                let connections = self.registry.of_user(user);
                congested.find(|index| connections.iter().any(|connection| connection.shard() == *index))
            }
            Target::Channel | Target::Group(_) => {
                let channel = self.channels.find(channel)?;
                let state = channel.state.lock();
                congested.find(|index| state.per_shard[*index] > 0)
            }
        }
    }
}

/// Waits for a future for so long, where the runtime has no timers. Such a runtime drives no connection, so that its thread
/// may sleep.
async fn without_timers(
    time: Duration,
    mut future: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), TimeoutError> {
    let until = Instant::now() + time;
    poll_fn(|cx| {
        if future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if Instant::now() >= until {
            return Poll::Ready(Err(TimeoutError::Elapsed));
        }
        std::thread::sleep(POLL_INTERVAL);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Load past which publishers wait: so many small items, 16 MiB in memory or 256 MiB to be written.
pub(super) const CONGESTED_LOAD: u64 = 4096;
/// How long a publisher waits for a shard's task.
const MAX_PUBLISHER_WAIT: Duration = Duration::from_secs(1);
/// How long a publisher without timers sleeps between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Load below which they go on.
const RELIEVED_LOAD: u64 = CONGESTED_LOAD / 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hub;
    use std::task::{Context, Waker};

    #[tokio::test]
    async fn who_waits_for_all_shards_waits_for_each_once() {
        let hub = Hub::builder().shards(2).build();
        let shards = &hub.0.shards;
        let congest = |shard: &Shard| {
            shard.is_running.store(true, Ordering::SeqCst);
            shard.posted.fetch_add(CONGESTED_LOAD, Ordering::SeqCst);
            shard.note_congestion();
        };
        let cx = &mut Context::from_waker(Waker::noop());
        let mut room = pin!(hub.0.wait_for_any_room());
        congest(&shards[0]);
        assert!(room.as_mut().poll(cx).is_pending());
        congest(&shards[1]);
        shards[0].note_processed(CONGESTED_LOAD);
        assert!(room.as_mut().poll(cx).is_pending());
        congest(&shards[0]);
        shards[1].note_processed(CONGESTED_LOAD);
        assert!(room.as_mut().poll(cx).is_ready(), "they may go on in turns for ever");
    }
}
