//! The replies of one connection on their way from the handling of requests to its outbox.

use super::ConnectionCore;
use bytes::Bytes;
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReplyProgress {
    Up,
    Not,
}

/// Writes the replies gathered so far and what waits behind them.
pub(super) fn flush_replies(core: &Arc<ConnectionCore>, replies: &mut Vec<u8>) -> ReplyProgress {
    let mut outbox = core.outbox.lock();
    if !replies.is_empty() && outbox.ordered_replies > 0 {
        drop(outbox);
        core.send_ordered_reply(Bytes::copy_from_slice(replies));
        replies.clear();
        outbox = core.outbox.lock();
    }
    if !replies.is_empty() {
        let _ = outbox.write_replies(replies, core.traffic());
        replies.clear();
    }
    if !outbox.is_empty() && outbox.blocked.is_none() {
        // The task itself is running: what cannot be written, `write` waits for.
        let _ = outbox.flush(core.outgoing());
    }
    if outbox.is_empty() { ReplyProgress::Not } else { ReplyProgress::Up }
}

/// Bytes of replies after which they are written although there is more to handle.
pub(super) const MAX_REPLY_BYTES: usize = 64 * 1024;
