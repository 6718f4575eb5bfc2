//! Queues what a connection sends: between the shard and the outbox, with the checks for slow consumers.
//! Callbacks, shards and the sweep call it.

use super::queue::{Flushed, Outbox, OutboxFull};
use super::write::TaskUrgency;
use super::{Backlog, Phase};
use crate::channel::{Subscription, SubscriptionPhase};
use crate::close::CloseReason;
use crate::connection::{self, Connection, ConnectionCore, close_frame_of};
use crate::error::Error;
use crate::event::emit;
use crate::handler::Mode;
use crate::outbox::{Outgoing, QueueBounds, Widening};
use crate::shard::{FrameOrigin, Item, OrderedFrame, yield_to_thread};
use bytes::Bytes;
use hauyna_broker::Publication;
use hauyna_protocol::close::CloseCode;
use hauyna_protocol::{ErrorType, Message};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Returns the error for messages that exceed what may be queued before the connection's task, which alone
/// may write, has run.
fn task_not_run_yet() -> Error {
    Error::protocol(ErrorType::Unavailable, "too many messages are queued until the connection's task runs")
}

/// What queues and writes the messages of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Sender<'a> {
    pub(super) core: &'a Arc<ConnectionCore>,
}

impl ConnectionCore {
    /// Returns what queues and writes the messages of a connection.
    pub(crate) fn sender(self: &Arc<Self>) -> Sender<'_> {
        Sender { core: self }
    }
}

impl<'a> Sender<'a> {
    /// Queues a publication; the caller has to flush.
    pub(crate) fn push_publication(
        self,
        publication: &Arc<Publication>,
        subscription: Option<&Arc<Subscription>>,
    ) -> TaskUrgency {
        let mut outbox = self.core.outbox.lock();
        if outbox.push(publication, subscription, self.outgoing_for_inbox()) == Err(OutboxFull) {
            self.close_as_slow(&mut outbox);
        }
        self.notify_of_gaps(&mut outbox, subscription);
        outbox.task_is_due(self.bounded())
    }

    /// Whether its task still has to run.
    pub(crate) fn is_task_due(self) -> bool {
        self.core.outbox.lock().task_is_due(self.bounded()) == TaskUrgency::Now
    }

    /// Notes that its task has not run for a long time.
    pub(crate) fn mark_task_absent(self) {
        self.core.outbox.lock().mark_task_absent();
    }

    /// Queues a frame behind the publications; the caller has to flush.
    pub(crate) fn push_frame(self, frame: Bytes, origin: FrameOrigin) -> TaskUrgency {
        let mut outbox = self.core.outbox.lock();
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
    pub(crate) fn end_subscription(self, subscription: &Arc<Subscription>) {
        let mut outbox = self.core.outbox.lock();
        subscription.set_phase(SubscriptionPhase::Ended);
        if outbox.remove_subscription(subscription, self.outgoing()) {
            self.wake(&outbox);
        }
    }

    /// Queues a reply; the caller has to flush, and stops reading while too much is queued.
    pub(crate) fn push_reply(self, frame: Bytes) {
        self.core.outbox.lock().push_reply(frame);
    }

    /// Queues a message of the protocol that the client did not ask for, and has the shard write it. A client
    /// that does not read such messages is a slow consumer.
    pub(crate) fn push_control(self, frame: Bytes) {
        let mut outbox = self.core.outbox.lock();
        self.push_control_locked(&mut outbox, frame);
        drop(outbox);
        self.request_flush();
    }

    /// Does the same as [`ConnectionCore::push_control`] for a notice about a subscription: it goes behind
    /// the answers to earlier requests.
    pub(crate) fn push_notice(self, frame: Bytes) {
        let mut outbox = self.core.outbox.lock();
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
    pub(crate) fn check_control_room(self, outbox: &mut Outbox, bytes: usize) -> Result<(), Error> {
        let is_tried = outbox.is_stream_tried();
        match outbox.control_room(bytes, self.outgoing()) {
            Err(OutboxFull) if !is_tried => Err(task_not_run_yet()),
            Ok(()) | Err(OutboxFull) => Ok(()),
        }
    }

    /// Lets the connection's task run, which alone may write, if more is queued than the bounds allow.
    pub(crate) async fn let_task_write(self) {
        let is_due = self.core.outbox.lock().is_control_due(self.bounded());
        if is_due {
            yield_to_thread().await;
        }
    }

    /// Does the same as [`ConnectionCore::push_control`] for callers that hold the outbox's lock and flush
    /// themselves.
    pub(crate) fn push_control_locked(self, outbox: &mut Outbox, frame: Bytes) {
        if outbox.push_control(frame, self.outgoing()) == Err(OutboxFull) {
            self.close_as_slow(outbox);
        }
    }

    /// Closes a client as a slow consumer if it does not read messages that were queued without a check of
    /// the bounds.
    pub(crate) fn check_bounds(self) {
        let mut outbox = self.core.outbox.lock();
        if outbox.phase == Phase::Open && outbox.is_over_bounds_after_ask(self.outgoing()) {
            self.close_as_slow(&mut outbox);
        }
    }

    /// Marks the connection as enqueued in its shard's list. Returns false if it is in the list already or
    /// has nothing to write.
    pub(crate) fn enqueue_for_flush(self) -> bool {
        let mut outbox = self.core.outbox.lock();
        !outbox.is_empty() && !std::mem::replace(&mut outbox.is_enqueued, true)
    }

    pub(crate) fn flush_enqueued(self) {
        let mut outbox = self.core.outbox.lock();
        outbox.is_enqueued = false;
        self.flush(&mut outbox);
    }

    fn flush(self, outbox: &mut Outbox) {
        if outbox.is_empty() || outbox.blocked.is_some() && outbox.waker.is_some() {
            return; // nothing to do, or the connection's task waits for the socket
        }
        let flushed = outbox.flush(self.outgoing());
        self.wake_after_flush(outbox, &flushed);
    }

    /// Wakes the connection's task if the result of a flush requires it.
    fn wake_after_flush(self, outbox: &mut Outbox, flushed: &Flushed) {
        let must_wake = match flushed {
            Flushed::Empty => matches!(outbox.phase, Phase::Closed(_)) || outbox.wants_replay(),
            Flushed::Blocked | Flushed::Failed => true,
        };
        if must_wake {
            self.wake(outbox);
        }
    }

    /// Reads what a delivery needs first, to load it into the CPU cache.
    pub(crate) fn prefetch(self) -> u32 {
        u32::from(self.core.shard_list_count.load(Ordering::Relaxed))
            + u32::from(self.core.outbox.is_locked())
    }

    /// Writes `joined`, the concatenated frames of `publications`, directly to the socket: the fast path of a
    /// fan-out.
    pub(crate) fn write_publications(
        self,
        joined: &Bytes,
        publications: &[Arc<Publication>],
        subscription: Option<&Arc<Subscription>>,
    ) -> TaskUrgency {
        let mut outbox = self.core.outbox.lock();
        match outbox.write_or_push(joined, publications, subscription, self.outgoing_for_inbox()) {
            Ok(Flushed::Empty) if !outbox.has_lanes() => return TaskUrgency::No,
            Ok(flushed) => self.wake_after_flush(&mut outbox, &flushed),
            Err(OutboxFull) => self.close_as_slow(&mut outbox),
        }
        self.notify_of_gaps(&mut outbox, subscription);
        outbox.task_is_due(self.bounded())
    }

    /// Notifies listeners of the gaps that the last publications of this subscription began.
    pub(super) fn notify_of_gaps(self, outbox: &mut Outbox, subscription: Option<&Arc<Subscription>>) {
        let count = outbox.take_new_gaps();
        let Some(subscription) = subscription else { return };
        for _ in 0..count {
            emit!(
                self.core.hub().events,
                MessagesDropped {
                    connection: Connection::new(self.core.clone()),
                    channel: subscription.channel.name.clone(),
                }
            );
        }
    }

    pub(crate) fn close_as_slow(self, outbox: &mut Outbox) {
        self.count_slow_consumer();
        self.core.transitions().note_failure(outbox, CloseReason::SlowConsumer);
        let frame = close_frame_of(CloseCode::SLOW_CONSUMER, "slow consumer");
        outbox.close(frame, CloseReason::SlowConsumer, Backlog::Drop);
        self.wake(outbox);
    }

    pub(crate) fn count_slow_consumer(self) {
        self.core.hub().metrics.slow_consumers.increment();
        emit!(self.core.hub().events, SlowConsumer { connection: Connection::new(self.core.clone()) });
    }

    pub(crate) fn wake(self, outbox: &Outbox) {
        if let Some(waker) = &outbox.waker {
            waker.wake_by_ref();
        }
    }

    /// Sends a message of the application to this connection alone, behind everything that was sent to it
    /// before in any way.
    pub(crate) fn send(self, frame: Bytes) -> Result<(), Error> {
        let shard = &self.core.hub().shards[self.core.shard()];
        if !shard.is_drained() {
            self.core.check_open()?;
            let is_of_task = self.core.outbox.lock().socket.is_of_task();
            if is_of_task && self.core.hub().is_shard_congested(self.core.shard()) {
                return Err(task_not_run_yet());
            }
            let connection = self.core.clone();
            shard.post(Item::Frame(Box::new(OrderedFrame {
                connection,
                frame,
                origin: FrameOrigin::Application,
            })));
            if self.core.hub().is_shard_congested(self.core.shard()) {
                self.core.hub().process_inline(self.core.shard()); // this function is not async and cannot wait
            }
            return Ok(());
        }
        let mut outbox = self.core.outbox.lock();
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
    pub(crate) fn send_ordered_reply(self, frame: Bytes) {
        {
            let mut outbox = self.core.outbox.lock();
            outbox.ordered_replies = outbox.ordered_replies.saturating_add(1);
        }
        let connection = self.core.clone();
        self.core.hub().shards[self.core.shard()].post(Item::Frame(Box::new(OrderedFrame {
            connection,
            frame,
            origin: FrameOrigin::Protocol,
        })));
    }

    /// Whether something is on its way to the client that the reply of a callback may have to stay behind.
    pub(crate) fn has_before_reply(self) -> bool {
        !self.core.hub().shards[self.core.shard()].is_drained() || self.core.outbox.lock().has_data()
    }

    /// Whether replies are on their way through the shard.
    pub(super) fn has_ordered_replies(self) -> bool {
        self.core.outbox.lock().ordered_replies > 0
    }

    /// Writes the replies that are on their way through the shard, so that a reply sent in another way cannot
    /// overtake them.
    pub(crate) fn wait_for_ordered_replies(self) {
        if self.has_ordered_replies() {
            self.core.hub().process_inline(self.core.shard());
        }
    }

    /// Sends a message of the protocol before publications; a handler without the protocol sends none.
    ///
    /// # Errors
    ///
    /// The connection is closed, or too much is queued until its task has run.
    pub(crate) fn send_message(self, message: &Message<'_>) -> Result<(), Error> {
        if self.core.endpoint().mode == Mode::Protocol {
            self.core.check_open()?;
            let frame = connection::frame(self.core, message);
            self.check_control_room(&mut self.core.outbox.lock(), frame.len())?;
            self.push_control(frame);
            self.core.check_open()?;
        }
        Ok(())
    }

    pub(crate) fn request_flush(self) {
        self.core.hub().shards[self.core.shard()].post(Item::Flush(self.core.clone()));
    }

    pub(crate) fn outgoing(self) -> Outgoing<'a> {
        let (wire, deflate, traffic) = (self.core.wire(), self.core.deflate(), self.core.traffic());
        let (bounds, bounds_kind) = (self.bounded(), Widening::Short);
        Outgoing { wire, deflate, bounds, bounds_kind, may_conflate: false, traffic }
    }

    /// Does the same as [`outgoing`](Self::outgoing), for what was posted to its shard.
    pub(crate) fn outgoing_for_inbox(self) -> Outgoing<'a> {
        Outgoing { bounds_kind: Widening::Inbox, ..self.outgoing() }
    }

    pub(crate) fn bounded(self) -> QueueBounds {
        let limits = self.core.hub().config.outbox;
        QueueBounds { bytes: limits.bytes, frames: limits.frames }
    }

    /// Whether so much is queued that nothing more should be read.
    pub(crate) fn is_backed_up(self) -> bool {
        self.core.outbox.lock().is_over_bounds(self.bounded())
    }

    /// Returns the bytes that are queued.
    pub(crate) fn backlog(self) -> usize {
        self.core.outbox.lock().bytes()
    }
}
