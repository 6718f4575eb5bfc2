//! What others see of a user who is present: status, metadata, connections. `Profile` is what the rosters keep,
//! `PresenceEntry` what queries give.

use crate::channel::{ChannelName, UserId};
use crate::connection::ConnectionId;
use crate::error::Error;
use hauyna_protocol::ErrorType;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// Whether a user is there for others: the field `status` of their metadata.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Status {
    /// `online`, and whoever has said nothing else.
    #[default]
    Online,
    /// `away`.
    Away,
    /// `offline`: connected, but not to be seen as such.
    Offline,
    /// A word of the application's own.
    Custom(Box<str>),
}

impl Status {
    /// The word.
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

/// A user who is present, as of the moment of the query. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PresenceEntry {
    /// Who.
    pub user: UserId,
    /// The user's status.
    pub status: Status,
    /// What the user has told about themselves, an object.
    pub metadata: Value,
    /// Since when.
    pub joined_at: u64,
    /// When the metadata last changed.
    pub updated_at: u64,
    /// The user's connections, the oldest first.
    pub connections: Vec<PresentConnection>,
}

/// One connection of a user who is present.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PresentConnection {
    /// Which.
    pub connection_id: ConnectionId,
    /// What this connection gave along, an object.
    pub metadata: Value,
    /// Since when, in milliseconds since the Unix epoch.
    pub joined_at: u64,
    /// The channels with presence it is subscribed to; empty where the query was about one channel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelName>,
}

/// A user's metadata, shared by every roster that the user stands in.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    /// As it was told.
    pub(super) metadata: Map<String, Value>,
    /// As it is [shown](Profile::shown), in JSON.
    pub(super) text: Box<str>,
    pub(super) updated_at: u64,
}

impl Profile {
    pub(super) fn empty(now: u64) -> Arc<Self> {
        Arc::new(Self { metadata: Map::new(), text: r#"{"status":"online"}"#.into(), updated_at: now })
    }

    /// The profile with some fields replaced.
    ///
    /// # Errors
    ///
    /// `limit_exceeded` where it would be too long; `validation_error` where the status is no text.
    pub(super) fn merged(&self, fields: Map<String, Value>, now: u64) -> Result<Arc<Self>, Error> {
        check_status(&fields)?;
        let mut metadata = self.metadata.clone();
        metadata.extend(fields);
        check_length(&serde_json::to_string(&metadata)?)?;
        let mut profile = Self { metadata, text: Box::default(), updated_at: now };
        profile.text = serde_json::to_string(&profile.shown())?.into_boxed_str();
        Ok(Arc::new(profile))
    }

    /// The metadata with the status that holds where none was told.
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

/// An object of the application's.
///
/// # Errors
///
/// `validation_error` where it is none.
pub(super) fn object(value: impl Serialize) -> Result<Map<String, Value>, Error> {
    let invalid = |text: String| Error::protocol(ErrorType::ValidationError, text);
    match serde_json::to_value(value).map_err(|fault| invalid(fault.to_string()))? {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(invalid("presence metadata is not an object".to_owned())),
    }
}

/// The status is told beside the metadata, too, and is one word in both. `null` is none.
///
/// # Errors
///
/// `validation_error`.
fn check_status(fields: &Map<String, Value>) -> Result<(), Error> {
    match fields.get("status") {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(_) => {
            let error = Error::protocol(ErrorType::ValidationError, "the `status` of a user is a text");
            Err(error.with_details(serde_json::json!({ "path": "status", "expected": "string" })))
        }
    }
}

/// # Errors
///
/// `limit_exceeded`.
pub(super) fn check_length(text: &str) -> Result<(), Error> {
    if text.len() <= MAX_METADATA {
        return Ok(());
    }
    let error = Error::protocol(ErrorType::LimitExceeded, "presence metadata is longer than 4096 bytes");
    Err(error.with_details(serde_json::json!({ "path": "metadata", "limit": MAX_METADATA })))
}

pub(super) fn parsed(text: Option<&str>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| Value::Object(Map::new()))
}

/// Bytes of one user's metadata as JSON.
const MAX_METADATA: usize = 4096;
