//! Moves the replies of one connection from the handling of requests to its outbox. `driver`, `read_ahead`
//! and `reader` call it.

use crate::connection::ConnectionCore;
use bytes::Bytes;
use std::sync::Arc;

/// Whether everything is written after the replies were flushed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReplyProgress {
    /// Something is still queued.
    Waiting,
    Written,
}

/// Writes the replies gathered so far, and what is queued behind them.
pub(super) fn flush_replies(core: &Arc<ConnectionCore>, replies: &mut Vec<u8>) -> ReplyProgress {
    let mut outbox = core.outbox.lock();
    if !replies.is_empty() && outbox.ordered_replies > 0 {
        drop(outbox);
        core.sender().send_ordered_reply(Bytes::copy_from_slice(replies));
        replies.clear();
        outbox = core.outbox.lock();
    }
    if !replies.is_empty() {
        let _ = outbox.write_replies(replies, core.traffic());
        replies.clear();
    }
    if !outbox.is_empty() && outbox.blocked.is_none() {
        // The task itself is running: `Driver::write` waits for the socket to accept the rest.
        let _ = outbox.flush(core.sender().outgoing());
    }
    if outbox.is_empty() { ReplyProgress::Written } else { ReplyProgress::Waiting }
}

/// Bytes of replies after which they are written although more input is to be handled.
pub(super) const MAX_REPLY_BYTES: usize = 64 * 1024;
