//! The counters of a hub, in relaxed atomics that [`Hub::stats`](crate::Hub::stats) reads; with the feature
//! `metrics` also for Prometheus. Counters of every message are in `Traffic`, one for each shard, so that
//! shards do not share its cache line.

use crate::close::CloseReason;
use hauyna_protocol::ErrorType;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that goes up, and for some counters also down.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one hub.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) opened: Counter,
    /// Connections closed, by reason, in the order of [`CloseReason::NAMES`].
    pub(crate) closed: [Counter; CloseReason::NAMES.len()],
    /// Requests refused, by error type, in the order of [`ErrorType::ALL`].
    pub(crate) refused: [Counter; ErrorType::ALL.len()],
    pub(crate) published: Counter,
    /// Client events that were accepted.
    pub(crate) client_events: Counter,
    pub(crate) subscriptions: Counter,
    /// Clients that came back and resumed their session.
    pub(crate) resumed: Counter,
    /// Sessions whose clients did not come back, in time or at all.
    pub(crate) sessions_ended: Counter,
    /// Those sessions that were evicted to make room for others.
    pub(crate) sessions_evicted: Counter,
    pub(crate) slow_consumers: Counter,
    pub(crate) heartbeat_timeouts: Counter,
    pub(crate) protocol_errors: Counter,
    pub(crate) panics: Arc<Counter>,
    pub(crate) handshakes_refused: Counter,
    /// Times from the TCP connection, or from the request where another server accepts, to the upgrade.
    pub(crate) handshakes: Durations,
    pub(crate) accept_errors: Counter,
    /// Control messages of other nodes that were not understood.
    pub(crate) control_errors: Counter,
}

impl Metrics {
    pub(crate) fn close(&self, reason: CloseReason) {
        self.closed[reason.index()].increment();
    }

    pub(crate) fn refuse(&self, error: ErrorType) {
        if let Some(index) = ErrorType::ALL.iter().position(|other| *other == error) {
            self.refused[index].increment();
        }
    }
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    /// Counts by the first bound that was not exceeded; the last one is for durations beyond all bounds.
    counts: [Counter; BUCKET_BOUNDS.len() + 1],
    microseconds: Counter,
}

impl Durations {
    pub(crate) fn observe(&self, duration: Duration) {
        let index = BUCKET_BOUNDS.iter().position(|bound| duration <= *bound).unwrap_or(BUCKET_BOUNDS.len());
        self.counts[index].increment();
        self.microseconds.add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Returns the sum in seconds, and the counts by upper bound in seconds.
    #[cfg(feature = "metrics")]
    pub(crate) fn buckets(&self) -> (f64, [(f64, u64); BUCKET_BOUNDS.len() + 1]) {
        let bound = |index: usize| BUCKET_BOUNDS.get(index).map_or(f64::MAX, Duration::as_secs_f64);
        let buckets = std::array::from_fn(|index| (bound(index), self.counts[index].value()));
        (Duration::from_micros(self.microseconds.value()).as_secs_f64(), buckets)
    }
}

/// The upper bounds of the histogram's buckets.
const BUCKET_BOUNDS: [Duration; 12] = [
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
];

/// The traffic of one shard's connections. Almost always one thread counts in it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Traffic {
    /// Messages received.
    pub(crate) requests: Counter,
    /// Bytes of frames read.
    pub(crate) received: Counter,
    /// Bytes of frames written.
    pub(crate) sent: Counter,
    /// Publications that were written to their receivers, completely or in part.
    pub(crate) delivered: Counter,
    /// Publications dropped by slow-consumer policies.
    pub(crate) dropped: Counter,
    /// Client events that were dropped for later ones, or for connections that accepted nothing.
    pub(crate) client_events_dropped: Counter,
    /// Bytes that waited in outboxes at the shard's last sweep.
    pub(crate) backlog: Counter,
}
