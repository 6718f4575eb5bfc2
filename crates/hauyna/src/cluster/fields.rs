//! What this node says in the directory about its users: one leased field for each, in the map `user`/NAME.
//! Changes are coalesced by user, and what is written is what is true at that moment, so a directory that
//! could not be reached has everything again soon after. The answers say whether a user has come or gone.

use super::batch::{Progress, Taken, join};
use super::node::{Cluster, log_failure};
use crate::event::emit;
use crate::hub::HubCore;
use crate::stripes::is_sparse;
use hauyna_broker::{AnswerFuture, BrokerError, Change, Field, Lease, MapName, Put, UserId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;

/// The fields of this node in the directory.
#[derive(Default)]
pub(super) struct Fields(Mutex<FieldStates>);

#[derive(Default)]
struct FieldStates {
    /// Users whose field may have to change.
    dirty: HashSet<UserId>,
    known: HashMap<UserId, KnownField>,
}

/// What is known of a field. A user without one has no field.
#[derive(Clone, Copy)]
struct KnownField {
    /// The last value that the directory has confirmed.
    confirmed: Option<UserState>,
    /// Whether a later call has got no answer, so that the field may be another.
    is_unsure: bool,
    /// Whether the field is written although it is what it has to be, as far as this node knows.
    is_suspect: bool,
}

/// Why all fields are written again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// The node was taken for dead: others may have removed its fields, and said so.
    WasLost,
    /// The answer of a beat, which may have said that, was lost.
    NoAnswer,
}

/// What a node says of a user.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UserState {
    /// There is a live connection.
    Connected,
    /// The connections were lost, and the user counts as online for a while.
    Lost,
}

impl Fields {
    /// Notes that the field of a user may have to change. Returns whether that is new.
    pub(super) fn mark(&self, user: &UserId) -> bool {
        self.0.lock().dirty.insert(user.clone())
    }

    /// Notes that a field is what it has to be. Listeners are notified where the user has come or gone by it.
    fn confirm(&self, hub: &HubCore, user: &UserId, written: Option<UserState>, change: &Change) {
        let mut fields = self.0.lock();
        let before = fields.known.remove(user);
        // An earlier call without an answer may have done what this one would have.
        let is_unsure = before.is_some_and(|known| known.is_unsure);
        if written.is_some() {
            fields
                .known
                .insert(user.clone(), KnownField { confirmed: written, is_unsure: false, is_suspect: false });
        } else if is_sparse(fields.known.capacity(), fields.known.len(), 64) {
            fields.known.shrink_to_fit();
        }
        drop(fields);
        match written {
            Some(_) => {
                let is_new = change.is_applied && change.before.is_none();
                let is_late = is_unsure && before.is_none_or(|known| known.confirmed.is_none());
                if change.class_size == 1 && (is_new || is_late) {
                    emit!(hub.events, UserOnline { user: user.clone() });
                }
            }
            None if change.class_size == 0 && (change.is_applied || is_unsure) => {
                emit!(hub.events, UserOffline { user: user.clone() });
            }
            None => {}
        }
    }

    /// Notes that a call has got no answer.
    fn doubt(&self, user: &UserId) {
        let mut fields = self.0.lock();
        let none = KnownField { confirmed: None, is_unsure: false, is_suspect: false };
        fields.known.entry(user.clone()).or_insert(none).is_unsure = true;
    }

    /// Makes all fields be written again, because others may have removed them.
    pub(super) fn write_all_again(&self, suspicion: Suspicion) {
        let mut fields = self.0.lock();
        let FieldStates { dirty, known } = &mut *fields;
        for field in known.values_mut() {
            if suspicion == Suspicion::WasLost {
                (field.confirmed, field.is_unsure) = (None, false);
            }
            field.is_suspect = true;
        }
        dirty.extend(known.keys().cloned());
    }
}

/// Writes the fields of users whose state has changed.
pub(super) async fn write(hub: &Arc<HubCore>, cluster: &Cluster) -> Progress {
    let mut users = Taken::from(&cluster.fields.0, |fields| &mut fields.dirty);
    let mut calls: Vec<_> = users.items.iter().map(|user| FieldCall::new(hub, cluster, user)).collect();
    let pending = calls.iter_mut().flatten().map(|call| Pin::new(&mut call.answer));
    let mut results = join(pending.collect()).await.into_iter();
    let outcomes: Vec<_> = calls
        .iter()
        .map(|call| call.as_ref().and_then(|call| Some((call.wanted, results.next()?))))
        .collect();
    drop(calls);
    users.settle(|user, index| match &outcomes[index] {
        None => true,
        Some((wanted, Ok(change))) => {
            cluster.fields.confirm(hub, user, *wanted, change);
            true
        }
        Some((_, Err(error))) => {
            log_failure("write", error);
            if error.is_unknown() {
                cluster.fields.doubt(user);
            }
            false
        }
    })
}

/// A call that makes the field of a user what it has to be.
struct FieldCall {
    wanted: Option<UserState>,
    answer: AnswerFuture<Result<Change, BrokerError>>,
}

impl FieldCall {
    /// Starts the call, if the field is another now.
    fn new(hub: &HubCore, cluster: &Cluster, user: &UserId) -> Option<Self> {
        let wanted = wanted_state(hub, user);
        let known = cluster.fields.0.lock().known.get(user).copied();
        let is_written = match known {
            Some(known) => !known.is_unsure && !known.is_suspect && known.confirmed == wanted,
            None => wanted.is_none(),
        };
        if is_written {
            return None;
        }
        let (map, field) = (map_of(user), Field::new(user.as_str(), hub.node().to_string()));
        let answer = hub.with_directory(cluster, |directory| match wanted {
            Some(state) => directory.put(Put::new(map, field, state.value()).lease(Lease::OfNode)),
            None => directory.remove(&map, &field),
        });
        Some(Self { wanted, answer: answer.into_future() })
    }
}

fn wanted_state(hub: &HubCore, user: &UserId) -> Option<UserState> {
    let state = match hub.registry.connection_count(user) {
        0 => UserState::Lost,
        _ => UserState::Connected,
    };
    hub.presence.is_watched(user).then_some(state)
}

impl UserState {
    fn value(self) -> &'static [u8] {
        match self {
            Self::Connected => CONNECTED,
            Self::Lost => LOST,
        }
    }
}

/// Whether a field of another node says that the user has a connection there.
pub(super) fn is_connected(value: &[u8]) -> bool {
    value == CONNECTED
}

/// Notifies listeners where the field of a node that is gone was the last one of its user.
pub(super) fn field_swept(hub: &HubCore, map: &MapName, change: &Change) {
    if map.kind() == USER_MAPS
        && change.is_applied
        && change.class_size == 0
        && let Ok(user) = UserId::new(map.as_str())
    {
        emit!(hub.events, UserOffline { user });
    }
}

pub(super) fn map_of(user: &str) -> MapName {
    MapName::new(USER_MAPS, user)
}

/// The kind of the maps that say on which nodes a user is.
const USER_MAPS: &str = "user";
const CONNECTED: &[u8] = b"connected";
const LOST: &[u8] = b"lost";
