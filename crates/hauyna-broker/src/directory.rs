//! The contract of a directory: maps that the nodes of a cluster share, and the leases of the nodes.

use crate::answer::Answer;
use crate::{BrokerError, Epoch, MapName};
use bytes::Bytes;
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// The shared maps of a cluster, and its nodes: who is where, who belongs to what, who is alive.
///
/// A map is small, keyed and versioned. Each field has a value and may have a lease: then it belongs to the
/// node that put it, and is removed when that node is gone.
///
/// # Contract
///
/// - **One step.** Each [`Directory::put`] and [`Directory::remove`] that changes something is one step: its
///   condition is checked, and the field, the version and the size change, or nothing does.
/// - **Versions.** A change makes the version of its map one higher, without a skip. A map that does not
///   exist has version 0. A map that lost its fields, or was removed because it was empty, may start again at
///   0 under another epoch.
/// - **Following.** A node that has subscribed to the channel of a map,
///   [`ChannelName::of_map`](crate::ChannelName::of_map), gets every change of it by
///   [`Relay::map_changed`](crate::Relay::map_changed). Changes may be lost, repeated and reordered: their
///   versions show it, and [`Directory::read`] has what was missed. Where nothing shows it, because the link
///   was down, [`Relay::map_outdated`](crate::Relay::map_outdated) is called. A change is in the map before
///   it is relayed.
/// - **One remover.** Of several concurrent removals of a field, exactly one gets what was there.
/// - **Leases.** The leased fields of a node exist as long as it calls [`Directory::beat`] within the time to
///   live. Once it does not, it is gone, and other nodes remove them with [`Directory::sweep`], each as a
///   change that is relayed. A node that calls [`Directory::beat`] again learns from [`Nodes::was_lost`] that
///   it was taken for dead, or that its lease was lost with the data, and what is left of its fields stays.
/// - **No rash judgement.** An observer whose own link was down takes nobody for dead before one time to live
///   has passed since the link came back.
/// - **One clock.** Times to live are counted by one clock for all nodes, never by comparing those of nodes.
/// - **Repeating.** Every call may be repeated, for example when its answer was lost. A repeated put of the
///   same value, or a repeated removal, changes nothing, and no version.
/// - **Failure.** As for [`Broker`](crate::Broker): an error means that nothing happened;
///   [`BrokerError::unknown`] means that it may have happened.
///
/// Names, fields and values are bytes to a directory: nothing in them is a pattern, a separator or a command.
///
/// `hauyna-test` has the suite that every directory must pass.
pub trait Directory: fmt::Debug + Send + Sync + 'static {
    /// Returns the identifier of this node, which no other live node has. It may change only with
    /// [`Nodes::was_lost`].
    fn node(&self) -> NodeId;

    /// Sets one field of a map.
    fn put(&self, put: Put) -> Answer<Result<Change, BrokerError>>;

    /// Removes one field of a map.
    fn remove(&self, map: &MapName, field: &Field) -> Answer<Result<Change, BrokerError>>;

    /// Returns a page of a map, in the order of the fields' bytes, with the version and the size that the map
    /// has at that moment. Pages with one version are one consistent view.
    fn read(&self, map: &MapName, range: MapRange) -> Answer<Result<MapPage, BrokerError>>;

    /// Returns the names of up to `limit` maps of a kind that have fields, in the order of their bytes, after
    /// a name.
    fn maps(
        &self,
        kind: &str,
        after: Option<&MapName>,
        limit: u32,
    ) -> Answer<Result<Vec<MapName>, BrokerError>>;

    /// Removes up to `limit` leased fields of a node that is gone, and returns what was removed. Each field
    /// is returned to exactly one caller.
    fn sweep(&self, node: NodeId, limit: u32) -> Answer<Result<Swept, BrokerError>>;

    /// Renews the lease of this node, and returns the nodes that live.
    fn beat(&self, beat: Beat) -> Answer<Result<Nodes, BrokerError>>;
}

/// Identifies one node of a cluster for as long as it lives: 24 bits, never 0 in a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NodeId(u32);

impl NodeId {
    /// The node of a process that is not part of a cluster.
    pub const ALONE: Self = Self(0);
    /// The largest number of a node.
    pub const MAX: u32 = 0x00ff_ffff;

    /// Creates the identifier from its number, `None` above [`NodeId::MAX`].
    pub fn new(number: u32) -> Option<Self> {
        (number <= Self::MAX).then_some(Self(number))
    }

    /// Returns its number, from 0 to [`NodeId::MAX`].
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A field of a map: a class, and an identifier within the class. The size of a map is the number of classes
/// that have fields: in the map of those who are present the class is the user, and the identifiers are the
/// user's connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Field {
    /// What the size of the map counts.
    pub class: Box<str>,
    /// Which one of the class; may be empty.
    pub id: Box<str>,
}

impl Field {
    /// Creates a field of a class.
    pub fn new(class: impl Into<Box<str>>, id: impl Into<Box<str>>) -> Self {
        Self { class: class.into(), id: id.into() }
    }
}

/// A field to set, and the condition under which it is set.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Put {
    /// The map; it need not exist.
    pub map: MapName,
    /// The field.
    pub field: Field,
    /// The new value.
    pub value: Bytes,
    /// How long the field exists.
    pub lease: Lease,
    /// The condition.
    pub only: Only,
    /// A field that is removed in the same step. If it is not there, nothing is put.
    pub instead_of: Option<Field>,
}

impl Put {
    /// Creates a put without a condition, of a field that is kept.
    pub fn new(map: MapName, field: Field, value: impl Into<Bytes>) -> Self {
        Self { map, field, value: value.into(), lease: Lease::Kept, only: Only::Always, instead_of: None }
    }

    /// Sets how long the field exists.
    #[must_use]
    pub fn lease(self, lease: Lease) -> Self {
        Self { lease, ..self }
    }

    /// Sets the condition under which the field is set.
    #[must_use]
    pub fn only(self, only: Only) -> Self {
        Self { only, ..self }
    }

    /// Sets the field that is removed in the same step.
    #[must_use]
    pub fn instead_of(self, field: Field) -> Self {
        Self { instead_of: Some(field), ..self }
    }
}

/// How long a field exists.
///
/// Exhaustive: a directory has to know every kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// Until it is removed.
    Kept,
    /// As long as the node that put it lives.
    OfNode,
    /// For a time, by the clock of the directory.
    For(Duration),
}

/// The condition of a [`Put`].
///
/// Exhaustive: a directory has to check every condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// No condition.
    Always,
    /// Only if the field is not there.
    Absent,
    /// Only if the map has this version.
    Version(MapVersion),
}

/// The version of a map: how many changes there were, under an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapVersion {
    /// Changes whenever the numbering starts again.
    pub epoch: Epoch,
    /// Number of changes.
    pub number: u64,
}

/// What a call did to a map.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Whether the map was changed. Otherwise the condition was not met, or there was nothing to change.
    pub is_applied: bool,
    /// The value that the field had before, if it was there.
    pub before: Option<Bytes>,
    /// The number of classes after the call.
    pub size: u64,
    /// The number of fields of this field's class after the call.
    pub class_size: u64,
    /// The version after the call.
    pub version: MapVersion,
}

impl Change {
    /// Creates the answer of a directory.
    pub fn new(
        is_applied: bool,
        before: Option<Bytes>,
        size: u64,
        class_size: u64,
        version: MapVersion,
    ) -> Self {
        Self { is_applied, before, size, class_size, version }
    }
}

/// A change of a map on its way to the nodes that follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapChange {
    /// The field that was put or removed.
    pub field: Field,
    /// The new value; `None` if the field was removed.
    pub value: Option<Bytes>,
    /// The field that was removed in the same step, see [`Put::instead_of`].
    pub instead_of: Option<Field>,
    /// The version after the change.
    pub version: MapVersion,
}

impl MapChange {
    /// Creates the change of one field.
    pub fn new(field: Field, value: Option<Bytes>, instead_of: Option<Field>, version: MapVersion) -> Self {
        Self { field, value, instead_of, version }
    }
}

/// A part of a map to read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapRange {
    /// The field after which the page starts; `None` for the first page.
    pub after: Option<Field>,
    /// Only fields of this class; `None` for all.
    pub class: Option<Box<str>>,
    /// Maximum number of fields; a directory may return fewer.
    pub limit: u32,
}

impl MapRange {
    /// Returns the range of all fields, up to what a directory returns at once.
    pub fn all() -> Self {
        Self { after: None, class: None, limit: u32::MAX }
    }

    /// Returns the range without fields, for the version and the size alone.
    pub fn size() -> Self {
        Self { limit: 0, ..Self::all() }
    }

    /// Returns the range of the fields of one class.
    pub fn class(class: impl Into<Box<str>>) -> Self {
        Self { class: Some(class.into()), ..Self::all() }
    }

    /// Returns the range of the fields after one.
    #[must_use]
    pub fn after(self, field: Field) -> Self {
        Self { after: Some(field), ..self }
    }

    /// Sets the maximum number of fields in the page.
    #[must_use]
    pub fn limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }
}

/// A part of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapPage {
    /// The version of the map.
    pub version: MapVersion,
    /// The number of classes in the whole map.
    pub size: u64,
    /// The fields of the range and their values, in the order of their bytes.
    pub fields: Vec<(Field, Bytes)>,
    /// Whether there are more fields after the last one of the page.
    pub has_more: bool,
}

impl MapPage {
    /// Creates the answer of a directory.
    pub fn new(version: MapVersion, size: u64, fields: Vec<(Field, Bytes)>, has_more: bool) -> Self {
        Self { version, size, fields, has_more }
    }
}

/// What a sweep removed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Swept {
    /// The fields that were removed.
    pub removed: Vec<(MapName, Field, Change)>,
    /// Whether the node has more leased fields.
    pub has_more: bool,
}

impl Swept {
    /// Creates the answer of a directory.
    pub fn new(removed: Vec<(MapName, Field, Change)>, has_more: bool) -> Self {
        Self { removed, has_more }
    }
}

/// What a node tells the others with its lease.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Beat {
    /// What the node says about itself, for the others.
    pub info: Bytes,
}

impl Beat {
    /// Creates a beat.
    pub fn new(info: impl Into<Bytes>) -> Self {
        Self { info: info.into() }
    }
}

/// The nodes of a cluster, as the answer to a beat.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Nodes {
    /// The nodes that live, with what their last beats said, in the order of their identifiers.
    pub live: Vec<(NodeId, Bytes)>,
    /// The nodes that are gone and not swept yet.
    pub gone: Vec<NodeId>,
    /// Whether this node had a lease before, and now the directory had none of it: its fields may have been
    /// removed, and it has to put them again. A node whose beat got no answer has to do so, too: the answer
    /// may have said this.
    pub was_lost: bool,
}

impl Nodes {
    /// Creates the answer of a directory.
    pub fn new(live: Vec<(NodeId, Bytes)>, gone: Vec<NodeId>, was_lost: bool) -> Self {
        Self { live, gone, was_lost }
    }
}
