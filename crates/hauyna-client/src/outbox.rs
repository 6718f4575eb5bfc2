//! The requests of the application that are not answered yet: in order, bounded in number and bytes, each
//! with its deadline and its outcome after a loss. Pure: instants are parameters. The task sends from it.

mod draft;

use crate::clock::{Moment, after};
use crate::error::Error;
use draft::AfterLoss;
pub(crate) use draft::{Draft, Repeat};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The sender that returns an answer to its caller.
pub(crate) type Reply = oneshot::Sender<Result<Option<Box<RawValue>>, Error>>;

/// A request, and the sender for its answer.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Number of the call. It is higher than those of all earlier calls.
    pub(crate) number: u64,
    pub(crate) draft: Draft,
    pub(crate) reply: Reply,
    /// The moment until which it may wait to be sent.
    pub(crate) expires: Instant,
    /// How long its answer may take.
    pub(crate) timeout: Duration,
    /// Whether it is sent on the current connection or not at all.
    pub(crate) is_volatile: bool,
}

impl Entry {
    pub(crate) fn fail(self, error: Error) {
        // An error means that the caller has dropped its future.
        let _ = self.reply.send(Err(error));
    }
}

/// What is known about the server's memory of the idempotency keys from before a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerMemory {
    Kept,
    Lost,
    /// The subscription whose answer tells is in flight.
    Unknown,
}

/// The largest frame that was sent on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LargestFrame {
    Request,
    Subscription,
    /// Another frame, with its size in bytes.
    Other(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It was never sent.
    Waiting,
    /// It is in flight, until this moment.
    Sent(Instant),
    /// It was sent on a connection that was lost.
    Interrupted,
}

#[derive(Debug)]
struct Queued {
    id: u64,
    entry: Entry,
    phase: Phase,
    /// The moment at which it was first sent.
    sent: Option<Moment>,
    /// Whether it was sent on an earlier connection, too.
    is_repeated: bool,
    /// Whether the server may have forgotten its key.
    is_forgotten: bool,
    size: usize,
    /// Bytes of its encoded message.
    encoded: usize,
}

impl Queued {
    /// Returns the moment until which the server remembers the key of an interrupted publication.
    fn key_expires_at(&self) -> Option<Instant> {
        let is_keyed = matches!(self.entry.draft.after_loss(), AfterLoss::WhileRemembered(_));
        self.sent
            .filter(|_| is_keyed && self.phase == Phase::Interrupted)
            .map(|sent| after(sent.instant, KEY_LIFETIME))
    }

    /// Whether it was never sent, and its caller has dropped the future.
    fn is_withdrawn(&self) -> bool {
        self.phase == Phase::Waiting && self.entry.reply.is_closed()
    }

    /// Whether it may have been done the first time, so that a refusal of its repetition proves nothing.
    fn may_be_done(&self) -> bool {
        self.is_repeated && matches!(self.entry.draft.after_loss(), AfterLoss::WhileRemembered(_))
    }

    /// Whether sending it again might publish it twice.
    fn may_repeat_itself(&self, now: Moment) -> bool {
        let is_old = |sent: Moment| now.since(sent) >= KEY_LIFETIME;
        self.key_expires_at().is_some() && (self.is_forgotten || self.sent.is_some_and(is_old))
    }
}

/// The requests that are not answered, in the order of their calls.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: VecDeque<Queued>,
    /// Number of requests at the front that are in flight. The next one to send comes after them.
    sent: usize,
    /// Index of the request that was taken last.
    last: usize,
    /// Bytes of the largest frame on this connection that was no request of the application, or one that was
    /// not answered in time.
    largest_other: usize,
    bytes: usize,
    max_requests: usize,
    max_bytes: usize,
}

impl Outbox {
    pub(crate) const fn new(max_requests: usize, max_bytes: usize) -> Self {
        Self { queue: VecDeque::new(), sent: 0, last: 0, largest_other: 0, bytes: 0, max_requests, max_bytes }
    }

    /// Appends a request with an id that is unique in the client.
    pub(crate) fn push(&mut self, id: u64, entry: Entry) {
        let size = entry.draft.size();
        if size > self.max_bytes {
            return entry.fail(Error::Unsendable("larger than the whole outbox".into()));
        }
        if self.queue.len() >= self.max_requests || self.bytes + size > self.max_bytes {
            self.forget_withdrawn();
            if self.queue.len() >= self.max_requests || self.bytes + size > self.max_bytes {
                return entry.fail(Error::OutboxFull);
            }
        }
        self.bytes += size;
        self.queue.push_back(Queued {
            id,
            entry,
            phase: Phase::Waiting,
            sent: None,
            is_repeated: false,
            is_forgotten: false,
            size,
            encoded: 0,
        });
    }

    /// Whether a request is in flight.
    pub(crate) fn has_sent(&self) -> bool {
        self.queue.iter().any(|queued| matches!(queued.phase, Phase::Sent(_)))
    }

    /// Returns the first request that is to be sent, and marks it as sent. Requests about a held channel keep
    /// their places.
    pub(crate) fn next(&mut self, now: Moment, is_held: impl Fn(&str) -> bool) -> Option<(u64, &Draft)> {
        let at = loop {
            let is_next = |queued: &Queued| {
                !matches!(queued.phase, Phase::Sent(_)) && !queued.entry.draft.channel().is_some_and(&is_held)
            };
            let at = self.sent + self.queue.range(self.sent..).position(is_next)?;
            let queued = &self.queue[at];
            if queued.may_repeat_itself(now) {
                self.remove(at)?.fail(Error::OutcomeUnknown);
            } else if queued.is_withdrawn() {
                self.remove(at)?;
            } else {
                break at;
            }
        };
        let queued = &mut self.queue[at];
        queued.is_repeated |= queued.phase == Phase::Interrupted;
        queued.phase = Phase::Sent(after(now.instant, queued.entry.timeout));
        queued.sent.get_or_insert(now);
        self.last = at;
        while self.queue.get(self.sent).is_some_and(|queued| matches!(queued.phase, Phase::Sent(_))) {
            self.sent += 1;
        }
        let queued = &self.queue[at];
        Some((queued.id, &queued.entry.draft))
    }

    /// Notes that the server may have forgotten the keys of what was sent into a channel, because its epoch
    /// has changed.
    pub(crate) fn forget_keys(&mut self, channel: &str) {
        for queued in &mut self.queue {
            let is_there =
                matches!(&queued.entry.draft, Draft::Publish { channel: name, .. } if name == channel);
            queued.is_forgotten |= is_there && queued.sent.is_some();
        }
    }

    /// Notes the encoded size of the request that [`Outbox::next`] returned last.
    pub(crate) fn note_size(&mut self, bytes: usize) {
        if let Some(queued) = self.queue.get_mut(self.last) {
            queued.encoded = bytes;
        }
    }

    /// Removes the request that [`Outbox::next`] returned last, because it cannot be sent.
    pub(crate) fn take_back(&mut self) -> Option<Entry> {
        self.remove(self.last)
    }

    /// Notes the size of a frame that is no request of the application.
    pub(crate) fn note_other_frame(&mut self, bytes: usize) {
        self.largest_other = self.largest_other.max(bytes);
    }

    /// Fails the largest request in flight, unless another frame is as large or a subscription is larger.
    /// Returns what was the largest.
    pub(crate) fn fail_largest_sent(&mut self, subscription: usize, error: Error) -> LargestFrame {
        let sent = self.queue.iter().enumerate().filter(|(_, queued)| matches!(queued.phase, Phase::Sent(_)));
        let largest = sent.max_by_key(|(_, queued)| queued.encoded);
        let largest = largest.filter(|(_, queued)| queued.encoded >= subscription);
        if largest.map_or(subscription, |(_, queued)| queued.encoded) <= self.largest_other {
            return LargestFrame::Other(self.largest_other);
        }
        let Some((at, queued)) = largest else { return LargestFrame::Subscription };
        let error = if queued.may_be_done() { Error::OutcomeUnknown } else { error };
        if let Some(entry) = self.remove(at) {
            entry.fail(error);
        }
        LargestFrame::Request
    }

    /// Whether a request may have been done the first time, so that a refusal of its repetition proves
    /// nothing.
    pub(crate) fn may_be_done(&self, id: u64) -> bool {
        self.queue.iter().any(|queued| queued.id == id && queued.may_be_done())
    }

    /// Removes the request that an answer belongs to.
    pub(crate) fn take_answered(&mut self, id: u64) -> Option<Entry> {
        let at = self.queue.iter().position(|queued| queued.id == id)?;
        self.remove(at)
    }

    /// Marks the requests in flight as interrupted. Those that must not be repeated fail now, whatever the
    /// next connection brings.
    pub(crate) fn connection_lost(&mut self) {
        (self.sent, self.largest_other) = (0, 0);
        for queued in &mut self.queue {
            if matches!(queued.phase, Phase::Sent(_)) {
                queued.phase = Phase::Interrupted;
            }
        }
        self.fail_matching(|queued| {
            let is_unknown = matches!(queued.entry.draft.after_loss(), AfterLoss::Unknown);
            match queued.phase {
                Phase::Interrupted if is_unknown || queued.entry.is_volatile => Some(Error::OutcomeUnknown),
                Phase::Waiting if queued.entry.is_volatile => Some(Error::NotConnected),
                _ => None,
            }
        });
    }

    /// Fails the requests of the previous user: those that were sent on an earlier connection, and those that
    /// wait with a number below `first`.
    pub(crate) fn fail_asked_before(&mut self, first: u64) {
        self.fail_matching(|queued| match queued.phase {
            Phase::Interrupted => Some(Error::OutcomeUnknown),
            Phase::Waiting if queued.entry.number < first => Some(Error::Expired),
            Phase::Waiting | Phase::Sent(_) => None,
        });
    }

    /// Fails the interrupted requests whose keys the server has lost. `memory` tells that for one channel, or
    /// with `None` for the whole server. Returns whether it is unknown for a request.
    pub(crate) fn session_restored(&mut self, memory: impl Fn(Option<&str>) -> ServerMemory) -> bool {
        let memory = |queued: &Queued| match queued.entry.draft.after_loss() {
            AfterLoss::WhileRemembered(channel) if queued.phase == Phase::Interrupted => memory(channel),
            _ => ServerMemory::Kept,
        };
        self.fail_matching(|queued| (memory(queued) == ServerMemory::Lost).then_some(Error::OutcomeUnknown));
        self.queue.iter().any(|queued| memory(queued) == ServerMemory::Unknown)
    }

    /// Fails the requests that have waited, or have been in flight, for too long.
    pub(crate) fn expire(&mut self, now: Moment) {
        let is_late = |queued: &&Queued| matches!(queued.phase, Phase::Sent(end) if now.instant >= end);
        let late = self.queue.iter().filter(is_late).map(|queued| queued.encoded).max();
        self.note_other_frame(late.unwrap_or(0));
        self.fail_matching(|queued| match queued.phase {
            Phase::Waiting if now.instant >= queued.entry.expires => Some(Error::Expired),
            Phase::Interrupted if now.instant >= queued.entry.expires || queued.may_repeat_itself(now) => {
                Some(Error::OutcomeUnknown)
            }
            Phase::Sent(end) if now.instant >= end => Some(Error::Timeout),
            _ => None,
        });
    }

    /// Returns the next moment at which a request expires.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let end = |queued: &Queued| match queued.phase {
            Phase::Waiting => queued.entry.expires,
            Phase::Interrupted => {
                queued.key_expires_at().map_or(queued.entry.expires, |end| end.min(queued.entry.expires))
            }
            Phase::Sent(end) => end,
        };
        self.queue.iter().map(end).min()
    }

    /// Fails every request, because the client is closed. Those that were sent may have been done.
    pub(crate) fn close(&mut self, error: &Error) {
        self.largest_other = 0;
        self.fail_matching(|queued| match queued.phase {
            Phase::Waiting => Some(error.clone()),
            Phase::Sent(_) | Phase::Interrupted => Some(Error::OutcomeUnknown),
        });
    }

    /// Drops the requests that were never sent and whose callers have dropped their futures.
    fn forget_withdrawn(&mut self) {
        let bytes = &mut self.bytes;
        self.queue.retain(|queued| {
            if queued.is_withdrawn() {
                *bytes -= queued.size;
            }
            !queued.is_withdrawn()
        });
    }

    fn fail_matching(&mut self, error: impl Fn(&Queued) -> Option<Error>) {
        let mut at = 0;
        while at < self.queue.len() {
            match error(&self.queue[at]) {
                None => at += 1,
                Some(error) => {
                    if let Some(entry) = self.remove(at) {
                        entry.fail(error);
                    }
                }
            }
        }
    }

    fn remove(&mut self, at: usize) -> Option<Entry> {
        let queued = self.queue.remove(at)?;
        self.sent -= usize::from(at < self.sent);
        self.bytes -= queued.size;
        Some(queued.entry)
    }
}

/// Servers remember keys for five minutes, and clocks differ. The TypeScript client has the same bound.
const KEY_LIFETIME: Duration = Duration::from_secs(270);

#[cfg(test)]
mod tests;
