//! The part of the builder that says how much a client may ask and how much it may do wrong: `RateLimit` and the
//! error budget. Counted by `dispatch::admission`, per connection; what is left when it goes is its user's next one's.

use super::Handler;
use crate::once::call_once;
use crate::rate::Rate;

/// How much one connection may send. What is over it is answered with `rate_limited` and not done.
///
/// Nothing is limited that is not named. The numbers are per connection: a client with several has several
/// times as much, see [`HubBuilder::max_connections_per_user`](crate::HubBuilder::max_connections_per_user). A user who
/// goes and comes back has what was left, with or without the session: reconnecting gives nobody new limits. Clients
/// whose names the hub makes up have none that they could come back with.
///
/// # Examples
///
/// ```
/// use hauyna::{Handler, Rate};
/// use hauyna::handler::RateLimit;
///
/// let handler = Handler::new().rate_limit(
///     RateLimit::new()
///         .messages(Rate::per_second(50).burst(200))
///         .bytes(Rate::per_second(64 * 1024).burst(1024 * 1024))
///         .subscriptions(Rate::per_second(10).burst(128)),
/// );
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct RateLimit {
    pub(crate) messages: Option<Rate>,
    pub(crate) bytes: Option<Rate>,
    pub(crate) subscriptions: Option<Rate>,
    pub(crate) presence_updates: Option<Rate>,
}

impl RateLimit {
    /// No limit at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits messages of every kind: requests, events, and what [`Handler::on_binary`] takes. Pings and pongs are none.
    pub fn messages(mut self, rate: Rate) -> Self {
        self.messages = Some(rate);
        self
    }

    /// Limits the bytes of messages. A message larger than the burst is taken when nothing is owed.
    pub fn bytes(mut self, rate: Rate) -> Self {
        self.bytes = Some(rate);
        self
    }

    /// Limits `subscribe_channel`, which costs more than other requests. A client that comes back subscribes to
    /// all of its channels at once, so the burst should allow as many as it may have.
    pub fn subscriptions(mut self, rate: Rate) -> Self {
        self.subscriptions = Some(rate);
        self
    }

    /// Limits `update_status`, each of which is told to everybody who watches the presence of its user.
    pub fn presence_updates(mut self, rate: Rate) -> Self {
        self.presence_updates = Some(rate);
        self
    }
}

impl Handler {
    /// Limits what one connection may send. Default: nothing is limited; a flood delays nobody else's
    /// messages for long, but it takes its share of a core.
    ///
    /// What is over the limit is answered with `rate_limited`, with `details.retry_after` in milliseconds, and
    /// not done. A client that goes on regardless uses up its [error budget](Handler::error_budget) and is
    /// closed. Ignored by [`Handler::echo`].
    ///
    /// # Panics
    ///
    /// Where it is called twice: one [`RateLimit`] holds the limits of every kind.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        call_once(&mut self.endpoint.rate_limit, Box::new(limit), "rate_limit");
        self
    }

    /// Sets how many of a connection's requests may fail for the client's own fault, before it is closed with
    /// 3509 and told to stay away. A user who comes back has what is left of it. Default: 1,000 in 10 s.
    ///
    /// What is the server's fault or may pass (`timeout`, `unavailable`, `token_expired`, `internal_error`) is
    /// not counted; ten `rate_limited` count as one error.
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::{Handler, Rate};
    /// use std::time::Duration;
    ///
    /// let strict = Handler::new().error_budget(Rate::new(20, Duration::from_secs(60)));
    /// ```
    pub fn error_budget(mut self, errors: Rate) -> Self {
        self.endpoint.error_budget = Some(errors.in_units(ERROR_UNITS));
        self
    }

    /// Closes nobody for its errors, however many.
    pub fn no_error_budget(mut self) -> Self {
        self.endpoint.error_budget = None;
        self
    }
}

/// Parts in which the error budget counts one error; a `rate_limited` is one part.
pub(crate) const ERROR_UNITS: u32 = 10;
