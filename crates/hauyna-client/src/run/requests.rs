//! The requests of the task: the outbox with those of the application, the client's own that are not answered
//! yet, and the application's code that runs in the background.

use super::subscriptions::{PendingEnd, Waiter};
use crate::error::{Error, Refusal};
use crate::outbox::Outbox;
use hauyna_protocol::RequestId;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The requests that are not finished.
pub(super) struct Requests {
    pub(super) outbox: Outbox,
    /// The client's own requests on the current connection, by their ids.
    pub(super) open: BTreeMap<u64, Purpose>,
    pub(super) last_id: u64,
    /// Whether requests of the application may be sent: the server has answered every subscription that the
    /// loss of the connection ended.
    pub(super) is_restored: bool,
    /// Whether interrupted requests await a judgement since a new session started. A resumed session knows
    /// them.
    pub(super) needs_judgement: bool,
    /// The number of the first call of the current user. Calls of the previous user may arrive later, because
    /// the task takes a bounded number of calls at once.
    pub(super) first_of_user: u64,
    /// Callbacks of the application and pauses that run in the background.
    pub(super) background: JoinSet<BackgroundResult>,
    /// Requests of the server on the current connection that the application has not answered.
    pub(super) running_responders: usize,
}

/// The purpose of a request of the client's own.
#[derive(Debug)]
pub(super) enum Purpose {
    Subscribe {
        channel: String,
        /// The number of the wanted channel. An answer to an earlier number says nothing about it.
        number: u64,
        /// The moment until which the request counts as in flight.
        answer_by: Option<Instant>,
        /// Bytes of its message.
        bytes: usize,
        /// The end of the subscription, if it was given up before the answer.
        end: Option<PendingEnd>,
    },
    Unsubscribe {
        channel: String,
        number: u64,
        waiter: Option<Waiter<()>>,
    },
    CatchUp(String),
    Presence {
        channel: String,
        answer_by: Instant,
    },
    Refresh,
    Ping,
}

/// The result of a callback or a pause in the background.
pub(super) enum BackgroundResult {
    Answer {
        generation: u64,
        id: RequestId,
        answer: Result<Box<RawValue>, String>,
    },
    ChannelToken {
        generation: u64,
        channel: String,
        number: u64,
        token: Option<String>,
    },
    Refresh {
        generation: u64,
        token: Option<String>,
    },
    /// The server may accept the end of a subscription now.
    UnsubscribeDue {
        generation: u64,
        channel: String,
        number: u64,
    },
}

/// The answer to a request of the client's own.
pub(super) type Answer = Result<Option<Box<RawValue>>, Refusal>;

impl Requests {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            open: BTreeMap::new(),
            last_id: 0,
            is_restored: false,
            needs_judgement: false,
            first_of_user: 0,
            background: JoinSet::new(),
            running_responders: 0,
        }
    }

    /// Prepares for a new connection. `unread_resume` is the size of a `resume` that its server may not have
    /// read.
    pub(super) fn start_connection(&mut self, is_resumed: bool, unread_resume: Option<usize>) {
        self.outbox.note_other_frame(unread_resume.unwrap_or(0));
        self.running_responders = 0;
        self.needs_judgement |= !is_resumed;
    }

    /// Returns an id that no other request of this client has.
    pub(super) const fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Polls the background for the next result. A task that was aborted or panicked gives none.
    pub(super) fn poll_background(&mut self, cx: &mut Context<'_>) -> Poll<BackgroundResult> {
        match self.background.poll_join_next(cx) {
            Poll::Ready(Some(Ok(result))) => Poll::Ready(result),
            _ => Poll::Pending,
        }
    }

    /// Returns the next moment at which a request is late.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.values().filter_map(Purpose::deadline).chain(self.outbox.deadline()).min()
    }

    /// Returns the id of the open subscription request of this number, if it has not been given up.
    pub(super) fn subscribe_id(&self, number: u64) -> Option<u64> {
        let is_open = |purpose: &Purpose| matches!(purpose, Purpose::Subscribe { number: other, .. } if *other == number);
        self.open.iter().find_map(|(id, purpose)| is_open(purpose).then_some(*id))
    }

    /// Returns the number of the last call whose unsubscription from this channel the server has not
    /// answered, or has yet to receive.
    pub(super) fn pending_unsubscribe(&self, channel: &str) -> Option<u64> {
        self.open.values().rev().find_map(|purpose| match purpose {
            Purpose::Unsubscribe { channel: name, number, .. } if name == channel => Some(*number),
            Purpose::Subscribe { channel: name, end: Some(end), .. } if name == channel => Some(end.number),
            _ => None,
        })
    }

    /// Whether a subscription to this channel was given up and its answer is still awaited.
    pub(super) fn awaits_given_up(&self, name: &str) -> bool {
        self.open.values().any(|purpose| match purpose {
            Purpose::Subscribe { channel, end, .. } => end.is_some() && channel == name,
            _ => false,
        })
    }

    /// Returns how many subscription requests are in flight.
    pub(super) fn subscribes_in_flight(&self) -> usize {
        let is_in_flight =
            |purpose: &&Purpose| matches!(purpose, Purpose::Subscribe { answer_by: Some(_), .. });
        self.open.values().filter(is_in_flight).count()
    }

    /// Forgets the open history request of a channel.
    pub(super) fn remove_history(&mut self, channel: &str) {
        self.open.retain(|_, purpose| !matches!(purpose, Purpose::CatchUp(name) if name == channel));
    }

    /// Forgets the open request for the list of a channel.
    pub(super) fn remove_list(&mut self, name: &str) {
        self.open
            .retain(|_, purpose| !matches!(purpose, Purpose::Presence { channel, .. } if channel == name));
    }

    /// Forgets pings that the server has not answered.
    pub(super) fn remove_pings(&mut self) {
        self.open.retain(|_, purpose| !matches!(purpose, Purpose::Ping));
    }

    /// Removes the list requests that are not answered in time, and returns their channels.
    pub(super) fn take_late_lists(&mut self, now: Instant) -> Vec<String> {
        let is_late =
            |purpose: &Purpose| matches!(purpose, Purpose::Presence { answer_by, .. } if now >= *answer_by);
        let late: Vec<_> =
            self.open.iter().filter(|(_, purpose)| is_late(purpose)).map(|(id, _)| *id).collect();
        let channel_of = |purpose| match purpose {
            Purpose::Presence { channel, .. } => Some(channel),
            _ => None,
        };
        late.into_iter().filter_map(|id| self.open.remove(&id).and_then(channel_of)).collect()
    }

    /// Fails the calls that wait for an unsubscription and whose time is up.
    pub(super) fn expire_waiters(&mut self, now: Instant) {
        for purpose in self.open.values_mut() {
            let (Purpose::Unsubscribe { waiter, .. }
            | Purpose::Subscribe { end: Some(PendingEnd { waiter, .. }), .. }) = purpose
            else {
                continue;
            };
            if let Some(waiter) = waiter.take_if(|waiter| waiter.answer_by <= now) {
                waiter.answer(Err(Error::Timeout));
            }
        }
    }
}

impl Purpose {
    /// Returns the moment at which the answer is late.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Unsubscribe { waiter, .. } => waiter.as_ref().map(|waiter| waiter.answer_by),
            Self::Subscribe { answer_by, end, .. } => {
                let waiter = end.as_ref().and_then(|end| end.waiter.as_ref());
                waiter.map(|waiter| waiter.answer_by).into_iter().chain(*answer_by).min()
            }
            Self::Presence { answer_by, .. } => Some(*answer_by),
            _ => None,
        }
    }
}

/// Returns the pause before a request is repeated that was refused temporarily.
pub(super) fn retry_delay(refusal: &Refusal) -> Duration {
    refusal.retry_after().unwrap_or(RETRY_INTERVAL).clamp(MIN_PAUSE, MAX_PAUSE)
}

/// The pause before a request is repeated if the server names none.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Bounds for the pause that a server names; see `PROTOCOL.md`.
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(60);
