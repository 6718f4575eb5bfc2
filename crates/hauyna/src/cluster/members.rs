//! The users of this node. It is subscribed at the broker to `@user:NAME` while it has a connection or a
//! handshake of the user, and to `@group:NAME` while it has one of a member. `fields` says in the directory
//! which users are here; the map of a user says where else they are.

use super::batch::{Progress, Taken, join};
use super::fields;
use super::node::{Cluster, log_failure};
use crate::channel;
use crate::hub::HubCore;
use crate::stripes::{Stripes, is_sparse};
use hauyna_broker::{Answer, BrokerError, ChannelName, Field, MapRange, Target, UserId};
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The users of this node, and what the broker has to relay for them.
pub(crate) struct Members {
    users: Stripes<HashMap<UserId, LocalUser>>,
    /// Channels of users and groups that the broker has yet to relay, where nothing waits for it.
    unrelayed: Mutex<HashSet<ChannelName>>,
}

/// A user with connections or handshakes on this node.
struct LocalUser {
    shares: usize,
    /// Set once the broker relays the channel of the user.
    relayed: Arc<OnceCell<()>>,
}

/// A share of a connection, or of a handshake, in the subscription to the channel of its user. The last one
/// that is dropped ends the subscription.
pub(crate) struct UserShare {
    hub: Option<Arc<HubCore>>,
    user: UserId,
}

impl HubCore {
    /// Takes a share in the channel of a user; `None` without a cluster.
    pub(crate) fn share_user(self: &Arc<Self>, user: &UserId) -> Option<UserShare> {
        let cluster = self.cluster.as_ref()?;
        let mut users = cluster.members.users.lock(user);
        let new = || LocalUser { shares: 0, relayed: Arc::default() };
        users.entry(user.clone()).or_insert_with(new).shares += 1;
        Some(UserShare { hub: Some(self.clone()), user: user.clone() })
    }

    /// Ends the share of a connection that is gone.
    pub(crate) fn release_user(&self, user: &UserId) {
        let Some(cluster) = &self.cluster else { return };
        let mut users = cluster.members.users.lock(user);
        if let Entry::Occupied(mut entry) = users.entry(user.clone()) {
            entry.get_mut().shares -= 1;
            if entry.get().shares == 0 {
                entry.remove();
                if is_sparse(users.capacity(), users.len(), 16) {
                    users.shrink_to_fit();
                }
                let name = ChannelName::of_user(user);
                // Under the lock, so that it comes before the subscription of a later connection.
                drop(self.with_broker(|broker| {
                    broker.unsubscribe(&name);
                    Answer::now(Ok(()))
                }));
            }
        }
        drop(users);
        self.note_user(user);
    }

    /// Notes that the first connection of a user has come, or the last one has gone, or the user is not
    /// counted as online any more. May be called under any lock of the hub.
    pub(crate) fn note_user(&self, user: &UserId) {
        let Some(cluster) = &self.cluster else { return };
        let is_new = cluster.fields.mark(user);
        if is_new {
            self.wake_cluster();
        }
    }

    /// Makes the broker relay the channel of a user or a group soon. May be called under any lock of the hub.
    pub(crate) fn relay_soon(&self, name: &ChannelName) {
        let Some(cluster) = &self.cluster else { return };
        if cluster.members.unrelayed.lock().insert(name.clone()) {
            self.wake_cluster();
        }
    }

    /// Waits until the broker relays the channel of a user who has a share.
    async fn relay_user(&self, cluster: &Cluster, user: &UserId) -> Result<(), BrokerError> {
        let users = &cluster.members.users;
        let relayed = users.lock(user).get(user).map(|local| local.relayed.clone());
        let Some(relayed) = relayed else { return Ok(()) };
        let name = ChannelName::of_user(user);
        let subscribed = relayed.get_or_try_init(|| {
            let local = users.lock(user);
            // Where the last share has ended meanwhile, there is nothing to subscribe to.
            let is_current = local.get(user).is_some_and(|local| Arc::ptr_eq(&local.relayed, &relayed));
            let answer = match is_current {
                true => self.with_broker(|broker| broker.subscribe(&name)),
                false => Answer::now(Ok(())),
            };
            drop(local);
            answer.into_future()
        });
        self.within_broker_timeout(subscribed).await.map(|_| ())
    }
}

impl UserShare {
    /// Waits until the broker relays the channel of the user.
    ///
    /// # Errors
    ///
    /// The error of the broker, or a timeout.
    pub(crate) async fn until_relayed(&self) -> Result<(), BrokerError> {
        match self.hub.as_ref().and_then(|hub| Some((hub, hub.cluster.as_ref()?))) {
            Some((hub, cluster)) => hub.relay_user(cluster, &self.user).await,
            None => Ok(()),
        }
    }

    /// Makes the broker relay the channel soon, where nothing can wait for it.
    pub(crate) fn relay_soon(&self) {
        if let Some(hub) = &self.hub {
            hub.relay_soon(&ChannelName::of_user(&self.user));
        }
    }

    /// Hands the share over to the connection: from now on [`HubCore::release_user`] ends it.
    pub(crate) fn keep(mut self) {
        self.hub = None;
    }
}

impl Drop for UserShare {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.take() {
            hub.release_user(&self.user);
        }
    }
}

/// Whether a user has a connection on another node, as the directory knows it.
///
/// # Errors
///
/// The directory cannot be read.
pub(crate) async fn is_connected_elsewhere(hub: &HubCore, user: &str) -> Result<bool, BrokerError> {
    let Some(cluster) = &hub.cluster else { return Ok(false) };
    let read =
        hub.with_directory(cluster, |directory| directory.read(&fields::map_of(user), MapRange::all()));
    let own = hub.node().to_string();
    let is_elsewhere = |field: &Field, value: &[u8]| *field.id != *own && fields::is_connected(value);
    Ok(read.await?.fields.iter().any(|(field, value)| is_elsewhere(field, value)))
}

/// Makes the broker relay the channels that it has yet to relay, a bounded number of them.
pub(super) async fn subscribe(hub: &Arc<HubCore>, cluster: &Cluster) -> Progress {
    let mut names = Taken::from(&cluster.members.unrelayed, |unrelayed| unrelayed);
    let mut subscribing: Vec<_> = names.items.iter().map(|name| relay(hub, cluster, name)).collect();
    let results = join(subscribing.iter_mut().map(Pin::as_mut).collect()).await;
    drop(subscribing);
    names.settle(|_, index| match &results[index] {
        Ok(()) => true,
        Err(error) => {
            log_failure("subscribe", error);
            false
        }
    })
}

type Relaying<'a> = Pin<Box<dyn Future<Output = Result<(), BrokerError>> + Send + 'a>>;

fn relay<'a>(hub: &'a HubCore, cluster: &'a Cluster, name: &'a ChannelName) -> Relaying<'a> {
    Box::pin(async move {
        match name.target() {
            Target::User(user) => match UserId::new(user) {
                Ok(user) => hub.relay_user(cluster, &user).await,
                Err(_) => Ok(()),
            },
            _ => channel::relay_group(hub, name).await,
        }
    })
}

impl Default for Members {
    fn default() -> Self {
        Self { users: Stripes::new(), unrelayed: Mutex::default() }
    }
}
