//! Subscriptions whose authoriser has not decided yet. The application may end one meanwhile, by
//! `Channel::unsubscribe` or `Channel::close`; then it fails, whatever the authoriser returns. `dispatch`
//! adds them, and `subscribe` checks them when the subscription begins to wait for its history.

use crate::hub::HubCore;
use crate::stripes::{Stripes, is_sparse};
use hauyna_broker::{ChannelName, ConnectionId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The subscriptions of a hub that wait for their authorisers, by channel.
#[derive(Debug)]
pub(crate) struct AwaitingSubscriptions(Stripes<HashMap<ChannelName, Entries>>);

/// The subscriptions to one channel: whether the application has ended them. A connection has one at most,
/// because its requests are handled one after the other.
type Entries = HashMap<ConnectionId, Arc<AtomicBool>>;

/// One subscription that waits for its authoriser, until this is dropped.
pub(crate) struct AwaitingSubscription {
    hub: Arc<HubCore>,
    name: ChannelName,
    connection: ConnectionId,
    has_ended: Arc<AtomicBool>,
}

impl AwaitingSubscriptions {
    pub(crate) fn new() -> Self {
        Self(Stripes::new())
    }

    /// Ends the subscriptions to a channel that wait for their authorisers, of one connection or of all.
    pub(super) fn end(&self, channel: &str, connection: Option<ConnectionId>) {
        let stripe = self.0.lock(channel);
        let Some(entries) = stripe.get(channel) else { return };
        let end = |has_ended: &Arc<AtomicBool>| has_ended.store(true, Ordering::Relaxed);
        match connection {
            None => entries.values().for_each(end),
            Some(connection) => entries.get(&connection).into_iter().for_each(end),
        }
    }
}

impl AwaitingSubscription {
    /// Notes that a subscription of this connection waits for its authoriser.
    pub(crate) fn new(hub: &Arc<HubCore>, connection: ConnectionId, name: &ChannelName) -> Self {
        let has_ended = Arc::new(AtomicBool::new(false));
        let mut stripe = hub.awaiting_subscriptions.0.lock(name.as_str());
        stripe.entry(name.clone()).or_default().insert(connection, has_ended.clone());
        drop(stripe);
        Self { hub: hub.clone(), name: name.clone(), connection, has_ended }
    }

    /// Whether the application has ended the subscription meanwhile.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

impl Drop for AwaitingSubscription {
    fn drop(&mut self) {
        let mut stripe = self.hub.awaiting_subscriptions.0.lock(self.name.as_str());
        let Some(entries) = stripe.get_mut(self.name.as_str()) else { return };
        entries.remove(&self.connection);
        if is_sparse(entries.capacity(), entries.len(), 16) {
            entries.shrink_to_fit();
        }
        if entries.is_empty() {
            stripe.remove(self.name.as_str());
        }
        if is_sparse(stripe.capacity(), stripe.len(), 16) {
            stripe.shrink_to_fit();
        }
    }
}

impl fmt::Debug for AwaitingSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwaitingSubscription").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hub;
    use parking_lot::Mutex;
    use std::time::{Duration, Instant};

    #[test]
    fn many_that_wait_for_one_channel_cost_little() {
        let (hub, name) = (Hub::new(), ChannelName::new("c").unwrap());
        let began = Instant::now();
        let awaiting = |id| AwaitingSubscription::new(&hub.0, ConnectionId::new(id), &name);
        let all: Vec<_> = (0..50_000).map(awaiting).collect();
        for id in 0..25_000 {
            hub.0.awaiting_subscriptions.end("c", Some(ConnectionId::new(id)));
        }
        assert_eq!(all.iter().filter(|one| one.has_ended()).count(), 25_000);
        drop(all);
        // If each call searched all of them, this would take many seconds.
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert!(hub.0.awaiting_subscriptions.0.iter().all(|stripe| stripe.lock().is_empty()));
    }

    #[test]
    fn memory_of_a_flood_is_given_back() {
        let (hub, hot) = (Hub::new(), ChannelName::new("hot").unwrap());
        let awaiting =
            |id, name: &ChannelName| AwaitingSubscription::new(&hub.0, ConnectionId::new(id), name);
        let last = awaiting(0, &hot);
        let of_one: Vec<_> = (1..20_000).map(|id| awaiting(id, &hot)).collect();
        let of_many: Vec<_> =
            (1..20_000).map(|id| awaiting(id, &ChannelName::new(&format!("c{id}")).unwrap())).collect();
        drop((of_one, of_many));
        let all = &hub.0.awaiting_subscriptions.0;
        let room = |stripe: &Mutex<HashMap<ChannelName, Entries>>| stripe.lock().capacity();
        let rooms: Vec<usize> = all.iter().map(room).collect();
        assert!(rooms.iter().all(|room| *room <= 8 * 17), "{rooms:?}");
        let stripe = all.lock("hot");
        assert!(stripe["hot"].capacity() <= 8 * 17, "{}", stripe["hot"].capacity());
        drop(stripe);
        drop(last);
    }
}
