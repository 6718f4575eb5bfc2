//! The roster of one channel: pure data, no I/O. It numbers the changes, gathers them for a diff, and decides
//! how much is shown. `changes` owns the locks, `message` builds the messages, `notify` sends them.

use super::entry::{PresenceEntry, PresentConnection, Profile, parsed};
use super::options::PresenceOptions;
use crate::event::PresenceChange;
use bytes::Bytes;
use hauyna_broker::{ConnectionId, UserId};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// The roster of one channel.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) users: BTreeMap<UserId, Member>,
    /// Number of the last change.
    pub(super) change_number: u64,
    pub(super) mode: Mode,
    /// Approximate size of all members as JSON, in bytes.
    bytes: usize,
    /// Users that changed since the last diff, and who saw them before.
    pending: BTreeMap<UserId, ShownTo>,
    /// Whether a timer for a diff or an occupancy is set.
    pub(super) is_due: bool,
    /// The list as encoded frames, by encoding, until the next diff.
    pub(super) list: [Option<Bytes>; 2],
    /// The count that all subscribers were sent last.
    notified_count: Option<usize>,
    /// Number of lost connections.
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

/// Who holds the presence of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldBy {
    /// The connection is live.
    Connection,
    /// The connection is lost, and its session keeps the presence.
    Session,
    /// The connection is lost and has no session. For the grace time, the next connection of the user takes
    /// it over.
    Nobody,
}

/// How much of the roster subscribers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each change at once.
    Each,
    /// The changes of one tick together.
    Diff,
    /// The count alone.
    Occupancy,
}

/// Which subscribers saw a user before the changes that wait for the next diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShownTo {
    All,
    /// The subscribers that got a list since the last diff.
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

    /// Adds a connection. It replaces the lost connection `replaces` that its session has kept; without that,
    /// one held by nobody, preferably with the same metadata. Where the metadata is the same, there is no
    /// change to notify of.
    pub(super) fn enter(
        &mut self,
        user: &UserId,
        entry: MemberConnection,
        replaces: Option<ConnectionId>,
        profile: &Arc<Profile>,
    ) -> (Option<PresenceChange>, Replaced) {
        let Some(member) = self.users.get_mut(user) else {
            let member =
                Member { profile: profile.clone(), joined_at: entry.joined_at, connections: vec![entry] };
            self.bytes += member.weight(user);
            self.users.insert(user.clone(), member);
            return (self.note_change(user, PresenceChange::Join), Replaced(None));
        };
        let is_replaced =
            |kept: &MemberConnection| kept.held_by == HeldBy::Session && Some(kept.connection) == replaces;
        let is_free = |lost: &MemberConnection| lost.held_by == HeldBy::Nobody;
        let is_same = |lost: &MemberConnection| is_free(lost) && lost.metadata == entry.metadata;
        let index = member.connections.iter().position(is_replaced);
        let index = index.or_else(|| member.connections.iter().position(is_same));
        let index = index.or_else(|| member.connections.iter().position(is_free));
        let Some(lost) = index.map(|index| &mut member.connections[index]) else {
            self.bytes += entry.weight();
            member.connections.push(entry);
            return (self.note_change(user, PresenceChange::Update), Replaced(None));
        };
        self.lost_count -= 1;
        let is_same = lost.metadata == entry.metadata;
        self.bytes = self.bytes + entry.weight() - lost.weight();
        let old = std::mem::replace(lost, entry);
        self.list = [None, None];
        (
            if is_same { None } else { self.note_change(user, PresenceChange::Update) },
            Replaced(Some(old.connection)),
        )
    }

    /// Removes a connection. Returns the change, and the member as it was before.
    pub(super) fn leave(
        &mut self,
        user: &UserId,
        connection: ConnectionId,
    ) -> Option<(PresenceChange, Member)> {
        let member = self.users.get_mut(user)?;
        let index = member.connections.iter().position(|entry| entry.connection == connection)?;
        self.bytes -= member.connections[index].weight();
        let entry = member.connections.remove(index);
        self.lost_count -= usize::from(entry.held_by != HeldBy::Connection);
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

    /// Marks a connection as lost; it stays in the roster for now.
    pub(super) fn mark_lost(&mut self, user: &UserId, connection: ConnectionId, held_by: HeldBy) {
        let Some(entry) = self.connection_mut(user, connection) else { return };
        let was_live = std::mem::replace(&mut entry.held_by, held_by) == HeldBy::Connection;
        self.lost_count += usize::from(was_live);
    }

    /// Returns the lost connections with their users.
    pub(super) fn lost_connections(&self) -> Vec<(UserId, ConnectionId)> {
        let entries = self
            .users
            .iter()
            .flat_map(|(user, member)| member.connections.iter().map(move |entry| (user, entry)));
        let lost = entries.filter(|(_, entry)| entry.held_by != HeldBy::Connection);
        lost.map(|(user, entry)| (user.clone(), entry.connection)).collect()
    }

    /// Sets the metadata of one connection.
    pub(super) fn set_connection_metadata(
        &mut self,
        user: &UserId,
        connection: ConnectionId,
        metadata: Option<Arc<str>>,
    ) -> Option<PresenceChange> {
        let entry = self.connection_mut(user, connection)?;
        if entry.metadata == metadata {
            return None;
        }
        let before = entry.weight();
        entry.metadata = metadata;
        let after = entry.weight();
        self.bytes = self.bytes + after - before;
        self.note_change(user, PresenceChange::Update)
    }

    /// Sets the profile of a user.
    pub(super) fn set_profile(&mut self, user: &UserId, profile: &Arc<Profile>) -> Option<PresenceChange> {
        let member = self.users.get_mut(user)?;
        self.bytes = self.bytes + profile.text.len() - member.profile.text.len();
        member.profile = profile.clone();
        self.note_change(user, PresenceChange::Update)
    }

    fn connection_mut(&mut self, user: &UserId, connection: ConnectionId) -> Option<&mut MemberConnection> {
        let member = self.users.get_mut(user)?;
        member.connections.iter_mut().find(|entry| entry.connection == connection)
    }

    fn note_change(&mut self, user: &UserId, step: PresenceChange) -> Option<PresenceChange> {
        self.change_number += 1;
        if self.mode != Mode::Each || step == PresenceChange::Join {
            // A join may make the channel too large for showing each change.
            let shown_to = if step == PresenceChange::Join { ShownTo::Nobody } else { ShownTo::All };
            self.pending.entry(user.clone()).or_insert(shown_to);
        }
        if self.mode == Mode::Each {
            self.list = [None, None];
        }
        Some(step)
    }

    /// Chooses the mode from now on. Returns the mode before.
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
        // After a count, every subscriber gets the present list, which contains the pending changes.
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

    /// Takes the changes since the last call, each user once.
    pub(super) fn take_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        for (user, shown_to) in std::mem::take(&mut self.pending) {
            match (shown_to, self.users.contains_key(&user)) {
                (ShownTo::All, true) => changes.updates.push(user),
                (ShownTo::Some | ShownTo::Nobody, true) => changes.joins.push(user),
                (ShownTo::All | ShownTo::Some, false) => changes.leaves.push(user),
                (ShownTo::Nobody, false) => {}
            }
        }
        self.list = [None, None];
        changes
    }

    /// Notes that one connection is sent the present list: if users of it leave, the next diff must contain
    /// that.
    pub(super) fn note_list_shown(&mut self) {
        for (user, shown_to) in &mut self.pending {
            if *shown_to == ShownTo::Nobody && self.users.contains_key(user) {
                *shown_to = ShownTo::Some;
            }
        }
    }

    /// Returns the count, where it differs from the one that was sent last.
    pub(super) fn take_count(&mut self) -> Option<usize> {
        let count = self.users.len();
        (self.notified_count.replace(count) != Some(count)).then_some(count)
    }

    /// Returns the count for a new subscriber. If it differs from the one that was sent last, the next tick
    /// must send the count even if it has changed back by then.
    pub(super) fn note_count_shown(&mut self) -> usize {
        let count = self.users.len();
        self.notified_count = self.notified_count.filter(|notified| *notified == count);
        count
    }

    /// Returns up to `limit` users after `after`, in the order of their names.
    pub(super) fn page<'a>(
        &'a self,
        after: Option<&str>,
        limit: usize,
    ) -> impl Iterator<Item = (&'a UserId, &'a Member)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.users.range::<str, _>((start, Bound::Unbounded)).take(limit)
    }

    pub(super) fn entry(user: &UserId, member: &Member) -> PresenceEntry {
        let connections = member.connections.iter().map(|entry| PresentConnection {
            connection_id: entry.connection,
            metadata: parsed(entry.metadata.as_deref()),
            joined_at: entry.joined_at,
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

/// The lost connection that was replaced, if any.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replaced(pub(super) Option<ConnectionId>);

impl Member {
    pub(super) fn weight(&self, user: &UserId) -> usize {
        let entries: usize = self.connections.iter().map(MemberConnection::weight).sum();
        user.len() + self.profile.text.len() + entries + 110
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

/// Size of the list, in bytes, above which the users are only counted.
const LIST_BYTES: usize = 512 * 1024;
