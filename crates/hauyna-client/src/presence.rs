//! Who is present in one channel, as the server's messages tell it, by their numbers. Pure. A new list is compared with the
//! old one, so that a reconnect is no flood of joins.

use crate::channel::PresenceUpdate;
use hauyna_protocol::received::{
    PresenceChange, PresenceDiff, PresenceEntry, PresenceKind, PresencePage, PresenceState,
};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

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
}

/// Who is present in a channel.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Presence {
    /// How many users are there; `None` before the server has told.
    pub count: Option<u64>,
    /// The users, where they are few enough to be named.
    pub members: BTreeMap<String, Member>,
    /// Whether `members` are all of them.
    pub is_complete: bool,
}

/// The list of one channel.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    presence: Presence,
    offset: u64,
    /// The pages of a list that was asked for, so far.
    pages: Option<BTreeMap<String, Member>>,
}

/// What a message did to the list.
#[derive(Debug, PartialEq)]
pub(crate) enum Applied {
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

    pub(crate) fn state(&mut self, state: PresenceState) -> Vec<PresenceUpdate> {
        self.pages = None;
        (self.offset, self.presence.count) = (state.offset, Some(state.count));
        self.replace(state.users.into_iter().map(|(user, entry)| (user, entry.into())).collect())
    }

    pub(crate) fn change(&mut self, change: PresenceChange) -> Applied {
        if change.offset <= self.offset || !self.presence.is_complete {
            return Applied::Updates(Vec::new());
        }
        if change.offset > self.offset + 1 {
            return Applied::Skipped;
        }
        self.offset = change.offset;
        let member = Member {
            status: change.status,
            metadata: value(&change.metadata),
            connections: change.connections,
        };
        let left = change.event == PresenceKind::Leave;
        let updates = self.set(change.user, (!left).then_some(member));
        self.presence.count = Some(self.presence.members.len() as u64);
        Applied::Updates(updates.into_iter().collect())
    }

    pub(crate) fn diff(&mut self, diff: PresenceDiff) -> Vec<PresenceUpdate> {
        if diff.offset <= self.offset || !self.presence.is_complete {
            return Vec::new();
        }
        self.offset = diff.offset;
        let mut updates = Vec::new();
        for user in diff.leaves {
            updates.extend(self.set(user, None));
        }
        for (user, entry) in diff.joins.into_iter().chain(diff.updates) {
            updates.extend(self.set(user, Some(entry.into())));
        }
        self.presence.count = Some(diff.count);
        updates
    }

    /// They are too many to be named.
    pub(crate) fn occupancy(&mut self, count: u64) {
        self.presence = Presence { count: Some(count), ..Presence::default() };
        self.pages = None;
    }

    /// Takes a page of the list; `Some` once it is whole.
    pub(crate) fn page(&mut self, page: PresencePage) -> Option<Vec<PresenceUpdate>> {
        let pages = self.pages.get_or_insert_default();
        pages.extend(page.users.into_iter().map(|(user, entry)| (user, entry.into())));
        // Of several pages the first is the oldest: what changed since comes as changes, or as another skip.
        if pages.len() < MAX_MEMBERS && page.next.is_some() {
            return None;
        }
        let members = self.pages.take()?;
        if page.offset >= self.offset {
            self.offset = page.offset;
            self.presence.count = Some(page.count);
            return Some(self.replace(members));
        }
        Some(Vec::new())
    }

    fn replace(&mut self, members: BTreeMap<String, Member>) -> Vec<PresenceUpdate> {
        let mut updates = Vec::new();
        let gone: Vec<_> =
            self.presence.members.keys().filter(|user| !members.contains_key(*user)).cloned().collect();
        for user in gone {
            updates.extend(self.set(user, None));
        }
        for (user, member) in members {
            updates.extend(self.set(user, Some(member)));
        }
        self.presence.is_complete = true;
        updates
    }

    /// Puts a user in, or takes them out; tells what that changed, if anything.
    fn set(&mut self, user: String, member: Option<Member>) -> Option<PresenceUpdate> {
        match member {
            None => {
                let member = self.presence.members.remove(&user)?;
                Some(PresenceUpdate { kind: PresenceKind::Leave, user, member })
            }
            Some(member) => {
                let kind = match self.presence.members.get(&user) {
                    None => PresenceKind::Join,
                    Some(old) if *old == member => return None,
                    Some(_) => PresenceKind::Update,
                };
                self.presence.members.insert(user.clone(), member.clone());
                Some(PresenceUpdate { kind, user, member })
            }
        }
    }
}

impl From<PresenceEntry> for Member {
    fn from(entry: PresenceEntry) -> Self {
        let connections = entry.connections.len() as u64;
        Self { status: entry.status, metadata: value(&entry.metadata), connections }
    }
}

fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// As many users as a list of this client names; a server stops naming them long before.
const MAX_MEMBERS: usize = 100_000;

#[cfg(test)]
mod tests;
