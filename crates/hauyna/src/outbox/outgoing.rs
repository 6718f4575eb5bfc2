//! What the outbox needs from its connection to encode and bound a message, lent for one call.

use super::queued::{QueueBounds, Widening};
use crate::counters::Traffic;
use hauyna_broker::Wire;
use hauyna_websocket::Deflate;

/// How the messages of one connection are encoded and bounded; lent to its outbox for one call.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) wire: Wire,
    pub(crate) deflate: Option<&'a Deflate>,
    pub(crate) bounds: QueueBounds,
    pub(crate) bounds_kind: Widening,
    /// Whether the socket accepts nothing, so that a queued publication may be superseded.
    pub(crate) may_conflate: bool,
    pub(crate) traffic: &'a Traffic,
}
