//! The two encodings of `hauyna.v1` and the WebSocket sub-protocol names that choose between them.
//! The router uses them while it answers a handshake. Nothing here reads a frame.

/// The encoding of the messages of one connection.
///
/// Exhaustive: `hauyna.v1` has these two; another encoding would be another sub-protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON in text frames, the default of plain clients.
    #[default]
    Json,
    /// MessagePack in binary frames: the same objects, map keys are strings.
    MessagePack,
}

impl Encoding {
    /// All encodings, in the server's order of preference.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// Returns the name in `Sec-WebSocket-Protocol`.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => SUBPROTOCOL_JSON,
            Self::MessagePack => SUBPROTOCOL_MESSAGE_PACK,
        }
    }

    /// Returns the encoding that a sub-protocol names. Names are compared exactly (RFC 6455 §4.1).
    ///
    /// ```
    /// use hauyna_protocol::Encoding;
    /// assert_eq!(Encoding::from_subprotocol("hauyna.v1.json"), Some(Encoding::Json));
    /// assert_eq!(Encoding::from_subprotocol("graphql-ws"), None);
    /// ```
    #[must_use]
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        match name {
            SUBPROTOCOL_JSON => Some(Self::Json),
            SUBPROTOCOL_MESSAGE_PACK => Some(Self::MessagePack),
            _ => None,
        }
    }
}

/// Name of the sub-protocol with JSON in text frames.
pub const SUBPROTOCOL_JSON: &str = "hauyna.v1.json";

/// Name of the sub-protocol with MessagePack in binary frames.
pub const SUBPROTOCOL_MESSAGE_PACK: &str = "hauyna.v1.msgpack";

/// Prefix of a bearer token in `Sec-WebSocket-Protocol`, which access logs do not record.
pub const BEARER_PREFIX: &str = "hauyna.bearer.";

/// Prefix of a session token in `Sec-WebSocket-Protocol`.
pub const RESUME_PREFIX: &str = "hauyna.resume.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_is_found_by_its_own_subprotocol() {
        for encoding in Encoding::ALL {
            assert_eq!(Encoding::from_subprotocol(encoding.subprotocol()), Some(encoding));
        }
    }

    #[test]
    fn subprotocol_names_are_compared_with_their_case() {
        assert_eq!(Encoding::from_subprotocol("Hauyna.v1.json"), None);
    }
}
