//! A snapshot of a hub's counters, and an estimate of its memory. `Hub::stats` makes it; it adds up the
//! counters of the shards, and never walks the connections.

use super::HubCore;
use crate::channel::{ChannelCore, Subscription};
use crate::counters::{Counter, Traffic};
use crate::state::StateCounts;
use serde::Serialize;

/// Counts of a hub on this node, from [`Hub::stats`](super::Hub::stats).
///
/// Its cost grows with the number of shards and locks, not with that of connections. The numbers are read one
/// after the other while the hub goes on, so the numbers of one snapshot need not agree exactly.
///
/// # Examples
///
/// ```
/// let stats = hauyna::Hub::new().stats();
/// assert_eq!((stats.connections, stats.bytes_sent), (0, 0));
/// println!("{}", serde_json::to_string(&stats).unwrap());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Live connections.
    pub connections: usize,
    /// Live connections by their state; `reconnecting` counts the sessions that wait, in addition.
    pub states: StateCounts,
    /// Channels with subscribers, and groups with connected members.
    pub channels: usize,
    /// Live subscriptions; a connection also has one for each group of its user.
    pub subscriptions: u64,
    /// Sessions of lost connections that wait for their clients.
    pub sessions: usize,
    /// Clients that came back and resumed their session.
    pub resumed: u64,
    /// Sessions whose clients did not come back.
    pub sessions_ended: u64,
    /// Those sessions that were evicted to make room for others; see
    /// [`SessionOptions`](crate::SessionOptions).
    pub sessions_evicted: u64,
    /// Connections opened since the start.
    pub opened: u64,
    /// Connections that have ended.
    pub closed: u64,
    /// Messages received.
    pub requests: u64,
    /// Requests answered with an `error`.
    pub refused: u64,
    /// Publications handed to the broker, client events among them.
    pub published: u64,
    /// Client events that were accepted.
    pub client_events: u64,
    /// Messages written to receivers: publications, one for each subscriber, and messages to users or to all
    /// connections. Messages that were dropped, or queued for a connection that ended, are not counted, nor
    /// are replays and answers.
    pub delivered: u64,
    /// Publications dropped by slow-consumer policies.
    pub dropped: u64,
    /// Client events that were not written to one receiver: a later one took their place, the receiver
    /// accepted nothing, or it was catching up.
    pub client_events_dropped: u64,
    /// Bytes received after the upgrades: frames with their headers, before TLS.
    pub bytes_received: u64,
    /// Bytes written after the upgrades: frames with their headers, before TLS.
    pub bytes_sent: u64,
    /// Connections closed as slow consumers or for their write timeout.
    pub slow_consumers: u64,
    /// Connections closed because a ping was not answered.
    pub heartbeat_timeouts: u64,
    /// Connections closed because they broke RFC 6455.
    pub protocol_errors: u64,
    /// Panics of the application's callbacks.
    pub panics: u64,
    /// Upgrades that were refused.
    pub handshakes_refused: u64,
    /// System events that were dropped, because listeners were too slow or there was no runtime.
    pub events_dropped: u64,
    /// Times that accepting a connection failed, as when file descriptors ran out.
    pub accept_errors: u64,
    /// Messages by which other nodes told this one to do something, and which it did not understand.
    pub control_errors: u64,
    /// Estimated memory of the hub.
    pub memory: Memory,
}

/// An estimate of the memory that a hub takes, in bytes. Data that the application attaches, buffers of the
/// kernel and the overhead of the allocator are not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Memory {
    /// Live connections, each estimated as idle.
    pub connections: usize,
    /// Sessions that wait for their clients.
    pub sessions: usize,
    /// Channels and their subscriptions.
    pub channels: usize,
    /// Histories, positions and idempotency keys, if the broker keeps them in this process.
    pub history: usize,
    /// Bytes that wait in outboxes, as of the last sweep, about a second ago. A publication that waits for
    /// several connections is counted for each, and is in memory once.
    pub outboxes: usize,
}

impl Memory {
    /// Returns the sum of all parts.
    #[must_use]
    pub fn total(&self) -> usize {
        self.connections + self.sessions + self.channels + self.history + self.outboxes
    }
}

impl Stats {
    pub(super) fn of(hub: &HubCore) -> Self {
        let metrics = &hub.metrics;
        let (connections, channels) = (hub.registry.count(), hub.channels.count());
        let subscriptions = metrics.subscriptions.value();
        Self {
            connections,
            states: hub.states.counts(connections + hub.sessions.count()),
            channels,
            subscriptions,
            sessions: hub.sessions.count(),
            resumed: metrics.resumed.value(),
            sessions_ended: metrics.sessions_ended.value(),
            sessions_evicted: metrics.sessions_evicted.value(),
            opened: metrics.opened.value(),
            closed: metrics.closed.iter().map(Counter::value).sum(),
            requests: sum(hub, |traffic| &traffic.requests),
            refused: metrics.refused.iter().map(Counter::value).sum(),
            published: metrics.published.value(),
            delivered: sum(hub, |traffic| &traffic.delivered),
            dropped: sum(hub, |traffic| &traffic.dropped),
            client_events: metrics.client_events.value(),
            client_events_dropped: sum(hub, |traffic| &traffic.client_events_dropped),
            bytes_received: sum(hub, |traffic| &traffic.received),
            bytes_sent: sum(hub, |traffic| &traffic.sent),
            slow_consumers: metrics.slow_consumers.value(),
            heartbeat_timeouts: metrics.heartbeat_timeouts.value(),
            protocol_errors: metrics.protocol_errors.value(),
            panics: metrics.panics.value(),
            handshakes_refused: metrics.handshakes_refused.value(),
            events_dropped: hub.events.queue().dropped(),
            accept_errors: metrics.accept_errors.value(),
            control_errors: metrics.control_errors.value(),
            memory: Memory {
                connections: connections * CONNECTION_BYTES,
                sessions: hub.sessions.bytes(hub),
                channels: channels.saturating_sub(hub.channels.count_lost())
                    * (size_of::<ChannelCore>() + CHANNEL_BYTES)
                    + usize::try_from(subscriptions).unwrap_or(usize::MAX)
                        * (size_of::<Subscription>() + SUBSCRIPTION_BYTES),
                history: hub.broker.memory(),
                outboxes: usize::try_from(sum(hub, |traffic| &traffic.backlog)).unwrap_or(usize::MAX),
            },
        }
    }
}

fn sum(hub: &HubCore, counter: impl Fn(&Traffic) -> &Counter) -> u64 {
    hub.shards.iter().map(|shard| counter(&shard.traffic).value()).sum()
}

/// Bytes of an idle connection without subscriptions: `tests/idle_heap.rs` measures it with one.
const CONNECTION_BYTES: usize = 900;
/// Bytes of a channel's name, of its counts for each shard and of its entry in the map, approximately.
const CHANNEL_BYTES: usize = 128;
/// Bytes of a subscription's entries in the lists of its channel, its shard and its connection.
const SUBSCRIPTION_BYTES: usize = 72;
