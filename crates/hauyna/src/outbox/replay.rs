//! Replays what a subscriber missed: reads it from the history in pages, each after the socket has accepted
//! the one before, so that a connection never holds more than one. Until a replay has reached the present,
//! numbered live publications come with it. `Replays` is in the outbox; the connection's task fetches the
//! pages, and its shard ends the replay.

use super::queued::QueueBounds;
use super::{Phase, Sender};
use crate::broker::{Continuity, HistoryPage, HistoryRange, Order};
use crate::channel::{EpochTurn, Subscription, SubscriptionPhase};
use crate::close::CloseReason;
use crate::shard::Item;
use hauyna_broker::{Answer, BrokerError, Publication};
use hauyna_protocol::Position;
use hauyna_protocol::close::CloseCode;
use std::sync::Arc;

/// The replays of one connection.
#[derive(Debug, Default)]
pub(super) struct Replays {
    all: Vec<Replay>,
    /// Number of messages that are held behind replays.
    held: usize,
    /// Bytes of the messages that are held behind replays.
    held_bytes: usize,
}

/// Messages without a number that were published during a replay; they follow when it has ended.
#[derive(Debug, Default)]
pub(super) struct HeldPublications {
    pub(super) publications: Vec<Arc<Publication>>,
    bytes: usize,
    /// Whether a message was dropped because the bounds were reached.
    pub(super) has_dropped: bool,
}

#[derive(Debug)]
struct Replay {
    subscription: Arc<Subscription>,
    /// The position up to which the subscriber was sent publications.
    at: Position,
    /// The newest position that was published meanwhile and left to the replay.
    delivered: Option<Position>,
    stage: Stage,
    /// Whether the history no longer has what follows `at`; then the next page begins with the oldest
    /// publication.
    is_behind: bool,
    /// Whether the stream continues under another epoch, or after a loss; the history tells where.
    has_turned: bool,
    held: HeldPublications,
}

/// The stage of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The next page has to be fetched.
    Due,
    /// The next page is being fetched.
    Fetching,
    /// The present is reached according to the history; the shard has to confirm it.
    Ending,
}

/// The range that has to be read from a history for a subscriber.
struct Page {
    subscription: Arc<Subscription>,
    range: HistoryRange,
}

impl Replays {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a page should be fetched: a replay is due, and fewer than the maximum are being fetched.
    pub(super) fn is_due(&self) -> bool {
        let fetching = self.all.iter().filter(|replay| replay.stage == Stage::Fetching).count();
        fetching < MAX_PAGES_AT_ONCE && self.all.iter().any(|replay| replay.stage == Stage::Due)
    }

    fn find(&mut self, subscription: &Arc<Subscription>) -> Option<&mut Replay> {
        self.all.iter_mut().find(|replay| Arc::ptr_eq(&replay.subscription, subscription))
    }

    /// Ends a replay. Returns the messages that were held behind it.
    pub(super) fn remove(&mut self, subscription: &Arc<Subscription>) -> Option<HeldPublications> {
        let index = self.all.iter().position(|replay| Arc::ptr_eq(&replay.subscription, subscription))?;
        let held = self.all.remove(index).held;
        self.held -= held.publications.len();
        self.held_bytes -= held.bytes;
        Some(held)
    }

    /// Holds a message behind a replay. Returns whether it fits into the bounds.
    pub(super) fn hold(
        &mut self,
        publication: &Arc<Publication>,
        subscription: &Arc<Subscription>,
        bytes: usize,
        bounds: QueueBounds,
    ) -> bool {
        let has_room = self.held == 0 || self.held < bounds.frames && self.held_bytes + bytes <= bounds.bytes;
        let Some(Replay { held, .. }) = self.find(subscription) else { return true };
        held.has_dropped |= !has_room;
        if has_room {
            held.publications.push(publication.clone());
            held.bytes += bytes;
            self.held += 1;
            self.held_bytes += bytes;
        }
        has_room
    }

    /// Notes a live publication that the replay has to deliver in order.
    pub(super) fn note_delivered(&mut self, subscription: &Arc<Subscription>, position: Position) {
        if let Some(replay) = self.find(subscription) {
            replay.delivered = Some(position);
        }
    }

    /// Notes that the epoch of the stream has changed.
    pub(super) fn note_turn(&mut self, subscription: &Arc<Subscription>) {
        if let Some(replay) = self.find(subscription) {
            replay.has_turned = true;
        }
    }

    fn next(&mut self) -> Option<Page> {
        let replay = self.all.iter_mut().find(|replay| replay.stage == Stage::Due)?;
        replay.stage = Stage::Fetching;
        replay.has_turned = false;
        let since = (!replay.is_behind).then_some(replay.at);
        let range = HistoryRange::new(since, MAX_PAGE_PUBLICATIONS, Order::Forward);
        Some(Page { subscription: replay.subscription.clone(), range })
    }
}

/// Publications of one page, at most.
const MAX_PAGE_PUBLICATIONS: u32 = 64;
impl Sender<'_> {
    /// Begins to replay what follows `at`, at least up to `present`. `page` is what was already read of it,
    /// if anything. The caller holds the channel's lock.
    pub(crate) fn begin_replay(
        self,
        subscription: &Arc<Subscription>,
        at: Position,
        present: Position,
        page: Option<HistoryPage>,
    ) {
        let mut outbox = self.core.outbox.lock();
        if outbox.phase != Phase::Open {
            return;
        }
        subscription.set_phase(SubscriptionPhase::Replaying);
        let lanes = outbox.lanes();
        let page = page.filter(|_| !lanes.has_replayed());
        let stage = if page.is_some() { Stage::Fetching } else { Stage::Due };
        lanes.replays.all.push(Replay {
            subscription: subscription.clone(),
            at,
            delivered: Some(present),
            stage,
            is_behind: false,
            has_turned: false,
            held: HeldPublications::default(),
        });
        drop(outbox);
        if let Some(page) = page {
            self.replay(subscription, &page);
        }
        // The task fetches the next page.
        self.wake(&self.core.outbox.lock());
    }

    /// Fetches the next page of a replay if the socket has accepted the one before. Returns whether there was
    /// one to fetch.
    pub(crate) fn fetch_replay(self) -> bool {
        let mut outbox = self.core.outbox.lock();
        if outbox.is_over_bounds(self.bounded()) {
            return false;
        }
        let lanes = outbox.existing_lanes().filter(|lanes| lanes.wants_replay());
        let Some(Page { subscription, range }) = lanes.and_then(|lanes| lanes.replays.next()) else {
            return false;
        };
        drop(outbox);
        let answer = self.core.hub().with_broker(|broker| broker.history(&subscription.channel.name, range));
        match answer {
            Answer::Ready(page) => self.take_page(&subscription, page),
            Answer::Pending(later) => {
                let core = self.core.clone();
                tokio::spawn(async move {
                    let page = later.await;
                    core.sender().take_page(&subscription, page);
                    core.sender().request_flush();
                });
            }
        }
        true
    }

    fn take_page(self, subscription: &Arc<Subscription>, page: Result<HistoryPage, BrokerError>) {
        match page {
            Ok(page) => self.replay(subscription, &page),
            // The subscription has ended while the page was read.
            Err(_) if !self.is_replaying(subscription) => {}
            Err(error) => {
                tracing::debug!(
                    target: "hauyna::channel",
                    id = %self.core.id(),
                    error = %crate::log::error_text(&error),
                    "the history cannot be read",
                );
                // The client reconnects and recovers.
                self.core.close_with(CloseCode::POSITION_LOST, CloseReason::Lost);
            }
        }
    }

    fn is_replaying(self, subscription: &Arc<Subscription>) -> bool {
        let mut outbox = self.core.outbox.lock();
        outbox.existing_lanes().is_some_and(|lanes| lanes.replays.find(subscription).is_some())
    }

    /// Queues a page, up to the bounds.
    fn replay(self, subscription: &Arc<Subscription>, page: &HistoryPage) {
        let is_negotiated = self.core.is_negotiated();
        let mut outbox = self.core.outbox.lock();
        let out = self.outgoing();
        let Some(lanes) = outbox.existing_lanes() else { return };
        let Some(replay) = lanes.replays.find(subscription) else { return };
        let mut at = replay.at;
        let was_behind = std::mem::replace(&mut replay.is_behind, page.continuity == Continuity::TooOld);
        if replay.is_behind && !was_behind {
            replay.stage = Stage::Due;
            return;
        }
        replay.is_behind = false;
        let has_turned = page.top.epoch != at.epoch;
        if has_turned {
            // What was delivered under an earlier epoch is in this history, or lost. A later epoch is noted
            // as a turn.
            replay.delivered.take_if(|delivered| delivered.epoch != page.top.epoch);
        }
        let is_lost = page.continuity == Continuity::EpochChanged || has_turned && was_behind;
        if has_turned && !is_lost {
            at.epoch = page.top.epoch;
            if is_negotiated {
                lanes.push_turn(subscription, EpochTurn::whole(at), out);
            }
        }
        if is_lost {
            // The numbering restarted: how much was missed is unknown, but the subscriber learns that
            // something was.
            at = page.top;
            if is_negotiated {
                lanes.push_turn(subscription, EpochTurn::lost(at), out);
            }
        } else {
            let mut bytes = 0;
            for publication in &page.publications {
                let offset = publication.offset();
                if offset <= at.offset {
                    continue;
                }
                if bytes >= MAX_PAGE_BYTES {
                    break;
                }
                if offset > at.offset + 1 {
                    lanes.push_gap(subscription, at, offset - at.offset - 1);
                }
                if !self.core.is_excluded_from(publication) {
                    bytes += lanes.push_replayed(publication, subscription, out);
                }
                at.offset = offset;
            }
            if page.publications.is_empty() && at.offset < page.top.offset {
                lanes.push_gap(subscription, at, page.top.offset - at.offset);
                at.offset = page.top.offset;
            }
        }
        let is_done = at.offset >= page.top.offset;
        if let Some(replay) = lanes.replays.find(subscription) {
            replay.at = at;
            replay.stage = if is_done { Stage::Ending } else { Stage::Due };
        }
        self.notify_of_gaps(&mut outbox, Some(subscription));
        drop(outbox);
        if is_done {
            let item = Item::Activate { subscription: subscription.clone(), after: at.offset };
            self.core.hub().shards[self.core.shard()].post(item);
        }
    }

    /// Ends a replay whose present the shard has reached, after the offset `after`: from now on publications
    /// go to the subscriber directly, unless some were published meanwhile. Returns whether the subscription
    /// is live.
    pub(crate) fn activate(self, subscription: &Arc<Subscription>, after: u64) -> bool {
        let mut outbox = self.core.outbox.lock();
        let Some(lanes) = outbox.existing_lanes() else { return false };
        let Some(replay) = lanes.replays.find(subscription) else { return false };
        let at = replay.at;
        let is_new = |delivered: Position| delivered.epoch != at.epoch || delivered.offset > after;
        if replay.has_turned || replay.delivered.is_some_and(is_new) {
            replay.stage = Stage::Due;
            self.wake(&outbox);
            return false;
        }
        lanes.release_held(subscription, self.outgoing());
        self.notify_of_gaps(&mut outbox, Some(subscription));
        outbox.drop_unused_lanes();
        if subscription.phase() == SubscriptionPhase::Replaying {
            subscription.set_phase(SubscriptionPhase::Live);
        }
        true
    }
}

/// Bytes after which the rest of a page is left for the next one.
const MAX_PAGE_BYTES: usize = 64 * 1024;
/// Pages that are fetched at once, for different channels.
const MAX_PAGES_AT_ONCE: usize = 4;
