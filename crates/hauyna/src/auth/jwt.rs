//! JSON web tokens (RFC 7519), verified as RFC 8725 requires: the algorithm is that of the key, times are
//! numbers, and every failure has the same answer. Called through `Verifier`.

use super::jwt_key::JwtKey;
use super::{Claims, Identity, JwtKeys, Verifier};
use crate::error::Reject;
use crate::once::set_once;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

type UserOf = Arc<dyn Fn(&Claims) -> Option<String> + Send + Sync>;

/// A verifier of JSON web tokens.
///
/// A token needs a signature by one of the keys, with that key's algorithm; `exp`, and `nbf` if present, as
/// numbers; the issuer and the audience that are set here; and a user, `sub` unless another claim is set.
/// Callbacks can read all of its claims ([`Context::claims`](crate::Context::claims)), and the connection
/// ends when it expires.
///
/// # Examples
///
/// ```
/// use hauyna::{Context, Handler, Value};
/// use hauyna::auth::{Jwt, JwtAlgorithm, JwtKey};
///
/// #[derive(serde::Deserialize)]
/// struct Mine { plan: String }
///
/// # fn main() -> hauyna::Result {
/// let key = JwtKey::secret(JwtAlgorithm::Hs256, "0123456789abcdef0123456789abcdef")?;
/// let handler = Handler::new()
///     .authenticate(Jwt::new(key).issuer("https://login.example").audience("chat"))
///     .on("plan", async |cx: Context, _: Value| Ok(cx.claims::<Mine>()?.plan));
/// # drop(handler);
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Jwt {
    keys: JwtKeys,
    issuers: Vec<String>,
    audiences: Vec<String>,
    required: Vec<String>,
    leeway: Duration,
    /// The function that reads the user; `None` for `sub`.
    user: Option<UserOf>,
}

impl Jwt {
    /// Creates a verifier with one key, several, or a set that can be replaced.
    pub fn new(keys: impl Into<JwtKeys>) -> Self {
        Self {
            keys: keys.into(),
            issuers: Vec::new(),
            audiences: Vec::new(),
            required: Vec::new(),
            leeway: Duration::ZERO,
            user: None,
        }
    }

    /// Requires `iss` to be this issuer; if called several times, one of them.
    ///
    /// Issuers of one verifier share its keys: for issuers that do not trust each other create a verifier
    /// each.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Requires this audience to be in `aud`; if called several times, one of them. Without it, a token with
    /// `aud` is refused.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Requires a claim to be present, whatever its value.
    pub fn require(mut self, claim: impl Into<String>) -> Self {
        self.required.push(claim.into());
        self
    }

    /// Sets by how much clocks may differ, for `exp` and `nbf`; at most an hour. Default: 0.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway.min(Duration::from_secs(3600));
        self
    }

    /// Reads the user from another claim than `sub`.
    ///
    /// # Panics
    ///
    /// If it, or [`Jwt::user`], was called before.
    #[track_caller]
    pub fn user_claim(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.user(move |claims| claims.text(&name).map(str::to_owned))
    }

    /// Reads the user from the claims by a function. `None` refuses the token.
    ///
    /// # Panics
    ///
    /// If it, or [`Jwt::user_claim`], was called before.
    #[track_caller]
    pub fn user(mut self, f: impl Fn(&Claims) -> Option<String> + Send + Sync + 'static) -> Self {
        let fault = "`user` or `user_claim` sets the user already; call only one of them, once";
        set_once::<UserOf>(&mut self.user, Arc::new(f), fault);
        self
    }

    /// Verifies a token completely.
    fn judge(&self, token: &str) -> Result<Identity, Fault> {
        let claims = self.signed(token)?;
        let exp = number(&claims, "exp")?.ok_or(Fault::Bad("no exp"))?;
        let nbf = number(&claims, "nbf")?.unwrap_or_default();
        number(&claims, "iat")?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let leeway = self.leeway.as_secs_f64();
        if exp + leeway <= now {
            return Err(Fault::Expired);
        }
        if nbf - leeway > now {
            return Err(Fault::Bad("not valid yet"));
        }
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if !self.issuers.is_empty()
            && !text("iss").is_some_and(|iss| self.issuers.iter().any(|issuer| issuer == iss))
        {
            return Err(Fault::Bad("another issuer"));
        }
        if !self.audiences.is_empty() && !self.is_for_us(claims.get("aud")) {
            return Err(Fault::Bad("another audience"));
        }
        if self.required.iter().any(|name| claims.get(name).is_none_or(Value::is_null)) {
            return Err(Fault::Bad("a claim is missing"));
        }
        let claims = Claims::of(claims);
        let user = match &self.user {
            Some(user) => user(&claims),
            None => claims.text("sub").map(str::to_owned),
        };
        let user = user.filter(|user| !user.is_empty()).ok_or(Fault::Bad("no user"))?;
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(exp);
        let mut identity = Identity::new(user).expires_at(end).grace(self.leeway);
        identity.token = claims.text("jti").map(Into::into);
        Ok(identity.attach(claims))
    }

    fn is_for_us(&self, audience: Option<&Value>) -> bool {
        let is_ours = |value: &Value| {
            value.as_str().is_some_and(|text| self.audiences.iter().any(|audience| audience == text))
        };
        match audience {
            Some(Value::Array(several)) => several.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        }
    }

    /// Returns the claims, if one of the keys has signed them.
    fn signed(&self, token: &str) -> Result<Map<String, Value>, Fault> {
        let header = decode_header(token).map_err(|_| Fault::Bad("malformed"))?;
        // No critical header is supported (RFC 7515 §4.1.11).
        if header.crit.is_some() {
            return Err(Fault::Bad("critical headers"));
        }
        let keys = self.keys.current();
        let named = |key: &&JwtKey| match (&header.kid, &key.kid) {
            (Some(wanted), Some(known)) => wanted == known,
            // A key without a name fits every token, a token without one every key.
            _ => true,
        };
        let mut fault = Fault::Bad("no key for it");
        for key in keys.iter().filter(named).filter(|key| key.algorithm == header.alg) {
            match decode(token, &key.key, &self.validation(key)) {
                Ok(data) => return Ok(data.claims),
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => fault = Fault::Bad("signature"),
                Err(_) => return Err(Fault::Bad("claims")),
            }
        }
        Err(fault)
    }

    fn validation(&self, key: &JwtKey) -> Validation {
        let mut validation = Validation::new(key.algorithm);
        // The library counts whole seconds, which is too coarse: `judge` checks both.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        if !self.audiences.is_empty() {
            validation.set_audience(&self.audiences);
        }
        validation
    }
}

impl Verifier for Jwt {
    async fn verify(&self, token: &str) -> Result<Identity, Reject> {
        self.judge(token).map_err(|fault| match fault {
            Fault::Expired => Reject::expired("the token has expired"),
            Fault::Bad(why) => {
                // Only the log says which check failed: a forger must not learn it.
                tracing::debug!(target: "hauyna::auth", why, "a token was refused");
                Reject::unauthorized("the token is not valid")
            }
        })
    }
}

#[derive(Debug)]
enum Fault {
    Expired,
    Bad(&'static str),
}

/// Returns a moment in seconds; `None` if the claim is absent.
fn number(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Fault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..=LATEST).contains(seconds));
    seconds.map(Some).ok_or(Fault::Bad("not a moment"))
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("keys", &self.keys)
            .field("issuers", &self.issuers)
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}

/// The end of the year 9999, in seconds.
const LATEST: f64 = 253_402_300_799.0;
