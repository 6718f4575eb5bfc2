//! The state of one channel on this node: its subscribers, their number per shard, and the epoch. The lock of
//! the state orders deliveries and subscriptions. The hub's channel map owns it; `subscribe`, `unsubscribe`
//! and `publish` change it. The lists that deliveries iterate belong to the shards.

use super::{ChannelOptions, not_subscribed};
use crate::connection::ConnectionCore;
use crate::error::Error;
use crate::presence::ChannelPresence;
use crate::rate::Bucket;
use hashbrown::HashMap;
use hauyna_broker::{ChannelName, ConnectionId};
use hauyna_protocol::Position;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use tokio::sync::OnceCell;

/// One channel on this node.
#[derive(Debug)]
pub(crate) struct ChannelCore {
    pub(crate) name: ChannelName,
    pub(crate) options: Arc<ChannelOptions>,
    pub(crate) state: Mutex<ChannelState>,
    /// The roster, where the channel has presence. Its lock is taken before that of `state`.
    pub(crate) presence: Option<Box<ChannelPresence>>,
    /// A cell that is set once the broker relays the channel; no subscriber is live before.
    pub(crate) broker_subscription: OnceCell<()>,
    /// Index of the channel's list in each shard. Only the task of that shard writes and reads it.
    pub(crate) slots: Box<[AtomicU32]>,
}

/// The part of a channel's state that is under its lock.
#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) subscribers: HashMap<ConnectionId, Arc<Subscription>>,
    /// Number of subscribers of each shard, once it has handled the items in its inbox.
    pub(crate) per_shard: Box<[u32]>,
    /// Position of the last publication that was relayed, or the one at which the first subscriber started.
    pub(super) top: Option<Position>,
    /// Number of epoch turns of the stream; see [`turn`](super::epoch_turn::turn).
    pub(super) turns: u32,
    /// Number of subscriptions that wait for their history.
    pub(super) catching_up: u32,
    /// Number of subscriptions that have begun to wait since the last time when none waited.
    started: u64,
    /// The waiting subscriptions that the application has ended before they were live.
    ended: Option<Box<EndedWhileWaiting>>,
    /// Whether the hub has removed this channel from its map. A caller that still holds it looks the name up
    /// again.
    pub(crate) is_removed: bool,
    /// Number that orders this channel among those that only lost connections hold.
    pub(crate) held_by_lost: Option<u64>,
    /// Token bucket of the channel's rate limit, where it has one.
    pub(crate) bucket: Option<Box<Bucket>>,
}

/// Subscriptions that were ended while they waited for their history.
#[derive(Debug, Default)]
struct EndedWhileWaiting {
    /// Number up to which all subscriptions were ended.
    all: u64,
    /// Number up to which the subscriptions of each connection were ended.
    by_connection: HashMap<ConnectionId, u64>,
    /// Last number that had been given out when `by_connection` was last pruned.
    seen: u64,
    /// How many subscriptions up to `seen` still wait. At zero, entries up to `seen` are pruned.
    still_waiting: u32,
}

impl ChannelState {
    /// Notes that a subscription begins to wait for its history. Returns its number among those that wait.
    pub(super) fn begin_wait(&mut self) -> u64 {
        self.catching_up += 1;
        self.started += 1;
        self.started
    }

    /// Notes that the subscription of this number waits no more.
    pub(super) fn end_wait(&mut self, number: u64) {
        self.catching_up -= 1;
        if self.catching_up == 0 {
            (self.started, self.ended) = (0, None);
            return;
        }
        let Some(ended) = self.ended.as_mut().filter(|ended| number <= ended.seen) else { return };
        ended.still_waiting -= 1;
        if ended.still_waiting == 0 {
            let seen = ended.seen;
            ended.by_connection.retain(|_, last| *last > seen);
            (ended.seen, ended.still_waiting) = (self.started, self.catching_up);
        }
    }

    /// Ends the subscriptions that wait for their history, of one connection or of all.
    pub(super) fn end_waiting(&mut self, connection: Option<ConnectionId>) {
        if self.catching_up == 0 {
            return;
        }
        let (last, still_waiting) = (self.started, self.catching_up);
        let new_entry =
            || Box::new(EndedWhileWaiting { seen: last, still_waiting, ..EndedWhileWaiting::default() });
        let ended = self.ended.get_or_insert_with(new_entry);
        match connection {
            None => {
                ended.all = last;
                ended.by_connection.clear();
            }
            Some(connection) => {
                ended.by_connection.insert(connection, last);
            }
        }
    }

    /// Whether the subscription of this connection and number was ended while it waited.
    pub(super) fn has_ended_early(&self, connection: ConnectionId, number: u64) -> bool {
        self.ended.as_ref().is_some_and(|ended| {
            number <= ended.all || ended.by_connection.get(&connection).is_some_and(|last| number <= *last)
        })
    }
}

impl ChannelCore {
    pub(crate) fn new(name: ChannelName, options: Arc<ChannelOptions>, shards: usize) -> Self {
        let state = ChannelState {
            subscribers: HashMap::new(),
            per_shard: vec![0; shards].into_boxed_slice(),
            top: None,
            turns: 0,
            catching_up: 0,
            started: 0,
            ended: None,
            is_removed: false,
            held_by_lost: None,
            bucket: options.rate.and_then(|_| options.usage.spent.take(name.as_str(), 0)),
        };
        options.usage.channels.increment();
        let slots = (0..shards).map(|_| AtomicU32::new(NO_SLOT)).collect();
        let presence = options.presence.map(|options| Box::new(ChannelPresence::new(options)));
        Self {
            name,
            options,
            presence,
            state: Mutex::new(state),
            broker_subscription: OnceCell::new(),
            slots,
        }
    }

    pub(super) fn subscription(&self, connection: ConnectionId) -> Option<Arc<Subscription>> {
        self.state.lock().subscribers.get(&connection).cloned()
    }

    /// Whether the channel has no subscriber, none that waits for its history, and no lost one that may come
    /// back.
    pub(crate) fn is_unused(&self, state: &ChannelState) -> bool {
        state.subscribers.is_empty() && state.catching_up == 0 && !self.has_lost()
    }

    /// Whether only lost connections, which may come back, hold the channel.
    pub(crate) fn is_held_by_lost(&self, state: &ChannelState) -> bool {
        state.subscribers.is_empty() && state.catching_up == 0 && !state.is_removed && self.has_lost()
    }

    fn has_lost(&self) -> bool {
        self.presence.as_ref().is_some_and(|presence| presence.has_lost_members())
    }
}

/// One connection's subscription to one channel.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: Arc<ChannelCore>,
    pub(crate) connection: Arc<ConnectionCore>,
    /// Metadata as JSON text, where the subscriber has given any.
    pub(crate) metadata: Mutex<Option<Arc<str>>>,
    /// A [`SubscriptionPhase`]. It changes only under the lock of the connection's outbox.
    pub(crate) phase: AtomicU8,
    /// Index in the shard's list. Only the task of that shard writes and reads it.
    pub(crate) index: AtomicU32,
}

impl Subscription {
    pub(crate) fn phase(&self) -> SubscriptionPhase {
        match self.phase.load(Ordering::Relaxed) {
            0 => SubscriptionPhase::Live,
            1 => SubscriptionPhase::Replaying,
            _ => SubscriptionPhase::Ended,
        }
    }

    /// Checks that it has not ended since a request about it began. A later subscription to the same channel
    /// is another one: what was permitted to a subscriber is not permitted to the next one.
    ///
    /// # Errors
    ///
    /// `not_subscribed`.
    pub(crate) fn check_not_ended(&self) -> Result<(), Error> {
        if self.phase() == SubscriptionPhase::Ended { Err(not_subscribed()) } else { Ok(()) }
    }

    /// Sets the phase. The caller holds the lock of the connection's outbox.
    pub(crate) fn set_phase(&self, phase: SubscriptionPhase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}

/// The phase of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SubscriptionPhase {
    /// Publications are sent to the subscriber as they arrive.
    Live = 0,
    /// The subscriber catches up: it gets numbered publications from the history.
    Replaying = 1,
    /// The subscription has ended, and nothing of it is queued any more.
    Ended = 2,
}

/// Index of a channel for which a shard has no list.
pub(crate) const NO_SLOT: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn in_state<R>(f: impl FnOnce(&mut ChannelState) -> R) -> R {
        let channel = ChannelCore::new(ChannelName::new("c").unwrap(), Arc::default(), 1);
        f(&mut channel.state.lock())
    }

    #[test]
    fn many_who_are_taken_out_while_one_waits_cost_little() {
        in_state(|state| {
            let first = state.begin_wait();
            let began = Instant::now();
            for id in 0..50_000 {
                state.end_waiting(Some(ConnectionId::new(id)));
            }
            assert!(state.has_ended_early(ConnectionId::new(7), first));
            // If each call searched all of them, this would take many seconds.
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        });
    }

    #[test]
    fn what_was_ended_is_forgotten_when_all_who_waited_then_are_done() {
        in_state(|state| {
            let mut waiting = state.begin_wait();
            for id in 0..10_000 {
                state.end_waiting(Some(ConnectionId::new(id)));
                // At any time one subscription waits, and none of them waits for long.
                let next = state.begin_wait();
                assert!(state.has_ended_early(ConnectionId::new(id), waiting));
                assert!(!state.has_ended_early(ConnectionId::new(id), next));
                state.end_wait(waiting);
                waiting = next;
            }
            let ended = state.ended.as_ref().map_or(0, |ended| ended.by_connection.len());
            assert!(ended < 10, "{ended} entries are kept");
            state.end_wait(waiting);
            assert!(state.ended.is_none());
        });
    }
}
