//! The trait that finds out whom a token belongs to.

use super::Identity;
use crate::error::Reject;
use std::future::Future;

/// Finds out whom a token belongs to; see [`Handler::authenticate`](crate::Handler::authenticate).
///
/// # Examples
///
/// ```
/// use hauyna::{Handler, Identity, Reject};
/// use hauyna::auth::Verifier;
///
/// struct Sessions(std::collections::HashMap<String, String>);
///
/// impl Verifier for Sessions {
///     async fn verify(&self, token: &str) -> Result<Identity, Reject> {
///         let user = self.0.get(token).ok_or(Reject::unauthorized("the session is not known"))?;
///         Ok(Identity::new(user))
///     }
/// }
///
/// let handler = Handler::new().authenticate(Sessions([("s-1".into(), "ada".into())].into()));
/// # drop(handler);
/// ```
pub trait Verifier: Send + Sync + 'static {
    /// Verifies a token.
    ///
    /// # Errors
    ///
    /// [`Reject::unauthorized`] for an invalid token, [`Reject::expired`] for an expired one.
    fn verify(&self, token: &str) -> impl Future<Output = Result<Identity, Reject>> + Send;
}
