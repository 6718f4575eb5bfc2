//! The subscriptions of a connection: its own and those through its user's groups.

use super::{ConnectionCore, Owner};
use crate::channel::{ChannelCore, Subscription};
use crate::error::Error;
use hauyna_broker::ChannelName;
use hauyna_protocol::ErrorType;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The subscriptions of a connection: its own and those through its user's groups.
#[derive(Clone, Copy)]
pub(crate) struct SubscriptionList<'a> {
    core: &'a Arc<ConnectionCore>,
}

impl ConnectionCore {
    /// Returns the subscriptions of a connection.
    pub(crate) fn subscription_list(self: &Arc<Self>) -> SubscriptionList<'_> {
        SubscriptionList { core: self }
    }
}

impl<'a> SubscriptionList<'a> {
    /// Returns the list of the subscriptions of this owner.
    pub(crate) fn subscriptions_of(self, owner: Owner) -> &'a Mutex<Vec<Arc<Subscription>>> {
        match owner {
            Owner::Connection => &self.core.subscriptions,
            Owner::Group => &self.core.cold().groups,
        }
    }

    /// Removes one subscription from its list; the channel still has it.
    pub(crate) fn take_subscription(self, channel: &str, owner: Owner) -> Option<Arc<Subscription>> {
        let mut subscriptions = self.subscriptions_of(owner).lock();
        let index =
            subscriptions.iter().position(|subscription| subscription.channel.name.as_str() == channel)?;
        let subscription = subscriptions.swap_remove(index);
        Some(subscription)
    }

    /// Removes one subscription from its list if it is in it; the caller holds the channel's lock.
    pub(crate) fn drop_subscription(self, subscription: &Arc<Subscription>) {
        let owner = Owner::of(&subscription.channel.name);
        let mut subscriptions = self.subscriptions_of(owner).lock();
        if let Some(index) = subscriptions.iter().position(|other| Arc::ptr_eq(other, subscription)) {
            subscriptions.swap_remove(index);
        }
    }

    /// Removes and returns all subscriptions, when the connection is gone.
    pub(crate) fn take_subscriptions(self) -> Vec<Arc<Subscription>> {
        let mut all = std::mem::take(&mut *self.core.subscriptions.lock());
        if let Some(cold) = self.core.cold.get() {
            all.append(&mut cold.groups.lock());
        }
        all
    }

    pub(crate) fn subscription(self, channel: &str) -> Option<Arc<Subscription>> {
        let subscriptions = self.core.subscriptions.lock();
        subscriptions.iter().find(|subscription| subscription.channel.name.as_str() == channel).cloned()
    }

    /// Checks early, before the history is fetched; [`ConnectionCore::check_subscribe`] decides.
    pub(crate) fn may_subscribe(self, channel: &ChannelName) -> Result<(), Error> {
        self.core.check_open()?;
        let subscriptions = self.core.subscriptions.lock();
        self.check(&subscriptions, Owner::Connection, 0, |subscription| subscription.channel.name == *channel)
    }

    /// Checks a subscription that does not come from the session that the connection takes over.
    pub(crate) fn check_new_subscription(self, channel: &ChannelName) -> Result<(), Error> {
        if self.core.reserved(channel).1 { Err(already_subscribed()) } else { Ok(()) }
    }

    /// Checks whether a subscription may be added. `is_resumed` says that it comes from a resumed session.
    pub(crate) fn check_subscribe(
        self,
        subscriptions: &[Arc<Subscription>],
        channel: &Arc<ChannelCore>,
        owner: Owner,
        is_resumed: bool,
    ) -> Result<(), Error> {
        let is_same = |subscription: &Subscription| Arc::ptr_eq(&subscription.channel, channel);
        // A resumed session stays complete even if its connection is gone again: the connection's task
        // removes the subscriptions afterwards. Nor may others have taken its places.
        if is_resumed {
            return Self::check_same(subscriptions, is_same);
        }
        self.core.check_open()?;
        let (reserved, is_reserved) = match owner {
            Owner::Connection => self.core.reserved(&channel.name),
            Owner::Group => (0, false),
        };
        if is_reserved {
            return Err(already_subscribed());
        }
        self.check(subscriptions, owner, reserved, is_same)
    }

    fn check_same(
        subscriptions: &[Arc<Subscription>],
        is_same: impl Fn(&Subscription) -> bool,
    ) -> Result<(), Error> {
        if subscriptions.iter().any(|subscription| is_same(subscription)) {
            Err(already_subscribed())
        } else {
            Ok(())
        }
    }

    fn check(
        self,
        subscriptions: &[Arc<Subscription>],
        owner: Owner,
        reserved: usize,
        is_same: impl Fn(&Subscription) -> bool,
    ) -> Result<(), Error> {
        Self::check_same(subscriptions, is_same)?;
        let max = self.core.hub.config.channels_per_connection;
        if owner == Owner::Connection && subscriptions.len() + reserved >= max as usize {
            let error = Error::protocol(ErrorType::LimitExceeded, "too many channels on this connection");
            return Err(error.with_details(serde_json::json!({ "limit": max })));
        }
        Ok(())
    }

    /// Whether it is in at most one list of its shard.
    pub(crate) fn has_one_list(self) -> bool {
        self.core.shard_list_count.load(Ordering::Relaxed) <= 1
    }

    /// Counts one more list of its shard, and returns how many contain it now.
    pub(crate) fn enter_list(self) -> u8 {
        let lists = self.core.shard_list_count.load(Ordering::Relaxed).saturating_add(1);
        self.core.shard_list_count.store(lists, Ordering::Relaxed);
        lists
    }

    /// Counts one list of its shard less.
    pub(crate) fn leave_list(self) {
        let lists = self.core.shard_list_count.load(Ordering::Relaxed);
        if lists < u8::MAX {
            self.core.shard_list_count.store(lists.saturating_sub(1), Ordering::Relaxed);
        }
    }

    /// Returns its subscriptions, including those to the channels of its user's groups.
    pub(crate) fn all_subscriptions(self) -> Vec<Arc<Subscription>> {
        let mut all = self.core.subscriptions.lock().clone();
        if let Some(cold) = self.core.cold.get() {
            all.extend(cold.groups.lock().iter().cloned());
        }
        all
    }
}

fn already_subscribed() -> Error {
    Error::protocol(ErrorType::AlreadySubscribed, "already subscribed to this channel")
}
