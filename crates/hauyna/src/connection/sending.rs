//! What goes out of a connection, between its shard and its outbox. The first group only queues: whoever calls
//! it sees to the flush.

use super::ending::close_frame_of;
use super::outbox::{Flushed, Full, Outbox};
use super::{Backlog, CloseReason, Connection, ConnectionCore, Phase, Room};
use crate::channel::{Publication, Subscription};
use crate::clock::Tick;
use crate::error::Error;
use crate::event::{SystemEvent, SystemKind};
use crate::handler::Mode;
use crate::shard::Item;
use bytes::Bytes;
use hauyna_protocol::Message;
use hauyna_protocol::close::CloseCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl ConnectionCore {
    pub(crate) fn push_publication(
        self: &Arc<Self>,
        publication: &Arc<Publication>,
        own: Option<&Arc<Subscription>>,
    ) {
        self.push_in(publication, own, self.bounded());
    }

    pub(crate) fn push_replayed(self: &Arc<Self>, publication: &Arc<Publication>, own: &Arc<Subscription>) {
        self.push_in(publication, Some(own), Room::Replay);
    }

    /// From now on nothing of this subscription is queued; what waits is dropped.
    pub(crate) fn end_subscription(&self, own: &Arc<Subscription>) {
        let mut outbox = self.outbox.lock();
        own.ended.store(true, Ordering::Relaxed);
        if outbox.forget(own, self.outgoing(Room::Replay, self.now())) {
            self.wake(&outbox);
        }
    }

    fn push_in(
        self: &Arc<Self>,
        publication: &Arc<Publication>,
        own: Option<&Arc<Subscription>>,
        room: Room,
    ) {
        let mut outbox = self.outbox.lock();
        match outbox.push(publication, own, self.outgoing(room, self.now())) {
            Ok(()) => self.tell_of_gap(&mut outbox, own),
            Err(Full) => self.overflow(&mut outbox),
        }
    }

    pub(crate) fn push_control(&self, frame: Bytes) {
        self.outbox.lock().push_control(frame);
    }

    /// Puts the connection on its shard's list; false where it stands there already.
    pub(crate) fn list(&self) -> bool {
        let mut outbox = self.outbox.lock();
        !outbox.is_empty() && !std::mem::replace(&mut outbox.listed, true)
    }

    pub(crate) fn flush_listed(&self, now: Tick) {
        let mut outbox = self.outbox.lock();
        outbox.listed = false;
        self.flush(&mut outbox, now);
    }

    pub(super) fn flush(&self, outbox: &mut Outbox, now: Tick) {
        if outbox.is_empty() || outbox.blocked.is_some() && outbox.waker.is_some() {
            return; // nothing to do, or the connection's task waits for the socket
        }
        let flushed = outbox.flush(self.outgoing(self.bounded(), now));
        self.follow_up(outbox, &flushed);
    }

    /// Wakes the connection's task where a write asks for it.
    fn follow_up(&self, outbox: &mut Outbox, flushed: &Flushed) {
        let must_wake = match flushed {
            Flushed::Empty => matches!(outbox.phase, Phase::Closed(_)),
            Flushed::Blocked | Flushed::Failed => true,
        };
        if must_wake {
            self.wake(outbox);
        }
    }

    /// Reads what a delivery will need first, for the sake of the cache.
    pub(crate) fn touch(&self) -> u32 {
        u32::from(self.subscribed.load(Ordering::Relaxed)) + u32::from(self.outbox.is_locked())
    }

    /// The fast path of a fan-out: the bytes go straight to the socket.
    pub(crate) fn write_publications(
        self: &Arc<Self>,
        joined: (&Bytes, &[Arc<Publication>]),
        own: &Arc<Subscription>,
        now: Tick,
    ) {
        let mut outbox = self.outbox.lock();
        let out = self.outgoing(self.bounded(), now);
        match outbox.write_or_push(joined, own, out) {
            Ok(Flushed::Empty) => {}
            Ok(flushed) => {
                self.tell_of_gap(&mut outbox, Some(own));
                self.follow_up(&mut outbox, &flushed);
            }
            Err(Full) => self.overflow(&mut outbox),
        }
    }

    /// Tells listeners of a gap that the last publication of this subscription began.
    fn tell_of_gap(self: &Arc<Self>, outbox: &mut Outbox, own: Option<&Arc<Subscription>>) {
        if !outbox.take_new_gap() {
            return;
        }
        let Some(own) = own else { return };
        self.hub.events.emit(SystemKind::MessagesDropped, || {
            let connection = Connection::new(self.clone());
            SystemEvent::MessagesDropped { connection, channel: own.channel.name.clone() }
        });
    }

    fn overflow(self: &Arc<Self>, outbox: &mut Outbox) {
        self.count_slow();
        self.note_failure(outbox, CloseReason::SlowConsumer);
        let frame = close_frame_of(CloseCode::SLOW_CONSUMER, "slow consumer");
        outbox.close(frame, CloseReason::SlowConsumer, Backlog::Drop, self.now());
        self.wake(outbox);
    }

    pub(crate) fn count_slow(self: &Arc<Self>) {
        self.hub.metrics.slow_consumers.increment();
        self.hub.events.emit(SystemKind::SlowConsumer, || {
            let connection = Connection::new(self.clone());
            SystemEvent::SlowConsumer { connection }
        });
    }

    pub(super) fn wake(&self, outbox: &Outbox) {
        if let Some(waker) = &outbox.waker {
            waker.wake_by_ref();
        }
    }

    /// Queues a message to this connection alone and has its shard write it.
    pub(crate) fn send(self: &Arc<Self>, frame: Bytes) -> Result<(), Error> {
        let mut outbox = self.outbox.lock();
        if outbox.phase != Phase::Open {
            return Err(Error::closed());
        }
        if outbox.push_frame(frame, self.bounded()) == Err(Full) {
            self.overflow(&mut outbox);
            return Err(Error::closed());
        }
        drop(outbox);
        self.request_flush();
        Ok(())
    }

    /// Queues a message of the protocol, before publications; a handler without the protocol sends none.
    pub(crate) fn tell(self: &Arc<Self>, message: &Message<'_>) -> Result<(), Error> {
        if self.endpoint.mode == Mode::Protocol {
            let frame = super::frame(self, message);
            let mut outbox = self.outbox.lock();
            if outbox.phase != Phase::Open {
                return Err(Error::closed());
            }
            outbox.push_control(frame);
            drop(outbox);
            self.request_flush();
        }
        Ok(())
    }

    pub(crate) fn request_flush(self: &Arc<Self>) {
        self.hub.shards[self.shard()].post(Item::Flush(self.clone()));
    }
}
