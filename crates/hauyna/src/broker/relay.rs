//! The way from a broker back into this node: a weak handle on the hub, passed to the broker at its start.

use super::Continuity;
use crate::channel::{ChannelName, Publication};
use crate::hub::HubCore;
use hauyna_protocol::Position;
use std::fmt;
use std::sync::{Arc, Weak};

/// The receiver to which a broker relays publications of this node and of others.
#[derive(Clone)]
pub struct Relay(Receiver);

#[derive(Clone)]
enum Receiver {
    Hub(Weak<HubCore>),
    Functions { receive: Arc<Receive>, turned: Arc<Turned> },
}

type Receive = dyn Fn(&Arc<Publication>) + Send + Sync;
type Turned = dyn Fn(&ChannelName, Position, Continuity) + Send + Sync;

impl Relay {
    pub(crate) fn new(hub: Weak<HubCore>) -> Self {
        Self(Receiver::Hub(hub))
    }

    /// Creates a relay into a function instead of a hub, for tests of brokers.
    pub fn to(receive: impl Fn(&Arc<Publication>) + Send + Sync + 'static) -> Self {
        Self(Receiver::Functions { receive: Arc::new(receive), turned: Arc::new(|_, _, _| {}) })
    }

    /// Sets the function that gets [`Relay::turned`], for a relay into a function. A relay into a hub is not
    /// changed.
    #[must_use]
    pub fn on_turn(
        self,
        turned: impl Fn(&ChannelName, Position, Continuity) + Send + Sync + 'static,
    ) -> Self {
        match self.0 {
            Receiver::Functions { receive, .. } => {
                Self(Receiver::Functions { receive, turned: Arc::new(turned) })
            }
            hub @ Receiver::Hub(_) => Self(hub),
        }
    }

    /// Delivers the publication to this node's subscribers. A broker calls it in the order of offsets for one
    /// channel; see [`Broker`](super::Broker). Returns at once.
    pub fn relay(&self, publication: &Arc<Publication>) {
        match &self.0 {
            Receiver::Hub(hub) => {
                if let Some(hub) = hub.upgrade() {
                    crate::channel::deliver(&hub, publication);
                }
            }
            Receiver::Functions { receive, .. } => receive(publication),
        }
    }

    /// Notifies this node's subscribers that the channel's stream continues after `to`, under another epoch
    /// or after a loss: the next publication that is relayed has the offset after `to`. A broker calls it in
    /// one order with [`Relay::relay`]. Returns at once.
    ///
    /// [`Continuity::Whole`] means that nothing was lost: `to` is then the last publication that was relayed,
    /// under its new epoch. Any other value says why something is missing; the subscribers load their state
    /// again.
    ///
    /// A publication of another epoch that comes without this call is handled as well: if its offset is the
    /// next one, the numbering has continued and nothing is missing; otherwise the memory of the stream was
    /// lost.
    pub fn turned(&self, channel: &ChannelName, to: Position, continuity: Continuity) {
        match &self.0 {
            Receiver::Hub(hub) => {
                if let Some(hub) = hub.upgrade() {
                    crate::channel::turned(&hub, channel, to, continuity);
                }
            }
            Receiver::Functions { turned, .. } => turned(channel, to, continuity),
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Receiver::Hub(_) => "Relay::new",
            Receiver::Functions { .. } => "Relay::to",
        })
    }
}
