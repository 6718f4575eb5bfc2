//! The nodes of the engine in memory and their leases. Pure data; it takes the time as an argument.

use bytes::Bytes;
use hauyna::broker::{Beat, NodeId, Nodes};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct NodeTable {
    leases: BTreeMap<NodeId, NodeLease>,
    /// The nodes that have had a lease, as their brokers remember it.
    known: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct NodeLease {
    info: Bytes,
    ends: Instant,
    is_gone: bool,
}

impl NodeTable {
    /// Renews a lease. `connected_since` is when the link of this node came up: before one time to live has
    /// passed since then, it takes nobody for dead.
    pub(super) fn beat(&mut self, node: NodeId, beat: Beat, connected_since: Instant, now: Instant) -> Nodes {
        let is_known = !self.known.insert(node);
        let was_lost = is_known && self.leases.get(&node).is_none_or(|lease| lease.is_gone);
        self.leases.insert(node, NodeLease { info: beat.info, ends: now + TIME_TO_LIVE, is_gone: false });
        if now - connected_since >= TIME_TO_LIVE {
            for lease in self.leases.values_mut().filter(|lease| lease.ends <= now) {
                lease.is_gone = true;
            }
        }
        let (gone, live): (Vec<_>, Vec<_>) = self.leases.iter().partition(|(_, lease)| lease.is_gone);
        Nodes::new(
            live.into_iter().map(|(node, lease)| (*node, lease.info.clone())).collect(),
            gone.into_iter().map(|(node, _)| *node).collect(),
            was_lost,
        )
    }

    pub(super) fn is_gone(&self, node: NodeId) -> bool {
        self.leases.get(&node).is_some_and(|lease| lease.is_gone)
    }

    /// Forgets a node that is gone and has no fields any more.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.leases.remove(&node);
    }

    pub(super) fn clear(&mut self) {
        self.leases.clear();
    }
}

/// How long a node lives after its last beat.
pub(super) const TIME_TO_LIVE: Duration = Duration::from_secs(15);
