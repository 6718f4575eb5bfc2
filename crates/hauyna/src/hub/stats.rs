//! A snapshot of a hub's counters.

use super::HubCore;
use serde::Serialize;

/// Counts of a hub on this node, from [`Hub::stats`](super::Hub::stats).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Live connections.
    pub connections: usize,
    /// Channels with subscribers.
    pub channels: usize,
    /// Live subscriptions.
    pub subscriptions: u64,
    /// Connections opened since the start.
    pub opened: u64,
    /// Connections that have ended.
    pub closed: u64,
    /// Messages received.
    pub requests: u64,
    /// Requests answered with an `error`.
    pub refused: u64,
    /// Publications handed to the broker.
    pub published: u64,
    /// Publications given to subscribers.
    pub delivered: u64,
    /// Publications dropped by slow-consumer policies.
    pub dropped: u64,
    /// Connections closed as slow consumers or for their write timeout.
    pub slow_consumers: u64,
    /// Connections closed because a ping was not answered.
    pub heartbeat_timeouts: u64,
    /// Connections closed because they broke RFC 6455.
    pub protocol_errors: u64,
    /// Panics of the application's callbacks.
    pub panics: u64,
    /// Upgrades refused.
    pub handshakes_refused: u64,
    /// Times that accepting failed, as when descriptors ran out.
    pub accept_errors: u64,
}

impl Stats {
    pub(super) fn of(hub: &HubCore) -> Self {
        let metrics = &hub.metrics;
        Self {
            connections: hub.registry.count(),
            channels: hub.channels.count(),
            subscriptions: metrics.subscriptions.value(),
            opened: metrics.opened.value(),
            closed: metrics.closed.value(),
            requests: metrics.requests.value(),
            refused: metrics.refused.value(),
            published: metrics.published.value(),
            delivered: metrics.delivered.value(),
            dropped: metrics.dropped.value(),
            slow_consumers: metrics.slow_consumers.value(),
            heartbeat_timeouts: metrics.heartbeat_timeouts.value(),
            protocol_errors: metrics.protocol_errors.value(),
            panics: metrics.panics.value(),
            handshakes_refused: metrics.handshakes_refused.value(),
            accept_errors: metrics.accept_errors.value(),
        }
    }
}
