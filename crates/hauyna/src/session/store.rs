//! The sessions of lost connections, by connection, by age and by the time of their end: pure data with
//! bounds in number and bytes. `Sessions` owns the lock.

use super::takeover::{Takeover, TakeoverEnd};
use super::weight;
use crate::close::CloseReason;
use crate::connection::ConnectionCore;
use crate::stripes::is_sparse;
use hauyna_broker::{ChannelName, ConnectionId};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use tokio::time::Instant;

/// A session whose connection was lost.
#[derive(Debug)]
pub(super) struct LostSession {
    /// The connection that was lost.
    pub(super) core: Arc<ConnectionCore>,
    pub(super) content: SessionContent,
    /// The time when it is no longer kept.
    pub(super) ends_at: Instant,
    /// Its number in the order of the losses.
    loss_number: u64,
    /// Bytes of the session without its subscriptions.
    own_bytes: usize,
}

/// What a lost connection had.
#[derive(Debug)]
pub(crate) struct SessionContent {
    pub(crate) subscriptions: Vec<KeptSubscription>,
    /// The index of its state before it was lost.
    pub(crate) state: u8,
    /// The reason of the loss.
    pub(crate) reason: CloseReason,
}

/// A subscription of a lost connection.
#[derive(Debug)]
pub(crate) struct KeptSubscription {
    pub(crate) channel: ChannelName,
    pub(crate) metadata: Option<Arc<str>>,
}

#[derive(Default)]
pub(super) struct SessionStore {
    by_id: HashMap<ConnectionId, Slot>,
    by_age: BTreeSet<(u64, ConnectionId)>,
    by_end: BTreeSet<(Instant, ConnectionId)>,
    /// Takeovers by the connection whose token was presented.
    successors: HashMap<ConnectionId, Arc<Takeover>>,
    /// Filters for the sessions that are being ended at present, by number.
    active_bars: Vec<(u64, SessionFilter)>,
    /// Whether no session is kept any more.
    is_closed: bool,
    /// Number of slots that are `Leaving`.
    leaving: usize,
    bytes: usize,
    last: u64,
}

/// A filter that selects sessions by their connections.
pub(super) type SessionFilter = Box<dyn Fn(&Arc<ConnectionCore>) -> bool + Send>;

#[derive(Debug)]
enum Slot {
    /// The connection is being removed from everything.
    Leaving(Box<LeavingSession>),
    Waiting(Box<LostSession>),
    Claimed {
        lost: Arc<ConnectionCore>,
        takeover: Arc<Takeover>,
    },
}

/// A session that is about to be kept.
#[derive(Debug)]
struct LeavingSession {
    core: Arc<ConnectionCore>,
    /// Whether it was ended meanwhile.
    is_over: bool,
    /// The channels that it is subscribed to.
    channels: Vec<ChannelName>,
    /// The channels whose subscriptions the application has ended.
    ended: Vec<ChannelName>,
}

/// The result of ending one subscription of a session.
#[derive(Debug)]
pub(super) enum Unsubscribed {
    Nothing,
    /// The subscription ends as soon as the session has reached the store or its new connection.
    Later,
    /// The subscription of this lost connection ended; the connection has yet to leave the channel.
    OfSession(Arc<ConnectionCore>, KeptSubscription),
}

/// What a claim finds in the store.
pub(super) enum Lookup {
    Nothing,
    /// The session is about to be kept.
    Leaving,
    /// Another connection is about to take over the session.
    Claimed(Arc<Takeover>),
    /// The session was kept, and is claimed now.
    Waiting(Arc<Takeover>),
}

impl LostSession {
    pub(super) fn new(core: Arc<ConnectionCore>, kept: SessionContent, ends: Instant) -> Self {
        let own_bytes = weight::of_connection(core.hub(), &core);
        Self { core, content: kept, ends_at: ends, loss_number: 0, own_bytes }
    }

    fn bytes(&self) -> usize {
        self.own_bytes + weight::of_subscriptions(&self.content)
    }
}

impl SessionContent {
    pub(super) fn has(&self, channel: &ChannelName) -> bool {
        self.subscriptions.iter().any(|subscription| subscription.channel == *channel)
    }

    pub(super) fn unsubscribe(&mut self, channel: &str) -> Option<KeptSubscription> {
        let index =
            self.subscriptions.iter().position(|subscription| subscription.channel.as_str() == channel)?;
        Some(self.subscriptions.remove(index))
    }
}

impl SessionStore {
    /// Notes that a connection has left the registry, and that its session is about to be kept.
    pub(super) fn begin(&mut self, core: &Arc<ConnectionCore>, channels: Vec<ChannelName>) {
        let leaving = LeavingSession { core: core.clone(), is_over: false, channels, ended: Vec::new() };
        self.leaving += 1;
        self.by_id.insert(core.id(), Slot::Leaving(Box::new(leaving)));
    }

    /// Removes the slot of a session that is about to be kept. Returns whether it may be kept, and the
    /// channels whose subscriptions were ended meanwhile.
    pub(super) fn finish_leaving(&mut self, core: &Arc<ConnectionCore>) -> (bool, Vec<ChannelName>) {
        let Some(Slot::Leaving(leaving)) = self.by_id.remove(&core.id()) else { return (false, Vec::new()) };
        self.leaving -= 1;
        (!leaving.is_over && !self.is_barred(core), leaving.ended)
    }

    /// Whether a session is about to be kept.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving > 0
    }

    /// Bars all sessions that match: from now on none of them is kept or taken over. Returns the number of
    /// the bar.
    pub(super) fn bar(&mut self, matches: SessionFilter) -> u64 {
        self.last += 1;
        self.active_bars.push((self.last, matches));
        self.last
    }

    /// Lifts a bar that [`SessionStore::bar`] has set.
    pub(super) fn lift(&mut self, number: u64) {
        self.active_bars.retain(|(other, _)| *other != number);
    }

    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    pub(super) fn is_barred(&self, core: &Arc<ConnectionCore>) -> bool {
        self.is_closed || self.active_bars.iter().any(|(_, matches)| matches(core))
    }

    /// Removes and returns every barred session, in whatever state it is.
    pub(super) fn take_barred(&mut self) -> Vec<LostSession> {
        let barred_id = |(id, slot): (&ConnectionId, &Slot)| self.is_barred(slot.core()).then_some(*id);
        let ids: Vec<_> = self.by_id.iter().filter_map(barred_id).collect();
        ids.into_iter().filter_map(|id| self.withdraw(id)).collect()
    }

    /// Removes and returns one session, in whatever state it is; one that is about to be kept ends when it
    /// would be.
    pub(super) fn withdraw(&mut self, id: ConnectionId) -> Option<LostSession> {
        match self.by_id.get_mut(&id)? {
            Slot::Leaving(leaving) => {
                leaving.is_over = true;
                None
            }
            Slot::Waiting(_) => self.take(id).map(|session| *session),
            Slot::Claimed { takeover, .. } => {
                let session = takeover.end(TakeoverEnd::Withdrawn)?;
                self.by_id.remove(&id);
                Some(*session)
            }
        }
    }

    /// Ends a subscription of the session of a lost connection.
    pub(super) fn unsubscribe(&mut self, id: ConnectionId, channel: &str) -> Unsubscribed {
        match self.by_id.get_mut(&id) {
            None => Unsubscribed::Nothing,
            Some(Slot::Leaving(leaving)) => {
                let index = leaving.channels.iter().position(|one| one.as_str() == channel);
                let Some(index) = index else { return Unsubscribed::Nothing };
                leaving.ended.push(leaving.channels.swap_remove(index));
                Unsubscribed::Later
            }
            Some(Slot::Claimed { takeover, .. }) => takeover.unsubscribe(channel),
            Some(Slot::Waiting(session)) => {
                let before = session.bytes();
                let Some(kept) = session.content.unsubscribe(channel) else { return Unsubscribed::Nothing };
                self.bytes -= before - session.bytes();
                Unsubscribed::OfSession(session.core.clone(), kept)
            }
        }
    }

    /// Returns the connections whose sessions are here.
    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.by_id.keys().copied().collect()
    }

    /// Keeps a session.
    pub(super) fn put(&mut self, mut session: Box<LostSession>) {
        self.last += 1;
        session.loss_number = self.last;
        let id = session.core.id();
        self.bytes += session.bytes();
        self.by_age.insert((session.loss_number, id));
        self.by_end.insert((session.ends_at, id));
        self.by_id.insert(id, Slot::Waiting(session));
    }

    /// Removes and returns the session that was lost first.
    pub(super) fn take_oldest(&mut self) -> Option<Box<LostSession>> {
        let &(_, oldest) = self.by_age.first()?;
        self.take(oldest)
    }

    /// Removes the slot of a claimed session, which is not kept any more.
    pub(super) fn release(&mut self, id: ConnectionId) {
        self.by_id.remove(&id);
    }

    /// Notes that the session of a connection has passed to the next one, which presented a token. The slot
    /// stays until the takeover is complete.
    pub(super) fn succeed(&mut self, lost: &Arc<ConnectionCore>, takeover: &Arc<Takeover>) {
        self.forget_succession(lost);
        self.successors.insert(takeover.presented(), takeover.clone());
    }

    /// Forgets the succession to a connection whose session has ended or passed to the next one.
    pub(super) fn forget_succession(&mut self, core: &Arc<ConnectionCore>) {
        let Some(takeover) = core.takeover() else { return };
        let is_same = |successor: &Arc<Takeover>| Arc::ptr_eq(successor, takeover);
        if self.successors.get(&takeover.presented()).is_some_and(is_same) {
            self.successors.remove(&takeover.presented());
        }
        if is_sparse(self.successors.capacity(), self.successors.len(), 128) {
            self.successors.shrink_to_fit();
        }
    }

    /// Returns the takeover that followed when the token of this connection was presented.
    pub(super) fn successor(&self, presented: ConnectionId) -> Option<&Arc<Takeover>> {
        self.successors.get(&presented)
    }

    /// Returns the lost connection of a session.
    pub(super) fn core(&self, id: ConnectionId) -> Option<&Arc<ConnectionCore>> {
        self.by_id.get(&id).map(Slot::core)
    }

    /// Whether a connection is about to take over this session.
    pub(super) fn is_claimed(&self, id: ConnectionId) -> bool {
        matches!(self.by_id.get(&id), Some(Slot::Claimed { .. }))
    }

    /// Claims a kept session for a client that presented its token. The slot stays: the session is returned
    /// to it, or the takeover completes.
    pub(super) fn claim(
        &mut self,
        id: ConnectionId,
        presented: ConnectionId,
        may_claim: impl Fn(&Arc<ConnectionCore>) -> bool,
    ) -> Lookup {
        match self.by_id.get(&id) {
            Some(Slot::Leaving(leaving)) if may_claim(&leaving.core) => Lookup::Leaving,
            Some(Slot::Claimed { lost, takeover }) if may_claim(lost) => Lookup::Claimed(takeover.clone()),
            Some(Slot::Waiting(session)) if may_claim(&session.core) => {
                let Some(session) = self.take(id) else { return Lookup::Nothing };
                let lost = session.core.clone();
                let takeover = Arc::new(Takeover::new(presented, session));
                self.by_id.insert(id, Slot::Claimed { lost, takeover: takeover.clone() });
                Lookup::Waiting(takeover)
            }
            _ => Lookup::Nothing,
        }
    }

    fn take(&mut self, id: ConnectionId) -> Option<Box<LostSession>> {
        match self.by_id.remove(&id)? {
            Slot::Leaving(_) | Slot::Claimed { .. } => None,
            Slot::Waiting(session) => {
                self.bytes -= session.bytes();
                self.by_age.remove(&(session.loss_number, id));
                self.by_end.remove(&(session.ends_at, id));
                if is_sparse(self.by_id.capacity(), self.by_id.len(), 128) {
                    self.by_id.shrink_to_fit();
                }
                Some(session)
            }
        }
    }

    /// Returns up to `turn` of the sessions whose time has passed. If the list is empty,
    /// [`first_end`](Self::first_end) says when the next one is due.
    pub(super) fn take_due(&mut self, now: Instant, turn: usize) -> Vec<LostSession> {
        let due: Vec<_> =
            self.by_end.iter().take(turn).take_while(|(ends, _)| *ends <= now).map(|(_, id)| *id).collect();
        due.into_iter().filter_map(|id| self.take(id)).map(|session| *session).collect()
    }

    /// Returns the time of the first end.
    pub(super) fn first_end(&self) -> Option<Instant> {
        self.by_end.first().map(|(ends, _)| *ends)
    }

    pub(super) fn count(&self) -> usize {
        self.by_age.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Slot {
    fn core(&self) -> &Arc<ConnectionCore> {
        match self {
            Self::Leaving(leaving) => &leaving.core,
            Self::Waiting(session) => &session.core,
            Self::Claimed { lost, .. } => lost,
        }
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore").field("count", &self.count()).field("bytes", &self.bytes).finish()
    }
}
