//! One channel on this node: who is subscribed, in which shards, and under which epoch. Its lock
//! orders deliveries against subscriptions. Owned by the hub's channel map; changed by `subscribe` and
//! `publish`; the lists that deliveries walk belong to the shards.

use super::{ChannelName, ChannelOptions};
use crate::connection::{ConnectionCore, ConnectionId};
use crate::presence::ChannelPresence;
use crate::rate::Bucket;
use hashbrown::HashMap;
use hauyna_protocol::Position;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use tokio::sync::OnceCell;

#[derive(Debug)]
pub(crate) struct ChannelCore {
    pub(crate) name: ChannelName,
    pub(crate) options: Arc<ChannelOptions>,
    pub(crate) state: Mutex<ChannelState>,
    /// Who is present, where the channel shows it. Its lock comes before that of `state`.
    pub(crate) presence: Option<Box<ChannelPresence>>,
    /// Set once the broker relays the channel; nobody is live before.
    pub(crate) broker_subscription: OnceCell<()>,
    /// Where each shard keeps its part of the subscribers. Written and read by that shard's task alone.
    pub(crate) slots: Box<[AtomicU32]>,
}

#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) subscribers: HashMap<ConnectionId, Arc<Subscription>>,
    /// How many subscribers each shard has, as of the items in its inbox.
    pub(crate) per_shard: Box<[u32]>,
    /// The position of the last publication that was relayed, or the one at which the first subscriber started.
    pub(crate) top: Option<Position>,
    /// How often the stream has turned; see [`turn`](super::epoch_turn::turn).
    pub(crate) turns: u32,
    /// Subscriptions that wait for their history.
    pub(crate) catching_up: u32,
    /// How many have begun to wait since none did.
    started: u64,
    /// Those of them that the application has ended before they were live.
    ended: Option<Box<EndedWhileWaiting>>,
    /// The hub has dropped this entry from its map; whoever still holds it looks the name up again.
    pub(crate) is_removed: bool,
    /// Its place among the channels that lost connections alone hold.
    pub(crate) held_by_lost: Option<u64>,
    /// What is left of the channel's rate, where it has one.
    pub(crate) bucket: Option<Box<Bucket>>,
}

/// Subscriptions that were ended while they waited for their history.
#[derive(Debug, Default)]
struct EndedWhileWaiting {
    /// All up to this number.
    all: u64,
    /// Those of a connection up to a number.
    of: HashMap<ConnectionId, u64>,
    /// The last number when `of` was looked through.
    seen: u64,
    /// How many up to that number still wait: when none does, what was ended up to it is forgotten.
    left: u32,
}

impl ChannelState {
    /// A subscription begins to wait for its history; returns its number among those.
    pub(super) fn begin_wait(&mut self) -> u64 {
        self.catching_up += 1;
        self.started += 1;
        self.started
    }

    /// The subscription of this number waits no more.
    pub(super) fn end_wait(&mut self, number: u64) {
        self.catching_up -= 1;
        if self.catching_up == 0 {
            (self.started, self.ended) = (0, None);
            return;
        }
        let Some(ended) = self.ended.as_mut().filter(|ended| number <= ended.seen) else { return };
        ended.left -= 1;
        if ended.left == 0 {
            let seen = ended.seen;
            ended.of.retain(|_, last| *last > seen);
            (ended.seen, ended.left) = (self.started, self.catching_up);
        }
    }

    /// Ends the subscriptions that wait for their history, of one connection or of all.
    pub(super) fn end_waiting(&mut self, connection: Option<ConnectionId>) {
        if self.catching_up == 0 {
            return;
        }
        let (last, waiting) = (self.started, self.catching_up);
        let anew =
            || Box::new(EndedWhileWaiting { seen: last, left: waiting, ..EndedWhileWaiting::default() });
        let ended = self.ended.get_or_insert_with(anew);
        match connection {
            None => {
                ended.all = last;
                ended.of.clear();
            }
            Some(connection) => {
                ended.of.insert(connection, last);
            }
        }
    }

    /// Whether a subscription was ended while it waited.
    pub(super) fn has_ended_early(&self, connection: ConnectionId, number: u64) -> bool {
        self.ended.as_ref().is_some_and(|ended| {
            number <= ended.all || ended.of.get(&connection).is_some_and(|last| number <= *last)
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

    pub(crate) fn subscription(&self, connection: ConnectionId) -> Option<Arc<Subscription>> {
        self.state.lock().subscribers.get(&connection).cloned()
    }

    /// Whether nobody subscribes, is about to, or may come back.
    pub(crate) fn is_unused(&self, state: &ChannelState) -> bool {
        state.subscribers.is_empty() && state.catching_up == 0 && !self.has_lost()
    }

    /// Whether nobody but lost connections, which may come back, holds it.
    pub(crate) fn is_held_by_lost(&self, state: &ChannelState) -> bool {
        state.subscribers.is_empty() && state.catching_up == 0 && !state.is_removed && self.has_lost()
    }

    fn has_lost(&self) -> bool {
        self.presence.as_ref().is_some_and(|presence| presence.has_lost_members())
    }
}

/// One connection's place in one channel.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: Arc<ChannelCore>,
    pub(crate) connection: Arc<ConnectionCore>,
    /// JSON text, where the subscriber gave metadata.
    pub(crate) metadata: Mutex<Option<Arc<str>>>,
    /// A [`SubscriptionPhase`]. Changed under the connection's outbox.
    pub(crate) phase: AtomicU8,
    /// The place in the shard's list. Written and read by that shard's task alone.
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

    /// Under the connection's outbox.
    pub(crate) fn set_phase(&self, phase: SubscriptionPhase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}

/// How far a subscription is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SubscriptionPhase {
    /// Publications go to the subscriber as they come.
    Live = 0,
    /// It catches up: numbered publications come from the history.
    Replaying = 1,
    /// Nothing of it is queued any more.
    Ended = 2,
}

/// The shard has no list for the channel.
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
            // With a look through all of them for each one it takes many seconds.
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        });
    }

    #[test]
    fn what_was_ended_is_forgotten_when_all_who_waited_then_are_done() {
        in_state(|state| {
            let mut waiting = state.begin_wait();
            for id in 0..10_000 {
                state.end_waiting(Some(ConnectionId::new(id)));
                // Somebody waits at any time, and nobody for long.
                let next = state.begin_wait();
                assert!(state.has_ended_early(ConnectionId::new(id), waiting));
                assert!(!state.has_ended_early(ConnectionId::new(id), next));
                state.end_wait(waiting);
                waiting = next;
            }
            let ended = state.ended.as_ref().map_or(0, |ended| ended.of.len());
            assert!(ended < 10, "{ended} are remembered");
            state.end_wait(waiting);
            assert!(state.ended.is_none());
        });
    }
}
