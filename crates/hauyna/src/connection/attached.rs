//! What few connections have, in one allocation that the others are spared. Each part has its own lock.

use super::Extensions;
use crate::retry::RetryPolicy;
use parking_lot::Mutex;

/// Made when the first part of it is needed; see [`ConnectionCore::attached`](super::ConnectionCore::attached).
#[derive(Debug, Default)]
pub(crate) struct Attached {
    pub(crate) extensions: Mutex<Extensions>,
    /// Where it differs from the handler's.
    pub(crate) retry: Mutex<Option<RetryPolicy>>,
}
