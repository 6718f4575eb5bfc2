//! Queues what a connection sends: between the shard and the outbox, with the checks for slow consumers.
//! Callbacks, shards and the sweep call it.

use super::queue::{Flushed, Outbox, OutboxFull};
use super::write::TaskUrgency;
use super::{Backlog, Phase};
use crate::channel::{Subscription, SubscriptionPhase};
use crate::close::CloseReason;
use crate::connection::close_frame_of;
use crate::connection::{self, Connection, ConnectionCore};
use crate::error::Error;
use crate::event::{SystemEvent, SystemKind};
use crate::handler::Mode;
use crate::publication::Publication;
use crate::shard::{FrameOrigin, Item, OrderedFrame, yield_to_thread};
use bytes::Bytes;
use hauyna_protocol::close::CloseCode;
use hauyna_protocol::{ErrorType, Message};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl ConnectionCore {
    /// Queues a publication; the caller has to flush.
    pub(crate) fn push_publication(
        self: &Arc<Self>,
        publication: &Arc<Publication>,
        subscription: Option<&Arc<Subscription>>,
    ) -> TaskUrgency {
        let mut outbox = self.outbox.lock();
        if outbox.push(publication, subscription, self.outgoing_for_inbox()) == Err(OutboxFull) {
            self.close_as_slow(&mut outbox);
        }
        self.notify_of_gaps(&mut outbox, subscription);
        outbox.task_is_due(self.bounded())
    }

    /// Whether its task still has to run.
    pub(crate) fn is_task_due(&self) -> bool {
        self.outbox.lock().task_is_due(self.bounded()) == TaskUrgency::Now
    }

    /// Notes that its task has not run for a long time.
    pub(crate) fn mark_task_absent(&self) {
        self.outbox.lock().mark_task_absent();
    }

    /// Queues a frame behind the publications; the caller has to flush.
    pub(crate) fn push_frame(self: &Arc<Self>, frame: Bytes, origin: FrameOrigin) -> TaskUrgency {
        let mut outbox = self.outbox.lock();
        match origin {
            FrameOrigin::Protocol => {
                outbox.ordered_replies = outbox.ordered_replies.saturating_sub(1);
                outbox.push_ordered_reply(frame);
            }
            FrameOrigin::Application => {
                if outbox.push_frame(frame, self.outgoing_for_inbox()) == Err(OutboxFull) {
                    self.close_as_slow(&mut outbox);
                }
            }
        }
        outbox.task_is_due(self.bounded())
    }

    /// Ends a subscription in the outbox: nothing of it is queued from now on, and its queued messages are
    /// dropped.
    pub(crate) fn end_subscription(&self, subscription: &Arc<Subscription>) {
        let mut outbox = self.outbox.lock();
        subscription.set_phase(SubscriptionPhase::Ended);
        if outbox.remove_subscription(subscription, self.outgoing()) {
            self.wake(&outbox);
        }
    }

    /// Queues a reply; the caller has to flush, and stops reading while too much is queued.
    pub(crate) fn push_reply(&self, frame: Bytes) {
        self.outbox.lock().push_reply(frame);
    }

    /// Queues a message of the protocol that the client did not ask for, and has the shard write it. A client
    /// that does not read such messages is a slow consumer.
    pub(crate) fn push_control(self: &Arc<Self>, frame: Bytes) {
        let mut outbox = self.outbox.lock();
        self.push_control_locked(&mut outbox, frame);
        drop(outbox);
        self.request_flush();
    }

    /// Does the same as [`ConnectionCore::push_control`] for a notice about a subscription: it goes behind
    /// the answers to earlier requests.
    pub(crate) fn push_notice(self: &Arc<Self>, frame: Bytes) {
        let mut outbox = self.outbox.lock();
        if outbox.push_notice(frame, self.outgoing()) == Err(OutboxFull) {
            self.close_as_slow(&mut outbox);
        }
        drop(outbox);
        self.request_flush();
    }

    /// Checks whether a message of the protocol can be queued. A connection is not closed as slow before its
    /// task, which alone may write, has tried its stream.
    ///
    /// # Errors
    ///
    /// Too much is queued until the task has run.
    pub(crate) fn check_control_room(&self, outbox: &mut Outbox, bytes: usize) -> Result<(), Error> {
        let is_tried = outbox.is_stream_tried();
        match outbox.control_room(bytes, self.outgoing()) {
            Err(OutboxFull) if !is_tried => Err(task_not_run_yet()),
            Ok(()) | Err(OutboxFull) => Ok(()),
        }
    }

    /// Lets the connection's task run, which alone may write, if more is queued than the bounds allow.
    pub(crate) async fn let_task_write(&self) {
        let is_due = self.outbox.lock().is_control_due(self.bounded());
        if is_due {
            yield_to_thread().await;
        }
    }

    /// Does the same as [`ConnectionCore::push_control`] for callers that hold the outbox's lock and flush
    /// themselves.
    pub(crate) fn push_control_locked(self: &Arc<Self>, outbox: &mut Outbox, frame: Bytes) {
        if outbox.push_control(frame, self.outgoing()) == Err(OutboxFull) {
            self.close_as_slow(outbox);
        }
    }

    /// Closes a client as a slow consumer if it does not read messages that were queued without a check of
    /// the bounds.
    pub(crate) fn check_bounds(self: &Arc<Self>) {
        let mut outbox = self.outbox.lock();
        if outbox.phase == Phase::Open && outbox.is_over_bounds_after_ask(self.outgoing()) {
            self.close_as_slow(&mut outbox);
        }
    }

    /// Marks the connection as enqueued in its shard's list. Returns false if it is in the list already or
    /// has nothing to write.
    pub(crate) fn enqueue_for_flush(&self) -> bool {
        let mut outbox = self.outbox.lock();
        !outbox.is_empty() && !std::mem::replace(&mut outbox.is_enqueued, true)
    }

    pub(crate) fn flush_enqueued(&self) {
        let mut outbox = self.outbox.lock();
        outbox.is_enqueued = false;
        self.flush(&mut outbox);
    }

    fn flush(&self, outbox: &mut Outbox) {
        if outbox.is_empty() || outbox.blocked.is_some() && outbox.waker.is_some() {
            return; // nothing to do, or the connection's task waits for the socket
        }
        let flushed = outbox.flush(self.outgoing());
        self.wake_after_flush(outbox, &flushed);
    }

    /// Wakes the connection's task if the result of a flush requires it.
    fn wake_after_flush(&self, outbox: &mut Outbox, flushed: &Flushed) {
        let must_wake = match flushed {
            Flushed::Empty => matches!(outbox.phase, Phase::Closed(_)) || outbox.wants_replay(),
            Flushed::Blocked | Flushed::Failed => true,
        };
        if must_wake {
            self.wake(outbox);
        }
    }

    /// Whether it is in at most one list of its shard.
    pub(crate) fn has_one_list(&self) -> bool {
        self.shard_list_count.load(Ordering::Relaxed) <= 1
    }

    /// Counts one more list of its shard, and returns how many contain it now.
    pub(crate) fn enter_list(&self) -> u8 {
        let lists = self.shard_list_count.load(Ordering::Relaxed).saturating_add(1);
        self.shard_list_count.store(lists, Ordering::Relaxed);
        lists
    }

    /// Counts one list of its shard less.
    pub(crate) fn leave_list(&self) {
        let lists = self.shard_list_count.load(Ordering::Relaxed);
        if lists < u8::MAX {
            self.shard_list_count.store(lists.saturating_sub(1), Ordering::Relaxed);
        }
    }

    /// Returns its subscriptions, including those to the channels of its user's groups.
    pub(crate) fn all_subscriptions(&self) -> Vec<Arc<Subscription>> {
        let mut all = self.subscriptions.lock().clone();
        if let Some(cold) = self.cold.get() {
            all.extend(cold.groups.lock().iter().cloned());
        }
        all
    }

    /// Reads what a delivery needs first, to load it into the CPU cache.
    pub(crate) fn prefetch(&self) -> u32 {
        u32::from(self.shard_list_count.load(Ordering::Relaxed)) + u32::from(self.outbox.is_locked())
    }

    /// Writes `joined`, the concatenated frames of `publications`, directly to the socket: the fast path of a
    /// fan-out.
    pub(crate) fn write_publications(
        self: &Arc<Self>,
        joined: &Bytes,
        publications: &[Arc<Publication>],
        subscription: Option<&Arc<Subscription>>,
    ) -> TaskUrgency {
        let mut outbox = self.outbox.lock();
        match outbox.write_or_push(joined, publications, subscription, self.outgoing_for_inbox()) {
            Ok(Flushed::Empty) if !outbox.has_lanes() => return TaskUrgency::No,
            Ok(flushed) => self.wake_after_flush(&mut outbox, &flushed),
            Err(OutboxFull) => self.close_as_slow(&mut outbox),
        }
        self.notify_of_gaps(&mut outbox, subscription);
        outbox.task_is_due(self.bounded())
    }

    /// Notifies listeners of the gaps that the last publications of this subscription began.
    pub(super) fn notify_of_gaps(
        self: &Arc<Self>,
        outbox: &mut Outbox,
        subscription: Option<&Arc<Subscription>>,
    ) {
        let count = outbox.take_new_gaps();
        let Some(subscription) = subscription else { return };
        for _ in 0..count {
            self.hub().events.emit(SystemKind::MessagesDropped, || {
                let connection = Connection::new(self.clone());
                SystemEvent::MessagesDropped { connection, channel: subscription.channel.name.clone() }
            });
        }
    }

    pub(crate) fn close_as_slow(self: &Arc<Self>, outbox: &mut Outbox) {
        self.count_slow_consumer();
        self.note_failure(outbox, CloseReason::SlowConsumer);
        let frame = close_frame_of(CloseCode::SLOW_CONSUMER, "slow consumer");
        outbox.close(frame, CloseReason::SlowConsumer, Backlog::Drop);
        self.wake(outbox);
    }

    pub(crate) fn count_slow_consumer(self: &Arc<Self>) {
        self.hub().metrics.slow_consumers.increment();
        self.hub().events.emit(SystemKind::SlowConsumer, || {
            let connection = Connection::new(self.clone());
            SystemEvent::SlowConsumer { connection }
        });
    }

    pub(crate) fn wake(&self, outbox: &Outbox) {
        if let Some(waker) = &outbox.waker {
            waker.wake_by_ref();
        }
    }

    /// Sends a message of the application to this connection alone, behind everything that was sent to it
    /// before in any way.
    pub(crate) fn send(self: &Arc<Self>, frame: Bytes) -> Result<(), Error> {
        let shard = &self.hub().shards[self.shard()];
        if !shard.is_drained() {
            self.check_open()?;
            let is_of_task = self.outbox.lock().socket.is_of_task();
            if is_of_task && self.hub().is_shard_congested(self.shard()) {
                return Err(task_not_run_yet());
            }
            let connection = self.clone();
            shard.post(Item::Frame(Box::new(OrderedFrame {
                connection,
                frame,
                origin: FrameOrigin::Application,
            })));
            if self.hub().is_shard_congested(self.shard()) {
                self.hub().process_inline(self.shard()); // this function is not async and cannot wait
            }
            return Ok(());
        }
        let mut outbox = self.outbox.lock();
        if outbox.phase != Phase::Open {
            return Err(Error::closed());
        }
        let is_tried = outbox.is_stream_tried();
        let is_full = outbox.push_frame(frame, self.outgoing()) == Err(OutboxFull);
        if is_full && !is_tried {
            return Err(task_not_run_yet());
        }
        if is_full {
            self.close_as_slow(&mut outbox);
        }
        if outbox.phase != Phase::Open {
            return Err(Error::closed());
        }
        drop(outbox);
        self.request_flush();
        Ok(())
    }

    /// Queues a reply behind everything that its callback has sent. Later replies go the same way.
    pub(crate) fn send_ordered_reply(self: &Arc<Self>, frame: Bytes) {
        {
            let mut outbox = self.outbox.lock();
            outbox.ordered_replies = outbox.ordered_replies.saturating_add(1);
        }
        let connection = self.clone();
        self.hub().shards[self.shard()].post(Item::Frame(Box::new(OrderedFrame {
            connection,
            frame,
            origin: FrameOrigin::Protocol,
        })));
    }

    /// Whether something is on its way to the client that the reply of a callback may have to stay behind.
    pub(crate) fn has_before_reply(&self) -> bool {
        !self.hub().shards[self.shard()].is_drained() || self.outbox.lock().has_data()
    }

    /// Whether replies are on their way through the shard.
    pub(super) fn has_ordered_replies(&self) -> bool {
        self.outbox.lock().ordered_replies > 0
    }

    /// Writes the replies that are on their way through the shard, so that a reply sent in another way cannot
    /// overtake them.
    pub(crate) fn wait_for_ordered_replies(&self) {
        if self.has_ordered_replies() {
            self.hub().process_inline(self.shard());
        }
    }

    /// Sends a message of the protocol before publications; a handler without the protocol sends none.
    ///
    /// # Errors
    ///
    /// The connection is closed, or too much is queued until its task has run.
    pub(crate) fn send_message(self: &Arc<Self>, message: &Message<'_>) -> Result<(), Error> {
        if self.endpoint().mode == Mode::Protocol {
            self.check_open()?;
            let frame = connection::frame(self, message);
            self.check_control_room(&mut self.outbox.lock(), frame.len())?;
            self.push_control(frame);
            self.check_open()?;
        }
        Ok(())
    }

    pub(crate) fn request_flush(self: &Arc<Self>) {
        self.hub().shards[self.shard()].post(Item::Flush(self.clone()));
    }
}

/// Returns the error for messages that exceed what may be queued before the connection's task, which alone
/// may write, has run.
fn task_not_run_yet() -> Error {
    Error::protocol(ErrorType::Unavailable, "too many messages are queued until the connection's task runs")
}
