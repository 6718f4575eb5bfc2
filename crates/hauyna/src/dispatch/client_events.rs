//! The request `client_event`: checks whether the client may send it now, and sends it to the other
//! subscribers. The rates belong to the connection, and each is created with the first event of its type.
//! `dispatch` calls it.

use super::admission::{rate_limited, uncount_message};
use super::authority::RequestStart;
use super::{Core, Next, Reply};
use crate::broker::Published;
use crate::channel::{self, PublishOptions, Subscription};
use crate::driver::call_for_request;
use crate::error::Error;
use crate::rate::{Bucket, Rate};
use hashbrown::HashMap;
use hauyna_broker::{Answer, BrokerError, ChannelName, Content, PublicationKind};
use hauyna_protocol::{ErrorType, Raw, RequestId};
use std::time::Duration;

pub(super) fn client_event(
    core: &Core,
    id: Option<RequestId>,
    name: &str,
    event: &str,
    data: Option<Raw<'_>>,
) -> Next {
    let Some(subscription) = core.subscription_list().subscription(name) else {
        return Next::Now(Reply::refused(id, channel::not_subscribed()));
    };
    let (admitted, has_sent) = call_for_request(|| admit(core, &subscription, event, data));
    let next = match admitted {
        Ok(()) => send(core, id, &subscription, event, data),
        Err(error) => Next::Now(Reply::refused(id, error)),
    };
    if has_sent { next.behind_sent() } else { next }
}

/// Sends an event that is admitted to the other subscribers.
fn send(
    core: &Core,
    id: Option<RequestId>,
    subscription: &Subscription,
    event: &str,
    data: Option<Raw<'_>>,
) -> Next {
    let (hub, name) = (core.hub(), subscription.channel.name.clone());
    hub.metrics.client_events.increment();
    if hub.is_congested_for(&name) {
        // It would be outdated by the time there is room.
        hub.shards[core.shard()].traffic.client_events_dropped.increment();
        uncount_message(core);
        return Next::Now(Reply::of(id, Ok(())));
    }
    let content = data.map_or_else(Content::nothing, Content::copy);
    let options = PublishOptions {
        user: Some(core.user().clone()),
        except: Some(core.id()),
        conflate: Some(event.into()),
        ..PublishOptions::default()
    };
    match channel::publish(hub, name, PublicationKind::ClientEvent, content, options) {
        Answer::Ready(result) => Next::Now(reply_for(core, id, result)),
        Answer::Pending(later) => {
            let core = core.clone();
            Next::Later(Box::pin(async move { reply_for(&core, id, later.await) }))
        }
    }
}

/// Answers an event. One that was sent does not count as a message; one that failed does, and may be retried.
fn reply_for(core: &Core, id: Option<RequestId>, result: Result<Published, BrokerError>) -> Reply {
    if result.is_ok() {
        uncount_message(core);
    }
    Reply::published(id, result)
}

/// Checks that the channel has this event, and that its rate and the application allow it.
fn admit(core: &Core, subscription: &Subscription, event: &str, data: Option<Raw<'_>>) -> Result<(), Error> {
    let channel = &subscription.channel;
    let events = channel.options.client_events.as_ref();
    let found = events.and_then(|events| Some((events, events.index(event)?)));
    let (events, index) = found.ok_or_else(|| undeclared(&channel.name, event))?;
    let now = core.hub().clock.millis();
    core.cold()
        .event_rates
        .lock()
        .get_or_insert_default()
        .take(&channel.name, index, events.rate(index), now)
        .map_err(|wait| rate_limited("too many events of this type", wait))?;
    let start = events.has_callback().then(|| RequestStart::now(core));
    events.admit(core, index, &channel.name, data)?;
    start.map_or(Ok(()), |start| check_again(core, subscription, start))
}

/// Checks what the application's function may have ended: the client's rights and its subscription.
fn check_again(core: &Core, subscription: &Subscription, start: RequestStart) -> Result<(), Error> {
    start.check_rights(core)?;
    subscription.check_not_ended()
}

/// Returns the refusal of an unknown event. Client events usually carry no `id`, so only the text names the
/// event.
fn undeclared(channel: &ChannelName, event: &str) -> Error {
    let event: String = event.chars().take(64).collect(); // the length of the client's text is not bounded
    Error::protocol(
        ErrorType::PermissionDenied,
        format!("clients do not send the event {event:?} in the channel {:?}", channel.as_str()),
    )
}

/// The token buckets for the client events of one connection.
#[derive(Debug, Default)]
pub(crate) struct ClientEventRates {
    /// The buckets by channel and index of the event type.
    buckets: HashMap<(ChannelName, usize), (Rate, Bucket)>,
    /// Number of buckets at which those that are full again are removed.
    prune_at: usize,
}

impl ClientEventRates {
    fn take(&mut self, channel: &ChannelName, index: usize, rate: Rate, now: u64) -> Result<(), Duration> {
        let key = (channel.clone(), index);
        if let Some((_, bucket)) = self.buckets.get_mut(&key) {
            return bucket.take(rate, 1, now);
        }
        if self.buckets.len() >= self.prune_at {
            self.buckets.retain(|_, (rate, bucket)| !bucket.full_after(*rate, now).is_zero());
            if self.buckets.len() >= MAX_BUCKETS {
                return Err(Duration::from_secs(1));
            }
            self.prune_at = (2 * self.buckets.len()).clamp(MIN_BUCKETS, MAX_BUCKETS);
        }
        let (_, bucket) = self.buckets.entry(key).or_insert_with(|| (rate, Bucket::full(rate, now)));
        bucket.take(rate, 1, now)
    }

    /// Returns the bytes on the heap.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>()
            + self.buckets.capacity() * (size_of::<((ChannelName, usize), (Rate, Bucket))>() + 1)
    }
}

/// Buckets that a connection keeps before full ones are removed.
const MIN_BUCKETS: usize = 16;
/// Buckets that one connection can use at a time; an event that needs one more is refused with a time to
/// wait.
const MAX_BUCKETS: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_channels_that_were_left_are_forgotten() {
        let (mut rates, rate) = (ClientEventRates::default(), Rate::per_second(5));
        for n in 0..100_000_u64 {
            let name = ChannelName::new(&format!("room:{n}")).unwrap();
            rates.take(&name, 0, rate, n * 100).unwrap();
        }
        assert!(rates.buckets.len() <= MIN_BUCKETS, "{} are kept", rates.buckets.len());
    }

    #[test]
    fn a_connection_cannot_make_up_rates_without_end() {
        let (mut rates, rate) = (ClientEventRates::default(), Rate::per_second(1));
        let name = |n: usize| ChannelName::new(&format!("room:{n}")).unwrap();
        for n in 0..MAX_BUCKETS {
            rates.take(&name(n), 0, rate, 7).unwrap();
        }
        assert_eq!(rates.take(&name(MAX_BUCKETS), 0, rate, 7), Err(Duration::from_secs(1)));
        rates.take(&name(MAX_BUCKETS), 0, rate, 1007).unwrap();
        assert_eq!(rates.buckets.len(), 1);
    }

    #[test]
    fn each_type_of_each_channel_has_its_own_rate() {
        let (mut rates, rate) = (ClientEventRates::default(), Rate::per_second(2));
        let (a, b) = (ChannelName::new("a").unwrap(), ChannelName::new("b").unwrap());
        for (channel, index) in [(&a, 0), (&a, 1), (&b, 0)] {
            rates.take(channel, index, rate, 9).unwrap();
            rates.take(channel, index, rate, 9).unwrap();
            assert_eq!(rates.take(channel, index, rate, 9), Err(Duration::from_millis(500)));
        }
    }
}
