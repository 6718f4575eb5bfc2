//! Which `type`s belong to the protocol (PROTOCOL.md §3), and how a message of the application that has one of them is told
//! from a message of the protocol. `application` writes by it, `received` reads by it.

/// Types of messages that never have a field `channel`.
const OUTSIDE_CHANNELS: [&str; 11] = [
    "session",
    "ack",
    "pong",
    "error",
    "private",
    "group",
    "broadcast",
    "request",
    "retry_policy",
    "connection_state",
    "reconnect",
];

/// Types of messages about a channel that never have a field `timestamp`, which every message of the application in a
/// channel has.
const WITHOUT_TIMESTAMP: [&str; 7] =
    ["subscribed", "unsubscribed", "channel_event", "presence_state", "presence_diff", "occupancy", "gap"];

/// Whether the application cannot send a message of this type: all of the protocol but `message`.
///
/// ```
/// use hauyna_protocol::is_reserved_type;
/// assert!(is_reserved_type("reconnect") && !is_reserved_type("message") && !is_reserved_type("system"));
/// ```
#[must_use]
pub fn is_reserved_type(kind: &str) -> bool {
    OUTSIDE_CHANNELS.contains(&kind) || WITHOUT_TIMESTAMP.contains(&kind) || kind == "presence_change"
}

/// Whether a message comes from the application although its type is one of the protocol.
pub(crate) fn is_of_application(kind: &str, has_channel: bool, has_timestamp: bool) -> bool {
    (has_channel && OUTSIDE_CHANNELS.contains(&kind)) || (has_timestamp && WITHOUT_TIMESTAMP.contains(&kind))
}
