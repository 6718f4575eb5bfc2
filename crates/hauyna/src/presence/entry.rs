//! What others see of a present user: status, metadata, connections. The rosters (`people`, `members`) store
//! a `Profile`; queries return a `PresenceEntry`.

use crate::error::Error;
use hauyna_broker::{ChannelName, ConnectionId, UserId};
use hauyna_protocol::ErrorType;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// The status that a user shows to others: the field `status` of their metadata.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Status {
    /// `online`: the default where no status was set.
    #[default]
    Online,
    /// `away`.
    Away,
    /// `offline`: the user is connected, but does not want to be seen as such.
    Offline,
    /// Any other word, which the application chooses.
    Custom(Box<str>),
}

impl Status {
    /// Returns the word that stands for this status in metadata.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Offline => "offline",
            Self::Custom(word) => word,
        }
    }
}

impl From<&str> for Status {
    fn from(word: &str) -> Self {
        match word {
            "online" => Self::Online,
            "away" => Self::Away,
            "offline" => Self::Offline,
            word => Self::Custom(word.into()),
        }
    }
}

impl From<String> for Status {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A present user, at the moment of the query. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PresenceEntry {
    /// The user.
    pub user: UserId,
    /// The user's status.
    pub status: Status,
    /// The user's metadata, an object.
    pub metadata: Value,
    /// The time at which the user became present.
    pub joined_at: u64,
    /// The time at which the metadata last changed.
    pub updated_at: u64,
    /// The user's connections, the oldest first.
    pub connections: Vec<PresentConnection>,
}

/// One connection of a user who is present.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PresentConnection {
    /// The connection.
    pub connection_id: ConnectionId,
    /// The metadata of this connection alone, an object.
    pub metadata: Value,
    /// The time at which the connection became present, in milliseconds since the Unix epoch.
    pub joined_at: u64,
    /// The channels with presence that it is subscribed to; empty where the query was about one channel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelName>,
}

/// A user's metadata, shared by every roster that the user is in.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// The metadata as it was set.
    pub(super) metadata: Map<String, Value>,
    /// The metadata as it is [shown](Profile::shown), in JSON.
    pub(super) text: Box<str>,
    pub(super) updated_at: u64,
}

impl Profile {
    pub(super) fn empty(now: u64) -> Arc<Self> {
        Arc::new(Self { metadata: Map::new(), text: r#"{"status":"online"}"#.into(), updated_at: now })
    }

    /// Returns the profile with some fields replaced.
    ///
    /// # Errors
    ///
    /// `limit_exceeded` where it would be too long; `validation_error` where the status is not a string.
    pub(super) fn merged(&self, fields: Map<String, Value>, now: u64) -> Result<Arc<Self>, Error> {
        check_status(&fields)?;
        let mut metadata = self.metadata.clone();
        metadata.extend(fields);
        check_length(&serde_json::to_string(&metadata)?)?;
        let mut profile = Self { metadata, text: Box::default(), updated_at: now };
        profile.text = serde_json::to_string(&profile.shown())?.into_boxed_str();
        Ok(Arc::new(profile))
    }

    /// Returns the metadata, with the default status where none was set.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let mut shown = self.metadata.clone();
        if shown.get("status").is_none_or(Value::is_null) {
            shown.insert("status".to_owned(), self.status().into());
        }
        shown
    }

    pub(super) fn status(&self) -> &str {
        self.metadata.get("status").and_then(Value::as_str).unwrap_or("online")
    }
}

/// Serialises metadata of the application as an object; `null` becomes an empty one.
///
/// # Errors
///
/// `validation_error` where it is not an object.
pub(super) fn object(value: impl Serialize) -> Result<Map<String, Value>, Error> {
    let invalid = |text: String| Error::protocol(ErrorType::ValidationError, text);
    match serde_json::to_value(value).map_err(|fault| invalid(fault.to_string()))? {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(invalid("presence metadata must be an object".to_owned())),
    }
}

/// Checks that the status is a string or `null`, because messages carry it beside the metadata as well.
///
/// # Errors
///
/// `validation_error` where it is something else.
fn check_status(fields: &Map<String, Value>) -> Result<(), Error> {
    match fields.get("status") {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(_) => {
            let error =
                Error::protocol(ErrorType::ValidationError, "the `status` of a user must be a string");
            Err(error.with_details(serde_json::json!({ "path": "status", "expected": "string" })))
        }
    }
}

/// Checks the length of metadata as JSON.
///
/// # Errors
///
/// `limit_exceeded` where it is longer than 4,096 bytes.
pub(super) fn check_length(text: &str) -> Result<(), Error> {
    if text.len() <= MAX_METADATA {
        return Ok(());
    }
    let error = Error::protocol(ErrorType::LimitExceeded, "presence metadata is longer than 4096 bytes");
    Err(error.with_details(serde_json::json!({ "path": "metadata", "limit": MAX_METADATA })))
}

/// Parses metadata from JSON; an empty object where there is none.
pub(super) fn parsed(text: Option<&str>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| Value::Object(Map::new()))
}

/// Maximum length of one user's metadata, in bytes of JSON.
const MAX_METADATA: usize = 4096;
