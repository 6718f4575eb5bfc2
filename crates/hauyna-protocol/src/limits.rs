//! Limits of one request. A deployment sets them, and `decode` enforces them before anything is copied. The
//! size of a whole message is not among them: the frame codec limits it earlier.

/// The limits that `decode` applies to one request.
///
/// ```
/// use hauyna_protocol::Limits;
/// let limits = Limits { metadata: 1024, ..Limits::default() };
/// assert_eq!(limits.name, 255);
/// ```
///
/// Exhaustive: who enforces limits decides about every one; `..Limits::default()` takes the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum levels of nesting, the message object included. At most [`Limits::MAX_DEPTH`].
    pub depth: u16,
    /// Maximum bytes of a channel, group or user name.
    pub name: usize,
    /// Maximum bytes of `metadata` as received.
    pub metadata: usize,
    /// Maximum bytes of an idempotency `key`.
    pub key: usize,
    /// Maximum bytes of the `type` of an application event.
    pub event: usize,
}

impl Limits {
    /// Upper bound of `depth`: `serde_json` nests no deeper.
    pub const MAX_DEPTH: u16 = 127;

    /// Returns the depth in force.
    pub(crate) fn depth(&self) -> usize {
        usize::from(self.depth.min(Self::MAX_DEPTH))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 64, name: 255, metadata: 4096, key: 128, event: 255 }
    }
}
