//! One channel's stream in memory: its epoch, the top offset and the publications still kept. Pure data,
//! owned by `local`; it takes the time as an argument and does no I/O.

use super::{Continuity, HistoryPage, HistoryRange, Order, Retention};
use crate::channel::Publication;
use hauyna_protocol::{Epoch, Position};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Stream {
    epoch: Epoch,
    top: u64,
    kept: VecDeque<Kept>,
    age: Duration,
    last_used: Instant,
}

#[derive(Debug)]
struct Kept {
    at: Instant,
    publication: Arc<Publication>,
}

impl Stream {
    pub(super) fn new(epoch: Epoch, now: Instant) -> Self {
        Self { epoch, top: 0, kept: VecDeque::new(), age: Duration::ZERO, last_used: now }
    }

    pub(super) fn next(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top + 1 }
    }

    pub(super) fn top(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    /// The offset of the oldest publication kept, or the next one's where none is.
    pub(super) fn first(&self) -> u64 {
        self.top + 1 - self.kept.len() as u64
    }

    pub(super) fn last_used(&self) -> Instant {
        self.last_used
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Stores the next publication; returns the bytes that came and the bytes that went.
    pub(super) fn push(
        &mut self,
        publication: Arc<Publication>,
        retention: Retention,
        now: Instant,
    ) -> (usize, usize) {
        self.top += 1;
        self.age = retention.age;
        self.last_used = now;
        let came = publication.weight();
        self.kept.push_back(Kept { at: now, publication });
        let mut went = self.expire(now);
        while self.kept.len() > retention.messages as usize {
            went += self.pop();
        }
        (came, went)
    }

    /// Drops what is older than the channel keeps; returns its bytes.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let mut went = 0;
        while self.kept.front().is_some_and(|kept| now.duration_since(kept.at) > self.age) {
            went += self.pop();
        }
        went
    }

    /// Drops the oldest publication; returns its bytes.
    pub(super) fn pop(&mut self) -> usize {
        let went = self.kept.pop_front().map_or(0, |kept| kept.publication.weight());
        if self.kept.capacity() > 8 * (self.kept.len() + 4) {
            self.kept.shrink_to(2 * self.kept.len());
        }
        went
    }

    pub(super) fn page(&self, range: HistoryRange) -> HistoryPage {
        let top = self.top();
        let empty = |continuity| HistoryPage { top, publications: Vec::new(), continuity };
        let after = match range.since {
            None => 0,
            Some(since) if since.epoch != self.epoch || since.offset > self.top => {
                return empty(Continuity::EpochChanged);
            }
            Some(since) if since.offset + 1 < self.first() => return empty(Continuity::TooOld),
            Some(since) => since.offset,
        };
        let skip = usize::try_from((after + 1).saturating_sub(self.first())).unwrap_or(usize::MAX);
        let wanted = self.kept.len().saturating_sub(skip);
        let limit = range.limit as usize;
        let continuity = match range.since {
            Some(_) if wanted > limit => Continuity::TooMany,
            _ => Continuity::Whole,
        };
        let kept = self.kept.iter().skip(skip).map(|kept| kept.publication.clone());
        let publications = match range.order {
            Order::Forward => kept.take(limit).collect(),
            Order::Reverse => kept.rev().take(limit).collect(),
        };
        HistoryPage { top, publications, continuity }
    }
}
