//! Who is present over the hub: every user with a connection that is tracked, is in a channel with presence,
//! or is watched for `UserOnline`. Pure data by user, under striped locks; `changes` changes it, `query`
//! reads it.

use super::entry::{PresenceEntry, PresentConnection, Profile, parsed};
use super::members::HeldBy;
use super::timers::Timers;
use crate::channel::ChannelCore;
use crate::stripes::Stripes;
use hauyna_broker::{ConnectionId, UserId};
use parking_lot::MutexGuard;
use std::collections::HashMap;
use std::sync::Arc;

/// Every present or watched user, in stripes that have a lock each.
#[derive(Debug)]
pub(crate) struct People {
    stripes: Stripes<Stripe>,
    pub(super) timers: Timers,
}

/// The users of one stripe.
pub(super) type Stripe = HashMap<UserId, Person>;

/// One user and their connections.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) profile: Arc<Profile>,
    pub(super) joined_at: u64,
    pub(super) devices: Vec<Device>,
}

/// One connection of a user.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) connection: ConnectionId,
    pub(super) metadata: Option<Arc<str>>,
    pub(super) joined_at: u64,
    /// Whether the application called `track`.
    pub(super) is_tracked: bool,
    /// Whether it counts for `UserOnline`.
    pub(super) is_watched: bool,
    /// The channels with presence that the connection is in.
    pub(super) channels: Vec<Arc<ChannelCore>>,
    pub(super) held_by: HeldBy,
}

impl People {
    pub(crate) fn new() -> Self {
        Self { stripes: Stripes::new(), timers: Timers::default() }
    }

    pub(super) fn stripe(&self, user: &str) -> MutexGuard<'_, Stripe> {
        self.stripes.lock(user)
    }

    /// Whether the user counts as online.
    pub(crate) fn is_watched(&self, user: &str) -> bool {
        self.stripe(user).get(user).is_some_and(Person::is_watched)
    }

    /// Calls `look` for every visible user, one stripe after the other.
    pub(super) fn for_each_visible(&self, mut look: impl FnMut(&UserId, &Person)) {
        for stripe in self.stripes.iter() {
            stripe
                .lock()
                .iter()
                .filter(|(_, person)| person.is_visible())
                .for_each(|(user, person)| look(user, person));
        }
    }
}

impl Person {
    pub(super) fn new(now: u64) -> Self {
        Self { profile: Profile::empty(now), joined_at: now, devices: Vec::new() }
    }

    /// Returns the device of a connection, inserted where there is none.
    pub(super) fn device_or_insert(&mut self, connection: ConnectionId, now: u64) -> &mut Device {
        let index = self.devices.iter().position(|device| device.connection == connection);
        let index = index.unwrap_or_else(|| {
            self.devices.push(Device {
                connection,
                metadata: None,
                joined_at: now,
                is_tracked: false,
                is_watched: false,
                channels: Vec::new(),
                held_by: HeldBy::Connection,
            });
            self.devices.len() - 1
        });
        let device = &mut self.devices[index];
        if !device.is_visible() {
            (device.metadata, device.joined_at) = (None, now);
        }
        device
    }

    pub(super) fn device_mut(&mut self, connection: ConnectionId) -> Option<&mut Device> {
        self.devices.iter_mut().find(|device| device.connection == connection)
    }

    /// Whether the user is present, and not only watched.
    pub(super) fn is_visible(&self) -> bool {
        self.devices.iter().any(Device::is_visible)
    }

    pub(super) fn is_watched(&self) -> bool {
        self.devices.iter().any(|device| device.is_watched)
    }

    /// Clears a flag on one device that nobody holds, because a new connection takes it over. `role` clears
    /// the flag and returns whether it was set.
    pub(super) fn release_role(&mut self, role: impl Fn(&mut Device) -> bool) {
        let released = self
            .devices
            .iter_mut()
            .filter(|device| device.held_by == HeldBy::Nobody)
            .find_map(|device| role(device).then_some(()));
        if released.is_some() {
            self.devices.retain(Device::is_needed);
        }
    }

    /// Returns the channels with presence that the user is in, each once.
    pub(super) fn channels(&self) -> Vec<Arc<ChannelCore>> {
        let mut channels: Vec<Arc<ChannelCore>> = Vec::new();
        for channel in self.devices.iter().flat_map(|device| &device.channels) {
            if !channels.iter().any(|known| Arc::ptr_eq(known, channel)) {
                channels.push(channel.clone());
            }
        }
        channels
    }

    pub(super) fn entry(&self, user: &UserId) -> PresenceEntry {
        let devices = self.devices.iter().filter(|device| device.is_visible());
        let connections = devices.map(|device| PresentConnection {
            connection_id: device.connection,
            metadata: parsed(device.metadata.as_deref()),
            joined_at: device.joined_at,
            channels: device.channels.iter().map(|channel| channel.name.clone()).collect(),
        });
        PresenceEntry {
            user: user.clone(),
            status: self.profile.status().into(),
            metadata: self.profile.metadata.clone().into(),
            joined_at: self.joined_at,
            updated_at: self.profile.updated_at,
            connections: connections.collect(),
        }
    }
}

impl Device {
    /// Removes a channel from those that the device is in.
    pub(super) fn leave(&mut self, channel: &Arc<ChannelCore>) {
        self.channels.retain(|other| !Arc::ptr_eq(other, channel));
    }

    pub(super) fn is_visible(&self) -> bool {
        self.is_tracked || !self.channels.is_empty()
    }

    pub(super) fn is_needed(&self) -> bool {
        self.is_visible() || self.is_watched
    }
}
