//! One channel's stream in memory: its epoch, the top offset and the publications still kept. Pure data,
//! owned by `streams`; it takes the time as an argument and does no I/O.

use super::streams::Stamp;
use super::{Continuity, HistoryPage, HistoryRange, Order, Retention};
use crate::stripes::is_sparse;
use hauyna_broker::Publication;
use hauyna_protocol::{Epoch, Position};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Stream {
    epoch: Epoch,
    top: u64,
    kept: VecDeque<KeptPublication>,
    /// Maximum age of a publication, in microseconds.
    age: u64,
    last_used: Stamp,
}

#[derive(Debug)]
struct KeptPublication {
    at: Stamp,
    publication: Arc<Publication>,
}

impl Stream {
    pub(super) fn new(epoch: Epoch, now: Stamp) -> Self {
        Self { epoch, top: 0, kept: VecDeque::new(), age: 0, last_used: now }
    }

    pub(super) fn next(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top + 1 }
    }

    pub(super) fn top(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    /// Returns the offset of the oldest publication kept, or the next offset if none is.
    pub(super) fn first(&self) -> u64 {
        self.top + 1 - self.kept.len() as u64
    }

    /// Returns when the last publication was added or the last subscriber left.
    pub(super) fn last_used(&self) -> Stamp {
        self.last_used
    }

    pub(super) fn note_use(&mut self, now: Stamp) {
        self.last_used = self.last_used.max(now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Returns the number of publications kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Stores the next publication; returns the bytes added and the bytes evicted.
    pub(super) fn append(
        &mut self,
        publication: Arc<Publication>,
        retention: Retention,
        now: Stamp,
    ) -> (usize, usize) {
        self.top += 1;
        self.age = micros(retention.age);
        self.note_use(now);
        let added = publication.weight();
        self.kept.push_back(KeptPublication { at: now, publication });
        let mut evicted = self.expire(now);
        while self.kept.len() > retention.messages as usize {
            evicted += self.drop_oldest();
        }
        (added, evicted)
    }

    /// Drops publications that are too old; returns their bytes.
    pub(super) fn expire(&mut self, now: Stamp) -> usize {
        let mut evicted = 0;
        while self.kept.front().is_some_and(|kept| now.saturating_sub(kept.at) > self.age) {
            evicted += self.drop_oldest();
        }
        evicted
    }

    /// Drops the oldest publication; returns its bytes.
    pub(super) fn drop_oldest(&mut self) -> usize {
        let evicted = self.kept.pop_front().map_or(0, |kept| kept.publication.weight());
        if is_sparse(self.kept.capacity(), self.kept.len(), 4) {
            self.kept.shrink_to(2 * self.kept.len());
        }
        evicted
    }

    /// Drops all publications; returns their bytes.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.kept).iter().map(|kept| kept.publication.weight()).sum()
    }

    pub(super) fn page(&self, range: HistoryRange) -> HistoryPage {
        let (publications, continuity) = match range.order {
            Order::Forward => self.after(range.since, range.limit as usize),
            Order::Reverse => self.before(range.since, range.limit as usize),
        };
        HistoryPage { top: self.top(), oldest: self.first(), publications, continuity }
    }

    /// Returns the publications after a position, oldest first.
    fn after(&self, since: Option<Position>, limit: usize) -> (Vec<Arc<Publication>>, Continuity) {
        let after = match since {
            None => 0,
            Some(since) if since.epoch != self.epoch || since.offset > self.top => {
                return (Vec::new(), Continuity::EpochChanged);
            }
            Some(since) if since.offset + 1 < self.first() => return (Vec::new(), Continuity::TooOld),
            Some(since) => since.offset,
        };
        let skip = usize::try_from((after + 1).saturating_sub(self.first())).unwrap_or(usize::MAX);
        let wanted = self.kept.len().saturating_sub(skip);
        let kept = self.kept.iter().skip(skip).take(limit);
        (kept.map(|kept| kept.publication.clone()).collect(), continuity(since, wanted, limit))
    }

    /// Returns the publications before a position, newest first.
    fn before(&self, since: Option<Position>, limit: usize) -> (Vec<Arc<Publication>>, Continuity) {
        let end = self.top + 1;
        let before = match since {
            None => end,
            Some(since) if since.epoch != self.epoch || since.offset > end => {
                return (Vec::new(), Continuity::EpochChanged);
            }
            Some(since) => since.offset,
        };
        let wanted = usize::try_from(before.saturating_sub(self.first())).unwrap_or(usize::MAX);
        let kept = self.kept.iter().take(wanted).rev().take(limit);
        (kept.map(|kept| kept.publication.clone()).collect(), continuity(since, wanted, limit))
    }
}

fn continuity(since: Option<Position>, wanted: usize, limit: usize) -> Continuity {
    match since {
        Some(_) if wanted > limit => Continuity::TooMany,
        _ => Continuity::Whole,
    }
}

/// Returns a duration in microseconds, at most the largest `u64`.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
