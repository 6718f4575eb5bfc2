//! Notifies of changes: the subscribers of the channel, at once or later, depending on its mode, and the
//! listeners of the hub. Called by `change` under its locks, and by `timers`.

use super::members::{Member, Members, Mode};
use super::message;
use super::people::Person;
use super::timers::Task;
use crate::channel::{ChannelCore, announce_except};
use crate::event::{PresenceChange, emit};
use crate::hub::HubCore;
use hauyna_broker::{ChannelName, ConnectionId, UserId};
use std::sync::Arc;

/// One change of one user in a channel, to notify of.
#[derive(Clone, Copy)]
pub(super) struct Notice<'a> {
    pub(super) user: &'a UserId,
    pub(super) step: Option<PresenceChange>,
    /// The member as it was before, where it has left.
    pub(super) member_before: Option<&'a Member>,
    /// The connection that joined, or whose metadata changed.
    pub(super) connection: Option<ConnectionId>,
    /// The connection that is not notified.
    pub(super) except: Option<ConnectionId>,
}

/// Notifies the subscribers of a channel, at once or by a timer, depending on its mode; and the listeners.
pub(super) fn notify_subscribers(
    hub: &HubCore,
    channel: &Arc<ChannelCore>,
    members: &mut Members,
    mode_before: Mode,
    notice: Notice<'_>,
) {
    let Some(presence) = &channel.presence else { return };
    let name = &channel.name;
    if let Some(step) = notice.step {
        emit_presence_change(hub, notice.user, Some(name), step);
    }
    if members.users.is_empty() {
        return;
    }
    match (mode_before, members.mode) {
        (Mode::Occupancy, Mode::Diff | Mode::Each) => {
            message::with_state(members, name.as_str(), |state| {
                announce_except(hub, channel, state, notice.except);
            });
        }
        (Mode::Each | Mode::Diff, Mode::Occupancy) => notify_count(hub, channel, members),
        (_, Mode::Each) => {
            let Some(step) = notice.step else { return };
            message::with_change(members, name.as_str(), step, &notice, |change| {
                announce_except(hub, channel, change, notice.except);
            });
        }
        (_, Mode::Diff | Mode::Occupancy) => {
            if notice.step.is_some() && !std::mem::replace(&mut members.is_due, true) {
                let ticks = if members.mode == Mode::Diff { 1 } else { 4 };
                hub.presence.timers.add(
                    hub,
                    presence.options.tick.saturating_mul(ticks),
                    Task::NotifyChannel(channel.clone()),
                );
            }
        }
    }
}

fn notify_count(hub: &HubCore, channel: &Arc<ChannelCore>, members: &mut Members) {
    if let Some(count) = members.take_count() {
        let occupancy =
            hauyna_protocol::Message::Occupancy { channel: channel.name.as_str(), count: count as u64 };
        announce_except(hub, channel, &occupancy, None);
    }
}

/// Sends the changes that a channel has gathered.
pub(super) fn notify_pending(hub: &HubCore, channel: &Arc<ChannelCore>) {
    let Some(presence) = &channel.presence else { return };
    let mut members = presence.members();
    members.is_due = false;
    if members.users.is_empty() {
        members.take_changes();
        return;
    }
    match members.mode {
        Mode::Occupancy => notify_count(hub, channel, &mut members),
        Mode::Each => {}
        Mode::Diff => {
            let changes = members.take_changes();
            if !changes.is_empty() {
                message::with_diff(&members, channel.name.as_str(), &changes, |diff| {
                    announce_except(hub, channel, diff, None);
                });
            }
            members.update_mode(presence.options);
        }
    }
}

/// Notifies listeners when the first connection of a user has come, or the last one is gone. In a cluster,
/// the directory says whether it was the first or the last one of all nodes.
pub(super) fn notify_watched(hub: &HubCore, user: &UserId, person: &Person, was_watched: bool) {
    if hub.cluster.is_some() {
        if was_watched != person.is_watched() {
            hub.note_user(user);
        }
        return;
    }
    match (was_watched, person.is_watched()) {
        (false, true) => emit!(hub.events, UserOnline { user: user.clone() }),
        (true, false) => emit!(hub.events, UserOffline { user: user.clone() }),
        _ => {}
    }
}

/// Notifies listeners of a user's presence over the hub.
pub(super) fn notify_hub(hub: &HubCore, user: &UserId, person: &Person, was_visible: bool) {
    let change = match (was_visible, person.is_visible()) {
        (false, false) => return,
        (false, true) => PresenceChange::Join,
        (true, false) => PresenceChange::Leave,
        (true, true) => PresenceChange::Update,
    };
    emit_presence_change(hub, user, None, change);
}

fn emit_presence_change(hub: &HubCore, user: &UserId, channel: Option<&ChannelName>, change: PresenceChange) {
    emit!(hub.events, PresenceChanged { user: user.clone(), channel: channel.cloned(), change });
}
