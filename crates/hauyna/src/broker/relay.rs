//! The way back from a broker into this node: a weak handle on the hub, given to the broker at start.

use super::Continuity;
use crate::channel::{ChannelName, Publication};
use crate::hub::HubCore;
use hauyna_protocol::Position;
use std::fmt;
use std::sync::{Arc, Weak};

/// Where a broker hands in what was published, on this node or on another.
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

    /// A relay into a function instead of a hub: for the tests of brokers.
    pub fn to(receive: impl Fn(&Arc<Publication>) + Send + Sync + 'static) -> Self {
        Self(Receiver::Functions { receive: Arc::new(receive), turned: Arc::new(|_, _, _| {}) })
    }

    /// Has a relay into a function give [`Relay::turned`] to another one. A relay into a hub stays as it is.
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

    /// Gives the publication to this node's subscribers. In the order of offsets for one channel; see
    /// [`Broker`](super::Broker). Returns at once.
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

    /// Tells this node's subscribers that the channel's stream goes on behind `to`, under another epoch or after a
    /// loss: the next publication that is relayed has the offset after `to`. Called in one order with
    /// [`Relay::relay`]. Returns at once.
    ///
    /// [`Continuity::Whole`] says that nothing was lost: `to` is then the last publication that was relayed, under
    /// its new epoch. Any other value says why something is missing; the subscribers load their state anew.
    ///
    /// A publication of another epoch that comes without this call is understood as well: where its offset is the
    /// next one, the numbering has gone on and nothing is missing; otherwise the memory of the stream was lost.
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
