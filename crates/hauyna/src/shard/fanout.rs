//! The work of a shard on one batch: collect what each channel published, then write it. Where a channel
//! published several messages, they are joined into one buffer once, and each subscriber gets that buffer
//! in one send. Connections of several channels are queued for first and written once at the end.

use super::Item;
use super::members::{Member, Members};
use super::take_turns;
use crate::channel::{ChannelCore, Publication, Target, Wire};
use crate::clock::Tick;
use crate::connection::ConnectionCore;
use crate::hub::HubCore;
use bytes::{Bytes, BytesMut};
use hauyna_websocket::Deflate;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Fanout {
    members: Members,
    /// Channels with something pending, in the order of their first publication.
    touched: Vec<u32>,
    /// Connections with something queued.
    dirty: Vec<Arc<ConnectionCore>>,
    /// Writes since others last had their turn.
    written: u32,
}

impl Fanout {
    pub(super) fn new(shard: usize) -> Self {
        Self { members: Members::new(shard), touched: Vec::new(), dirty: Vec::new(), written: 0 }
    }

    /// Works a batch off.
    pub(super) async fn serve(&mut self, hub: &HubCore, batch: &mut Vec<Item>, now: Tick) {
        for item in batch.drain(..) {
            match item {
                Item::Publish { channel, publication } => self.collect(&channel, publication),
                Item::Subscribe { subscription, after } => {
                    self.settle(hub, &subscription.channel, now).await;
                    self.members.add(&subscription, after);
                    self.mark(&subscription.connection);
                }
                Item::Unsubscribe(subscription) => {
                    self.settle(hub, &subscription.channel, now).await;
                    self.members.remove(&subscription);
                }
                Item::Turn { channel, notice } => {
                    self.settle(hub, &channel, now).await;
                    self.turn(&channel, &notice).await;
                }
                Item::Direct { connection, publication } => {
                    hub.metrics.delivered.increment();
                    connection.push_publication(&publication, None);
                    self.mark(&connection);
                }
                Item::User(publication) => {
                    let Target::User(user) = publication.channel().target() else { continue };
                    let mut own = hub.registry.of_user(user);
                    own.retain(|connection| connection.shard() == self.members.shard());
                    self.push_to(hub, own, &publication).await;
                }
                Item::Everybody(publication) => {
                    let all = hub.registry.of_shard(self.members.shard());
                    self.push_to(hub, all, &publication).await;
                }
                Item::Flush(connection) => self.mark(&connection),
            }
        }
        let touched = std::mem::take(&mut self.touched);
        let is_only = touched.len() == 1 && self.dirty.is_empty();
        for slot in &touched {
            self.write_list(hub, *slot, (is_only, now)).await;
        }
        self.touched = touched;
        self.touched.clear();
        self.flush(now).await;
    }

    /// Has the subscribers of a channel start from the beginning of what the stream is now, and tells them.
    async fn turn(&mut self, channel: &ChannelCore, notice: &Arc<Publication>) {
        let Some(slot) = self.members.slot(channel) else { return };
        let mut members = std::mem::take(&mut self.members.list(slot).members);
        for Member { connection, subscription, after } in &mut members {
            *after = 0;
            if connection.is_negotiated() {
                connection.push_publication(notice, Some(subscription));
                self.mark(connection);
            }
            self.written += 1;
            if self.written >= TURN {
                self.written = 0;
                take_turns().await;
            }
        }
        self.members.list(slot).members = members;
    }

    async fn push_to(
        &mut self,
        hub: &HubCore,
        connections: Vec<Arc<ConnectionCore>>,
        publication: &Arc<Publication>,
    ) {
        hub.metrics.delivered.add(connections.len() as u64);
        for connection in connections {
            if publication.except() != Some(connection.id()) {
                connection.push_publication(publication, None);
                self.mark(&connection);
            }
            self.written += 1;
            if self.written >= TURN {
                self.written = 0;
                take_turns().await;
            }
        }
    }

    fn collect(&mut self, channel: &ChannelCore, publication: Arc<Publication>) {
        let Some(slot) = self.members.slot(channel) else { return };
        let list = self.members.list(slot);
        if list.pending.is_empty() {
            self.touched.push(slot);
        }
        list.pending.push(publication);
    }

    /// Writes what is pending for a channel before its subscribers change.
    async fn settle(&mut self, hub: &HubCore, channel: &ChannelCore, now: Tick) {
        if self.touched.is_empty() {
            return;
        }
        let slot = self.members.slot(channel);
        if let Some(index) = self.touched.iter().position(|touched| Some(*touched) == slot) {
            let slot = self.touched.swap_remove(index);
            self.write_list(hub, slot, (false, now)).await;
        }
    }

    /// Gives each subscriber of a channel what was published. `is_only`: nobody gets anything else in this
    /// batch, so that there is nothing to wait for.
    async fn write_list(&mut self, hub: &HubCore, slot: u32, (is_only, now): (bool, Tick)) {
        let list = self.members.list(slot);
        let mut pending = std::mem::take(&mut list.pending);
        let members = std::mem::take(&mut list.members);
        let mut rest = &pending[..];
        while !rest.is_empty() {
            let count = Run::length(rest);
            let (now_due, later) = rest.split_at(count);
            let mut run = Run::new(now_due);
            for some in members.chunks(TOUCHED) {
                touch(some);
                for member in some {
                    self.write_member(member, &mut run, (is_only, now));
                    if self.written >= TURN {
                        self.written = 0;
                        take_turns().await;
                    }
                }
            }
            hub.metrics.delivered.add((count * members.len()) as u64);
            rest = later;
        }
        pending.clear();
        let list = self.members.list(slot);
        list.members = members;
        if pending.capacity() <= 64 {
            list.pending = pending;
        }
    }

    fn write_member(&mut self, member: &Member, run: &mut Run<'_>, (is_only, now): (bool, Tick)) {
        let Member { connection, subscription, after } = member;
        if run.is_for(connection, *after) && (is_only || connection.has_one_subscription()) {
            let joined = run.joined(connection.wire(), connection.deflate());
            connection.write_publications(joined, subscription, now);
            self.written += 1;
            return;
        }
        for publication in run.publications {
            let is_known = publication.offset() != 0 && publication.offset() <= *after;
            if !is_known && publication.except() != Some(connection.id()) {
                connection.push_publication(publication, Some(subscription));
            }
        }
        self.mark(connection);
    }

    fn mark(&mut self, connection: &Arc<ConnectionCore>) {
        if connection.list() {
            self.dirty.push(connection.clone());
        }
    }

    async fn flush(&mut self, now: Tick) {
        while let Some(connection) = self.dirty.pop() {
            connection.flush_listed(now);
            self.written += 1;
            if self.written >= TURN {
                self.written = 0;
                take_turns().await;
            }
        }
        if self.dirty.capacity() > 4096 {
            self.dirty = Vec::new();
        }
    }
}

/// Publications of one channel that are written together.
struct Run<'a> {
    publications: &'a [Arc<Publication>],
    first_offset: u64,
    excludes: bool,
    joined: [Option<Bytes>; Wire::COUNT],
}

impl<'a> Run<'a> {
    /// How many publications fit into one buffer.
    fn length(publications: &[Arc<Publication>]) -> usize {
        let mut bytes = 0;
        let fit = publications.iter().take_while(|publication| {
            bytes += publication.content().bytes().len();
            bytes <= JOINED
        });
        fit.count().max(1)
    }

    fn new(publications: &'a [Arc<Publication>]) -> Self {
        let offsets = publications.iter().map(|publication| publication.offset());
        Self {
            publications,
            first_offset: offsets.filter(|offset| *offset > 0).min().unwrap_or(u64::MAX),
            excludes: publications.iter().any(|publication| publication.except().is_some()),
            joined: Default::default(),
        }
    }

    /// Whether this subscriber gets all of it.
    fn is_for(&self, connection: &ConnectionCore, after: u64) -> bool {
        let is_new = after < self.first_offset;
        let is_excluded = self.excludes
            && self.publications.iter().any(|publication| publication.except() == Some(connection.id()));
        is_new && !is_excluded
    }

    fn joined(&mut self, wire: Wire, deflate: Option<&Deflate>) -> (&Bytes, &'a [Arc<Publication>]) {
        let publications = self.publications;
        let joined = self.joined[wire.index()].get_or_insert_with(|| match publications {
            [one] => one.frame(wire, deflate).clone(),
            several => {
                let frames = several.iter().map(|publication| publication.frame(wire, deflate));
                let mut joined = BytesMut::with_capacity(frames.clone().map(Bytes::len).sum());
                frames.for_each(|frame| joined.extend_from_slice(frame));
                joined.freeze()
            }
        });
        (joined, publications)
    }
}

/// Loads the connections that are about to be written to. They lie all over the memory, and the kernel has
/// pushed them out of the caches since last time: asked for together they come together, one after the
/// other each would be waited for.
fn touch(members: &[Member]) {
    std::hint::black_box(
        members.iter().fold(0, |sum: u32, member| sum.wrapping_add(member.connection.touch())),
    );
}

/// Connections that are loaded together.
const TOUCHED: usize = 16;
/// Writes after which other tasks of the thread get their turn: about a millisecond.
const TURN: u32 = 128;
/// Bytes of content that are joined into one buffer, about.
const JOINED: usize = 64 * 1024;
