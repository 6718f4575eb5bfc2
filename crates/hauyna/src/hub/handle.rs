//! The public handle on a hub, `Hub`, and `HubCore` behind it: what all connections share.

use super::{ChannelMap, HubBuilder, Inspect, Lifecycle, Limits, Registry, Stats};
use crate::auth::{Credentials, Revocation, Revocations, Whose};
use crate::background::Background;
use crate::broker::Broker;
use crate::channel::{AwaitingSubscriptions, Channel, Declarations};
use crate::clock::Clock;
use crate::cluster::{self, Cluster};
use crate::config::HubConfig;
use crate::connection::{Connection, ConnectionCore, Connections};
use crate::counters::Metrics;
use crate::error::Reject;
use crate::event::{Events, Listeners};
use crate::group::{GroupMap, Groups};
use crate::handler::Endpoint;
use crate::presence::{People, Presence};
use crate::session::{self, Sessions};
use crate::shard::Shards;
use crate::state::States;
use crate::user::User;
use hauyna_broker::ConnectionId;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// The centre of an application: its connections, channels and users. A handle that is cheap to clone.
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
    /// Number that distinguishes this hub from the others of the process.
    pub(crate) number: u64,
    pub(crate) config: HubConfig,
    pub(crate) shards: Shards,
    pub(crate) registry: Registry,
    pub(crate) revocations: Revocations,
    pub(crate) states: States,
    pub(crate) limits: Limits,
    pub(crate) channels: ChannelMap,
    pub(crate) awaiting_subscriptions: AwaitingSubscriptions,
    pub(crate) declarations: Declarations,
    pub(crate) broker: Arc<dyn Broker>,
    /// This node among others, where the broker has a directory.
    pub(crate) cluster: Option<Cluster>,
    /// Whether the broker could be reached at the last check.
    pub(crate) broker_is_up: AtomicBool,
    /// The tick of the last check of the broker.
    pub(crate) broker_seen: AtomicU32,
    pub(crate) presence: People,
    pub(crate) sessions: Sessions,
    pub(crate) events: Listeners,
    pub(crate) groups: GroupMap,
    pub(crate) metrics: Metrics,
    /// The endpoints of all routers over this hub, for counts by route.
    pub(crate) routes: Mutex<Vec<Weak<Endpoint>>>,
    pub(crate) clock: Clock,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) background: Background,
    /// Wakes waiting tasks whenever a connection is gone.
    pub(crate) connection_gone: Notify,
}

/// Prints counts alone: a program that logs a handle must neither walk the hub under its locks nor print what
/// it keeps.
impl fmt::Debug for HubCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("connections", &self.registry.count())
            .field("channels", &self.channels.count())
            .finish()
    }
}

impl Hub {
    /// Creates a hub with the defaults: everything in this process, no channel pattern declared.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder with the default options; [`HubBuilder::build`] makes the hub.
    pub fn builder() -> HubBuilder {
        HubBuilder::new()
    }

    /// Returns a channel by its name. It need not exist; the methods of the channel report an invalid name.
    pub fn channel(&self, name: impl AsRef<str>) -> Channel {
        self.0.background.adopt();
        Channel::new(self.clone(), name.as_ref())
    }

    /// Returns a user by identifier: all connections of that user.
    pub fn user(&self, user: impl AsRef<str>) -> User {
        self.0.background.adopt();
        User::new(self.clone(), user.as_ref())
    }

    /// Returns the live connections of this node.
    pub fn connections(&self) -> Connections {
        self.0.background.adopt();
        Connections::new(self.clone())
    }

    /// Returns a live connection of this node by its identifier.
    pub fn connection(&self, id: ConnectionId) -> Option<Connection> {
        self.0.background.adopt();
        self.0.registry.by_id(id).map(Connection::new)
    }

    /// Revokes access at once: closes the connections of a user or of a token with 3505 (stay away), sends
    /// them nothing more, and for a while refuses new connections with the same credentials. Returns how many
    /// connections there were on this node. Nothing happens before it is awaited.
    ///
    /// Where the broker connects several nodes, the others do the same as soon as the broker has told them.
    /// One that cannot be reached at that moment does not learn of it; a failure to publish it is logged.
    ///
    /// It does not wait for the clients: one that does not answer the close frame counts as connected, for
    /// [`User::is_connected`] and presence, until the close timeout of 5 s is over and the sweep, which runs
    /// every second or two, has seen that. It can do nothing meanwhile.
    ///
    /// At most 65,536 revocations are kept in memory; beyond that, the one that would end first is dropped.
    pub fn revoke(&self, revocation: Revocation) -> impl Future<Output = usize> + Send + use<> {
        let hub = self.clone();
        async move {
            let count = hub.revoke_on_this_node(&revocation);
            cluster::announce_revocation(&hub.0, &revocation).await;
            count
        }
    }

    fn revoke_on_this_node(&self, revocation: &Revocation) -> usize {
        let whose = revocation.whose.clone();
        let count =
            session::end_matching(&self.0, move |core| whose.is_of(core), || self.revoke_open(revocation));
        tracing::info!(target: "hauyna::auth", connections = count, "revoked");
        count
    }

    /// Refuses the credentials and closes the connections that have them. Returns how many were open.
    pub(crate) fn revoke_open(&self, revocation: &Revocation) -> usize {
        self.0.revocations.add(revocation, self.0.clock.millis());
        let connections = match &revocation.whose {
            Whose::User(name) => self.0.registry.of_user(name),
            whose @ Whose::Token(_) => {
                let mut all = self.0.registry.all();
                all.retain(|connection| whose.is_of(connection));
                all
            }
        };
        // A connection that is being closed already may have intended to reconnect.
        let open = connections.iter().filter(|connection| connection.is_open()).count();
        connections.iter().for_each(|connection| connection.credentials().revoke());
        open
    }

    /// Returns the presence of the whole hub, to query it. It has no user: to change somebody's presence,
    /// name them with [`Presence::of`].
    pub fn presence(&self) -> Presence {
        self.0.background.adopt();
        Presence::of_hub(self.clone())
    }

    /// Returns the events of the application and of the hub itself, to listen to them and to trigger one.
    pub fn events(&self) -> Events {
        self.0.background.adopt();
        Events::new(self.clone())
    }

    /// Returns the groups of users, with roles and permissions.
    pub fn groups(&self) -> Groups {
        self.0.background.adopt();
        Groups::new(self.clone())
    }

    /// Returns the current counts of this node.
    pub fn stats(&self) -> Stats {
        self.0.background.adopt();
        Stats::of(&self.0)
    }

    /// Returns snapshots of one connection, user or channel, as this node knows them.
    pub fn inspect(&self) -> Inspect {
        self.0.background.adopt();
        Inspect::new(self.clone())
    }
}

impl Whose {
    /// Whether a connection has these credentials.
    pub(crate) fn is_of(&self, core: &Arc<ConnectionCore>) -> bool {
        match self {
            Self::User(name) => core.user().as_str() == &**name,
            Self::Token(id) => core.credentials().has_token(id),
        }
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl HubCore {
    /// Adds an endpoint for counts by route, and removes those that are gone.
    pub(crate) fn add_route(&self, endpoint: &Arc<Endpoint>) {
        let mut routes = self.routes.lock();
        routes.retain(|route| route.strong_count() > 0);
        routes.push(Arc::downgrade(endpoint));
    }

    /// Checks that the credentials are not revoked.
    ///
    /// # Errors
    ///
    /// `unauthorized`: these credentials were revoked, before or since they were checked.
    pub(crate) fn check_revoked(&self, user: &str, credentials: &Credentials) -> Result<(), Reject> {
        let Credentials { token, revocations, .. } = credentials;
        if self.revocations.refuses(user, token.as_deref(), *revocations, self.clock.millis()) {
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
