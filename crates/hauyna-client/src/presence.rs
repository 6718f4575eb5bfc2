//! The presence list of one channel, built from the numbered messages of the server. Pure. A new list is
//! compared with the old one, so that a reconnect does not report joins.

use crate::call::Call;
use crate::channel::{PresenceUpdate, object};
use crate::client::Client;
use crate::error::Error;
use crate::outbox::Draft;
use crate::run::Command;
use hauyna_protocol::received::{
    PresenceChange, PresenceConnection, PresenceDiff, PresenceEntry, PresenceKind, PresencePage,
    PresenceState,
};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A user who is present.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Member {
    /// `online`, `away`, `offline`, or a status that the application defines.
    pub status: String,
    /// Metadata that the user has set.
    pub metadata: Value,
    /// Number of connections that the user has in the channel.
    pub connections: u64,
    /// The known connections of the user, by id. If one of several leaves, the server does not tell which.
    /// The map is then empty until the server sends all of them, as it does for [`ChannelPresence::refresh`].
    pub devices: BTreeMap<String, Device>,
}

/// One connection of a user who is present.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Device {
    /// Metadata that this connection gave when it subscribed, or has set with [`ChannelPresence::update`].
    pub metadata: Value,
    /// The moment at which it joined, in ms since the Unix epoch.
    pub joined_at: u64,
}

/// The members of a channel: a snapshot, which does not change later. Clones are cheap, and two snapshots
/// between which nothing has changed share their members.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Presence {
    /// Number of users; `None` until the server has sent it.
    pub count: Option<u64>,
    /// The users, if they are few enough to be listed.
    pub users: Arc<BTreeMap<String, Arc<Member>>>,
    /// Whether `users` lists all of them; otherwise they are only counted.
    pub is_listed: bool,
}

/// The members of a channel, and methods that change what this connection shows; made by
/// [`Channel::presence`](crate::Channel::presence). It dereferences to its snapshot, a [`Presence`].
#[derive(Clone)]
pub struct ChannelPresence {
    client: Client,
    channel: String,
    snapshot: Presence,
}

impl ChannelPresence {
    pub(crate) const fn new(client: Client, channel: String, snapshot: Presence) -> Self {
        Self { client, channel, snapshot }
    }

    /// Replaces the metadata of this connection in the channel with the fields of `metadata`, an object. A
    /// later subscription of the same user starts with it. Await what it returns. Others receive a presence
    /// update.
    ///
    /// It fails with `not_subscribed` if there is no subscription or the channel has no presence.
    ///
    /// ```no_run
    /// # async fn run(room: hauyna_client::Channel) -> Result<(), hauyna_client::Error> {
    /// room.presence().update(&serde_json::json!({ "device": "phone", "muted": true })).await?;
    /// # Ok(()) }
    /// ```
    pub fn update(&self, metadata: &(impl Serialize + ?Sized)) -> Call<()> {
        let channel = self.channel.clone();
        let draft = object(metadata).map(|metadata| Draft::UpdatePresence { channel, metadata });
        Call::new(self.client.clone(), draft, |_| Ok(()))
    }

    /// Requests the list again, for example because the `devices` of a user are unknown, and returns when it
    /// has come or has failed. [`Channel::presence_updates`](crate::Channel::presence_updates) and later
    /// snapshots show what it changes. It does nothing if the channel has no list.
    ///
    /// # Errors
    ///
    /// The client is closed, or no answer came in time.
    pub async fn refresh(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let channel = self.channel.clone();
        self.client.command(Command::RenewList { channel, reply }).await?;
        self.client.answer(answer).await
    }

    /// Returns the snapshot.
    #[must_use]
    pub fn into_snapshot(self) -> Presence {
        self.snapshot
    }
}

impl Deref for ChannelPresence {
    type Target = Presence;

    fn deref(&self) -> &Presence {
        &self.snapshot
    }
}

impl fmt::Debug for ChannelPresence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channel, snapshot, .. } = self;
        f.debug_struct("ChannelPresence")
            .field("channel", channel)
            .field("count", &snapshot.count)
            .finish_non_exhaustive()
    }
}

/// The presence list of one channel.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    presence: Presence,
    offset: u64,
    /// The list that is being requested.
    listing: Option<PageLoading>,
    /// The moment until which the server refuses the list.
    refused_until: Option<Instant>,
}

/// The pages of a list that have come so far.
#[derive(Debug, Default)]
struct PageLoading {
    /// Offset and count of the first page, which is the oldest.
    first: Option<(u64, u64)>,
    members: BTreeMap<String, Arc<Member>>,
    /// Changes that came meanwhile. They may be older or newer than what the pages say about those users.
    buffered: Vec<BufferedChange>,
}

#[derive(Debug)]
enum BufferedChange {
    Change(PresenceChange),
    Diff(PresenceDiff),
}

/// What follows a page of a list.
#[derive(Debug, PartialEq)]
pub(crate) enum PageResult {
    /// The list is complete, or is not wanted any more.
    Whole,
    /// The list is complete, but a change was missed since, so it has to be requested again.
    Skipped,
    /// The next page starts after this user.
    More(String),
}

/// The effect of a change on the list.
#[derive(Debug, PartialEq)]
pub(crate) enum ApplyResult {
    Updates(Vec<PresenceUpdate>),
    /// A change was missed, so the list has to be requested.
    Skipped,
}

impl Roster {
    pub(crate) fn presence(&self) -> Presence {
        self.presence.clone()
    }

    /// Whether the server has ever sent a list or a count.
    pub(crate) const fn is_known(&self) -> bool {
        self.presence.count.is_some()
    }

    pub(crate) fn apply_state(&mut self, state: PresenceState) -> Vec<PresenceUpdate> {
        (self.listing, self.refused_until) = (None, None);
        (self.offset, self.presence.count) = (state.offset, Some(state.count));
        self.replace(state.users.into_iter().map(|(user, entry)| (user, member(entry))).collect())
    }

    pub(crate) fn apply_change(&mut self, change: PresenceChange) -> ApplyResult {
        if change.offset <= self.offset || !self.presence.is_listed {
            return ApplyResult::Updates(Vec::new());
        }
        if self.listing.is_some() {
            self.buffer(BufferedChange::Change(change));
            return ApplyResult::Updates(Vec::new());
        }
        if change.offset > self.offset + 1 {
            return ApplyResult::Skipped;
        }
        self.offset = change.offset;
        let devices = self.devices_after(&change);
        let member = Member {
            status: change.status,
            metadata: value(&change.metadata),
            connections: change.connections,
            devices,
        };
        let left = change.event == PresenceKind::Leave;
        let updates = self.set_member(change.user, (!left).then(|| Arc::new(member)));
        self.presence.count = Some(self.presence.users.len() as u64);
        ApplyResult::Updates(updates.into_iter().collect())
    }

    /// Returns the known connections of a user after a change.
    fn devices_after(&self, change: &PresenceChange) -> BTreeMap<String, Device> {
        let known = self.presence.users.get(&change.user);
        let mut devices = known.map_or_else(BTreeMap::new, |member| member.devices.clone());
        if let Some(connection) = &change.connection {
            devices.insert(connection.connection_id.clone(), device(connection));
        }
        // One of several has left, and nobody knows which.
        if devices.len() as u64 != change.connections {
            devices.clear();
        }
        devices
    }

    pub(crate) fn apply_diff(&mut self, diff: PresenceDiff) -> Vec<PresenceUpdate> {
        if diff.offset <= self.offset || !self.presence.is_listed {
            return Vec::new();
        }
        if self.listing.is_some() {
            self.buffer(BufferedChange::Diff(diff));
            return Vec::new();
        }
        self.offset = diff.offset;
        let mut updates = Vec::new();
        for user in diff.leaves {
            updates.extend(self.set_member(user, None));
        }
        for (user, entry) in diff.joins.into_iter().chain(diff.updates) {
            updates.extend(self.set_member(user, Some(member(entry))));
        }
        self.presence.count = Some(diff.count);
        updates
    }

    /// Whether the count of the server differs from the list, because a change was missed.
    pub(crate) fn is_miscounted(&self) -> bool {
        let Presence { count, users, is_listed } = &self.presence;
        *is_listed && count.is_some_and(|count| count != users.len() as u64)
    }

    /// Replaces the list with a count, because the users are too many to be listed.
    pub(crate) fn apply_occupancy(&mut self, count: u64) {
        self.presence = Presence { count: Some(count), ..Presence::default() };
        self.listing = None;
    }

    /// Sets the moment until which the server refuses the list; `None` if it may be requested again.
    pub(crate) const fn refuse_until(&mut self, until: Option<Instant>) {
        self.refused_until = until;
    }

    /// Starts to request the list; `false` if that is under way or was refused.
    pub(crate) fn start_listing(&mut self, now: Instant) -> bool {
        if self.refused_until.is_some_and(|until| now < until) {
            return false;
        }
        let is_new = self.listing.is_none();
        self.listing.get_or_insert_default();
        is_new
    }

    /// Takes a page of the requested list, or `None` if it has failed. Returns the updates and what follows.
    pub(crate) fn take_page(&mut self, page: Option<PresencePage>) -> (Vec<PresenceUpdate>, PageResult) {
        // A list that the server has sent meanwhile is newer.
        let Some(mut listing) = self.listing.take() else { return (Vec::new(), PageResult::Whole) };
        let is_refused = page.is_none();
        if let Some(page) = page {
            let before = listing.members.len();
            listing.first.get_or_insert((page.offset, page.count));
            listing.members.extend(page.users.into_iter().map(|(user, entry)| (user, member(entry))));
            // A page without a new user is the last one, even if it names a next one.
            let is_longer = (before + 1..MAX_MEMBERS).contains(&listing.members.len());
            if let Some(next) = page.next.filter(|_| is_longer) {
                self.listing = Some(listing);
                return (Vec::new(), PageResult::More(next));
            }
        }
        let mut updates = Vec::new();
        if let Some((offset, count)) =
            listing.first.filter(|(offset, _)| !is_refused && *offset >= self.offset)
        {
            (self.offset, self.presence.count) = (offset, Some(count));
            updates = self.replace(listing.members);
        }
        let mut paged = PageResult::Whole;
        for buffered in listing.buffered {
            match buffered {
                BufferedChange::Diff(diff) => updates.extend(self.apply_diff(diff)),
                BufferedChange::Change(change) => match self.apply_change(change) {
                    ApplyResult::Updates(changed) => updates.extend(changed),
                    // After a refusal, the next missed change requests the list again.
                    ApplyResult::Skipped if is_refused => {}
                    ApplyResult::Skipped => paged = PageResult::Skipped,
                },
            }
        }
        (updates, paged)
    }

    fn buffer(&mut self, buffered: BufferedChange) {
        // Beyond the bound, the answer would be too old. The next missed change requests the list again.
        self.listing.take_if(|listing| listing.buffered.len() >= MAX_BUFFERED);
        if let Some(listing) = &mut self.listing {
            listing.buffered.push(buffered);
        }
    }

    fn replace(&mut self, members: BTreeMap<String, Arc<Member>>) -> Vec<PresenceUpdate> {
        let mut updates = Vec::new();
        let gone: Vec<_> =
            self.presence.users.keys().filter(|user| !members.contains_key(*user)).cloned().collect();
        for user in gone {
            updates.extend(self.set_member(user, None));
        }
        for (user, member) in members {
            updates.extend(self.set_member(user, Some(member)));
        }
        self.presence.is_listed = true;
        updates
    }

    /// Adds, changes or removes a user. Returns the update, if anything has changed.
    fn set_member(&mut self, user: String, member: Option<Arc<Member>>) -> Option<PresenceUpdate> {
        let Some(member) = member else {
            if !self.presence.users.contains_key(&user) {
                return None;
            }
            let member = Arc::make_mut(&mut self.presence.users).remove(&user)?;
            return Some(PresenceUpdate { kind: PresenceKind::Leave, user, member });
        };
        let kind = match self.presence.users.get(&user) {
            None => PresenceKind::Join,
            Some(old) if *old == member => return None,
            Some(_) => PresenceKind::Update,
        };
        // Snapshots keep their list; only the pointers to the members are copied.
        Arc::make_mut(&mut self.presence.users).insert(user.clone(), member.clone());
        Some(PresenceUpdate { kind, user, member })
    }
}

fn member(entry: PresenceEntry) -> Arc<Member> {
    let connections = entry.connections.len() as u64;
    let devices =
        entry.connections.iter().map(|connection| (connection.connection_id.clone(), device(connection)));
    let (metadata, devices) = (value(&entry.metadata), devices.collect());
    Arc::new(Member { status: entry.status, metadata, connections, devices })
}

fn device(connection: &PresenceConnection) -> Device {
    Device { metadata: value(&connection.metadata), joined_at: connection.joined_at }
}

fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// The most users that a list of this client holds. Servers stop listing them long before.
const MAX_MEMBERS: usize = 100_000;
/// The most changes that are buffered while a list is requested.
const MAX_BUFFERED: usize = 10_000;

#[cfg(test)]
mod tests;
