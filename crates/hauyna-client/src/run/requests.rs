//! The requests of the task: those of the application in the outbox, the client's own that have no answer
//! yet, and the application's code that runs beside the task.

use super::subscriptions::{PendingEnd, Waiter};
use crate::error::Refusal;
use crate::outbox::Outbox;
use hauyna_protocol::RequestId;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
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
    /// Whether a new session has begun since the outbox last judged the requests that a loss interrupted. A
    /// resumed session knows them.
    pub(super) needs_judgement: bool,
    /// The number of the first call of the current user. Calls of the user before may still arrive, if more
    /// of them wait than the task takes at once.
    pub(super) first_of_user: u64,
    /// Code of the application that runs beside the task, and pauses.
    pub(super) background: JoinSet<BackgroundResult>,
    /// Requests of the server on the current connection that the application has not answered.
    pub(super) running_responders: usize,
}

/// What a request of the client's own is for.
#[derive(Debug)]
pub(super) enum Purpose {
    Subscribe {
        channel: String,
        /// The number of the wanted channel. An answer to an earlier number says nothing about it.
        wish: u64,
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

/// What the application's code or a pause beside the task came to.
pub(super) enum BackgroundResult {
    Answer {
        generation: u64,
        id: RequestId,
        answer: Result<Box<RawValue>, String>,
    },
    ChannelToken {
        generation: u64,
        channel: String,
        wish: u64,
        token: Option<String>,
    },
    Refresh {
        generation: u64,
        token: Option<String>,
    },
    /// The server may accept the end of a subscription now.
    GiveUp {
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
}

impl Purpose {
    /// Whether it is a subscription to this channel that was given up, and whose answer is still awaited.
    pub(super) fn is_ending(&self, name: &str) -> bool {
        matches!(self, Self::Subscribe { channel, end: Some(_), .. } if channel == name)
    }

    /// The moment at which the answer is late.
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
