//! The broker of one process: streams in memory, bounded by count and age per channel and by bytes in
//! total. Publishing numbers, stores and relays under one lock, in line, so that the order of offsets is
//! the order of delivery. It never waits and never fails.

use super::stream::Stream;
use super::{Answer, Broker, Continuity, HistoryPage, HistoryRange, Publish, Published, Relay, Repeat};
use crate::channel::{ChannelName, Publication};
use crate::error::BrokerError;
use hauyna_protocol::{Epoch, Position};
use parking_lot::Mutex;
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
    /// How long an idempotency key is remembered. Default 5 minutes.
    pub key_age: Duration,
    /// How many idempotency keys are remembered, all channels together; the oldest go first. Default 262,144.
    pub keys: usize,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            history_bytes: 256 << 20,
            position_age: Duration::from_secs(3600),
            key_age: Duration::from_secs(300),
            keys: 1 << 18,
        }
    }
}

/// The streams whose names hash to one of [`PARTS`] locks.
#[derive(Debug)]
struct Part {
    /// The epoch of streams that are not there; changes when one is forgotten, so that its offsets are too.
    epoch: Epoch,
    streams: HashMap<ChannelName, Stream>,
    bytes: usize,
    /// Every kept publication in the order it came, and some that are gone: the next victims.
    oldest: VecDeque<(ChannelName, u64)>,
    live: usize,
    keys: HashMap<Box<str>, Option<Position>>,
    key_order: VecDeque<(Instant, Box<str>)>,
}

impl LocalBroker {
    /// A broker with bounds of one's own.
    pub fn new(options: LocalOptions) -> Self {
        let parts = (0..PARTS).map(|_| Mutex::new(Part::new())).collect();
        Self { options, hasher: RandomState::new(), parts, relay: OnceLock::new() }
    }

    fn part(&self, channel: &ChannelName) -> &Mutex<Part> {
        &self.parts[self.hasher.hash_one(channel) as usize % PARTS]
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
        let mut part = self.part(publish.draft.channel()).lock();
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
        let channel = publish.draft.channel().clone();
        let epoch = part.epoch;
        let stream = part.streams.entry(channel.clone()).or_insert_with(|| Stream::new(epoch, now));
        let position = stream.next();
        let publication = Arc::new(publish.draft.publication(Some(position)));
        let before = stream.first();
        let (came, went) = stream.push(publication.clone(), retention, now);
        let dropped = stream.first() - before;
        part.account(came, went, dropped);
        part.oldest.push_back((channel, position.offset));
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
        let mut part = self.part(channel).lock();
        let Some(stream) = part.streams.get_mut(channel) else {
            let top = Position { epoch: part.epoch, offset: 0 };
            let continuity = match range.since {
                Some(since) if since != top => Continuity::EpochChanged,
                _ => Continuity::Whole,
            };
            return Answer::now(Ok(HistoryPage { top, publications: Vec::new(), continuity }));
        };
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
            streams: HashMap::new(),
            bytes: 0,
            oldest: VecDeque::new(),
            live: 0,
            keys: HashMap::new(),
            key_order: VecDeque::new(),
        }
    }

    fn account(&mut self, came: usize, went: usize, dropped: u64) {
        self.bytes = (self.bytes + came).saturating_sub(went);
        self.live = self.live.saturating_sub(usize::try_from(dropped).unwrap_or(usize::MAX));
    }

    /// Drops the oldest publications until `bytes` is not exceeded, and the list's dead entries.
    fn shrink_to(&mut self, bytes: usize) {
        while self.bytes > bytes || self.oldest.front().is_some_and(|entry| !self.is_kept(entry)) {
            let Some(entry) = self.oldest.pop_front() else { break };
            if self.is_kept(&entry)
                && let Some(stream) = self.streams.get_mut(&entry.0)
            {
                let went = stream.pop();
                self.account(0, went, 1);
            }
        }
        if self.oldest.len() > 2 * self.live + 64 {
            let mut oldest = std::mem::take(&mut self.oldest);
            oldest.retain(|entry| self.is_kept(entry));
            self.oldest = oldest;
        }
    }

    fn is_kept(&self, (channel, offset): &(ChannelName, u64)) -> bool {
        self.streams.get(channel).is_some_and(|stream| *offset >= stream.first())
    }

    fn remember(
        &mut self,
        key: Option<Box<str>>,
        position: Option<Position>,
        now: Instant,
        options: &LocalOptions,
    ) {
        let Some(key) = key else { return };
        self.keys.insert(key.clone(), position);
        self.key_order.push_back((now, key));
        while self.key_order.len() > options.keys.div_ceil(PARTS) {
            self.forget_key();
        }
    }

    fn forget_key(&mut self) {
        if let Some((_, key)) = self.key_order.pop_front() {
            self.keys.remove(&key);
        }
    }

    fn sweep(&mut self, now: Instant, options: &LocalOptions) {
        while self.key_order.front().is_some_and(|(at, _)| now.duration_since(*at) > options.key_age) {
            self.forget_key();
        }
        let (mut gone, mut dropped, mut forgotten) = (0, 0, false);
        self.streams.retain(|_, stream| {
            let before = stream.first();
            gone += stream.expire(now);
            dropped += stream.first() - before;
            let keep = !stream.is_empty() || now.duration_since(stream.last_used()) < options.position_age;
            forgotten |= !keep;
            keep
        });
        self.account(0, gone, dropped);
        self.shrink_to(usize::MAX);
        if forgotten {
            self.epoch = fresh_epoch();
        }
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
fn scoped(channel: &ChannelName, key: &str) -> Box<str> {
    format!("{}\0{key}", channel.as_str()).into_boxed_str()
}

/// Locks over the streams. Many, so that two publishers rarely meet.
const PARTS: usize = 64;

#[cfg(test)]
mod tests;
