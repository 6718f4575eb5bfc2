//! The orders to the server process, each one line of JSON, and the contents of publications. Clients publish
//! the same contents, so that a reader finds source and number in any message.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One task for the application in the server process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) verb: Verb,
    /// Name of a channel, user or group.
    pub(crate) target: String,
    /// If not 0, the number of channels, whose names are the target and a number. Each message goes into all
    /// of them.
    pub(crate) channels: u64,
    /// Number of messages, one after the other.
    pub(crate) count: u64,
    /// Length of one message in bytes.
    pub(crate) bytes: usize,
    /// Source that the messages name. A numbered channel adds its number.
    pub(crate) source: u64,
}

/// The call that is made, `count` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verb {
    /// `Channel::broadcast`
    Channel,
    /// `Connections::broadcast`
    Everybody,
    /// `User::send`
    User,
    /// `Groups::send`
    Group,
    /// `Connection::send`, to each connection of the user
    Send,
    /// All of the above in turn, numbered as one sequence: user, channel and group have the name `target`
    Mixed,
    /// `Connection::set_state` between two states, for each connection of the user
    State,
    /// `Groups::add_with_role`: the user `target` becomes a speaker of the group of the same name
    Join,
    /// `Channel::subscribe` for each connection of the user, to the channel `hang:1`
    Subscribe,
    /// `Hub::stats`, printed
    Stats,
}

impl Order {
    pub(crate) fn new(verb: Verb, target: &str, count: u64, bytes: usize) -> Self {
        Self { verb, target: target.to_owned(), channels: 0, count, bytes, source: 0 }
    }

    /// Publishes in this many channels in turn.
    pub(crate) fn across(self, channels: u64) -> Self {
        Self { channels, ..self }
    }
}

/// Returns a message of about `bytes` bytes with its source and its number.
pub(crate) fn content(source: u64, number: u64, bytes: usize) -> String {
    let head = format!("{{\"type\":\"n\",\"seq\":[{source},{number}],\"pad\":\"");
    let pad = bytes.saturating_sub(head.len() + 2);
    format!("{head}{}\"}}", "x".repeat(pad))
}

/// Returns the same for `broadcast` and `send` of the application.
pub(crate) fn raw_content(source: u64, number: u64, bytes: usize) -> Box<RawValue> {
    RawValue::from_string(content(source, number, bytes)).expect("invariant: it is JSON")
}
