//! The way from a broker back into this node: two functions, passed to the broker at its start.

use crate::Continuity;
use crate::name::ChannelName;
use crate::publication::Publication;
use hauyna_protocol::Position;
use std::fmt;
use std::sync::Arc;

/// The receiver to which a broker relays publications of this node and of others. It is cheap to clone.
#[derive(Clone)]
pub struct Relay {
    receive: Arc<Receive>,
    turned: Arc<Turned>,
}

type Receive = dyn Fn(&Arc<Publication>) + Send + Sync;
type Turned = dyn Fn(&ChannelName, Position, Continuity) + Send + Sync;

impl Relay {
    /// Creates a relay into a function. The hub passes one of its own to [`Broker::start`](crate::Broker);
    /// tests of brokers create others.
    pub fn to(receive: impl Fn(&Arc<Publication>) + Send + Sync + 'static) -> Self {
        Self { receive: Arc::new(receive), turned: Arc::new(|_, _, _| {}) }
    }

    /// Replaces the function that gets [`Relay::turned`].
    #[must_use]
    pub fn on_turn(
        self,
        turned: impl Fn(&ChannelName, Position, Continuity) + Send + Sync + 'static,
    ) -> Self {
        Self { turned: Arc::new(turned), ..self }
    }

    /// Delivers the publication to this node's subscribers. A broker calls it in the order of offsets for one
    /// channel; see [`Broker`](crate::Broker). Returns at once.
    pub fn relay(&self, publication: &Arc<Publication>) {
        (self.receive)(publication);
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
        (self.turned)(channel, to, continuity);
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}
