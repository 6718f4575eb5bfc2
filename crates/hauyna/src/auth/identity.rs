//! The identity of a client, as `identify` returns it: a name, perhaps with an expiry and values for
//! callbacks. `router::admit` reads it at the handshake and `dispatch` at a `refresh`.

use crate::error::Reject;
use hauyna_broker::BoxFuture;
use std::future::Future;
use std::time::{Duration, SystemTime};

/// The identity of a client. A plain name is accepted in its place; this type is for more than a name.
///
/// # Examples
///
/// ```
/// use hauyna::{ConnectRequest, Handler, Identity, Reject};
/// use std::time::{Duration, SystemTime};
///
/// #[derive(Clone)]
/// struct Plan(&'static str);
///
/// let handler = Handler::new().identify(|request: ConnectRequest| {
///     let user = request.query("user").ok_or(Reject::unauthorized("who are you?"))?;
///     let identity = Identity::new(user).attach(Plan("free"));
///     Ok::<_, Reject>(identity.expires_at(SystemTime::now() + Duration::from_secs(900)))
/// });
/// # drop(handler);
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Identity {
    pub(crate) user: Option<String>,
    pub(crate) expiry: Option<Expiry>,
    /// How long the connection may stay open after its expiry, set before or after the expiry itself.
    grace: Duration,
    pub(crate) token: Option<Box<str>>,
    pub(crate) attached: http::Extensions,
}

/// The credentials of a connection, apart from the user's name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) expiry: Option<Expiry>,
    /// The token's identifier.
    pub(crate) token: Option<Box<str>>,
    /// Number of revocations that there had been before the credentials were checked.
    pub(crate) revocations: u64,
}

/// When credentials expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) at: SystemTime,
    /// How long the connection may stay open after that.
    pub(crate) grace: Duration,
}

impl Expiry {
    /// Checks that the credentials have not expired.
    ///
    /// # Errors
    ///
    /// `token_expired` if the expiry is past.
    pub(crate) fn check(&self) -> Result<(), Reject> {
        if self.time_left().is_zero() { Err(Reject::expired("the credentials have expired")) } else { Ok(()) }
    }

    /// Returns how long the connection may stay open. A moment beyond the range of the clock means for ever.
    pub(crate) fn time_left(&self) -> Duration {
        let Some(end) = self.at.checked_add(self.grace) else { return Duration::MAX };
        end.duration_since(SystemTime::now()).unwrap_or_default()
    }
}

impl Identity {
    /// Creates an identity from a user's name.
    pub fn new(user: impl Into<String>) -> Self {
        Self { user: Some(user.into()), ..Self::default() }
    }

    /// Returns the user; `None` if the hub is to generate a name.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Creates an identity without a name: the hub generates one. At a `refresh` the user stays the same.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Sets when the credentials expire: then the connection is closed with 3005, unless a `refresh` came
    /// before.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expiry = Some(Expiry { at, grace: self.grace });
        self
    }

    /// Sets how long the connection stays open after [`Identity::expires_at`], for clocks that differ.
    /// Default: 0.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        if let Some(expiry) = &mut self.expiry {
            expiry.grace = grace;
        }
        self
    }

    /// Sets the token's identifier, so that the token can be revoked: see
    /// [`Revocation::token`](crate::auth::Revocation::token). For a JSON web token it is the `jti`.
    pub fn token_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.token = Some(id.into());
        self
    }

    /// Attaches a value to the connection, one for each type; see
    /// [`Context::extension`](crate::Context::extension).
    pub fn attach<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.attached.insert(value);
        self
    }
}

/// A value that can be used as an [`Identity`]: itself, a name, or `None` to have a name generated.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say who a client is",
    label = "expected a name, `Option<String>` or `Identity`",
    note = "return `String`, `&'static str`, `Option<String>` (`None` generates a name) or `hauyna::Identity`"
)]
pub trait IntoIdentity: Send {
    /// Converts the value.
    fn into_identity(self) -> Identity;
}

impl IntoIdentity for Identity {
    fn into_identity(self) -> Identity {
        self
    }
}

impl IntoIdentity for String {
    fn into_identity(self) -> Identity {
        Identity::new(self)
    }
}

impl IntoIdentity for &'static str {
    fn into_identity(self) -> Identity {
        Identity::new(self)
    }
}

impl IntoIdentity for Option<String> {
    fn into_identity(self) -> Identity {
        Identity { user: self, ..Identity::default() }
    }
}

/// A value that `identify` may return: `Result<impl IntoIdentity, Reject>`, or a future of it. The parameter
/// only distinguishes the two.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what `identify` returns",
    label = "expected `Result<name, Reject>` or a `Send` future of it",
    note = "return `Ok(name)` or `Err(Reject::unauthorized(..))`; a future must be `Send + 'static`: \
            clone what it needs before `async move`"
)]
pub trait IntoIdentityFuture<M>: Send {
    /// Converts the value into a future of the identity.
    fn into_identity_future(self) -> BoxFuture<Result<Identity, Reject>>;
}

/// Marks a value that is returned directly.
#[derive(Debug)]
pub struct IsValue;

/// Marks a future.
#[derive(Debug)]
pub struct IsFuture;

impl<U: IntoIdentity> IntoIdentityFuture<IsValue> for Result<U, Reject> {
    fn into_identity_future(self) -> BoxFuture<Result<Identity, Reject>> {
        Box::pin(std::future::ready(self.map(IntoIdentity::into_identity)))
    }
}

impl<Fut, U> IntoIdentityFuture<IsFuture> for Fut
where
    Fut: Future<Output = Result<U, Reject>> + Send + 'static,
    U: IntoIdentity,
{
    fn into_identity_future(self) -> BoxFuture<Result<Identity, Reject>> {
        Box::pin(async move { self.await.map(IntoIdentity::into_identity) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_counts_whether_it_is_set_before_the_end_or_after() {
        let (at, grace) = (SystemTime::UNIX_EPOCH, Duration::from_secs(5));
        for identity in
            [Identity::new("a").grace(grace).expires_at(at), Identity::new("a").expires_at(at).grace(grace)]
        {
            assert_eq!(identity.expiry, Some(Expiry { at, grace }));
        }
        assert_eq!(Identity::new("a").grace(grace).expiry, None);
    }
}
