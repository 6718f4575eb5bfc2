//! A message that the protocol does not know, as a client reads it. `Received` makes it of whatever is none of its own.

use super::parse;
use crate::Fault;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// A message of the application: its `type` is not one of the protocol, or it lacks what such a message has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Application {
    /// The `type`.
    pub kind: String,
    /// The channel it came through, if any.
    pub channel: Option<String>,
    /// In ms since the Unix epoch, if it has that.
    pub timestamp: Option<u64>,
    /// The number in the channel's stream, where it keeps one.
    pub offset: Option<u64>,
    /// The whole message.
    pub body: Box<RawValue>,
}

impl Application {
    /// The fields are the application's own: one of another kind is as if it were left out.
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
        fn own<T: DeserializeOwned>(raw: Option<&RawValue>) -> Option<T> {
            raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
        }
        let stamp: Stamp<'_> = parse(text)?;
        let body = RawValue::from_string(text.to_owned()).map_err(|_| Fault::not_an_object())?;
        let (channel, timestamp, offset) = (own(stamp.channel), own(stamp.timestamp), own(stamp.offset));
        Ok(Self { kind, channel, timestamp, offset, body })
    }
}
