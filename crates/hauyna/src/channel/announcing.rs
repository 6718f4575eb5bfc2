//! Who a channel's subscribers are, told to the others where the channel's options want it: those who come, go, and
//! come back.

use super::publish::announce;
use super::{ChannelCore, ChannelName, Subscription};
use crate::hub::HubCore;
use hauyna_protocol::{ChannelEvent, ChannelEventMessage, Encoding, Message, Raw};

/// The session of a lost subscriber has ended: the others hear that it has gone.
pub(crate) fn announce_removed(hub: &HubCore, channel: &ChannelName, (user, metadata): (&str, Option<&str>)) {
    if let Some(channel) = hub.channels.find(channel) {
        announce_to(hub, &channel, ChannelEvent::SubscriptionRemoved, (user, metadata));
    }
}

pub(super) fn announce_change(hub: &HubCore, subscription: &Subscription, event: ChannelEvent) {
    let metadata = subscription.metadata.lock().clone();
    let user = subscription.connection.user().as_str();
    announce_to(hub, &subscription.channel, event, (user, metadata.as_deref()));
}

fn announce_to(
    hub: &HubCore,
    channel: &ChannelCore,
    event: ChannelEvent,
    (user, metadata): (&str, Option<&str>),
) {
    let Some(most) = channel.options.announce else { return };
    if channel.state.lock().subscribers.len() > most as usize {
        return;
    }
    let message = Message::ChannelEvent(ChannelEventMessage {
        event,
        channel: channel.name.as_str(),
        user,
        metadata: metadata.map(|text| Raw::assume_valid(Encoding::Json, text.as_bytes())),
    });
    announce(hub, &channel.name, &message);
}
