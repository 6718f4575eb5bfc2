//! The broker of one process: streams in memory, bounded by count and age per channel and by bytes in total.
//! Publishing numbers, stores and relays under one lock, in line, so that the order of offsets is the order
//! of delivery. It never waits and never fails. The bounds apply to all stripes together; beyond them the
//! oldest entry of any stripe is dropped, and no two locks are ever held at once.

use super::stream::micros;
use super::streams::{Amounts, Stamp, Streams};
use super::{Broker, HistoryPage, HistoryRange, Publish, Published, Relay, Repeat};
use hauyna_broker::{Answer, BrokerError, ChannelName, Publication};
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

/// The default broker, which keeps everything in this process.
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

    /// Sets the maximum number of bytes of all histories, including the encoded frames. Beyond it the oldest
    /// publications are dropped. Default: 256 MiB.
    pub const fn max_history_bytes(mut self, bytes: usize) -> Self {
        self.max_history_bytes = bytes;
        self
    }

    /// Sets how long a channel's position is remembered at least, after its last publication or after its
    /// last subscriber left. The position of a channel with subscribers is always kept. Default: 1 hour.
    pub const fn position_age(mut self, age: Duration) -> Self {
        self.position_age = age;
        self
    }

    /// Sets the maximum number of remembered channels, so that names invented by clients are bounded too.
    /// Beyond it the least recently used channels are removed, with history and position. Channels with
    /// subscribers count but are never removed; [`HubBuilder::max_channels`](crate::HubBuilder::max_channels)
    /// bounds them. Default: 262,144.
    pub const fn max_channels(mut self, channels: usize) -> Self {
        self.max_channels = channels;
        self
    }

    /// Sets how long an idempotency key is remembered. Default: 5 minutes.
    pub const fn key_age(mut self, age: Duration) -> Self {
        self.key_age = age;
        self
    }

    /// Sets the maximum number of idempotency keys over all channels. Beyond it the oldest are dropped.
    /// Default: 262,144.
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// Sets the maximum number of bytes of idempotency keys, including the names of their channels and users.
    /// Beyond it the oldest are dropped. Default: 32 MiB.
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

/// One stripe: the streams and keys of the channels whose names hash to it.
#[derive(Debug)]
struct Stripe {
    streams: Mutex<Streams>,
    /// For each [`BoundKind`], when the oldest entry of the stripe came; [`NO_TIME`] if there is none.
    oldest: [AtomicU64; 3],
}

/// The kinds of entries that are bounded and dropped oldest first.
#[derive(Debug, Clone, Copy)]
enum BoundKind {
    Publications,
    Streams,
    Keys,
}

/// The totals over all stripes.
#[derive(Debug, Default)]
struct Totals {
    history_bytes: AtomicUsize,
    streams: AtomicUsize,
    keys: AtomicUsize,
    key_bytes: AtomicUsize,
}

/// A locked stripe. Its changes are added to the totals when the lock is released.
struct Locked<'a> {
    broker: &'a LocalBroker,
    stripe: &'a Stripe,
    streams: MutexGuard<'a, Streams>,
    before: Amounts,
}

impl LocalBroker {
    /// Creates a broker with these bounds.
    pub fn new(options: LocalBrokerOptions) -> Self {
        let stripes = (0..STRIPES).map(|_| Stripe::new()).collect();
        Self {
            options,
            start: Instant::now(),
            hasher: RandomState::new(),
            stripes,
            totals: Totals::default(),
            relay: OnceLock::new(),
        }
    }

    fn now(&self) -> Stamp {
        micros(Instant::now().saturating_duration_since(self.start))
    }

    /// Returns the index of the stripe that holds a channel, and the hash of the channel.
    fn stripe_of(&self, channel: &ChannelName) -> (usize, u64) {
        let hash = self.hasher.hash_one(channel);
        // Bits that the table inside the stripe does not use.
        ((hash >> 48) as usize % STRIPES, hash)
    }

    fn lock(&self, index: usize) -> Locked<'_> {
        let stripe = &self.stripes[index];
        let streams = stripe.streams.lock();
        Locked { broker: self, stripe, before: streams.amounts(), streams }
    }

    fn relay(&self, publication: &Arc<Publication>) {
        if let Some(relay) = self.relay.get() {
            relay.relay(publication);
        }
    }

    /// Drops entries until all stripes together keep a bound. Called without a lock.
    fn enforce_bound(&self, kind: BoundKind) {
        if !self.totals.exceeds(&self.options, kind, 0) {
            return;
        }
        let mut oldest: [Stamp; STRIPES] = array::from_fn(|index| self.stripes[index].oldest(kind));
        // Many streams may have been used since they were listed: the next caller continues.
        let mut steps = if matches!(kind, BoundKind::Streams) { MAX_STREAMS_CHECKED } else { usize::MAX };
        // A little more than needed, so that the stripes are not compared for each publication.
        while steps > 0 && self.totals.exceeds(&self.options, kind, SLACK) {
            steps -= 1;
            let Some((index, at)) = oldest.iter().copied().enumerate().min_by_key(|(_, at)| *at) else {
                return;
            };
            if at == NO_TIME {
                return;
            }
            let mut streams = self.lock(index);
            match kind {
                BoundKind::Publications => streams.drop_oldest_publication(),
                BoundKind::Streams => streams.remove_oldest_stream(),
                BoundKind::Keys => streams.keys.drop_oldest(),
            }
            drop(streams);
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
        // A second hub on the same local broker would get nothing; the first one keeps it.
        let _ = self.relay.set(relay);
    }

    fn publish(&self, publish: Publish) -> Answer<Result<Published, BrokerError>> {
        let Publish { draft, retention, key } = publish;
        let (now, (index, hash)) = (self.now(), self.stripe_of(draft.channel()));
        let mut streams = self.lock(index);
        let key = key.map(|key| scoped(draft.channel(), &key));
        if let Some(key) = &key {
            streams.keys.expire(now, micros(self.options.key_age));
            if let Some(position) = streams.keys.get(key) {
                return Answer::now(Ok(Published { position, repeat: Repeat::Yes }));
            }
        }
        let (position, publication) = match retention.filter(|retention| retention.messages > 0) {
            Some(retention) => {
                let (position, publication) = streams.append(draft, hash, retention, now);
                (Some(position), publication)
            }
            None => (None, Arc::new(draft.publication(None))),
        };
        let is_keyed = key.is_some();
        if let Some(key) = key {
            streams.keys.insert(key, position, now);
        }
        self.relay(&publication);
        drop(streams);
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
        self.stripes.iter().map(|stripe| stripe.streams.lock().memory()).sum()
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
    /// Whether a total is over its bound, or, with a `slack`, within one part in `slack` below it.
    fn exceeds(&self, options: &LocalBrokerOptions, kind: BoundKind, slack: usize) -> bool {
        let max = |bound: usize| bound - bound.checked_div(slack).unwrap_or(0);
        let exceeds = |total: &AtomicUsize, bound| total.load(Ordering::Relaxed) > max(bound);
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
        &self.streams
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Streams {
        &mut self.streams
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let (before, after, totals) = (self.before, self.streams.amounts(), &self.broker.totals);
        change(&totals.history_bytes, before.history_bytes, after.history_bytes);
        change(&totals.streams, before.streams, after.streams);
        change(&totals.keys, before.keys, after.keys);
        change(&totals.key_bytes, before.key_bytes, after.key_bytes);
        self.stripe.set_oldest(BoundKind::Publications, self.streams.oldest_publication());
        self.stripe.set_oldest(BoundKind::Streams, self.streams.oldest_stream());
        self.stripe.set_oldest(BoundKind::Keys, self.streams.keys.oldest());
    }
}

/// Adds a stripe's change to a total. Most publications change only `history_bytes`, and not even that once
/// as many are dropped as are added.
fn change(total: &AtomicUsize, before: usize, after: usize) {
    if after != before {
        total.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }
}

/// Scopes a key to its channel: the same key in another channel is another publication.
fn scoped(channel: &ChannelName, key: &str) -> Arc<str> {
    format!("{}\0{key}", channel.as_str()).into()
}

/// Number of locks over the streams. Many, so that two publishers rarely wait for each other.
const STRIPES: usize = 64;
/// Stands for no time, where a stripe has no entry.
const NO_TIME: Stamp = Stamp::MAX;
/// Past a bound, one part in this many more is freed than needed.
const SLACK: usize = 1024;
/// Maximum number of streams that one caller checks to remove some.
const MAX_STREAMS_CHECKED: usize = 256;

#[cfg(test)]
mod tests;
