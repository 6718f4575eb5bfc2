//! Subscribing to a channel: `prepare` does what may wait, `commit` makes the subscription live. It becomes
//! live under the channel's lock, in one step with its reply and its replay, so there is no gap, no
//! duplicate, and no message before the reply. Called by `dispatch`, `Channel`, `group` and `session`.

use super::announce::announce_change;
use super::catch_up::{CatchUpStart, Replay};
use super::epoch_turn::{EpochTurn, turn};
use super::{ChannelCore, Subscription, SubscriptionPhase};
use crate::broker::{Continuity, HistoryPage, HistoryRange, Order};
use crate::channel::AwaitingSubscription;
use crate::connection::{Connection, ConnectionCore, Owner};
use crate::error::Error;
use crate::event::emit;
use crate::hub::HubCore;
use crate::presence;
use crate::shard::Item;
use hauyna_broker::{BrokerError, ChannelName, ConnectionId, Target};
use hauyna_protocol::{ChannelEvent, ErrorType, Position, Recovery, RecoveryFailure, Subscribed};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32};

/// The parameters of a subscription.
#[derive(Debug, Default)]
pub(crate) struct SubscribeRequest {
    /// Metadata as JSON text.
    pub(crate) metadata: Option<Arc<str>>,
    /// Position to recover from.
    pub(crate) recover: Option<Position>,
    /// The subscription as one that has waited for its authoriser.
    pub(crate) awaiting: Option<AwaitingSubscription>,
}

/// The reply to a subscriber, which precedes all messages of the channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubscribeReply {
    pub(super) top: Option<Position>,
    pub(super) recovery: Option<Result<(), RecoveryFailure>>,
}

/// Counts a subscription as waiting for its history until it is dropped.
struct CatchingUp<'a> {
    hub: &'a HubCore,
    channel: Arc<ChannelCore>,
    /// Number of epoch turns of the stream when the wait began.
    turns: u32,
    /// Number of this subscription among those that wait.
    number: u64,
}

impl Drop for CatchingUp<'_> {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.end_wait(self.number);
        self.hub.channels.note_holders(&self.channel, &mut state);
        let is_unused = self.channel.is_unused(&state);
        drop(state);
        if is_unused {
            self.hub.remove_channel(&self.channel);
        }
    }
}

/// A subscription that is ready to go live. The history contains what is delivered meanwhile.
pub(crate) struct Prepared<'a> {
    catching_up: CatchingUp<'a>,
    subscription: Arc<Subscription>,
    page: Option<HistoryPage>,
    recovery: Option<Result<(), RecoveryFailure>>,
    /// The position that the subscriber recovers from.
    since: Option<Position>,
    announced: Announced,
}

/// When the subscriber gets its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    /// The subscriber gets it as the subscription goes live.
    Now,
    /// The subscriber got it before, with its session, and gets everything after that position.
    Before,
}

impl Prepared<'_> {
    /// Makes it part of a resumed session, whose reply tells the client of all subscriptions first.
    pub(crate) fn resumed(mut self) -> Self {
        self.announced = Announced::Before;
        if self.page.is_some() {
            self.recovery.get_or_insert(Err(RecoveryFailure::UnknownPosition));
        }
        self
    }

    pub(crate) fn name(&self) -> &ChannelName {
        &self.catching_up.channel.name
    }

    /// Returns the part of the session's reply that is about this subscription.
    pub(crate) fn subscribed_message(&self) -> Subscribed<'_> {
        subscribed_message(&self.catching_up.channel, &self.reply())
    }

    fn reply(&self) -> SubscribeReply {
        SubscribeReply { top: self.page.as_ref().map(|page| page.top), recovery: self.recovery }
    }
}

/// Subscribes a connection. `answer` puts the reply into the connection's outbox; it runs under the
/// channel's lock, before any message of the channel.
///
/// # Errors
///
/// `already_subscribed`, `limit_exceeded` (channels per connection and node), `unavailable`,
/// `permission_denied` where the application has ended the subscription meanwhile; also where the connection
/// is closed.
pub(crate) async fn subscribe(
    hub: &HubCore,
    connection: &Arc<ConnectionCore>,
    name: &ChannelName,
    request: SubscribeRequest,
    answer: impl FnOnce(&ChannelCore, &SubscribeReply) + Send,
) -> Result<SubscribeReply, Error> {
    connection.subscription_list().check_new_subscription(name)?;
    let prepared = prepare(hub, connection, name, request).await?;
    let reply = prepared.reply();
    commit(hub, prepared, None, answer)?;
    Ok(reply)
}

/// Makes a subscription of the lost connection `lost` live for the connection that resumes its session.
pub(crate) fn activate_resumed(hub: &HubCore, prepared: Prepared<'_>, lost: ConnectionId) {
    // It fails where the application has subscribed this connection meanwhile.
    let _ = commit(hub, prepared, Some(lost), |_, _| {});
}

/// Does what may wait before a subscription can go live: the broker's subscription and the history.
///
/// # Errors
///
/// As [`subscribe`].
pub(crate) async fn prepare<'a>(
    hub: &'a HubCore,
    connection: &Arc<ConnectionCore>,
    name: &ChannelName,
    request: SubscribeRequest,
) -> Result<Prepared<'a>, Error> {
    // Messages to users go to their connections, not to subscribers of the user's channel.
    if name.target() != Target::Channel {
        let text = "channel names that begin with `@` are reserved: send to the user, the group or everybody";
        return Err(Error::protocol(ErrorType::PermissionDenied, text));
    }
    connection.subscription_list().may_subscribe(name)?;
    let catching_up = start_catch_up(hub, name)?;
    // From now on `catching_up` notes that the application ends the subscription.
    if request.awaiting.is_some_and(|awaiting| awaiting.has_ended()) {
        return Err(ended_by_application());
    }
    hub.broker_subscribe(&catching_up.channel).await?;
    let page = match catching_up.channel.options.retention {
        None => None,
        Some(_) => {
            let range = range(request.recover, hub.config.recovery_limit);
            Some(hub.with_broker(|broker| broker.history(name, range)).await?)
        }
    };
    let subscription = subscription(&catching_up.channel, connection, request.metadata);
    let recovery = page.as_ref().zip(request.recover);
    let recovery = recovery.map(|(page, since)| recovery_of(page, since, hub.config.recovery_limit));
    let since = request.recover;
    Ok(Prepared { catching_up, subscription, page, recovery, since, announced: Announced::Now })
}

fn commit(
    hub: &HubCore,
    prepared: Prepared<'_>,
    lost: Option<ConnectionId>,
    answer: impl FnOnce(&ChannelCore, &SubscribeReply),
) -> Result<(), Error> {
    let Prepared { catching_up, subscription, page, recovery, since, announced } = prepared;
    let start = CatchUpStart {
        page,
        recovery,
        since,
        announced,
        turns: catching_up.turns,
        number: catching_up.number,
    };
    let go_live = || activate(hub, &subscription, start, answer);
    let announce = || announce_change(hub, &subscription, None, event_of(announced));
    presence::join(hub, &subscription, lost, go_live, announce)?;
    drop(catching_up);
    tracing::debug!(
        target: "hauyna::channel",
        id = %subscription.connection.id(),
        channel = %crate::log::name(subscription.channel.name.as_str()),
        recovered = recovery.map(|recovery| recovery.is_ok()),
        "subscribed",
    );
    Ok(())
}

/// Returns the `subscribed` message for a subscriber.
pub(crate) fn subscribed_message<'a>(channel: &'a ChannelCore, reply: &SubscribeReply) -> Subscribed<'a> {
    Subscribed {
        channel: channel.name.as_str(),
        position: reply.top,
        recoverable: reply.top.is_some(),
        recovery: match reply.recovery {
            None => Recovery::NotAsked,
            Some(Ok(())) => Recovery::Recovered,
            Some(Err(reason)) => Recovery::Failed(reason),
        },
        client_events: channel.options.client_event_rates(),
    }
}

fn subscription(
    channel: &Arc<ChannelCore>,
    connection: &Arc<ConnectionCore>,
    metadata: Option<Arc<str>>,
) -> Arc<Subscription> {
    Arc::new(Subscription {
        channel: channel.clone(),
        connection: connection.clone(),
        metadata: Mutex::new(metadata),
        phase: AtomicU8::new(SubscriptionPhase::Live as u8),
        index: AtomicU32::new(u32::MAX),
    })
}

/// Subscribes a member's connection to its group's channel. There is nothing to wait for, because this
/// channel keeps no history, and brokers relay it without a subscription; in a cluster, the broker is asked
/// for it in the background.
///
/// # Errors
///
/// Where it is subscribed already, or the connection is closed.
pub(crate) fn add_to_lists(
    hub: &HubCore,
    connection: &Arc<ConnectionCore>,
    name: &ChannelName,
) -> Result<(), Error> {
    let catching_up = start_catch_up(hub, name)?;
    if hub.cluster.is_some() && !catching_up.channel.broker_subscription.initialized() {
        hub.relay_soon(name);
    }
    let (turns, number) = (catching_up.turns, catching_up.number);
    let start =
        CatchUpStart { page: None, recovery: None, since: None, announced: Announced::Now, turns, number };
    activate(hub, &subscription(&catching_up.channel, connection, None), start, |_, _| {})
}

/// Waits until the broker relays the channel of a group, if it still has subscribers.
///
/// # Errors
///
/// Those of the broker.
pub(crate) async fn relay_group(hub: &HubCore, name: &ChannelName) -> Result<(), BrokerError> {
    let Ok(used) = start_catch_up(hub, name) else { return Ok(()) };
    hub.broker_subscribe(&used.channel).await
}

fn ended_by_application() -> Error {
    Error::protocol(ErrorType::PermissionDenied, "the application has ended this subscription")
}

/// Finds or inserts the channel, and keeps it while the subscription waits for its history.
fn start_catch_up<'a>(hub: &'a HubCore, name: &ChannelName) -> Result<CatchingUp<'a>, Error> {
    loop {
        let (max, declarations) = match name.target() {
            Target::Group(_) => (usize::MAX, None),
            _ => (hub.config.channels, Some(&hub.declarations)),
        };
        let channel = hub.channels.find_or_insert(name, max, || {
            let options =
                declarations.map_or(&hub.groups.options, |declared| declared.options(name.as_str()));
            ChannelCore::new(name.clone(), options.clone(), hub.shards.len())
        });
        let Some(channel) = channel else {
            if presence::evict_oldest_lost_channel(hub) {
                continue; // live subscribers take precedence over lost ones
            }
            let error = Error::protocol(ErrorType::LimitExceeded, "channel limit reached on this server");
            return Err(error.with_details(serde_json::json!({ "limit": max })));
        };
        let mut state = channel.state.lock();
        if !state.is_removed {
            let (turns, number) = (state.turns, state.begin_wait());
            hub.channels.note_holders(&channel, &mut state);
            drop(state);
            return Ok(CatchingUp { hub, channel, turns, number });
        }
    }
}

fn range(recover: Option<Position>, limit: u32) -> HistoryRange {
    match recover {
        None => HistoryRange::top(),
        Some(_) => HistoryRange::new(recover, limit.min(FIRST_PAGE), Order::Forward),
    }
}

fn recovery_of(page: &HistoryPage, since: Position, limit: u32) -> Result<(), RecoveryFailure> {
    match page.continuity {
        // The page is only the first page of what the subscriber misses.
        Continuity::Whole | Continuity::TooMany => {
            let missed = page.top.offset.saturating_sub(since.offset);
            if missed > u64::from(limit) { Err(RecoveryFailure::TooMany) } else { Ok(()) }
        }
        other => verdict(other),
    }
}

pub(super) fn verdict(continuity: Continuity) -> Result<(), RecoveryFailure> {
    match continuity {
        Continuity::Whole => Ok(()),
        Continuity::EpochChanged => Err(RecoveryFailure::EpochChanged),
        Continuity::TooOld => Err(RecoveryFailure::TooOld),
        Continuity::TooMany => Err(RecoveryFailure::TooMany),
    }
}

/// Makes the subscription live in one step with its reply and its replay.
fn activate(
    hub: &HubCore,
    subscription: &Arc<Subscription>,
    start: CatchUpStart,
    answer: impl FnOnce(&ChannelCore, &SubscribeReply),
) -> Result<(), Error> {
    let (channel, connection) = (&subscription.channel, &subscription.connection);
    let event = event_of(start.announced);
    let mut state = channel.state.lock();
    let shard = &hub.shards[connection.shard()];
    let owner = Owner::of(&channel.name);
    let is_resumed = start.announced == Announced::Before;
    // For a resumed session, the takeover checks that instead.
    if !is_resumed && state.has_ended_early(connection.id(), start.number) {
        return Err(ended_by_application());
    }
    let mut subscriptions = connection.subscription_list().subscriptions_of(owner).lock();
    connection.subscription_list().check_subscribe(&subscriptions, channel, owner, is_resumed)?;
    if subscriptions.is_empty() {
        subscriptions.reserve_exact(1); // most connections have one
    }
    subscriptions.push(subscription.clone());
    drop(subscriptions);
    if let Some(page) = &start.page
        && state.turns == start.turns
        && state.top.is_some_and(|top| top.epoch != page.top.epoch)
    {
        // The other subscribers get nothing more under the epoch that they know.
        turn(hub, channel, &mut state, EpochTurn::lost(page.top));
    }
    let started = start.start_catch_up(&state);
    state.subscribers.insert(connection.id(), subscription.clone());
    state.per_shard[connection.shard()] += 1;
    answer(channel, &started.reply);
    if let Some(top) = started.reply.top {
        state.top.get_or_insert(top);
    }
    // The relay may still deliver publications that the history already had; `after` excludes them.
    shard.post(Item::Subscribe { subscription: subscription.clone(), after: started.after });
    if let Some(Replay { from, present, page }) = started.replay {
        connection.sender().begin_replay(subscription, from, present, page);
    }
    hub.metrics.subscriptions.increment();
    channel.options.usage.subscriptions.increment();
    if owner == Owner::Connection {
        emit!(
            hub.events,
            Subscribed { connection: Connection::new(connection.clone()), channel: channel.name.clone() }
        );
        // A channel with presence announces it after the presence change, under the roster's lock.
        if channel.presence.is_none() {
            announce_change(hub, subscription, Some(&state), event);
        }
    }
    Ok(())
}

fn event_of(announced: Announced) -> ChannelEvent {
    match announced {
        Announced::Now => ChannelEvent::SubscriptionAdded,
        Announced::Before => ChannelEvent::SubscriptionReconnected,
    }
}

/// Number of publications that are read before a subscriber goes live. The rest is read once its socket has
/// taken them.
const FIRST_PAGE: u32 = 64;
