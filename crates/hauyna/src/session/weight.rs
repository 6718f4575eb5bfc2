//! What a session that waits weighs, in bytes of memory: its connection with all that is attached to it, its
//! subscriptions, and its places in the rosters. Reckoned when it comes to wait. `hauyna-test`'s counting allocator
//! holds it to what is so.

use super::store::{KeptSubscription, LostSession, SessionContent};
use crate::connection::ConnectionCore;
use crate::hub::HubCore;
use crate::presence;

/// Bytes of a session without its subscriptions.
pub(super) fn of_connection(hub: &HubCore, core: &ConnectionCore) -> usize {
    let name = SHARED_BYTES + core.user().as_str().len();
    let places = size_of::<LostSession>() + SLOT_BYTES + ORDER_ENTRY_BYTES;
    places + name + core.weight() + presence::weight(hub, core)
}

/// Bytes of a session's subscriptions.
pub(super) fn of_subscriptions(kept: &SessionContent) -> usize {
    let one = |subscription: &KeptSubscription| {
        let metadata = subscription.metadata.as_ref().map_or(0, |metadata| SHARED_BYTES + metadata.len());
        SHARED_BYTES + subscription.channel.as_str().len() + metadata
    };
    let list = kept.subscriptions.capacity() * size_of::<KeptSubscription>();
    list + kept.subscriptions.iter().map(one).sum::<usize>()
}

/// Bytes of the counts before a shared text, and of rounding.
const SHARED_BYTES: usize = 20;
/// Bytes of a place in the map of sessions, which is half full.
const SLOT_BYTES: usize = 96;
/// Bytes of the places in the orders by age and by end.
const ORDER_ENTRY_BYTES: usize = 96;
