//! Two buffers per thread, lent to whichever connection is being served: one that sockets are read into,
//! one that replies are gathered in. An idle connection holds neither.

use std::cell::Cell;

thread_local! {
    static INPUT_BYTES: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    static REPLY_BYTES: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// Lends the thread's read buffer. A nested call gets one of its own.
pub(crate) fn with_scratch<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = INPUT_BYTES.take().unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice());
    let result = f(&mut buffer);
    INPUT_BYTES.set(Some(buffer));
    result
}

/// Lends the thread's reply buffer, empty.
pub(crate) fn with_replies<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut replies = REPLY_BYTES.take().unwrap_or_default();
    let result = f(&mut replies);
    replies.clear();
    if replies.capacity() <= 4 * SCRATCH {
        REPLY_BYTES.set(Some(replies));
    }
    result
}

/// Bytes. One read takes at most so much from one connection before others get their turn.
const SCRATCH: usize = 64 * 1024;
