//! What changes the rosters: joining and leaving a channel, tracking, metadata, the grace time. Every change is
//! numbered and sent under the user's lock and the channel's, so a list and the changes after it never race.

use super::agenda::Task;
use super::entry::Profile;
use super::members::{Hold, Members, Place, Replaced};
use super::message;
use super::people::{Device, Part, Person};
use super::telling::{Told, tell, tell_hub, tell_watched};
use super::{PresenceOptions, Scope};
use crate::channel::{ChannelCore, Subscription, UserId};
use crate::connection::{ConnectionCore, ConnectionId};
use crate::error::Error;
use crate::event::SystemKind;
use crate::hub::HubCore;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The presence of one channel.
#[derive(Debug)]
pub(crate) struct ChannelPresence {
    pub(super) options: PresenceOptions,
    members: Mutex<Members>,
    /// Places of lost connections: the channel stays while there are any.
    ghosts: AtomicUsize,
}

/// How a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// For good.
    Gone,
    /// It may come back within the grace time.
    Lost,
    /// It may come back as long as its session is kept.
    Kept,
}

impl Departure {
    /// Who has what the connection was; nobody where it goes at once.
    fn hold(self, grace: Duration) -> Option<Hold> {
        match self {
            Self::Kept => Some(Hold::Kept),
            Self::Lost if !grace.is_zero() => Some(Hold::Free),
            Self::Lost | Self::Gone => None,
        }
    }
}

impl ChannelPresence {
    pub(crate) fn new(options: PresenceOptions) -> Self {
        Self { options, members: Mutex::new(Members::new(options)), ghosts: AtomicUsize::new(0) }
    }

    pub(crate) fn has_ghosts(&self) -> bool {
        self.ghosts.load(Ordering::Relaxed) > 0
    }

    pub(super) fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock()
    }

    fn count_ghosts(&self, members: &Members) {
        self.ghosts.store(members.ghosts, Ordering::Relaxed);
    }
}

/// Takes a subscriber in, in the place of a lost connection where there is one: `go_live` subscribes it, then it gets
/// the list, and everybody else the change.
///
/// # Errors
///
/// Those of `go_live`; then nothing has changed.
pub(crate) fn join(
    hub: &HubCore,
    (subscription, replaces): (&Subscription, Option<ConnectionId>),
    go_live: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let (channel, core) = (&subscription.channel, &subscription.connection);
    let Some(presence) = &channel.presence else { return go_live() };
    let mut people = hub.presence.part(core.user());
    let mut members = presence.members();
    go_live()?;
    let now = crate::clock::unix_ms();
    let (was_visible, person) = person(&mut people, core.user(), now);
    let place = Place::new(core.id(), subscription.metadata.lock().clone(), now);
    let (step, Replaced(lost)) = members.enter(core.user(), (place, replaces), &person.profile);
    if let Some(lost) = lost.and_then(|lost| person.known(lost)) {
        lost.channels.retain(|other| !Arc::ptr_eq(other, channel));
        person.devices.retain(Device::is_needed);
    }
    person.device(core.id(), now).channels.push(channel.clone());
    presence.count_ghosts(&members);
    let before = members.settle_mode(presence.options);
    core.push_control(message::welcome(&mut members, channel, core));
    core.request_flush();
    let told = Told { user: core.user(), step, left: None, except: Some(core.id()) };
    tell(hub, channel, &mut members, (before, told));
    drop(members);
    tell_hub(hub, core.user(), person, was_visible);
    Ok(())
}

/// Takes a subscriber out, or lets it be lost for a while: `take_out` unsubscribes it.
pub(crate) fn leave<R>(
    hub: &HubCore,
    subscription: &Subscription,
    departure: Departure,
    take_out: impl FnOnce() -> R,
) -> R {
    let (channel, core) = (&subscription.channel, &subscription.connection);
    let Some(presence) = &channel.presence else { return take_out() };
    let user = core.user();
    let mut people = hub.presence.part(user);
    let mut members = presence.members();
    if let Some(hold) = departure.hold(hub.config.presence_grace) {
        members.lose(user, core.id(), hold);
        // Before the channel is looked at: it must not go with its last subscriber.
        presence.count_ghosts(&members);
        return take_out();
    }
    let result = take_out();
    let was_visible = people.get(user.as_str()).is_some_and(Person::is_visible);
    out_of(hub, channel, &mut members, (user, core.id()));
    drop(members);
    if let Some(person) = people.get_mut(user.as_str()) {
        if let Some(device) = person.known(core.id()) {
            device.channels.retain(|other| !Arc::ptr_eq(other, channel));
        }
        person.devices.retain(Device::is_needed);
        tell_hub(hub, user, person, was_visible);
    }
    remove_empty(&mut people, user);
    result
}

/// A connection is gone from all its channels: what it was besides ends, now or after the grace time.
pub(crate) fn depart(hub: &HubCore, core: &ConnectionCore, departure: Departure) {
    let user = core.user();
    let mut people = hub.presence.part(user);
    let Some(person) = people.get_mut(user.as_str()) else { return };
    let was_visible = person.is_visible();
    let Some(device) = person.known(core.id()) else { return };
    let grace = hub.config.presence_grace;
    if let Some(hold) = departure.hold(grace) {
        device.hold = hold;
        if hold == Hold::Free {
            hub.presence.agenda.add(grace, Task::Expire(user.clone(), core.id()));
        }
        return;
    }
    let (id, counted) = (core.id(), device.is_visible());
    let was_watched = person.is_watched();
    person.devices.retain(|device| device.connection != id);
    if counted {
        tell_hub(hub, user, person, was_visible);
    }
    tell_watched(hub, user, person, was_watched);
    remove_empty(&mut people, user);
}

/// What a lost connection was besides its subscriptions is the one's that goes on with its session. Channels that it
/// has not come back to are left now.
pub(crate) fn inherit(hub: &HubCore, old: &ConnectionCore, new: &ConnectionCore) {
    let user = new.user();
    let mut people = hub.presence.part(user);
    let Some(person) = people.get_mut(user.as_str()) else { return };
    let Some(index) = person.devices.iter().position(|device| device.connection == old.id()) else { return };
    let was_visible = person.is_visible();
    let lost = person.devices.swap_remove(index);
    for channel in &lost.channels {
        if let Some(presence) = &channel.presence {
            out_of(hub, channel, &mut presence.members(), (user, old.id()));
        }
    }
    // One that is closed again by now is taken out later, with all of this.
    if lost.is_tracked || lost.is_watched {
        let device = person.device(new.id(), lost.joined_at);
        device.is_tracked |= lost.is_tracked;
        device.is_watched |= lost.is_watched;
        device.metadata = device.metadata.take().or(lost.metadata);
    }
    tell_hub(hub, user, person, was_visible);
    remove_empty(&mut people, user);
    drop(people);
    for channel in &lost.channels {
        hub.retire(channel);
    }
}

/// The grace time of a lost connection is over, or its session has ended.
pub(crate) fn expire(hub: &HubCore, user: &UserId, connection: ConnectionId) {
    let mut people = hub.presence.part(user);
    let Some(person) = people.get_mut(user.as_str()) else { return };
    let (was_visible, was_watched) = (person.is_visible(), person.is_watched());
    let Some(device) = person.known(connection).filter(|device| device.hold != Hold::Live) else { return };
    let counted = device.is_visible();
    let channels = std::mem::take(&mut device.channels);
    person.devices.retain(|device| device.connection != connection);
    for channel in &channels {
        if let Some(presence) = &channel.presence {
            out_of(hub, channel, &mut presence.members(), (user, connection));
        }
    }
    if counted {
        tell_hub(hub, user, person, was_visible);
    }
    tell_watched(hub, user, person, was_watched);
    remove_empty(&mut people, user);
    drop(people);
    for channel in &channels {
        hub.retire(channel);
    }
}

/// Takes one place out of a channel's roster, and tells it.
fn out_of(
    hub: &HubCore,
    channel: &Arc<ChannelCore>,
    members: &mut Members,
    (user, connection): (&UserId, ConnectionId),
) {
    let Some(presence) = &channel.presence else { return };
    let Some((step, left)) = members.leave(user, connection) else { return };
    presence.count_ghosts(members);
    let before = members.settle_mode(presence.options);
    let told = Told { user, step: Some(step), left: Some(&left), except: None };
    tell(hub, channel, members, (before, told));
}

/// Makes a connection's user present over the hub.
///
/// # Errors
///
/// `limit_exceeded` where the metadata is too long; the connection is closed.
pub(super) fn track(hub: &HubCore, core: &ConnectionCore, fields: Map<String, Value>) -> Result<(), Error> {
    let user = core.user();
    let mut people = hub.presence.part(user);
    // Under the lock that `depart` takes: a connection that goes now is found there.
    if !core.is_open() {
        return Err(Error::closed());
    }
    let now = crate::clock::unix_ms();
    let known = people.get(user.as_str()).filter(|person| person.is_visible());
    let known = known.map(|person| person.profile.clone());
    let profile = known.unwrap_or_else(|| Profile::empty(now)).merged(fields, now)?;
    let (was_visible, person) = person(&mut people, user, now);
    if !person.known(core.id()).is_some_and(|device| device.is_tracked) {
        person.relieve(|device| std::mem::take(&mut device.is_tracked));
    }
    person.device(core.id(), now).is_tracked = true;
    set_profile(hub, user, person, profile);
    tell_hub(hub, user, person, was_visible);
    Ok(())
}

/// Ends what `track` began.
pub(super) fn untrack(hub: &HubCore, core: &ConnectionCore) {
    let user = core.user();
    let mut people = hub.presence.part(user);
    let Some(person) = people.get_mut(user.as_str()) else { return };
    let was_visible = person.is_visible();
    if let Some(device) = person.known(core.id()) {
        device.is_tracked = false;
    }
    person.devices.retain(Device::is_needed);
    tell_hub(hub, user, person, was_visible);
    remove_empty(&mut people, user);
}

/// Changes some fields of a user's metadata, in every channel that shows the user.
///
/// # Errors
///
/// `not_subscribed` where the user is not present; `limit_exceeded`.
pub(super) fn update(hub: &HubCore, user: &str, fields: Map<String, Value>) -> Result<(), Error> {
    let mut people = hub.presence.part(user);
    let known = people.get_key_value(user).filter(|(_, person)| person.is_visible());
    let user = known.map(|(user, _)| user.clone()).ok_or_else(super::not_present)?;
    let person = people.get_mut(user.as_str()).ok_or_else(super::not_present)?;
    let profile = person.profile.merged(fields, crate::clock::unix_ms())?;
    set_profile(hub, &user, person, profile);
    tell_hub(hub, &user, person, true);
    Ok(())
}

fn set_profile(hub: &HubCore, user: &UserId, person: &mut Person, profile: Arc<Profile>) {
    if person.profile.text == profile.text {
        return;
    }
    person.profile = profile;
    for channel in person.channels() {
        let Some(presence) = &channel.presence else { continue };
        let mut members = presence.members();
        let step = members.set_profile(user, &person.profile);
        let before = members.settle_mode(presence.options);
        tell(hub, &channel, &mut members, (before, Told { user, step, left: None, except: None }));
    }
}

/// Replaces what one connection says about itself: over the hub, or in one channel.
///
/// # Errors
///
/// `not_subscribed` where the connection is not present there.
pub(super) fn describe(
    hub: &HubCore,
    core: &ConnectionCore,
    scope: Scope<'_>,
    metadata: Option<Arc<str>>,
) -> Result<(), Error> {
    let user = core.user();
    let mut people = hub.presence.part(user);
    let person = people.get_mut(user.as_str()).ok_or_else(super::not_present)?;
    let device = person.known(core.id()).filter(|device| device.is_visible());
    let device = device.ok_or_else(super::not_present)?;
    let Scope::Channel(channel, presence) = scope else {
        device.metadata = metadata;
        tell_hub(hub, user, person, true);
        return Ok(());
    };
    let mut members = presence.members();
    let step = members.describe(user, core.id(), metadata);
    let before = members.settle_mode(presence.options);
    tell(hub, channel, &mut members, (before, Told { user, step, left: None, except: None }));
    Ok(())
}

fn person<'a>(people: &'a mut Part, user: &UserId, now: u64) -> (bool, &'a mut Person) {
    let person = people.entry(user.clone()).or_insert_with(|| Person::new(now));
    let was_visible = person.is_visible();
    if !was_visible {
        // One who is only watched has told nothing yet, or has left since.
        (person.joined_at, person.profile) = (now, Profile::empty(now));
    }
    (was_visible, person)
}

fn remove_empty(people: &mut Part, user: &UserId) {
    if people.get(user.as_str()).is_some_and(|person| person.devices.is_empty()) {
        people.remove(user.as_str());
        if people.capacity() > 8 * (people.len() + 16) {
            people.shrink_to_fit();
        }
    }
}

/// The watched connections of a user, and what listeners hear of the first and the last.
pub(crate) fn watch(hub: &HubCore, core: &ConnectionCore) {
    if !hub.events.wants(&[SystemKind::UserOnline, SystemKind::UserOffline]) {
        return;
    }
    let user = core.user();
    let mut people = hub.presence.part(user);
    if !core.is_open() {
        return;
    }
    let now = crate::clock::unix_ms();
    let (_, person) = person(&mut people, user, now);
    let was_watched = person.is_watched();
    if !person.known(core.id()).is_some_and(|device| device.is_watched) {
        person.relieve(|device| std::mem::take(&mut device.is_watched));
    }
    person.device(core.id(), now).is_watched = true;
    tell_watched(hub, user, person, was_watched);
}
