//! API keys: fixed secrets for programs that connect, each for one user. Called through `Verifier`.

use super::{Identity, Verifier};
use crate::error::Reject;
use hauyna_broker::UserId;
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// Secret keys of services, which do not expire. They are compared in constant time.
///
/// # Examples
///
/// ```
/// use hauyna::Handler;
/// use hauyna::auth::ApiKeys;
///
/// let key = std::env::var("REPORTS_KEY").unwrap_or("0123456789abcdef0123456789abcdef".into());
/// let handler = Handler::new().authenticate(ApiKeys::new().key(&key, "service:reports"));
/// # drop(handler);
/// ```
#[derive(Default)]
#[must_use]
pub struct ApiKeys(Vec<Key>);

struct Key {
    key: Box<[u8]>,
    user: String,
    id: Option<Box<str>>,
}

impl ApiKeys {
    /// Creates an empty set, which refuses every client.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key for a user.
    ///
    /// # Panics
    ///
    /// If the key is shorter than 16 bytes, and so could be guessed, or was added before, or if the user's
    /// name is invalid.
    #[track_caller]
    pub fn key(self, key: &str, user: impl Into<String>) -> Self {
        self.add(key, user.into(), None)
    }

    /// Adds a key with an identifier, by which it can be revoked:
    /// [`Revocation::token`](crate::auth::Revocation::token).
    ///
    /// # Panics
    ///
    /// The panics of [`ApiKeys::key`].
    #[track_caller]
    pub fn named(self, id: impl Into<Box<str>>, key: &str, user: impl Into<String>) -> Self {
        self.add(key, user.into(), Some(id.into()))
    }

    #[track_caller]
    fn add(mut self, key: &str, user: String, id: Option<Box<str>>) -> Self {
        assert!(key.len() >= 16, "an API key needs at least 16 bytes");
        if let Err(fault) = UserId::new(&user) {
            panic!("an API key needs a valid user: {fault}");
        }
        assert!(self.find(key).is_none(), "this API key is added twice, but can be for one user only");
        self.0.push(Key { key: key.as_bytes().into(), user, id });
        self
    }

    /// Finds a key. It compares every key even after a match, so that the time reveals nothing but lengths.
    fn find(&self, token: &str) -> Option<&Key> {
        let mut found = None;
        for candidate in &self.0 {
            let is_same: Choice = candidate.key.ct_eq(token.as_bytes());
            if bool::from(is_same) {
                found = Some(candidate);
            }
        }
        found
    }
}

impl Verifier for ApiKeys {
    async fn verify(&self, token: &str) -> Result<Identity, Reject> {
        let key = self.find(token).ok_or(Reject::unauthorized("the key is not valid"))?;
        let mut identity = Identity::new(&key.user);
        identity.token = key.id.clone();
        Ok(identity)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys").field("keys", &self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_46_keys_are_compared_whole_and_in_constant_time() {
        let keys = ApiKeys::new().key("0123456789abcdef", "one").key("0123456789abcdeX", "two");
        let user = |token: &str| keys.find(token).map(|key| key.user.as_str());
        assert_eq!(user("0123456789abcdef"), Some("one"));
        assert_eq!(user("0123456789abcdeX"), Some("two"));
        for wrong in ["", "0123456789abcde", "0123456789abcdeff", "0123456789ABCDEF", "\0"] {
            assert_eq!(user(wrong), None, "{wrong:?}");
        }
        assert!(!format!("{keys:?}").contains("0123"));
    }
}
