//! The queue of one connection. It has two lanes: replies and control frames first, then publications,
//! bounded in bytes and frames. Shards and the connection's task fill and write it under its lock; it never
//! waits. Where a bound is reached, the socket is asked before a policy acts.

use super::Outgoing;
use super::lanes::Lanes;
use super::latest::ReadingPace;
use super::queued::{QueueBounds, Queued};
use super::write::{SocketAnswer, TaskAttempt};
use crate::channel::{Subscription, SubscriptionPhase};
use crate::clock::Tick;
use crate::close::CloseReason;
use crate::transport::Socket;
use bytes::Bytes;
use hauyna_broker::Publication;
use std::sync::Arc;
use std::task::Waker;

#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) socket: Socket,
    /// The queues. Almost every connection has none almost always, so they are created when needed.
    pub(super) lanes: Option<Box<Lanes>>,
    pub(crate) phase: Phase,
    /// The time since which the socket accepts nothing.
    pub(crate) blocked: Option<Tick>,
    /// Whether the connection is on its shard's list of connections to flush.
    pub(super) is_enqueued: bool,
    /// How far the task, where it alone may write to the stream, is in finding out whether that accepts more.
    pub(super) task_attempt: TaskAttempt,
    /// Number of replies on their way through the shard; later replies must not overtake them.
    pub(crate) ordered_replies: u16,
    /// Whether the task closes the connection when everything that was read is answered, because the hub
    /// drains.
    pub(crate) closes_when_answered: bool,
    pub(crate) session_notice: SessionNotice,
    pub(crate) reason: Option<CloseReason>,
    pub(crate) waker: Option<Waker>,
}

/// What the client knows about its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionNotice {
    /// It negotiated no sub-protocol and gets no session message.
    Nothing,
    /// It has yet to get the session message, and nothing is written before that.
    Undecided,
    /// It knows that it has a session, but has no token to resume it.
    Session,
    /// It has a token, and `on_open` has yet to admit it. Until then no session is kept for it.
    Opening,
    /// It has a token, and `on_reconnect` has yet to finish.
    Reconnecting,
    /// It has a token to resume its session.
    Token,
}

impl SessionNotice {
    /// Whether the client has a token.
    pub(crate) fn is_token(self) -> bool {
        matches!(self, Self::Opening | Self::Reconnecting | Self::Token)
    }

    /// Whether the session is kept where the connection is lost.
    pub(crate) fn has_session(self) -> bool {
        matches!(self, Self::Reconnecting | Self::Token)
    }

    /// Whether a callback is running that decides whether the client may stay.
    pub(crate) fn is_undecided(self) -> bool {
        matches!(self, Self::Opening | Self::Reconnecting)
    }
}

/// The phase in the life of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// A close frame is queued since this time; nothing else will be queued.
    Closing(Tick),
    /// The close frame is written since this time; the peer's close frame or the end of the stream is
    /// awaited.
    Closed(Tick),
    /// Nothing more will be written or read.
    Gone,
}

/// The result of a flush.
#[derive(Debug)]
pub(crate) enum Flushed {
    Empty,
    /// The connection's task must wait for the socket.
    Blocked,
    Failed,
}

impl Outbox {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            lanes: None,
            phase: Phase::Open,
            blocked: None,
            is_enqueued: false,
            task_attempt: TaskAttempt::No,
            ordered_replies: 0,
            closes_when_answered: false,
            session_notice: SessionNotice::Nothing,
            reason: None,
            waker: None,
        }
    }

    /// Whether nothing is queued that may be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.as_ref().is_none_or(|lanes| lanes.is_empty()) || self.is_held()
    }

    /// Whether everything is held back: until the handshake is answered, or until the
    /// [session](Outbox::push_session) is announced.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.socket, Socket::Unanswered) || self.awaits_session()
    }

    fn awaits_session(&self) -> bool {
        self.session_notice == SessionNotice::Undecided && self.phase == Phase::Open
    }

    /// Whether the socket may accept data now.
    pub(super) fn may_write(&self) -> bool {
        self.blocked.is_none() && !self.is_held()
    }

    /// Assigns the time of this sweep to everything noted since the last one.
    pub(crate) fn set_times(&mut self, now: impl Fn() -> Tick) {
        self.blocked = self.blocked.map(|since| since.assign_time(&now));
        if let Phase::Closing(since) | Phase::Closed(since) = &mut self.phase {
            *since = since.assign_time(&now);
        }
    }

    /// Returns the queued bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.lanes.as_ref().map_or(0, |lanes| lanes.bytes())
    }

    /// Whether so much is queued that nothing more should be read from the client.
    pub(crate) fn is_over_bounds(&self, bounds: QueueBounds) -> bool {
        self.lanes.as_ref().is_some_and(|lanes| lanes.bytes() > bounds.bytes)
    }

    /// Whether too many answers and messages of the protocol are queued although the socket was asked. Other
    /// queued messages have bounds of their own, and a replay is no lag.
    pub(super) fn is_over_bounds_after_ask(&mut self, out: Outgoing<'_>) -> bool {
        self.bounds_after_ask(out, |lanes, bounds| lanes.has_answer_room(bounds)).is_err()
    }

    /// Whether the next page of a replay should be fetched.
    pub(crate) fn wants_replay(&self) -> bool {
        self.lanes.as_ref().is_some_and(|lanes| lanes.wants_replay())
    }

    pub(super) fn has_lanes(&self) -> bool {
        self.lanes.is_some()
    }

    pub(super) fn lanes(&mut self) -> &mut Lanes {
        self.lanes.get_or_insert_with(Box::default)
    }

    pub(super) fn existing_lanes(&mut self) -> Option<&mut Lanes> {
        self.lanes.as_deref_mut()
    }

    /// Frees the lanes if nothing is in them.
    pub(super) fn drop_unused_lanes(&mut self) {
        if self.lanes.as_ref().is_some_and(|lanes| lanes.is_unused()) {
            self.note_emptied();
            self.lanes = None;
        }
    }

    /// Notes that nothing is queued any more: what the socket answered last does not count for the next time.
    pub(super) fn note_emptied(&mut self) {
        (self.blocked, self.task_attempt) = (None, TaskAttempt::No);
    }

    /// Queues a reply before everything in the data lane. Reading pauses while too much is queued, which
    /// bounds the replies.
    pub(super) fn push_reply(&mut self, frame: Bytes) {
        if self.phase == Phase::Open {
            self.lanes().push_reply(frame);
        }
    }

    /// Queues a control frame that the client did not ask for, before everything in the data lane.
    pub(super) fn push_control(&mut self, frame: Bytes, out: Outgoing<'_>) -> Result<(), OutboxFull> {
        self.control_room(frame.len(), out)?;
        if self.phase == Phase::Open {
            self.lanes().push_control(frame);
        }
        Ok(())
    }

    /// Queues a notice about a subscription behind the replies to earlier requests: the last message that a
    /// client gets tells it whether it is subscribed.
    pub(super) fn push_notice(&mut self, frame: Bytes, out: Outgoing<'_>) -> Result<(), OutboxFull> {
        self.control_room(frame.len(), out)?;
        self.bounds_after_ask(out, Lanes::has_answer_room)?;
        self.push_reply(frame);
        Ok(())
    }

    /// Checks that one more frame fits into the control lane.
    pub(super) fn control_room(&mut self, bytes: usize, out: Outgoing<'_>) -> Result<(), OutboxFull> {
        self.bounds_after_ask(out, |lanes, bounds| lanes.has_control_room(bounds, bytes)).map(drop)
    }

    /// Queues the session message before everything that was held back until then.
    pub(crate) fn push_session(&mut self, frame: Bytes, notice: SessionNotice) {
        self.session_notice = notice;
        if self.phase == Phase::Open {
            self.lanes().push_first(frame);
        }
    }

    /// Queues a pong; a second one replaces it (RFC 6455 §5.5.3).
    pub(crate) fn push_pong(&mut self, frame: Bytes) {
        if self.phase == Phase::Open {
            self.lanes().set_pong(frame);
        }
    }

    /// Queues a message that the application sends to this connection alone, behind the publications.
    pub(super) fn push_frame(&mut self, frame: Bytes, out: Outgoing<'_>) -> Result<(), OutboxFull> {
        self.bounds_after_ask(out, |lanes, bounds| lanes.has_room(bounds, frame.len()))?;
        if self.phase == Phase::Open {
            self.lanes().push(Queued::Frame(frame));
        }
        Ok(())
    }

    /// Queues a reply that keeps its order among the publications.
    pub(super) fn push_ordered_reply(&mut self, frame: Bytes) {
        if self.phase == Phase::Open {
            self.lanes().push(Queued::Reply(frame));
        }
    }

    /// Whether messages are queued that a reply may have to stay behind.
    pub(super) fn has_data(&self) -> bool {
        self.lanes.as_ref().is_some_and(|lanes| lanes.has_data())
    }

    /// Queues a publication.
    pub(super) fn push(
        &mut self,
        publication: &Arc<Publication>,
        subscription: Option<&Arc<Subscription>>,
        out: Outgoing<'_>,
    ) -> Result<(), OutboxFull> {
        if self.phase != Phase::Open {
            return Ok(());
        }
        if let Some(subscription) = subscription {
            match subscription.phase() {
                SubscriptionPhase::Live => {}
                SubscriptionPhase::Replaying => {
                    self.lanes().leave_to_replay(publication, subscription, out);
                    return Ok(());
                }
                SubscriptionPhase::Ended => return Ok(()),
            }
        }
        if publication.is_client_event()
            && let Some(subscription) = subscription
        {
            self.push_client_event(publication, subscription, out);
            return Ok(());
        }
        let is_superseding =
            self.lanes.as_ref().is_some_and(|lanes| lanes.would_conflate(publication, subscription));
        let may_conflate =
            is_superseding && self.was_asked() && self.try_socket(out) == SocketAnswer::Refused;
        let bytes = publication.frame(out.wire, out.deflate).len();
        let bounds = match self.bounds_after_ask(out, |lanes, bounds| lanes.has_room(bounds, bytes)) {
            Ok(bounds) => bounds,
            Err(OutboxFull) => out.bounds,
        };
        if self.phase != Phase::Open {
            return Ok(());
        }
        self.lanes().push_publication(publication, subscription, Outgoing { bounds, may_conflate, ..out })
    }

    /// Queues a client event, which no policy concerns. Where an earlier one of its sender and type is
    /// queued, or the queue is full, the socket is asked first: only a client whose socket accepts nothing
    /// gets the latest event alone.
    fn push_client_event(
        &mut self,
        event: &Arc<Publication>,
        subscription: &Arc<Subscription>,
        out: Outgoing<'_>,
    ) {
        let bytes = event.frame(out.wire, out.deflate).len();
        let is_tried = self.is_stream_tried();
        let must_ask = self.lanes.as_deref().is_some_and(|Lanes { events, .. }| {
            !events.has_room(out.bounds, bytes) || is_tried && events.has_earlier(event, subscription)
        });
        let pace = match must_ask.then(|| self.try_socket(out)) {
            Some(SocketAnswer::Refused) => ReadingPace::Lagging,
            Some(SocketAnswer::Open) => ReadingPace::Unknown,
            Some(SocketAnswer::Taken) | None => ReadingPace::Reading,
        };
        if self.phase == Phase::Open {
            self.lanes().events.push(event, subscription, out, pace);
        }
    }

    /// Returns how many gaps have begun since the last call.
    pub(super) fn take_new_gaps(&mut self) -> u32 {
        let count = self.lanes.as_mut().map_or(0, |lanes| lanes.take_new_gaps());
        if count > 0 {
            self.drop_unused_lanes();
        }
        count
    }

    /// Drops the queued messages of a subscription. Returns whether the outbox is empty because of that.
    pub(super) fn remove_subscription(
        &mut self,
        subscription: &Arc<Subscription>,
        out: Outgoing<'_>,
    ) -> bool {
        let Some(lanes) = &mut self.lanes else { return false };
        lanes.remove_subscription(subscription, out);
        let is_emptied = lanes.is_unused();
        if is_emptied {
            self.note_emptied();
            self.lanes = None;
        }
        is_emptied
    }

    /// Queues a close frame, behind the queued messages or instead of them; nothing is queued after it.
    pub(crate) fn close(&mut self, frame: Bytes, reason: CloseReason, backlog: Backlog) {
        if self.phase != Phase::Open {
            return;
        }
        if self.awaits_session() {
            self.lanes = None; // a client without its session message cannot use them
        }
        self.phase = Phase::Closing(Tick::RECENT);
        self.reason.get_or_insert(reason);
        let lanes = self.lanes();
        lanes.drop_replays();
        if backlog == Backlog::Drop {
            lanes.drop_data();
        }
        lanes.push_last(frame);
    }

    /// Whether the client is connected to another socket, and only the task may write to this one: the task
    /// writes as much of the close frame as the stream accepts at once, and then ends the connection.
    pub(crate) fn is_replaced(&self) -> bool {
        self.reason == Some(CloseReason::Resumed) && self.socket.is_of_task()
    }

    /// Ends the connection: drops what is queued and closes the socket.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        self.reason.get_or_insert(reason);
        self.fail();
    }

    pub(super) fn fail(&mut self) -> Flushed {
        self.phase = Phase::Gone;
        self.reason.get_or_insert(CloseReason::Lost);
        self.lanes = None;
        self.blocked = None;
        self.socket = Socket::Gone;
        Flushed::Failed
    }
}

/// What happens to queued publications when a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backlog {
    Write,
    Drop,
}

/// The outbox is full and the policy is to disconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutboxFull;
