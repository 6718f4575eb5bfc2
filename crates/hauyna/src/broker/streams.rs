//! One stripe of the local broker, under one lock: the streams whose names hash to it, their publications in
//! the order in which they came, and their idempotency keys. It knows its oldest entry of each kind, so that
//! `local` finds the oldest of all stripes. Pure data; it takes the time as an argument.

use super::keys::Keys;
use super::stream::Stream;
use super::{HistoryPage, HistoryRange, Retention};
use crate::stripes::is_sparse;
use hashbrown::HashTable;
use hauyna_broker::{ChannelName, Draft, Publication};
use hauyna_protocol::{Epoch, Position};
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

/// Microseconds since the broker was created.
pub(super) type Stamp = u64;

#[derive(Debug)]
pub(super) struct Streams {
    /// The epoch of streams that do not exist; it changes when a stream with this epoch is removed.
    epoch: Epoch,
    /// Numbers of streams, by the hash of their names.
    index: HashTable<usize>,
    streams: Slab<NamedStream>,
    /// Bytes of all publications kept.
    bytes: usize,
    /// The kept publications in the order they came, and some that are gone; the first is dropped next.
    oldest: VecDeque<KeptEntry>,
    /// Number of publications kept.
    kept_count: usize,
    /// Streams without subscribers by the time of their last use, which may be outdated: each is checked
    /// again before it is removed.
    idle: BinaryHeap<Reverse<(Stamp, StreamId)>>,
    /// The serial of the next stream.
    serial: u32,
    pub(super) keys: Keys,
}

/// The stream of a list's entry. Its number is reused once the stream is removed; the serial tells them
/// apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct StreamId {
    number: u32,
    serial: u32,
}

#[derive(Debug)]
struct NamedStream {
    name: ChannelName,
    hash: u64,
    serial: u32,
    stream: Stream,
    /// Whether it has subscribers, and so is not removed.
    has_subscribers: bool,
    /// Whether it is listed in `idle`.
    is_listed: bool,
}

#[derive(Debug, Clone, Copy)]
struct KeptEntry {
    at: Stamp,
    stream: StreamId,
    offset: u64,
}

/// What a stripe holds of the totals that are bounded.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Amounts {
    pub(super) history_bytes: usize,
    pub(super) streams: usize,
    pub(super) keys: usize,
    pub(super) key_bytes: usize,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            epoch: new_epoch(),
            index: HashTable::new(),
            streams: Slab::new(),
            bytes: 0,
            oldest: VecDeque::new(),
            kept_count: 0,
            idle: BinaryHeap::new(),
            serial: 0,
            keys: Keys::default(),
        }
    }

    pub(super) fn amounts(&self) -> Amounts {
        Amounts {
            history_bytes: self.bytes,
            streams: self.streams.len(),
            keys: self.keys.len(),
            key_bytes: self.keys.bytes(),
        }
    }

    /// Returns an estimate of the memory it holds, in bytes.
    pub(super) fn memory(&self) -> usize {
        let streams = self.streams.capacity() * size_of::<NamedStream>() + self.index.capacity() * 9;
        let lists = self.oldest.capacity() * size_of::<KeptEntry>()
            + self.idle.capacity() * size_of::<Reverse<(Stamp, StreamId)>>();
        self.bytes + streams + lists + self.keys.memory()
    }

    fn find(&self, channel: &ChannelName, hash: u64) -> Option<usize> {
        self.index.find(hash, |number| self.streams[*number].name == *channel).copied()
    }

    fn find_or_insert(&mut self, channel: &ChannelName, hash: u64, now: Stamp) -> usize {
        self.find(channel, hash).unwrap_or_else(|| {
            let stream = Stream::new(self.epoch, now);
            let (name, serial) = (channel.clone(), self.serial);
            self.serial = serial.wrapping_add(1);
            let named = NamedStream { name, hash, serial, stream, has_subscribers: false, is_listed: false };
            let number = self.streams.insert(named);
            self.index.insert_unique(hash, number, |number| self.streams[*number].hash);
            number
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "as many streams do not fit into memory")]
    fn id(&self, number: usize) -> StreamId {
        StreamId { number: number as u32, serial: self.streams[number].serial }
    }

    fn get(&self, id: StreamId) -> Option<&NamedStream> {
        self.streams.get(id.number as usize).filter(|named| named.serial == id.serial)
    }

    // Publications.

    /// Numbers the next publication of a channel and keeps it.
    pub(super) fn append(
        &mut self,
        draft: Draft,
        hash: u64,
        retention: Retention,
        now: Stamp,
    ) -> (Position, Arc<Publication>) {
        let number = self.find_or_insert(draft.channel(), hash, now);
        self.list_if_idle(number);
        let stream = &mut self.streams[number].stream;
        let position = stream.next();
        let publication = Arc::new(draft.publication(Some(position)));
        let before = stream.len();
        let (added, evicted) = stream.append(publication.clone(), retention, now);
        let after = stream.len();
        self.bytes = self.bytes + added - evicted;
        self.kept_count = self.kept_count + after - before;
        self.oldest.push_back(KeptEntry { at: now, stream: self.id(number), offset: position.offset });
        self.drop_dead_entries();
        (position, publication)
    }

    pub(super) fn page(
        &mut self,
        channel: &ChannelName,
        hash: u64,
        range: HistoryRange,
        now: Stamp,
    ) -> HistoryPage {
        let Some(number) = self.find(channel, hash) else { return Stream::new(self.epoch, now).page(range) };
        self.expire(number, now);
        self.drop_dead_entries();
        self.streams[number].stream.page(range)
    }

    /// Drops publications of a channel that are too old.
    fn expire(&mut self, number: usize, now: Stamp) {
        let stream = &mut self.streams[number].stream;
        let before = stream.len();
        self.bytes -= stream.expire(now);
        self.kept_count -= before - stream.len();
    }

    /// Returns when the oldest publication came that is kept.
    pub(super) fn oldest_publication(&self) -> Option<Stamp> {
        self.oldest.front().map(|entry| entry.at)
    }

    pub(super) fn drop_oldest_publication(&mut self) {
        if let Some(entry) = self.oldest.pop_front()
            && self.is_kept(&entry)
        {
            self.bytes -= self.streams[entry.stream.number as usize].stream.drop_oldest();
            self.kept_count -= 1;
        }
        self.drop_dead_entries();
    }

    /// Removes entries of publications that are gone, so that the list begins with a kept one and stays
    /// short.
    fn drop_dead_entries(&mut self) {
        while self.oldest.front().is_some_and(|entry| !self.is_kept(entry)) {
            self.oldest.pop_front();
        }
        if self.oldest.len() > 2 * self.kept_count + 64 {
            let mut oldest = std::mem::take(&mut self.oldest);
            oldest.retain(|entry| self.is_kept(entry));
            self.oldest = oldest;
        }
        if is_sparse(self.oldest.capacity(), self.oldest.len(), 64) {
            self.oldest.shrink_to(2 * self.oldest.len());
        }
    }

    fn is_kept(&self, entry: &KeptEntry) -> bool {
        self.get(entry.stream).is_some_and(|named| entry.offset >= named.stream.first())
    }

    // Streams.

    /// Marks a channel as subscribed, so that its stream is not removed.
    pub(super) fn subscribe(&mut self, channel: &ChannelName, hash: u64, now: Stamp) {
        let number = self.find_or_insert(channel, hash, now);
        self.streams[number].has_subscribers = true;
    }

    /// Marks a channel as unsubscribed. Its subscribers may return, so it is kept as long as after a
    /// publication.
    pub(super) fn unsubscribe(&mut self, channel: &ChannelName, hash: u64, now: Stamp) {
        let Some(number) = self.find(channel, hash) else { return };
        let named = &mut self.streams[number];
        named.has_subscribers = false;
        named.stream.note_use(now);
        // Without an entry the channel has the same position.
        if named.stream.top() == (Position { epoch: self.epoch, offset: 0 }) {
            self.remove(number);
        } else {
            self.list_if_idle(number);
        }
    }

    fn list_if_idle(&mut self, number: usize) {
        let id = self.id(number);
        let named = &mut self.streams[number];
        if !named.has_subscribers && !named.is_listed {
            named.is_listed = true;
            self.idle.push(Reverse((named.stream.last_used(), id)));
        }
    }

    /// Returns a lower bound of the time at which the least recently used stream without subscribers was
    /// used.
    pub(super) fn oldest_stream(&self) -> Option<Stamp> {
        self.idle.peek().map(|Reverse((at, _))| *at)
    }

    /// Removes the least recently used stream without subscribers, or corrects the list if the entry was
    /// outdated.
    pub(super) fn remove_oldest_stream(&mut self) {
        let Some(Reverse((at, id))) = self.idle.pop() else { return };
        if self.get(id).is_none() {
            return;
        }
        let number = id.number as usize;
        let named = &mut self.streams[number];
        let last_used = named.stream.last_used();
        if named.has_subscribers {
            named.is_listed = false;
        } else if last_used > at {
            self.idle.push(Reverse((last_used, id)));
        } else {
            self.kept_count -= named.stream.len();
            self.bytes -= named.stream.clear();
            self.remove_stream(number);
            self.drop_dead_entries();
        }
    }

    /// Drops keys, publications and positions that are too old; ages in microseconds.
    pub(super) fn sweep(&mut self, now: Stamp, key_age: u64, position_age: u64) {
        self.keys.expire(now, key_age);
        let mut expired = Vec::new();
        for (number, NamedStream { stream, has_subscribers, .. }) in &mut self.streams {
            let before = stream.len();
            self.bytes -= stream.expire(now);
            self.kept_count -= before - stream.len();
            let unused = now.saturating_sub(stream.last_used());
            if stream.is_empty() && !*has_subscribers && unused >= position_age {
                expired.push(number);
            }
        }
        for number in &expired {
            self.remove_stream(*number);
        }
        if !expired.is_empty() {
            let mut idle = std::mem::take(&mut self.idle);
            idle.retain(|Reverse((_, id))| self.get(*id).is_some());
            idle.shrink_to(2 * idle.len());
            self.idle = idle;
        }
        self.drop_dead_entries();
    }

    /// Removes an empty stream; its offsets may be used again only under another epoch.
    fn remove_stream(&mut self, number: usize) {
        if self.streams[number].stream.top().epoch == self.epoch {
            self.epoch = new_epoch();
        }
        self.remove(number);
    }

    fn remove(&mut self, number: usize) {
        let NamedStream { hash, .. } = self.streams.remove(number);
        if let Ok(entry) = self.index.find_entry(hash, |entry| *entry == number) {
            entry.remove();
        }
        if is_sparse(self.index.capacity(), self.index.len(), 8) {
            self.index.shrink_to_fit(|number| self.streams[*number].hash);
            self.streams.shrink_to_fit();
        }
    }
}

#[cfg(test)]
impl Streams {
    /// Counts everything again, to compare it with the totals.
    pub(super) fn audit(&self) -> Amounts {
        let streams = || self.streams.iter().map(|(_, named)| &named.stream);
        assert_eq!(self.kept_count, streams().map(Stream::len).sum::<usize>());
        assert_eq!(self.index.len(), self.streams.len());
        let pages = streams().map(|stream| stream.page(HistoryRange::all()));
        let weights = pages.flat_map(|page| page.publications).map(|publication| publication.weight());
        assert_eq!(self.bytes, weights.sum::<usize>());
        assert!(self.oldest.len() <= 2 * self.kept_count + 65);
        assert_eq!(self.oldest.iter().filter(|entry| self.is_kept(entry)).count(), self.kept_count);
        let listed = self.streams.iter().filter(|(_, named)| named.is_listed).count();
        assert_eq!(self.idle.len(), listed);
        let is_reachable = |named: &NamedStream| named.is_listed || named.has_subscribers;
        assert!(self.streams.iter().all(|(_, named)| is_reachable(named)), "a stream is never forgotten");
        self.amounts()
    }
}

/// Returns an epoch that no stream has had.
fn new_epoch() -> Epoch {
    loop {
        let epoch = Epoch::new(crate::random::u64());
        if epoch != Epoch::UNKNOWN {
            return epoch;
        }
    }
}
