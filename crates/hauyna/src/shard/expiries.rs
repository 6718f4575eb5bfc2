//! The connections of a shard whose credentials expire, ordered by expiry: one entry each. Connections add
//! the entries, the shard's sweep takes them out.

use crate::hub::HubCore;
use hauyna_broker::ConnectionId;
use parking_lot::Mutex;
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(crate) struct Expiries(Mutex<BTreeSet<(u64, ConnectionId)>>);

impl Expiries {
    /// Replaces the expiry of a connection, in milliseconds of the hub's clock.
    pub(crate) fn replace(&self, id: ConnectionId, old: Option<u64>, new: Option<u64>) {
        let mut all = self.0.lock();
        if let Some(old) = old {
            all.remove(&(old, id));
        }
        if let Some(new) = new {
            all.insert((new, id));
        }
    }

    fn take_due(&self, now: u64) -> BTreeSet<(u64, ConnectionId)> {
        let mut all = self.0.lock();
        if all.first().is_none_or(|(first, _)| *first > now) {
            return BTreeSet::new();
        }
        let later = all.split_off(&(now + 1, ConnectionId::new(0)));
        std::mem::replace(&mut *all, later)
    }
}

/// Closes the connections of a shard whose credentials have expired.
pub(super) fn expire(hub: &HubCore, shard: usize) {
    let now = hub.clock.millis();
    for (_, id) in hub.shards[shard].expiries.take_due(now) {
        if let Some(connection) = hub.registry.by_id(id) {
            connection.credentials().expire(now);
        }
    }
}
