//! Authentication: API keys, JSON web tokens, revocation.
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
