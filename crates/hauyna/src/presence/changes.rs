//! The changes of the rosters: joining and leaving a channel, tracking, metadata, the end of the grace time.
//! Every change is numbered and sent under the user's lock and the channel's, so a list and the changes after
//! it never race. The guards of `change` do what all changes have in common. Called by `Presence`, `channel`,
//! `connection` and `session`.

use super::change::{Change, Roster};
use super::entry::Profile;
use super::members::{HeldBy, MemberConnection, Members, Replaced};
use super::notify::Notice;
use super::people::Person;
use super::timers::Task;
use super::{PresenceOptions, Scope, Subject, message};
use crate::channel::Subscription;
use crate::close::DepartureKind;
use crate::connection::ConnectionCore;
use crate::error::Error;
use crate::event::SystemKind;
use crate::hub::HubCore;
use hauyna_broker::{ConnectionId, UserId};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The roster of one channel and its options.
#[derive(Debug)]
pub(crate) struct ChannelPresence {
    pub(super) options: PresenceOptions,
    members: Mutex<Members>,
    /// Number of lost connections in the roster: the channel stays while there are any.
    lost_count: AtomicUsize,
}

/// Returns who holds the connection's presence from now on; `None` where it ends at once.
fn held_by(departure: DepartureKind, grace: Duration) -> Option<HeldBy> {
    match departure {
        DepartureKind::Kept => Some(HeldBy::Session),
        DepartureKind::Lost if !grace.is_zero() => Some(HeldBy::Nobody),
        DepartureKind::Lost | DepartureKind::Gone => None,
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

/// Adds a subscriber to the roster of its channel; it replaces the lost connection `replaces`, where that is
/// still there. `go_live` subscribes it, then the subscriber gets the list, and everybody else the change. In
/// a channel with presence, `announce` runs after that.
///
/// # Errors
///
/// Those of `go_live`; then nothing has changed.
pub(crate) fn join(
    hub: &HubCore,
    subscription: &Subscription,
    replaces: Option<ConnectionId>,
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
        let entry = MemberConnection::new(core.id(), subscription.metadata.lock().clone(), now);
        let (step, Replaced(lost)) = roster.members.enter(user, entry, replaces, &person.profile);
        if let Some(lost) = lost.and_then(|lost| person.device_mut(lost)) {
            lost.leave(channel);
        }
        person.device_or_insert(core.id(), now).channels.push(channel.clone());
        roster.update_mode();
        core.sender().push_reply(message::initial_frame(&mut roster.members, channel, core));
        core.sender().request_flush();
        let connection = Some(core.id());
        roster.notify(Notice { user, step, member_before: None, connection, except: connection });
        announce();
        change.mark_announced();
        Ok(())
    })
}

/// Removes a subscriber from the roster of its channel, or marks it as lost. `deactivate` unsubscribes it,
/// and returns `None` where it was not subscribed any more. In a channel with presence, `announce` runs after
/// the others are notified.
pub(crate) fn leave<R>(
    hub: &HubCore,
    subscription: &Subscription,
    departure: DepartureKind,
    deactivate: impl FnOnce() -> Option<R>,
    announce: impl FnOnce(),
) -> Option<R> {
    let (channel, core) = (&subscription.channel, &subscription.connection);
    if channel.presence.is_none() {
        return deactivate();
    }
    let user = core.user();
    hub.presence.change(hub, user, |change| {
        let Some(mut roster) = Roster::of(hub, channel) else { return deactivate() };
        if let Some(held_by) = held_by(departure, hub.config.presence_grace) {
            roster.members.mark_lost(user, core.id(), held_by);
            // Before `deactivate` checks whether the channel is unused: its last subscriber must not remove
            // it.
            roster.update_lost_count();
            let result = deactivate()?;
            announce();
            return Some(result);
        }
        let result = deactivate()?;
        roster.remove(user, core.id());
        announce();
        if let Some(device) = change.device(core.id()) {
            device.leave(channel);
        }
        change.mark_announced();
        Some(result)
    })
}

/// Ends the rest of a connection's presence after it has left its channels: now, or after the grace time.
pub(crate) fn connection_gone(hub: &HubCore, core: &Arc<ConnectionCore>, departure: DepartureKind) {
    hub.presence.change(hub, core.user(), |change| {
        let Some(device) = change.device(core.id()) else { return };
        let grace = hub.config.presence_grace;
        if let Some(held_by) = held_by(departure, grace) {
            device.held_by = held_by;
            if held_by == HeldBy::Nobody {
                hub.presence.timers.add(hub, grace, Task::ExpireConnection(core.user().clone(), core.id()));
            }
            return;
        }
        remove(change, core.id());
    });
}

/// Moves the presence of a lost connection, apart from its subscriptions, to the connection that resumes its
/// session. The lost connection leaves the channels that were not resumed.
pub(crate) fn take_over(hub: &HubCore, old: &Arc<ConnectionCore>, new: &Arc<ConnectionCore>) {
    hub.presence.change(hub, new.user(), |change| {
        let Some(lost) = change.remove_device(old.id()) else { return };
        // Where the new connection is closed already, its own end removes all of this later.
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

/// Removes a lost connection whose grace time is over, or whose session has ended.
pub(crate) fn expire(hub: &HubCore, user: &UserId, connection: ConnectionId) {
    hub.presence.change(hub, user, |change| {
        if change.device(connection).is_some_and(|device| device.held_by != HeldBy::Connection) {
            remove(change, connection);
        }
    });
}

/// Removes a connection. Listeners are notified where it was visible.
fn remove(change: &mut Change<'_>, connection: ConnectionId) {
    let was_visible = change.device(connection).is_some_and(|device| device.is_visible());
    change.remove_device(connection);
    if was_visible {
        change.mark_announced();
    }
}

/// Makes a user present over the hub, by one connection or by all of theirs.
///
/// # Errors
///
/// `limit_exceeded` where the metadata is too long; an error where the connection is closed; `not_subscribed`
/// where the user has no connection.
pub(super) fn track(hub: &HubCore, subject: &Subject<'_>, fields: Map<String, Value>) -> Result<(), Error> {
    hub.presence.change(hub, subject.user(), |change| {
        // Under the lock that `connection_gone` takes: a connection that closes now is found there.
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

/// Replaces the metadata of one connection: over the hub, or in one channel.
///
/// # Errors
///
/// `not_subscribed` where the connection is not present there.
pub(super) fn set_connection_metadata(
    hub: &HubCore,
    core: &Arc<ConnectionCore>,
    scope: Scope<'_>,
    metadata: Option<Arc<str>>,
) -> Result<(), Error> {
    hub.presence.change(hub, core.user(), |change| {
        if let Scope::Channel(subscription) = scope {
            // What was permitted in this subscription is not permitted in the next one to the same channel.
            subscription.check_not_ended()?;
            // Under the lock, so that the value that is set last is the one that is shown.
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

/// Counts a connection for `UserOnline` and `UserOffline`, where somebody listens to either of them, or
/// somebody on another node may.
pub(crate) fn watch_user(hub: &HubCore, core: &Arc<ConnectionCore>) {
    let kinds = [SystemKind::UserOnline, SystemKind::UserOffline];
    if hub.cluster.is_none() && !hub.events.has_listener_for(&kinds) {
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
    /// Returns the live connections of the subject, and those whose sessions are kept.
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
