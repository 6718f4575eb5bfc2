//! Closes a gap in place: the task requests the history from the last position on, holds the live messages of
//! the channel meanwhile, and joins both by offset.

use super::ClientTask;
use super::requests::{Answer, Purpose, retry_delay};
use crate::clock::after;
use crate::error::Refusal;
use crate::gap::{Gap, GapReason};
use crate::stream::Notification;
use hauyna_protocol::received::{History, Received};
use hauyna_protocol::{Direction, Position, Request};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The live messages of a channel whose history is being fetched.
#[derive(Debug)]
pub(super) struct HeldMessages {
    waiting: VecDeque<HeldEntry>,
    bytes: usize,
    /// Number of messages that had arrived when the history was last requested. The answer covers the gaps
    /// among them.
    arrived_before_request: usize,
    /// Whether the numbering went back after the request, so that the history has to be requested once more.
    is_stale: bool,
    /// Index of the first message whose offset is not higher than the one before it. If its epoch is another
    /// one, offsets from there on prove nothing.
    went_back_at: Option<usize>,
    /// The moment of the next request after a temporary refusal.
    pub(super) retry_at: Option<Instant>,
    /// The moment at which the answer is late.
    pub(super) answer_by: Option<Instant>,
}

#[derive(Debug)]
enum HeldEntry {
    Message(Option<u64>, Notification),
    /// Messages are missing here, too, after this position if it is known. The history has to be requested
    /// once more.
    Gap(Option<Position>),
}

impl HeldMessages {
    pub(super) const fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            arrived_before_request: 0,
            is_stale: false,
            went_back_at: None,
            retry_at: None,
            answer_by: None,
        }
    }

    /// Notes that the offset of the next message is not higher than the one before it.
    pub(super) fn note_numbering_went_back(&mut self) {
        self.went_back_at.get_or_insert(self.waiting.len());
    }

    /// Holds a message; `false` if the bounds are exceeded.
    pub(super) fn keep(&mut self, offset: Option<u64>, notification: Notification) -> bool {
        self.bytes += notification.weight();
        self.waiting.push_back(HeldEntry::Message(offset, notification));
        self.waiting.len() <= MAX_HELD && self.bytes <= MAX_HELD_BYTES
    }

    /// Holds the place of another gap. A gap right after another one is closed together with it.
    fn keep_gap(&mut self, before: Option<Position>) {
        if !matches!(self.waiting.back(), Some(HeldEntry::Gap(_))) {
            self.waiting.push_back(HeldEntry::Gap(before));
        }
    }

    /// Forgets the gaps that the history has closed, because it was read to its end. Returns whether it has
    /// to be requested once more.
    fn finish_page(&mut self) -> bool {
        let (mut index, closed) = (0, self.arrived_before_request);
        self.waiting.retain(|waiting| {
            index += 1;
            index > closed || matches!(waiting, HeldEntry::Message(..))
        });
        let has_gap = self.waiting.iter().any(|waiting| matches!(waiting, HeldEntry::Gap(_)));
        std::mem::take(&mut self.is_stale) || has_gap
    }

    /// Returns the first held offset after a position: the channel continues there.
    fn next_after(&self, position: Position) -> Option<u64> {
        self.waiting.iter().find_map(|waiting| match waiting {
            HeldEntry::Message(offset, _) => offset.filter(|offset| *offset > position.offset),
            HeldEntry::Gap(_) => None,
        })
    }
}

impl ClientTask {
    /// Requests the history of a channel whose numbering went back, to learn whether its epoch has changed.
    pub(super) fn check_numbering(&mut self, channel: &str) {
        match self.subscriptions.held.get_mut(channel) {
            Some(held) => held.is_stale = true,
            None => self.catch_up(channel, None),
        }
        if let Some(held) = self.subscriptions.held.get_mut(channel) {
            held.note_numbering_went_back();
        }
    }

    /// Fetches what a channel has missed, after `before` if the server has named it.
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
            held.arrived_before_request = held.waiting.len();
        }
    }

    /// Handles a page of the history, or the refusal of it.
    pub(super) fn take_history_answer(&mut self, channel: &str, answer: Answer) {
        let history = match answer {
            Ok(data) => data.and_then(|data| serde_json::from_str::<History>(data.get()).ok()),
            Err(refusal) if refusal.temporary => {
                if let Some(held) = self.subscriptions.held.get_mut(channel) {
                    held.answer_by = None;
                    held.retry_at = Some(Instant::now() + retry_delay(&refusal));
                }
                return;
            }
            Err(refusal) => return self.give_up_catch_up(channel, gap_reason(&refusal)),
        };
        let Some(history) = history else { return self.give_up_catch_up(channel, GapReason::Other) };
        let before = self.subscriptions.position(channel);
        if !self.subscriptions.session.adopt_page_end(channel, history.position) {
            return self.give_up_catch_up(channel, GapReason::EpochChanged);
        }
        if before.map(|before| before.epoch)
            != self.subscriptions.position(channel).map(|position| position.epoch)
        {
            self.requests.outbox.forget_keys(channel);
        }
        if let Some(held) = self.subscriptions.held.get_mut(channel) {
            held.went_back_at = None;
        }
        for message in &history.messages {
            self.deliver_replayed(channel, message.get());
        }
        let position = self.subscriptions.position(channel);
        let is_behind = position.is_some_and(|position| position.offset < history.position.offset);
        let has_progress = position.map(|position| position.offset) > before.map(|before| before.offset);
        if is_behind && !has_progress {
            let is_same = position.map(|position| position.epoch) == before.map(|before| before.epoch);
            self.subscriptions.session.set_position(channel, before);
            let reason = if is_same { GapReason::TooOld } else { GapReason::EpochChanged };
            return self.give_up_catch_up(channel, reason);
        }
        if is_behind || self.subscriptions.held.get_mut(channel).is_some_and(HeldMessages::finish_page) {
            return self.request_history(channel);
        }
        self.release_held(channel, false);
    }

    /// Delivers one message of the history, unless it was delivered before. Its offset counts even if no
    /// reader receives it.
    fn deliver_replayed(&mut self, channel: &str, message: &str) {
        let (offset, notification) = match Received::read(message) {
            Ok(Received::Publication(publication)) => {
                (publication.offset, Some(Notification::Publication(Arc::new(publication), None)))
            }
            Ok(Received::Application(application)) => {
                (application.offset, Some(Notification::Application(Arc::new(application))))
            }
            _ => (offset_of(message), None),
        };
        if let Some(notification) = &notification {
            self.subscriptions.session.expect_live(channel, offset, || fingerprint(notification));
        }
        if self.subscriptions.session.accept_replayed(channel, offset)
            && let Some(notification) = notification
        {
            self.deliver(Some(channel), &notification);
        }
    }

    /// Reports a gap that the history cannot close, and continues the channel.
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

    /// Forgets the request for the history, and returns the messages that were held for it.
    pub(super) fn stop_catch_up(&mut self, channel: &str) -> Option<HeldMessages> {
        self.requests.remove_history(channel);
        self.subscriptions.held.remove(channel)
    }

    /// Delivers the held messages that the history did not contain, up to the next gap among them. If the
    /// epoch is lost, offsets prove nothing from the message on whose numbering went back.
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

/// Returns a text that tells a message from others with the same offset.
pub(super) fn fingerprint(notification: &Notification) -> String {
    match notification {
        Notification::Publication(publication, _) => {
            format!("{} {}", publication.timestamp, publication.content)
        }
        Notification::Application(application) => application.body.get().to_owned(),
        _ => String::new(),
    }
}

/// Returns the offset of a message of any type.
fn offset_of(message: &str) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Numbered {
        offset: Option<u64>,
    }
    serde_json::from_str::<Numbered>(message).ok()?.offset
}

/// Returns the reason for which the history was refused.
fn gap_reason(refusal: &Refusal) -> GapReason {
    #[derive(serde::Deserialize)]
    struct RefusalDetails {
        reason: Option<String>,
    }
    let details: Option<RefusalDetails> =
        refusal.details.as_ref().and_then(|details| serde_json::from_str(details.get()).ok());
    details.and_then(|details| details.reason).map_or(GapReason::Dropped, |word| GapReason::of(&word))
}

/// The least time for a page of the history, however short the timeout of requests is.
const MIN_HELD: Duration = Duration::from_secs(1);
/// Messages, and their bytes, that are held for one channel.
const MAX_HELD: usize = 10_000;
const MAX_HELD_BYTES: usize = 8 << 20;
