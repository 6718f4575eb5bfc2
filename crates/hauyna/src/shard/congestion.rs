//! Backpressure: publishers wait while a shard that they write to is congested, and the shard wakes them. One
//! relaxed load shows that no shard is congested.

use super::Shard;
use crate::clock::TimeoutError;
use crate::connection::ConnectionCore;
use crate::hub::HubCore;
use hauyna_broker::{ChannelName, Target};
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

/// The number of congested shards of a hub.
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
    /// Returns the load of the items that were posted and not processed yet.
    fn load(&self) -> u64 {
        let processed = self.processed.load(Ordering::SeqCst);
        self.posted.load(Ordering::SeqCst).saturating_sub(processed)
    }

    #[cold]
    pub(super) fn note_congestion(&self) {
        if !self.is_congested.swap(true, Ordering::SeqCst) {
            self.congestion.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Notes that items of this load were processed, and wakes publishers if the load is low.
    pub(super) fn note_processed(&self, load: u64) {
        self.processed.fetch_add(load, Ordering::SeqCst);
        if self.is_congested.load(Ordering::SeqCst) {
            self.end_congestion();
        }
    }

    /// Ends the congestion and wakes the waiting publishers if the load is low. Returns whether it is low.
    fn end_congestion(&self) -> bool {
        let is_low = self.load() < RELIEVED_LOAD && !self.is_task_due.load(Ordering::SeqCst);
        if is_low && self.is_congested.swap(false, Ordering::SeqCst) {
            self.congestion.0.fetch_sub(1, Ordering::SeqCst);
            self.room_freed.notify_waiters();
        }
        is_low
    }

    /// Makes publishers wait, because the task of a connection has to run before more is published.
    pub(super) fn wait_for_task(&self) {
        self.is_task_due.store(true, Ordering::SeqCst);
        self.note_congestion();
        self.wake();
    }

    /// Notes that the shard waits for no task of a connection any more.
    pub(super) fn end_wait_for_task(&self) {
        if self.is_task_due.load(Ordering::Relaxed) {
            self.is_task_due.store(false, Ordering::SeqCst);
            self.end_congestion();
        }
    }

    /// Wakes everything that waits for the shard's task, which has ended.
    pub(super) fn notify_publishers(&self) {
        self.room_freed.notify_waiters();
    }

    fn is_congested(&self) -> bool {
        self.is_congested.load(Ordering::SeqCst)
    }
}

impl HubCore {
    /// Whether any shard is congested.
    pub(crate) fn is_congested(&self) -> bool {
        self.shards.congestion.0.load(Ordering::Relaxed) > 0
    }

    /// Whether a shard that writes publications in this channel is congested.
    pub(crate) fn is_congested_for(&self, channel: &ChannelName) -> bool {
        self.shards.congestion.0.load(Ordering::Relaxed) > 0 && self.congested_shard(channel).is_some()
    }

    /// Whether the shard of a connection is congested.
    pub(crate) fn is_shard_congested(&self, shard: usize) -> bool {
        self.shards.congestion.0.load(Ordering::Relaxed) > 0 && self.shards[shard].is_congested()
    }

    /// Returns a congested shard that has to write because of this connection's requests: its own, or one
    /// with subscribers of a channel that it is subscribed to.
    pub(crate) fn congested_shard_of(&self, connection: &Arc<ConnectionCore>) -> Option<usize> {
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

    /// Waits until no shard that writes publications in this channel is congested.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed if the future is dropped.
    pub(crate) async fn wait_for_channel_room(&self, channel: &ChannelName) {
        while self.shards.congestion.0.load(Ordering::Relaxed) > 0
            && let Some(shard) = self.congested_shard(channel)
        {
            self.wait_for_shard_room(shard).await;
        }
    }

    /// Does the same as [`HubCore::wait_for_channel_room`] for publications in many channels. It waits for
    /// each shard once: of many busy shards, one is congested at almost any time.
    pub(crate) async fn wait_for_any_room(&self) {
        for index in 0..self.shards.len() {
            if self.is_shard_congested(index) {
                self.wait_for_shard_room(index).await;
            }
        }
    }

    /// Processes what was posted to congested shards, on this thread: for callers that cannot wait and hold
    /// no lock.
    pub(crate) fn process_congested_inline(&self) {
        if self.shards.congestion.0.load(Ordering::Relaxed) > 0 {
            let congested = (0..self.shards.len()).filter(|index| self.shards[*index].is_congested());
            congested.for_each(|index| self.process_inline(index));
        }
    }

    /// Waits until a shard is not congested.
    pub(crate) async fn wait_for_shard_room(&self, index: usize) {
        let shard = &self.shards[index];
        loop {
            let mut room = pin!(shard.room_freed.notified());
            room.as_mut().enable();
            // Noted before the load is read: a thread that lowers the load afterwards sees that somebody
            // waits.
            shard.note_congestion();
            if shard.end_congestion() {
                return;
            }
            if !shard.is_running() {
                self.process_inline(index);
                shard.end_wait_for_task(); // no shard task waits for the connection's task
                shard.end_congestion();
                return;
            }
            let waited = match crate::clock::timeout(MAX_PUBLISHER_WAIT, room.as_mut()).await {
                Err(TimeoutError::NoTimers) => without_timers(MAX_PUBLISHER_WAIT, room).await,
                waited => waited,
            };
            // No task may be running on the shard's runtime at present; then the work is done here.
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

/// Waits for a future for a limited time on a runtime without timers. Such a runtime drives no connection, so
/// its thread may sleep.
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

/// Load from which publishers wait: so many small items, 16 MiB in memory or 256 MiB to be written.
pub(super) const CONGESTED_LOAD: u64 = 4096;
/// How long a publisher waits for a shard's task before it does the work itself.
const MAX_PUBLISHER_WAIT: Duration = Duration::from_secs(1);
/// How long a publisher without timers sleeps between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Load below which publishers continue.
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
        assert!(room.as_mut().poll(cx).is_ready(), "waits again although each shard had room once");
    }
}
