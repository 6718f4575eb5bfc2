//! What changes the rosters: joining and leaving a channel, tracking, metadata, the grace time. Every change is
//! numbered and sent under the user's lock and the channel's, so a list and the changes after it never race. What all
//! changes have in common is done by the guards of `change`.

use super::change::{Change, Roster};
use super::entry::Profile;
use super::members::{HeldBy, MemberConnection, Members, Replaced};
use super::message;
use super::notify::Notice;
use super::people::Person;
use super::timers::Task;
use super::{PresenceOptions, Scope, Subject};
use crate::channel::{Subscription, UserId};
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
    lost_count: AtomicUsize,
}

/// How a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DepartureKind {
    /// For good.
    Gone,
    /// It may come back within the grace time.
    Lost,
    /// It may come back as long as its session is kept.
    Kept,
}

impl DepartureKind {
    /// Who has what the connection was; nobody where it goes at once.
    fn held_by(self, grace: Duration) -> Option<HeldBy> {
        match self {
            Self::Kept => Some(HeldBy::Session),
            Self::Lost if !grace.is_zero() => Some(HeldBy::Nobody),
            Self::Lost | Self::Gone => None,
        }
    }
}

impl ChannelPresence {
    pub(crate) fn new(options: PresenceOptions) -> Self {
        Self { options, members: Mutex::new(Members::new(options)), lost_count: AtomicUsize::new(0) }
    }

    pub(crate) fn has_lost_members(&self) -> bool {
        self.lost_count.load(Ordering::Relaxed) > 0
    }

    pub(super) fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock()
    }

    pub(super) fn update_lost_count(&self, members: &Members) {
        self.lost_count.store(members.lost_count, Ordering::Relaxed);
    }
}

/// Takes a subscriber in, in the place of a lost connection where there is one: `go_live` subscribes it, then it gets
/// the list, and everybody else the change. In a channel with presence, `announce` runs behind that.
///
/// # Errors
///
/// Those of `go_live`; then nothing has changed.
pub(crate) fn join(
    hub: &HubCore,
    (subscription, replaces): (&Subscription, Option<ConnectionId>),
    go_live: impl FnOnce() -> Result<(), Error>,
    announce: impl FnOnce(),
) -> Result<(), Error> {
    let (channel, core) = (&subscription.channel, &subscription.connection);
    if channel.presence.is_none() {
        return go_live();
    }
    let user = core.user();
    hub.presence.change(hub, user, |change| {
        let Some(mut roster) = Roster::of(hub, channel) else { return go_live() };
        go_live()?;
        let now = crate::clock::unix_ms();
        let person = change.person_or_insert(now);
        let place = MemberConnection::new(core.id(), subscription.metadata.lock().clone(), now);
        let (step, Replaced(lost)) = roster.members.enter(user, (place, replaces), &person.profile);
        if let Some(lost) = lost.and_then(|lost| person.device_mut(lost)) {
            lost.leave(channel);
        }
        person.device_or_insert(core.id(), now).channels.push(channel.clone());
        roster.update_mode();
        core.push_reply(message::welcome(&mut roster.members, channel, core));
        core.request_flush();
        let own = Some(core.id());
        roster.notify(Notice { user, step, member_before: None, connection: own, except: own });
        announce();
        change.mark_announced();
        Ok(())
    })
}

/// Takes a subscriber out, or lets it be lost for a while: `take_out` unsubscribes it, and returns `None` where it was not
/// in any more. In a channel with presence, `announce` runs behind what the others are told of that.
pub(crate) fn leave<R>(
    hub: &HubCore,
    subscription: &Subscription,
    departure: DepartureKind,
    take_out: impl FnOnce() -> Option<R>,
    announce: impl FnOnce(),
) -> Option<R> {
    let (channel, core) = (&subscription.channel, &subscription.connection);
    if channel.presence.is_none() {
        return take_out();
    }
    let user = core.user();
    hub.presence.change(hub, user, |change| {
        let Some(mut roster) = Roster::of(hub, channel) else { return take_out() };
        if let Some(hold) = departure.held_by(hub.config.presence_grace) {
            roster.members.mark_lost(user, core.id(), hold);
            // Before the channel is looked at: it must not go with its last subscriber.
            roster.update_lost_count();
            let result = take_out()?;
            announce();
            return Some(result);
        }
        let result = take_out()?;
        roster.remove(user, core.id());
        announce();
        if let Some(device) = change.device(core.id()) {
            device.leave(channel);
        }
        change.mark_announced();
        Some(result)
    })
}

/// A connection is gone from all its channels: what it was besides ends, now or after the grace time.
pub(crate) fn connection_gone(hub: &HubCore, core: &ConnectionCore, departure: DepartureKind) {
    hub.presence.change(hub, core.user(), |change| {
        let Some(device) = change.device(core.id()) else { return };
        let grace = hub.config.presence_grace;
        if let Some(hold) = departure.held_by(grace) {
            device.held_by = hold;
            if hold == HeldBy::Nobody {
                hub.presence.timers.add(hub, grace, Task::ExpireConnection(core.user().clone(), core.id()));
            }
            return;
        }
        remove(change, core.id());
    });
}

/// What a lost connection was besides its subscriptions is the one's that goes on with its session. Channels that it
/// has not come back to are left now.
pub(crate) fn take_over(hub: &HubCore, old: &ConnectionCore, new: &ConnectionCore) {
    hub.presence.change(hub, new.user(), |change| {
        let Some(lost) = change.remove_device(old.id()) else { return };
        // One that is closed again by now is taken out later, with all of this.
        if (lost.is_tracked || lost.is_watched)
            && let Some(person) = change.person()
        {
            let device = person.device_or_insert(new.id(), lost.joined_at);
            device.is_tracked |= lost.is_tracked;
            device.is_watched |= lost.is_watched;
            device.metadata = device.metadata.take().or(lost.metadata);
        }
        change.mark_announced();
    });
}

/// The grace time of a lost connection is over, or its session has ended.
pub(crate) fn expire(hub: &HubCore, user: &UserId, connection: ConnectionId) {
    hub.presence.change(hub, user, |change| {
        if change.device(connection).is_some_and(|device| device.held_by != HeldBy::Connection) {
            remove(change, connection);
        }
    });
}

/// Removes a connection. Listeners hear of it where it was to be seen.
fn remove(change: &mut Change<'_>, connection: ConnectionId) {
    let is_seen = change.device(connection).is_some_and(|device| device.is_visible());
    change.remove_device(connection);
    if is_seen {
        change.mark_announced();
    }
}

/// Makes a user present over the hub, by one connection or by all of theirs.
///
/// # Errors
///
/// `limit_exceeded` where the metadata is too long; the connection is closed; `not_subscribed` where the user has none.
pub(super) fn track(hub: &HubCore, subject: &Subject<'_>, fields: Map<String, Value>) -> Result<(), Error> {
    hub.presence.change(hub, subject.user(), |change| {
        // Under the lock that `depart` takes: a connection that goes now is found there.
        let connections = subject.connections(hub, change.person());
        if connections.is_empty() {
            return Err(subject.absent());
        }
        let now = crate::clock::unix_ms();
        let known = change.person().filter(|person| person.is_visible());
        let known = known.map(|person| person.profile.clone());
        let profile = known.unwrap_or_else(|| Profile::empty(now)).merged(fields, now)?;
        let person = change.person_or_insert(now);
        for connection in connections {
            if !person.device_mut(connection).is_some_and(|device| device.is_tracked) {
                person.release_role(|device| std::mem::take(&mut device.is_tracked));
            }
            person.device_or_insert(connection, now).is_tracked = true;
        }
        change.set_profile(profile);
        change.mark_announced();
        Ok(())
    })
}

/// Ends what `track` began.
pub(super) fn untrack(hub: &HubCore, subject: &Subject<'_>) {
    hub.presence.change(hub, subject.user(), |change| {
        let devices = change.person().into_iter().flat_map(|person| &mut person.devices);
        for device in devices.filter(|device| subject.is_about(device.connection)) {
            device.is_tracked = false;
        }
        change.mark_announced();
    });
}

/// Changes some fields of a user's metadata, in every channel that shows the user.
///
/// # Errors
///
/// `not_subscribed` where the user is not present; `limit_exceeded`.
pub(super) fn update(hub: &HubCore, user: &UserId, fields: Map<String, Value>) -> Result<(), Error> {
    hub.presence.change(hub, user, |change| {
        let person = change.person().filter(|person| person.is_visible()).ok_or_else(super::not_present)?;
        let profile = person.profile.merged(fields, crate::clock::unix_ms())?;
        change.set_profile(profile);
        change.mark_announced();
        Ok(())
    })
}

/// Replaces what one connection says about itself: over the hub, or in one channel.
///
/// # Errors
///
/// `not_subscribed` where the connection is not present there.
pub(super) fn set_connection_metadata(
    hub: &HubCore,
    core: &ConnectionCore,
    scope: Scope<'_>,
    metadata: Option<Arc<str>>,
) -> Result<(), Error> {
    hub.presence.change(hub, core.user(), |change| {
        if let Scope::Channel(subscription) = scope {
            // Under the lock, so that what was set last is what is shown.
            subscription.metadata.lock().clone_from(&metadata);
        }
        let device = change.device(core.id()).filter(|device| device.is_visible());
        let device = device.ok_or_else(super::not_present)?;
        match scope {
            Scope::Hub => {
                device.metadata = metadata;
                change.mark_announced();
            }
            Scope::Channel(subscription) => {
                if let Some(mut roster) = Roster::of(hub, &subscription.channel) {
                    roster.set_connection_metadata(core.user(), core.id(), metadata);
                }
            }
        }
        Ok(())
    })
}

/// The watched connections of a user, and what listeners hear of the first and the last.
pub(crate) fn watch_user(hub: &HubCore, core: &ConnectionCore) {
    if !hub.events.has_listener_for(&[SystemKind::UserOnline, SystemKind::UserOffline]) {
        return;
    }
    hub.presence.change(hub, core.user(), |change| {
        if !core.is_open() {
            return;
        }
        let now = crate::clock::unix_ms();
        let person = change.person_or_insert(now);
        if !person.device_mut(core.id()).is_some_and(|device| device.is_watched) {
            person.release_role(|device| std::mem::take(&mut device.is_watched));
        }
        person.device_or_insert(core.id(), now).is_watched = true;
    });
}

impl Subject<'_> {
    /// The live connections that it is about, and those whose sessions are kept.
    fn connections(&self, hub: &HubCore, person: Option<&mut Person>) -> Vec<ConnectionId> {
        match self {
            Self::Connection(core) => core.is_open().then(|| core.id()).into_iter().collect(),
            Self::User(user) => {
                let live = hub.registry.of_user(user);
                let live = live.iter().filter(|core| core.is_open()).map(|core| core.id());
                let devices = person.into_iter().flat_map(|person| &person.devices);
                let kept = devices
                    .filter(|device| device.held_by == HeldBy::Session)
                    .map(|device| device.connection);
                live.chain(kept).collect()
            }
        }
    }
}
