//! What waits to be written to one connection, and the writing. Two lanes: replies and control first, then
//! publications, bounded in bytes and frames. Filled by shards and by the connection's task, each under
//! the outbox's lock; it never waits.

use super::lanes::{Lanes, Queued, Room};
use super::{CloseReason, Outgoing};
use crate::channel::{Publication, Subscription};
use crate::clock::Tick;
use crate::metrics::Traffic;
use crate::transport::Socket;
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::Waker;

#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) socket: Socket,
    /// Nothing waits for almost every connection almost always, so the lanes are made when needed.
    lanes: Option<Box<Lanes>>,
    pub(crate) phase: Phase,
    /// The socket took nothing since then.
    pub(crate) blocked: Option<Tick>,
    /// On the list of connections that their shard will flush.
    pub(crate) listed: bool,
    /// To be closed by its task when all that was read is answered: the hub drains.
    pub(crate) leaving: bool,
    pub(crate) told: Told,
    pub(crate) reason: Option<CloseReason>,
    pub(crate) waker: Option<Waker>,
}

/// What its client was told of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It negotiated no sub-protocol, and is told nothing.
    Nothing,
    /// It is to be told, and nothing is written before.
    NotYet,
    /// That it has one, without a way to resume it.
    Session,
    /// How to resume it.
    Token,
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// A close frame is queued, since then; nothing else will be.
    Closing(Tick),
    /// The close frame is written, since then; the peer's is awaited, or the end of the stream.
    Closed(Tick),
    /// Nothing more will be written or read.
    Gone,
}

/// What a flush came to.
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
            listed: false,
            leaving: false,
            told: Told::Nothing,
            reason: None,
            waker: None,
        }
    }

    /// Whether nothing waits that may be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_none() || self.is_held()
    }

    /// Whether all waits for the [session](Outbox::push_session).
    fn is_held(&self) -> bool {
        self.told == Told::NotYet && self.phase == Phase::Open
    }

    /// Whether the socket may take something now.
    fn may_write(&self) -> bool {
        self.blocked.is_none() && !self.is_held()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.lanes.as_ref().map_or(0, |lanes| lanes.bytes())
    }

    fn lanes(&mut self) -> &mut Lanes {
        self.lanes.get_or_insert_with(Box::default)
    }

    /// Queues a reply or control frame: before everything of the data lane.
    pub(crate) fn push_control(&mut self, frame: Bytes) {
        if self.phase == Phase::Open {
            self.lanes().push_control(frame);
        }
    }

    /// Queues the session message, before everything that has waited for it.
    pub(crate) fn push_session(&mut self, frame: Bytes, told: Told) {
        self.told = told;
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

    /// Queues a message of the application to this connection alone.
    pub(crate) fn push_frame(&mut self, frame: Bytes, room: Room) -> Result<(), Full> {
        if self.phase != Phase::Open {
            return Ok(());
        }
        self.lanes().push(Queued::Frame(frame), room)
    }

    /// Queues a publication.
    pub(crate) fn push(
        &mut self,
        publication: &Arc<Publication>,
        subscription: Option<&Arc<Subscription>>,
        out: Outgoing<'_>,
    ) -> Result<(), Full> {
        if self.phase != Phase::Open || subscription.is_some_and(|own| own.has_ended()) {
            return Ok(());
        }
        self.lanes().push_publication(publication, subscription, out)
    }

    /// Whether a gap has begun since this was last asked.
    pub(crate) fn take_new_gap(&mut self) -> bool {
        self.lanes.as_mut().is_some_and(|lanes| lanes.take_new_gap())
    }

    /// Drops what waits of a subscription; returns whether now nothing waits any more.
    pub(crate) fn forget(&mut self, own: &Arc<Subscription>, out: Outgoing<'_>) -> bool {
        let Some(lanes) = &mut self.lanes else { return false };
        lanes.forget(own, out);
        let is_emptied = lanes.is_empty();
        if is_emptied {
            self.lanes = None;
            self.blocked = None;
        }
        is_emptied
    }

    /// Writes `joined`, the frames of `publications` one behind the other, straight to the socket where
    /// nothing waits before them; what the socket does not take is queued.
    pub(crate) fn write_or_push(
        &mut self,
        (joined, publications): (&Bytes, &[Arc<Publication>]),
        subscription: &Arc<Subscription>,
        out: Outgoing<'_>,
    ) -> Result<Flushed, Full> {
        if self.phase != Phase::Open || subscription.has_ended() {
            return Ok(Flushed::Empty);
        }
        let mut sent = 0;
        if self.lanes.is_none() && self.may_write() {
            match self.socket.try_write(joined) {
                Ok(written) => {
                    out.traffic.sent.add(written as u64);
                    if written == joined.len() {
                        return Ok(Flushed::Empty);
                    }
                    sent = written;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Ok(self.fail()),
            }
            self.blocked = Some(out.now);
        }
        for publication in publications {
            let frame = publication.frame(out.wire, out.deflate);
            if sent >= frame.len() {
                sent -= frame.len();
            } else if sent > 0 {
                self.lanes().set_partial(frame.slice(sent..));
                sent = 0;
            } else {
                self.push(publication, Some(subscription), out)?;
            }
        }
        Ok(Flushed::Blocked)
    }

    /// Writes replies, already framed, at once if nothing waits before them.
    pub(crate) fn write_replies(&mut self, replies: &[u8], traffic: &Traffic, now: Tick) -> Flushed {
        if self.phase != Phase::Open || replies.is_empty() {
            return Flushed::Empty;
        }
        let is_free = self.lanes.as_ref().is_none_or(|lanes| !lanes.has_urgent());
        if !is_free || !self.may_write() {
            self.lanes().push_control(Bytes::copy_from_slice(replies));
            return Flushed::Blocked;
        }
        match self.socket.try_write(replies) {
            Ok(written) => {
                traffic.sent.add(written as u64);
                if written == replies.len() {
                    return Flushed::Empty;
                }
                self.blocked = Some(now);
                self.lanes().set_partial(Bytes::copy_from_slice(&replies[written..]));
                Flushed::Blocked
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = Some(now);
                self.lanes().push_control(Bytes::copy_from_slice(replies));
                Flushed::Blocked
            }
            Err(_) => self.fail(),
        }
    }

    /// Writes what waits, until nothing does or the socket takes no more.
    pub(crate) fn flush(&mut self, out: Outgoing<'_>) -> Flushed {
        let socket = std::mem::replace(&mut self.socket, Socket::Gone);
        let flushed = self.flush_with(out, &mut |slices| socket.try_write_vectored(slices));
        if !matches!(flushed, Flushed::Failed) {
            self.socket = socket;
        }
        flushed
    }

    /// As [`Outbox::flush`], with the writer of a connection whose task alone may write.
    pub(crate) fn flush_with(
        &mut self,
        out: Outgoing<'_>,
        write: &mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Flushed {
        if self.is_held() {
            return Flushed::Empty;
        }
        let Some(mut lanes) = self.lanes.take() else {
            self.blocked = None;
            return Flushed::Empty;
        };
        lanes.render_gaps(out);
        loop {
            let written = lanes.gather(out, &mut *write);
            match written {
                Ok(0) if lanes.bytes() > 0 => return self.fail(),
                Ok(written) => {
                    out.traffic.sent.add(written as u64);
                    self.blocked = None;
                    lanes.advance(written, out);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked.get_or_insert(out.now);
                    self.lanes = Some(lanes);
                    return Flushed::Blocked;
                }
                Err(_) => return self.fail(),
            }
            if lanes.is_empty() {
                if let Phase::Closing(_) = self.phase {
                    self.phase = Phase::Closed(out.now);
                }
                return Flushed::Empty;
            }
        }
    }

    /// Queues a close frame, behind what waits or instead of it; nothing is queued after it.
    pub(crate) fn close(&mut self, frame: Bytes, reason: CloseReason, backlog: Backlog, now: Tick) {
        if self.phase != Phase::Open {
            return;
        }
        if self.is_held() {
            self.lanes = None; // without its session a client makes nothing of it
        }
        self.phase = Phase::Closing(now);
        self.reason.get_or_insert(reason);
        let lanes = self.lanes();
        if backlog == Backlog::Drop {
            lanes.drop_data();
        }
        lanes.push_last(frame);
    }

    /// Its client is back on another socket: the task writes the close frame here as far as the stream takes it at
    /// once, and that is the end.
    pub(crate) fn is_parting(&self) -> bool {
        self.reason == Some(CloseReason::Resumed) && self.socket.is_of_task()
    }

    /// The end: drops what waits and closes the descriptor.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        self.reason.get_or_insert(reason);
        self.fail();
    }

    fn fail(&mut self) -> Flushed {
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
pub(crate) struct Full;
