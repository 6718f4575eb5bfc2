//! From a publication to the inboxes of the shards: `publish` hands it to the broker, the broker numbers
//! it and relays it, and `deliver`, the one door to subscribers, puts it into the inbox of each shard
//! that has some.

use super::epoch_turn::follow;
use super::name::Target;
use super::publication::Content;
use super::subscribers::ChannelState;
use super::{ChannelCore, ChannelName, ChannelOptions, Draft, Publication, PublicationKind, UserId};
use crate::broker::{Answer, Publish, Published, Retention};
use crate::connection::ConnectionId;
use crate::error::BrokerError;
use crate::hub::HubCore;
use crate::shard::Item;
use std::sync::Arc;

/// What a publication carries besides its content. Made by [`Channel::publish`](super::Channel::publish).
#[derive(Debug, Default)]
pub(crate) struct PublishOptions {
    pub(crate) user: Option<UserId>,
    pub(crate) except: Option<ConnectionId>,
    pub(crate) conflate: Option<Box<str>>,
    pub(crate) key: Option<Box<str>>,
    /// The channel's options, where the caller has them at hand.
    pub(crate) options: Option<Arc<ChannelOptions>>,
}

/// As [`publish`], when the shards that write it have room: a publisher is not faster than its subscribers are served.
///
/// # Errors
///
/// Those of the broker.
///
/// # Cancel safety
///
/// Where the future is dropped before it is done, nothing is known to have been published.
pub(crate) async fn publish_paced(
    hub: &HubCore,
    channel: ChannelName,
    message: (PublicationKind, Content),
    extras: PublishOptions,
) -> Result<Published, BrokerError> {
    hub.wait_for_channel_room(&channel).await;
    publish(hub, channel, message, extras).await
}

/// Hands a publication to the broker.
pub(crate) fn publish(
    hub: &HubCore,
    channel: ChannelName,
    (kind, content): (PublicationKind, Content),
    extras: PublishOptions,
) -> Answer<Result<Published, BrokerError>> {
    let retention = match kind {
        PublicationKind::Message | PublicationKind::Application => match &extras.options {
            Some(options) => options.retention,
            None => retention_of(hub, &channel),
        },
        PublicationKind::Private
        | PublicationKind::Group
        | PublicationKind::Broadcast
        | PublicationKind::ClientEvent
        | PublicationKind::Event
        | PublicationKind::EpochTurned => None,
    };
    let key = extras.key.map(|key| match &extras.user {
        Some(user) => format!("{user}\0{key}").into_boxed_str(),
        None => format!("\0{key}").into_boxed_str(),
    });
    hub.metrics.published.increment();
    hub.background.adopt();
    let publish = Publish {
        draft: Draft {
            channel,
            kind,
            user: extras.user,
            content,
            timestamp: crate::clock::unix_ms(),
            except: extras.except,
            conflate: extras.conflate,
            variants: hub.registry.wire_variants(),
        },
        retention,
        key,
    };
    hub.with_broker_uncertain(|broker| broker.publish(publish))
}

fn retention_of(hub: &HubCore, channel: &ChannelName) -> Option<Retention> {
    match hub.channels.find(channel) {
        Some(core) => core.options.retention,
        None => hub.declarations.options(channel.as_str()).retention,
    }
}

/// Gives a publication to its receivers on this node. The only function that does.
///
/// Runs under the broker's lock for the channel and takes the channel's own, so the order of the inboxes is
/// the order of offsets. It neither waits nor writes.
pub(crate) fn deliver(hub: &HubCore, publication: &Arc<Publication>) {
    match publication.channel().target() {
        Target::Everybody => {
            // A shard that nobody has connected to does not run yet: what it was posted would wait for ever,
            // or for a connection that comes later.
            for shard in hub.shards.iter().filter(|shard| shard.has_started()) {
                shard.post(Item::Everybody(publication.clone()));
            }
        }
        // An item for each of many connections would let small requests fill the inboxes.
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
