//! Channels: named streams of publications, with options by the pattern of their names.
//!
//! A [`Channel`], from [`Hub::channel`](crate::Hub::channel), publishes and reads the history.
//! [`ChannelOptions`] say who may do what and how much is kept, [`ClientEvents`] what subscribers send to
//! each other beside publications. An authoriser decides about an [`AccessRequest`]. The guide is
//! [channels](crate::guide::channels).
//
// Channels: named streams of publications. `Channel` is the public handle. `publish` brings a publication to
// the shards, `subscribe` and `unsubscribe` add and remove a connection, `subscribers` holds the state of
// one channel on this node, and `options` holds what applications set for a pattern of channels.

mod announce;
mod awaiting;
mod catch_up;
mod client_events;
mod epoch_turn;
mod handle;
mod history;
mod options;
mod pattern;
mod publish;
mod request;
mod rules;
mod subscribe;
mod subscribers;
mod unsubscribe;

pub use client_events::{ClientEvent, ClientEvents};
pub use handle::{Channel, PublishBuilder};
pub use hauyna_broker::{ChannelName, UserId};
pub use hauyna_broker::{Content, Draft, Publication, PublicationKind};
pub use options::{ChannelOptions, Publishers, SlowConsumer};
pub use request::AccessRequest;

pub(crate) use announce::{announce_except, announce_removed, leave_lost};
pub(crate) use awaiting::{AwaitingSubscription, AwaitingSubscriptions};
pub(crate) use epoch_turn::{EpochTurn, notice, turned};
pub(crate) use history::{encoded, history};
pub(crate) use options::{Access, Declarations};
pub(crate) use pattern::Pattern;
pub(crate) use publish::{PublishOptions, deliver, publish, publish_paced};
pub(crate) use rules::{Rule, rule};
pub(crate) use subscribe::{
    Prepared, SubscribeReply, SubscribeRequest, activate_resumed, add_to_lists, prepare, relay_group,
    subscribe, subscribed_message,
};
pub(crate) use subscribers::{ChannelCore, ChannelState, NO_SLOT, Subscription, SubscriptionPhase};
pub(crate) use unsubscribe::{detach, end_subscription, not_subscribed, unsubscribe};
