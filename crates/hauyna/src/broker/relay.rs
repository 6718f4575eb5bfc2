//! The way back from a broker into this node: a weak handle on the hub, given to the broker at start.

use crate::channel::Publication;
use crate::hub::HubCore;
use std::fmt;
use std::sync::{Arc, Weak};

/// Where a broker hands in what was published, on this node or on another.
#[derive(Clone)]
pub struct Relay(Receiver);

#[derive(Clone)]
enum Receiver {
    Hub(Weak<HubCore>),
    Function(Arc<Receive>),
}

type Receive = dyn Fn(&Arc<Publication>) + Send + Sync;

impl Relay {
    pub(crate) fn new(hub: Weak<HubCore>) -> Self {
        Self(Receiver::Hub(hub))
    }

    /// A relay into a function instead of a hub: for the tests of brokers.
    pub fn to(receive: impl Fn(&Arc<Publication>) + Send + Sync + 'static) -> Self {
        Self(Receiver::Function(Arc::new(receive)))
    }

    /// Gives the publication to this node's subscribers. In the order of offsets for one channel; see
    /// [`Broker`](super::Broker). Returns at once.
    pub fn relay(&self, publication: &Arc<Publication>) {
        match &self.0 {
            Receiver::Hub(hub) => {
                if let Some(hub) = hub.upgrade() {
                    crate::channel::deliver(&hub, publication);
                }
            }
            Receiver::Function(receive) => receive(publication),
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Receiver::Hub(_) => "Relay::new",
            Receiver::Function(_) => "Relay::to",
        })
    }
}
