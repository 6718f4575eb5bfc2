//! Closing a gap in place: the history is asked from the position on, while live messages of the channel wait, and then
//! both are joined by offset. Part of the task.

use super::Run;
use super::ask::Purpose;
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
    /// When to ask again after a refusal that may pass.
    pub(super) retry_at: Option<Instant>,
}

impl Held {
    pub(super) const fn new() -> Self {
        Self { notes: VecDeque::new(), bytes: 0, is_stale: false, retry_at: None }
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
    }

    /// A page of the history is there, or will not come.
    pub(super) fn caught(&mut self, channel: &str, answer: Result<Option<Box<RawValue>>, Refusal>) {
        let history = match answer {
            Ok(data) => data.and_then(|data| serde_json::from_str::<History>(data.get()).ok()),
            Err(refusal) if refusal.temporary => {
                if let Some(held) = self.held.get_mut(channel) {
                    held.retry_at = Some(Instant::now() + retry_after(&refusal));
                }
                return;
            }
            Err(refusal) => return self.give_up_catching(channel, reason(&refusal)),
        };
        let Some(history) = history else { return self.give_up_catching(channel, GapReason::Other) };
        let is_empty = history.messages.is_empty();
        for message in &history.messages {
            let (offset, note) = match Received::read(message.get()) {
                Ok(Received::Publication(publication)) => {
                    (publication.offset, Note::Publication(Arc::new(publication)))
                }
                Ok(Received::Application(application)) => {
                    (application.offset, Note::Application(Arc::new(application)))
                }
                _ => continue,
            };
            if self.session.replay(channel, offset) {
                self.give(Some(channel), &note);
            }
        }
        let position = self.session.place(channel).and_then(|place| place.position);
        let is_behind = position.is_some_and(|own| own.offset < history.position.offset);
        let is_stale = self.held.get_mut(channel).is_some_and(|held| std::mem::take(&mut held.is_stale));
        if (is_behind && !is_empty) || is_stale {
            return self.ask_history(channel);
        }
        self.release(channel);
    }

    /// The history cannot close the gap: the application is told, and the channel goes on.
    pub(super) fn give_up_catching(&mut self, channel: &str, reason: GapReason) {
        let from = self.session.place(channel).and_then(|place| place.position);
        let first =
            self.held.get(channel).and_then(|held| held.notes.front()).and_then(|(offset, _)| *offset);
        let to = from.zip(first).map(|(from, offset)| Position { offset, ..from });
        self.tell(Gap { channel: channel.to_owned(), reason, from, to, missed: None });
        self.release(channel);
    }

    /// Forgets the answer that is awaited, and what waits for it.
    pub(super) fn stop_catching(&mut self, channel: &str) -> Option<Held> {
        self.asked.retain(|_, purpose| !matches!(purpose, Purpose::CatchUp(name) if name == channel));
        self.held.remove(channel)
    }

    /// Lets the live messages go on, each of them unless the history had it.
    fn release(&mut self, channel: &str) {
        self.session.caught_up(channel);
        let Some(held) = self.stop_catching(channel) else { return };
        for (offset, note) in held.notes {
            if self.session.replay(channel, offset) {
                self.give(Some(channel), &note);
            }
        }
    }
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

/// What may be held back for one channel.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 8 << 20;
