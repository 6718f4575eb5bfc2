//! The two lanes of an outbox. Order on the wire: the rest of a frame that is partly written, control frames,
//! publications, client events, the close frame. `outbox` and `write` own and drive it; it does no I/O
//! itself.

use super::Outgoing;
use super::latest::LatestEvents;
use super::queued::{Gap, QueueBounds, Queued};
use super::replay::Replays;
use crate::channel::Subscription;
use bytes::{Buf, Bytes};
use hauyna_broker::Publication;
use hauyna_protocol::Position;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// The rest of a frame that is partly written; nothing may be written before it.
    partial: Bytes,
    control: VecDeque<Bytes>,
    pong: Option<Bytes>,
    pub(super) data: VecDeque<Queued>,
    /// Client events, behind all publications.
    pub(super) events: LatestEvents,
    close: Option<Bytes>,
    control_bytes: usize,
    /// Bytes of the data lane that its bounds count: all except those of replays and replies.
    pub(super) data_bytes: usize,
    /// Bytes of the data lane that belong to replays.
    replayed_bytes: usize,
    /// Bytes of the data lane that belong to replies.
    reply_bytes: usize,
    /// Publications of the data lane that belong to replays.
    replayed: usize,
    /// Replies in the data lane; later replies must not overtake them.
    replies: usize,
    /// Gaps that have no frame yet.
    pub(super) gaps: usize,
    /// Gaps that have begun since listeners were last notified.
    pub(super) new_gaps: u32,
    pub(super) replays: Replays,
}

impl Lanes {
    pub(super) fn bytes(&self) -> usize {
        self.partial.len()
            + self.control_bytes
            + self.data_bytes
            + self.replayed_bytes
            + self.reply_bytes
            + self.events.bytes()
            + self.pong.as_ref().map_or(0, Bytes::len)
            + self.close.as_ref().map_or(0, Bytes::len)
    }

    /// Whether nothing is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.partial.is_empty()
            && self.control.is_empty()
            && self.data.is_empty()
            && self.events.is_empty()
            && self.pong.is_none()
            && self.close.is_none()
    }

    /// Whether nothing has to be written, fetched from a history, or reported to listeners.
    pub(super) fn is_unused(&self) -> bool {
        self.is_empty() && self.replays.is_empty() && self.new_gaps == 0
    }

    /// Whether something has to be written before a new reply.
    pub(super) fn has_urgent(&self) -> bool {
        !self.partial.is_empty() || !self.control.is_empty() || self.replies > 0
    }

    /// Whether messages are queued that a reply may have to stay behind.
    pub(super) fn has_data(&self) -> bool {
        !self.data.is_empty()
    }

    /// Queues a reply behind the earlier ones.
    pub(super) fn push_reply(&mut self, frame: Bytes) {
        if self.replies > 0 { self.push(Queued::Reply(frame)) } else { self.push_control(frame) }
    }

    pub(super) fn push_control(&mut self, frame: Bytes) {
        self.control_bytes += frame.len();
        self.control.push_back(frame);
    }

    /// Queues a frame before everything in the control lane.
    pub(super) fn push_first(&mut self, frame: Bytes) {
        self.control_bytes += frame.len();
        self.control.push_front(frame);
    }

    pub(super) fn set_pong(&mut self, frame: Bytes) {
        self.pong = Some(frame);
    }

    pub(super) fn set_partial(&mut self, rest: Bytes) {
        self.partial = rest;
    }

    pub(super) fn push_last(&mut self, frame: Bytes) {
        self.close = Some(frame);
    }

    /// Drops the data lane except its replies, and the client events.
    pub(super) fn drop_data(&mut self) {
        for queued in std::mem::take(&mut self.data) {
            if let Queued::Reply(frame) = queued {
                self.push_control(frame);
            }
        }
        (self.data_bytes, self.replayed_bytes, self.replayed) = (0, 0, 0);
        (self.reply_bytes, self.replies) = (0, 0);
        self.gaps = 0;
        self.events = LatestEvents::default();
    }

    pub(super) fn drop_replays(&mut self) {
        self.replays = Replays::default();
    }

    /// Drops everything that belongs to a subscription.
    pub(super) fn remove_subscription(&mut self, subscription: &Arc<Subscription>, out: Outgoing<'_>) {
        self.replays.remove(subscription);
        self.events.remove_subscription(subscription, out);
        let mut data = std::mem::take(&mut self.data);
        data.retain(|queued| {
            let is_kept = !queued.belongs_to(subscription);
            if !is_kept {
                self.subtract_bytes(queued, out);
            }
            is_kept
        });
        self.data = data;
    }

    /// Subtracts an entry that is removed from the data lane from the counts.
    fn subtract_bytes(&mut self, queued: &Queued, out: Outgoing<'_>) {
        match queued {
            Queued::Frame(frame) => self.data_bytes -= frame.len(),
            Queued::Reply(frame) => {
                self.reply_bytes -= frame.len();
                self.replies -= 1;
            }
            Queued::Publication(publication, _) => {
                self.data_bytes -= publication.frame(out.wire, out.deflate).len();
            }
            Queued::Replayed(publication, _) => {
                self.replayed_bytes -= publication.frame(out.wire, out.deflate).len();
                self.replayed -= 1;
            }
            Queued::Gap(Gap { frame: Some(frame), .. }) => self.data_bytes -= frame.len(),
            Queued::Gap(_) => self.gaps -= 1,
        }
    }

    /// Whether one more message fits into the data lane. The first one always does.
    pub(super) fn has_room(&self, bounds: QueueBounds, bytes: usize) -> bool {
        let count = self.counted_bytes();
        self.data_bytes + bytes <= bounds.bytes && count < bounds.frames || count == 0
    }

    /// Whether the data lane exceeds the bounds with more than one message that is too large.
    pub(super) fn is_over_bounds(&self, bounds: QueueBounds) -> bool {
        self.counted_bytes() > 1 && !self.has_room(bounds, 0)
    }

    /// Returns the number of messages in the data lane that its bounds count.
    fn counted_bytes(&self) -> usize {
        self.data.len() - self.replayed - self.replies
    }

    /// Whether one more frame fits into the control lane. The first one always does.
    pub(super) fn has_control_room(&self, bounds: QueueBounds, bytes: usize) -> bool {
        self.control_bytes + bytes <= bounds.bytes && self.control.len() < bounds.frames
            || self.control.is_empty()
    }

    /// Whether the queued answers and messages of the protocol are within the bounds: a long answer to one
    /// request is no lag.
    pub(super) fn has_answer_room(&self, bounds: QueueBounds) -> bool {
        self.control_bytes + self.reply_bytes <= bounds.bytes.max(MAX_WAITING_ANSWERS)
    }

    pub(super) fn push(&mut self, queued: Queued) {
        match &queued {
            Queued::Frame(frame) => self.data_bytes += frame.len(),
            Queued::Reply(frame) => {
                self.reply_bytes += frame.len();
                self.replies += 1;
            }
            Queued::Publication(..) | Queued::Replayed(..) | Queued::Gap(_) => {}
        }
        self.data.push_back(queued);
    }

    /// Queues a publication of a replay, either from the history or one that was held behind the replay.
    /// Returns its bytes.
    pub(super) fn push_replayed(
        &mut self,
        publication: &Arc<Publication>,
        subscription: &Arc<Subscription>,
        out: Outgoing<'_>,
    ) -> usize {
        let bytes = publication.frame(out.wire, out.deflate).len();
        self.replayed += 1;
        self.replayed_bytes += bytes;
        self.data.push_back(Queued::Replayed(publication.clone(), subscription.clone()));
        bytes
    }

    /// Queues a gap for publications that the history no longer has.
    pub(super) fn push_gap(&mut self, subscription: &Arc<Subscription>, after: Position, missed: u64) {
        let gap = Gap { subscription: subscription.clone(), after: Some(after), missed, frame: None };
        self.data.push_back(Queued::Gap(gap));
        self.gaps += 1;
        self.new_gaps += 1;
    }

    /// Whether the next page of a replay should be fetched: nothing of the last page is queued.
    pub(super) fn wants_replay(&self) -> bool {
        self.replayed == 0 && self.replays.is_due()
    }

    pub(super) fn has_replayed(&self) -> bool {
        self.replayed > 0
    }

    /// Returns how many gaps have begun since the last call.
    pub(super) fn take_new_gaps(&mut self) -> u32 {
        std::mem::take(&mut self.new_gaps)
    }

    /// Encodes the gaps as frames. Called just before they are written, when they have stopped growing.
    pub(super) fn render_gaps(&mut self, out: Outgoing<'_>) {
        if self.gaps == 0 {
            return;
        }
        self.gaps = 0;
        for queued in &mut self.data {
            if let Queued::Gap(gap) = queued
                && gap.frame.is_none()
            {
                let frame = gap.encode(out);
                self.data_bytes += frame.len();
                gap.frame = Some(frame);
            }
        }
    }

    /// Passes the front of both lanes to `write` as one vector.
    pub(super) fn gather(
        &self,
        out: Outgoing<'_>,
        write: &mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let data = self.data.iter().map(|queued| match queued {
            Queued::Frame(frame) | Queued::Reply(frame) | Queued::Gap(Gap { frame: Some(frame), .. }) => {
                frame
            }
            Queued::Publication(publication, _) | Queued::Replayed(publication, _) => {
                publication.frame(out.wire, out.deflate)
            }
            Queued::Gap(Gap { frame: None, .. }) => &EMPTY_BYTES, // never reached: gaps are rendered before
        });
        let partial = (!self.partial.is_empty()).then_some(&self.partial);
        let all = partial.into_iter().chain(&self.control).chain(&self.pong).chain(data);
        let all = all.chain(self.events.frames(out)).chain(&self.close);
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(all) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        write(&slices[..count])
    }

    /// Removes what was written, in the order of [`Lanes::gather`].
    pub(super) fn advance(&mut self, mut written: usize, out: Outgoing<'_>) {
        let begun = written.min(self.partial.len());
        self.partial.advance(begun);
        written -= begun;
        if self.partial.is_empty() {
            self.partial = Bytes::new();
        }
        while written > 0 {
            let Some(frame) = self.take_front(out) else { return };
            if written < frame.len() {
                self.partial = frame.slice(written..);
                return;
            }
            written -= frame.len();
        }
    }

    fn take_front(&mut self, out: Outgoing<'_>) -> Option<Bytes> {
        if let Some(frame) = self.control.pop_front() {
            self.control_bytes -= frame.len();
            return Some(frame);
        }
        if let Some(pong) = self.pong.take() {
            return Some(pong);
        }
        let Some(queued) = self.data.pop_front() else {
            let event = self.events.pop(out).inspect(|_| out.traffic.delivered.increment());
            return event.or_else(|| self.close.take());
        };
        self.subtract_bytes(&queued, out);
        Some(match queued {
            Queued::Frame(frame) | Queued::Reply(frame) => frame,
            Queued::Publication(publication, _) => {
                out.traffic.delivered.increment();
                publication.frame(out.wire, out.deflate).clone()
            }
            Queued::Replayed(publication, _) => {
                if publication.position().is_none() {
                    out.traffic.delivered.increment(); // it was held behind the replay
                }
                publication.frame(out.wire, out.deflate).clone()
            }
            Queued::Gap(gap) => gap.frame.unwrap_or_default(),
        })
    }
}

static EMPTY_BYTES: Bytes = Bytes::new();
/// Bytes of answers that may be queued whatever the bounds of the outbox are: twice the longest answer.
const MAX_WAITING_ANSWERS: usize = 512 * 1024;
/// Slices in one vectored write, at most.
const MAX_SLICES: usize = 64;

#[cfg(test)]
mod tests;
