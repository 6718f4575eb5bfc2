//! The channels that have subscribers on this node, by name. A channel comes with its first subscriber and
//! goes with its last, so names that clients make up cost nothing once they are gone.

use crate::channel::{ChannelCore, ChannelName, ChannelState};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Many locks, each over the names that hash to it. `RandomState`: the names come from clients.
#[derive(Debug)]
pub(crate) struct ChannelMap {
    hasher: RandomState,
    parts: Box<[Mutex<Stripe>]>,
    broker_orders: Box<[Mutex<()>]>,
    live: AtomicUsize,
    /// Those that lost connections alone hold.
    lost: Mutex<LostChannels>,
}

/// Channels in the order in which their last subscriber was lost.
#[derive(Debug, Default)]
struct LostChannels {
    by_age: BTreeMap<u64, Arc<ChannelCore>>,
    last: u64,
}

/// Keyed by the channels' own names.
type Stripe = HashTable<Arc<ChannelCore>>;

impl ChannelMap {
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            parts: (0..STRIPES).map(|_| Mutex::default()).collect(),
            broker_orders: (0..STRIPES).map(|_| Mutex::default()).collect(),
            live: AtomicUsize::new(0),
            lost: Mutex::default(),
        }
    }

    /// Held while the broker is asked for a channel or let off it, so that it sees both in their order. No
    /// delivery takes it, so a broker may be asked under it.
    pub(crate) fn broker_order(&self, name: &ChannelName) -> MutexGuard<'_, ()> {
        self.broker_orders[self.hasher.hash_one(name.as_str()) as usize % STRIPES].lock()
    }

    /// The part that has a name, and the name's hash in it.
    fn stripe(&self, name: &str) -> (&Mutex<Stripe>, u64) {
        let hash = self.hasher.hash_one(name);
        // Bits that the table inside the part does not use.
        (&self.parts[(hash >> 48) as usize % STRIPES], hash)
    }

    fn hash_of_channel(&self) -> impl Fn(&Arc<ChannelCore>) -> u64 {
        |channel| self.hasher.hash_one(channel.name.as_str())
    }

    pub(crate) fn find(&self, name: &ChannelName) -> Option<Arc<ChannelCore>> {
        self.find_str(name.as_str())
    }

    pub(crate) fn find_str(&self, name: &str) -> Option<Arc<ChannelCore>> {
        let (part, hash) = self.stripe(name);
        part.lock().find(hash, |channel| channel.name.as_str() == name).cloned()
    }

    /// The channel of a name; none where there are `most` already and this would be one more.
    pub(crate) fn find_or_insert(
        &self,
        name: &ChannelName,
        most: usize,
        make: impl FnOnce() -> ChannelCore,
    ) -> Option<Arc<ChannelCore>> {
        let (part, hash) = self.stripe(name.as_str());
        match part.lock().entry(hash, |channel| channel.name == *name, self.hash_of_channel()) {
            Entry::Occupied(entry) => Some(entry.get().clone()),
            Entry::Vacant(entry) => {
                // Other parts may be at it, too: who counts past the limit steps back.
                if self.live.fetch_add(1, Ordering::Relaxed) >= most {
                    self.live.fetch_sub(1, Ordering::Relaxed);
                    return None;
                }
                Some(entry.insert(Arc::new(make())).get().clone())
            }
        }
    }

    /// Removes the channel if nobody uses it. Whoever found it before sees `retired` and looks again. What is left of its
    /// rate `now`, in milliseconds of the hub's clock, is kept for the next channel of the name.
    pub(crate) fn remove_unused(&self, channel: &Arc<ChannelCore>, now: u64) -> bool {
        let (part, hash) = self.stripe(channel.name.as_str());
        let mut part = part.lock();
        let mut state = channel.state.lock();
        if state.is_removed || !channel.is_unused(&state) {
            return false;
        }
        state.is_removed = true;
        self.note_holders(channel, &mut state);
        if let (Some(rate), Some(bucket)) = (channel.options.rate, state.bucket.take()) {
            let whole_after = bucket.full_after(rate, now);
            if !whole_after.is_zero() {
                channel.options.usage.spent.keep(channel.name.as_str(), 0, bucket, whole_after);
            }
        }
        self.live.fetch_sub(1, Ordering::Relaxed);
        channel.options.usage.channels.decrement();
        if let Ok(entry) = part.find_entry(hash, |other| Arc::ptr_eq(other, channel)) {
            entry.remove();
        }
        if part.capacity() > 8 * (part.len() + 8) {
            part.shrink_to_fit(self.hash_of_channel());
        }
        true
    }

    /// Keeps account of the channels that lost connections alone hold. Called under the channel's lock whenever somebody
    /// comes or goes.
    pub(crate) fn note_holders(&self, channel: &Arc<ChannelCore>, state: &mut ChannelState) {
        match (channel.is_held_by_lost(state), state.held_by_lost) {
            (true, None) => {
                let mut lost = self.lost.lock();
                lost.last += 1;
                state.held_by_lost = Some(lost.last);
                let number = lost.last;
                lost.by_age.insert(number, channel.clone());
            }
            (false, Some(number)) => {
                state.held_by_lost = None;
                self.lost.lock().by_age.remove(&number);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// The channel that lost connections alone have held for the longest time; it does not count as such any more.
    pub(crate) fn take_oldest_lost(&self) -> Option<Arc<ChannelCore>> {
        let (number, channel) = self.lost.lock().by_age.pop_first()?;
        let mut state = channel.state.lock();
        state.held_by_lost = state.held_by_lost.filter(|other| *other != number);
        drop(state);
        Some(channel)
    }

    /// How many channels lost connections alone hold.
    pub(crate) fn count_lost(&self) -> usize {
        self.lost.lock().by_age.len()
    }

    pub(crate) fn count(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }
}

const STRIPES: usize = 64;
