//! Subscriptions whose authoriser has not decided yet. The application may end one meanwhile, by
//! `Channel::unsubscribe` or `Channel::close`; then it fails, whatever the authoriser returns. `dispatch`
//! adds them, and `subscribe` checks them when the subscription begins to wait for its history.

use crate::connection::ConnectionCore;
use crate::hub::HubCore;
use crate::stripes::Stripes;
use hauyna_broker::{ChannelName, ConnectionId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The subscriptions of a hub that wait for their authorisers, by channel.
#[derive(Debug)]
pub(crate) struct AwaitingSubscriptions(Stripes<HashMap<ChannelName, Vec<Entry>>>);

#[derive(Debug)]
struct Entry {
    connection: ConnectionId,
    has_ended: Arc<AtomicBool>,
}

/// One subscription that waits for its authoriser, until this is dropped.
pub(crate) struct AwaitingSubscription {
    hub: Arc<HubCore>,
    name: ChannelName,
    has_ended: Arc<AtomicBool>,
}

impl AwaitingSubscriptions {
    pub(crate) fn new() -> Self {
        Self(Stripes::new())
    }

    /// Ends the subscriptions to a channel that wait for their authorisers, of one connection or of all.
    pub(super) fn end(&self, channel: &str, connection: Option<ConnectionId>) {
        if let Some(entries) = self.0.lock(channel).get(channel) {
            let is_meant =
                |entry: &&Entry| connection.is_none_or(|connection| connection == entry.connection);
            entries.iter().filter(is_meant).for_each(|entry| entry.has_ended.store(true, Ordering::Relaxed));
        }
    }
}

impl AwaitingSubscription {
    /// Notes that a subscription of this connection waits for its authoriser.
    pub(crate) fn new(core: &ConnectionCore, name: &ChannelName) -> Self {
        let has_ended = Arc::new(AtomicBool::new(false));
        let entry = Entry { connection: core.id(), has_ended: has_ended.clone() };
        let hub = core.hub().clone();
        hub.awaiting_subscriptions.0.lock(name.as_str()).entry(name.clone()).or_default().push(entry);
        Self { hub, name: name.clone(), has_ended }
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
        entries.retain(|entry| !Arc::ptr_eq(&entry.has_ended, &self.has_ended));
        if entries.is_empty() {
            stripe.remove(self.name.as_str());
        }
    }
}

impl fmt::Debug for AwaitingSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwaitingSubscription").field("name", &self.name).finish_non_exhaustive()
    }
}
