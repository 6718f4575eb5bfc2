//! Leaving a channel. The subscription is removed from the lists of the connection, the channel and the shard
//! in one step under the channel's lock, together with the reply and the announcement. Called by `dispatch`,
//! by `Channel`, and by `connection` when a connection closes.

use super::Subscription;
use super::announce::announce_change;
use crate::close::DepartureKind;
use crate::connection::{Connection, ConnectionCore, Owner};
use crate::error::Error;
use crate::event::emit;
use crate::hub::HubCore;
use crate::presence;
use crate::shard::Item;
use hauyna_broker::ChannelName;
use hauyna_protocol::{ChannelEvent, ErrorType};
use std::sync::Arc;

/// Unsubscribes a connection from one channel. `answer` puts the reply into the connection's outbox; it runs
/// under the channel's lock, before the answer to any later subscription.
///
/// # Errors
///
/// `not_subscribed`.
pub(crate) fn unsubscribe(
    hub: &HubCore,
    connection: &Arc<ConnectionCore>,
    name: &str,
    answer: impl FnOnce(),
) -> Result<(), Error> {
    let subscription = connection.subscription_list().subscription(name).ok_or_else(not_subscribed)?;
    detach_with(hub, &subscription, DepartureKind::Gone, answer).ok_or_else(not_subscribed)
}

/// Removes a subscription from its connection, channel and shard. What the shard has queued for it is not
/// written, because it must not overtake the reply to a next subscription. Returns whether this call has
/// removed it.
pub(crate) fn detach(hub: &HubCore, subscription: &Arc<Subscription>, departure: DepartureKind) -> bool {
    detach_with(hub, subscription, departure, || {}).is_some()
}

/// Returns `None` where somebody else has removed it already.
fn detach_with(
    hub: &HubCore,
    subscription: &Arc<Subscription>,
    departure: DepartureKind,
    answer: impl FnOnce(),
) -> Option<()> {
    let remove = || deactivate(hub, subscription, departure, answer);
    let announce = || {
        if departure != DepartureKind::Kept {
            announce_change(hub, subscription, None, ChannelEvent::SubscriptionRemoved);
        }
    };
    match presence::leave(hub, subscription, departure, remove, announce)? {
        RemainingSubscribers::Nobody => hub.remove_channel(&subscription.channel),
        RemainingSubscribers::Others => {}
    }
    Some(())
}

/// Whether anybody uses a channel that a subscriber has left.
enum RemainingSubscribers {
    Nobody,
    Others,
}

/// Removes the subscription from all lists in one step, so that a new subscription of the connection finds it
/// in all of them or in none. Returns `None` where it was removed already.
fn deactivate(
    hub: &HubCore,
    subscription: &Arc<Subscription>,
    departure: DepartureKind,
    answer: impl FnOnce(),
) -> Option<RemainingSubscribers> {
    let (channel, connection) = (&subscription.channel, &subscription.connection);
    let mut state = channel.state.lock();
    if !state.subscribers.get(&connection.id()).is_some_and(|present| Arc::ptr_eq(present, subscription)) {
        return None;
    }
    state.subscribers.remove(&connection.id());
    connection.subscription_list().drop_subscription(subscription);
    connection.sender().end_subscription(subscription);
    answer();
    state.per_shard[connection.shard()] -= 1;
    hub.shards[connection.shard()].post(Item::Unsubscribe(subscription.clone()));
    if departure != DepartureKind::Kept && channel.presence.is_none() {
        announce_change(hub, subscription, Some(&state), ChannelEvent::SubscriptionRemoved);
    }
    if Owner::of(&channel.name) == Owner::Connection {
        emit!(
            hub.events,
            Unsubscribed { connection: Connection::new(connection.clone()), channel: channel.name.clone() }
        );
    }
    let is_unused = channel.is_unused(&state);
    hub.channels.note_holders(channel, &mut state);
    drop(state);
    tracing::debug!(
        target: "hauyna::channel",
        id = %connection.id(),
        channel = %crate::log::name(channel.name.as_str()),
        "unsubscribed",
    );
    hub.metrics.subscriptions.decrement();
    channel.options.usage.subscriptions.decrement();
    Some(if is_unused { RemainingSubscribers::Nobody } else { RemainingSubscribers::Others })
}

/// Removes a connection from a group's channel, where it is subscribed.
pub(crate) fn end_subscription(hub: &HubCore, connection: &Arc<ConnectionCore>, name: &ChannelName) {
    if let Some(subscription) = connection.subscription_list().take_subscription(name.as_str(), Owner::Group)
    {
        detach(hub, &subscription, DepartureKind::Gone);
    }
}

pub(crate) fn not_subscribed() -> Error {
    Error::protocol(ErrorType::NotSubscribed, "not subscribed to this channel")
}
