//! The subscribers that a shard writes to, channel by channel. `fanout` uses them under the shard's lock.

use crate::channel::{ChannelCore, NO_SLOT, Subscription};
use crate::connection::ConnectionCore;
use crate::stripes::is_sparse;
use hauyna_broker::Publication;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The lists of one shard; a channel knows the number of its list.
#[derive(Debug)]
pub(super) struct SubscriberLists {
    shard: usize,
    lists: Vec<SubscriberList>,
    free: Vec<u32>,
}

/// One channel's subscribers in one shard, and what the current segment has for them.
#[derive(Debug, Default)]
pub(super) struct SubscriberList {
    pub(super) members: Vec<Member>,
    pub(super) pending: Vec<Arc<Publication>>,
    /// Whether some of its connections may be in other lists, too.
    pub(super) has_several: bool,
}

/// A subscriber, with its connection at hand without following the subscription.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) connection: Arc<ConnectionCore>,
    pub(super) subscription: Arc<Subscription>,
    /// The offset up to which the subscriber has the publications, or replays them.
    pub(super) after: u64,
}

impl SubscriberLists {
    pub(super) fn new(shard: usize) -> Self {
        Self { shard, lists: Vec::new(), free: Vec::new() }
    }

    pub(super) fn shard(&self) -> usize {
        self.shard
    }

    /// Returns the number of the channel's list if it has one.
    pub(super) fn number(&self, channel: &ChannelCore) -> Option<u32> {
        let number = channel.slots[self.shard].load(Ordering::Relaxed);
        (number != NO_SLOT).then_some(number)
    }

    pub(super) fn list(&mut self, number: u32) -> &mut SubscriberList {
        &mut self.lists[number as usize]
    }

    /// Whether publications are pending for the channel's subscribers.
    pub(super) fn has_pending(&self, channel: &ChannelCore) -> bool {
        self.number(channel).is_some_and(|number| !self.lists[number as usize].pending.is_empty())
    }

    #[expect(clippy::cast_possible_truncation, reason = "as many connections do not fit into memory")]
    pub(super) fn add(&mut self, subscription: &Arc<Subscription>, after: u64) {
        let number = self.number(&subscription.channel).unwrap_or_else(|| {
            let number = self.free.pop().unwrap_or_else(|| {
                self.lists.push(SubscriberList::default());
                self.lists.len() as u32 - 1
            });
            subscription.channel.slots[self.shard].store(number, Ordering::Relaxed);
            number
        });
        let connection = subscription.connection.clone();
        let list = &mut self.lists[number as usize];
        if list.members.is_empty() {
            list.members.reserve_exact(1);
        }
        subscription.index.store(list.members.len() as u32, Ordering::Relaxed);
        list.members.push(Member {
            connection: connection.clone(),
            subscription: subscription.clone(),
            after,
        });
        if connection.subscription_list().enter_list() > 1 {
            for other in connection.subscription_list().all_subscriptions().iter().chain([subscription]) {
                if let Some(number) = self.number(&other.channel) {
                    self.lists[number as usize].has_several = true;
                }
            }
        }
    }

    fn position(&self, subscription: &Arc<Subscription>) -> Option<(u32, usize)> {
        let number = self.number(&subscription.channel)?;
        let index = subscription.index.load(Ordering::Relaxed) as usize;
        let member = self.lists[number as usize].members.get(index)?;
        Arc::ptr_eq(&member.subscription, subscription).then_some((number, index))
    }

    /// Returns the entry of a subscription if it has one.
    pub(super) fn member(&mut self, subscription: &Arc<Subscription>) -> Option<&mut Member> {
        let (number, index) = self.position(subscription)?;
        self.lists[number as usize].members.get_mut(index)
    }

    /// Whether a subscription is the only one in its list.
    pub(super) fn is_last(&self, subscription: &Arc<Subscription>) -> bool {
        self.position(subscription).is_some_and(|(number, _)| self.lists[number as usize].members.len() == 1)
    }

    #[expect(clippy::cast_possible_truncation, reason = "as many connections do not fit into memory")]
    pub(super) fn remove(&mut self, subscription: &Arc<Subscription>) {
        let Some((number, index)) = self.position(subscription) else { return };
        let list = &mut self.lists[number as usize];
        let members = &mut list.members;
        members.swap_remove(index);
        subscription.connection.subscription_list().leave_list();
        if let Some(moved) = members.get(index) {
            moved.subscription.index.store(index as u32, Ordering::Relaxed);
        }
        if members.is_empty() {
            *list = SubscriberList::default();
            subscription.channel.slots[self.shard].store(NO_SLOT, Ordering::Relaxed);
            self.free.push(number);
        } else if is_sparse(members.capacity(), members.len(), 8) {
            members.shrink_to(2 * members.len());
        }
    }
}
