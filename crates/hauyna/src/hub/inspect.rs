//! Snapshots of one connection, one user or one channel, for people who look at a live hub. Each answer is
//! bounded. Reads the state of other modules, under one lock at a time, and changes nothing.

use super::Hub;
use crate::broker::HistoryRange;
use crate::channel::{self, ChannelCore, ChannelOptions, Publishers, SlowConsumer};
use crate::connection::ConnectionCore;
use crate::error::Error;
use crate::presence::{PresenceEntry, PresentUsers};
use crate::state::ConnectionState;
use hauyna_broker::{ChannelName, ConnectionId, UserId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Looks at one connection, user or channel of a live hub, from [`Hub::inspect`].
///
/// The snapshots can be serialised, for an administrative page of the application. They contain names,
/// addresses and metadata, so do not show them to strangers. Lists are cut at [`Inspect::limit`]; the counts
/// beside them are complete. All data is about this node.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hauyna::Result {
/// use hauyna::{ChannelOptions, Hub};
/// let hub = Hub::builder().channels("room:{id}", ChannelOptions::new()).build();
/// hub.channel("room:7").broadcast("hello").await?;
///
/// let room = hub.inspect().channel("room:7").await?;
/// assert_eq!(room.pattern.as_deref(), Some("room:{id}"));
/// assert_eq!((room.position.as_ref().unwrap().offset, room.history), (1, 1));
/// assert_eq!(room.subscriber_count, 0);
/// println!("{}", serde_json::to_string_pretty(&room).unwrap());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Inspect {
    hub: Hub,
    limit: usize,
    after: Option<ConnectionId>,
}

/// A snapshot of one connection.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ConnectionSnapshot {
    /// The identifier.
    pub id: ConnectionId,
    /// The user.
    pub user: UserId,
    /// The address of the client, or of the proxy before it; `None` where a tower service does not provide
    /// it.
    pub peer: Option<SocketAddr>,
    /// The pattern of the route, as it was passed to [`Router::websocket`](crate::Router::websocket).
    pub route: String,
    /// The sub-protocol that names its encoding.
    pub encoding: &'static str,
    /// Whether its frames are compressed with deflate.
    pub deflated: bool,
    /// Whether messages can still be sent.
    pub open: bool,
    /// When it was opened, in milliseconds since the Unix epoch.
    pub opened_at: u64,
    /// The state of the connection.
    pub state: ConnectionState,
    /// How long it has been in its state, in milliseconds; at most 24 days.
    pub state_for: u64,
    /// How long ago the server read something from it, in milliseconds; to about a second.
    pub silent_for: u64,
    /// The channels that it is subscribed to, up to the limit.
    pub channels: Vec<String>,
    /// Number of its channels.
    pub channel_count: usize,
    /// Bytes that wait to be written to it.
    pub backlog: usize,
}

/// A snapshot of one user.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct UserSnapshot {
    /// The name that was asked for.
    pub user: String,
    /// The user's connections on this node in the order of their identifiers, up to the limit.
    pub connections: Vec<ConnectionSnapshot>,
    /// Number of the user's connections on this node.
    pub connection_count: usize,
    /// The user's groups, up to the limit.
    pub groups: Vec<String>,
    /// Number of the user's groups.
    pub group_count: usize,
    /// Where the user is present.
    pub presence: Option<PresenceEntry>,
}

/// A snapshot of one channel.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ChannelSnapshot {
    /// The name that was asked for.
    pub name: String,
    /// The declared pattern that the name matches, if any.
    pub pattern: Option<String>,
    /// The options of that pattern.
    pub options: OptionsSnapshot,
    /// The end of its stream, if it keeps a history.
    pub position: Option<PositionSnapshot>,
    /// Number of publications in its history.
    pub history: u64,
    /// One page of its subscribers on this node, in the order of their connections' identifiers.
    pub subscribers: Vec<SubscriberSnapshot>,
    /// Number of subscribers on this node.
    pub subscriber_count: usize,
    /// Number of users who are present in it.
    pub present: usize,
    /// Where the next page of subscribers begins, for [`Inspect::after`]; `None` on the last page.
    pub next: Option<ConnectionId>,
}

/// One subscriber of a channel.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct SubscriberSnapshot {
    /// The connection.
    pub connection: ConnectionId,
    /// Its user.
    pub user: UserId,
}

/// A position in a channel's stream.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PositionSnapshot {
    /// The epoch, as on the wire.
    pub epoch: String,
    /// The offset of the newest publication; 0 if there has been none.
    pub offset: u64,
}

/// The options of a channel.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct OptionsSnapshot {
    /// Maximum number of publications in the history; 0 for no history.
    pub history: u32,
    /// Maximum age of a publication in the history, in milliseconds.
    pub history_age: u64,
    /// Who may subscribe: `open`, `authorized` (`authorize_subscribe` decides), `private`, or `undeclared`.
    pub access: &'static str,
    /// Who may publish: `subscribers` or `application`.
    pub publishers: &'static str,
    /// Up to how many subscribers the channel announces them, if it does.
    pub announces: Option<u32>,
    /// What happens for slow consumers: `disconnect`, `drop_oldest`, `drop_newest` or `conflate`.
    pub slow_consumer: &'static str,
    /// The events that clients may send in addition to publications, each with its rate per second.
    pub client_events: BTreeMap<String, u32>,
}

impl Inspect {
    pub(super) fn new(hub: Hub) -> Self {
        Self { hub, limit: DEFAULT_LIMIT, after: None }
    }

    /// Sets the maximum number of entries in a list. 1 to 1,000; default: 100.
    pub fn limit(mut self, entries: usize) -> Self {
        self.limit = entries.clamp(1, MAX_LIMIT);
        self
    }

    /// Starts the list after this connection: the next page.
    pub fn after(mut self, connection: ConnectionId) -> Self {
        self.after = Some(connection);
        self
    }

    /// Returns a snapshot of a live connection.
    #[must_use]
    pub fn connection(&self, id: ConnectionId) -> Option<ConnectionSnapshot> {
        self.hub.0.registry.by_id(id).map(|core| self.snapshot(&core))
    }

    fn snapshot(&self, core: &Arc<ConnectionCore>) -> ConnectionSnapshot {
        let (channels, channel_count) = {
            let subscriptions = core.subscriptions.lock();
            let names =
                subscriptions.iter().take(self.limit).map(|entry| entry.channel.name.as_str().to_owned());
            (names.collect(), subscriptions.len())
        };
        ConnectionSnapshot {
            id: core.id(),
            user: core.user().clone(),
            peer: core.connect_info().peer(),
            route: core.endpoint().route.clone(),
            encoding: core.wire().encoding().subprotocol(),
            deflated: core.wire().is_deflated(),
            open: core.is_open(),
            opened_at: core.connect_info().at(),
            state: core.state(),
            state_for: milliseconds(core.time_in_state()),
            silent_for: milliseconds(core.liveness_checks().silent_for()),
            channels,
            channel_count,
            backlog: core.sender().backlog(),
        }
    }

    /// Returns a snapshot of a user; a user who is not connected has no connections.
    #[must_use]
    pub fn user(&self, user: impl AsRef<str>) -> UserSnapshot {
        let user = user.as_ref();
        let mut connections = self.hub.0.registry.of_user(user);
        let connection_count = connections.len();
        connections.retain(|core| self.after.is_none_or(|after| core.id() > after));
        connections.sort_unstable_by_key(|core| core.id());
        connections.truncate(self.limit);
        let mut groups = self.hub.0.groups.of_user(user);
        let group_count = groups.len();
        groups.sort_unstable();
        groups.truncate(self.limit);
        UserSnapshot {
            user: user.to_owned(),
            connections: connections.iter().map(|core| self.snapshot(core)).collect(),
            connection_count,
            groups,
            group_count,
            presence: PresentUsers::of(&self.hub.0).get(user),
        }
    }

    /// Returns a snapshot of a channel. It need not have subscribers.
    ///
    /// # Errors
    ///
    /// `validation_error` for an invalid name; `unavailable` if the broker cannot be asked for its history.
    pub async fn channel(&self, name: impl AsRef<str>) -> Result<ChannelSnapshot, Error> {
        let name = ChannelName::new(name.as_ref())?;
        let hub = &self.hub.0;
        let options = hub.declarations.options(name.as_str()).clone();
        let (mut position, mut history) = (None, 0);
        if options.retention.is_some() {
            // The publications between the oldest and the newest are numbered without holes.
            let page = channel::history(hub, &name, HistoryRange::top()).await?;
            history = page.top.offset.saturating_add(1).saturating_sub(page.oldest);
            position = Some(PositionSnapshot { epoch: page.top.epoch.to_string(), offset: page.top.offset });
        }
        let (subscribers, subscriber_count, has_more) = match hub.channels.find(&name) {
            None => (Vec::new(), 0, false),
            Some(core) => self.subscribers(&core),
        };
        Ok(ChannelSnapshot {
            name: name.as_str().to_owned(),
            present: PresentUsers::of(hub).in_channel(name.as_str()).len(),
            pattern: options.usage.pattern.as_deref().map(str::to_owned),
            options: OptionsSnapshot::of(&options),
            position,
            history,
            next: subscribers.last().filter(|_| has_more).map(|last| last.connection),
            subscribers,
            subscriber_count,
        })
    }

    /// Returns one page of subscribers, their number in all, and whether more follow. Holds the channel's
    /// lock for one walk over its subscribers, and keeps no more than a page of them.
    fn subscribers(&self, core: &ChannelCore) -> (Vec<SubscriberSnapshot>, usize, bool) {
        let mut page: BTreeMap<ConnectionId, Arc<ConnectionCore>> = BTreeMap::new();
        let mut has_more = false;
        let state = core.state.lock();
        for (id, subscriber) in &state.subscribers {
            let is_behind = self.after.is_none_or(|after| *id > after);
            let is_before_last =
                page.len() < self.limit || page.keys().next_back().is_some_and(|last| id < last);
            if is_behind && is_before_last {
                page.insert(*id, subscriber.connection.clone());
                if page.len() > self.limit {
                    page.pop_last();
                    has_more = true;
                }
            } else if is_behind {
                has_more = true;
            }
        }
        let count = state.subscribers.len();
        drop(state);
        let listed = page
            .into_iter()
            .map(|(connection, core)| SubscriberSnapshot { connection, user: core.user().clone() });
        (listed.collect(), count, has_more)
    }
}

impl OptionsSnapshot {
    fn of(options: &ChannelOptions) -> Self {
        let retention = options.retention;
        Self {
            history: retention.map_or(0, |retention| retention.messages),
            history_age: retention.map_or(0, |retention| milliseconds(retention.age)),
            access: options.access_name(),
            publishers: match options.publishers {
                Publishers::Subscribers => "subscribers",
                Publishers::Application => "application",
            },
            announces: options.announce,
            slow_consumer: match options.slow_consumer {
                SlowConsumer::Disconnect => "disconnect",
                SlowConsumer::DropOldest => "drop_oldest",
                SlowConsumer::DropNewest => "drop_newest",
                SlowConsumer::Conflate => "conflate",
            },
            client_events: options
                .client_event_rates()
                .iter()
                .map(|(name, rate)| ((**name).to_owned(), *rate))
                .collect(),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Maximum number of entries in a list, unless the caller sets one.
const DEFAULT_LIMIT: usize = 100;
/// Maximum number of entries in a list that the caller can set.
const MAX_LIMIT: usize = 1000;
