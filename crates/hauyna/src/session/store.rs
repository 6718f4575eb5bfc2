//! The sessions of lost connections, by connection, by age and by their ends: pure data with bounds in number and
//! bytes. `Sessions` owns the lock.

use super::takeover::Takeover;
use crate::channel::ChannelName;
use crate::connection::{CloseReason, ConnectionCore, ConnectionId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::time::Instant;

/// A session whose connection was lost.
#[derive(Debug)]
pub(crate) struct LostSession {
    /// The connection that was lost.
    pub(crate) core: Arc<ConnectionCore>,
    pub(crate) kept: Kept,
    /// When it is no longer kept.
    pub(super) ends: Instant,
    /// Its place in the order of the losses.
    number: u64,
}

/// What a lost connection had.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) subscriptions: Vec<KeptSubscription>,
    /// The index of its state before it was lost.
    pub(crate) state: u8,
    /// Why it was lost.
    pub(crate) reason: CloseReason,
}

/// A subscription of a lost connection.
#[derive(Debug)]
pub(crate) struct KeptSubscription {
    pub(crate) channel: ChannelName,
    pub(crate) metadata: Option<Arc<str>>,
}

/// How much is kept at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) sessions: usize,
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct SessionStore {
    by_id: HashMap<ConnectionId, Slot>,
    by_age: BTreeSet<(u64, ConnectionId)>,
    by_end: BTreeSet<(Instant, ConnectionId)>,
    /// From the connection whose token was shown to what came of that.
    successors: HashMap<ConnectionId, Arc<Takeover>>,
    bytes: usize,
    last: u64,
}

#[derive(Debug)]
enum Slot {
    /// The connection is being taken out of everything.
    Leaving(Arc<ConnectionCore>),
    Waiting(Box<LostSession>),
    Claimed {
        lost: Arc<ConnectionCore>,
        takeover: Arc<Takeover>,
    },
}

/// What a claim finds.
pub(super) enum Found {
    Nothing,
    /// It waits in a moment.
    Leaving,
    /// Another connection is about to take it over.
    Claimed(Arc<Takeover>),
    /// It waited, and is claimed now.
    Waiting(Arc<Takeover>),
}

impl LostSession {
    pub(super) fn new(core: Arc<ConnectionCore>, kept: Kept, ends: Instant) -> Self {
        Self { core, kept, ends, number: 0 }
    }

    fn bytes(&self) -> usize {
        let one = |subscription: &KeptSubscription| {
            let metadata = subscription.metadata.as_ref().map_or(0, |metadata| metadata.len());
            subscription.channel.as_str().len() + metadata + 96
        };
        SESSION + self.kept.subscriptions.iter().map(one).sum::<usize>()
    }
}

impl SessionStore {
    /// A connection has left the registry, and its session will come.
    pub(super) fn begin(&mut self, core: &Arc<ConnectionCore>) {
        self.by_id.insert(core.id(), Slot::Leaving(core.clone()));
    }

    /// Keeps a session. Returns those that had to go for it, the oldest first.
    pub(super) fn put(&mut self, mut session: Box<LostSession>, bounds: Bounds) -> Vec<LostSession> {
        self.last += 1;
        session.number = self.last;
        let id = session.core.id();
        self.bytes += session.bytes();
        self.by_age.insert((session.number, id));
        self.by_end.insert((session.ends, id));
        self.by_id.insert(id, Slot::Waiting(session));
        let mut gone = Vec::new();
        while self.by_age.len() > bounds.sessions || self.bytes > bounds.bytes {
            let Some(&(_, oldest)) = self.by_age.first() else { break };
            gone.extend(self.take(oldest).map(|session| *session));
        }
        gone
    }

    /// A session that was claimed is not kept any more.
    pub(super) fn release(&mut self, id: ConnectionId) {
        self.by_id.remove(&id);
    }

    /// The session of a connection has gone on to the next one, for whom a token was shown.
    pub(super) fn succeed(&mut self, lost: &ConnectionCore, takeover: &Arc<Takeover>) {
        self.release(lost.id());
        self.forget_succession(lost);
        self.successors.insert(takeover.shown(), takeover.clone());
    }

    /// The session of a connection has ended, or gone on to the next one.
    pub(super) fn forget_succession(&mut self, core: &ConnectionCore) {
        let Some(takeover) = core.takeover() else { return };
        let is_its = |successor: &Arc<Takeover>| Arc::ptr_eq(successor, takeover);
        if self.successors.get(&takeover.shown()).is_some_and(is_its) {
            self.successors.remove(&takeover.shown());
        }
        if self.successors.capacity() > 8 * (self.successors.len() + 128) {
            self.successors.shrink_to_fit();
        }
    }

    /// What came of showing the token of a connection.
    pub(super) fn successor(&self, shown: ConnectionId) -> Option<&Arc<Takeover>> {
        self.successors.get(&shown)
    }

    /// The lost connection of a session.
    pub(super) fn core(&self, id: ConnectionId) -> Option<&Arc<ConnectionCore>> {
        match self.by_id.get(&id)? {
            Slot::Leaving(core) => Some(core),
            Slot::Waiting(session) => Some(&session.core),
            Slot::Claimed { lost, .. } => Some(lost),
        }
    }

    /// Whether a connection is about to take over a session.
    pub(super) fn is_claimed(&self, id: ConnectionId) -> bool {
        matches!(self.by_id.get(&id), Some(Slot::Claimed { .. }))
    }

    /// Claims a session that waits, for whoever has shown a token of it. Its slot is kept for it: it is put back, or
    /// goes on.
    pub(super) fn claim(
        &mut self,
        id: ConnectionId,
        shown: ConnectionId,
        may_claim: impl Fn(&ConnectionCore) -> bool,
    ) -> Found {
        match self.by_id.get(&id) {
            Some(Slot::Leaving(core)) if may_claim(core) => Found::Leaving,
            Some(Slot::Claimed { lost, takeover }) if may_claim(lost) => Found::Claimed(takeover.clone()),
            Some(Slot::Waiting(session)) if may_claim(&session.core) => {
                let Some(session) = self.take(id) else { return Found::Nothing };
                let lost = session.core.clone();
                let takeover = Arc::new(Takeover::new(shown, session));
                self.by_id.insert(id, Slot::Claimed { lost, takeover: takeover.clone() });
                Found::Waiting(takeover)
            }
            _ => Found::Nothing,
        }
    }

    fn take(&mut self, id: ConnectionId) -> Option<Box<LostSession>> {
        match self.by_id.remove(&id)? {
            Slot::Leaving(_) | Slot::Claimed { .. } => None,
            Slot::Waiting(session) => {
                self.bytes -= session.bytes();
                self.by_age.remove(&(session.number, id));
                self.by_end.remove(&(session.ends, id));
                if self.by_id.capacity() > 8 * (self.by_id.len() + 128) {
                    self.by_id.shrink_to_fit();
                }
                Some(session)
            }
        }
    }

    /// Up to `turn` of those whose time is up, else when the next one's will be.
    pub(super) fn due(&mut self, now: Instant, turn: usize) -> Result<Vec<LostSession>, Option<Instant>> {
        let due: Vec<_> =
            self.by_end.iter().take(turn).take_while(|(ends, _)| *ends <= now).map(|(_, id)| *id).collect();
        if due.is_empty() {
            return Err(self.by_end.first().map(|(ends, _)| *ends));
        }
        Ok(due.into_iter().filter_map(|id| self.take(id)).map(|session| *session).collect())
    }

    /// When the first one ends.
    pub(super) fn first_end(&self) -> Option<Instant> {
        self.by_end.first().map(|(ends, _)| *ends)
    }

    /// Takes out all that are meant.
    pub(super) fn take_if(&mut self, is_meant: impl Fn(&ConnectionCore) -> bool) -> Vec<LostSession> {
        let meant = |(id, slot): (&ConnectionId, &Slot)| match slot {
            Slot::Waiting(session) if is_meant(&session.core) => Some(*id),
            _ => None,
        };
        let ids: Vec<_> = self.by_id.iter().filter_map(meant).collect();
        ids.into_iter().filter_map(|id| self.take(id)).map(|session| *session).collect()
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
