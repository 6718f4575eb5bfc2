//! Who is present, over the whole hub: a user's metadata, for as long as one of the connections that
//! tracked it lives. Written by callbacks; forgotten with the connection.

use crate::channel::UserId;
use crate::connection::{ConnectionCore, ConnectionId};
use crate::error::Error;
use crate::hub::Hub;
use hauyna_protocol::ErrorType;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Presence as one connection sees it ([`Context::presence`](crate::Context::presence)), or the hub
/// ([`Hub::presence`]).
#[derive(Debug, Clone)]
pub struct Presence {
    hub: Hub,
    own: Option<Arc<ConnectionCore>>,
}

/// What is known about everybody present.
#[derive(Debug, Default)]
pub(crate) struct Roster(Mutex<HashMap<UserId, Entry>>);

#[derive(Debug, Default)]
struct Entry {
    metadata: Map<String, Value>,
    connections: HashSet<ConnectionId>,
}

impl Presence {
    pub(crate) fn of_hub(hub: Hub) -> Self {
        Self { hub, own: None }
    }

    pub(crate) fn of_connection(hub: Hub, core: Arc<ConnectionCore>) -> Self {
        Self { hub, own: Some(core) }
    }

    fn roster(&self) -> &Roster {
        &self.hub.0.presence
    }

    /// Makes this connection's user present, with metadata such as `{"status": "online"}`. What the user's
    /// other connections have given is merged with it.
    ///
    /// # Errors
    ///
    /// `validation_error` where the metadata is no object; `application_error` where this is the hub's
    /// presence and there is no connection; the connection is closed.
    #[expect(clippy::unused_async, reason = "presence may reach the broker")]
    pub async fn track(&self, metadata: impl Serialize) -> Result<(), Error> {
        let fields = object(metadata)?;
        let core =
            self.own.as_ref().ok_or_else(|| Error::application("presence needs a connection to track"))?;
        let mut roster = self.roster().0.lock();
        let entry = roster.entry(core.user().clone()).or_default();
        let mut metadata = entry.metadata.clone();
        metadata.extend(fields);
        let is_fine = Value::Object(metadata.clone()).to_string().len() <= MAX_METADATA;
        if is_fine && core.is_open() {
            entry.metadata = metadata;
            entry.connections.insert(core.id());
            return Ok(());
        }
        if entry.connections.is_empty() {
            roster.remove(core.user());
        }
        Err(match is_fine {
            true => Error::closed(),
            false => Error::protocol(ErrorType::LimitExceeded, "presence metadata is longer than 4096 bytes"),
        })
    }

    /// Takes this connection out; the user stays present while others of their connections are.
    pub fn untrack(&self) {
        if let Some(core) = &self.own {
            self.roster().forget(core);
        }
    }

    /// Whether a user is present.
    pub fn is_present(&self, user: impl AsRef<str>) -> bool {
        self.roster().0.lock().contains_key(user.as_ref())
    }

    /// A present user's metadata.
    pub fn get(&self, user: impl AsRef<str>) -> Option<Value> {
        self.roster().0.lock().get(user.as_ref()).map(|entry| Value::Object(entry.metadata.clone()))
    }

    /// Everybody present, with their metadata, in no order.
    pub fn list(&self) -> Vec<(UserId, Value)> {
        let roster = self.roster().0.lock();
        roster.iter().map(|(user, entry)| (user.clone(), Value::Object(entry.metadata.clone()))).collect()
    }

    /// How many users are present.
    pub fn count(&self) -> usize {
        self.roster().0.lock().len()
    }
}

impl Roster {
    pub(crate) fn forget(&self, core: &ConnectionCore) {
        let mut roster = self.0.lock();
        let Some(entry) = roster.get_mut(core.user()) else { return };
        entry.connections.remove(&core.id());
        if entry.connections.is_empty() {
            roster.remove(core.user());
        }
    }
}

fn object(value: impl Serialize) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(value)? {
        Value::Object(map) => Ok(map),
        _ => Err(Error::protocol(ErrorType::ValidationError, "presence metadata is not an object")),
    }
}

/// Bytes of one user's metadata as JSON.
const MAX_METADATA: usize = 4096;
