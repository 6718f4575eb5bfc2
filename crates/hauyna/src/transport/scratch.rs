//! Two buffers per thread, lent to the connection that is being served: one for reading from sockets and one
//! for gathering replies. An idle connection holds neither.

use std::cell::Cell;

thread_local! {
    static INPUT_BYTES: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    static REPLY_BYTES: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// Lends the thread's read buffer. A nested call gets a new one.
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

/// Bytes that one read takes from one connection, at most, before other connections are served.
const SCRATCH: usize = 64 * 1024;
