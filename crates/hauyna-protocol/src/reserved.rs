//! Which `type`s belong to the protocol (PROTOCOL.md §3), and how a message of the application with such a
//! type differs from a message of the protocol. `application` uses it to write, `received` to read.

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

/// Types of messages about a channel that never have a field `timestamp`, which every message of the
/// application in a channel has.
const WITHOUT_TIMESTAMP: [&str; 8] = [
    "subscribed",
    "unsubscribed",
    "channel_event",
    "client_event",
    "presence_state",
    "presence_diff",
    "occupancy",
    "gap",
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_in_the_table_of_the_protocol_is_reserved_except_message() {
        let document = include_str!("../../../PROTOCOL.md");
        let section = document.split("\n## 3. ").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
        let lines = section.lines().skip_while(|line| !line.starts_with('|'));
        let rows = lines.take_while(|line| line.starts_with('|'));
        let names = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next());
        let names: Vec<_> = names.filter(|name| *name != "type").collect();
        assert_eq!(names.len(), 21);
        for name in names {
            assert_eq!(is_reserved_type(name), name != "message", "{name}");
        }
    }
}
