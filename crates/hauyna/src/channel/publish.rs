//! The way of a publication to the inboxes of the shards: `publish` hands it to the broker, the broker
//! numbers and relays it, and `deliver`, the only way to subscribers, puts it into the inbox of each shard
//! that has receivers. Called by `Channel`, `User`, `Connections` and `dispatch`; `deliver` is called by the
//! relay.

use super::epoch_turn::follow;
use super::subscribers::ChannelState;
use super::{ChannelCore, ChannelOptions};
use crate::broker::{Publish, Published, Retention};
use crate::cluster;
use crate::hub::HubCore;
use crate::shard::Item;
use hauyna_broker::{
    Answer, BrokerError, ChannelName, ConnectionId, Content, Draft, Publication, PublicationKind, Target,
    UserId,
};
use std::sync::Arc;

/// The options of a publication, as [`Channel::publish`](super::Channel::publish) collects them.
#[derive(Debug, Default)]
pub(crate) struct PublishOptions {
    pub(crate) user: Option<UserId>,
    pub(crate) except: Option<ConnectionId>,
    pub(crate) conflate: Option<Box<str>>,
    pub(crate) key: Option<Box<str>>,
    /// The channel's options, where the caller has looked them up already.
    pub(crate) options: Option<Arc<ChannelOptions>>,
}

/// Publishes as [`publish`], once the shards that write the publication have room. A publisher is thus not
/// faster than its subscribers are served.
///
/// # Errors
///
/// Those of the broker.
///
/// # Cancel safety
///
/// Where the future is dropped before it completes, the value may or may not have been published.
pub(crate) async fn publish_paced(
    hub: &HubCore,
    channel: ChannelName,
    kind: PublicationKind,
    content: Content,
    options: PublishOptions,
) -> Result<Published, BrokerError> {
    hub.wait_for_channel_room(&channel).await;
    publish(hub, channel, kind, content, options).await
}

/// Hands a publication to the broker.
pub(crate) fn publish(
    hub: &HubCore,
    channel: ChannelName,
    kind: PublicationKind,
    content: Content,
    options: PublishOptions,
) -> Answer<Result<Published, BrokerError>> {
    let retention = match kind {
        PublicationKind::Message | PublicationKind::Application => match &options.options {
            Some(channel_options) => channel_options.retention,
            None => retention_of(hub, &channel),
        },
        _ => None,
    };
    let key = options.key.map(|key| match &options.user {
        Some(user) => format!("{user}\0{key}").into_boxed_str(),
        None => format!("\0{key}").into_boxed_str(),
    });
    hub.metrics.published.increment();
    hub.background.adopt();
    let mut draft = Draft::with_content(channel, kind, content);
    (draft.user, draft.except, draft.conflate) = (options.user, options.except, options.conflate);
    draft.variants = hub.registry.wire_variants();
    let publish = Publish { draft, retention, key };
    hub.with_broker_uncertain(|broker| broker.publish(publish))
}

fn retention_of(hub: &HubCore, channel: &ChannelName) -> Option<Retention> {
    match hub.channels.find(channel) {
        Some(core) => core.options.retention,
        None => hub.declarations.options(channel.as_str()).retention,
    }
}

/// Gives a publication to its receivers on this node. It is the only function that does so.
///
/// It runs under the broker's lock for the channel and takes the channel's own lock, so the order in the
/// inboxes is the order of offsets. It neither waits nor writes.
pub(crate) fn deliver(hub: &Arc<HubCore>, publication: &Arc<Publication>) {
    match publication.channel().target() {
        _ if publication.kind() == PublicationKind::Control => cluster::carry_out(hub, publication),
        Target::Everybody => {
            // A shard without any connection so far does not run yet: its items would wait forever, or would
            // go to a connection that is opened later.
            for shard in hub.shards.iter().filter(|shard| shard.has_started()) {
                shard.post(Item::Everybody(publication.clone()));
            }
        }
        // One item per connection would let small requests to a user with many connections fill the inboxes.
        Target::User(user) if hub.registry.connection_count(user) > 1 => {
            for shard in hub.shards.iter().filter(|shard| shard.has_started()) {
                shard.post(Item::User(publication.clone()));
            }
        }
        Target::User(user) => {
            for connection in hub.registry.of_user(user) {
                let shard = &hub.shards[connection.shard()];
                shard.post(Item::Direct { connection, publication: publication.clone() });
            }
        }
        Target::Channel | Target::Group(_) => {
            if let Some(channel) = hub.channels.find(publication.channel()) {
                deliver_to(hub, &channel, publication);
            }
        }
    }
}

fn deliver_to(hub: &HubCore, channel: &Arc<ChannelCore>, publication: &Arc<Publication>) {
    let mut state = channel.state.lock();
    if let Some(position) = publication.position() {
        follow(hub, channel, &mut state, position);
    }
    post(hub, channel, &state, publication);
}

/// Puts a publication into the inbox of each shard that has subscribers of its channel.
pub(super) fn post(
    hub: &HubCore,
    channel: &Arc<ChannelCore>,
    state: &ChannelState,
    publication: &Arc<Publication>,
) {
    for (shard, receivers) in hub.shards.iter().zip(&state.per_shard).filter(|(_, count)| **count > 0) {
        let (channel, publication) = (channel.clone(), publication.clone());
        shard.post(Item::Publish { channel, publication, receivers: *receivers });
    }
}
