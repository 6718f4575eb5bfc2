//! Who a client is, as `identify` says it: a name, perhaps with an end and with what callbacks shall know.
//! Read by `router::admit` at the handshake and by `dispatch` at a `refresh`.

use crate::broker::BoxFuture;
use crate::error::Reject;
use std::future::Future;
use std::time::{Duration, SystemTime};

/// Who a client is. A plain name is one too; this is for more than a name.
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
///     Ok::<_, Reject>(Identity::new(user).attach(Plan("free")).expires_at(SystemTime::now() + Duration::from_secs(900)))
/// });
/// # drop(handler);
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Identity {
    pub(crate) user: Option<String>,
    pub(crate) expiry: Option<Expiry>,
    /// How long after its end the connection lives on, whether it has one yet or not.
    grace: Duration,
    pub(crate) token: Option<Box<str>>,
    pub(crate) attached: http::Extensions,
}

/// What is known of a connection's credentials besides the user's name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) expiry: Option<Expiry>,
    /// The token's identifier.
    pub(crate) token: Option<Box<str>>,
    /// How many revocations there had been before they were looked at.
    pub(crate) revocations: u64,
}

/// When credentials end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) at: SystemTime,
    /// How long the connection lives on.
    pub(crate) grace: Duration,
}

impl Expiry {
    /// # Errors
    ///
    /// `token_expired` where the end is past.
    pub(crate) fn check(&self) -> Result<(), Reject> {
        if self.time_left().is_zero() { Err(Reject::expired("the credentials have expired")) } else { Ok(()) }
    }

    /// How long the connection may live on. A moment that no clock reaches is the end of time.
    pub(crate) fn time_left(&self) -> Duration {
        let Some(end) = self.at.checked_add(self.grace) else { return Duration::MAX };
        end.duration_since(SystemTime::now()).unwrap_or_default()
    }
}

impl Identity {
    /// A user by name.
    pub fn new(user: impl Into<String>) -> Self {
        Self { user: Some(user.into()), ..Self::default() }
    }

    /// The user; none where a name is yet to be generated.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Nobody in particular: a name is generated. At a `refresh`: whoever it is already.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Sets when the credentials end: then the connection is closed with 3005, unless a `refresh` came before.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expiry = Some(Expiry { at, grace: self.grace });
        self
    }

    /// Sets how long after [`Identity::expires_at`] the connection lives on: for clocks that disagree. Default: 0.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        if let Some(expiry) = &mut self.expiry {
            expiry.grace = grace;
        }
        self
    }

    /// Names the token, so that it can be revoked: see
    /// [`Revocation::token`](crate::auth::Revocation::token). That of a JSON web token is its `jti`.
    pub fn token_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.token = Some(id.into());
        self
    }

    /// Attaches a value to the connection, one for each type; see [`Context::extension`](super::Context::extension).
    pub fn attach<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.attached.insert(value);
        self
    }
}

/// What stands for an [`Identity`]: itself, a name, or `None` to have a name generated.
pub trait IntoIdentity: Send {
    /// The identity.
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

/// What `identify` may return: `Result<impl IntoIdentity, Reject>`, or a future of it. The parameter only tells
/// the two apart.
pub trait IntoIdentityFuture<M>: Send {
    /// The identity, later.
    fn into_identity_future(self) -> BoxFuture<Result<Identity, Reject>>;
}

/// Marks a value that is there at once.
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
