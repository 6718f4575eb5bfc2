//! A message of the application, as a client reads it. `Received` returns it for messages that the protocol
//! does not define.

use super::decode::parse;
use crate::Fault;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// A message of the application: its `type` is not one of the protocol, or it lacks that type's fields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Application {
    /// The `type`.
    pub kind: String,
    /// Channel of the message, if any.
    pub channel: Option<String>,
    /// Time in ms since the Unix epoch, if the message has one.
    pub timestamp: Option<u64>,
    /// Number in the channel's stream, if the channel keeps a history.
    pub offset: Option<u64>,
    /// The whole message.
    pub body: Box<RawValue>,
}

impl Application {
    /// Reads the message. The fields belong to the application, so a field of another kind counts as left
    /// out.
    pub(super) fn read(kind: String, text: &str) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Stamp<'a> {
            #[serde(borrow)]
            channel: Option<&'a RawValue>,
            #[serde(borrow)]
            timestamp: Option<&'a RawValue>,
            #[serde(borrow)]
            offset: Option<&'a RawValue>,
        }
        fn read_field<T: DeserializeOwned>(raw: Option<&RawValue>) -> Option<T> {
            raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
        }
        let stamp: Stamp<'_> = parse(text)?;
        let body = RawValue::from_string(text.to_owned()).map_err(|_| Fault::not_an_object())?;
        let (channel, timestamp, offset) =
            (read_field(stamp.channel), read_field(stamp.timestamp), read_field(stamp.offset));
        Ok(Self { kind, channel, timestamp, offset, body })
    }
}
