//! The broker numbers publications, keeps their history, and hands each to every node that has
//! subscribers. This file is the contract; `local` keeps everything in this process. Called by
//! `channel`; calls back only through [`Relay`].

mod keys;
mod local;
mod relay;
mod stream;
mod streams;

pub use crate::error::BrokerError;
pub use hauyna_protocol::Epoch;
pub use local::{LocalBroker, LocalBrokerOptions};
pub use relay::Relay;

use crate::channel::{ChannelName, Draft, Publication};

use hauyna_protocol::Position;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What stands under the hub: memory of this process, or a service that many nodes share.
///
/// # Contract
///
/// - **Order.** For one channel, [`Relay::relay`] is called in the order of offsets and never twice for one
///   offset; offsets start at 1 and grow by one. Calls for one channel never overlap. Where offsets between two
///   relayed ones were left out, [`Relay::turned`] was called in between.
/// - **History first.** A publication is in the history before `publish` answers and before it is relayed,
///   so that whoever reads the history after a relay finds it there.
/// - **Epoch.** A stream keeps its epoch for as long as its numbering is known to have gone on without a loss, at
///   least while it has subscribers. When its memory was lost, it starts again at 1 under another epoch. Where that
///   cannot be known, it goes on at the next offset under another epoch; a position of the earlier epoch that is not
///   behind its end is then continued whole.
/// - **Keys.** Two publications with the same [`Publish::key`] on one channel within the window are one: the
///   second answers with the first one's position and `Repeat::Yes`, and is not relayed.
/// - **Names of the hub's own**, which begin with `@`, are relayed on every node without a subscription.
/// - **Failure.** An error means that nothing is known to have been published; asking again with the same key
///   is safe. [`BrokerError::unknown`] says that it may have been.
/// - **Waiting.** The hub waits for an answer for [`HubBuilder::broker_timeout`](crate::HubBuilder::broker_timeout) at
///   most, and may drop it at any moment. `subscribe` and `unsubscribe` of one channel are called in the order in which
///   they hold, also where a `subscribe` has not answered yet, has failed or was dropped: the last one counts.
///
/// `hauyna-test` has the suite that every broker must pass.
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Called once, before anything else: where incoming publications go.
    fn start(&self, relay: Relay);

    /// Numbers, stores and relays one publication.
    fn publish(&self, publish: Publish) -> Answer<Result<Published, BrokerError>>;

    /// This node has its first subscriber of the channel: from the answer on, publications are relayed.
    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), BrokerError>>;

    /// This node has lost its last subscriber of the channel. A broker may wait before it acts.
    fn unsubscribe(&self, channel: &ChannelName);

    /// Reads the history and the position of its top, as one consistent view.
    fn history(&self, channel: &ChannelName, range: HistoryRange)
    -> Answer<Result<HistoryPage, BrokerError>>;

    /// Called about once a second: drop what is too old. In-memory brokers need it, others do not.
    fn sweep(&self) {}

    /// About how many bytes of this process it holds for histories, positions and keys: an estimate, for
    /// [`Hub::stats`](crate::Hub::stats).
    fn memory(&self) -> usize {
        0
    }

    /// Whether publishing would work now; `/ready` asks this.
    fn is_ready(&self) -> bool {
        true
    }
}

/// One publication on its way to the broker.
#[derive(Debug)]
pub struct Publish {
    /// What is published, not yet numbered.
    pub draft: Draft,
    /// How much history the channel keeps; `None` for a publication that gets no offset.
    pub retention: Option<Retention>,
    /// The idempotency key, already scoped to its user.
    pub key: Option<Box<str>>,
}

/// The answer to a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Where it stands in the channel's stream, where the channel keeps history.
    pub position: Option<Position>,
    /// Whether the same key had been published before.
    pub repeat: Repeat,
}

/// Whether a publication repeated an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It was new and has been published.
    No,
    /// Its key had been published before; nothing was published now.
    Yes,
}

/// How much history a channel keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// At most this many publications.
    pub messages: u32,
    /// None older than this.
    pub age: Duration,
}

/// Which part of a channel's history is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRange {
    /// Where the page starts; this position itself is not in it. Forward the page has what came after it, in reverse
    /// what came before it. `None` starts at the oldest publication that is kept, in reverse at the newest.
    pub since: Option<Position>,
    /// At most so many publications.
    pub limit: u32,
    /// In which direction the page is read from `since`, and in which order it stands.
    pub order: Order,
}

/// The order of a history page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Forward,
    /// Newest first.
    Reverse,
}

impl HistoryRange {
    /// All that is kept, oldest first, as far as the hub's recovery limit goes.
    pub fn all() -> Self {
        Self { since: None, limit: u32::MAX, order: Order::Forward }
    }

    /// Nothing but the position of the top.
    pub fn top() -> Self {
        Self { since: None, limit: 0, order: Order::Forward }
    }

    /// What came after a position, oldest first.
    pub fn after(position: Position) -> Self {
        Self { since: Some(position), ..Self::all() }
    }

    /// What came before a position, newest first: the page that a reader sees next who scrolls back.
    pub fn before(position: Position) -> Self {
        Self { since: Some(position), limit: u32::MAX, order: Order::Reverse }
    }

    /// The newest publications, newest first.
    pub fn newest() -> Self {
        Self { since: None, limit: u32::MAX, order: Order::Reverse }
    }

    /// Sets how many publications the page has at most.
    #[must_use]
    pub fn limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }
}

/// A part of a channel's history.
#[derive(Clone)]
pub struct HistoryPage {
    /// The position of the newest publication, offset 0 where there was none yet.
    pub top: Position,
    /// The offset of the oldest publication that is kept, or the one after the top where none is. Who reads back has
    /// come to the beginning when it has this one; where it is not 1, older ones are gone.
    pub oldest: u64,
    /// What was asked for.
    pub publications: Vec<Arc<Publication>>,
    /// Whether `since` could be honoured: if not, something between it and the page is gone.
    pub continuity: Continuity,
}

impl fmt::Debug for HistoryPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryPage")
            .field("top", &self.top)
            .field("oldest", &self.oldest)
            .field("publications", &self.publications.len())
            .field("continuity", &self.continuity)
            .finish()
    }
}

/// Whether a page of history connects to the position it was asked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// Everything after `since` is in the page, in reverse everything before it that is kept; or `since` was not given.
    Whole,
    /// The stream lost its memory since then.
    EpochChanged,
    /// Some of what came after `since` is no longer kept. Not said in reverse: what is gone is older than the page.
    TooOld,
    /// There is more than `limit`.
    TooMany,
}

/// A value that is there at once, or later: the local broker answers in line, without a task switch.
pub struct Answer<T>(State<T>);

enum State<T> {
    Now(Option<T>),
    Later(BoxFuture<T>),
}

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T> Answer<T> {
    /// The value is here.
    pub fn now(value: T) -> Self {
        Self(State::Now(Some(value)))
    }

    /// The value will come.
    pub fn later(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(State::Later(Box::pin(future)))
    }
}

// The value is only ever moved out, never pinned.
impl<T> Unpin for Answer<T> {}

impl<T> Future for Answer<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            State::Now(value) => Poll::Ready(value.take().expect("invariant: polled once after completion")),
            State::Later(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Now(_) => "Answer::now",
            State::Later(_) => "Answer::later",
        })
    }
}

impl<T> Answer<T> {
    /// The value, or the future that will give it.
    pub(crate) fn into_now(self) -> Result<T, BoxFuture<T>> {
        match self.0 {
            State::Now(value) => Ok(value.expect("invariant: not polled before")),
            State::Later(future) => Err(future),
        }
    }
}
