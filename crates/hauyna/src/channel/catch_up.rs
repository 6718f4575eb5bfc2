//! The start of a subscription: computes, from the history that the subscriber has waited for, the position
//! from which it is live and what is replayed before. Pure; `subscribe` calls it under the channel's lock.

use super::subscribe::{Announced, SubscribeReply};
use super::subscribers::ChannelState;
use crate::broker::HistoryPage;
use hauyna_protocol::{Position, RecoveryFailure};

/// The state of a subscription before the channel is locked.
pub(super) struct CatchUpStart {
    /// The history, where the channel keeps one. It was read before the channel was locked.
    pub(super) page: Option<HistoryPage>,
    pub(super) recovery: Option<Result<(), RecoveryFailure>>,
    /// The position that the subscriber recovers from.
    pub(super) since: Option<Position>,
    pub(super) announced: Announced,
    /// Number of epoch turns of the stream before the page was read.
    pub(super) turns: u32,
    /// Number of this subscription among those that wait for their history.
    pub(super) number: u64,
}

/// The reply to a subscriber, and where its publications start.
pub(super) struct StartedCatchUp {
    pub(super) reply: SubscribeReply,
    pub(super) replay: Option<Replay>,
    /// Offset up to which publications are not delivered to the subscriber.
    pub(super) after: u64,
}

/// The part of the history that is replayed to a subscriber.
pub(super) struct Replay {
    /// Position after which the replay starts.
    pub(super) from: Position,
    /// Position up to which the replay goes, at least.
    pub(super) present: Position,
    /// First page of the replay, where it was read already.
    pub(super) page: Option<HistoryPage>,
}

impl CatchUpStart {
    /// Computes where the subscriber starts. Publications that were delivered since the page was read are not
    /// delivered to it: a subscriber that recovers gets them from the history, and any other one gets a
    /// position that includes them.
    pub(super) fn start_catch_up(self, state: &ChannelState) -> StartedCatchUp {
        let Self { page, mut recovery, since, announced, turns, .. } = self;
        let Some(page) = page else { return StartedCatchUp::without_history() };
        let is_newer = |top: &Position| match top.epoch == page.top.epoch {
            true => top.offset > page.top.offset,
            false => state.turns != turns,
        };
        let present = state.top.filter(is_newer).unwrap_or(page.top);
        let announced_top = if announced == Announced::Before { page.top } else { present };
        if announced == Announced::Now && recovery == Some(Ok(())) && page.top.epoch != present.epoch {
            recovery = Some(Err(RecoveryFailure::EpochChanged));
        }
        // The numbering has continued from there under the epoch of the page, which the subscriber gets.
        let since = since.map(|since| Position { epoch: page.top.epoch, ..since });
        let (from, page) = match (recovery, announced) {
            (Some(Ok(())), _) => (since, Some(page)),
            (_, Announced::Before) => (Some(announced_top), None),
            (_, Announced::Now) => (None, None),
        };
        let replay = from.filter(|from| *from != present).map(|from| Replay { from, present, page });
        let after = if replay.is_some() { 0 } else { present.offset };
        StartedCatchUp { reply: SubscribeReply { top: Some(announced_top), recovery }, replay, after }
    }
}

impl StartedCatchUp {
    fn without_history() -> Self {
        Self { reply: SubscribeReply { top: None, recovery: None }, replay: None, after: 0 }
    }
}
