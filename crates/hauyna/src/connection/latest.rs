//! Client events that wait for one connection, behind its publications and bounded apart from them, so that they never
//! count against a slow consumer: where the socket takes nothing, the latest of each sender and type. Part of `lanes`.

use super::Outgoing;
use super::queued::{QueueBounds, Widening};
use crate::channel::{Publication, Subscription};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct LatestEvents {
    waiting: VecDeque<WaitingEvents>,
    bytes: usize,
}

type WaitingEvents = (Arc<Publication>, Arc<Subscription>);

impl LatestEvents {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of the frames that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an event of the same sender and type waits.
    pub(super) fn has_earlier(&self, event: &Publication, subscription: &Arc<Subscription>) -> bool {
        self.waiting.iter().any(|waiting| is_superseded(waiting, event, subscription))
    }

    /// Whether one more fits where the consumer takes nothing. The first one always does.
    pub(super) fn has_room(&self, room: QueueBounds, bytes: usize) -> bool {
        self.fits(ReadingPace::Lagging.room(room), bytes)
    }

    /// Queues an event. Where the consumer takes nothing the earlier ones of its kind go, and where there is no room the
    /// oldest.
    pub(super) fn push(
        &mut self,
        event: &Arc<Publication>,
        subscription: &Arc<Subscription>,
        (out, pace): (Outgoing<'_>, ReadingPace),
    ) {
        let (bytes, room) = (event.frame(out.wire, out.deflate).len(), pace.room(out.bounds));
        let before = self.waiting.len();
        if pace == ReadingPace::Lagging || !self.fits(room, bytes) {
            self.remove(out, |waiting| is_superseded(waiting, event, subscription));
        }
        while !self.fits(room, bytes) && self.pop(out).is_some() {}
        out.traffic.client_events_dropped.add((before - self.waiting.len()) as u64);
        self.bytes += bytes;
        self.waiting.push_back((event.clone(), subscription.clone()));
    }

    fn fits(&self, room: QueueBounds, bytes: usize) -> bool {
        self.waiting.is_empty() || self.bytes + bytes <= room.bytes && self.waiting.len() < room.frames
    }

    fn remove(&mut self, out: Outgoing<'_>, is_removed: impl Fn(&WaitingEvents) -> bool) {
        let bytes = &mut self.bytes;
        self.waiting.retain(|waiting| {
            let is_kept = !is_removed(waiting);
            if !is_kept {
                *bytes -= waiting.0.frame(out.wire, out.deflate).len();
            }
            is_kept
        });
    }

    /// Drops those of a subscription that has ended.
    pub(super) fn remove_subscription(&mut self, subscription: &Arc<Subscription>, out: Outgoing<'_>) {
        self.remove(out, |(_, own)| Arc::ptr_eq(own, subscription));
    }

    pub(super) fn frames<'a>(&'a self, out: Outgoing<'a>) -> impl Iterator<Item = &'a Bytes> {
        self.waiting.iter().map(move |(event, _)| event.frame(out.wire, out.deflate))
    }

    /// Takes the first one out, to be written.
    pub(super) fn pop(&mut self, out: Outgoing<'_>) -> Option<Bytes> {
        let (event, _) = self.waiting.pop_front()?;
        let frame = event.frame(out.wire, out.deflate).clone();
        self.bytes -= frame.len();
        Some(frame)
    }
}

/// Whether a later event takes the place of one that waits.
fn is_superseded(
    (waiting, own): &WaitingEvents,
    later: &Publication,
    subscription: &Arc<Subscription>,
) -> bool {
    Arc::ptr_eq(own, subscription) && waiting.is_superseded_by(later)
}

/// How a consumer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadingPace {
    /// Its socket has taken all, as far as is known.
    Reading,
    /// Its socket can be written by its task alone, which has yet to try.
    Unknown,
    /// Its socket takes nothing.
    Lagging,
}

impl ReadingPace {
    /// How much may wait.
    fn room(self, room: QueueBounds) -> QueueBounds {
        let bounds = QueueBounds { bytes: room.bytes.min(MAX_BYTES), frames: room.frames.min(MAX_EVENTS) };
        if self == Self::Unknown { bounds.widened(Widening::Short) } else { bounds }
    }
}

/// Events that wait for one connection, at most.
const MAX_EVENTS: usize = 256;
/// Bytes of them, at most, but for a single one.
const MAX_BYTES: usize = 64 * 1024;
