//! The presence messages of a channel, built from its roster. `changes` sends them to one connection as a
//! frame, `notify` announces them to all subscribers.

use super::members::{Changes, Member, Members, Mode};
use super::notify::Notice;
use crate::channel::ChannelCore;
use crate::connection::{ConnectionCore, frame};
use crate::event::PresenceChange;
use bytes::Bytes;
use hauyna_broker::UserId;
use hauyna_protocol::{
    Encoding, Message, PresenceConnection, PresenceDiff, PresenceEntry, PresenceEvent, PresencePage,
    PresenceState, Raw,
};
use std::sync::Arc;

/// Members as the protocol encodes them: the formatted texts are built first, then the entries that borrow
/// them.
pub(super) struct UserTexts<'a> {
    members: Vec<(&'a UserId, &'a Member)>,
    identifiers: Vec<Vec<String>>,
}

impl<'a> UserTexts<'a> {
    pub(super) fn of(members: impl Iterator<Item = (&'a UserId, &'a Member)>) -> Self {
        let members: Vec<_> = members.collect();
        let identifiers = members
            .iter()
            .map(|(_, member)| member.connections.iter().map(|entry| entry.connection.to_string()).collect());
        Self { identifiers: identifiers.collect(), members }
    }

    /// Calls `f` with the entries.
    pub(super) fn with<R>(&self, f: impl FnOnce(&[(&str, PresenceEntry<'_>)]) -> R) -> R {
        let connections: Vec<Vec<PresenceConnection<'_>>> = self
            .members
            .iter()
            .zip(&self.identifiers)
            .map(|((_, member), identifiers)| {
                let entries = member.connections.iter().zip(identifiers);
                entries
                    .map(|(entry, identifier)| PresenceConnection {
                        connection_id: identifier,
                        metadata: entry.metadata.as_deref().map(json),
                        joined_at: entry.joined_at,
                    })
                    .collect()
            })
            .collect();
        let entries: Vec<_> = self
            .members
            .iter()
            .zip(&connections)
            .map(|((user, member), connections)| {
                let entry = PresenceEntry {
                    status: member.profile.status(),
                    metadata: json(&member.profile.text),
                    joined_at: member.joined_at,
                    updated_at: member.profile.updated_at,
                    connections,
                };
                (user.as_str(), entry)
            })
            .collect();
        f(&entries)
    }
}

/// Returns the frame that a connection gets when it has just subscribed: the list, or the count.
pub(super) fn initial_frame(
    members: &mut Members,
    channel: &ChannelCore,
    core: &Arc<ConnectionCore>,
) -> Bytes {
    let name = channel.name.as_str();
    if members.mode == Mode::Occupancy {
        let count = members.note_count_shown() as u64;
        return frame(core, &Message::Occupancy { channel: name, count });
    }
    let index = usize::from(core.wire().encoding() == Encoding::MessagePack);
    if let Some(list) = &members.list[index] {
        return list.clone();
    }
    let list = with_state(members, name, |message| frame(core, message));
    members.list[index] = Some(list.clone());
    list
}

/// Calls `f` with the whole list as a message.
pub(super) fn with_state<R>(members: &mut Members, channel: &str, f: impl FnOnce(&Message<'_>) -> R) -> R {
    members.note_list_shown();
    UserTexts::of(members.users.iter()).with(|users| {
        let state =
            PresenceState { channel, count: users.len() as u64, users, offset: members.change_number };
        f(&Message::PresenceState(state))
    })
}

/// Calls `f` with one change as a message.
pub(super) fn with_change<R>(
    members: &Members,
    channel: &str,
    step: PresenceChange,
    notice: &Notice<'_>,
    f: impl FnOnce(&Message<'_>) -> R,
) -> Option<R> {
    let member = members.users.get(notice.user);
    let profile = &member.or(notice.member_before)?.profile;
    let mut entries = member.into_iter().flat_map(|member| &member.connections);
    let entry = notice.connection.and_then(|connection| entries.find(|entry| entry.connection == connection));
    let identifier = entry.map(|entry| entry.connection.to_string()).unwrap_or_default();
    let connection = entry.map(|entry| PresenceConnection {
        connection_id: &identifier,
        metadata: entry.metadata.as_deref().map(json),
        joined_at: entry.joined_at,
    });
    let change = hauyna_protocol::PresenceChange {
        event: match step {
            PresenceChange::Join => PresenceEvent::Join,
            PresenceChange::Leave => PresenceEvent::Leave,
            PresenceChange::Update => PresenceEvent::Update,
        },
        user: notice.user.as_str(),
        channel,
        metadata: json(&profile.text),
        status: profile.status(),
        connections: member.map_or(0, |member| member.connections.len() as u64),
        connection,
        timestamp: crate::clock::unix_ms(),
        offset: members.change_number,
    };
    Some(f(&Message::PresenceChange(change)))
}

/// Calls `f` with the changes since the last diff as a message.
pub(super) fn with_diff<R>(
    members: &Members,
    channel: &str,
    changes: &Changes,
    f: impl FnOnce(&Message<'_>) -> R,
) -> R {
    let of = |users: &[UserId]| -> Vec<(&UserId, &Member)> {
        users.iter().filter_map(|user| members.users.get_key_value(user.as_str())).collect()
    };
    let (joins, updates) = (of(&changes.joins), of(&changes.updates));
    let leaves: Vec<&str> = changes.leaves.iter().map(UserId::as_str).collect();
    let (joins, updates) = (UserTexts::of(joins.into_iter()), UserTexts::of(updates.into_iter()));
    joins.with(|joins| {
        updates.with(|updates| {
            let diff = PresenceDiff {
                channel,
                count: members.users.len() as u64,
                joins,
                leaves: &leaves,
                updates,
                offset: members.change_number,
            };
            f(&Message::PresenceDiff(diff))
        })
    })
}

/// Calls `f` with a page of the list, the data of an `ack`.
pub(super) fn with_page<R>(
    members: &mut Members,
    channel: &str,
    after: Option<&str>,
    limit: usize,
    f: impl FnOnce(PresencePage<'_>) -> R,
) -> R {
    members.note_list_shown();
    let mut bytes = 0;
    let mut fits = |(user, member): &(&UserId, &Member)| {
        bytes += member.weight(user);
        bytes <= MAX_PAGE_BYTES
    };
    // At least one member, or the client would ask for the same page forever.
    let users = UserTexts::of(
        members
            .page(after, limit.max(1))
            .enumerate()
            .take_while(|(index, entry)| *index == 0 || fits(entry))
            .map(|(_, entry)| entry),
    );
    let last = users.members.last().map(|(user, _)| user.as_str());
    let next = last.filter(|last| members.page(Some(last), 1).next().is_some());
    users.with(|users| {
        let count = members.users.len() as u64;
        f(PresencePage { channel, count, users, offset: members.change_number, next })
    })
}

fn json(text: &str) -> Raw<'_> {
    Raw::assume_valid(Encoding::Json, text.as_bytes())
}

/// Approximate maximum size of one page, in bytes.
const MAX_PAGE_BYTES: usize = 256 * 1024;
