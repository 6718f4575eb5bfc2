//! The hub: everything that connections share. Public verbs here; `registry` finds connections, `shard`
//! writes to them, `channels` finds channels, `stats` counts, `ending` and `drain` end it. Nothing is global: two
//! hubs live in one process.

mod broker_calls;
mod builder;
mod channels;
mod drain;
mod expiries;
mod inspect;
mod limits;
mod registry;
mod shutdown;
mod stats;
mod sweep;

pub use builder::HubBuilder;
pub use drain::Drain;
pub use inspect::{
    ChannelSnapshot, ConnectionSnapshot, Inspect, OptionsSnapshot, PositionSnapshot, SubscriberSnapshot,
    UserSnapshot,
};
pub use limits::{AtLimit, Limit};
pub use shutdown::Readiness;
pub use stats::{Memory, Stats};

pub(crate) use channels::ChannelMap;
pub(crate) use expiries::{Expiries, expire};
pub(crate) use limits::{LimitOptions, Limits, Place};
pub(crate) use registry::Registry;
pub(crate) use shutdown::Lifecycle;
pub(crate) use sweep::sweep;

use crate::auth::{Revocation, Revocations, Whose};
use crate::background::Background;
use crate::broker::Broker;
use crate::channel::{Channel, Declarations};
use crate::clock::Clock;
use crate::config::HubConfig;
use crate::connection::{Connection, ConnectionCore, ConnectionId, Connections, States};
use crate::error::Reject;
use crate::event::{Events, Listeners};
use crate::group::{GroupMap, Groups};
use crate::handler::{Credentials, Endpoint};
use crate::metrics::Metrics;
use crate::presence::{People, Presence};
use crate::session::{self, Sessions};
use crate::shard::Shards;
use crate::user::User;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// The centre of an application: its connections, channels and users. A cheap handle; clone it freely.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hauyna::Result {
/// let hub = hauyna::Hub::new();
/// hub.channel("orders").broadcast(hauyna::json!({ "type": "order", "id": 7 })).await?;
/// assert_eq!(hub.connections().count(), 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Hub(pub(crate) Arc<HubCore>);

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

pub(crate) struct HubCore {
    /// Tells it from the other hubs of the process.
    pub(crate) number: u64,
    pub(crate) config: HubConfig,
    pub(crate) shards: Shards,
    pub(crate) registry: Registry,
    pub(crate) revocations: Revocations,
    pub(crate) states: States,
    pub(crate) limits: Limits,
    pub(crate) channels: ChannelMap,
    pub(crate) declarations: Declarations,
    pub(crate) broker: Arc<dyn Broker>,
    /// As of the last look at it.
    pub(crate) broker_is_up: AtomicBool,
    /// The tick of the last look at the broker.
    pub(crate) broker_seen: AtomicU32,
    pub(crate) presence: People,
    pub(crate) sessions: Sessions,
    pub(crate) events: Listeners,
    pub(crate) groups: GroupMap,
    pub(crate) metrics: Metrics,
    /// The endpoints of all routers over this hub, for those who count by route.
    pub(crate) routes: Mutex<Vec<Weak<Endpoint>>>,
    pub(crate) clock: Clock,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) background: Background,
    /// Waits are woken whenever a connection is gone.
    pub(crate) connection_gone: Notify,
}

/// Prints counts alone: whoever logs a handle must neither walk the hub under its locks nor print what it keeps.
impl fmt::Debug for HubCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("connections", &self.registry.count())
            .field("channels", &self.channels.count())
            .finish()
    }
}

impl Hub {
    /// A hub with the defaults: everything in this process, no channel pattern declared.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Options first, then [`HubBuilder::build`].
    pub fn builder() -> HubBuilder {
        HubBuilder::new()
    }

    /// A channel by its name. It need not exist; a bad name is reported by the verbs.
    pub fn channel(&self, name: impl AsRef<str>) -> Channel {
        self.0.background.adopt();
        Channel::new(self.clone(), name.as_ref())
    }

    /// A user by identifier: all of their connections.
    pub fn user(&self, user: impl AsRef<str>) -> User {
        self.0.background.adopt();
        User::new(self.clone(), user.as_ref())
    }

    /// The live connections.
    pub fn connections(&self) -> Connections {
        self.0.background.adopt();
        Connections::new(self.clone())
    }

    /// A live connection by its identifier.
    pub fn connection(&self, id: ConnectionId) -> Option<Connection> {
        self.0.background.adopt();
        self.0.registry.by_id(id).map(Connection::new)
    }

    /// Takes rights away at once: closes the connections of a user or of a token with 3505 (stay away), sends them
    /// nothing more, and refuses for a while whoever comes with the same. Returns how many connections there were on this node.
    ///
    /// What is refused is kept in memory, 65,536 entries at most; past that the one that would end first gives way.
    pub fn revoke(&self, revocation: Revocation) -> usize {
        self.0.revocations.add(&revocation, self.0.clock.millis());
        let whose = revocation.whose.clone();
        let is_meant = move |core: &ConnectionCore| match &whose {
            Whose::User(name) => core.user().as_str() == &**name,
            Whose::Token(id) => core.has_token(id),
        };
        let count = session::end_matching(&self.0, is_meant, || {
            let connections = match revocation.whose {
                Whose::User(name) => self.0.registry.of_user(&name),
                Whose::Token(id) => {
                    let mut all = self.0.registry.all();
                    all.retain(|connection| connection.has_token(&id));
                    all
                }
            };
            // One that is being closed already may have meant to come back.
            let open = connections.iter().filter(|connection| connection.is_open()).count();
            connections.iter().for_each(ConnectionCore::revoke);
            open
        });
        tracing::info!(target: "hauyna::auth", connections = count, "revoked");
        count
    }

    /// Who is present, over the whole hub.
    pub fn presence(&self) -> Presence {
        self.0.background.adopt();
        Presence::of_hub(self.clone())
    }

    /// The events of the application and of the hub itself: listeners for them, and triggering one.
    pub fn events(&self) -> Events {
        self.0.background.adopt();
        Events::new(self.clone())
    }

    /// The groups of users, with roles and permissions.
    pub fn groups(&self) -> Groups {
        self.0.background.adopt();
        Groups::new(self.clone())
    }

    /// Counts, as of now.
    pub fn stats(&self) -> Stats {
        self.0.background.adopt();
        Stats::of(&self.0)
    }

    /// Snapshots of one connection, user or channel.
    pub fn inspect(&self) -> Inspect {
        self.0.background.adopt();
        Inspect::new(self.clone())
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl HubCore {
    /// Remembers an endpoint for those who count by route, and forgets the ones that are gone.
    pub(crate) fn add_route(&self, endpoint: &Arc<Endpoint>) {
        let mut routes = self.routes.lock();
        routes.retain(|route| route.strong_count() > 0);
        routes.push(Arc::downgrade(endpoint));
    }

    /// # Errors
    ///
    /// `unauthorized`: these credentials were revoked, or are since they were looked at.
    pub(crate) fn check_revoked(&self, user: &str, credentials: &Credentials) -> Result<(), Reject> {
        let Credentials { token, revocations, .. } = credentials;
        if self.revocations.refuses((user, token.as_deref()), *revocations, self.clock.millis()) {
            return Err(Reject::unauthorized("the credentials were revoked"));
        }
        Ok(())
    }
}

impl Drop for HubCore {
    fn drop(&mut self) {
        for shard in self.shards.iter() {
            shard.wake();
        }
        self.background.stop();
    }
}
