//! This node among the others of a cluster, where the broker has a directory: `node` renews its lease and
//! sweeps nodes that are gone, `members` has the users of this node, `fields` says in the directory who they
//! are, `control` carries what every node has to do. A hub without a directory has none of this:
//! `HubCore::cluster` is `None`.

mod batch;
mod control;
mod fields;
mod members;
mod node;

pub use node::NodeSnapshot;

pub(crate) use control::{announce_disconnect, announce_revocation, carry_out};
pub(crate) use members::{UserShare, is_connected_elsewhere};
pub(crate) use node::{Cluster, run_due};
