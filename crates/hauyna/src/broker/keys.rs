//! The idempotency keys of one stripe of the local broker, in the order in which they came. Pure data, owned
//! by `streams`; it takes the time as an argument.

use super::streams::Stamp;
use hauyna_protocol::Position;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Keys {
    known: HashMap<Arc<str>, Option<Position>>,
    order: VecDeque<(Stamp, Arc<str>)>,
    bytes: usize,
}

impl Keys {
    /// Returns the position of the publication with this key, if the key is known.
    pub(super) fn get(&self, key: &str) -> Option<Option<Position>> {
        self.known.get(key).copied()
    }

    /// Adds a key that is not known.
    pub(super) fn insert(&mut self, key: Arc<str>, position: Option<Position>, now: Stamp) {
        self.bytes += key.len();
        self.known.insert(key.clone(), position);
        self.order.push_back((now, key));
    }

    /// Removes the keys that are older than `age`, in microseconds.
    pub(super) fn expire(&mut self, now: Stamp, age: u64) {
        while self.oldest().is_some_and(|at| now.saturating_sub(at) > age) {
            self.drop_oldest();
        }
    }

    pub(super) fn drop_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.bytes -= key.len();
            self.known.remove(&key);
        }
    }

    /// Returns when the oldest key came.
    pub(super) fn oldest(&self) -> Option<Stamp> {
        self.order.front().map(|(at, _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Returns the bytes of all keys.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns an estimate of the memory it holds, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.len() * (2 * size_of::<(Arc<str>, Option<Position>)>() + 16) + self.bytes
    }
}
