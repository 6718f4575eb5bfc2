//! The two guards of a change: `Change` locks one user, `Roster` locks one channel. When the change is over,
//! each does what every change needs: it compares with the state before, notifies, removes what is empty, and
//! removes channels that nobody uses any more. Called by `changes`, whose functions contain only what
//! differs.

use super::changes::ChannelPresence;
use super::entry::Profile;
use super::members::{Members, Mode};
use super::notify::{Notice, notify_hub, notify_subscribers, notify_watched};
use super::people::{Device, People, Person, Stripe};
use crate::channel::ChannelCore;
use crate::event::PresenceChange;
use crate::hub::HubCore;
use crate::stripes::is_sparse;
use hauyna_broker::{ConnectionId, UserId};
use parking_lot::MutexGuard;
use std::sync::Arc;

impl People {
    /// Changes one user under the lock of the user's stripe. Afterwards it notifies listeners, removes the
    /// user where no connection is left, and removes the channels that the user has left and nobody uses.
    pub(super) fn change<R>(
        &self,
        hub: &HubCore,
        user: &UserId,
        change: impl FnOnce(&mut Change<'_>) -> R,
    ) -> R {
        let stripe = self.stripe(user);
        let person = stripe.get(user.as_str());
        let was_visible = person.is_some_and(Person::is_visible);
        let was_watched = person.is_some_and(Person::is_watched);
        let mut changing = Change {
            hub,
            user,
            stripe,
            was_visible,
            was_watched,
            is_announced: false,
            left_channels: Vec::new(),
        };
        let result = change(&mut changing);
        for channel in changing.finish() {
            hub.remove_channel(&channel);
        }
        result
    }
}

/// A change of one user, under the lock of the user's stripe.
pub(super) struct Change<'a> {
    hub: &'a HubCore,
    user: &'a UserId,
    stripe: MutexGuard<'a, Stripe>,
    was_visible: bool,
    was_watched: bool,
    /// Whether listeners are notified of this change.
    is_announced: bool,
    /// Channels that a connection of the user was removed from.
    left_channels: Vec<Arc<ChannelCore>>,
}

impl Change<'_> {
    /// Returns the user, where there is an entry for it.
    pub(super) fn person(&mut self) -> Option<&mut Person> {
        self.stripe.get_mut(self.user.as_str())
    }

    /// Returns the user, inserted where there is no entry yet. A user that was not present starts with an
    /// empty profile.
    pub(super) fn person_or_insert(&mut self, now: u64) -> &mut Person {
        let person = self.stripe.entry(self.user.clone()).or_insert_with(|| Person::new(now));
        if !self.was_visible {
            (person.joined_at, person.profile) = (now, Profile::empty(now));
        }
        person
    }

    /// Returns a connection of the user.
    pub(super) fn device(&mut self, connection: ConnectionId) -> Option<&mut Device> {
        self.person()?.device_mut(connection)
    }

    /// Makes the end of this change notify listeners.
    pub(super) fn mark_announced(&mut self) {
        self.is_announced = true;
    }

    /// Removes a connection of the user from all of its channels, and from the user.
    pub(super) fn remove_device(&mut self, connection: ConnectionId) -> Option<Device> {
        let person = self.person()?;
        let index = person.devices.iter().position(|device| device.connection == connection)?;
        let device = person.devices.remove(index);
        for channel in &device.channels {
            if let Some(mut roster) = Roster::of(self.hub, channel) {
                roster.remove(self.user, connection);
            }
        }
        self.left_channels.extend(device.channels.iter().cloned());
        Some(device)
    }

    /// Replaces the user's profile, in every channel that shows the user.
    pub(super) fn set_profile(&mut self, profile: Arc<Profile>) {
        let (hub, user) = (self.hub, self.user);
        let Some(person) = self.person() else { return };
        if person.profile.metadata == profile.metadata {
            return;
        }
        person.profile = profile;
        for channel in person.channels() {
            let Some(mut roster) = Roster::of(hub, &channel) else { continue };
            let step = roster.members.set_profile(user, &person.profile);
            roster.update_mode();
            roster.notify(Notice { user, step, member_before: None, connection: None, except: None });
        }
    }

    /// Notifies listeners and removes what is empty. Returns the channels that were left.
    fn finish(mut self) -> Vec<Arc<ChannelCore>> {
        let (hub, user, was_visible, was_watched) = (self.hub, self.user, self.was_visible, self.was_watched);
        let is_announced = self.is_announced;
        let Some(person) = self.person() else { return self.left_channels };
        person.devices.retain(Device::is_needed);
        if is_announced {
            notify_hub(hub, user, person, was_visible);
        }
        notify_watched(hub, user, person, was_watched);
        if person.devices.is_empty() {
            let stripe = &mut self.stripe;
            stripe.remove(user.as_str());
            if is_sparse(stripe.capacity(), stripe.len(), 16) {
                stripe.shrink_to_fit();
            }
        }
        self.left_channels
    }
}

/// A change of one channel's roster, under its lock.
pub(super) struct Roster<'a> {
    hub: &'a HubCore,
    channel: &'a Arc<ChannelCore>,
    presence: &'a ChannelPresence,
    pub(super) members: MutexGuard<'a, Members>,
    /// The mode before the change.
    mode_before: Mode,
}

impl<'a> Roster<'a> {
    /// Locks the roster of a channel that has presence.
    pub(super) fn of(hub: &'a HubCore, channel: &'a Arc<ChannelCore>) -> Option<Self> {
        let presence = channel.presence.as_deref()?;
        let members = presence.members();
        let before = members.mode;
        Some(Self { hub, channel, presence, members, mode_before: before })
    }

    /// Publishes the count of lost connections: while there are any, the channel stays.
    pub(super) fn update_lost_count(&self) {
        self.presence.update_lost_count(&self.members);
    }

    /// Chooses the mode from now on. It runs before anybody is notified.
    pub(super) fn update_mode(&mut self) {
        self.update_lost_count();
        self.mode_before = self.members.update_mode(self.presence.options);
    }

    /// Notifies the subscribers, and the listeners of the hub.
    pub(super) fn notify(&mut self, notice: Notice<'_>) {
        notify_subscribers(self.hub, self.channel, &mut self.members, self.mode_before, notice);
    }

    /// Removes one connection and notifies.
    pub(super) fn remove(&mut self, user: &UserId, connection: ConnectionId) {
        let Some((step, member_before)) = self.members.leave(user, connection) else { return };
        self.update_mode();
        self.notify(Notice {
            user,
            step: Some(step),
            member_before: Some(&member_before),
            connection: None,
            except: None,
        });
    }

    /// Replaces the metadata of one connection and notifies.
    pub(super) fn set_connection_metadata(
        &mut self,
        user: &UserId,
        connection: ConnectionId,
        metadata: Option<Arc<str>>,
    ) {
        let step: Option<PresenceChange> = self.members.set_connection_metadata(user, connection, metadata);
        self.update_mode();
        self.notify(Notice { user, step, member_before: None, connection: Some(connection), except: None });
    }
}
