//! The items that a shard writes together, in the order in which they were posted, and the progress of the
//! writing. A step never overtakes an earlier one to the same connection; publications of one channel are
//! joined where the order to each connection stays the same. `fanout` drives it.

use super::members::SubscriberLists;
use crate::channel::Subscription;
use crate::connection::ConnectionCore;
use crate::shard::OrderedFrame;
use bytes::{Bytes, BytesMut};
use hashbrown::HashSet;
use hauyna_broker::{ConnectionId, Publication, Wire};
use hauyna_websocket::Deflate;
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) stage: Stage,
    /// Steps in the order in which they were posted.
    pub(super) steps: Vec<Step>,
    /// Lists with something pending, in the order of their first publication.
    pub(super) pending_lists: Vec<u32>,
    /// Connections that get something besides the publications of their channels.
    pub(super) directly_addressed: HashSet<ConnectionId>,
    /// Sum of the loads of its items.
    pub(super) load: u64,
    /// Progress of the current stage.
    pub(super) step: usize,
    pub(super) member: usize,
    pub(super) chunk: Chunk,
    /// Whether the list of the current step was found to have subscribers of several channels.
    pub(super) has_seen_several: bool,
    pub(super) everybody: Everybody,
}

/// The stage of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Items are being collected.
    #[default]
    Collect,
    /// Writes to connections that get only the publications of one channel: each gets all of them joined.
    Joined,
    /// Writes to all other connections: each gets its messages in the order of the steps.
    Ordered,
    /// Writes publications to all connections of the shard.
    Everybody,
    /// Flushes the connections for which something was queued.
    Flush,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Publications of one channel: a range of what is pending in its list.
    Channel {
        list: u32,
        pending: Range<usize>,
    },
    Direct(Arc<ConnectionCore>, Arc<Publication>),
    Frame(Box<OrderedFrame>),
}

/// Publications to all connections of the shard.
#[derive(Debug, Default)]
pub(super) struct Everybody {
    pub(super) publications: Vec<Arc<Publication>>,
    pub(super) connections: Vec<Arc<ConnectionCore>>,
}

impl Segment {
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether everything that is written comes from one channel, in one step.
    pub(super) fn is_of_one_channel(&self) -> bool {
        matches!(self.steps[..], [Step::Channel { .. }])
    }

    pub(super) fn push_publication(
        &mut self,
        list: u32,
        lists: &mut SubscriberLists,
        publication: Arc<Publication>,
    ) {
        let pending = &mut lists.list(list).pending;
        let index = pending.len();
        if index == 0 {
            self.pending_lists.push(list);
        }
        pending.push(publication);
        match self.steps.last_mut() {
            Some(Step::Channel { list: last, pending }) if *last == list => pending.end = index + 1,
            _ => self.steps.push(Step::Channel { list, pending: index..index + 1 }),
        }
    }

    pub(super) fn push_direct(&mut self, connection: Arc<ConnectionCore>, publication: Arc<Publication>) {
        self.directly_addressed.insert(connection.id());
        self.steps.push(Step::Direct(connection, publication));
    }

    pub(super) fn push_frame(&mut self, frame: Box<OrderedFrame>) {
        self.directly_addressed.insert(frame.connection.id());
        self.steps.push(Step::Frame(frame));
    }

    /// Whether this connection gets only the publications of one channel.
    pub(super) fn is_plain(&self, connection: &Arc<ConnectionCore>) -> bool {
        connection.subscription_list().has_one_list()
            && (self.directly_addressed.is_empty() || !self.directly_addressed.contains(&connection.id()))
    }

    pub(super) fn start_stage(&mut self, stage: Stage) {
        self.stage = stage;
        self.step = 0;
        self.member = 0;
        self.chunk = Chunk::default();
        self.has_seen_several = false;
    }

    /// Removes what was written. Returns its load.
    pub(super) fn finish(&mut self, lists: &mut SubscriberLists) -> u64 {
        for list in self.pending_lists.drain(..) {
            let pending = &mut lists.list(list).pending;
            pending.clear();
            if pending.capacity() > MAX_SPARE_ENTRIES {
                *pending = Vec::new();
            }
        }
        self.steps.clear();
        self.everybody.publications.clear();
        self.everybody.connections = Vec::new();
        if self.directly_addressed.capacity() > MAX_SPARE_ENTRIES {
            self.directly_addressed = HashSet::new();
        }
        self.directly_addressed.clear();
        self.start_stage(Stage::Collect);
        std::mem::take(&mut self.load)
    }
}

/// Publications of one channel that are joined into one buffer, once for each wire variant.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Range of the pending publications; empty before the first chunk.
    pub(super) range: Range<usize>,
    first_offset: u64,
    excludes: bool,
    joined: [Option<Bytes>; Wire::COUNT],
}

impl Chunk {
    /// Returns the chunk that follows in `pending`; `None` if nothing follows.
    pub(super) fn next(&self, pending: &[Arc<Publication>]) -> Option<Self> {
        let start = self.range.end;
        let mut bytes = 0;
        let fit = pending[start..].iter().take_while(|publication| {
            bytes += publication.content().bytes().len();
            bytes <= MAX_JOINED_BYTES
        });
        let count = fit.count().max(1);
        if start >= pending.len() {
            return None;
        }
        let range = start..start + count;
        let publications = &pending[range.clone()];
        let offsets = publications.iter().map(|publication| publication.offset());
        Some(Self {
            first_offset: offsets.filter(|offset| *offset > 0).min().unwrap_or(u64::MAX),
            excludes: publications.iter().any(|publication| publication.except().is_some()),
            joined: Default::default(),
            range,
        })
    }

    /// Whether this subscriber, which has everything up to offset `after`, gets the whole chunk.
    pub(super) fn is_whole_for(
        &self,
        connection: &Arc<ConnectionCore>,
        after: u64,
        pending: &[Arc<Publication>],
    ) -> bool {
        let is_new = after < self.first_offset;
        let is_excluded = self.excludes
            && pending[self.range.clone()].iter().any(|publication| connection.is_excluded_from(publication));
        is_new && !is_excluded
    }

    /// Returns the concatenated frames.
    pub(super) fn joined(
        &mut self,
        pending: &[Arc<Publication>],
        wire: Wire,
        deflate: Option<&Deflate>,
    ) -> &Bytes {
        let publications = &pending[self.range.clone()];
        self.joined[wire.index()].get_or_insert_with(|| match publications {
            [one] => one.frame(wire, deflate).clone(),
            several => {
                let frames = several.iter().map(|publication| publication.frame(wire, deflate));
                let mut joined = BytesMut::with_capacity(frames.clone().map(Bytes::len).sum());
                frames.for_each(|frame| joined.extend_from_slice(frame));
                joined.freeze()
            }
        })
    }
}

/// Whether a subscriber that has everything up to offset `after` gets a publication.
pub(super) fn is_for(publication: &Publication, subscription: &Subscription, after: u64) -> bool {
    let is_known = publication.offset() != 0 && publication.offset() <= after;
    !is_known && !subscription.connection.is_excluded_from(publication)
}

/// Bytes of content that are joined into one buffer, approximately.
const MAX_JOINED_BYTES: usize = 64 * 1024;
/// Entries up to which a list is kept for the next segment.
const MAX_SPARE_ENTRIES: usize = 256;
