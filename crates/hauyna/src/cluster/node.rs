//! The node itself: its beat, by which it lives for the others and learns of them, and the sweep of nodes
//! that are gone. A job of the hub's `background` runs it every two seconds, and whenever something is to be
//! written.

use super::batch::Progress;
use super::fields::{self, Fields, Suspicion};
use super::members::{self, Members};
use crate::background::{Due, Job};
use crate::hub::{Hub, HubCore};
use hauyna_broker::{Beat, BrokerError, Directory, NodeId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a hub whose broker has a directory knows of its cluster.
pub(crate) struct Cluster {
    directory: Arc<dyn Directory>,
    pub(super) members: Members,
    pub(super) fields: Fields,
    beats: Mutex<Beats>,
}

#[derive(Debug, Default)]
struct Beats {
    /// When the next beat is due; `None` before the first one.
    next: Option<Instant>,
    /// Whether a beat has got no answer since the last one that has.
    is_unsure: bool,
    /// The nodes that lived at the last beat.
    live: Vec<NodeSnapshot>,
}

/// What one node of a cluster says about itself, from [`Hub::nodes`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NodeSnapshot {
    /// The identifier; [`NodeId::ALONE`] without a cluster.
    pub id: NodeId,
    /// The version of this crate that the node runs; empty if it did not say.
    pub version: String,
    /// How long the hub has existed, in milliseconds.
    pub uptime: u64,
    /// Its live connections.
    pub connections: usize,
    /// Its channels with subscribers, and groups with connected members.
    pub channels: usize,
    /// Its live subscriptions.
    pub subscriptions: u64,
}

/// A [`NodeSnapshot`] on its way to the other nodes.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct NodeInfo {
    version: String,
    uptime: u64,
    connections: usize,
    channels: usize,
    subscriptions: u64,
}

impl NodeInfo {
    fn of(hub: &HubCore) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: hub.clock.millis(),
            connections: hub.registry.count(),
            channels: hub.channels.count(),
            subscriptions: hub.metrics.subscriptions.value(),
        }
    }

    fn snapshot(self, id: NodeId) -> NodeSnapshot {
        let Self { version, uptime, connections, channels, subscriptions } = self;
        NodeSnapshot { id, version, uptime, connections, channels, subscriptions }
    }
}

impl Cluster {
    pub(crate) fn new(directory: Arc<dyn Directory>) -> Self {
        Self { directory, members: Members::default(), fields: Fields::default(), beats: Mutex::default() }
    }

    pub(crate) fn directory(&self) -> &dyn Directory {
        &*self.directory
    }

    /// Whether a beat is due; then the next one is due later.
    fn begin_beat(&self) -> bool {
        let (mut beats, now) = (self.beats.lock(), Instant::now());
        let is_due = beats.next.is_none_or(|next| next <= now);
        if is_due {
            beats.next = Some(now + BEAT_EVERY);
        }
        is_due
    }
}

impl HubCore {
    /// Returns this node, [`NodeId::ALONE`] without a cluster.
    pub(crate) fn node(&self) -> NodeId {
        self.cluster.as_ref().map_or(NodeId::ALONE, |cluster| cluster.directory.node())
    }

    /// Makes the job of the cluster look for work now.
    pub(super) fn wake_cluster(&self) {
        self.background.ensure_running(Job::Cluster);
        self.background.wake(Job::Cluster);
    }
}

impl Hub {
    /// Returns the nodes of the cluster that live, as of the last beat: each node says every two seconds how
    /// it is. Without a broker that connects several nodes, this is the only one. Nodes that cannot be
    /// reached stay in the list for as long as this node cannot reach the broker either.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let nodes = hauyna::Hub::new().nodes().await;
    /// assert_eq!((nodes.len(), nodes[0].connections), (1, 0));
    /// # }
    /// ```
    pub fn nodes(&self) -> impl Future<Output = Vec<NodeSnapshot>> + Send + use<> {
        let hub = self.clone();
        async move {
            let own = NodeInfo::of(&hub.0).snapshot(hub.0.node());
            let Some(cluster) = &hub.0.cluster else { return vec![own] };
            let mut nodes = cluster.beats.lock().live.clone();
            nodes.retain(|node| node.id != own.id);
            nodes.push(own);
            nodes.sort_by_key(|node| node.id);
            nodes
        }
    }
}

/// Does what is due in the cluster, and returns when more is.
pub(crate) async fn run_due(hub: &Arc<HubCore>) -> Due {
    let Some(cluster) = &hub.cluster else { return Due::Never };
    if cluster.begin_beat() {
        beat(hub, cluster).await;
    }
    let subscribed = members::subscribe(hub, cluster).await;
    let progress = subscribed.and(fields::write(hub, cluster).await);
    let next_beat = cluster.beats.lock().next.unwrap_or_else(Instant::now);
    match progress {
        Progress::More => Due::Now,
        Progress::Done => Due::At(next_beat),
        Progress::Failed => Due::At(next_beat.min(Instant::now() + RETRY_AFTER)),
    }
}

async fn beat(hub: &Arc<HubCore>, cluster: &Cluster) {
    let info = serde_json::to_vec(&NodeInfo::of(hub)).unwrap_or_default();
    let nodes = match hub.with_directory(cluster, |directory| directory.beat(Beat::new(info))).await {
        Ok(nodes) => nodes,
        Err(error) => {
            cluster.beats.lock().is_unsure |= error.is_unknown();
            return log_failure("beat", &error);
        }
    };
    let is_unsure = std::mem::take(&mut cluster.beats.lock().is_unsure);
    if nodes.was_lost {
        crate::log::limited("lost lease", || {
            tracing::warn!(target: "hauyna::cluster", node = %hub.node(), "this node was taken for dead");
        });
        cluster.fields.write_all_again(Suspicion::WasLost);
    } else if is_unsure {
        cluster.fields.write_all_again(Suspicion::NoAnswer);
    }
    let snapshot = |(id, info): (NodeId, bytes::Bytes)| {
        serde_json::from_slice::<NodeInfo>(&info).unwrap_or_default().snapshot(id)
    };
    let live = nodes.live.into_iter().map(snapshot).collect();
    cluster.beats.lock().live = live;
    for node in nodes.gone.into_iter().filter(|node| *node != hub.node()) {
        sweep(hub, cluster, node).await;
    }
}

/// Removes the fields of a node that is gone. What is left is removed after the next beat.
async fn sweep(hub: &Arc<HubCore>, cluster: &Cluster, node: NodeId) {
    tracing::debug!(target: "hauyna::cluster", %node, "another node is gone");
    for _ in 0..SWEEPS_PER_BEAT {
        let swept = hub.with_directory(cluster, |directory| directory.sweep(node, FIELDS_PER_SWEEP)).await;
        let swept = match swept {
            Ok(swept) => swept,
            Err(error) => return log_failure("sweep", &error),
        };
        for (map, _, change) in &swept.removed {
            fields::field_swept(hub, map, change);
        }
        if !swept.has_more {
            return;
        }
    }
}

pub(super) fn log_failure(what: &'static str, error: &BrokerError) {
    crate::log::limited("cluster", || {
        let error = crate::log::error_text(error);
        tracing::warn!(target: "hauyna::cluster", what, %error, "the directory failed");
    });
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("node", &self.directory.node()).finish_non_exhaustive()
    }
}

/// How often a node renews its lease. A directory keeps a lease for several times as long.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// The pause after a call that failed.
const RETRY_AFTER: Duration = Duration::from_millis(250);
const FIELDS_PER_SWEEP: u32 = 500;
/// Calls for one node that is gone, before the next beat is due.
const SWEEPS_PER_BEAT: usize = 64;
