//! The request `client_event`: whether the client may send it now, and its way to the other subscribers. What
//! is left of each rate belongs to the connection, and is made when the first event of a type comes.

use super::admission::{rate_limited, uncount_message};
use super::{Core, Next, Reply};
use crate::broker::Published;
use crate::channel::{self, ChannelName, Content, PublicationKind, PublishOptions, Subscription};
use crate::error::{BrokerError, Error};
use crate::rate::{Bucket, Rate};
use hashbrown::HashMap;
use hauyna_protocol::{ErrorType, Raw, RequestId};
use std::time::Duration;

pub(super) fn client_event(
    core: &Core,
    id: Option<RequestId>,
    (name, event): (&str, &str),
    data: Option<Raw<'_>>,
) -> Next {
    let Some(own) = core.subscription(name) else {
        return Next::Now(Reply::refused(id, channel::not_subscribed()));
    };
    if let Err(error) = admit(core, &own, event, data) {
        return Next::Now(Reply::refused(id, error));
    }
    let (hub, name) = (core.hub(), own.channel.name.clone());
    hub.metrics.client_events.increment();
    if hub.is_congested_for(&name) {
        // It would be outdated when there is room.
        hub.shards[core.shard()].traffic.client_events_dropped.increment();
        uncount_message(core);
        return Next::Now(Reply::of(id, Ok(())));
    }
    let content = data.map_or_else(Content::nothing, Content::copy);
    let extras = PublishOptions {
        user: Some(core.user().clone()),
        except: Some(core.id()),
        conflate: Some(event.into()),
        ..PublishOptions::default()
    };
    match channel::publish(hub, name, PublicationKind::ClientEvent, content, extras).into_now() {
        Ok(result) => Next::Now(reply_for(core, id, result)),
        Err(later) => {
            let core = core.clone();
            Next::Later(Box::pin(async move { reply_for(&core, id, later.await) }))
        }
    }
}

/// What was sent does not count among the messages; what failed does, and may be tried again.
fn reply_for(core: &Core, id: Option<RequestId>, result: Result<Published, BrokerError>) -> Reply {
    if result.is_ok() {
        uncount_message(core);
    }
    Reply::published(id, result)
}

/// Whether the channel has this event, the client may send one more now, and the application takes it.
fn admit(core: &Core, own: &Subscription, event: &str, data: Option<Raw<'_>>) -> Result<(), Error> {
    let channel = &own.channel;
    let events = channel.options.client_events.as_ref();
    let found = events.and_then(|events| Some((events, events.index(event)?)));
    let (events, index) = found.ok_or_else(|| undeclared(&channel.name, event))?;
    let now = core.hub().clock.millis();
    core.cold()
        .event_rates
        .lock()
        .get_or_insert_default()
        .take((&channel.name, index), events.rate(index), now)
        .map_err(|wait| rate_limited("too many events of this type", wait))?;
    events.admit(core, index, &channel.name, data)
}

/// A client event carries no `id` as a rule, so the text alone tells its client which one was refused.
fn undeclared(channel: &ChannelName, event: &str) -> Error {
    let event: String = event.chars().take(64).collect(); // whatever the client has sent
    Error::protocol(
        ErrorType::PermissionDenied,
        format!("clients do not send the event {event:?} in the channel {:?}", channel.as_str()),
    )
}

/// What one connection has left of the rates of its client events.
#[derive(Debug, Default)]
pub(crate) struct ClientEventRates {
    /// By channel and place of the type.
    buckets: HashMap<(ChannelName, usize), (Rate, Bucket)>,
    /// How many there may be before those that are full again are removed.
    prune_at: usize,
}

impl ClientEventRates {
    fn take(&mut self, key: (&ChannelName, usize), rate: Rate, now: u64) -> Result<(), Duration> {
        let key = (key.0.clone(), key.1);
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

    /// Bytes on the heap.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>()
            + self.buckets.capacity() * (size_of::<((ChannelName, usize), (Rate, Bucket))>() + 1)
    }
}

/// Rates that a connection keeps before those that nothing was taken of are removed.
const MIN_BUCKETS: usize = 16;
/// Rates that one connection has spent anything of at a time: one more event is told to come back later.
const MAX_BUCKETS: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_channels_that_were_left_are_forgotten() {
        let (mut rates, rate) = (ClientEventRates::default(), Rate::per_second(5));
        for n in 0..100_000_u64 {
            let name = ChannelName::new(&format!("room:{n}")).unwrap();
            rates.take((&name, 0), rate, n * 100).unwrap();
        }
        assert!(rates.buckets.len() <= MIN_BUCKETS, "{} are kept", rates.buckets.len());
    }

    #[test]
    fn a_connection_cannot_make_up_rates_without_end() {
        let (mut rates, rate) = (ClientEventRates::default(), Rate::per_second(1));
        let name = |n: usize| ChannelName::new(&format!("room:{n}")).unwrap();
        for n in 0..MAX_BUCKETS {
            rates.take((&name(n), 0), rate, 7).unwrap();
        }
        assert_eq!(rates.take((&name(MAX_BUCKETS), 0), rate, 7), Err(Duration::from_secs(1)));
        rates.take((&name(MAX_BUCKETS), 0), rate, 1007).unwrap();
        assert_eq!(rates.buckets.len(), 1);
    }

    #[test]
    fn each_type_of_each_channel_has_its_own_rate() {
        let (mut rates, rate) = (ClientEventRates::default(), Rate::per_second(2));
        let (a, b) = (ChannelName::new("a").unwrap(), ChannelName::new("b").unwrap());
        for key in [(&a, 0), (&a, 1), (&b, 0)] {
            rates.take(key, rate, 9).unwrap();
            rates.take(key, rate, 9).unwrap();
            assert_eq!(rates.take(key, rate, 9), Err(Duration::from_millis(500)));
        }
    }
}
