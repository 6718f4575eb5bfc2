//! What the data lane of an outbox contains: frames, publications, replayed publications, and gaps where
//! messages were dropped; and the bounds of the lane. Used by `lanes`, `slow_consumer` and `replay`.

use super::Outgoing;
use crate::channel::Subscription;
use bytes::Bytes;
use hauyna_broker::{Publication, PublicationKind};
use hauyna_protocol::{Epoch, Message, Position};
use hauyna_websocket::FrameBuilder;
use std::sync::Arc;

#[derive(Debug)]
pub(super) enum Queued {
    Frame(Bytes),
    /// A reply that goes behind what its callback has sent.
    Reply(Bytes),
    Publication(Arc<Publication>, Option<Arc<Subscription>>),
    /// A publication of a replay, for a subscriber that catches up.
    Replayed(Arc<Publication>, Arc<Subscription>),
    /// A place where messages were dropped.
    Gap(Gap),
}

#[derive(Debug)]
pub(super) struct Gap {
    pub(super) subscription: Arc<Subscription>,
    /// The position before the first missing publication. `None` if the channel has a history and only
    /// messages without a number are missing.
    pub(super) after: Option<Position>,
    /// Number of missing publications.
    pub(super) missed: u64,
    /// The encoded frame, made just before it is written, when the gap has stopped growing.
    pub(super) frame: Option<Bytes>,
}

/// The bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueBounds {
    pub(crate) bytes: usize,
    pub(crate) frames: usize,
}

impl QueueBounds {
    /// The bounds for the first message that does not fit, until the connection's task has been asked to try
    /// its stream.
    pub(super) const UNBOUNDED: Self = Self { bytes: usize::MAX, frames: usize::MAX };

    /// Returns the bounds for a connection whose task has yet to try its stream.
    pub(super) fn widened(self, widening: Widening) -> Self {
        let least = match widening {
            Widening::Short => Self { bytes: WIDENED_BYTES, frames: WIDENED_FRAMES },
            Widening::Inbox => Self { bytes: INBOX_BYTES, frames: INBOX_FRAMES },
        };
        Self {
            bytes: self.bytes.saturating_mul(WIDENING_FACTOR).max(least.bytes),
            frames: self.frames.saturating_mul(WIDENING_FACTOR).max(least.frames),
        }
    }

    pub(super) fn halved(self) -> Self {
        Self { bytes: self.bytes / 2, frames: self.frames / 2 }
    }
}

/// How far the bounds of a connection widen until its task has tried its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Widening {
    /// As far as is acceptable for a task that does not run.
    Short,
    /// As far as the bounds of a shard's inbox, for what was posted to the shard. The shard waits for the
    /// task long before that, but not in the middle of what it writes together, nor where a caller cannot
    /// wait.
    Inbox,
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

    pub(super) fn belongs_to(&self, subscription: &Arc<Subscription>) -> bool {
        self.subscription().is_some_and(|queued| Arc::ptr_eq(queued, subscription))
    }
}

impl Gap {
    pub(super) fn of(publication: &Publication, subscription: Arc<Subscription>) -> Self {
        let has_history = subscription.channel.options.retention.is_some();
        let unknown = Position { epoch: Epoch::UNKNOWN, offset: 0 };
        let after = (!has_history).then_some(unknown);
        let mut gap = Self { subscription, after, missed: 0, frame: None };
        gap.add(publication);
        gap
    }

    /// Counts a missing publication; protocol messages such as presence events do not count.
    pub(super) fn add(&mut self, publication: &Publication) {
        if let Some(position) = publication.position() {
            let before = Position { offset: position.offset - 1, ..position };
            self.after.get_or_insert(before);
            self.missed += 1;
        } else if self.after.is_some_and(|after| after.epoch == Epoch::UNKNOWN)
            && publication.kind() != PublicationKind::Event
        {
            self.missed += 1;
        }
    }

    pub(super) fn encode(&self, out: Outgoing<'_>) -> Bytes {
        let mut frame = FrameBuilder::with_capacity(128);
        let channel = self.subscription.channel.name.as_str();
        let gap = Message::Gap { channel, position: self.after, missed: self.missed };
        gap.encode(out.wire.encoding(), frame.payload());
        frame.finish(out.wire.opcode())
    }
}

/// The factor by which the bounds widen until the task of a connection has tried its stream, and the least
/// bounds after that.
const WIDENING_FACTOR: usize = 4;
const WIDENED_BYTES: usize = 1 << 20;
const WIDENED_FRAMES: usize = 4096;
/// Twice what a shard accepts before publishers wait: the rest of one inbox and the next one.
const INBOX_BYTES: usize = 32 << 20;
const INBOX_FRAMES: usize = 16 * 1024;
