//! Who is present in one channel: pure data, no I/O. Numbers the changes, gathers them for a diff, decides how
//! much is shown, and makes the messages. `flow` owns the locks and sends.

use super::entry::{PresenceEntry, PresentConnection, Profile, parsed};
use super::options::PresenceOptions;
use crate::channel::UserId;
use crate::connection::ConnectionId;
use crate::event::PresenceChange;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// The roster of one channel.
#[derive(Debug)]
pub(crate) struct Members {
    pub(super) users: BTreeMap<UserId, Member>,
    /// The number of the last change.
    pub(super) change_number: u64,
    pub(super) mode: Mode,
    /// Bytes of all of them as JSON, about.
    bytes: usize,
    /// Who changed since the last diff, and who knew of them before.
    pending: BTreeMap<UserId, ShownTo>,
    /// A diff or an occupancy is on the agenda.
    pub(super) is_due: bool,
    /// The list as frames, by encoding, until the next diff.
    pub(super) list: [Option<Bytes>; 2],
    /// The count that everybody was told last.
    notified_count: Option<usize>,
    /// Places of lost connections.
    pub(super) lost_count: usize,
}

/// One user in one channel.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) profile: Arc<Profile>,
    pub(super) joined_at: u64,
    pub(super) connections: Vec<MemberConnection>,
}

/// One connection of a member.
#[derive(Debug)]
pub(super) struct MemberConnection {
    pub(super) connection: ConnectionId,
    pub(super) metadata: Option<Arc<str>>,
    pub(super) joined_at: u64,
    held_by: HeldBy,
}

/// Who has what a connection was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldBy {
    Connection,
    /// It is lost, and its session keeps it.
    Session,
    /// It is lost for the grace time, without a session: it goes to whichever of the user's connections comes next.
    Nobody,
}

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Each,
    Diff,
    Occupancy,
}

/// Who knew of a user before the changes that wait for the next diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShownTo {
    All,
    /// Those who have got a list since the last diff.
    Some,
    Nobody,
}

/// The changes since the last diff.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) joins: Vec<UserId>,
    pub(super) leaves: Vec<UserId>,
    pub(super) updates: Vec<UserId>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.leaves.is_empty() && self.updates.is_empty()
    }
}

impl Members {
    pub(super) fn new(options: PresenceOptions) -> Self {
        let mut members = Self {
            users: BTreeMap::new(),
            change_number: 0,
            mode: Mode::Each,
            bytes: 0,
            pending: BTreeMap::new(),
            is_due: false,
            list: [None, None],
            notified_count: None,
            lost_count: 0,
        };
        members.update_mode(options);
        members
    }

    /// A connection comes. It takes the place that its session has kept, else one that is free, rather one like it,
    /// and without a word then.
    pub(super) fn enter(
        &mut self,
        user: &UserId,
        (place, replaces): (MemberConnection, Option<ConnectionId>),
        profile: &Arc<Profile>,
    ) -> (Option<PresenceChange>, Replaced) {
        let Some(member) = self.users.get_mut(user) else {
            let member =
                Member { profile: profile.clone(), joined_at: place.joined_at, connections: vec![place] };
            self.bytes += member.weight(user);
            self.users.insert(user.clone(), member);
            return (self.note_change(user, PresenceChange::Join), Replaced(None));
        };
        let is_its =
            |kept: &MemberConnection| kept.held_by == HeldBy::Session && Some(kept.connection) == replaces;
        let is_free = |lost: &MemberConnection| lost.held_by == HeldBy::Nobody;
        let is_same = |lost: &MemberConnection| is_free(lost) && lost.metadata == place.metadata;
        let index = member.connections.iter().position(is_its);
        let index = index.or_else(|| member.connections.iter().position(is_same));
        let index = index.or_else(|| member.connections.iter().position(is_free));
        let Some(lost) = index.map(|index| &mut member.connections[index]) else {
            self.bytes += place.weight();
            member.connections.push(place);
            return (self.note_change(user, PresenceChange::Update), Replaced(None));
        };
        self.lost_count -= 1;
        let is_same = lost.metadata == place.metadata;
        self.bytes = self.bytes + place.weight() - lost.weight();
        let old = std::mem::replace(lost, place);
        self.list = [None, None];
        (
            if is_same { None } else { self.note_change(user, PresenceChange::Update) },
            Replaced(Some(old.connection)),
        )
    }

    /// A connection goes for good.
    pub(super) fn leave(
        &mut self,
        user: &UserId,
        connection: ConnectionId,
    ) -> Option<(PresenceChange, Member)> {
        let member = self.users.get_mut(user)?;
        let index = member.connections.iter().position(|place| place.connection == connection)?;
        self.bytes -= member.connections[index].weight();
        let place = member.connections.remove(index);
        self.lost_count -= usize::from(place.held_by != HeldBy::Connection);
        if !member.connections.is_empty() {
            let copy = Member {
                profile: member.profile.clone(),
                joined_at: member.joined_at,
                connections: Vec::new(),
            };
            return self.note_change(user, PresenceChange::Update).map(|step| (step, copy));
        }
        let member = self.users.remove(user)?;
        self.bytes -= member.weight(user);
        self.note_change(user, PresenceChange::Leave).map(|step| (step, member))
    }

    /// A connection is lost, and its place stays for now.
    pub(super) fn mark_lost(&mut self, user: &UserId, connection: ConnectionId, hold: HeldBy) {
        let Some(place) = self.connection_mut(user, connection) else { return };
        let was_live = std::mem::replace(&mut place.held_by, hold) == HeldBy::Connection;
        self.lost_count += usize::from(was_live);
    }

    /// The places of lost connections.
    pub(super) fn lost_connections(&self) -> Vec<(UserId, ConnectionId)> {
        let places = self
            .users
            .iter()
            .flat_map(|(user, member)| member.connections.iter().map(move |place| (user, place)));
        let lost = places.filter(|(_, place)| place.held_by != HeldBy::Connection);
        lost.map(|(user, place)| (user.clone(), place.connection)).collect()
    }

    /// A connection's own metadata changes.
    pub(super) fn set_connection_metadata(
        &mut self,
        user: &UserId,
        connection: ConnectionId,
        metadata: Option<Arc<str>>,
    ) -> Option<PresenceChange> {
        let place = self.connection_mut(user, connection)?;
        if place.metadata == metadata {
            return None;
        }
        let before = place.weight();
        place.metadata = metadata;
        let after = place.weight();
        self.bytes = self.bytes + after - before;
        self.note_change(user, PresenceChange::Update)
    }

    /// A user's metadata changes.
    pub(super) fn set_profile(&mut self, user: &UserId, profile: &Arc<Profile>) -> Option<PresenceChange> {
        let member = self.users.get_mut(user)?;
        self.bytes = self.bytes + profile.text.len() - member.profile.text.len();
        member.profile = profile.clone();
        self.note_change(user, PresenceChange::Update)
    }

    fn connection_mut(&mut self, user: &UserId, connection: ConnectionId) -> Option<&mut MemberConnection> {
        let member = self.users.get_mut(user)?;
        member.connections.iter_mut().find(|place| place.connection == connection)
    }

    fn note_change(&mut self, user: &UserId, step: PresenceChange) -> Option<PresenceChange> {
        self.change_number += 1;
        if self.mode != Mode::Each || step == PresenceChange::Join {
            // A join may be what makes the channel too large for showing each change.
            let known = if step == PresenceChange::Join { ShownTo::Nobody } else { ShownTo::All };
            self.pending.entry(user.clone()).or_insert(known);
        }
        if self.mode == Mode::Each {
            self.list = [None, None];
        }
        Some(step)
    }

    /// Decides how much is shown from now on. Returns the mode before.
    pub(super) fn update_mode(&mut self, options: PresenceOptions) -> Mode {
        let (before, count) = (self.mode, self.users.len());
        let is_long = |users: usize, bytes: usize| count > users || self.bytes > bytes;
        self.mode = match before {
            _ if options.list_up_to == 0 || is_long(options.list_up_to, LIST_BYTES) => Mode::Occupancy,
            Mode::Occupancy if is_long(options.list_up_to / 2, LIST_BYTES / 2) => Mode::Occupancy,
            _ if count > options.each_up_to || options.each_up_to == 0 => Mode::Diff,
            Mode::Diff if count > options.each_up_to * 3 / 4 || !self.pending.is_empty() => Mode::Diff,
            Mode::Occupancy => Mode::Diff,
            Mode::Each | Mode::Diff => Mode::Each,
        };
        // After a count everybody gets the list as it is now.
        if self.mode != Mode::Diff || before == Mode::Occupancy {
            self.pending.clear();
        }
        if self.mode != Mode::Occupancy {
            self.notified_count = None;
        }
        if self.mode != before {
            self.list = [None, None];
        }
        before
    }

    /// The changes since the last time, each user once.
    pub(super) fn take_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        for (user, known) in std::mem::take(&mut self.pending) {
            match (known, self.users.contains_key(&user)) {
                (ShownTo::All, true) => changes.updates.push(user),
                (ShownTo::Some | ShownTo::Nobody, true) => changes.joins.push(user),
                (ShownTo::All | ShownTo::Some, false) => changes.leaves.push(user),
                (ShownTo::Nobody, false) => {}
            }
        }
        self.list = [None, None];
        changes
    }

    /// Somebody is shown users as they are now: if they go again, the next diff must say so.
    pub(super) fn note_list_shown(&mut self) {
        for (user, known) in &mut self.pending {
            if *known == ShownTo::Nobody && self.users.contains_key(user) {
                *known = ShownTo::Some;
            }
        }
    }

    /// The count, where it is not the one that was told last.
    pub(super) fn take_count(&mut self) -> Option<usize> {
        let count = self.users.len();
        (self.notified_count.replace(count) != Some(count)).then_some(count)
    }

    /// The count for one who has come: if it changes back, the next tick must say so.
    pub(super) fn note_count_shown(&mut self) -> usize {
        let count = self.users.len();
        self.notified_count = self.notified_count.filter(|told| *told == count);
        count
    }

    /// Up to `limit` users behind `after`, in the order of their names.
    pub(super) fn page<'a>(
        &'a self,
        after: Option<&str>,
        limit: usize,
    ) -> impl Iterator<Item = (&'a UserId, &'a Member)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.users.range::<str, _>((start, Bound::Unbounded)).take(limit)
    }

    pub(super) fn entry(user: &UserId, member: &Member) -> PresenceEntry {
        let connections = member.connections.iter().map(|place| PresentConnection {
            connection_id: place.connection,
            metadata: parsed(place.metadata.as_deref()),
            joined_at: place.joined_at,
            channels: Vec::new(),
        });
        PresenceEntry {
            user: user.clone(),
            status: member.profile.status().into(),
            metadata: member.profile.metadata.clone().into(),
            joined_at: member.joined_at,
            updated_at: member.profile.updated_at,
            connections: connections.collect(),
        }
    }
}

/// The lost connection whose place was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replaced(pub(super) Option<ConnectionId>);

impl Member {
    pub(super) fn weight(&self, user: &UserId) -> usize {
        let places: usize = self.connections.iter().map(MemberConnection::weight).sum();
        user.len() + self.profile.text.len() + places + 110
    }
}

impl MemberConnection {
    pub(super) fn new(connection: ConnectionId, metadata: Option<Arc<str>>, joined_at: u64) -> Self {
        Self { connection, metadata, joined_at, held_by: HeldBy::Connection }
    }

    fn weight(&self) -> usize {
        self.metadata.as_ref().map_or(2, |metadata| metadata.len()) + 80
    }
}

/// Bytes of a list past which the users are only counted.
const LIST_BYTES: usize = 512 * 1024;
