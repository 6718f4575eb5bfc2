//! The live connections: by shard and identifier, and by user. The cost of an operation does not depend on
//! their number. Opening and closing a connection call this; users, groups and the sweep read it.

use super::HubCore;
use crate::connection::{Connection, ConnectionCore};
use crate::event::emit;
use crate::stripes::{Stripes, is_sparse};
use hashbrown::hash_table::Entry;
use hashbrown::{HashMap, HashTable};
use hauyna_broker::{ConnectionId, NodeId, Wire};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

type ById = HashMap<ConnectionId, Arc<ConnectionCore>>;
/// A hash table keyed by the user of its connections, which saves a copy of the name.
type ByUser = HashTable<UserConnections>;

#[derive(Debug)]
pub(crate) struct Registry {
    by_shard: Box<[Mutex<ById>]>,
    by_user: Stripes<ByUser>,
    /// Number of connections for each wire variant.
    by_wire: [AtomicUsize; Wire::COUNT],
    count: AtomicUsize,
    next: AtomicU64,
}

/// The connections of one user; almost every user has one.
#[derive(Debug)]
enum UserConnections {
    One(Arc<ConnectionCore>),
    Many(Box<ById>),
}

impl HubCore {
    /// Registers a new connection. It is subscribed to the channels of its user's groups before the registry
    /// has it, and later changes of these groups find it there. Returns the result of [`Registry::insert`].
    pub(crate) fn register(&self, connection: &Arc<ConnectionCore>) -> (usize, usize) {
        let memberships = self.groups.memberships_of(connection.user());
        memberships.subscribe(self, connection);
        let counts = self.registry.insert(connection, || {
            emit!(self.events, Opened { connection: Connection::new(connection.clone()) });
        });
        memberships.subscribe_to_first_groups(self, connection);
        if counts.1 == 1 {
            self.note_user(connection.user());
        }
        counts
    }
}

impl Registry {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            by_shard: (0..shards).map(|_| Mutex::default()).collect(),
            by_user: Stripes::new(),
            by_wire: Default::default(),
            count: AtomicUsize::new(0),
            // The upper half of the numbers is left, so that they do not start again.
            next: AtomicU64::new(crate::random::u64() >> 25),
        }
    }

    /// Returns the stripe that holds a user, and the hash of the user.
    fn user_stripe(&self, user: &str) -> (&Mutex<ByUser>, u64) {
        self.by_user.find(user)
    }

    fn hash_of_user(&self) -> impl Fn(&UserConnections) -> u64 {
        |devices| self.by_user.hash(devices.user())
    }

    /// Returns an identifier that no other connection of this node has had.
    pub(super) fn next_id(&self, node: NodeId) -> ConnectionId {
        ConnectionId::of_node(node, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Adds a connection. Returns how many connections there are now, and how many of this user. `arriving`
    /// runs before other threads can find it.
    pub(crate) fn insert(&self, connection: &Arc<ConnectionCore>, arriving: impl FnOnce()) -> (usize, usize) {
        let mut by_id = self.by_shard[connection.shard()].lock();
        let (stripe, hash) = self.user_stripe(connection.user());
        let mut stripe = stripe.lock();
        arriving();
        by_id.insert(connection.id(), connection.clone());
        let is_same = |devices: &UserConnections| devices.user() == &**connection.user();
        let devices = match stripe.entry(hash, is_same, self.hash_of_user()) {
            Entry::Vacant(entry) => entry.insert(UserConnections::One(connection.clone())).get().count(),
            Entry::Occupied(mut entry) => {
                entry.get_mut().add(connection.clone());
                entry.get().count()
            }
        };
        self.by_wire[connection.wire().index()].fetch_add(1, Ordering::Relaxed);
        (self.count.fetch_add(1, Ordering::Relaxed) + 1, devices)
    }

    /// Removes a connection. Returns whether it was there; then `leaving` runs before other threads can see
    /// it missing.
    pub(crate) fn remove(&self, connection: &Arc<ConnectionCore>, leaving: impl FnOnce()) -> bool {
        let mut connections = self.by_shard[connection.shard()].lock();
        if connections.remove(&connection.id()).is_none() {
            return false;
        }
        leaving();
        if is_sparse(connections.capacity(), connections.len(), 128) {
            connections.shrink_to_fit();
        }
        drop(connections);
        let (stripe, hash) = self.user_stripe(connection.user());
        let mut stripe = stripe.lock();
        if let Ok(mut entry) = stripe.find_entry(hash, |devices| devices.user() == &**connection.user())
            && entry.get_mut().remove(connection.id())
        {
            entry.remove();
            if is_sparse(stripe.capacity(), stripe.len(), 16) {
                stripe.shrink_to_fit(self.hash_of_user());
            }
        }
        self.by_wire[connection.wire().index()].fetch_sub(1, Ordering::Relaxed);
        self.count.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// Returns how many wire variants the connections use: a publication is encoded once for each.
    pub(crate) fn wire_variants(&self) -> u8 {
        self.by_wire.iter().map(|count| u8::from(count.load(Ordering::Relaxed) > 0)).sum()
    }

    pub(crate) fn by_id(&self, id: ConnectionId) -> Option<Arc<ConnectionCore>> {
        self.by_shard.iter().find_map(|shard| shard.lock().get(&id).cloned())
    }

    pub(crate) fn of_user(&self, user: &str) -> Vec<Arc<ConnectionCore>> {
        let (stripe, hash) = self.user_stripe(user);
        match stripe.lock().find(hash, |devices| devices.user() == user) {
            None => Vec::new(),
            Some(UserConnections::One(connection)) => vec![connection.clone()],
            Some(UserConnections::Many(connections)) => connections.values().cloned().collect(),
        }
    }

    pub(crate) fn connection_count(&self, user: &str) -> usize {
        let (stripe, hash) = self.user_stripe(user);
        stripe.lock().find(hash, |devices| devices.user() == user).map_or(0, UserConnections::count)
    }

    pub(crate) fn of_shard(&self, shard: usize) -> Vec<Arc<ConnectionCore>> {
        self.by_shard[shard].lock().values().cloned().collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<ConnectionCore>> {
        (0..self.by_shard.len()).flat_map(|shard| self.of_shard(shard)).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl UserConnections {
    fn user(&self) -> &str {
        match self {
            Self::One(connection) => connection.user(),
            Self::Many(connections) => connections.values().next().map_or("", |connection| connection.user()),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(connections) => connections.len(),
        }
    }

    fn add(&mut self, connection: Arc<ConnectionCore>) {
        match self {
            Self::Many(connections) => {
                connections.insert(connection.id(), connection);
            }
            Self::One(first) => {
                let both = [first.clone(), connection].map(|connection| (connection.id(), connection));
                *self = Self::Many(Box::new(ById::from_iter(both)));
            }
        }
    }

    /// Removes a connection and returns whether it was the last.
    fn remove(&mut self, id: ConnectionId) -> bool {
        match self {
            Self::One(connection) => connection.id() == id,
            Self::Many(connections) => {
                connections.remove(&id);
                connections.is_empty()
            }
        }
    }
}
