//! Announcements: messages of the protocol to the subscribers of a channel on this node. They are neither
//! numbered nor kept. They are posted under the channel's lock, in the order of the changes that they
//! announce. Called by `subscribe` and `unsubscribe`, by `presence`, and by `session` when a lost subscriber
//! does not come back.

use super::publish::post;
use super::subscribers::ChannelState;
use super::{ChannelCore, Subscription};
use crate::connection::ConnectionCore;
use crate::hub::HubCore;
use crate::presence;
use hauyna_broker::{ChannelName, ConnectionId, Content, Draft, PublicationKind};
use hauyna_protocol::{ChannelEvent, ChannelEventMessage, Encoding, Message, Raw};
use std::sync::Arc;

/// Announces that a subscriber was added or removed, under the lock that orders these changes: the caller
/// holds the lock of `state`, or without it the lock of the channel's roster.
pub(super) fn announce_change(
    hub: &HubCore,
    subscription: &Subscription,
    state: Option<&ChannelState>,
    event: ChannelEvent,
) {
    let channel = &subscription.channel;
    if channel.options.announce.is_none() {
        return;
    }
    let Some(state) = state else {
        return announce_change(hub, subscription, Some(&channel.state.lock()), event);
    };
    if !is_announced(channel, state) {
        return;
    }
    let metadata = subscription.metadata.lock().clone();
    let user = subscription.connection.user().as_str();
    post_message(hub, channel, state, &channel_event(channel, event, user, metadata.as_deref()));
}

/// Announces that a lost subscriber is removed because its session has ended.
pub(crate) fn announce_removed(hub: &HubCore, name: &ChannelName, user: &str, metadata: Option<&str>) {
    let Some(channel) = hub.channels.find(name) else { return };
    let state = channel.state.lock();
    if is_announced(&channel, &state) {
        let event = channel_event(&channel, ChannelEvent::SubscriptionRemoved, user, metadata);
        post_message(hub, &channel, &state, &event);
    }
}

/// Removes a lost connection from one channel, where it may still be present, although its session is kept.
pub(crate) fn leave_lost(
    hub: &HubCore,
    core: &Arc<ConnectionCore>,
    name: &ChannelName,
    metadata: Option<&str>,
) {
    let Some(channel) = hub.channels.find(name) else { return };
    presence::leave_lost(hub, &channel, core.user(), core.id());
    announce_removed(hub, name, core.user(), metadata);
    hub.remove_channel(&channel);
}

/// Sends a message of the protocol to all subscribers but one. The caller holds the lock that orders the
/// changes that the message announces.
pub(crate) fn announce_except(
    hub: &HubCore,
    channel: &Arc<ChannelCore>,
    message: &Message<'_>,
    except: Option<ConnectionId>,
) {
    let publication = Arc::new(event_draft(channel, message, except).publication(None));
    post(hub, channel, &channel.state.lock(), &publication);
}

fn is_announced(channel: &ChannelCore, state: &ChannelState) -> bool {
    let count = state.subscribers.len();
    count > 0 && channel.options.announce.is_some_and(|max| count <= max as usize)
}

fn channel_event<'a>(
    channel: &'a ChannelCore,
    event: ChannelEvent,
    user: &'a str,
    metadata: Option<&'a str>,
) -> Message<'a> {
    let metadata = metadata.map(|text| Raw::assume_valid(Encoding::Json, text.as_bytes()));
    Message::ChannelEvent(ChannelEventMessage { event, channel: channel.name.as_str(), user, metadata })
}

fn post_message(hub: &HubCore, channel: &Arc<ChannelCore>, state: &ChannelState, message: &Message<'_>) {
    post(hub, channel, state, &Arc::new(event_draft(channel, message, None).publication(None)));
}

fn event_draft(channel: &ChannelCore, message: &Message<'_>, except: Option<ConnectionId>) -> Draft {
    let mut json = Vec::with_capacity(128);
    message.encode(Encoding::Json, &mut json);
    let content = Content::of_protocol(json);
    let mut draft = Draft::with_content(channel.name.clone(), PublicationKind::Event, content);
    draft.except = except;
    draft
}
