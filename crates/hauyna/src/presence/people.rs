//! Who is present over the hub: every user with a connection that was tracked, stands in a channel with presence,
//! or is watched for `on_user_online`. Pure data by user, many locks; `flow` changes it.

use super::entry::{PresenceEntry, PresentConnection, Profile, parsed};
use super::members::HeldBy;
use super::timers::Timers;
use crate::channel::{ChannelCore, UserId};
use crate::connection::ConnectionId;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Every user who is present, in parts that have a lock each.
#[derive(Debug)]
pub(crate) struct People {
    hasher: RandomState,
    parts: Box<[Mutex<Stripe>]>,
    pub(super) timers: Timers,
}

/// The users of one lock. `RandomState`: the names come from clients.
pub(super) type Stripe = HashMap<UserId, Person>;

/// One user.
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
    /// The application called `track`.
    pub(super) is_tracked: bool,
    /// It counts for `on_user_online`.
    pub(super) is_watched: bool,
    /// The channels with presence that it is in.
    pub(super) channels: Vec<Arc<ChannelCore>>,
    pub(super) held_by: HeldBy,
}

impl People {
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            parts: (0..STRIPES).map(|_| Mutex::default()).collect(),
            timers: Timers::default(),
        }
    }

    pub(super) fn stripe(&self, user: &str) -> MutexGuard<'_, Stripe> {
        self.parts[self.hasher.hash_one(user) as usize % STRIPES].lock()
    }

    /// Looks at everybody who is visible, one part after the other.
    pub(super) fn for_each_visible(&self, mut look: impl FnMut(&UserId, &Person)) {
        for part in &self.parts {
            part.lock()
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

    /// The device of a connection, made where it has none.
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

    /// Whether the user is present, and not merely watched.
    pub(super) fn is_visible(&self) -> bool {
        self.devices.iter().any(Device::is_visible)
    }

    pub(super) fn is_watched(&self) -> bool {
        self.devices.iter().any(|device| device.is_watched)
    }

    /// Takes a role from one device without a connection and a session that has it: the connection that comes has it
    /// now.
    pub(super) fn release_role(&mut self, role: impl Fn(&mut Device) -> bool) {
        let relieved = self
            .devices
            .iter_mut()
            .filter(|device| device.held_by == HeldBy::Nobody)
            .find_map(|device| role(device).then_some(()));
        if relieved.is_some() {
            self.devices.retain(Device::is_needed);
        }
    }

    /// The channels with presence that the user is in, each once.
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
    /// It is not in a channel any more.
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

const STRIPES: usize = 64;
