//! What one request may measure. A deployment changes the numbers; `decode` enforces them before
//! anything is copied. The size of a whole message is not here: the frame codec bounds it earlier.

/// The bounds `decode` applies to one request.
///
/// ```
/// use hauyna_protocol::Limits;
/// let limits = Limits { metadata: 1024, ..Limits::default() };
/// assert_eq!(limits.name, 255);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Levels of nesting; the message object itself is the first. At most [`Limits::MAX_DEPTH`].
    pub depth: u16,
    /// Bytes of a channel, group or user name.
    pub name: usize,
    /// Bytes of `metadata` as it arrived.
    pub metadata: usize,
    /// Bytes of an idempotency `key`.
    pub key: usize,
    /// Bytes of the `type` of an application event.
    pub event: usize,
}

impl Limits {
    /// The deepest nesting that can be allowed, whatever `depth` says: `serde_json` stops here too.
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
