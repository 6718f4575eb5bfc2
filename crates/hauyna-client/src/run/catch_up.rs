//! Closing a gap in place: the history is asked from the position on, while live messages of the channel
//! wait, and then both are joined by offset. Part of the task.

use super::ClientTask;
use super::requests::Purpose;
use crate::clock::after;
use crate::error::Refusal;
use crate::gap::{Gap, GapReason};
use crate::stream::Notification;
use hauyna_protocol::received::{History, Received};
use hauyna_protocol::{Direction, Position, Request};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What has come live in a channel whose history is being fetched.
#[derive(Debug)]
pub(super) struct HeldMessages {
    waiting: VecDeque<HeldEntry>,
    bytes: usize,
    /// How many of them had come when the history was asked last: it has what is missing among those.
    asked_behind: usize,
    /// The numbering went back after the history was asked: it is asked once more.
    is_stale: bool,
    /// The first message whose offset is not higher than that of the one before it: if its epoch is another
    /// one, nothing is known of the offsets from there on.
    went_back_at: Option<usize>,
    /// When to ask again after a refusal that may pass.
    pub(super) retry_at: Option<Instant>,
    /// When the answer has to be there.
    pub(super) answer_by: Option<Instant>,
}

#[derive(Debug)]
enum HeldEntry {
    Message(Option<u64>, Notification),
    /// Messages are missing here too, after this position where it is known: the history is asked once more.
    Gap(Option<Position>),
}

impl HeldMessages {
    pub(super) const fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            asked_behind: 0,
            is_stale: false,
            went_back_at: None,
            retry_at: None,
            answer_by: None,
        }
    }

    /// The message that is kept next has an offset that is too low.
    fn note_numbering_went_back(&mut self) {
        self.went_back_at.get_or_insert(self.waiting.len());
    }

    /// Keeps a message; `false` if that is one too many.
    pub(super) fn keep(&mut self, offset: Option<u64>, notification: Notification) -> bool {
        self.bytes += notification.weight();
        self.waiting.push_back(HeldEntry::Message(offset, notification));
        self.waiting.len() <= MAX_HELD && self.bytes <= MAX_HELD_BYTES
    }

    /// Keeps the place of another gap; one right behind another is closed with it.
    fn keep_gap(&mut self, before: Option<Position>) {
        if !matches!(self.waiting.back(), Some(HeldEntry::Gap(_))) {
            self.waiting.push_back(HeldEntry::Gap(before));
        }
    }

    /// The history was read to its end: forgets the gaps that it has closed, and says whether it has to be
    /// asked once more.
    fn finish_page(&mut self) -> bool {
        let (mut index, closed) = (0, self.asked_behind);
        self.waiting.retain(|waiting| {
            index += 1;
            index > closed || matches!(waiting, HeldEntry::Message(..))
        });
        let has_gap = self.waiting.iter().any(|waiting| matches!(waiting, HeldEntry::Gap(_)));
        std::mem::take(&mut self.is_stale) || has_gap
    }

    /// The first offset past the own position: where the channel goes on.
    fn next_after(&self, own: Position) -> Option<u64> {
        self.waiting.iter().find_map(|waiting| match waiting {
            HeldEntry::Message(offset, _) => offset.filter(|offset| *offset > own.offset),
            HeldEntry::Gap(_) => None,
        })
    }
}

impl ClientTask {
    /// The numbering of a channel went back without a word: the history knows whether its epoch is another
    /// one.
    pub(super) fn check_numbering(&mut self, channel: &str) {
        match self.subscriptions.held.get_mut(channel) {
            Some(held) => held.is_stale = true,
            None => self.catch_up(channel, None),
        }
        if let Some(held) = self.subscriptions.held.get_mut(channel) {
            held.note_numbering_went_back();
        }
    }

    /// Fetches what a channel has missed, after a position where one was named.
    pub(super) fn catch_up(&mut self, channel: &str, before: Option<Position>) {
        if let Some(held) = self.subscriptions.held.get_mut(channel) {
            return held.keep_gap(before);
        }
        self.subscriptions.held.insert(channel.to_owned(), HeldMessages::new());
        self.request_history(channel);
    }

    pub(super) fn request_history(&mut self, channel: &str) {
        let since = self.subscriptions.position(channel);
        let request =
            Request::History { channel: channel.into(), since, limit: None, direction: Direction::Forward };
        self.send_request(Purpose::CatchUp(channel.to_owned()), &request);
        if let Some(held) = self.subscriptions.held.get_mut(channel) {
            held.answer_by = Some(after(Instant::now(), self.shared.timeout.max(MIN_HELD)));
            held.asked_behind = held.waiting.len();
        }
    }

    /// A page of the history is there, or will not come.
    pub(super) fn take_history_answer(
        &mut self,
        channel: &str,
        answer: Result<Option<Box<RawValue>>, Refusal>,
    ) {
        let history = match answer {
            Ok(data) => data.and_then(|data| serde_json::from_str::<History>(data.get()).ok()),
            Err(refusal) if refusal.temporary => {
                if let Some(held) = self.subscriptions.held.get_mut(channel) {
                    held.answer_by = None;
                    held.retry_at = Some(Instant::now() + retry_delay(&refusal));
                }
                return;
            }
            Err(refusal) => return self.give_up_catch_up(channel, reason(&refusal)),
        };
        let Some(history) = history else { return self.give_up_catch_up(channel, GapReason::Other) };
        let before = self.subscriptions.position(channel);
        if !self.subscriptions.session.adopt_page_end(channel, history.position) {
            return self.give_up_catch_up(channel, GapReason::EpochChanged);
        }
        if before.map(|before| before.epoch) != self.subscriptions.position(channel).map(|own| own.epoch) {
            self.requests.outbox.forget_keys(channel);
        }
        if let Some(held) = self.subscriptions.held.get_mut(channel) {
            held.went_back_at = None;
        }
        for message in &history.messages {
            self.accept_replayed(channel, message.get());
        }
        let own = self.subscriptions.position(channel);
        let is_behind = own.is_some_and(|own| own.offset < history.position.offset);
        let has_progress = own.map(|own| own.offset) > before.map(|before| before.offset);
        if is_behind && !has_progress {
            let is_same = own.map(|own| own.epoch) == before.map(|before| before.epoch);
            self.subscriptions.session.set_position(channel, before);
            let reason = if is_same { GapReason::TooOld } else { GapReason::EpochChanged };
            return self.give_up_catch_up(channel, reason);
        }
        if is_behind || self.subscriptions.held.get_mut(channel).is_some_and(HeldMessages::finish_page) {
            return self.request_history(channel);
        }
        self.release_held(channel, false);
    }

    /// Gives one message of the history to its readers, unless it was seen before. Its offset counts whatever
    /// it is.
    fn accept_replayed(&mut self, channel: &str, message: &str) {
        let (offset, notification) = match Received::read(message) {
            Ok(Received::Publication(publication)) => {
                (publication.offset, Some(Notification::Publication(Arc::new(publication), None)))
            }
            Ok(Received::Application(application)) => {
                (application.offset, Some(Notification::Application(Arc::new(application))))
            }
            _ => (number(message), None),
        };
        if let Some(notification) = &notification {
            self.subscriptions.session.expect_live(channel, offset, || mark(notification));
        }
        if self.subscriptions.session.accept_replayed(channel, offset)
            && let Some(notification) = notification
        {
            self.deliver(Some(channel), &notification);
        }
    }

    /// The history cannot close the gap: the application is told, and the channel goes on.
    pub(super) fn give_up_catch_up(&mut self, channel: &str, reason: GapReason) {
        let from = self.subscriptions.position(channel);
        let held = self.subscriptions.held.get(channel);
        let went_back = held.is_some_and(|held| held.went_back_at.is_some());
        let is_lost = went_back || reason == GapReason::EpochChanged;
        if is_lost {
            self.requests.outbox.forget_keys(channel);
        }
        let to = from.filter(|_| !is_lost).and_then(|from| {
            let next = held?.next_after(from)?;
            Some(Position { offset: next - 1, ..from })
        });
        self.report_gap(Gap { channel: channel.to_owned(), reason, from, to, missed: None });
        self.release_held(channel, is_lost);
    }

    /// Forgets the answer that is awaited, and what waits for it.
    pub(super) fn stop_catch_up(&mut self, channel: &str) -> Option<HeldMessages> {
        self.requests.remove_history(channel);
        self.subscriptions.held.remove(channel)
    }

    /// Lets the live messages go on, each of them unless the history had it, up to the next gap among them.
    /// Where the position is lost, the epoch is not known any more: from the message on that went back,
    /// offsets say nothing of what was seen.
    fn release_held(&mut self, channel: &str, is_lost: bool) {
        self.subscriptions.session.finish_catch_up(channel);
        let Some(mut held) = self.stop_catch_up(channel) else {
            return self.finish_release(channel, is_lost);
        };
        let went_back_at = held.went_back_at.filter(|_| is_lost);
        let mut index = 0;
        while let Some(waiting) = held.waiting.pop_front() {
            if went_back_at == Some(index) {
                self.subscriptions.session.forget_position(channel);
            }
            index += 1;
            match waiting {
                HeldEntry::Message(offset, notification) => {
                    if self.subscriptions.session.accept_replayed(channel, offset) {
                        self.deliver(Some(channel), &notification);
                    }
                }
                HeldEntry::Gap(before) => {
                    held.bytes = held.waiting.iter().map(HeldEntry::weight).sum();
                    held.went_back_at = held.went_back_at.and_then(|at| at.checked_sub(index));
                    if self.subscriptions.session.continue_catch_up(
                        channel,
                        before,
                        held.went_back_at.is_some(),
                    ) {
                        self.subscriptions.held.insert(channel.to_owned(), held);
                        return self.request_history(channel);
                    }
                }
            }
        }
        self.finish_release(channel, is_lost);
    }

    fn finish_release(&mut self, channel: &str, is_lost: bool) {
        if is_lost {
            self.subscriptions.session.forget_position(channel);
            if let Some(shared) = self.channel(channel) {
                *shared.position.lock() = None;
            }
        }
    }
}

impl HeldEntry {
    fn weight(&self) -> usize {
        match self {
            Self::Message(_, notification) => notification.weight(),
            Self::Gap(_) => 0,
        }
    }
}

/// What tells a message of a channel from others of the same offset.
pub(super) fn mark(notification: &Notification) -> String {
    match notification {
        Notification::Publication(publication, _) => {
            format!("{} {}", publication.timestamp, publication.content)
        }
        Notification::Application(application) => application.body.get().to_owned(),
        _ => String::new(),
    }
}

/// The offset of any message that has one.
fn number(message: &str) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Numbered {
        offset: Option<u64>,
    }
    serde_json::from_str::<Numbered>(message).ok()?.offset
}

/// Why the history was refused.
fn reason(refusal: &Refusal) -> GapReason {
    #[derive(serde::Deserialize)]
    struct RefusalDetails {
        reason: Option<String>,
    }
    let details: Option<RefusalDetails> =
        refusal.details.as_ref().and_then(|details| serde_json::from_str(details.get()).ok());
    details.and_then(|details| details.reason).map_or(GapReason::Dropped, |word| GapReason::of(&word))
}

/// When a request that was refused for now may be asked again.
pub(super) fn retry_delay(refusal: &Refusal) -> Duration {
    refusal.retry_after().unwrap_or(RETRY_INTERVAL).clamp(MIN_PAUSE, MAX_PAUSE)
}

/// The pause before a request is asked again, where the server says nothing.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The bounds of what a server may ask for: see `PROTOCOL.md`.
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The least time for a page of the history, however little a request is given.
const MIN_HELD: Duration = Duration::from_secs(1);
/// What may be held back for one channel.
const MAX_HELD: usize = 10_000;
const MAX_HELD_BYTES: usize = 8 << 20;
