//! The live connections: by shard and identifier, and by user. Every operation costs the same whatever
//! their number.

use crate::connection::{ConnectionCore, ConnectionId};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

type ById = HashMap<ConnectionId, Arc<ConnectionCore>>;
type ByUser = HashMap<crate::channel::UserId, Devices, RandomState>;

#[derive(Debug)]
pub(crate) struct Registry {
    by_shard: Box<[Mutex<ById>]>,
    /// `RandomState`: the names come from clients.
    hasher: RandomState,
    by_user: Box<[Mutex<ByUser>]>,
    count: AtomicUsize,
    next: AtomicU64,
}

/// The connections of one user; almost everybody has one.
#[derive(Debug)]
enum Devices {
    One(Arc<ConnectionCore>),
    Many(Box<ById>),
}

impl Registry {
    pub(crate) fn new(shards: usize) -> Self {
        let hasher = RandomState::new();
        Self {
            by_shard: (0..shards).map(|_| Mutex::default()).collect(),
            by_user: (0..USER_PARTS).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect(),
            hasher,
            count: AtomicUsize::new(0),
            next: AtomicU64::new(crate::random::u64()),
        }
    }

    fn user_part(&self, user: &str) -> &Mutex<ByUser> {
        // The high bits: the map inside the part uses the low ones.
        &self.by_user[(self.hasher.hash_one(user) >> 58) as usize % USER_PARTS]
    }

    /// An identifier that no other connection of this process has had.
    pub(crate) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn insert(&self, connection: &Arc<ConnectionCore>) {
        self.by_shard[connection.shard()].lock().insert(connection.id(), connection.clone());
        self.user_part(connection.user()).lock().entry(connection.user().clone()).and_modify(|devices| {
            devices.add(connection.clone());
        }).or_insert_with(|| Devices::One(connection.clone()));
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether it was there.
    pub(crate) fn remove(&self, connection: &ConnectionCore) -> bool {
        let mut part = self.by_shard[connection.shard()].lock();
        if part.remove(&connection.id()).is_none() {
            return false;
        }
        if part.capacity() > 8 * (part.len() + 128) {
            part.shrink_to_fit();
        }
        drop(part);
        let mut part = self.user_part(connection.user()).lock();
        let is_last = part.get_mut(connection.user()).is_some_and(|devices| devices.remove(connection.id()));
        if is_last {
            part.remove(connection.user());
            if part.capacity() > 8 * (part.len() + 16) {
                part.shrink_to_fit();
            }
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        true
    }

    pub(crate) fn by_id(&self, id: ConnectionId) -> Option<Arc<ConnectionCore>> {
        self.by_shard.iter().find_map(|part| part.lock().get(&id).cloned())
    }

    pub(crate) fn of_user(&self, user: &str) -> Vec<Arc<ConnectionCore>> {
        match self.user_part(user).lock().get(user) {
            None => Vec::new(),
            Some(Devices::One(connection)) => vec![connection.clone()],
            Some(Devices::Many(connections)) => connections.values().cloned().collect(),
        }
    }

    pub(crate) fn devices(&self, user: &str) -> usize {
        match self.user_part(user).lock().get(user) {
            None => 0,
            Some(Devices::One(_)) => 1,
            Some(Devices::Many(connections)) => connections.len(),
        }
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

impl Devices {
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

const USER_PARTS: usize = 64;
