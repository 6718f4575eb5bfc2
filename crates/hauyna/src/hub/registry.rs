//! The live connections: by shard and identifier, and by user. Every operation costs the same whatever
//! their number.

use crate::channel::Wire;
use crate::connection::{ConnectionCore, ConnectionId};
use hashbrown::hash_table::Entry;
use hashbrown::{HashMap, HashTable};
use parking_lot::Mutex;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

type ById = HashMap<ConnectionId, Arc<ConnectionCore>>;
/// Keyed by the user of its connections, which spares a copy of the name.
type ByUser = HashTable<UserConnections>;

#[derive(Debug)]
pub(crate) struct Registry {
    by_shard: Box<[Mutex<ById>]>,
    /// `RandomState`: the names come from clients.
    hasher: RandomState,
    by_user: Box<[Mutex<ByUser>]>,
    /// How many connections use each wire variant.
    by_wire: [AtomicUsize; Wire::COUNT],
    count: AtomicUsize,
    next: AtomicU64,
}

/// The connections of one user; almost everybody has one.
#[derive(Debug)]
enum UserConnections {
    One(Arc<ConnectionCore>),
    Many(Box<ById>),
}

impl Registry {
    pub(crate) fn new(shards: usize) -> Self {
        let hasher = RandomState::new();
        Self {
            by_shard: (0..shards).map(|_| Mutex::default()).collect(),
            by_user: (0..USER_STRIPES).map(|_| Mutex::default()).collect(),
            hasher,
            by_wire: Default::default(),
            count: AtomicUsize::new(0),
            next: AtomicU64::new(crate::random::u64()),
        }
    }

    /// The part that has a user, and the user's hash in it.
    fn user_stripe(&self, user: &str) -> (&Mutex<ByUser>, u64) {
        let hash = self.hasher.hash_one(user);
        // Bits that the table inside the part does not use.
        (&self.by_user[(hash >> 48) as usize % USER_STRIPES], hash)
    }

    fn hash_of_user(&self) -> impl Fn(&UserConnections) -> u64 {
        |devices| self.hasher.hash_one(devices.user())
    }

    /// An identifier that no other connection of this process has had.
    pub(crate) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns how many connections there are now, and how many of this user. `arriving` runs before anybody can find it.
    pub(crate) fn insert(&self, connection: &Arc<ConnectionCore>, arriving: impl FnOnce()) -> (usize, usize) {
        let mut by_id = self.by_shard[connection.shard()].lock();
        let (part, hash) = self.user_stripe(connection.user());
        let mut part = part.lock();
        arriving();
        by_id.insert(connection.id(), connection.clone());
        let is_same = |devices: &UserConnections| devices.user() == &**connection.user();
        let devices = match part.entry(hash, is_same, self.hash_of_user()) {
            Entry::Vacant(entry) => entry.insert(UserConnections::One(connection.clone())).get().count(),
            Entry::Occupied(mut entry) => {
                entry.get_mut().add(connection.clone());
                entry.get().count()
            }
        };
        self.by_wire[connection.wire().index()].fetch_add(1, Ordering::Relaxed);
        (self.count.fetch_add(1, Ordering::Relaxed) + 1, devices)
    }

    /// Returns whether it was there; then `leaving` runs before anybody can find it missing.
    pub(crate) fn remove(&self, connection: &ConnectionCore, leaving: impl FnOnce()) -> bool {
        let mut part = self.by_shard[connection.shard()].lock();
        if part.remove(&connection.id()).is_none() {
            return false;
        }
        leaving();
        if part.capacity() > 8 * (part.len() + 128) {
            part.shrink_to_fit();
        }
        drop(part);
        let (part, hash) = self.user_stripe(connection.user());
        let mut part = part.lock();
        if let Ok(mut entry) = part.find_entry(hash, |devices| devices.user() == &**connection.user())
            && entry.get_mut().remove(connection.id())
        {
            entry.remove();
            if part.capacity() > 8 * (part.len() + 16) {
                part.shrink_to_fit(self.hash_of_user());
            }
        }
        self.by_wire[connection.wire().index()].fetch_sub(1, Ordering::Relaxed);
        self.count.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// How many wire variants the connections use: a publication is encoded once for each.
    pub(crate) fn wire_variants(&self) -> u8 {
        self.by_wire.iter().map(|count| u8::from(count.load(Ordering::Relaxed) > 0)).sum()
    }

    pub(crate) fn by_id(&self, id: ConnectionId) -> Option<Arc<ConnectionCore>> {
        self.by_shard.iter().find_map(|part| part.lock().get(&id).cloned())
    }

    pub(crate) fn of_user(&self, user: &str) -> Vec<Arc<ConnectionCore>> {
        let (part, hash) = self.user_stripe(user);
        match part.lock().find(hash, |devices| devices.user() == user) {
            None => Vec::new(),
            Some(UserConnections::One(connection)) => vec![connection.clone()],
            Some(UserConnections::Many(connections)) => connections.values().cloned().collect(),
        }
    }

    pub(crate) fn connection_count(&self, user: &str) -> usize {
        let (part, hash) = self.user_stripe(user);
        part.lock().find(hash, |devices| devices.user() == user).map_or(0, UserConnections::count)
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

    /// Returns whether it was the last.
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

const USER_STRIPES: usize = 64;
