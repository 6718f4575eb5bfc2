//! From the history that a subscriber waited for to the position from which it is live, and what it gets before. Pure;
//! `subscribe` calls it under the channel's lock.

use super::subscribe::{Announced, SubscribeReply};
use super::subscribers::ChannelState;
use crate::broker::HistoryPage;
use hauyna_protocol::{Position, RecoveryFailure};

/// Where a subscriber begins.
pub(super) struct CatchUpStart {
    /// The history, as it was read before the channel was locked, where the channel keeps one.
    pub(super) page: Option<HistoryPage>,
    pub(super) recovery: Option<Result<(), RecoveryFailure>>,
    /// The position that the subscriber recovers from.
    pub(super) since: Option<Position>,
    pub(super) announced: Announced,
    /// How often the stream had turned before the page was read.
    pub(super) turns: u32,
    /// Its number among the subscriptions that wait for their history.
    pub(super) number: u64,
}

/// What a subscriber is told, and what it gets first.
pub(super) struct StartedCatchUp {
    pub(super) welcome: SubscribeReply,
    pub(super) replay: Option<Replay>,
    /// Publications up to this offset are not delivered to it.
    pub(super) after: u64,
}

/// What is replayed to a subscriber.
pub(super) struct Replay {
    /// What follows this position,
    pub(super) from: Position,
    /// at least up to this one.
    pub(super) present: Position,
    /// The beginning of it, where that was read.
    pub(super) page: Option<HistoryPage>,
}

impl CatchUpStart {
    /// What was delivered since the page was read will not be delivered to this subscriber: whoever recovers gets it
    /// from the history, and anybody else is told a position behind it.
    pub(super) fn start_catch_up(self, state: &ChannelState) -> StartedCatchUp {
        let Self { page, mut recovery, since, announced: telling, turns, .. } = self;
        let Some(page) = page else { return StartedCatchUp::without_history() };
        let is_newer = |top: &Position| match top.epoch == page.top.epoch {
            true => top.offset > page.top.offset,
            false => state.turns != turns,
        };
        let present = state.top.filter(is_newer).unwrap_or(page.top);
        let told = if telling == Announced::Before { page.top } else { present };
        if telling == Announced::Now && recovery == Some(Ok(())) && page.top.epoch != present.epoch {
            recovery = Some(Err(RecoveryFailure::EpochChanged));
        }
        // The numbering has gone on from there under the epoch that the subscriber is told.
        let since = since.map(|since| Position { epoch: page.top.epoch, ..since });
        let (from, page) = match (recovery, telling) {
            (Some(Ok(())), _) => (since, Some(page)),
            (_, Announced::Before) => (Some(told), None),
            (_, Announced::Now) => (None, None),
        };
        let replay = from.filter(|from| *from != present).map(|from| Replay { from, present, page });
        let after = if replay.is_some() { 0 } else { present.offset };
        StartedCatchUp { welcome: SubscribeReply { top: Some(told), recovery }, replay, after }
    }
}

impl StartedCatchUp {
    fn without_history() -> Self {
        Self { welcome: SubscribeReply { top: None, recovery: None }, replay: None, after: 0 }
    }
}
