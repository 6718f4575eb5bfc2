//! The presence of lost connections: removes it from channels before the grace time ends where others need
//! the room, and computes what it weighs. Called by `session`, and by `channel` when there are too many
//! channels.

use super::change::Roster;
use super::members::{Member, MemberConnection};
use super::people::{Device, Person};
use crate::channel::ChannelCore;
use crate::connection::ConnectionCore;
use crate::hub::HubCore;
use hauyna_broker::{ConnectionId, UserId};
use std::sync::Arc;

/// Removes a lost connection from one channel. The caller removes the channel where nobody uses it any more.
pub(crate) fn leave_lost(hub: &HubCore, channel: &Arc<ChannelCore>, user: &UserId, lost: ConnectionId) {
    hub.presence.change(hub, user, |change| {
        if let Some(mut roster) = Roster::of(hub, channel) {
            roster.remove(user, lost);
        }
        if let Some(device) = change.device(lost) {
            device.leave(channel);
            change.mark_announced();
        }
    });
}

/// Removes the channel that only lost connections have held, for the longest time. Returns `false` where
/// there is none.
pub(crate) fn evict_oldest_lost_channel(hub: &HubCore) -> bool {
    let Some(channel) = hub.channels.take_oldest_lost() else { return false };
    if let Some(presence) = &channel.presence {
        let lost = presence.members().lost_connections();
        for (user, connection) in lost {
            leave_lost(hub, &channel, &user, connection);
        }
    }
    hub.remove_channel(&channel);
    true
}

/// Returns about how many bytes a connection takes in the rosters, without those of channels that it holds
/// alone.
pub(crate) fn weight(hub: &HubCore, core: &Arc<ConnectionCore>) -> usize {
    let mut people = hub.presence.stripe(core.user());
    let Some(person) = people.get_mut(core.user().as_str()) else { return 0 };
    let profile = PERSON_BYTES + 3 * person.profile.text.len();
    let Some(device) = person.device_mut(core.id()) else { return 0 };
    let metadata = device.metadata.as_ref().map_or(0, |metadata| metadata.len());
    let memberships = device.channels.len() * (size_of::<Arc<ChannelCore>>() + CONNECTION_BYTES);
    profile + size_of::<Device>() + metadata + memberships
}

/// Returns about how many bytes a channel takes that only lost connections hold.
pub(crate) fn weight_of_lost_channel(shards: usize) -> usize {
    size_of::<ChannelCore>() + size_of::<super::ChannelPresence>() + ROSTER_BYTES + shards * 8
}

/// Bytes of a user's entry in `People`, with an empty profile.
const PERSON_BYTES: usize = size_of::<Person>() + 3 * size_of::<Device>() + 128;
/// Bytes of a member with one connection in a roster that others are in as well.
const CONNECTION_BYTES: usize = size_of::<Member>() + size_of::<UserId>() + size_of::<MemberConnection>();
/// Bytes of the tree of a roster with one entry, and of the other allocations of a channel: names, lists, map
/// entries.
const ROSTER_BYTES: usize = 11 * (size_of::<Member>() + size_of::<UserId>()) + 680;
