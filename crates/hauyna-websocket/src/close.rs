//! Close codes (RFC 6455 §7.4): the type, the registered values and which of them may be sent. The decoder
//! checks a peer's codes with it, and callers name the reason of a close.

use std::fmt;

/// A WebSocket close code (RFC 6455 §7.4).
///
/// It can hold any `u16`; [`is_valid_on_wire`](Self::is_valid_on_wire) returns whether it may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The connection has served its purpose.
    pub const NORMAL: Self = Self(1000);
    /// The endpoint goes away: a server shuts down, or a browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer violated the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The peer sent a kind of data this endpoint does not accept.
    pub const UNSUPPORTED: Self = Self(1003);
    /// Represents a close frame without a code; never sent.
    pub const NO_STATUS: Self = Self(1005);
    /// Represents a connection that was lost without a close frame; never sent.
    pub const ABNORMAL: Self = Self(1006);
    /// The data do not match their type: text that is not UTF-8, or a corrupt deflate stream.
    pub const INVALID_DATA: Self = Self(1007);
    /// The peer violated a policy and no other code fits.
    pub const POLICY: Self = Self(1008);
    /// The message is too big.
    pub const TOO_BIG: Self = Self(1009);
    /// The client needs an extension that the server did not negotiate.
    pub const MISSING_EXTENSION: Self = Self(1010);
    /// The server encountered an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// The service restarts (IANA registry).
    pub const SERVICE_RESTART: Self = Self(1012);
    /// The service is overloaded; the client may try again later (IANA registry).
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// A gateway got an invalid response (IANA registry).
    pub const BAD_GATEWAY: Self = Self(1014);
    /// Represents a failed TLS handshake; never sent.
    pub const TLS_HANDSHAKE: Self = Self(1015);

    /// Creates a code from any number.
    #[must_use]
    pub const fn new(code: u16) -> Self {
        Self(code)
    }

    /// Returns the number.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Whether the code may appear in a close frame (RFC 6455 §7.4.1 and §7.4.2, IANA registry): 1000–1003,
    /// 1007–1014 and 3000–4999.
    #[must_use]
    pub const fn is_valid_on_wire(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// Returns the code itself if it may be sent, otherwise [`INTERNAL_ERROR`](Self::INTERNAL_ERROR).
    #[must_use]
    pub const fn sendable(self) -> Self {
        if self.is_valid_on_wire() { self } else { Self::INTERNAL_ERROR }
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_stand_for_something_local_never_travel() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!CloseCode::new(code).is_valid_on_wire(), "{code}");
            assert_eq!(CloseCode::new(code).sendable(), CloseCode::INTERNAL_ERROR, "{code}");
        }
        for code in [1000, 1003, 1007, 1011, 1014, 3000, 4999] {
            assert!(CloseCode::new(code).is_valid_on_wire(), "{code}");
            assert_eq!(CloseCode::new(code).sendable().as_u16(), code);
        }
    }
}
