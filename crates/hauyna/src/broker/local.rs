//! The broker of one process: streams in memory, bounded by count and age per channel and by bytes in
//! total. Publishing numbers, stores and relays under one lock, in line, so that the order of offsets is
//! the order of delivery. It never waits and never fails.

use super::stream::Stream;
use super::{Answer, Broker, Continuity, HistoryPage, HistoryRange, Publish, Published, Relay, Repeat};
use crate::channel::{ChannelName, Publication};
use crate::error::BrokerError;
use hashbrown::HashTable;
use hauyna_protocol::{Epoch, Position};
use parking_lot::Mutex;
use slab::Slab;
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// The default broker: everything in this process.
#[derive(Debug)]
pub struct LocalBroker {
    options: LocalOptions,
    hasher: RandomState,
    parts: Box<[Mutex<Part>]>,
    relay: OnceLock<Relay>,
}

/// Bounds of a [`LocalBroker`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct LocalOptions {
    /// All histories together, in bytes; the oldest publications go first. Default 256 MiB.
    pub history_bytes: usize,
    /// How long a channel's position is remembered after its last publication, at least. Default 1 hour.
    pub position_age: Duration,
    /// How many channels are remembered, about; those that were published in longest ago are forgotten first,
    /// history and position, so that names which clients make up are bounded too. Default 262,144.
    pub channels: usize,
    /// How long an idempotency key is remembered. Default 5 minutes.
    pub key_age: Duration,
    /// How many idempotency keys are remembered, all channels together; the oldest go first. Default 262,144.
    pub keys: usize,
    /// How many bytes idempotency keys may take, with the names of their channels and users; the oldest go first.
    /// Default 32 MiB.
    pub key_bytes: usize,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            history_bytes: 256 << 20,
            position_age: Duration::from_secs(3600),
            channels: 1 << 18,
            key_age: Duration::from_secs(300),
            keys: 1 << 18,
            key_bytes: 32 << 20,
        }
    }
}

/// The streams whose names hash to one of [`PARTS`] locks.
#[derive(Debug)]
struct Part {
    /// The epoch of streams that are not there; changes when one is forgotten, so that its offsets are too.
    epoch: Epoch,
    /// Numbers of streams, by their names' hash.
    index: HashTable<usize>,
    streams: Slab<Named>,
    bytes: usize,
    /// Every kept publication in the order it came, and some that are gone: the next victims.
    oldest: VecDeque<(usize, u64)>,
    live: usize,
    keys: HashMap<Arc<str>, Option<Position>>,
    key_order: VecDeque<(Instant, Arc<str>)>,
    key_bytes: usize,
}

#[derive(Debug)]
struct Named {
    name: ChannelName,
    hash: u64,
    stream: Stream,
}

impl LocalBroker {
    /// A broker with bounds of one's own.
    pub fn new(options: LocalOptions) -> Self {
        let parts = (0..PARTS).map(|_| Mutex::new(Part::new())).collect();
        Self { options, hasher: RandomState::new(), parts, relay: OnceLock::new() }
    }

    /// The part that has a channel, and the channel's hash in it.
    fn part(&self, channel: &ChannelName) -> (&Mutex<Part>, u64) {
        let hash = self.hasher.hash_one(channel);
        // Bits that the table inside the part does not use.
        (&self.parts[(hash >> 48) as usize % PARTS], hash)
    }
}

impl Default for LocalBroker {
    fn default() -> Self {
        Self::new(LocalOptions::default())
    }
}

impl Broker for LocalBroker {
    fn start(&self, relay: Relay) {
        // A second hub on one local broker would get nothing; the first one keeps it.
        let _ = self.relay.set(relay);
    }

    fn publish(&self, publish: Publish) -> Answer<Result<Published, BrokerError>> {
        let now = Instant::now();
        let (part, hash) = self.part(publish.draft.channel());
        let mut part = part.lock();
        let key = publish.key.map(|key| scoped(publish.draft.channel(), &key));
        if let Some(position) = key.as_ref().and_then(|key| part.keys.get(key).copied()) {
            return Answer::now(Ok(Published { position, repeat: Repeat::Yes }));
        }
        let Some(retention) = publish.retention.filter(|retention| retention.messages > 0) else {
            part.remember(key, None, now, &self.options);
            let publication = Arc::new(publish.draft.publication(None));
            self.relay(&publication);
            return Answer::now(Ok(Published { position: None, repeat: Repeat::No }));
        };
        part.bound_streams(self.options.channels.div_ceil(PARTS));
        let number = part.find_or_insert(publish.draft.channel(), hash, now);
        let stream = &mut part.streams[number].stream;
        let position = stream.next();
        let publication = Arc::new(publish.draft.publication(Some(position)));
        let before = stream.first();
        let (came, went) = stream.push(publication.clone(), retention, now);
        let dropped = stream.first() - before;
        part.account(came, went, dropped);
        part.oldest.push_back((number, position.offset));
        part.live += 1;
        part.shrink_to(self.options.history_bytes / PARTS);
        part.remember(key, Some(position), now, &self.options);
        self.relay(&publication);
        Answer::now(Ok(Published { position: Some(position), repeat: Repeat::No }))
    }

    fn subscribe(&self, _: &ChannelName) -> Answer<Result<(), BrokerError>> {
        Answer::now(Ok(()))
    }

    fn unsubscribe(&self, _: &ChannelName) {}

    fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Answer<Result<HistoryPage, BrokerError>> {
        let (part, hash) = self.part(channel);
        let mut part = part.lock();
        let Some(number) = part.find(channel, hash) else {
            let top = Position { epoch: part.epoch, offset: 0 };
            let continuity = match range.since {
                Some(since) if since != top => Continuity::EpochChanged,
                _ => Continuity::Whole,
            };
            return Answer::now(Ok(HistoryPage { top, publications: Vec::new(), continuity }));
        };
        let stream = &mut part.streams[number].stream;
        let before = stream.first();
        let went = stream.expire(Instant::now());
        let dropped = stream.first() - before;
        let page = stream.page(range);
        part.account(0, went, dropped);
        Answer::now(Ok(page))
    }

    fn sweep(&self) {
        let now = Instant::now();
        for part in &self.parts {
            part.lock().sweep(now, &self.options);
        }
    }

    fn memory(&self) -> usize {
        self.parts.iter().map(|part| part.lock().memory()).sum()
    }
}

impl LocalBroker {
    fn relay(&self, publication: &Arc<Publication>) {
        if let Some(relay) = self.relay.get() {
            relay.relay(publication);
        }
    }
}

impl Part {
    fn new() -> Self {
        Self {
            epoch: fresh_epoch(),
            index: HashTable::new(),
            streams: Slab::new(),
            bytes: 0,
            oldest: VecDeque::new(),
            live: 0,
            keys: HashMap::new(),
            key_order: VecDeque::new(),
            key_bytes: 0,
        }
    }

    fn find(&self, channel: &ChannelName, hash: u64) -> Option<usize> {
        self.index.find(hash, |number| self.streams[*number].name == *channel).copied()
    }

    fn find_or_insert(&mut self, channel: &ChannelName, hash: u64, now: Instant) -> usize {
        self.find(channel, hash).unwrap_or_else(|| {
            let stream = Stream::new(self.epoch, now);
            let number = self.streams.insert(Named { name: channel.clone(), hash, stream });
            self.index.insert_unique(hash, number, |number| self.streams[*number].hash);
            number
        })
    }

    fn account(&mut self, came: usize, went: usize, dropped: u64) {
        self.bytes = (self.bytes + came).saturating_sub(went);
        self.live = self.live.saturating_sub(usize::try_from(dropped).unwrap_or(usize::MAX));
    }

    /// About how many bytes it holds.
    fn memory(&self) -> usize {
        let streams = self.streams.capacity() * size_of::<Named>() + self.index.capacity() * 9;
        let victims = self.oldest.capacity() * size_of::<(usize, u64)>();
        let keys = self.keys.len() * (2 * size_of::<(Arc<str>, Option<Position>)>() + 16) + self.key_bytes;
        self.bytes + streams + victims + keys
    }

    /// Drops the oldest publications until `bytes` is not exceeded, and the list's dead entries.
    fn shrink_to(&mut self, bytes: usize) {
        while self.bytes > bytes || self.oldest.front().is_some_and(|entry| !self.is_kept(entry)) {
            let Some(entry) = self.oldest.pop_front() else { break };
            if self.is_kept(&entry) {
                let went = self.streams[entry.0].stream.pop();
                self.account(0, went, 1);
            }
        }
        if self.oldest.len() > 2 * self.live + 64 {
            let mut oldest = std::mem::take(&mut self.oldest);
            oldest.retain(|entry| self.is_kept(entry));
            self.oldest = oldest;
        }
    }

    fn is_kept(&self, (number, offset): &(usize, u64)) -> bool {
        self.streams.get(*number).is_some_and(|named| *offset >= named.stream.first())
    }

    fn remember(
        &mut self,
        key: Option<Arc<str>>,
        position: Option<Position>,
        now: Instant,
        options: &LocalOptions,
    ) {
        let Some(key) = key else { return };
        self.key_bytes += key.len();
        self.keys.insert(key.clone(), position);
        self.key_order.push_back((now, key));
        while self.key_order.len() > options.keys.div_ceil(PARTS)
            || self.key_bytes > options.key_bytes.div_ceil(PARTS)
        {
            self.forget_key();
        }
    }

    fn forget_key(&mut self) {
        if let Some((_, key)) = self.key_order.pop_front() {
            self.key_bytes -= key.len();
            self.keys.remove(&key);
        }
    }

    fn sweep(&mut self, now: Instant, options: &LocalOptions) {
        while self.key_order.front().is_some_and(|(at, _)| now.duration_since(*at) > options.key_age) {
            self.forget_key();
        }
        let (mut gone, mut dropped, mut forgotten) = (0, 0, Vec::new());
        for (number, Named { stream, .. }) in &mut self.streams {
            let before = stream.first();
            gone += stream.expire(now);
            dropped += stream.first() - before;
            if stream.is_empty() && now.duration_since(stream.last_used()) >= options.position_age {
                forgotten.push(number);
            }
        }
        self.account(0, gone, dropped);
        self.shrink_to(usize::MAX);
        if !forgotten.is_empty() {
            self.forget(&forgotten);
        }
    }

    /// Forgets streams once there are more than `most` and a quarter, so that looking at all of them is rare.
    fn bound_streams(&mut self, most: usize) {
        if self.streams.len() <= most + most / 4 {
            return;
        }
        let mut oldest: Vec<_> =
            self.streams.iter().map(|(number, named)| (named.stream.last_used(), number)).collect();
        oldest.sort_unstable();
        oldest.truncate(oldest.len() - most);
        let numbers: Vec<usize> = oldest.into_iter().map(|(_, number)| number).collect();
        for number in &numbers {
            while !self.streams[*number].stream.is_empty() {
                let went = self.streams[*number].stream.pop();
                self.account(0, went, 1);
            }
        }
        self.forget(&numbers);
    }

    /// Forgets streams that nobody has published in for long, so that their numbers are free for others.
    fn forget(&mut self, numbers: &[usize]) {
        for number in numbers {
            let Named { hash, .. } = self.streams.remove(*number);
            if let Ok(entry) = self.index.find_entry(hash, |entry| entry == number) {
                entry.remove();
            }
        }
        self.oldest.retain(|(number, _)| self.streams.contains(*number));
        if self.index.capacity() > 8 * (self.index.len() + 8) {
            self.index.shrink_to_fit(|number| self.streams[*number].hash);
            self.streams.shrink_to_fit();
        }
        self.epoch = fresh_epoch();
    }
}

/// An epoch that no stream has had.
fn fresh_epoch() -> Epoch {
    loop {
        let epoch = Epoch::new(crate::random::u64());
        if epoch != Epoch::UNKNOWN {
            return epoch;
        }
    }
}

/// Keys are per channel: the same key elsewhere is another publication.
fn scoped(channel: &ChannelName, key: &str) -> Arc<str> {
    format!("{}\0{key}", channel.as_str()).into()
}

/// Locks over the streams. Many, so that two publishers rarely meet.
const PARTS: usize = 64;

#[cfg(test)]
mod tests;
