//! The two queues of an outbox and what the slow-consumer policies do to them. Order on the wire: a frame
//! begun, control, publications, the close frame. Owned by `outbox`; does no I/O itself.

use super::Outgoing;
use super::outbox::Full;
use crate::channel::{Publication, SlowConsumer, Subscription};
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
    data_bytes: usize,
    gaps: usize,
    /// A gap has begun that nobody was told of.
    has_new_gap: bool,
}

#[derive(Debug)]
pub(super) enum Queued {
    Frame(Bytes),
    Publication(Arc<Publication>, Option<Arc<Subscription>>),
    /// Messages were dropped here.
    Gap(Gap),
}

#[derive(Debug)]
pub(super) struct Gap {
    subscription: Arc<Subscription>,
    /// The position before the first one dropped, to recover from; unknown where the channel has no history.
    after: Position,
    missed: u64,
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Room {
    /// Up to the outbox's bounds.
    Bounded { bytes: usize, frames: usize },
    /// A replay: bounded by the history it comes from.
    Replay,
}

impl Lanes {
    pub(super) fn bytes(&self) -> usize {
        self.partial.len()
            + self.control_bytes
            + self.data_bytes
            + self.pong.as_ref().map_or(0, Bytes::len)
            + self.close.as_ref().map_or(0, Bytes::len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.partial.is_empty()
            && self.control.is_empty()
            && self.data.is_empty()
            && self.pong.is_none()
            && self.close.is_none()
    }

    /// Whether something would have to be written before a new reply.
    pub(super) fn has_urgent(&self) -> bool {
        !self.partial.is_empty() || !self.control.is_empty()
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
        self.data_bytes = 0;
        self.gaps = 0;
    }

    /// Drops the publications of a subscription, and the gaps among them.
    pub(super) fn forget(&mut self, own: &Arc<Subscription>, out: Outgoing<'_>) {
        let (bytes, gaps) = (&mut self.data_bytes, &mut self.gaps);
        self.data.retain(|queued| match queued {
            Queued::Publication(publication, Some(of)) if Arc::ptr_eq(of, own) => {
                *bytes -= publication.frame(out.wire, out.deflate).len();
                false
            }
            Queued::Gap(gap) if Arc::ptr_eq(&gap.subscription, own) => {
                *gaps -= 1;
                false
            }
            _ => true,
        });
    }

    fn has_room(&self, room: Room, bytes: usize) -> bool {
        match room {
            Room::Replay => true,
            Room::Bounded { bytes: most, frames } => {
                self.data_bytes + bytes <= most && self.data.len() < frames || self.data.is_empty()
            }
        }
    }

    pub(super) fn push(&mut self, queued: Queued, room: Room) -> Result<(), Full> {
        let bytes = match &queued {
            Queued::Frame(frame) => frame.len(),
            Queued::Publication(..) | Queued::Gap(_) => 0,
        };
        if !self.has_room(room, bytes) {
            return Err(Full);
        }
        self.data_bytes += bytes;
        self.data.push_back(queued);
        Ok(())
    }

    pub(super) fn push_publication(
        &mut self,
        publication: &Arc<Publication>,
        subscription: Option<&Arc<Subscription>>,
        out: Outgoing<'_>,
    ) -> Result<(), Full> {
        let bytes = publication.frame(out.wire, out.deflate).len();
        let policy = subscription.map_or(SlowConsumer::Disconnect, |own| own.channel.options.slow_consumer);
        if let (SlowConsumer::Conflate, Some(own), false) = (policy, subscription, publication.is_turn()) {
            self.conflate(own, publication, out);
        }
        if !self.has_room(out.room, bytes) {
            let own = match (policy, subscription) {
                (SlowConsumer::Disconnect, _) | (_, None) => return Err(Full),
                (_, Some(own)) => own,
            };
            if policy == SlowConsumer::DropNewest && !publication.is_turn() {
                self.gap_at_end(own, publication, out);
                return Ok(());
            }
            while !self.has_room(out.room, bytes) {
                if !self.drop_oldest(own, out) {
                    if publication.is_turn() {
                        return Err(Full);
                    }
                    self.gap_at_end(own, publication, out);
                    return Ok(());
                }
            }
        }
        self.data_bytes += bytes;
        self.data.push_back(Queued::Publication(publication.clone(), subscription.cloned()));
        Ok(())
    }

    /// Takes out what the new publication supersedes.
    fn conflate(&mut self, own: &Arc<Subscription>, new: &Publication, out: Outgoing<'_>) {
        let superseded = self.data.iter().position(|queued| match queued {
            Queued::Publication(old, Some(of)) => {
                Arc::ptr_eq(of, own) && old.conflate() == new.conflate() && !old.is_turn()
            }
            _ => false,
        });
        if let Some(index) = superseded {
            self.drop_at(index, out);
        }
    }

    fn drop_oldest(&mut self, own: &Arc<Subscription>, out: Outgoing<'_>) -> bool {
        let oldest = self.data.iter().position(|queued| match queued {
            Queued::Publication(publication, Some(of)) => Arc::ptr_eq(of, own) && !publication.is_turn(),
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
        out.traffic.dropped.increment();
        let earlier = self.data.range_mut(..index).rev().find(|queued| match queued {
            Queued::Gap(gap) => Arc::ptr_eq(&gap.subscription, &subscription),
            Queued::Publication(other, Some(of)) => other.is_turn() && Arc::ptr_eq(of, &subscription),
            _ => false,
        });
        if let Some(Queued::Gap(gap)) = earlier {
            gap.missed += 1;
            self.data.remove(index);
        } else {
            self.data[index] = Queued::Gap(Gap::before(&publication, subscription));
            self.gaps += 1;
            self.has_new_gap = true;
        }
    }

    fn gap_at_end(&mut self, own: &Arc<Subscription>, publication: &Publication, out: Outgoing<'_>) {
        out.traffic.dropped.increment();
        // One gap for all that follows the channel's last message here, or channels that overflow in turn
        // would queue one for each.
        let last = self.data.iter_mut().rev().find(|queued| match queued {
            Queued::Gap(gap) => Arc::ptr_eq(&gap.subscription, own),
            Queued::Publication(_, of) => of.as_ref().is_some_and(|of| Arc::ptr_eq(of, own)),
            Queued::Frame(_) => false,
        });
        match last {
            Some(Queued::Gap(gap)) => gap.missed += 1,
            _ => {
                self.data.push_back(Queued::Gap(Gap::before(publication, own.clone())));
                self.gaps += 1;
                self.has_new_gap = true;
            }
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
            if let Queued::Gap(gap) = queued {
                let frame = gap.frame(out);
                self.data_bytes += frame.len();
                *queued = Queued::Frame(frame);
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
            Queued::Frame(frame) => frame,
            Queued::Publication(publication, _) => publication.frame(out.wire, out.deflate),
            Queued::Gap(_) => &self.partial, // rendered before; never reached
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
        let frame = match self.data.pop_front() {
            Some(Queued::Frame(frame)) => frame,
            Some(Queued::Publication(publication, _)) => publication.frame(out.wire, out.deflate).clone(),
            Some(Queued::Gap(_)) => Bytes::new(),
            None => return self.close.take(),
        };
        self.data_bytes -= frame.len();
        Some(frame)
    }
}

impl Gap {
    fn before(publication: &Publication, subscription: Arc<Subscription>) -> Self {
        let unknown = Position { epoch: Epoch::UNKNOWN, offset: 0 };
        let after = publication
            .position()
            .map_or(unknown, |position| Position { offset: position.offset.saturating_sub(1), ..position });
        Self { subscription, after, missed: 1 }
    }

    fn frame(&self, out: Outgoing<'_>) -> Bytes {
        let mut frame = FrameBuilder::with_capacity(128);
        let channel = self.subscription.channel.name.as_str();
        let gap = Message::Gap { channel, position: Some(self.after), missed: self.missed };
        gap.encode(out.wire.encoding(), frame.payload());
        frame.finish(out.wire.opcode())
    }
}

/// Slices in one vectored write.
const SLICES: usize = 64;

#[cfg(test)]
mod tests;
