//! The keys that sign JSON web tokens, each with the one algorithm it is for: the algorithm that a token
//! names never decides how its signature is checked. `jwt` looks them up.

use crate::error::Error;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::RwLock;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// A signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256, a secret of at least 32 bytes.
    Hs256,
    /// HMAC with SHA-384, a secret of at least 48 bytes.
    Hs384,
    /// HMAC with SHA-512, a secret of at least 64 bytes.
    Hs512,
    /// RSA, PKCS #1 v1.5, with SHA-256; 2,048 bits or more.
    Rs256,
    /// RSA, PKCS #1 v1.5, with SHA-384.
    Rs384,
    /// RSA, PKCS #1 v1.5, with SHA-512.
    Rs512,
    /// RSA, PSS, with SHA-256.
    Ps256,
    /// RSA, PSS, with SHA-384.
    Ps384,
    /// RSA, PSS, with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    fn of(algorithm: KeyAlgorithm) -> Option<Self> {
        Some(match algorithm {
            KeyAlgorithm::RS256 => Self::Rs256,
            KeyAlgorithm::RS384 => Self::Rs384,
            KeyAlgorithm::RS512 => Self::Rs512,
            KeyAlgorithm::PS256 => Self::Ps256,
            KeyAlgorithm::PS384 => Self::Ps384,
            KeyAlgorithm::PS512 => Self::Ps512,
            KeyAlgorithm::ES256 => Self::Es256,
            KeyAlgorithm::ES384 => Self::Es384,
            KeyAlgorithm::EdDSA => Self::EdDsa,
            _ => return None,
        })
    }

    fn theirs(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::Hs384 => Algorithm::HS384,
            Self::Hs512 => Algorithm::HS512,
            Self::Rs256 => Algorithm::RS256,
            Self::Rs384 => Algorithm::RS384,
            Self::Rs512 => Algorithm::RS512,
            Self::Ps256 => Algorithm::PS256,
            Self::Ps384 => Algorithm::PS384,
            Self::Ps512 => Algorithm::PS512,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }

    /// Returns the bytes that a secret must have (RFC 7518 §3.2), if the algorithm uses a secret.
    fn secret(self) -> Option<usize> {
        match self {
            Self::Hs256 => Some(32),
            Self::Hs384 => Some(48),
            Self::Hs512 => Some(64),
            _ => None,
        }
    }

    /// Returns the object identifier of the public key, or of its curve.
    fn identifier(self) -> Option<&'static [u8]> {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => None,
            Self::Es256 => Some(&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]),
            Self::Es384 => Some(&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22]),
            Self::EdDsa => Some(&[0x06, 0x03, 0x2b, 0x65, 0x70]),
            _ => Some(&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]),
        }
    }
}

/// One key, with the one algorithm that it is for.
#[derive(Clone)]
pub struct JwtKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    pub(super) kid: Option<String>,
}

impl JwtKey {
    /// Creates a key from a secret that both sides know.
    ///
    /// # Errors
    ///
    /// The algorithm does not use a secret, the secret is too short, or it is a public key.
    pub fn secret(algorithm: JwtAlgorithm, secret: impl AsRef<[u8]>) -> Result<Self, Error> {
        let secret = secret.as_ref();
        let min = algorithm.secret().ok_or_else(|| mismatch(algorithm, "a secret"))?;
        if secret.len() < min {
            return Err(Error::config(format!("a secret for {algorithm:?} needs at least {min} bytes")));
        }
        if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err(mismatch(algorithm, "a key in PEM"));
        }
        Ok(Self { algorithm: algorithm.theirs(), key: DecodingKey::from_secret(secret), kid: None })
    }

    /// Creates a key from a public key in PEM: `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    ///
    /// It is not a public key, or not of the kind that the algorithm needs.
    pub fn pem(algorithm: JwtAlgorithm, pem: impl AsRef<[u8]>) -> Result<Self, Error> {
        let identifier = algorithm.identifier().ok_or_else(|| mismatch(algorithm, "a public key"))?;
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_ref())
            .map_err(|_| Error::config("not a public key in PEM (`BEGIN PUBLIC KEY`)"))?;
        // Both identifiers are at the beginning (RFC 5280 §4.1): lengths, then the algorithm.
        let head = &der[..der.len().min(HEAD)];
        if !head.windows(identifier.len()).any(|window| window == identifier) {
            return Err(mismatch(algorithm, "this kind of public key"));
        }
        let key = match algorithm {
            JwtAlgorithm::Es256 | JwtAlgorithm::Es384 => DecodingKey::from_ec_der(&der),
            JwtAlgorithm::EdDsa => DecodingKey::from_ed_der(&der),
            _ => DecodingKey::from_rsa_der(&der),
        };
        Ok(Self { algorithm: algorithm.theirs(), key, kid: None })
    }

    /// Creates a key from a public JSON web key, which must name its algorithm (`alg`).
    ///
    /// # Errors
    ///
    /// It is not a key, is a secret, or its algorithm is missing, unknown or does not fit.
    pub fn jwk(jwk: &Value) -> Result<Self, Error> {
        let bad = |what: &str| Error::config(format!("JSON web key: {what}"));
        let jwk: Jwk = serde_json::from_value(jwk.clone()).map_err(|_| bad("malformed"))?;
        let algorithm = jwk.common.key_algorithm.and_then(JwtAlgorithm::of);
        let algorithm = algorithm.ok_or_else(|| bad("no `alg`, or an unknown one"))?.theirs();
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| bad("malformed"))?;
        if key.family() != algorithm.family() || matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) {
            return Err(bad("`alg` does not fit `kty`"));
        }
        Ok(Self { algorithm, key, kid: jwk.common.key_id })
    }

    /// Sets the identifier by which tokens name this key (`kid`).
    #[must_use]
    pub fn kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }
}

fn mismatch(algorithm: JwtAlgorithm, what: &str) -> Error {
    Error::config(format!("{algorithm:?} does not work with {what}"))
}

/// Keys that can be replaced while they are in use. A handle that is cheap to clone; all clones share one
/// set.
///
/// Fetching a set is up to the application: it knows the address, which must never come from a token. Fetch
/// it periodically, with a timeout, and [`replace`](JwtKeys::replace) the keys.
#[derive(Clone)]
pub struct JwtKeys(Arc<RwLock<Arc<[JwtKey]>>>);

impl JwtKeys {
    /// Creates a set of keys.
    pub fn new(keys: impl IntoIterator<Item = JwtKey>) -> Self {
        Self(Arc::new(RwLock::new(keys.into_iter().collect())))
    }

    /// Returns the signing keys of a JSON web key set: keys for encryption and those of unknown algorithms
    /// are left out.
    ///
    /// # Errors
    ///
    /// It is not a set, or no key in it can be used.
    pub fn jwks(json: &str) -> Result<Vec<JwtKey>, Error> {
        let set: Value = serde_json::from_str(json).map_err(|_| Error::config("not a JSON web key set"))?;
        let keys = set["keys"].as_array().ok_or_else(|| Error::config("not a JSON web key set"))?;
        let is_signing = |key: &&Value| {
            let public_use = serde_json::from_value::<PublicKeyUse>(key["use"].clone());
            public_use.is_ok_and(|public_use| public_use == PublicKeyUse::Signature)
                || key.get("use").is_none()
        };
        let keys: Vec<_> = keys.iter().filter(is_signing).filter_map(|key| JwtKey::jwk(key).ok()).collect();
        if keys.is_empty() { Err(Error::config("no key of this set can be used")) } else { Ok(keys) }
    }

    /// Replaces all keys: later tokens are verified with the new ones.
    pub fn replace(&self, keys: impl IntoIterator<Item = JwtKey>) {
        *self.0.write() = keys.into_iter().collect();
    }

    pub(super) fn current(&self) -> Arc<[JwtKey]> {
        self.0.read().clone()
    }
}

impl From<JwtKey> for JwtKeys {
    fn from(key: JwtKey) -> Self {
        Self::new([key])
    }
}

impl From<Vec<JwtKey>> for JwtKeys {
    fn from(keys: Vec<JwtKey>) -> Self {
        Self::new(keys)
    }
}

impl<const N: usize> From<[JwtKey; N]> for JwtKeys {
    fn from(keys: [JwtKey; N]) -> Self {
        Self::new(keys)
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.current().iter()).finish()
    }
}

/// Bytes at the start of a public key that contain its algorithm.
const HEAD: usize = 32;
