//! Client events that wait for one connection, behind its publications and bounded apart from them, so that they never
//! count against a slow consumer: where the socket takes nothing, the latest of each sender and type. Part of `lanes`.

use super::Outgoing;
use crate::channel::{Publication, Subscription};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct LatestEvents {
    waiting: VecDeque<(Arc<Publication>, Arc<Subscription>)>,
    bytes: usize,
}

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
        self.earlier(event, subscription).is_some()
    }

    fn earlier(&self, event: &Publication, subscription: &Arc<Subscription>) -> Option<usize> {
        self.waiting
            .iter()
            .position(|(waiting, own)| Arc::ptr_eq(own, subscription) && waiting.is_superseded_by(event))
    }

    /// Queues an event. Where the consumer `lags`, or there is no room, the earlier one of its kind goes; where there is
    /// still no room, the oldest go.
    pub(super) fn push(
        &mut self,
        event: &Arc<Publication>,
        subscription: &Arc<Subscription>,
        (out, pace): (Outgoing<'_>, Pace),
    ) {
        let bytes = event.frame(out.wire, out.deflate).len();
        if (pace == Pace::Lagging || !self.has_room(out, bytes))
            && let Some(index) = self.earlier(event, subscription)
        {
            self.drop_at(index, out);
        }
        while !self.has_room(out, bytes) {
            self.drop_at(0, out);
        }
        self.bytes += bytes;
        self.waiting.push_back((event.clone(), subscription.clone()));
    }

    /// Whether one more fits. The first one always does.
    fn has_room(&self, out: Outgoing<'_>, bytes: usize) -> bool {
        let fits = self.bytes + bytes <= out.room.bytes.min(MAX_BYTES);
        self.waiting.is_empty() || fits && self.waiting.len() < out.room.frames.min(MAX_EVENTS)
    }

    fn drop_at(&mut self, index: usize, out: Outgoing<'_>) {
        if let Some((event, _)) = self.waiting.remove(index) {
            self.bytes -= event.frame(out.wire, out.deflate).len();
            out.traffic.client_events_dropped.increment();
        }
    }

    /// Drops those of a subscription that has ended.
    pub(super) fn forget(&mut self, subscription: &Arc<Subscription>, out: Outgoing<'_>) {
        let bytes = &mut self.bytes;
        self.waiting.retain(|(event, own)| {
            let is_kept = !Arc::ptr_eq(own, subscription);
            if !is_kept {
                *bytes -= event.frame(out.wire, out.deflate).len();
            }
            is_kept
        });
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

/// How a consumer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Its socket takes more, as far as is known.
    Reading,
    /// Its socket takes nothing.
    Lagging,
}

/// Events that wait for one connection, at most.
const MAX_EVENTS: usize = 256;
/// Bytes of them, at most, but for a single one.
const MAX_BYTES: usize = 64 * 1024;
