//! Authentication by tokens: `Verifier` is the trait, `Jwt` and `ApiKeys` implement it, `Claims` is the
//! content of a token, `Revocation` revokes it. `Handler::authenticate` calls a verifier at the handshake and
//! at a `refresh`. This folder never logs a token.

mod claims;
mod identity;
#[cfg(feature = "jwt")]
mod jwt;
#[cfg(feature = "jwt")]
mod jwt_key;
mod keys;
mod revocation;

pub use claims::Claims;
pub(crate) use claims::weight_of;
pub(crate) use identity::{Credentials, Expiry, IsFuture, IsValue};
pub use identity::{Identity, IntoIdentity, IntoIdentityFuture};
#[cfg(feature = "jwt")]
pub use jwt::Jwt;
#[cfg(feature = "jwt")]
pub use jwt_key::{JwtAlgorithm, JwtKey, JwtKeys};
pub use keys::ApiKeys;
pub use revocation::Revocation;
pub(crate) use revocation::{Revocations, Whose};

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
