//! The contract of a broker: the trait, and the types of its calls and answers.

use crate::answer::Answer;
use crate::name::ChannelName;
use crate::publication::{Draft, Publication};
use crate::{BrokerError, Directory, Relay};
use hauyna_protocol::Position;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The storage and distribution under the hub: memory of this process, or a service that many nodes share.
///
/// # Contract
///
/// - **Order.** For one channel, [`Relay::relay`] is called in the order of offsets and never twice for one
///   offset; offsets start at 1 and grow by one. Calls for one channel never overlap. If offsets between two
///   relayed ones were left out, [`Relay::turned`] was called in between.
/// - **History first.** A publication is in the history before `publish` answers and before it is relayed,
///   so that a reader of the history finds it there after a relay.
/// - **Epoch.** A stream keeps its epoch as long as its numbering is known to have continued without a
///   loss, at least while it has subscribers. If its memory was lost, it starts again at 1 under another
///   epoch. If that cannot be known, it continues at the next offset under another epoch; a position of the
///   earlier epoch that is not behind its end is then continued without a loss.
/// - **Keys.** Two publications with the same [`Publish::key`] on one channel within the window are one: the
///   second answers with the first one's position and `Repeat::Yes`, and is not relayed.
/// - **Without a number.** A publication without an offset is relayed at most once on each node, and may be
///   lost. Those of one node in one channel are relayed in the order in which they were published.
/// - **Names of the hub**, which begin with `@`, are relayed on every node without a subscription by a broker
///   that has no [`Broker::directory`]. One that has a directory relays `@all` without a subscription, and
///   `@user:NAME`, `@group:NAME` and `@map:KIND:NAME` to the nodes that have subscribed to them: a hub
///   subscribes to the channel of a user or a group with the first connection of it on its node, and
///   unsubscribes with the last one.
/// - **Failure.** An error means that nothing is known to have been published; publishing again with the
///   same key is safe. [`BrokerError::unknown`] means that it may have been published.
/// - **Congestion.** While [`Relay::is_congested_for`] is true, a broker that gets publications from
///   elsewhere holds numbered ones back, which its history has. It relays the others.
/// - **Waiting.** The hub waits for an answer for at most
///   `HubBuilder::broker_timeout`, and may drop it at any moment.
///   `subscribe` and `unsubscribe` of one channel are called in the order in which they apply, also if a
///   `subscribe` has not answered yet, has failed or was dropped: the last one counts.
///
/// A broker whose system may lose, repeat or reorder what it relays uses [`Followers`](crate::Followers),
/// which make it exact.
///
/// `hauyna-test` has the suite that every broker must pass.
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Starts the broker with the relay for incoming publications. Called once, before anything else but
    /// [`Broker::directory`].
    fn start(&self, relay: Relay);

    /// Numbers, stores and relays one publication.
    fn publish(&self, publish: Publish) -> Answer<Result<Published, BrokerError>>;

    /// Subscribes this node, which has its first subscriber of the channel: after the answer, publications
    /// are relayed.
    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), BrokerError>>;

    /// Unsubscribes this node, which has lost its last subscriber of the channel. A broker may delay this.
    fn unsubscribe(&self, channel: &ChannelName);

    /// Returns a page of the history and the position of its top, as one consistent view.
    fn history(&self, channel: &ChannelName, range: HistoryRange)
    -> Answer<Result<HistoryPage, BrokerError>>;

    /// Returns the shared maps of the cluster, if the broker connects several nodes.
    fn directory(&self) -> Option<Arc<dyn Directory>> {
        None
    }

    /// Drops what is too old. Called about once a second; in-memory brokers need it, others do not.
    fn sweep(&self) {}

    /// Returns an estimate of the bytes of this process that it holds for histories, positions and keys, for
    /// `Hub::stats`.
    fn memory(&self) -> usize {
        0
    }

    /// Whether publishing would work now; `/ready` reports this.
    fn is_ready(&self) -> bool {
        true
    }
}

/// One publication on its way to the broker.
///
/// Exhaustive, so that tests of a broker can create it: a new field is a new part of the contract.
#[derive(Debug)]
pub struct Publish {
    /// The publication, not yet numbered.
    pub draft: Draft,
    /// The history that the channel keeps; `None` for a publication that gets no offset.
    pub retention: Option<Retention>,
    /// The idempotency key, already scoped to its user.
    pub key: Option<Box<str>>,
}

/// The answer to a publication.
///
/// Exhaustive: a broker answers every part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The position in the channel's stream, if the channel keeps history.
    pub position: Option<Position>,
    /// Whether the same key had been published before.
    pub repeat: Repeat,
}

/// Whether a publication repeated an earlier one.
///
/// Exhaustive: a publication is new or it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It was new and has been published.
    No,
    /// Its key had been published before; nothing was published now.
    Yes,
}

/// How much history a channel keeps.
///
/// Exhaustive: a broker has to keep to every bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Maximum number of publications.
    pub messages: u32,
    /// Maximum age of a publication.
    pub age: Duration,
}

/// A part of a channel's history to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryRange {
    /// The position at which the page starts, which is not in it itself. Forward the page has the
    /// publications after it, in reverse those before it. `None` starts at the oldest publication that is
    /// kept, in reverse at the newest.
    pub since: Option<Position>,
    /// Maximum number of publications.
    pub limit: u32,
    /// The direction in which the page is read from `since`, and the order of its publications.
    pub order: Order,
}

/// The order of a history page.
///
/// Exhaustive: there are only two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Forward,
    /// Newest first.
    Reverse,
}

impl HistoryRange {
    /// Returns the range of at most `limit` publications after or before a position, see
    /// [`HistoryRange::since`].
    pub fn new(since: Option<Position>, limit: u32, order: Order) -> Self {
        Self { since, limit, order }
    }

    /// Returns the range of all publications that are kept, oldest first, up to the hub's recovery limit.
    pub fn all() -> Self {
        Self { since: None, limit: u32::MAX, order: Order::Forward }
    }

    /// Returns a range without publications, for the position of the top alone.
    pub fn top() -> Self {
        Self { since: None, limit: 0, order: Order::Forward }
    }

    /// Returns the range of publications after a position, oldest first.
    pub fn after(position: Position) -> Self {
        Self { since: Some(position), ..Self::all() }
    }

    /// Returns the range of publications before a position, newest first: the next page for a reader who
    /// scrolls back.
    pub fn before(position: Position) -> Self {
        Self { since: Some(position), limit: u32::MAX, order: Order::Reverse }
    }

    /// Returns the range of the newest publications, newest first.
    pub fn newest() -> Self {
        Self { since: None, limit: u32::MAX, order: Order::Reverse }
    }

    /// Sets the maximum number of publications in the page.
    #[must_use]
    pub fn limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }
}

/// A part of a channel's history.
///
/// Exhaustive: a broker answers every part of it.
#[derive(Clone)]
pub struct HistoryPage {
    /// The position of the newest publication, with offset 0 if there has been none.
    pub top: Position,
    /// The offset of the oldest publication that is kept, or the one after the top if none is. A reader who
    /// reads back has reached the beginning at this offset; if it is not 1, older ones have been dropped.
    pub oldest: u64,
    /// The publications of the requested range.
    pub publications: Vec<Arc<Publication>>,
    /// Whether the page continues `since` without a gap: if not, some publications between them are gone.
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
///
/// Exhaustive: a new answer is a new part of the contract, which every reader has to understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// Everything after `since` is in the page, in reverse everything before it that is kept; or there is no
    /// `since`.
    Whole,
    /// The stream lost its memory since then.
    EpochChanged,
    /// Some publications after `since` are no longer kept. Not used in reverse, where those are older than
    /// the page.
    TooOld,
    /// There are more publications than `limit`.
    TooMany,
}
