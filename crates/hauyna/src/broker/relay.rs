//! The way back from a broker into this node: a weak handle on the hub, given to the broker at start.

use crate::channel::Publication;
use crate::hub::HubCore;
use std::sync::{Arc, Weak};

/// Where a broker hands in what was published, on this node or on another.
#[derive(Debug, Clone)]
pub struct Relay(Weak<HubCore>);

impl Relay {
    pub(crate) fn new(hub: Weak<HubCore>) -> Self {
        Self(hub)
    }

    /// Gives the publication to this node's subscribers. In the order of offsets for one channel; see
    /// [`Broker`](super::Broker). Returns at once.
    pub fn relay(&self, publication: &Arc<Publication>) {
        if let Some(hub) = self.0.upgrade() {
            crate::channel::deliver(&hub, publication);
        }
    }
}
