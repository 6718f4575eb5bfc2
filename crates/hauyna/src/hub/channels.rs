//! The channels that have subscribers on this node, by name. A channel is created by its first subscriber and
//! removed after its last, so names that clients invent cost nothing once they are gone. Subscribing calls
//! this.

use crate::channel::{ChannelCore, ChannelState};
use crate::stripes::{Stripes, is_sparse};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use hauyna_broker::ChannelName;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A hash map behind many locks, each over the names that hash to it. `RandomState`: the names come from
/// clients.
#[derive(Debug)]
pub(crate) struct ChannelMap {
    stripes: Stripes<Stripe>,
    broker_orders: Stripes<()>,
    live: AtomicUsize,
    /// Channels held by lost connections alone.
    lost: Mutex<LostChannels>,
}

/// Channels in the order in which their last subscriber was lost.
#[derive(Debug, Default)]
struct LostChannels {
    by_age: BTreeMap<u64, Arc<ChannelCore>>,
    last: u64,
}

/// A hash table keyed by the names of the channels in it.
type Stripe = HashTable<Arc<ChannelCore>>;

impl ChannelMap {
    pub(super) fn new() -> Self {
        Self {
            stripes: Stripes::new(),
            broker_orders: Stripes::new(),
            live: AtomicUsize::new(0),
            lost: Mutex::default(),
        }
    }

    /// Locks the order of broker calls for a name. Held while the broker subscribes to or unsubscribes from a
    /// channel, so that it sees both in their order. No delivery takes this lock, so the broker may be called
    /// under it.
    pub(super) fn broker_order(&self, name: &ChannelName) -> MutexGuard<'_, ()> {
        self.broker_orders.lock(name.as_str())
    }

    /// Returns the stripe that holds a name, and the hash of the name.
    fn stripe(&self, name: &str) -> (&Mutex<Stripe>, u64) {
        self.stripes.find(name)
    }

    fn hash_of_channel(&self) -> impl Fn(&Arc<ChannelCore>) -> u64 {
        |channel| self.stripes.hash(channel.name.as_str())
    }

    pub(crate) fn find(&self, name: &ChannelName) -> Option<Arc<ChannelCore>> {
        self.find_str(name.as_str())
    }

    pub(crate) fn find_str(&self, name: &str) -> Option<Arc<ChannelCore>> {
        let (stripe, hash) = self.stripe(name);
        stripe.lock().find(hash, |channel| channel.name.as_str() == name).cloned()
    }

    /// Returns the channel of a name; `None` if it is new and there are `max` channels already.
    pub(crate) fn find_or_insert(
        &self,
        name: &ChannelName,
        max: usize,
        make: impl FnOnce() -> ChannelCore,
    ) -> Option<Arc<ChannelCore>> {
        let (stripe, hash) = self.stripe(name.as_str());
        match stripe.lock().entry(hash, |channel| channel.name == *name, self.hash_of_channel()) {
            Entry::Occupied(entry) => Some(entry.get().clone()),
            Entry::Vacant(entry) => {
                // Other stripes may insert at the same time: the thread that counts past the limit steps
                // back.
                if self.live.fetch_add(1, Ordering::Relaxed) >= max {
                    self.live.fetch_sub(1, Ordering::Relaxed);
                    return None;
                }
                Some(entry.insert(Arc::new(make())).get().clone())
            }
        }
    }

    /// Removes the channel if it is unused. A thread that found it before sees `is_removed` and looks it up
    /// again. The rate bucket, as of `now` in milliseconds of the hub's clock, is kept for the next channel
    /// of the name.
    pub(super) fn remove_unused(&self, channel: &Arc<ChannelCore>, now: u64) -> bool {
        let (stripe, hash) = self.stripe(channel.name.as_str());
        let mut stripe = stripe.lock();
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
        if let Ok(entry) = stripe.find_entry(hash, |other| Arc::ptr_eq(other, channel)) {
            entry.remove();
        }
        if is_sparse(stripe.capacity(), stripe.len(), 8) {
            stripe.shrink_to_fit(self.hash_of_channel());
        }
        true
    }

    /// Records whether the channel is held by lost connections alone. Called under the channel's lock
    /// whenever a subscriber is added or removed.
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

    /// Takes the channel that has been held by lost connections alone for the longest time out of their list.
    pub(crate) fn take_oldest_lost(&self) -> Option<Arc<ChannelCore>> {
        let (number, channel) = self.lost.lock().by_age.pop_first()?;
        let mut state = channel.state.lock();
        state.held_by_lost = state.held_by_lost.filter(|other| *other != number);
        drop(state);
        Some(channel)
    }

    /// Returns how many channels are held by lost connections alone.
    pub(crate) fn count_lost(&self) -> usize {
        self.lost.lock().by_age.len()
    }

    pub(crate) fn count(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }
}
