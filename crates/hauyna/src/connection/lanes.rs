//! The two queues of an outbox and what the slow-consumer policies do to them. Order on the wire: a frame
//! begun, control, publications, the close frame. Owned by `outbox`; does no I/O itself.

use super::Outgoing;
use super::outbox::Full;
use super::replay::Replays;
use crate::channel::{Kind, Publication, SlowConsumer, Subscription};
use bytes::{Buf, Bytes};
use hauyna_protocol::{Epoch, Message, Position};
use hauyna_websocket::FrameBuilder;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// The rest of a frame that is partly written: nothing may come before it.
    partial: Bytes,
    control: VecDeque<Bytes>,
    pong: Option<Bytes>,
    data: VecDeque<Queued>,
    close: Option<Bytes>,
    control_bytes: usize,
    /// Bytes of the data lane that its bounds count: all but those of replays and replies.
    data_bytes: usize,
    /// Bytes of the data lane that belong to replays and replies.
    uncounted_bytes: usize,
    /// Publications of the data lane that belong to replays.
    replayed: usize,
    /// Replies in the data lane: no later one may overtake them.
    replies: usize,
    /// Gaps without a frame.
    gaps: usize,
    /// A gap has begun that nobody was told of.
    has_new_gap: bool,
    pub(super) replays: Replays,
}

#[derive(Debug)]
pub(super) enum Queued {
    Frame(Bytes),
    /// A reply that stays behind what its callback has sent.
    Reply(Bytes),
    Publication(Arc<Publication>, Option<Arc<Subscription>>),
    /// From the history, for a subscriber that catches up.
    Replayed(Arc<Publication>, Arc<Subscription>),
    /// Messages were dropped here.
    Gap(Gap),
}

#[derive(Debug)]
pub(super) struct Gap {
    subscription: Arc<Subscription>,
    /// The position before the first publication that is missing. `None` where the channel has a history and only
    /// messages without a number are missing.
    after: Option<Position>,
    /// Publications that are missing.
    missed: u64,
    /// Made just before it is written, when the gap has stopped growing.
    frame: Option<Bytes>,
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) bytes: usize,
    pub(crate) frames: usize,
}

impl Room {
    /// For a connection whose task has yet to ask its stream: as much as a task that does not run may cost.
    pub(super) fn stretched(self) -> Self {
        Self {
            bytes: self.bytes.saturating_mul(STRETCH).max(STRETCHED_BYTES),
            frames: self.frames.saturating_mul(STRETCH).max(STRETCHED_FRAMES),
        }
    }
}

impl Queued {
    fn subscription(&self) -> Option<&Arc<Subscription>> {
        match self {
            Self::Frame(_) | Self::Reply(_) => None,
            Self::Publication(_, subscription) => subscription.as_ref(),
            Self::Replayed(_, subscription) => Some(subscription),
            Self::Gap(gap) => Some(&gap.subscription),
        }
    }

    fn belongs_to(&self, subscription: &Arc<Subscription>) -> bool {
        self.subscription().is_some_and(|own| Arc::ptr_eq(own, subscription))
    }
}

impl Lanes {
    pub(super) fn bytes(&self) -> usize {
        self.partial.len()
            + self.control_bytes
            + self.data_bytes
            + self.uncounted_bytes
            + self.pong.as_ref().map_or(0, Bytes::len)
            + self.close.as_ref().map_or(0, Bytes::len)
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.partial.is_empty()
            && self.control.is_empty()
            && self.data.is_empty()
            && self.pong.is_none()
            && self.close.is_none()
    }

    /// Whether nothing waits to be written, nor to be fetched from a history.
    pub(super) fn is_unused(&self) -> bool {
        self.is_empty() && self.replays.is_empty()
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

    pub(super) fn drop_data(&mut self) {
        self.data = VecDeque::new();
        (self.data_bytes, self.uncounted_bytes, self.replayed, self.replies) = (0, 0, 0, 0);
        self.gaps = 0;
    }

    pub(super) fn drop_replays(&mut self) {
        self.replays = Replays::default();
    }

    /// Drops everything of a subscription.
    pub(super) fn forget(&mut self, subscription: &Arc<Subscription>, out: Outgoing<'_>) {
        self.replays.remove(subscription);
        let mut data = std::mem::take(&mut self.data);
        data.retain(|queued| {
            let is_kept = !queued.belongs_to(subscription);
            if !is_kept {
                self.uncount(queued, out);
            }
            is_kept
        });
        self.data = data;
    }

    /// Counts an entry that is taken out of the data lane.
    fn uncount(&mut self, queued: &Queued, out: Outgoing<'_>) {
        match queued {
            Queued::Frame(frame) => self.data_bytes -= frame.len(),
            Queued::Reply(frame) => {
                self.uncounted_bytes -= frame.len();
                self.replies -= 1;
            }
            Queued::Publication(publication, _) => {
                self.data_bytes -= publication.frame(out.wire, out.deflate).len();
            }
            Queued::Replayed(publication, _) => {
                self.uncounted_bytes -= publication.frame(out.wire, out.deflate).len();
                self.replayed -= 1;
            }
            Queued::Gap(Gap { frame: Some(frame), .. }) => self.data_bytes -= frame.len(),
            Queued::Gap(_) => self.gaps -= 1,
        }
    }

    /// Whether one more message fits into the data lane. The first one always does.
    pub(super) fn has_room(&self, room: Room, bytes: usize) -> bool {
        let count = self.data.len() - self.replayed - self.replies;
        self.data_bytes + bytes <= room.bytes && count < room.frames || count == 0
    }

    /// Whether one more frame fits into the control lane. The first one always does.
    pub(super) fn has_control_room(&self, room: Room, bytes: usize) -> bool {
        self.control_bytes + bytes <= room.bytes && self.control.len() < room.frames
            || self.control.is_empty()
    }

    pub(super) fn push(&mut self, queued: Queued) {
        match &queued {
            Queued::Frame(frame) => self.data_bytes += frame.len(),
            Queued::Reply(frame) => {
                self.uncounted_bytes += frame.len();
                self.replies += 1;
            }
            Queued::Publication(..) | Queued::Replayed(..) | Queued::Gap(_) => {}
        }
        self.data.push_back(queued);
    }

    /// Queues a publication of a history; returns its bytes.
    pub(super) fn push_replayed(
        &mut self,
        publication: &Arc<Publication>,
        subscription: &Arc<Subscription>,
        out: Outgoing<'_>,
    ) -> usize {
        let bytes = publication.frame(out.wire, out.deflate).len();
        self.replayed += 1;
        self.uncounted_bytes += bytes;
        self.data.push_back(Queued::Replayed(publication.clone(), subscription.clone()));
        bytes
    }

    /// Tells a subscriber that catches up of publications that the history no longer has.
    pub(super) fn push_gap(&mut self, subscription: &Arc<Subscription>, after: Position, missed: u64) {
        let gap = Gap { subscription: subscription.clone(), after: Some(after), missed, frame: None };
        self.data.push_back(Queued::Gap(gap));
        self.gaps += 1;
        self.has_new_gap = true;
    }

    /// Whether the next part of a replay should be fetched: nothing of the last one waits.
    pub(super) fn wants_replay(&self) -> bool {
        self.replayed == 0 && self.replays.is_due()
    }

    pub(super) fn has_replayed(&self) -> bool {
        self.replayed > 0
    }

    /// A publication came live for a subscriber that catches up. A numbered one stands in the history, too, and comes with
    /// the replay; any other waits behind it.
    pub(super) fn leave_to_replay(
        &mut self,
        publication: &Arc<Publication>,
        subscription: &Arc<Subscription>,
        out: Outgoing<'_>,
    ) -> Result<(), Full> {
        if let Some(position) = publication.position() {
            self.replays.note_delivered(subscription, position);
            return Ok(());
        }
        if publication.is_turn() {
            self.replays.note_turn(subscription);
            return Ok(());
        }
        let bytes = publication.frame(out.wire, out.deflate).len();
        if self.replays.hold(publication, subscription, bytes, out.room) {
            return Ok(());
        }
        if subscription.channel.options.slow_consumer == SlowConsumer::Disconnect {
            return Err(Full);
        }
        count_dropped(publication, out);
        Ok(())
    }

    /// The replay of a subscription has ended: what waited behind it follows.
    pub(super) fn release_held(&mut self, subscription: &Arc<Subscription>, out: Outgoing<'_>) {
        let Some(held) = self.replays.remove(subscription) else { return };
        for publication in held.publications {
            self.data_bytes += publication.frame(out.wire, out.deflate).len();
            self.data.push_back(Queued::Publication(publication, Some(subscription.clone())));
        }
        if held.has_dropped {
            let gap = Gap { subscription: subscription.clone(), after: None, missed: 0, frame: None };
            self.data.push_back(Queued::Gap(gap));
            self.gaps += 1;
        }
    }

    pub(super) fn push_publication(
        &mut self,
        publication: &Arc<Publication>,
        subscription: Option<&Arc<Subscription>>,
        out: Outgoing<'_>,
    ) -> Result<(), Full> {
        let bytes = publication.frame(out.wire, out.deflate).len();
        let policy = subscription.map_or(SlowConsumer::Disconnect, |own| own.channel.options.slow_consumer);
        if let (SlowConsumer::Conflate, Some(subscription), true) = (policy, subscription, out.may_conflate)
            && let Some(index) = self.superseded(subscription, publication)
        {
            self.drop_at(index, out);
        }
        if !self.has_room(out.room, bytes) {
            let subscription = match (policy, subscription) {
                (SlowConsumer::Disconnect, _) | (_, None) => return Err(Full),
                (_, Some(subscription)) => subscription,
            };
            if policy == SlowConsumer::DropNewest && !publication.is_turn() {
                self.gap_at_end(subscription, publication, out);
                return Ok(());
            }
            while !self.has_room(out.room, bytes) {
                if !self.drop_oldest(subscription, out) {
                    if publication.is_turn() {
                        return Err(Full);
                    }
                    self.gap_at_end(subscription, publication, out);
                    return Ok(());
                }
            }
        }
        self.data_bytes += bytes;
        self.data.push_back(Queued::Publication(publication.clone(), subscription.cloned()));
        Ok(())
    }

    /// Whether a publication that waits would be superseded by this one.
    pub(super) fn would_conflate(&self, new: &Publication, subscription: Option<&Arc<Subscription>>) -> bool {
        subscription.is_some_and(|subscription| {
            subscription.channel.options.slow_consumer == SlowConsumer::Conflate
                && self.superseded(subscription, new).is_some()
        })
    }

    fn superseded(&self, subscription: &Arc<Subscription>, new: &Publication) -> Option<usize> {
        if new.is_turn() {
            return None;
        }
        self.data.iter().position(|queued| match queued {
            Queued::Publication(old, Some(_)) if queued.belongs_to(subscription) => {
                old.kind() == new.kind() && old.conflate() == new.conflate()
            }
            _ => false,
        })
    }

    fn drop_oldest(&mut self, subscription: &Arc<Subscription>, out: Outgoing<'_>) -> bool {
        let oldest = self.data.iter().position(|queued| match queued {
            Queued::Publication(publication, _) => !publication.is_turn() && queued.belongs_to(subscription),
            _ => false,
        });
        oldest.is_some_and(|index| {
            self.drop_at(index, out);
            true
        })
    }

    /// Turns a queued publication into a gap, or into one more of the gap before it.
    fn drop_at(&mut self, index: usize, out: Outgoing<'_>) {
        let Queued::Publication(publication, Some(subscription)) = &self.data[index] else { return };
        let (publication, subscription) = (publication.clone(), subscription.clone());
        self.data_bytes -= publication.frame(out.wire, out.deflate).len();
        count_dropped(&publication, out);
        // What lies on two sides of a turn never counts as one gap.
        let earlier = self.data.range(..index).rposition(|queued| {
            let is_turn = matches!(queued, Queued::Publication(other, _) if other.is_turn());
            (is_turn || matches!(queued, Queued::Gap(_))) && queued.belongs_to(&subscription)
        });
        if let Some(earlier) = earlier.filter(|earlier| matches!(self.data[*earlier], Queued::Gap(_))) {
            self.widen(earlier, &publication);
            self.data.remove(index);
        } else {
            self.data[index] = Queued::Gap(Gap::of(&publication, subscription));
            self.gaps += 1;
            self.has_new_gap = true;
        }
    }

    fn gap_at_end(&mut self, subscription: &Arc<Subscription>, publication: &Publication, out: Outgoing<'_>) {
        count_dropped(publication, out);
        // One gap for all that follows the channel's last message here, or channels that overflow in turn
        // would queue one for each.
        let last = self.data.iter().rposition(|queued| queued.belongs_to(subscription));
        match last {
            Some(index) if matches!(self.data[index], Queued::Gap(_)) => self.widen(index, publication),
            _ => {
                self.data.push_back(Queued::Gap(Gap::of(publication, subscription.clone())));
                self.gaps += 1;
                self.has_new_gap = true;
            }
        }
    }

    /// One more message is missing behind a gap.
    fn widen(&mut self, index: usize, publication: &Publication) {
        let Queued::Gap(gap) = &mut self.data[index] else { return };
        gap.add(publication);
        if let Some(frame) = gap.frame.take() {
            self.data_bytes -= frame.len();
            self.gaps += 1;
        }
    }

    /// Whether a gap has begun since this was last asked.
    pub(super) fn take_new_gap(&mut self) -> bool {
        std::mem::take(&mut self.has_new_gap)
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
        let mut slices = [IoSlice::new(&[]); SLICES];
        let data = self.data.iter().map(|queued| match queued {
            Queued::Frame(frame) | Queued::Reply(frame) | Queued::Gap(Gap { frame: Some(frame), .. }) => {
                frame
            }
            Queued::Publication(publication, _) | Queued::Replayed(publication, _) => {
                publication.frame(out.wire, out.deflate)
            }
            Queued::Gap(Gap { frame: None, .. }) => &EMPTY, // rendered before; never reached
        });
        let partial = (!self.partial.is_empty()).then_some(&self.partial);
        let all = partial.into_iter().chain(&self.control).chain(&self.pong).chain(data).chain(&self.close);
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
        let Some(queued) = self.data.pop_front() else { return self.close.take() };
        self.uncount(&queued, out);
        Some(match queued {
            Queued::Frame(frame) | Queued::Reply(frame) => frame,
            Queued::Publication(publication, _) => {
                out.traffic.delivered.increment();
                publication.frame(out.wire, out.deflate).clone()
            }
            Queued::Replayed(publication, _) => publication.frame(out.wire, out.deflate).clone(),
            Queued::Gap(gap) => gap.frame.unwrap_or_default(),
        })
    }
}

impl Gap {
    fn of(publication: &Publication, subscription: Arc<Subscription>) -> Self {
        let has_history = subscription.channel.options.retention.is_some();
        let unknown = Position { epoch: Epoch::UNKNOWN, offset: 0 };
        let after = (!has_history).then_some(unknown);
        let mut gap = Self { subscription, after, missed: 0, frame: None };
        gap.add(publication);
        gap
    }

    /// Counts a publication; messages of the protocol, as of presence, are none.
    fn add(&mut self, publication: &Publication) {
        if let Some(position) = publication.position() {
            let before = Position { offset: position.offset - 1, ..position };
            self.after.get_or_insert(before);
            self.missed += 1;
        } else if self.after.is_some_and(|after| after.epoch == Epoch::UNKNOWN)
            && publication.kind() != Kind::Event
        {
            self.missed += 1;
        }
    }

    fn encode(&self, out: Outgoing<'_>) -> Bytes {
        let mut frame = FrameBuilder::with_capacity(128);
        let channel = self.subscription.channel.name.as_str();
        let gap = Message::Gap { channel, position: self.after, missed: self.missed };
        gap.encode(out.wire.encoding(), frame.payload());
        frame.finish(out.wire.opcode())
    }
}

fn count_dropped(publication: &Publication, out: Outgoing<'_>) {
    if publication.kind() != Kind::Event {
        out.traffic.dropped.increment();
    }
}

static EMPTY: Bytes = Bytes::new();
/// How far the bounds stretch until the task of a connection has asked its stream, and at least to what.
const STRETCH: usize = 4;
const STRETCHED_BYTES: usize = 1 << 20;
const STRETCHED_FRAMES: usize = 4096;
/// Slices in one vectored write.
const SLICES: usize = 64;

#[cfg(test)]
mod tests;
