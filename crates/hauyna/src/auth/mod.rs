//! Authentication: who a client is, by an API key, a JSON web token or whatever the application verifies.
//!
//! [`Handler::authenticate`](crate::Handler::authenticate) takes a [`Verifier`]: [`ApiKeys`], with the
//! feature `jwt` a `Jwt`, or one of the application. Without tokens,
//! [`Handler::identify`](crate::Handler::identify) returns an [`Identity`] or a name. A [`Revocation`] takes
//! rights away again: [`Hub::revoke`](crate::Hub::revoke). The guide is [Who it
//! is](crate::guide::routing#who-it-is).
//
// Authentication by tokens: `Verifier` is the trait, `Jwt` and `ApiKeys` implement it, `Claims` is the
// content of a token, `Revocation` revokes it. `Handler::authenticate` calls a verifier at the handshake and
// at a `refresh`. This folder never logs a token.

mod claims;
mod identity;
#[cfg(feature = "jwt")]
mod jwt;
#[cfg(feature = "jwt")]
mod jwt_key;
mod keys;
mod revocation;
mod verifier;

pub use claims::Claims;
pub use identity::{Identity, IntoIdentity, IntoIdentityFuture};
#[cfg(feature = "jwt")]
pub use jwt::Jwt;
#[cfg(feature = "jwt")]
pub use jwt_key::{JwtAlgorithm, JwtKey, JwtKeys};
pub use keys::ApiKeys;
pub use revocation::Revocation;
pub use verifier::Verifier;

pub(crate) use claims::weight_of;
pub(crate) use identity::{Credentials, Expiry, IsFuture, IsValue};
pub(crate) use revocation::{Revocations, Whose};
