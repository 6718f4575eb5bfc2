//! Close codes: the number alone tells a client whether to reconnect. Servers use the constants, clients call
//! [`should_reconnect`], which decides by range, so that unknown codes are handled, too.

use std::fmt;

/// The status code of a WebSocket close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(pub u16);

macro_rules! close_codes {
    ($($(#[$doc:meta])* $constant:ident = $code:literal, $name:literal;)*) => {
        impl CloseCode {
            $($(#[$doc])* pub const $constant: Self = Self($code);)*

            /// All codes with a name, ascending.
            pub const ALL: &'static [Self] = &[$(Self::$constant),*];

            /// Returns the code's name, which is also the default reason of the close frame.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

close_codes! {
    /// The connection has served its purpose.
    NORMAL = 1000, "normal";
    /// The peer goes away.
    GOING_AWAY = 1001, "going away";
    /// The peer violated RFC 6455.
    PROTOCOL_ERROR = 1002, "protocol error";
    /// The frame has a kind that this connection did not negotiate.
    UNSUPPORTED_DATA = 1003, "unsupported data";
    /// A text frame is not valid UTF-8.
    INVALID_UTF8 = 1007, "invalid utf-8";
    /// A message exceeds the size limit.
    MESSAGE_TOO_BIG = 1009, "message too big";
    /// The server failed.
    INTERNAL_ERROR = 1011, "internal error";
    /// The node shuts down.
    SHUTDOWN = 3000, "shutdown";
    /// The node drains: its connections move to other nodes.
    DRAIN = 3001, "drain";
    /// The credentials expired while connected.
    EXPIRED = 3005, "expired";
    /// The client read more slowly than its outbox allows.
    SLOW_CONSUMER = 3008, "slow consumer";
    /// Writes made no progress for too long.
    WRITE_FAILED = 3009, "write failed";
    /// The server can no longer prove that nothing was missed.
    POSITION_LOST = 3010, "position lost";
    /// The application wants the client to reconnect.
    FORCED_RECONNECT = 3011, "forced reconnect";
    /// Nothing arrived from the client within the heartbeat timeout.
    HEARTBEAT_TIMEOUT = 3012, "heartbeat timeout";
    /// The client has resumed its session on another socket.
    REPLACED = 3013, "replaced by a resume";
    /// The token is not valid.
    INVALID_TOKEN = 3500, "invalid token";
    /// The client's request to connect is invalid.
    BAD_REQUEST = 3501, "bad request";
    /// The client did not authenticate in time.
    NOT_AUTHENTICATED = 3502, "not authenticated in time";
    /// The application disconnected this client.
    DISCONNECTED = 3503, "disconnected by the application";
    /// There are too many connections.
    CONNECTION_LIMIT = 3504, "connection limit";
    /// The credentials were revoked.
    REVOKED = 3505, "revoked";
    /// The application denied permission.
    PERMISSION_DENIED = 3507, "permission denied";
    /// The client sent too many requests that were refused.
    TOO_MANY_ERRORS = 3509, "too many errors";
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} {name}", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// What a client does after a close.
///
/// Exhaustive: a client comes back or stays away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reconnect {
    /// The client reconnects, with the delays of the retry policy.
    ComeBack,
    /// The client stays away: another attempt would end in the same way.
    StayAway,
}

/// Returns whether a client should reconnect after this close code.
///
/// ```
/// use hauyna_protocol::close::{Reconnect, should_reconnect};
/// assert_eq!(should_reconnect(3008), Reconnect::ComeBack);
/// assert_eq!(should_reconnect(3777), Reconnect::StayAway); // nobody has defined it yet
/// ```
#[must_use]
pub const fn should_reconnect(code: u16) -> Reconnect {
    match code {
        1000 | 1002 | 1003 | 1007 | 1008 | 1010 | 3500..=3999 | 4500..=4999 => Reconnect::StayAway,
        _ => Reconnect::ComeBack,
    }
}

/// Maximum of bytes of the reason in a close frame (RFC 6455 §5.5).
pub const MAX_REASON: usize = 123;

/// Returns the reason, cut to at most [`MAX_REASON`] bytes between two characters.
#[must_use]
pub fn fit_reason(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_a_close_frame_and_codes_ascend() {
        assert!(CloseCode::ALL.is_sorted());
        assert!(CloseCode::ALL.iter().all(|code| code.name().is_some_and(|name| name.len() <= MAX_REASON)));
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(fit_reason("bye"), "bye");
        assert_eq!(fit_reason(&"é".repeat(100)).len(), 122);
        assert_eq!(fit_reason(&"x".repeat(124)).len(), 123);
    }
}
