//! Epoch turns: a stream continues under another epoch, or after a loss, while it has subscribers. Each
//! subscriber gets a `subscribed`, in the order of the channel's messages. `publish` checks every position
//! that is relayed; brokers report turns through [`Relay::turned`](crate::broker::Relay::turned).

use super::ChannelCore;
use super::subscribe::verdict;
use super::subscribers::ChannelState;
use crate::broker::Continuity;
use crate::hub::HubCore;
use crate::shard::Item;
use hauyna_broker::{ChannelName, Content, Draft, Publication, PublicationKind};
use hauyna_protocol::{Encoding, Message, Position, Recovery, RecoveryFailure, Subscribed};
use std::sync::Arc;

/// The position at which a stream continues, and whether its subscribers have everything up to there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EpochTurn {
    to: Position,
    recovery: Recovery,
}

impl EpochTurn {
    /// Creates a turn where the subscribers miss nothing up to `to`.
    pub(crate) fn whole(to: Position) -> Self {
        Self { to, recovery: Recovery::Recovered }
    }

    fn failed(to: Position, reason: RecoveryFailure) -> Self {
        Self { to, recovery: Recovery::Failed(reason) }
    }

    /// Creates a turn where the history of the stream was lost.
    pub(crate) fn lost(to: Position) -> Self {
        Self::failed(to, RecoveryFailure::EpochChanged)
    }
}

/// Notes that the publication at `position` is delivered next. Where it does not follow the last one, the
/// subscribers are notified before it.
pub(super) fn follow(
    hub: &HubCore,
    channel: &Arc<ChannelCore>,
    state: &mut ChannelState,
    position: Position,
) {
    let Some(top) = state.top else {
        state.top = Some(position);
        return;
    };
    let is_next = top.offset.checked_add(1) == Some(position.offset);
    let before = Position { offset: position.offset.saturating_sub(1), ..position };
    if top.epoch != position.epoch {
        // A broker that has lost its history may start again at 1, which does not follow a top of 0 in the
        // old epoch.
        let is_whole = is_next && top.offset > 0;
        let turned = if is_whole { EpochTurn::whole(before) } else { EpochTurn::lost(before) };
        turn(hub, channel, state, turned);
    } else if position.offset <= top.offset {
        return; // the first subscriber got it from the history
    } else if !is_next {
        turn(hub, channel, state, EpochTurn::failed(before, RecoveryFailure::TooOld));
    }
    state.top = Some(position);
}

/// Handles a broker's report that a stream continues at another position.
pub(crate) fn turned(hub: &HubCore, name: &ChannelName, to: Position, continuity: Continuity) {
    let Some(channel) = hub.channels.find(name) else { return };
    let mut state = channel.state.lock();
    let had_all = state.top.is_none_or(|top| top.offset == to.offset);
    let turned = match verdict(continuity) {
        Ok(()) if state.top == Some(to) => return,
        Ok(()) if had_all => EpochTurn::whole(to),
        Ok(()) => EpochTurn::lost(to),
        Err(reason) => EpochTurn::failed(to, reason),
    };
    turn(hub, &channel, &mut state, turned);
}

/// Continues the stream at another position and notifies the subscribers. The offsets that they have had do
/// not count any more.
pub(super) fn turn(hub: &HubCore, channel: &Arc<ChannelCore>, state: &mut ChannelState, turned: EpochTurn) {
    state.top = Some(turned.to);
    state.turns = state.turns.wrapping_add(1);
    if state.subscribers.is_empty() || channel.options.retention.is_none() {
        return;
    }
    let notice = Arc::new(notice(channel, turned));
    for (shard, _) in hub.shards.iter().zip(&state.per_shard).filter(|(_, count)| **count > 0) {
        shard.post(Item::EpochTurned { channel: channel.clone(), notice: notice.clone() });
    }
    tracing::debug!(
        target: "hauyna::broker",
        channel = %crate::log::name(channel.name.as_str()),
        recovery = ?turned.recovery,
        "the stream continues at another position",
    );
}

/// Returns the `subscribed` that tells subscribers of a turn.
pub(crate) fn notice(channel: &ChannelCore, turned: EpochTurn) -> Publication {
    let message = Message::Subscribed(Subscribed {
        channel: channel.name.as_str(),
        position: Some(turned.to),
        recoverable: true,
        recovery: turned.recovery,
        client_events: channel.options.client_event_rates(),
    });
    let mut json = Vec::with_capacity(128);
    message.encode(Encoding::Json, &mut json);
    let content = Content::of_protocol(json);
    Draft::with_content(channel.name.clone(), PublicationKind::EpochTurned, content).publication(None)
}
