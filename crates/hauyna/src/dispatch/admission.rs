//! Rate limits and the error budget of a connection: counts what its handler limits, and closes connections
//! whose errors have used up their budget. `dispatch` and `reply` call it, on the connection's own task. The
//! user's next connection starts with what is left: reconnecting does not reset the limits.

use crate::channel::ChannelCore;
use crate::close::CloseReason;
use crate::connection::ConnectionCore;
use crate::driver::CloseDetails;
use crate::error::Error;
use crate::handler::{ERROR_UNITS, RateLimit};
use crate::outbox::Backlog;
use crate::rate::{Bucket, Rate};
use hauyna_broker::ConnectionId;
use hauyna_protocol::ErrorType;
use hauyna_protocol::close::CloseCode;
use std::sync::Arc;
use std::time::Duration;

/// The token buckets of one connection, for its handler's [`RateLimit`].
#[derive(Debug)]
pub(crate) struct Meters {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    subscriptions: Option<Bucket>,
    presence_updates: Option<Bucket>,
}

impl Meters {
    fn full(limit: &RateLimit, now: u64) -> Self {
        let full = |rate: Option<Rate>| rate.map(|rate| Bucket::full(rate, now));
        Self {
            messages: full(limit.messages),
            bytes: full(limit.bytes),
            subscriptions: full(limit.subscriptions),
            presence_updates: full(limit.presence_updates),
        }
    }

    /// Returns how long it takes until every bucket is full again.
    fn full_after(&self, limit: &RateLimit, now: u64) -> Duration {
        let limits = [
            (limit.messages, self.messages),
            (limit.bytes, self.bytes),
            (limit.subscriptions, self.subscriptions),
            (limit.presence_updates, self.presence_updates),
        ];
        let full_after =
            limits.iter().filter_map(|(rate, bucket)| Some(bucket.as_ref()?.full_after((*rate)?, now)));
        full_after.max().unwrap_or_default()
    }
}

/// What is left of a handler's limits for a connection that is gone.
#[derive(Debug)]
pub(crate) struct Remainder {
    meters: Option<Box<Meters>>,
    errors: Option<Bucket>,
}

/// Keeps what is left of a closing connection's limits, if anything of them is used up.
pub(crate) fn keep_remainder(core: &Arc<ConnectionCore>) {
    let Some(cold) = core.existing_cold() else { return };
    let (meters, errors) = (cold.meters.lock().take(), cold.errors.lock().take());
    let (endpoint, now) = (core.endpoint(), core.hub().clock.millis());
    let limit = endpoint.rate_limit.as_deref();
    let of_meters = meters.as_ref().zip(limit).map(|(meters, limit)| meters.full_after(limit, now));
    let of_errors = errors.zip(endpoint.error_budget).map(|(errors, budget)| errors.full_after(budget, now));
    let whole_after = of_meters.max(of_errors).unwrap_or_default();
    if !whole_after.is_zero() {
        let remainder = Remainder { meters, errors };
        endpoint.used_limits.keep(&remainder_key(core), core.id().number(), remainder, whole_after);
    }
}

/// Returns the key under which the remainder is kept. A handler may serve several hubs: users of different
/// hubs are different users, and the clocks of the hubs differ.
fn remainder_key(core: &Arc<ConnectionCore>) -> String {
    format!("{}:{}", core.hub().number, core.user())
}

/// Gives a connection the remainder of another connection of its user: that of `from`, or else the smallest
/// one.
pub(crate) fn take_remainder(core: &Arc<ConnectionCore>, from: ConnectionId) {
    let remainders = &core.endpoint().used_limits;
    if remainders.is_empty() {
        return;
    }
    if let Some(Remainder { meters, errors }) = remainders.take(&remainder_key(core), from.number()) {
        let cold = core.cold();
        *cold.meters.lock() = meters;
        *cold.errors.lock() = errors;
    }
}

/// Counts a message of this size.
#[inline]
pub(super) fn admit_message(core: &Arc<ConnectionCore>, bytes: usize) -> Result<(), Error> {
    match &core.endpoint().rate_limit {
        None => Ok(()),
        Some(limit) => with_meters(core, limit, |meters, now| {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let messages = (limit.messages, meters.messages.as_mut(), 1, "too many messages");
            let bytes = (limit.bytes, meters.bytes.as_mut(), bytes, "too many bytes");
            let mut both = [messages, bytes];
            // A message refused for one of the two limits uses up nothing of the other.
            for (rate, bucket, cost, text) in &mut both {
                if let (Some(rate), Some(bucket)) = (*rate, bucket) {
                    bucket.check_in_turn(rate, *cost, now).map_err(|wait| rate_limited(text, wait))?;
                }
            }
            for (rate, bucket, cost, _) in both {
                if let (Some(rate), Some(bucket)) = (rate, bucket) {
                    bucket.spend(rate, cost);
                }
            }
            Ok(())
        }),
    }
}

/// Takes back the count of a message, if it has a limit of its own.
pub(super) fn uncount_message(core: &Arc<ConnectionCore>) {
    let Some(limit) = &core.endpoint().rate_limit else { return };
    let Some(rate) = limit.messages else { return };
    let mut meters = core.cold().meters.lock();
    if let Some(bucket) = meters.as_mut().and_then(|meters| meters.messages.as_mut()) {
        bucket.give_back(rate, 1);
    }
}

/// Counts a request to subscribe.
pub(super) fn admit_subscription(core: &Arc<ConnectionCore>) -> Result<(), Error> {
    let Some(limit) = &core.endpoint().rate_limit else { return Ok(()) };
    let Some(rate) = limit.subscriptions else { return Ok(()) };
    with_meters(core, limit, |meters, now| {
        take(&mut meters.subscriptions, rate, "too many subscriptions", now)
    })
}

/// Counts a change that a client makes to its own presence.
pub(super) fn admit_presence_update(core: &Arc<ConnectionCore>) -> Result<(), Error> {
    let Some(limit) = &core.endpoint().rate_limit else { return Ok(()) };
    let Some(rate) = limit.presence_updates else { return Ok(()) };
    with_meters(core, limit, |meters, now| {
        take(&mut meters.presence_updates, rate, "too many changes of presence", now)
    })
}

/// Counts a publication of a client in a channel.
pub(super) fn admit_publication(core: &Arc<ConnectionCore>, channel: &ChannelCore) -> Result<(), Error> {
    let Some(rate) = channel.options.rate else { return Ok(()) };
    let now = core.hub().clock.millis();
    let mut state = channel.state.lock();
    let bucket = state.bucket.get_or_insert_with(|| Box::new(Bucket::full(rate, now)));
    bucket.take(rate, 1, now).map_err(|wait| rate_limited("too many messages in this channel", wait))
}

fn take(bucket: &mut Option<Bucket>, rate: Rate, text: &'static str, now: u64) -> Result<(), Error> {
    match bucket {
        Some(bucket) => {
            bucket.check_in_turn(rate, 1, now).map_err(|wait| rate_limited(text, wait))?;
            bucket.spend(rate, 1);
            Ok(())
        }
        None => Ok(()),
    }
}

fn with_meters(
    core: &Arc<ConnectionCore>,
    limit: &RateLimit,
    count: impl FnOnce(&mut Meters, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    // The shard's time stands still while the shard is idle.
    let now = core.hub().clock.millis();
    let mut meters = core.cold().meters.lock();
    count(meters.get_or_insert_with(|| Box::new(Meters::full(limit, now))), now)
}

/// Returns the refusal of a request over a rate limit, with the time to wait.
pub(super) fn rate_limited(text: &'static str, wait: Duration) -> Error {
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    let error = Error::protocol(ErrorType::RateLimited, text);
    error.with_details(serde_json::json!({ "retry_after": wait }))
}

/// Counts an error against the connection's budget, if it is the client's own fault. Once the budget is used
/// up, closes the connection behind the queued answers.
pub(super) fn charge_error(core: &Arc<ConnectionCore>, error: ErrorType, replies: &mut Vec<u8>) {
    let Some(budget) = core.endpoint().error_budget else { return };
    // A client that restores its subscriptions may be refused many times before it learns the rate.
    let cost = match error {
        ErrorType::RateLimited => 1,
        error if error.is_temporary() => return,
        _ => ERROR_UNITS,
    };
    let now = core.hub().clock.millis();
    let taken = {
        let mut errors = core.cold().errors.lock();
        errors.get_or_insert_with(|| Bucket::full(budget, now)).take(budget, cost, now)
    };
    if taken.is_err() && core.is_open() {
        crate::log::limited("too many errors", || {
            let user = crate::log::name(core.user());
            tracing::info!(target: "hauyna::connection", id = %core.id(), %user, "closed for too many errors");
        });
        let code = CloseCode::TOO_MANY_ERRORS;
        let text = code.name().unwrap_or_default();
        let details = CloseDetails { code, text, reason: CloseReason::TooManyErrors, backlog: Backlog::Drop };
        core.close_after_queued(replies, details);
    }
}
