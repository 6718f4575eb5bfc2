//! The tokens that resume sessions: the identifier of a connection, authenticated with a key of the hub. So
//! no token is stored for live connections, and a token that was used names a connection that is gone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hauyna_broker::ConnectionId;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::fmt;
use std::hash::Hasher;
use subtle::ConstantTimeEq;

/// The key of one hub, drawn at random.
pub(super) struct TokenKey([u8; 16]);

impl TokenKey {
    pub(super) fn new() -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&crate::random::u64().to_le_bytes());
        key[8..].copy_from_slice(&crate::random::u64().to_le_bytes());
        Self(key)
    }

    /// Returns the token of a connection: 32 characters of base64url.
    pub(super) fn token(&self, id: ConnectionId) -> String {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&id.number().to_be_bytes());
        bytes[8..].copy_from_slice(&self.code(id));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Returns the connection that a token names, if this hub has made the token.
    pub(super) fn read(&self, token: &str) -> Option<ConnectionId> {
        let mut bytes = [0; 24];
        if URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) != Ok(bytes.len()) {
            return None;
        }
        let (id, code) = bytes.split_first_chunk::<8>()?;
        let id = ConnectionId::new(u64::from_be_bytes(*id));
        bool::from(self.code(id).ct_eq(code)).then_some(id)
    }

    /// Returns the SipHash-2-4 of the identifier with 128 bits: a message authentication code for short
    /// messages.
    fn code(&self, id: ConnectionId) -> [u8; 16] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write_u64(id.number());
        hasher.finish128().as_bytes()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_connection_and_any_other_text_names_none() {
        let (key, other) = (TokenKey::new(), TokenKey::new());
        let id = ConnectionId::new(0x0123_4567_89ab_cdef);
        let token = key.token(id);
        assert_eq!((token.len(), key.read(&token)), (32, Some(id)));
        assert_eq!(other.read(&token), None, "a hub does not know the tokens of another");
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.read(std::str::from_utf8(&forged).unwrap()), None, "changed at {at}");
        }
        for text in ["", "A", &token[1..], &format!("{token}A"), &format!("{token}="), "é", &"A".repeat(9999)]
        {
            assert_eq!(key.read(text), None, "{text}");
        }
    }
}
