//! Counters of a hub: what came in, went out, was dropped. Relaxed atomics; read by `hub::stats`. What every
//! message counts stands in `Traffic`, one for each shard, so that shards do not share its cache line.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that goes up, and for some also down.
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
    pub(crate) closed: Counter,
    pub(crate) refused: Counter,
    pub(crate) published: Counter,
    pub(crate) delivered: Counter,
    pub(crate) subscriptions: Counter,
    pub(crate) slow_consumers: Counter,
    pub(crate) heartbeat_timeouts: Counter,
    pub(crate) protocol_errors: Counter,
    pub(crate) panics: Counter,
    pub(crate) handshakes_refused: Counter,
    pub(crate) accept_errors: Counter,
}

/// What one shard's connections take in and give out. Almost always one thread counts in it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Traffic {
    /// Messages received.
    pub(crate) requests: Counter,
    /// Bytes of frames read.
    pub(crate) received: Counter,
    /// Bytes of frames written.
    pub(crate) sent: Counter,
    /// Publications dropped by slow-consumer policies.
    pub(crate) dropped: Counter,
    /// Bytes that waited in outboxes when the shard last looked.
    pub(crate) backlog: Counter,
}
