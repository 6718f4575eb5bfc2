//! Client events queued for one connection, behind its publications and with bounds of their own, so that
//! they never count against a slow consumer. Where the socket accepts nothing, only the latest event of each
//! sender and type is kept. Part of `lanes`.

use super::Outgoing;
use super::queued::{QueueBounds, Widening};
use crate::channel::Subscription;
use bytes::Bytes;
use hauyna_broker::Publication;
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct LatestEvents {
    waiting: VecDeque<WaitingEvent>,
    bytes: usize,
}

/// An event in the queue, and the subscription that it is for.
#[derive(Debug)]
struct WaitingEvent {
    publication: Arc<Publication>,
    subscription: Arc<Subscription>,
}

impl LatestEvents {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the bytes of the queued frames.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an event of the same sender and type is queued.
    pub(super) fn has_earlier(&self, event: &Publication, subscription: &Arc<Subscription>) -> bool {
        self.waiting.iter().any(|waiting| is_superseded(waiting, event, subscription))
    }

    /// Whether one more event fits where the consumer reads nothing. The first one always does.
    pub(super) fn has_room(&self, bounds: QueueBounds, bytes: usize) -> bool {
        self.fits(ReadingPace::Lagging.bounds(bounds), bytes)
    }

    /// Queues an event. Where the consumer reads nothing, earlier events of the same sender and type are
    /// dropped, and where the queue is full, the oldest ones.
    pub(super) fn push(
        &mut self,
        event: &Arc<Publication>,
        subscription: &Arc<Subscription>,
        out: Outgoing<'_>,
        pace: ReadingPace,
    ) {
        let (bytes, bounds) = (event.frame(out.wire, out.deflate).len(), pace.bounds(out.bounds));
        let before = self.waiting.len();
        if pace == ReadingPace::Lagging || !self.fits(bounds, bytes) {
            self.remove(out, |waiting| is_superseded(waiting, event, subscription));
        }
        while !self.fits(bounds, bytes) && self.pop(out).is_some() {}
        out.traffic.client_events_dropped.add((before - self.waiting.len()) as u64);
        self.bytes += bytes;
        self.waiting
            .push_back(WaitingEvent { publication: event.clone(), subscription: subscription.clone() });
    }

    fn fits(&self, bounds: QueueBounds, bytes: usize) -> bool {
        self.waiting.is_empty() || self.bytes + bytes <= bounds.bytes && self.waiting.len() < bounds.frames
    }

    fn remove(&mut self, out: Outgoing<'_>, is_removed: impl Fn(&WaitingEvent) -> bool) {
        let bytes = &mut self.bytes;
        self.waiting.retain(|waiting| {
            let is_kept = !is_removed(waiting);
            if !is_kept {
                *bytes -= waiting.publication.frame(out.wire, out.deflate).len();
            }
            is_kept
        });
    }

    /// Drops the events of a subscription that has ended.
    pub(super) fn remove_subscription(&mut self, subscription: &Arc<Subscription>, out: Outgoing<'_>) {
        self.remove(out, |waiting| Arc::ptr_eq(&waiting.subscription, subscription));
    }

    pub(super) fn frames<'a>(&'a self, out: Outgoing<'a>) -> impl Iterator<Item = &'a Bytes> {
        self.waiting.iter().map(move |waiting| waiting.publication.frame(out.wire, out.deflate))
    }

    /// Takes the first event out of the queue and returns its frame.
    pub(super) fn pop(&mut self, out: Outgoing<'_>) -> Option<Bytes> {
        let waiting = self.waiting.pop_front()?;
        let frame = waiting.publication.frame(out.wire, out.deflate).clone();
        self.bytes -= frame.len();
        Some(frame)
    }
}

/// Whether a later event supersedes a queued one.
fn is_superseded(waiting: &WaitingEvent, later: &Publication, subscription: &Arc<Subscription>) -> bool {
    Arc::ptr_eq(&waiting.subscription, subscription) && waiting.publication.is_superseded_by(later)
}

/// How fast a consumer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadingPace {
    /// Its socket has accepted everything, as far as is known.
    Reading,
    /// Only its task can write to the socket, and the task has yet to try.
    Unknown,
    /// Its socket accepts nothing.
    Lagging,
}

impl ReadingPace {
    /// Returns the bounds of the queue at this pace.
    fn bounds(self, bounds: QueueBounds) -> QueueBounds {
        let bounds =
            QueueBounds { bytes: bounds.bytes.min(MAX_BYTES), frames: bounds.frames.min(MAX_EVENTS) };
        if self == Self::Unknown { bounds.widened(Widening::Short) } else { bounds }
    }
}

/// Events queued for one connection, at most.
const MAX_EVENTS: usize = 256;
/// Bytes of the queued events, at most; a single event may exceed it.
const MAX_BYTES: usize = 64 * 1024;
