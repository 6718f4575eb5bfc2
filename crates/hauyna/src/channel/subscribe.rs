//! Joining a channel. A subscription becomes live under the channel's lock, in one step with
//! its answer and its replay, so there is no gap, no duplicate, and nothing before the answer.

use super::announce::announce_change;
use super::catch_up::{CatchUpStart, Replay};
use super::epoch_turn::{EpochTurn, turn};
use super::{ChannelCore, ChannelName, Subscription, SubscriptionPhase, Target};
use crate::broker::{Continuity, HistoryPage, HistoryRange, Order};
use crate::connection::{Connection, ConnectionCore, ConnectionId, Owner};
use crate::error::Error;
use crate::event::{SystemEvent, SystemKind};
use crate::hub::HubCore;
use crate::presence;
use crate::shard::Item;
use hauyna_protocol::{ChannelEvent, ErrorType, Position, Recovery, RecoveryFailure, Subscribed};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32};

/// What a subscriber asks for.
#[derive(Debug, Default)]
pub(crate) struct SubscribeRequest {
    /// JSON text.
    pub(crate) metadata: Option<Arc<str>>,
    pub(crate) recover: Option<Position>,
}

/// What a subscriber is told before anything else of the channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubscribeReply {
    pub(crate) top: Option<Position>,
    pub(crate) recovery: Option<Result<(), RecoveryFailure>>,
}

/// Counts a subscription that waits for its history, and stops counting wherever it ends.
struct CatchingUp<'a> {
    hub: &'a HubCore,
    channel: Arc<ChannelCore>,
    /// How often the stream had turned when the wait began.
    turns: u32,
    /// Its number among the subscriptions that wait.
    number: u64,
}

impl Drop for CatchingUp<'_> {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.end_wait(self.number);
        self.hub.channels.note_holders(&self.channel, &mut state);
        let unused = self.channel.is_unused(&state);
        drop(state);
        if unused {
            self.hub.remove_channel(&self.channel);
        }
    }
}

/// A subscription that is ready to go live. What is delivered meanwhile stands in the history.
pub(crate) struct Prepared<'a> {
    catching: CatchingUp<'a>,
    subscription: Arc<Subscription>,
    page: Option<HistoryPage>,
    recovery: Option<Result<(), RecoveryFailure>>,
    /// The position that the subscriber recovers from.
    since: Option<Position>,
    announced: Announced,
}

/// When the subscriber is told its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    /// As it goes live.
    Now,
    /// It was told before, and gets everything after that position.
    Before,
}

impl Prepared<'_> {
    /// As part of a session that goes on, which tells its client of all its subscriptions first.
    pub(crate) fn resumed(mut self) -> Self {
        self.announced = Announced::Before;
        if self.page.is_some() {
            self.recovery.get_or_insert(Err(RecoveryFailure::UnknownPosition));
        }
        self
    }

    pub(crate) fn name(&self) -> &ChannelName {
        &self.catching.channel.name
    }

    /// What the client is told of it with its session.
    pub(crate) fn subscribed_message(&self) -> Subscribed<'_> {
        told(&self.catching.channel, &self.send_reply())
    }

    fn send_reply(&self) -> SubscribeReply {
        SubscribeReply { top: self.page.as_ref().map(|page| page.top), recovery: self.recovery }
    }
}

/// Subscribes a connection. `answer` puts the reply into the connection's outbox; it runs under the
/// channel's lock, before any message of the channel.
///
/// # Errors
///
/// `already_subscribed`, `limit_exceeded` (channels per connection and node), `unavailable`, `permission_denied` where the
/// application has ended it meanwhile, or the connection is closed.
pub(crate) async fn subscribe(
    hub: &HubCore,
    connection: &Arc<ConnectionCore>,
    wish: (&ChannelName, SubscribeRequest),
    answer: impl FnOnce(&ChannelCore, &SubscribeReply) + Send,
) -> Result<SubscribeReply, Error> {
    connection.check_new_subscription(wish.0)?;
    let prepared = prepare(hub, connection, wish).await?;
    let welcome = prepared.send_reply();
    commit(hub, prepared, None, answer)?;
    Ok(welcome)
}

/// A subscription of a lost connection goes on.
pub(crate) fn activate_resumed(hub: &HubCore, prepared: Prepared<'_>, lost: ConnectionId) {
    // It fails where the application was quicker to subscribe this connection.
    let _ = commit(hub, prepared, Some(lost), |_, _| {});
}

/// Does what may take a while before a subscription can go live.
///
/// # Errors
///
/// As [`subscribe`].
pub(crate) async fn prepare<'a>(
    hub: &'a HubCore,
    connection: &Arc<ConnectionCore>,
    (name, wish): (&ChannelName, SubscribeRequest),
) -> Result<Prepared<'a>, Error> {
    // What is sent to users goes to their connections: a subscription would hear nothing of it.
    if name.target() != Target::Channel {
        let text = "this channel is the hub's own: it is written to users, group members or everybody";
        return Err(Error::protocol(ErrorType::PermissionDenied, text));
    }
    connection.may_subscribe(name)?;
    let catching = start_catch_up(hub, name)?;
    hub.broker_subscribe(&catching.channel).await?;
    let page = match catching.channel.options.retention {
        None => None,
        Some(_) => {
            let range = range(wish.recover, hub.config.recovery_limit);
            Some(hub.with_broker(|broker| broker.history(name, range)).await?)
        }
    };
    let subscription = subscription(&catching.channel, connection, wish.metadata);
    let recovery = page.as_ref().zip(wish.recover);
    let recovery = recovery.map(|(page, since)| recovery_of(page, since, hub.config.recovery_limit));
    let since = wish.recover;
    Ok(Prepared { catching, subscription, page, recovery, since, announced: Announced::Now })
}

fn commit(
    hub: &HubCore,
    prepared: Prepared<'_>,
    lost: Option<ConnectionId>,
    answer: impl FnOnce(&ChannelCore, &SubscribeReply),
) -> Result<(), Error> {
    let Prepared { catching, subscription, page, recovery, since, announced: telling } = prepared;
    let start = CatchUpStart {
        page,
        recovery,
        since,
        announced: telling,
        turns: catching.turns,
        number: catching.number,
    };
    let go_live = || activate(hub, &subscription, start, answer);
    let announce = || announce_change(hub, &subscription, None, event_of(telling));
    presence::join(hub, (&subscription, lost), go_live, announce)?;
    drop(catching);
    tracing::debug!(
        target: "hauyna::channel",
        id = %subscription.connection.id(),
        channel = %crate::log::name(subscription.channel.name.as_str()),
        recovered = recovery.map(|recovery| recovery.is_ok()),
        "subscribed",
    );
    Ok(())
}

/// What a subscriber is told of its subscription.
pub(crate) fn told<'a>(channel: &'a ChannelCore, welcome: &SubscribeReply) -> Subscribed<'a> {
    Subscribed {
        channel: channel.name.as_str(),
        position: welcome.top,
        recoverable: welcome.top.is_some(),
        recovery: match welcome.recovery {
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

/// Takes a member's connection into its group's channel, which keeps no history and which every broker relays
/// unasked: there is nothing to wait for.
///
/// # Errors
///
/// It is there already, or the connection is closed.
pub(crate) fn add_to_lists(
    hub: &HubCore,
    connection: &Arc<ConnectionCore>,
    name: &ChannelName,
) -> Result<(), Error> {
    let catching = start_catch_up(hub, name)?;
    let (turns, number) = (catching.turns, catching.number);
    let start =
        CatchUpStart { page: None, recovery: None, since: None, announced: Announced::Now, turns, number };
    activate(hub, &subscription(&catching.channel, connection, None), start, |_, _| {})
}

/// Finds or makes the channel, and keeps it until the history is there.
fn start_catch_up<'a>(hub: &'a HubCore, name: &ChannelName) -> Result<CatchingUp<'a>, Error> {
    loop {
        let (most, options) = match name.target() {
            Target::Group(_) => (usize::MAX, None),
            _ => (hub.config.channels, Some(&hub.declarations)),
        };
        let channel = hub.channels.find_or_insert(name, most, || {
            let options = options.map_or(&hub.groups.options, |declared| declared.options(name.as_str()));
            ChannelCore::new(name.clone(), options.clone(), hub.shards.len())
        });
        let Some(channel) = channel else {
            if presence::evict_oldest_lost_channel(hub) {
                continue; // who is here goes before who is lost
            }
            let error =
                Error::protocol(ErrorType::LimitExceeded, "the server has as many channels as it may");
            return Err(error.with_details(serde_json::json!({ "limit": most })));
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
        Some(_) => HistoryRange { since: recover, limit: limit.min(FIRST_PAGE), order: Order::Forward },
    }
}

fn recovery_of(page: &HistoryPage, since: Position, limit: u32) -> Result<(), RecoveryFailure> {
    match page.continuity {
        // The page is only the first one.
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

/// The one step: answer, replay, live.
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
    let belongs = Owner::of(&channel.name);
    let is_going_on = start.announced == Announced::Before;
    // Of a session that goes on its takeover says so.
    if !is_going_on && state.has_ended_early(connection.id(), start.number) {
        let text = "the application has ended this subscription";
        return Err(Error::protocol(ErrorType::PermissionDenied, text));
    }
    let mut own = connection.subscriptions_of(belongs).lock();
    connection.check_subscribe(&own, channel, belongs, is_going_on)?;
    if own.is_empty() {
        own.reserve_exact(1); // most connections have one
    }
    own.push(subscription.clone());
    drop(own);
    if let Some(page) = &start.page
        && state.turns == start.turns
        && state.top.is_some_and(|top| top.epoch != page.top.epoch)
    {
        // The others will get no more of the epoch that they know.
        turn(hub, channel, &mut state, EpochTurn::lost(page.top));
    }
    let begun = start.start_catch_up(&state);
    state.subscribers.insert(connection.id(), subscription.clone());
    state.per_shard[connection.shard()] += 1;
    answer(channel, &begun.welcome);
    if let Some(top) = begun.welcome.top {
        state.top.get_or_insert(top);
    }
    // Publications that the history had before the relay brought them come a second time.
    shard.post(Item::Subscribe { subscription: subscription.clone(), after: begun.after });
    if let Some(Replay { from, present, page }) = begun.replay {
        connection.begin_replay(subscription, from, present, page);
    }
    hub.metrics.subscriptions.increment();
    channel.options.usage.subscriptions.increment();
    if belongs == Owner::Connection {
        hub.events.emit(SystemKind::Subscribed, || {
            let connection = Connection::new(connection.clone());
            SystemEvent::Subscribed { connection, channel: channel.name.clone() }
        });
        // Where there is presence it is announced behind that, under its lock.
        if channel.presence.is_none() {
            announce_change(hub, subscription, Some(&state), event);
        }
    }
    Ok(())
}

fn event_of(telling: Announced) -> ChannelEvent {
    match telling {
        Announced::Now => ChannelEvent::SubscriptionAdded,
        Announced::Before => ChannelEvent::SubscriptionReconnected,
    }
}

/// Publications that are read before a subscriber goes live; what follows is read when its socket has taken them.
const FIRST_PAGE: u32 = 64;
