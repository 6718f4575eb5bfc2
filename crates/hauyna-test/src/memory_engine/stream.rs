//! One stream of the engine in memory: its publications, its epoch, and where earlier epochs ended. Pure
//! data; it takes the time as an argument.

use hauyna::Position;
use hauyna::broker::{Continuity, Epoch, HistoryPage, HistoryRange, Order, Retention};
use hauyna::channel::{Draft, Publication};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct EngineStream {
    epoch: Epoch,
    top: u64,
    kept: VecDeque<Kept>,
    age: Duration,
    /// The ends of the earlier epochs from which the numbering continued, oldest first.
    ends: Vec<Position>,
}

#[derive(Debug)]
struct Kept {
    at: Instant,
    position: Position,
    draft: Draft,
}

impl EngineStream {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, top: 0, kept: VecDeque::new(), age: Duration::ZERO, ends: Vec::new() }
    }

    pub(super) fn top(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    pub(super) fn append(&mut self, draft: Draft, retention: Retention, now: Instant) -> Position {
        self.top += 1;
        self.age = retention.age;
        let position = self.top();
        self.kept.push_back(Kept { at: now, position, draft });
        self.expire(now);
        while self.kept.len() > retention.messages as usize {
            self.kept.pop_front();
        }
        position
    }

    fn expire(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|kept| now - kept.at > self.age) {
            self.kept.pop_front();
        }
    }

    /// Loses the newest publications, as a system does that comes back from a copy, and continues at the next
    /// offset under another epoch.
    pub(super) fn roll_back(&mut self, count: u64, epoch: Epoch) {
        for _ in 0..count.min(self.top) {
            self.kept.pop_back();
            self.top -= 1;
        }
        for end in &mut self.ends {
            end.offset = end.offset.min(self.top);
        }
        self.ends.push(self.top());
        if self.ends.len() > MAX_EPOCHS {
            self.ends.remove(0);
        }
        self.epoch = epoch;
    }

    pub(super) fn page(&mut self, range: HistoryRange, now: Instant) -> HistoryPage {
        self.expire(now);
        let oldest = self.top + 1 - self.kept.len() as u64;
        let (top, limit) = (self.top(), range.limit as usize);
        let page = |publications, continuity| HistoryPage { top, oldest, publications, continuity };
        let is_forward = range.order == Order::Forward;
        if let Some(since) = range.since {
            let end = if since.epoch == self.epoch {
                // The next page of a reader who scrolls back may start behind the newest publication.
                Some(self.top + u64::from(!is_forward))
            } else {
                self.ends.iter().find(|end| end.epoch == since.epoch).map(|end| end.offset)
            };
            if end.is_none_or(|end| since.offset > end) {
                return page(Vec::new(), Continuity::EpochChanged);
            }
            if is_forward && since.offset + 1 < oldest {
                return page(Vec::new(), Continuity::TooOld);
            }
        }
        let since = range.since.map(|since| since.offset);
        let wanted: Vec<&Kept> = if is_forward {
            self.kept.iter().filter(|kept| since.is_none_or(|since| kept.position.offset > since)).collect()
        } else {
            let before = |kept: &&Kept| since.is_none_or(|since| kept.position.offset < since);
            self.kept.iter().rev().filter(before).collect()
        };
        let has_more = since.is_some() && wanted.len() > limit;
        let publications = wanted.into_iter().take(limit).map(Kept::publication).collect();
        page(publications, if has_more { Continuity::TooMany } else { Continuity::Whole })
    }
}

impl Kept {
    /// Each reader gets a publication of its own: hubs encode them with their own options.
    fn publication(&self) -> Arc<Publication> {
        Arc::new(self.draft.clone().publication(Some(self.position)))
    }
}

/// Number of earlier epochs that can be continued.
const MAX_EPOCHS: usize = 8;
