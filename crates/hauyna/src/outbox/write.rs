//! Writes an outbox: directly to the socket, from the queue, and by asking a full socket whether it accepts
//! more. Shards and the connection's task call it under the outbox's lock; it never waits.

use super::Outgoing;
use super::lanes::Lanes;
use super::queue::{Flushed, Outbox, OutboxFull, Phase};
use super::queued::{QueueBounds, Widening};
use crate::channel::{Subscription, SubscriptionPhase};
use crate::clock::Tick;
use crate::counters::Traffic;
use crate::transport::Socket;
use bytes::Bytes;
use hauyna_broker::Publication;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// How far a connection's task is in finding out whether its stream accepts more. A Tokio stream knows about
/// its socket only what the runtime has seen, and the runtime polls the sockets only now and then. So a
/// stream counts as full only if it accepts nothing after such a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskAttempt {
    /// The task was not asked since the outbox was last empty.
    No,
    /// The task was woken to try its stream.
    Woken,
    /// The task has tried since, and the stream accepted nothing; the runtime has yet to poll the sockets.
    Waiting,
    /// The runtime has polled the sockets.
    Looked,
    /// The task has tried once more, and the stream accepts nothing.
    Tried,
    /// The task has not run for a long time. Until it runs, its stream counts as full.
    Absent,
}

/// Whether a connection's task, which alone may write, has to run before more is queued for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum TaskUrgency {
    No,
    /// The bounds are reached.
    Soon,
    /// Half of what may be queued beyond the bounds, until the task has tried, is used up.
    Now,
}

/// How a socket responds when it is asked to accept more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketAnswer {
    /// It has accepted some or all of what was queued.
    Taken,
    /// It accepts nothing more.
    Refused,
    /// It has yet to be tried.
    Open,
}

impl Outbox {
    /// Returns the bounds that hold now. Where something does not fit into them, the socket is asked first:
    /// only a socket that accepts nothing belongs to a slow consumer.
    pub(super) fn bounds_after_ask(
        &mut self,
        out: Outgoing<'_>,
        fits: impl Fn(&Lanes, QueueBounds) -> bool,
    ) -> Result<QueueBounds, OutboxFull> {
        let does_fit = |outbox: &Self, bounds| outbox.lanes.as_ref().is_none_or(|lanes| fits(lanes, bounds));
        if does_fit(self, out.bounds) || self.phase != Phase::Open {
            return Ok(out.bounds);
        }
        let (was_asked, is_held) = (self.was_asked(), self.is_held());
        let bounds = match self.try_socket(out) {
            // A held outbox may not ask its socket for a long time.
            SocketAnswer::Open if is_held => out.bounds.widened(Widening::Short),
            SocketAnswer::Open if !was_asked => QueueBounds::UNBOUNDED,
            SocketAnswer::Open => out.bounds.widened(out.bounds_kind),
            SocketAnswer::Taken | SocketAnswer::Refused => out.bounds,
        };
        if does_fit(self, bounds) || self.phase != Phase::Open { Ok(bounds) } else { Err(OutboxFull) }
    }

    /// Whether the socket was asked since the outbox was last empty, or can be asked directly.
    pub(super) fn was_asked(&self) -> bool {
        self.task_attempt != TaskAttempt::No || self.blocked.is_some() || !self.socket.is_of_task()
    }

    /// Asks the socket to accept what is queued.
    pub(super) fn try_socket(&mut self, out: Outgoing<'_>) -> SocketAnswer {
        if self.is_held() {
            return SocketAnswer::Open; // it is asked once the handshake is answered and the session announced
        }
        if self.socket.is_of_task() {
            if let TaskAttempt::Tried | TaskAttempt::Absent = self.task_attempt {
                // The stream wakes the task when it accepts more, and the task writes then.
                return SocketAnswer::Refused;
            }
            if let TaskAttempt::No | TaskAttempt::Woken = self.task_attempt {
                self.task_attempt = TaskAttempt::Woken;
                if let Some(waker) = &self.waker {
                    waker.wake_by_ref();
                }
            }
            return SocketAnswer::Open;
        }
        let was_blocked = self.blocked.is_some();
        let socket = std::mem::replace(&mut self.socket, Socket::Gone);
        let flushed = self.flush_with(out, &mut |slices| socket.try_write_vectored_now(slices));
        if !matches!(flushed, Flushed::Failed) {
            self.socket = socket;
        }
        // The task has to wait for the socket, to fetch the next page of a replay, or to clean up.
        if (!was_blocked || !matches!(flushed, Flushed::Blocked))
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
        if matches!(flushed, Flushed::Blocked) { SocketAnswer::Refused } else { SocketAnswer::Taken }
    }

    /// Returns how urgently the connection's task has to try its stream, by how far the queue exceeds the
    /// bounds.
    pub(super) fn task_is_due(&self, bounds: QueueBounds) -> TaskUrgency {
        let is_open =
            matches!(self.task_attempt, TaskAttempt::Woken | TaskAttempt::Waiting | TaskAttempt::Looked);
        let Some(lanes) = self.lanes.as_ref().filter(|_| is_open && self.phase == Phase::Open) else {
            return TaskUrgency::No;
        };
        if lanes.has_room(bounds, 0) {
            TaskUrgency::No
        } else if lanes.has_room(bounds.widened(Widening::Short).halved(), 0) {
            TaskUrgency::Soon
        } else {
            TaskUrgency::Now
        }
    }

    /// Notes that the task has not run for a long time.
    pub(super) fn mark_task_absent(&mut self) {
        self.task_attempt = TaskAttempt::Absent;
    }

    /// Whether the task has tried, and should try once more after the runtime has polled the sockets.
    pub(crate) fn awaits_look(&self) -> bool {
        self.task_attempt == TaskAttempt::Waiting
    }

    /// Notes that the runtime has polled the sockets.
    pub(crate) fn note_look(&mut self) {
        if self.task_attempt == TaskAttempt::Waiting {
            self.task_attempt = TaskAttempt::Looked;
        }
    }

    /// Whether more control frames are queued than the bounds allow, and only the connection's task may write
    /// them.
    pub(super) fn is_control_due(&self, bounds: QueueBounds) -> bool {
        let is_over = |lanes: &Lanes| !lanes.has_control_room(bounds, 0);
        self.socket.is_of_task() && self.lanes.as_ref().is_some_and(|lanes| is_over(lanes))
    }

    /// Whether a reached bound says something about the peer: either the socket can be asked directly, or its
    /// stream has accepted nothing since the task tried.
    pub(super) fn is_stream_tried(&self) -> bool {
        let is_tried = matches!(self.task_attempt, TaskAttempt::Tried | TaskAttempt::Absent);
        !self.is_held() && (is_tried || !self.socket.is_of_task())
    }

    /// Whether more is queued than the bounds allow although the connection's task has tried its stream, and
    /// the policy is to disconnect.
    pub(crate) fn is_overdue(&self, bounds: QueueBounds) -> bool {
        let is_over = |lanes: &Lanes| lanes.is_over_bounds(bounds) && lanes.is_disconnecting();
        self.phase == Phase::Open
            && self.task_attempt == TaskAttempt::Tried
            && self.lanes.as_ref().is_some_and(|lanes| is_over(lanes))
    }

    /// Writes `joined`, the concatenated frames of `publications`, directly to the socket where nothing is
    /// queued before them; what the socket does not accept is queued.
    pub(super) fn write_or_push(
        &mut self,
        joined: &Bytes,
        publications: &[Arc<Publication>],
        subscription: Option<&Arc<Subscription>>,
        out: Outgoing<'_>,
    ) -> Result<Flushed, OutboxFull> {
        if self.phase != Phase::Open {
            return Ok(Flushed::Empty);
        }
        let is_live = subscription.is_none_or(|subscription| subscription.phase() == SubscriptionPhase::Live);
        let mut sent = 0;
        if is_live && self.lanes.is_none() && self.may_write() && !self.socket.is_of_task() {
            match self.socket.try_write(joined) {
                Ok(written) => {
                    out.traffic.sent.add(written as u64);
                    if written == joined.len() {
                        out.traffic.delivered.add(publications.len() as u64);
                        return Ok(Flushed::Empty);
                    }
                    sent = written;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Ok(self.fail()),
            }
            self.blocked = Some(Tick::RECENT);
        }
        for publication in publications {
            let frame = publication.frame(out.wire, out.deflate);
            if sent >= frame.len() {
                sent -= frame.len();
                out.traffic.delivered.increment();
            } else if sent > 0 {
                self.lanes().set_partial(frame.slice(sent..));
                out.traffic.delivered.increment();
                sent = 0;
            } else {
                self.push(publication, subscription, out)?;
            }
        }
        if self.may_write() && !self.socket.is_of_task() {
            return Ok(self.flush(out)); // something was queued before them, and the socket was not asked yet
        }
        Ok(if self.phase == Phase::Gone { Flushed::Failed } else { Flushed::Blocked })
    }

    /// Writes replies, already framed, at once if nothing is queued before them.
    pub(crate) fn write_replies(&mut self, replies: &[u8], traffic: &Traffic) -> Flushed {
        if self.phase != Phase::Open || replies.is_empty() {
            return Flushed::Empty;
        }
        let is_free = self.lanes.as_ref().is_none_or(|lanes| !lanes.has_urgent());
        if !is_free || !self.may_write() || self.socket.is_of_task() {
            self.lanes().push_reply(Bytes::copy_from_slice(replies));
            return Flushed::Blocked;
        }
        match self.socket.try_write(replies) {
            Ok(written) => {
                traffic.sent.add(written as u64);
                if written == replies.len() {
                    return Flushed::Empty;
                }
                self.blocked = Some(Tick::RECENT);
                self.lanes().set_partial(Bytes::copy_from_slice(&replies[written..]));
                Flushed::Blocked
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = Some(Tick::RECENT);
                self.lanes().push_reply(Bytes::copy_from_slice(replies));
                Flushed::Blocked
            }
            Err(_) => self.fail(),
        }
    }

    /// Writes the queue until it is empty or the socket accepts no more. A socket that only the connection's
    /// task may write to is not asked.
    pub(crate) fn flush(&mut self, out: Outgoing<'_>) -> Flushed {
        if self.is_held() {
            return Flushed::Empty;
        }
        if self.socket.is_of_task() {
            return if self.is_empty() { Flushed::Empty } else { Flushed::Blocked };
        }
        let socket = std::mem::replace(&mut self.socket, Socket::Gone);
        let flushed = self.flush_with(out, &mut |slices| socket.try_write_vectored(slices));
        if !matches!(flushed, Flushed::Failed) {
            self.socket = socket;
        }
        flushed
    }

    /// Does the same as [`Outbox::flush`], with the writer of a connection whose task alone may write.
    pub(crate) fn flush_with(
        &mut self,
        out: Outgoing<'_>,
        write: &mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Flushed {
        if self.is_held() {
            return Flushed::Empty;
        }
        let Some(mut lanes) = self.lanes.take() else {
            self.note_emptied();
            return Flushed::Empty;
        };
        lanes.render_gaps(out);
        while !lanes.is_empty() {
            let written = lanes.gather(out, &mut *write);
            match written {
                Ok(0) if lanes.bytes() > 0 => return self.fail(),
                Ok(written) => {
                    out.traffic.sent.add(written as u64);
                    self.blocked = None;
                    if self.task_attempt != TaskAttempt::No {
                        self.task_attempt = TaskAttempt::Woken;
                    }
                    lanes.advance(written, out);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked.get_or_insert(Tick::RECENT);
                    self.task_attempt = match self.task_attempt {
                        TaskAttempt::Woken | TaskAttempt::Absent => TaskAttempt::Waiting,
                        TaskAttempt::Looked => TaskAttempt::Tried,
                        asked => asked,
                    };
                    self.lanes = Some(lanes);
                    return Flushed::Blocked;
                }
                Err(_) => return self.fail(),
            }
        }
        self.note_emptied();
        if !lanes.is_unused() {
            self.lanes = Some(lanes);
        }
        if let Phase::Closing(_) = self.phase {
            self.phase = Phase::Closed(Tick::RECENT);
        }
        Flushed::Empty
    }
}
