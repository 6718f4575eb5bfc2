//! The way from a broker back into this node: functions that the broker gets at its start.

use crate::Continuity;
use crate::directory::MapChange;
use crate::name::{ChannelName, MapName};
use crate::publication::Publication;
use hauyna_protocol::Position;
use std::fmt;
use std::sync::Arc;

/// The receiver to which a broker relays publications of this node and of others. It is cheap to clone.
#[derive(Clone)]
pub struct Relay {
    receive: Arc<Receive>,
    turned: Arc<Turned>,
    map_changed: Arc<MapChanged>,
    map_outdated: Arc<MapOutdated>,
    is_congested: Arc<IsCongested>,
}

type Receive = dyn Fn(&Arc<Publication>) + Send + Sync;
type Turned = dyn Fn(&ChannelName, Position, Continuity) + Send + Sync;
type MapChanged = dyn Fn(&MapName, &MapChange) + Send + Sync;
type MapOutdated = dyn Fn(&MapName) + Send + Sync;
type IsCongested = dyn Fn(&ChannelName) -> bool + Send + Sync;

impl Relay {
    /// Creates a relay into a function. The hub passes one of its own to [`Broker::start`](crate::Broker);
    /// tests of brokers create others.
    pub fn to(receive: impl Fn(&Arc<Publication>) + Send + Sync + 'static) -> Self {
        Self {
            receive: Arc::new(receive),
            turned: Arc::new(|_, _, _| {}),
            map_changed: Arc::new(|_, _| {}),
            map_outdated: Arc::new(|_| {}),
            is_congested: Arc::new(|_| false),
        }
    }

    /// Replaces the function that gets [`Relay::turned`].
    #[must_use]
    pub fn on_turn(
        self,
        turned: impl Fn(&ChannelName, Position, Continuity) + Send + Sync + 'static,
    ) -> Self {
        Self { turned: Arc::new(turned), ..self }
    }

    /// Replaces the function that gets [`Relay::map_changed`].
    #[must_use]
    pub fn on_map_change(self, map_changed: impl Fn(&MapName, &MapChange) + Send + Sync + 'static) -> Self {
        Self { map_changed: Arc::new(map_changed), ..self }
    }

    /// Replaces the function that gets [`Relay::map_outdated`].
    #[must_use]
    pub fn on_map_outdated(self, map_outdated: impl Fn(&MapName) + Send + Sync + 'static) -> Self {
        Self { map_outdated: Arc::new(map_outdated), ..self }
    }

    /// Replaces the function that gets the publications, and keeps the others.
    #[must_use]
    pub fn on_publication(self, receive: impl Fn(&Arc<Publication>) + Send + Sync + 'static) -> Self {
        Self { receive: Arc::new(receive), ..self }
    }

    /// Replaces the function that answers [`Relay::is_congested_for`].
    #[must_use]
    pub fn congested_when(self, is_congested: impl Fn(&ChannelName) -> bool + Send + Sync + 'static) -> Self {
        Self { is_congested: Arc::new(is_congested), ..self }
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

    /// Passes on a change of a map that this node has subscribed to; see
    /// [`Directory`](crate::Directory). Returns at once.
    pub fn map_changed(&self, map: &MapName, change: &MapChange) {
        (self.map_changed)(map, change);
    }

    /// Says that changes of a map may have been lost without a trace: a reader with a copy reads the map
    /// again. Returns at once.
    pub fn map_outdated(&self, map: &MapName) {
        (self.map_outdated)(map);
    }

    /// Whether this node has more publications of a channel to deliver than it should: a broker then holds
    /// the channel's numbered publications back, which its history has.
    pub fn is_congested_for(&self, channel: &ChannelName) -> bool {
        (self.is_congested)(channel)
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}
