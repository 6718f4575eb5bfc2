//! The part of the builder that limits requests and errors: `RateLimit` and the error budget.
//! `dispatch::admission` counts them per connection; the user's next connection starts with what was left.

use super::Handler;
use crate::once::call_once;
use crate::rate::Rate;

/// How much one connection may send. A request over the limit is answered with `rate_limited` and not
/// handled.
///
/// Only what is set here is limited. The numbers are per connection: a client with several connections has
/// several times as much, see
/// [`HubBuilder::max_connections_per_user`](crate::HubBuilder::max_connections_per_user). A user who
/// reconnects has what was left, with or without the session: reconnecting does not reset the limits. Clients
/// with generated names cannot reconnect under the same name, so this does not apply to them.
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
    /// Creates a rate limit that limits nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits messages of every kind: requests, events, and those of [`Handler::on_binary`]. Pings and pongs
    /// do not count.
    pub fn messages(mut self, rate: Rate) -> Self {
        self.messages = Some(rate);
        self
    }

    /// Limits the bytes of messages. A message larger than the burst is accepted when the bucket is full.
    pub fn bytes(mut self, rate: Rate) -> Self {
        self.bytes = Some(rate);
        self
    }

    /// Limits `subscribe_channel`, which costs more than other requests. A client that reconnects subscribes
    /// to all of its channels at once, so the burst has to be at least as large as their number.
    pub fn subscriptions(mut self, rate: Rate) -> Self {
        self.subscriptions = Some(rate);
        self
    }

    /// Limits `update_status`, because each update is sent to all who watch the presence of its user.
    pub fn presence_updates(mut self, rate: Rate) -> Self {
        self.presence_updates = Some(rate);
        self
    }
}

impl Handler {
    /// Limits what one connection may send. Default: nothing is limited; a flood delays the messages of other
    /// clients only briefly, but it takes its share of a core.
    ///
    /// A message over the limit is answered with `rate_limited`, with `details.retry_after` in milliseconds,
    /// and not handled. A client that continues regardless uses up its [error budget](Handler::error_budget)
    /// and is closed. Ignored by [`Handler::echo`].
    ///
    /// # Panics
    ///
    /// If it is called twice: one [`RateLimit`] holds the limits of every kind.
    #[track_caller]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        call_once(&mut self.endpoint.rate_limit, Box::new(limit), "rate_limit");
        self
    }

    /// Sets how many of a connection's requests may fail by the client's own fault before it is closed with
    /// 3509 (stay away). A user who reconnects has what is left of it. Default: 1,000 in 10 s.
    ///
    /// Errors that are the server's fault or that may pass (`timeout`, `unavailable`, `token_expired`,
    /// `internal_error`) are not counted; ten `rate_limited` count as one error.
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

    /// Closes no connection for its errors, however many.
    pub fn no_error_budget(mut self) -> Self {
        self.endpoint.error_budget = None;
        self
    }
}

/// Units in which the error budget counts one error; a `rate_limited` is one unit.
pub(crate) const ERROR_UNITS: u32 = 10;
