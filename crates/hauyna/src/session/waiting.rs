//! The sessions of lost connections, by connection, by age and by their ends: pure data with bounds in number and
//! bytes. `Sessions` owns the lock.

use super::Kept;
use crate::channel::UserId;
use crate::connection::{ConnectionCore, ConnectionId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::time::Instant;

/// What waits for its client to come back.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) core: Arc<ConnectionCore>,
    pub(super) kept: Kept,
    pub(super) ends: Instant,
    /// The order of the losses.
    number: u64,
}

#[derive(Debug, Default)]
pub(super) struct Waitings {
    by_id: HashMap<ConnectionId, Slot>,
    by_age: BTreeSet<(u64, ConnectionId)>,
    by_end: BTreeSet<(Instant, ConnectionId)>,
    /// From a connection to the one that has taken over its session.
    moved: HashMap<ConnectionId, ConnectionId>,
    bytes: usize,
    last: u64,
}

#[derive(Debug)]
enum Slot {
    /// Its connection is being taken out of everything.
    Leaving(Arc<ConnectionCore>),
    Waiting(Box<Waiting>),
    /// A connection takes it over: this one, once its handshake is done.
    Claimed {
        old: Arc<ConnectionCore>,
        by: Option<ConnectionId>,
    },
}

/// What is known of a session.
pub(super) enum Found {
    Nothing,
    Leaving,
    /// By this connection, or one that is not there yet.
    Claimed(Option<ConnectionId>),
    Waiting(Box<Waiting>),
}

impl Waiting {
    pub(super) fn user(&self) -> &UserId {
        self.core.user()
    }

    fn bytes(&self) -> usize {
        SESSION + self.kept.bytes()
    }
}

impl Waitings {
    /// A connection has left the registry, and its session will come.
    pub(super) fn begin(&mut self, core: &Arc<ConnectionCore>) {
        self.by_id.insert(core.id(), Slot::Leaving(core.clone()));
    }

    /// Keeps a session. Returns those that had to go for it, the oldest first.
    pub(super) fn put(
        &mut self,
        (core, kept): (Arc<ConnectionCore>, Kept),
        ends: Instant,
        (most, most_bytes): (usize, usize),
    ) -> Vec<Waiting> {
        self.last += 1;
        let id = core.id();
        let waiting = Box::new(Waiting { core, kept, ends, number: self.last });
        self.bytes += waiting.bytes();
        self.by_age.insert((waiting.number, id));
        self.by_end.insert((ends, id));
        self.by_id.insert(id, Slot::Waiting(waiting));
        let mut gone = Vec::new();
        while self.by_age.len() > most || self.bytes > most_bytes {
            let Some(&(_, oldest)) = self.by_age.first() else { break };
            gone.extend(self.take(oldest).map(|waiting| *waiting));
        }
        gone
    }

    /// Which connection is to have a session that was claimed.
    pub(super) fn claimed_by(&mut self, id: ConnectionId, taker: ConnectionId) {
        if let Some(Slot::Claimed { by, .. }) = self.by_id.get_mut(&id) {
            *by = Some(taker);
        }
    }

    /// A connection has taken over the session of another one, which somebody showed this token for.
    pub(super) fn move_on(&mut self, shown: ConnectionId, old: ConnectionId, new: ConnectionId) {
        self.release(old);
        self.moved.insert(shown, new);
    }

    /// A session that was claimed does not come back.
    pub(super) fn release(&mut self, id: ConnectionId) {
        self.by_id.remove(&id);
    }

    /// Its session has ended, or went on to the next one.
    pub(super) fn forget_move(&mut self, old: ConnectionId) {
        self.moved.remove(&old);
        if self.moved.capacity() > 8 * (self.moved.len() + 128) {
            self.moved.shrink_to_fit();
        }
    }

    pub(super) fn moved(&self, old: ConnectionId) -> Option<ConnectionId> {
        self.moved.get(&old).copied()
    }

    /// The lost connection of a session.
    pub(super) fn core(&self, id: ConnectionId) -> Option<&Arc<ConnectionCore>> {
        match self.by_id.get(&id)? {
            Slot::Leaving(core) => Some(core),
            Slot::Waiting(waiting) => Some(&waiting.core),
            Slot::Claimed { old, .. } => Some(old),
        }
    }

    /// Whether a connection is about to take over a session.
    pub(super) fn is_claimed(&self, id: ConnectionId) -> bool {
        matches!(self.by_id.get(&id), Some(Slot::Claimed { .. }))
    }

    /// Takes one out, where it is a user's. Its slot is kept for it: it is put back, or moves on.
    pub(super) fn claim(&mut self, id: ConnectionId, user: &UserId) -> Found {
        match self.by_id.get(&id) {
            Some(Slot::Leaving(_)) => Found::Leaving,
            Some(Slot::Claimed { old, by }) if old.user() == user => Found::Claimed(*by),
            Some(Slot::Waiting(waiting)) if waiting.user() == user => {
                let Some(waiting) = self.take(id) else { return Found::Nothing };
                self.by_id.insert(id, Slot::Claimed { old: waiting.core.clone(), by: None });
                Found::Waiting(waiting)
            }
            _ => Found::Nothing,
        }
    }

    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Box<Waiting>> {
        match self.by_id.remove(&id)? {
            Slot::Leaving(_) | Slot::Claimed { .. } => None,
            Slot::Waiting(waiting) => {
                self.bytes -= waiting.bytes();
                self.by_age.remove(&(waiting.number, id));
                self.by_end.remove(&(waiting.ends, id));
                if self.by_id.capacity() > 8 * (self.by_id.len() + 128) {
                    self.by_id.shrink_to_fit();
                }
                Some(waiting)
            }
        }
    }

    /// Up to `turn` of those whose time is up, else when the next one's will be.
    pub(super) fn due(&mut self, now: Instant, turn: usize) -> Result<Vec<Waiting>, Option<Instant>> {
        let due: Vec<_> =
            self.by_end.iter().take(turn).take_while(|(ends, _)| *ends <= now).map(|(_, id)| *id).collect();
        if due.is_empty() {
            return Err(self.by_end.first().map(|(ends, _)| *ends));
        }
        Ok(due.into_iter().filter_map(|id| self.take(id)).map(|waiting| *waiting).collect())
    }

    /// When the first one ends.
    pub(super) fn first_end(&self) -> Option<Instant> {
        self.by_end.first().map(|(ends, _)| *ends)
    }

    /// Takes out all that are meant.
    pub(super) fn take_if(&mut self, is_meant: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let meant = |(id, slot): (&ConnectionId, &Slot)| match slot {
            Slot::Waiting(waiting) if is_meant(waiting) => Some(*id),
            _ => None,
        };
        let ids: Vec<_> = self.by_id.iter().filter_map(meant).collect();
        ids.into_iter().filter_map(|id| self.take(id)).map(|waiting| *waiting).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.by_age.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Bytes of a session without subscriptions: its connection, and its places here.
const SESSION: usize = 1024;
