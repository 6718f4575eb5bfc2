//! Who is present in one channel, as the server's messages tell it, by their numbers. Pure. A new list is
//! compared with the old one, so that a reconnect is no flood of joins.

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

/// One user who is present.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Member {
    /// `online`, `away`, `offline`, or a word of the application's.
    pub status: String,
    /// What the user has told about themselves.
    pub metadata: Value,
    /// How many connections the user has in the channel.
    pub connections: u64,
    /// Those of them that the server has told, by their id. Where one went and others stay, the server does
    /// not tell which: it is empty then, until it tells all of them, as where it is asked to
    /// ([`ChannelPresence::refresh`]).
    pub devices: BTreeMap<String, Device>,
}

/// One connection of a user who is present.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Device {
    /// What this connection gave along with its subscription, or has set by [`ChannelPresence::update`].
    pub metadata: Value,
    /// When it came, in ms since the Unix epoch.
    pub joined_at: u64,
}

/// Who is present in a channel: a snapshot, which later changes leave alone. A clone costs nothing, and two
/// snapshots between which nothing has changed share their members.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Presence {
    /// How many users are there; `None` before the server has told.
    pub count: Option<u64>,
    /// The users, where they are few enough to be named.
    pub users: Arc<BTreeMap<String, Arc<Member>>>,
    /// Whether `users` are all of them, and not only counted.
    pub is_listed: bool,
}

/// Who is present in a channel, and the way to change what this connection shows; made by
/// [`Channel::presence`](crate::Channel::presence). It is a snapshot: it derefs to [`Presence`].
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

    /// Replaces the metadata of this connection in the channel by the fields of `metadata`, an object; a
    /// later subscription of the same user begins with it. Await what it returns. Others are told by an
    /// update of their presence.
    ///
    /// It fails with `not_subscribed` without a subscription, and where the channel shows no presence.
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

    /// Asks for the list again, as where somebody's `devices` are not known, and returns when it is there or
    /// will not come. What it changes is told by
    /// [`Channel::presence_updates`](crate::Channel::presence_updates), and in the snapshots of later.
    /// Without a list it does nothing.
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

    /// Returns the snapshot alone.
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

/// The list of one channel.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    presence: Presence,
    offset: u64,
    /// The list that is being asked for.
    listing: Option<PageLoading>,
    /// Until when the server has refused it.
    refused_until: Option<Instant>,
}

/// A list that was asked for, so far.
#[derive(Debug, Default)]
struct PageLoading {
    /// The number and the count of the first page, which is the oldest.
    first: Option<(u64, u64)>,
    members: BTreeMap<String, Arc<Member>>,
    /// The changes that came meanwhile: what the pages say of those users may be older, or newer.
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
    /// Nothing: the list is whole, or is not wanted any more.
    Whole,
    /// The list is whole, and a number was skipped since: it has to be asked for again.
    Skipped,
    /// The page after this user.
    More(String),
}

/// What a message did to the list.
#[derive(Debug, PartialEq)]
pub(crate) enum ApplyResult {
    Updates(Vec<PresenceUpdate>),
    /// A number was skipped: the list has to be asked for.
    Skipped,
}

impl Roster {
    pub(crate) fn presence(&self) -> Presence {
        self.presence.clone()
    }

    /// Whether the server has ever told a list.
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

    /// The connections of a user after a change, as far as they are known.
    fn devices_after(&self, change: &PresenceChange) -> BTreeMap<String, Device> {
        let known = self.presence.users.get(&change.user);
        let mut devices = known.map_or_else(BTreeMap::new, |member| member.devices.clone());
        if let Some(connection) = &change.connection {
            devices.insert(connection.connection_id.clone(), device(connection));
        }
        // One of several went, and nobody knows which.
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

    /// Whether the server counts others than are listed: a change was missed.
    pub(crate) fn is_miscounted(&self) -> bool {
        let Presence { count, users, is_listed } = &self.presence;
        *is_listed && count.is_some_and(|count| count != users.len() as u64)
    }

    /// They are too many to be named.
    pub(crate) fn apply_occupancy(&mut self, count: u64) {
        self.presence = Presence { count: Some(count), ..Presence::default() };
        self.listing = None;
    }

    /// Notes until when the server refuses the list, or that it is worth asking again.
    pub(crate) const fn refuse_until(&mut self, until: Option<Instant>) {
        self.refused_until = until;
    }

    /// Begins to ask for the list; `false` where that is under way, or refused.
    pub(crate) fn start_listing(&mut self, now: Instant) -> bool {
        if self.refused_until.is_some_and(|until| now < until) {
            return false;
        }
        let is_new = self.listing.is_none();
        self.listing.get_or_insert_default();
        is_new
    }

    /// Takes a page of the list that was asked for, or that there is none; tells what that changed, and what
    /// follows.
    pub(crate) fn take_page(&mut self, page: Option<PresencePage>) -> (Vec<PresenceUpdate>, PageResult) {
        // A list that the server told meanwhile is newer.
        let Some(mut listing) = self.listing.take() else { return (Vec::new(), PageResult::Whole) };
        let is_refused = page.is_none();
        if let Some(page) = page {
            let before = listing.members.len();
            listing.first.get_or_insert((page.offset, page.count));
            listing.members.extend(page.users.into_iter().map(|(user, entry)| (user, member(entry))));
            // A page without anybody new is the last one, whatever it says.
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
                    // Of a list that was refused the next number asks again.
                    ApplyResult::Skipped if is_refused => {}
                    ApplyResult::Skipped => paged = PageResult::Skipped,
                },
            }
        }
        (updates, paged)
    }

    fn buffer(&mut self, buffered: BufferedChange) {
        // Past the bound the answer will be too old: the next number that is skipped asks again.
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

    /// Puts a user in, or takes them out; tells what that changed, if anything.
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
        // Snapshots keep the list as it was; of its members only the pointers are copied.
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

/// As many users as a list of this client names; a server stops naming them long before.
const MAX_MEMBERS: usize = 100_000;
/// As many changes as are kept while a list is asked for.
const MAX_BUFFERED: usize = 10_000;

#[cfg(test)]
mod tests;
