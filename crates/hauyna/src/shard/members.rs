//! The subscribers a shard writes to, channel by channel. Touched by the shard's task alone.

use crate::channel::{ChannelCore, NO_SLOT, Publication, Subscription};
use crate::connection::ConnectionCore;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The lists of one shard; a channel knows the number of its list.
#[derive(Debug)]
pub(super) struct Members {
    shard: usize,
    lists: Vec<List>,
    free: Vec<u32>,
}

/// One channel's subscribers in one shard, and what this batch has for them.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) members: Vec<Member>,
    pub(super) pending: Vec<Arc<Publication>>,
}

/// The connection is at hand without following the subscription.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) connection: Arc<ConnectionCore>,
    pub(super) subscription: Arc<Subscription>,
    /// Publications up to this offset came with the replay.
    pub(super) after: u64,
}

impl Members {
    pub(super) fn new(shard: usize) -> Self {
        Self { shard, lists: Vec::new(), free: Vec::new() }
    }

    pub(super) fn shard(&self) -> usize {
        self.shard
    }

    /// The number of the channel's list, where it has one.
    pub(super) fn slot(&self, channel: &ChannelCore) -> Option<u32> {
        let slot = channel.slots[self.shard].load(Ordering::Relaxed);
        (slot != NO_SLOT).then_some(slot)
    }

    pub(super) fn list(&mut self, slot: u32) -> &mut List {
        &mut self.lists[slot as usize]
    }

    #[expect(clippy::cast_possible_truncation, reason = "as many connections do not fit into memory")]
    pub(super) fn add(&mut self, subscription: &Arc<Subscription>, after: u64) {
        let slot = self.slot(&subscription.channel).unwrap_or_else(|| {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.lists.push(List::default());
                self.lists.len() as u32 - 1
            });
            subscription.channel.slots[self.shard].store(slot, Ordering::Relaxed);
            slot
        });
        let members = &mut self.lists[slot as usize].members;
        if members.is_empty() {
            members.reserve_exact(1);
        }
        subscription.index.store(members.len() as u32, Ordering::Relaxed);
        let connection = subscription.connection.clone();
        members.push(Member { connection, subscription: subscription.clone(), after });
    }

    pub(super) fn remove(&mut self, subscription: &Arc<Subscription>) {
        let Some(slot) = self.slot(&subscription.channel) else { return };
        let members = &mut self.lists[slot as usize].members;
        let index = subscription.index.load(Ordering::Relaxed);
        let is_there =
            members.get(index as usize).is_some_and(|member| Arc::ptr_eq(&member.subscription, subscription));
        if !is_there {
            return;
        }
        members.swap_remove(index as usize);
        if let Some(moved) = members.get(index as usize) {
            moved.subscription.index.store(index, Ordering::Relaxed);
        }
        if members.is_empty() {
            *members = Vec::new();
            subscription.channel.slots[self.shard].store(NO_SLOT, Ordering::Relaxed);
            self.free.push(slot);
        } else if members.capacity() > 8 * (members.len() + 8) {
            members.shrink_to(2 * members.len());
        }
    }
}
