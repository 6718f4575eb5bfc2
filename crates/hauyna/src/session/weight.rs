//! The size of a kept session in bytes of memory: its connection with everything attached to it, its
//! subscriptions, and its entries in the rosters. Computed when it is first kept. `hauyna-test`'s counting
//! allocator checks the sums.

use super::store::{KeptSubscription, LostSession, SessionContent};
use crate::connection::ConnectionCore;
use crate::hub::HubCore;
use crate::presence;
use std::sync::Arc;

/// Returns the bytes of a session without its subscriptions.
pub(super) fn of_connection(hub: &HubCore, core: &Arc<ConnectionCore>) -> usize {
    let name = SHARED_BYTES + core.user().as_str().len();
    let entries = size_of::<LostSession>() + SLOT_BYTES + ORDER_ENTRY_BYTES;
    entries + name + core.weight() + presence::weight(hub, core)
}

/// Returns the bytes of a session's subscriptions.
pub(super) fn of_subscriptions(kept: &SessionContent) -> usize {
    let bytes = |subscription: &KeptSubscription| {
        let metadata = subscription.metadata.as_ref().map_or(0, |metadata| SHARED_BYTES + metadata.len());
        SHARED_BYTES + subscription.channel.as_str().len() + metadata
    };
    let list = kept.subscriptions.capacity() * size_of::<KeptSubscription>();
    list + kept.subscriptions.iter().map(bytes).sum::<usize>()
}

/// Bytes of the reference counts before a shared text, and of rounding.
const SHARED_BYTES: usize = 20;
/// Bytes of an entry in the map of sessions, which is half full.
const SLOT_BYTES: usize = 96;
/// Bytes of the entries in the orders by age and by end.
const ORDER_ENTRY_BYTES: usize = 96;
