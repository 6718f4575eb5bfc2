//! From the page of history that a subscriber waited for to the position from which it is live. Pure; `subscribe`
//! calls it under the channel's lock.

use super::subscribe::Telling;
use super::subscribers::ChannelState;
use super::turn::{Turned, notice};
use super::{ChannelName, Publication};
use crate::broker::HistoryPage;
use hauyna_protocol::{Position, RecoveryFailure};
use std::sync::Arc;

/// What a subscription goes live with.
pub(super) struct Start {
    pub(super) page: Option<HistoryPage>,
    pub(super) recovery: Option<Result<(), RecoveryFailure>>,
    pub(super) telling: Telling,
    /// How often the stream had turned before the page was read.
    pub(super) turns: u32,
}

/// What a subscriber gets before it is live.
#[derive(Default)]
pub(super) struct CaughtUp {
    /// The position in the answer, where the channel numbers its publications.
    pub(super) told: Option<Position>,
    /// The position behind which the subscriber is live.
    pub(super) live: Option<Position>,
    /// What it gets, in order.
    pub(super) replay: Vec<Arc<Publication>>,
}

/// Where the subscriber recovers, it gets the page and what was delivered after the page was read. Otherwise nothing:
/// it is told a position behind all of that. Whoever was told the top of the page before gets what came after it.
/// Where the stream has turned after the page was read, what came since is of no use to who continues from the page.
pub(super) fn catch_up(start: Start, name: &ChannelName, state: &ChannelState) -> CaughtUp {
    let Some(page) = start.page else { return CaughtUp::default() };
    let is_recovered = start.recovery == Some(Ok(()));
    let turned = state.top.filter(|top| top.epoch != page.top.epoch);
    let mut told = page.top;
    let mut replay = if is_recovered { page.publications } else { Vec::new() };
    for publication in &state.since {
        let Some(position) = publication.position() else { continue };
        if position.epoch == page.top.epoch && position.offset > page.top.offset {
            told = position;
            replay.push(publication.clone());
        }
    }
    let live = turned.unwrap_or(told);
    if !is_recovered && start.telling == Telling::Now {
        return CaughtUp { told: Some(live), live: Some(live), replay: Vec::new() };
    }
    replay.extend(turned.map(|top| Arc::new(notice(name, Turned::lost(top)))));
    CaughtUp { told: Some(told), live: Some(live), replay }
}
