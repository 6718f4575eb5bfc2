//! Positions of a channel, as a client reads them: subscriptions, gaps, the data of a history.

use super::field::or_default;
use crate::{Epoch, Position};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The state of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscribed {
    /// The channel.
    pub channel: String,
    /// Position where the subscription starts; `None` if the channel does not number its publications.
    pub position: Option<Position>,
    /// Whether the client can recover from the channel's history.
    pub recoverable: bool,
    /// Whether all missed publications follow; `None` if the client did not ask for a recovery.
    pub recovered: Option<bool>,
    /// Reason of a failed recovery, as on the wire; see [`RecoveryFailure`](crate::RecoveryFailure).
    pub reason: Option<String>,
    /// Client events that the client may send here, each with its maximum per second.
    pub client_events: BTreeMap<String, u32>,
}

/// A gap: messages were dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The channel.
    pub channel: String,
    /// Position before the first missing publication; `None` if only messages without an offset were dropped.
    pub position: Option<Position>,
    /// Number of dropped publications; in a channel without history, number of dropped messages.
    pub missed: u64,
}

/// The data of an `ack` of `history`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct History {
    /// The channel.
    pub channel: String,
    /// Position of the end of the stream.
    pub position: Position,
    /// Offset of the oldest kept publication, or the offset after the end if none is kept.
    pub oldest: u64,
    /// Messages, each as it was delivered; [`Received::read`](super::Received::read) reads one.
    pub messages: Vec<Box<RawValue>>,
}

/// Fields of `subscribed`, of an `ack` of `subscribe_channel`, of `gap` and of `history`, as on the wire.
#[derive(Deserialize)]
struct Placed {
    channel: String,
    epoch: Option<String>,
    offset: Option<u64>,
    #[serde(default, deserialize_with = "or_default")]
    recoverable: bool,
    recovered: Option<bool>,
    reason: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    client_events: BTreeMap<String, u32>,
    #[serde(default, deserialize_with = "or_default")]
    missed: u64,
    #[serde(default, deserialize_with = "or_default")]
    oldest: u64,
    #[serde(default, deserialize_with = "or_default")]
    messages: Vec<Box<RawValue>>,
}

impl Placed {
    fn position(&self) -> Option<Position> {
        let (Some(epoch), Some(offset)) = (&self.epoch, self.offset) else { return None };
        Some(Position { epoch: Epoch::parse(epoch), offset })
    }

    fn placed<E: serde::de::Error>(&self) -> Result<Position, E> {
        self.position().ok_or_else(|| E::missing_field("offset"))
    }
}

impl<'de> Deserialize<'de> for Subscribed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let placed = Placed::deserialize(deserializer)?;
        let position = placed.position();
        let Placed { channel, recoverable, recovered, reason, client_events, .. } = placed;
        Ok(Self { channel, position, recoverable, recovered, reason, client_events })
    }
}

impl<'de> Deserialize<'de> for Gap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let placed = Placed::deserialize(deserializer)?;
        let position = placed.position();
        Ok(Self { channel: placed.channel, position, missed: placed.missed })
    }
}

impl<'de> Deserialize<'de> for History {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let placed = Placed::deserialize(deserializer)?;
        let position = placed.placed()?;
        Ok(Self { channel: placed.channel, position, oldest: placed.oldest, messages: placed.messages })
    }
}
