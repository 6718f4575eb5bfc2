//! Fixed secrets for programs that connect: each stands for one user.

use super::Verifier;
use crate::error::Reject;
use crate::handler::Identity;
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// Secret keys of services, which do not end. They are compared in constant time.
///
/// # Examples
///
/// ```
/// use hauyna::{ApiKeys, Handler};
///
/// let key = std::env::var("REPORTS_KEY").unwrap_or("0123456789abcdef0123456789abcdef".into());
/// let handler = Handler::new().authenticate(ApiKeys::new().key(&key, "service:reports"));
/// # drop(handler);
/// ```
#[derive(Default)]
#[must_use]
pub struct ApiKeys(Vec<(Box<[u8]>, String)>);

impl ApiKeys {
    /// No key yet, so nobody comes in.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key for a user.
    ///
    /// # Panics
    ///
    /// Where it is shorter than 16 bytes, and so could be guessed.
    pub fn key(mut self, key: &str, user: impl Into<String>) -> Self {
        assert!(key.len() >= 16, "an API key has at least 16 bytes");
        self.0.push((key.as_bytes().into(), user.into()));
        self
    }

    /// Looks at every key whatever it has found, so that the time tells nothing but lengths.
    fn user(&self, token: &str) -> Option<&str> {
        let mut found = None;
        for (key, user) in &self.0 {
            let is_same: Choice = key.ct_eq(token.as_bytes());
            if bool::from(is_same) {
                found = Some(user.as_str());
            }
        }
        found
    }
}

impl Verifier for ApiKeys {
    async fn verify(&self, token: &str) -> Result<Identity, Reject> {
        self.user(token).map(Identity::new).ok_or(Reject::unauthorized("the key is not valid"))
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
        assert_eq!(keys.user("0123456789abcdef"), Some("one"));
        assert_eq!(keys.user("0123456789abcdeX"), Some("two"));
        for wrong in ["", "0123456789abcde", "0123456789abcdeff", "0123456789ABCDEF", "\0"] {
            assert_eq!(keys.user(wrong), None, "{wrong:?}");
        }
        assert!(!format!("{keys:?}").contains("0123"));
    }
}
