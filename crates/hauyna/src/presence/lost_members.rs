//! What lost connections leave behind: their places in channels, taken away before their time where others need the room,
//! and what all of it weighs. Called by `session` and by whoever makes a channel.

use super::change::Roster;
use super::members::{Member, MemberConnection};
use super::people::{Device, Person};
use crate::channel::{ChannelCore, UserId};
use crate::connection::{ConnectionCore, ConnectionId};
use crate::hub::HubCore;
use std::sync::Arc;

/// A lost connection leaves one channel. Where nobody uses the channel any more, the caller retires it.
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

/// The channel that lost connections alone have held for the longest time gives way. Returns `false` where there is none.
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

/// Bytes that a connection takes in the rosters, about; without what channels take that it holds alone.
pub(crate) fn weight(hub: &HubCore, core: &ConnectionCore) -> usize {
    let mut people = hub.presence.stripe(core.user());
    let Some(person) = people.get_mut(core.user().as_str()) else { return 0 };
    let profile = PERSON_BYTES + 3 * person.profile.text.len();
    let Some(device) = person.device_mut(core.id()) else { return 0 };
    let metadata = device.metadata.as_ref().map_or(0, |metadata| metadata.len());
    let places = device.channels.len() * (size_of::<Arc<ChannelCore>>() + CONNECTION_BYTES);
    profile + size_of::<Device>() + metadata + places
}

/// Bytes of a channel that lost connections alone hold.
pub(crate) fn weight_of_lost_channel(shards: usize) -> usize {
    size_of::<ChannelCore>() + size_of::<super::ChannelPresence>() + ROSTER_BYTES + shards * 8
}

/// Bytes of a user's entry among the present, and of an empty profile.
const PERSON_BYTES: usize = size_of::<Person>() + 3 * size_of::<Device>() + 128;
/// Bytes of a place in a roster that others are in, too.
const CONNECTION_BYTES: usize = size_of::<Member>() + size_of::<UserId>() + size_of::<MemberConnection>();
/// Bytes of the tree of a roster with one entry, and of what else a channel has allocated: names, lists, places in maps.
const ROSTER_BYTES: usize = 11 * (size_of::<Member>() + size_of::<UserId>()) + 680;
