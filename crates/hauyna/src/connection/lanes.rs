//! The two queues of an outbox and what the slow-consumer policies do to them. Order on the wire: a frame
//! begun, control, publications, the close frame. Owned by `outbox`; does no I/O itself.

use super::Outgoing;
use super::latest::LatestEvents;
use super::queued::{Gap, QueueBounds, Queued};
use super::replay::Replays;
use crate::channel::{Publication, Subscription};
use bytes::{Buf, Bytes};
use hauyna_protocol::Position;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// The rest of a frame that is partly written: nothing may come before it.
    partial: Bytes,
    control: VecDeque<Bytes>,
    pong: Option<Bytes>,
    pub(super) data: VecDeque<Queued>,
    /// Client events, behind all publications.
    pub(super) events: LatestEvents,
    close: Option<Bytes>,
    control_bytes: usize,
    /// Bytes of the data lane that its bounds count: all but those of replays and replies.
    pub(super) data_bytes: usize,
    /// Bytes of the data lane that belong to replays.
    replayed_bytes: usize,
    /// Bytes of the data lane that belong to replies.
    reply_bytes: usize,
    /// Publications of the data lane that belong to replays.
    replayed: usize,
    /// Replies in the data lane: no later one may overtake them.
    replies: usize,
    /// Gaps without a frame.
    pub(super) gaps: usize,
    /// Gaps that have begun and that no listener was told of.
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

    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.partial.is_empty()
            && self.control.is_empty()
            && self.data.is_empty()
            && self.events.is_empty()
            && self.pong.is_none()
            && self.close.is_none()
    }

    /// Whether nothing waits to be written, to be fetched from a history, or to be told to listeners.
    pub(super) fn is_unused(&self) -> bool {
        self.is_empty() && self.replays.is_empty() && self.new_gaps == 0
    }

    /// Whether something would have to be written before a new reply.
    pub(super) fn has_urgent(&self) -> bool {
        !self.partial.is_empty() || !self.control.is_empty() || self.replies > 0
    }

    /// Whether messages wait that a reply may have to stay behind.
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

    /// Before all that is in control.
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

    /// Drops the data lane, but for its replies, and the client events.
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

    /// Drops everything of a subscription.
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

    /// Counts an entry that is taken out of the data lane.
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
    pub(super) fn has_room(&self, room: QueueBounds, bytes: usize) -> bool {
        let count = self.counted_bytes();
        self.data_bytes + bytes <= room.bytes && count < room.frames || count == 0
    }

    /// Whether more waits in the data lane than may, and not only one message that is too large.
    pub(super) fn is_over_bounds(&self, room: QueueBounds) -> bool {
        self.counted_bytes() > 1 && !self.has_room(room, 0)
    }

    /// Messages of the data lane that its bounds count.
    fn counted_bytes(&self) -> usize {
        self.data.len() - self.replayed - self.replies
    }

    /// Whether one more frame fits into the control lane. The first one always does.
    pub(super) fn has_control_room(&self, room: QueueBounds, bytes: usize) -> bool {
        self.control_bytes + bytes <= room.bytes && self.control.len() < room.frames
            || self.control.is_empty()
    }

    /// Whether no more answers and messages of the protocol wait than may: a long answer to one request is no lag.
    pub(super) fn has_answer_room(&self, room: QueueBounds) -> bool {
        self.control_bytes + self.reply_bytes <= room.bytes.max(MAX_WAITING_ANSWERS)
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

    /// Queues a publication of a replay: of the history, or one that came live and waited behind it. Returns its bytes.
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

    /// Tells a subscriber that catches up of publications that the history no longer has.
    pub(super) fn push_gap(&mut self, subscription: &Arc<Subscription>, after: Position, missed: u64) {
        let gap = Gap { subscription: subscription.clone(), after: Some(after), missed, frame: None };
        self.data.push_back(Queued::Gap(gap));
        self.gaps += 1;
        self.new_gaps += 1;
    }

    /// Whether the next part of a replay should be fetched: nothing of the last one waits.
    pub(super) fn wants_replay(&self) -> bool {
        self.replayed == 0 && self.replays.is_due()
    }

    pub(super) fn has_replayed(&self) -> bool {
        self.replayed > 0
    }

    /// Returns how many gaps have begun since this was last asked.
    pub(super) fn take_new_gaps(&mut self) -> u32 {
        std::mem::take(&mut self.new_gaps)
    }

    /// Gaps become frames just before they are written, when they have stopped growing.
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

    /// Hands the front of both lanes to `write` as one vector.
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
            Queued::Gap(Gap { frame: None, .. }) => &EMPTY_BYTES, // rendered before; never reached
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

    /// Forgets what was written, in the order of [`Lanes::gather`].
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
                    out.traffic.delivered.increment(); // it has waited for the history
                }
                publication.frame(out.wire, out.deflate).clone()
            }
            Queued::Gap(gap) => gap.frame.unwrap_or_default(),
        })
    }
}

static EMPTY_BYTES: Bytes = Bytes::new();
/// Bytes of answers that may wait whatever the bound of the outbox is: twice the longest one.
const MAX_WAITING_ANSWERS: usize = 512 * 1024;
/// Slices in one vectored write.
const MAX_SLICES: usize = 64;

#[cfg(test)]
mod tests;
