//! The broker of one process: streams in memory, bounded by count and age per channel and by bytes in
//! total. Publishing numbers, stores and relays under one lock, in line, so that the order of offsets is
//! the order of delivery. It never waits and never fails. The bounds are those of all parts together; whatever
//! is past them goes oldest first, whichever part has it, and no two locks are ever held at once.

use super::stream::micros;
use super::streams::{Amounts, Stamp, Streams};
use super::{Answer, Broker, HistoryPage, HistoryRange, Publish, Published, Relay, Repeat};
use crate::channel::{ChannelName, Publication};
use crate::error::BrokerError;
use parking_lot::{Mutex, MutexGuard};
use std::array;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// The default broker: everything in this process.
pub struct LocalBroker {
    options: LocalBrokerOptions,
    start: Instant,
    hasher: RandomState,
    stripes: Box<[Stripe]>,
    totals: Totals,
    relay: OnceLock<Relay>,
}

impl fmt::Debug for LocalBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBroker")
            .field("options", &self.options)
            .field("channels", &self.totals.streams.load(Ordering::Relaxed))
            .field("history_bytes", &self.totals.history_bytes.load(Ordering::Relaxed))
            .finish()
    }
}

/// Bounds of a [`LocalBroker`].
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct LocalBrokerOptions {
    max_history_bytes: usize,
    position_age: Duration,
    max_channels: usize,
    key_age: Duration,
    max_keys: usize,
    max_key_bytes: usize,
}

impl LocalBrokerOptions {
    /// Returns the default bounds; each method names its own.
    pub const fn new() -> Self {
        Self {
            max_history_bytes: 256 << 20,
            position_age: Duration::from_secs(3600),
            max_channels: 1 << 18,
            key_age: Duration::from_secs(300),
            max_keys: 1 << 18,
            max_key_bytes: 32 << 20,
        }
    }

    /// Sets how many bytes all histories take at most, with the frames that were encoded of them. Beyond it the oldest
    /// publications are dropped. Default: 256 MiB.
    pub const fn max_history_bytes(mut self, bytes: usize) -> Self {
        self.max_history_bytes = bytes;
        self
    }

    /// Sets how long a channel's position is remembered at least, after its last publication or after its last
    /// subscriber left. A channel with subscribers is never forgotten. Default: 1 hour.
    pub const fn position_age(mut self, age: Duration) -> Self {
        self.position_age = age;
        self
    }

    /// Sets how many channels are remembered at most, so that names which clients make up are bounded too. Beyond it the
    /// least recently used ones are forgotten, history and position. Channels with subscribers count but are never
    /// forgotten; [`HubBuilder::max_channels`](crate::HubBuilder::max_channels) bounds them. Default: 262,144.
    pub const fn max_channels(mut self, channels: usize) -> Self {
        self.max_channels = channels;
        self
    }

    /// Sets how long an idempotency key is remembered. Default: 5 minutes.
    pub const fn key_age(mut self, age: Duration) -> Self {
        self.key_age = age;
        self
    }

    /// Sets how many idempotency keys of all channels are remembered at most. Beyond it the oldest are forgotten.
    /// Default: 262,144.
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// Sets how many bytes idempotency keys take at most, with the names of their channels and users. Beyond it the
    /// oldest are forgotten. Default: 32 MiB.
    pub const fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.max_key_bytes = bytes;
        self
    }
}

impl Default for LocalBrokerOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// A part of the streams and keys, those whose channels' names hash to it.
#[derive(Debug)]
struct Stripe {
    streams: Mutex<Streams>,
    /// Of each [`BoundKind`], when the oldest in the part came; [`NO_TIME`] where there is none.
    oldest: [AtomicU64; 3],
}

/// What may be too much, and goes oldest first.
#[derive(Debug, Clone, Copy)]
enum BoundKind {
    Publications,
    Streams,
    Keys,
}

/// What all parts hold together.
#[derive(Debug, Default)]
struct Totals {
    history_bytes: AtomicUsize,
    streams: AtomicUsize,
    keys: AtomicUsize,
    key_bytes: AtomicUsize,
}

/// A part that is worked on. What that changed is counted when it is let go of.
struct Locked<'a> {
    broker: &'a LocalBroker,
    place: &'a Stripe,
    part: MutexGuard<'a, Streams>,
    before: Amounts,
}

impl LocalBroker {
    /// A broker with bounds of one's own.
    pub fn new(options: LocalBrokerOptions) -> Self {
        let places = (0..STRIPES).map(|_| Stripe::new()).collect();
        Self {
            options,
            start: Instant::now(),
            hasher: RandomState::new(),
            stripes: places,
            totals: Totals::default(),
            relay: OnceLock::new(),
        }
    }

    fn now(&self) -> Stamp {
        micros(Instant::now().saturating_duration_since(self.start))
    }

    /// The index of the part that has a channel, and the channel's hash in it.
    fn stripe_of(&self, channel: &ChannelName) -> (usize, u64) {
        let hash = self.hasher.hash_one(channel);
        // Bits that the table inside the part does not use.
        ((hash >> 48) as usize % STRIPES, hash)
    }

    fn lock(&self, index: usize) -> Locked<'_> {
        let place = &self.stripes[index];
        let part = place.streams.lock();
        Locked { broker: self, place, before: part.amounts(), part }
    }

    fn relay(&self, publication: &Arc<Publication>) {
        if let Some(relay) = self.relay.get() {
            relay.relay(publication);
        }
    }

    /// Has all parts together keep to a bound again. Called without a lock.
    fn enforce_bound(&self, kind: BoundKind) {
        if !self.totals.exceeds(&self.options, kind, 0) {
            return;
        }
        let mut oldest: [Stamp; STRIPES] = array::from_fn(|index| self.stripes[index].oldest(kind));
        // Many streams may have been used since they were listed: the next who comes goes on.
        let mut steps = if matches!(kind, BoundKind::Streams) { MAX_STREAMS_CHECKED } else { usize::MAX };
        // A little more than must be, so that the parts are not compared for each publication.
        while steps > 0 && self.totals.exceeds(&self.options, kind, SLACK) {
            steps -= 1;
            let Some((index, at)) = oldest.iter().copied().enumerate().min_by_key(|(_, at)| *at) else {
                return;
            };
            if at == NO_TIME {
                return;
            }
            let mut part = self.lock(index);
            match kind {
                BoundKind::Publications => part.drop_oldest_publication(),
                BoundKind::Streams => part.remove_oldest_stream(),
                BoundKind::Keys => part.keys.drop_oldest(),
            }
            drop(part);
            oldest[index] = self.stripes[index].oldest(kind);
        }
    }
}

impl Default for LocalBroker {
    fn default() -> Self {
        Self::new(LocalBrokerOptions::default())
    }
}

impl Broker for LocalBroker {
    fn start(&self, relay: Relay) {
        // A second hub on one local broker would get nothing; the first one keeps it.
        let _ = self.relay.set(relay);
    }

    fn publish(&self, publish: Publish) -> Answer<Result<Published, BrokerError>> {
        let Publish { draft, retention, key } = publish;
        let (now, (index, hash)) = (self.now(), self.stripe_of(draft.channel()));
        let mut part = self.lock(index);
        let key = key.map(|key| scoped(draft.channel(), &key));
        if let Some(key) = &key {
            part.keys.expire(now, micros(self.options.key_age));
            if let Some(position) = part.keys.get(key) {
                return Answer::now(Ok(Published { position, repeat: Repeat::Yes }));
            }
        }
        let (position, publication) = match retention.filter(|retention| retention.messages > 0) {
            Some(retention) => {
                let (position, publication) = part.append(draft, hash, retention, now);
                (Some(position), publication)
            }
            None => (None, Arc::new(draft.publication(None))),
        };
        let is_keyed = key.is_some();
        if let Some(key) = key {
            part.keys.insert(key, position, now);
        }
        self.relay(&publication);
        drop(part);
        if position.is_some() {
            self.enforce_bound(BoundKind::Publications);
            self.enforce_bound(BoundKind::Streams);
        }
        if is_keyed {
            self.enforce_bound(BoundKind::Keys);
        }
        Answer::now(Ok(Published { position, repeat: Repeat::No }))
    }

    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), BrokerError>> {
        let (now, (index, hash)) = (self.now(), self.stripe_of(channel));
        self.lock(index).subscribe(channel, hash, now);
        self.enforce_bound(BoundKind::Streams);
        Answer::now(Ok(()))
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        let (now, (index, hash)) = (self.now(), self.stripe_of(channel));
        self.lock(index).unsubscribe(channel, hash, now);
        self.enforce_bound(BoundKind::Streams);
    }

    fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Answer<Result<HistoryPage, BrokerError>> {
        let (now, (index, hash)) = (self.now(), self.stripe_of(channel));
        let page = self.lock(index).page(channel, hash, range, now);
        Answer::now(Ok(page))
    }

    fn sweep(&self) {
        let now = self.now();
        let (key_age, position_age) = (micros(self.options.key_age), micros(self.options.position_age));
        for index in 0..STRIPES {
            self.lock(index).sweep(now, key_age, position_age);
        }
    }

    fn memory(&self) -> usize {
        self.stripes.iter().map(|place| place.streams.lock().memory()).sum()
    }
}

impl Stripe {
    fn new() -> Self {
        Self { streams: Mutex::new(Streams::new()), oldest: array::from_fn(|_| AtomicU64::new(NO_TIME)) }
    }

    fn oldest(&self, kind: BoundKind) -> Stamp {
        self.oldest[kind as usize].load(Ordering::Relaxed)
    }

    fn set_oldest(&self, kind: BoundKind, at: Option<Stamp>) {
        let at = at.unwrap_or(NO_TIME);
        if self.oldest(kind) != at {
            self.oldest[kind as usize].store(at, Ordering::Relaxed);
        }
    }
}

impl Totals {
    /// Whether there is more of a kind than there may be, or comes closer to it than a part in `slack`.
    fn exceeds(&self, options: &LocalBrokerOptions, kind: BoundKind, slack: usize) -> bool {
        let most = |bound: usize| bound - bound.checked_div(slack).unwrap_or(0);
        let exceeds = |total: &AtomicUsize, bound| total.load(Ordering::Relaxed) > most(bound);
        match kind {
            BoundKind::Publications => exceeds(&self.history_bytes, options.max_history_bytes),
            BoundKind::Streams => exceeds(&self.streams, options.max_channels),
            BoundKind::Keys => {
                exceeds(&self.keys, options.max_keys) || exceeds(&self.key_bytes, options.max_key_bytes)
            }
        }
    }
}

impl Deref for Locked<'_> {
    type Target = Streams;

    fn deref(&self) -> &Streams {
        &self.part
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Streams {
        &mut self.part
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let (before, after, totals) = (self.before, self.part.amounts(), &self.broker.totals);
        change(&totals.history_bytes, before.history_bytes, after.history_bytes);
        change(&totals.streams, before.streams, after.streams);
        change(&totals.keys, before.keys, after.keys);
        change(&totals.key_bytes, before.key_bytes, after.key_bytes);
        self.place.set_oldest(BoundKind::Publications, self.part.oldest_publication());
        self.place.set_oldest(BoundKind::Streams, self.part.oldest_stream());
        self.place.set_oldest(BoundKind::Keys, self.part.keys.oldest());
    }
}

/// Counts a part's change in the total. Most publications change nothing but `history_bytes`, and that only until as
/// many go as come.
fn change(total: &AtomicUsize, before: usize, after: usize) {
    if after != before {
        total.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }
}

/// Keys are per channel: the same key elsewhere is another publication.
fn scoped(channel: &ChannelName, key: &str) -> Arc<str> {
    format!("{}\0{key}", channel.as_str()).into()
}

/// Locks over the streams. Many, so that two publishers rarely meet.
const STRIPES: usize = 64;
/// No time at which anything came.
const NO_TIME: Stamp = Stamp::MAX;
/// Past a bound, one part in so many more is freed than must be.
const SLACK: usize = 1024;
/// Streams that one caller looks at, at most, to forget some.
const MAX_STREAMS_CHECKED: usize = 256;

#[cfg(test)]
mod tests;
