//! Closing a gap in place: the history is asked from the position on, while live messages of the channel wait, and then
//! both are joined by offset. Part of the task.

use super::Run;
use super::ask::Purpose;
use crate::clock::after;
use crate::error::Refusal;
use crate::gap::{Gap, GapReason};
use crate::stream::Note;
use hauyna_protocol::received::{History, Received};
use hauyna_protocol::{Direction, Position, Request};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The live messages of a channel whose history is being fetched.
#[derive(Debug)]
pub(super) struct Held {
    notes: VecDeque<(Option<u64>, Note)>,
    bytes: usize,
    /// Another gap came meanwhile: the history is asked once more.
    is_stale: bool,
    /// The first message whose offset is not higher than that of the one before it: if its epoch is another one, nothing
    /// is known of the offsets from there on.
    went_back_at: Option<usize>,
    /// When to ask again after a refusal that may pass.
    pub(super) retry_at: Option<Instant>,
    /// When the answer has to be there.
    pub(super) answer_by: Option<Instant>,
}

impl Held {
    pub(super) const fn new() -> Self {
        Self {
            notes: VecDeque::new(),
            bytes: 0,
            is_stale: false,
            went_back_at: None,
            retry_at: None,
            answer_by: None,
        }
    }

    /// The message that is kept next has an offset that is too low.
    pub(super) fn goes_back(&mut self) {
        self.went_back_at.get_or_insert(self.notes.len());
    }

    /// Keeps a message; `false` if that is one too many.
    pub(super) fn keep(&mut self, offset: Option<u64>, note: Note) -> bool {
        self.bytes += note.weight();
        self.notes.push_back((offset, note));
        self.notes.len() <= MOST && self.bytes <= MOST_BYTES
    }
}

impl Run {
    /// Fetches what a channel has missed.
    pub(super) fn catch_up(&mut self, channel: &str) {
        if let Some(held) = self.held.get_mut(channel) {
            held.is_stale = true;
            return;
        }
        self.held.insert(channel.to_owned(), Held::new());
        self.ask_history(channel);
    }

    pub(super) fn ask_history(&mut self, channel: &str) {
        let since = self.session.place(channel).and_then(|place| place.position);
        let request =
            Request::History { channel: channel.into(), since, limit: None, direction: Direction::Forward };
        self.ask(Purpose::CatchUp(channel.to_owned()), &request);
        if let Some(held) = self.held.get_mut(channel) {
            held.answer_by = Some(after(Instant::now(), self.shared.timeout.max(LEAST)));
        }
    }

    /// A page of the history is there, or will not come.
    pub(super) fn caught(&mut self, channel: &str, answer: Result<Option<Box<RawValue>>, Refusal>) {
        let history = match answer {
            Ok(data) => data.and_then(|data| serde_json::from_str::<History>(data.get()).ok()),
            Err(refusal) if refusal.temporary => {
                if let Some(held) = self.held.get_mut(channel) {
                    held.answer_by = None;
                    held.retry_at = Some(Instant::now() + retry_after(&refusal));
                }
                return;
            }
            Err(refusal) => return self.give_up_catching(channel, reason(&refusal)),
        };
        let Some(history) = history else { return self.give_up_catching(channel, GapReason::Other) };
        let before = self.position(channel);
        if !self.session.takes_page(channel, history.position) {
            return self.give_up_catching(channel, GapReason::EpochChanged);
        }
        if let Some(held) = self.held.get_mut(channel) {
            held.went_back_at = None;
        }
        for message in &history.messages {
            self.replay(channel, message.get());
        }
        let own = self.position(channel);
        let is_behind = own.is_some_and(|own| own.offset < history.position.offset);
        let has_progress = own.map(|own| own.offset) > before.map(|before| before.offset);
        let held = self.held.get_mut(channel);
        let is_stale = held.is_some_and(|held| std::mem::take(&mut held.is_stale));
        if is_behind && !has_progress {
            let is_same = own.map(|own| own.epoch) == before.map(|before| before.epoch);
            self.session.set_position(channel, before);
            let reason = if is_same { GapReason::TooOld } else { GapReason::EpochChanged };
            return self.give_up_catching(channel, reason);
        }
        if is_behind || is_stale {
            return self.ask_history(channel);
        }
        self.release(channel, false);
    }

    fn position(&mut self, channel: &str) -> Option<Position> {
        self.session.place(channel)?.position
    }

    /// Gives one message of the history to its readers, unless it was seen before. Its offset counts whatever it is.
    fn replay(&mut self, channel: &str, message: &str) {
        let (offset, note) = match Received::read(message) {
            Ok(Received::Publication(publication)) => {
                (publication.offset, Some(Note::Publication(Arc::new(publication))))
            }
            Ok(Received::Application(application)) => {
                (application.offset, Some(Note::Application(Arc::new(application))))
            }
            _ => (number(message), None),
        };
        if self.session.replay(channel, offset)
            && let Some(note) = note
        {
            self.give(Some(channel), &note);
        }
    }

    /// The history cannot close the gap: the application is told, and the channel goes on.
    pub(super) fn give_up_catching(&mut self, channel: &str, reason: GapReason) {
        let from = self.session.place(channel).and_then(|place| place.position);
        let held = self.held.get(channel);
        let went_back = held.is_some_and(|held| held.went_back_at.is_some());
        let is_lost = went_back || reason == GapReason::EpochChanged;
        let first = held.and_then(|held| held.notes.front()).and_then(|(offset, _)| *offset);
        let to = from.zip(first).filter(|_| !is_lost).map(|(from, offset)| Position { offset, ..from });
        self.tell(Gap { channel: channel.to_owned(), reason, from, to, missed: None });
        self.release(channel, is_lost);
    }

    /// Forgets the answer that is awaited, and what waits for it.
    pub(super) fn stop_catching(&mut self, channel: &str) -> Option<Held> {
        self.asked.retain(|_, purpose| !matches!(purpose, Purpose::CatchUp(name) if name == channel));
        self.held.remove(channel)
    }

    /// Lets the live messages go on, each of them unless the history had it. Where the position is lost, the epoch is not
    /// known any more: from the message on that went back, offsets say nothing of what was seen.
    fn release(&mut self, channel: &str, is_lost: bool) {
        self.session.caught_up(channel);
        let held = self.stop_catching(channel);
        let went_back_at = held.as_ref().and_then(|held| held.went_back_at).filter(|_| is_lost);
        for (index, (offset, note)) in held.into_iter().flat_map(|held| held.notes).enumerate() {
            if went_back_at == Some(index) {
                self.session.lose_position(channel);
            }
            if self.session.replay(channel, offset) {
                self.give(Some(channel), &note);
            }
        }
        if is_lost {
            self.session.lose_position(channel);
            if let Some(shared) = self.channel(channel) {
                *shared.position.lock() = None;
            }
        }
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
    struct Details {
        reason: Option<String>,
    }
    let details: Option<Details> =
        refusal.details.as_ref().and_then(|details| serde_json::from_str(details.get()).ok());
    details.and_then(|details| details.reason).map_or(GapReason::Dropped, |word| GapReason::of(&word))
}

/// When a request that was refused for now may be asked again.
pub(super) fn retry_after(refusal: &Refusal) -> Duration {
    #[derive(serde::Deserialize)]
    struct Details {
        retry_after: Option<u64>,
    }
    let details: Option<Details> =
        refusal.details.as_ref().and_then(|details| serde_json::from_str(details.get()).ok());
    let told = details.and_then(|details| details.retry_after).unwrap_or(1_000);
    Duration::from_millis(told.clamp(50, 60_000))
}

/// The least time for a page of the history, however little a request is given.
const LEAST: Duration = Duration::from_secs(1);
/// What may be held back for one channel.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 8 << 20;
