//! The two encodings of `hauyna.v1` and the WebSocket sub-protocol names that choose between them.
//! The router asks here while it answers a handshake. Nothing here reads a frame.

/// How the messages of one connection are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON in text frames; what a plain client gets.
    #[default]
    Json,
    /// MessagePack in binary frames: the same objects, map keys are strings.
    MessagePack,
}

impl Encoding {
    /// Every encoding, in the order in which a server prefers them when a client offers several.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// Returns the name that stands in `Sec-WebSocket-Protocol`.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => SUBPROTOCOL_JSON,
            Self::MessagePack => SUBPROTOCOL_MESSAGE_PACK,
        }
    }

    /// Finds the encoding a sub-protocol names. Names are compared exactly, as RFC 6455 §4.1 wants.
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

/// The sub-protocol of JSON in text frames.
pub const SUBPROTOCOL_JSON: &str = "hauyna.v1.json";

/// The sub-protocol of MessagePack in binary frames.
pub const SUBPROTOCOL_MESSAGE_PACK: &str = "hauyna.v1.msgpack";

/// What a bearer token follows when it rides in `Sec-WebSocket-Protocol`, where no access log records it.
pub const BEARER_PREFIX: &str = "hauyna.bearer.";

/// What the token of a session follows when it rides in `Sec-WebSocket-Protocol`.
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
