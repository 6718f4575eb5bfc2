//! Reads and writes a stream that only the connection's task may use, and finds out whether it accepts more.
//! Part of the task in `driver`.

use super::task::Driver;
use crate::connection::ConnectionCore;
use crate::transport::Io;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

impl Driver {
    /// Reads from the socket or from the stream.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            None => self.core.outbox.lock().socket.poll_read(cx, scratch),
            Some(io) => {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }
    }
}

pub(super) fn write_other(
    io: &mut Box<dyn Io>,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> io::Result<usize> {
    match poll_unconstrained(cx, |cx| Pin::new(&mut *io).poll_write_vectored(cx, slices)) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Polls outside of the budget that Tokio gives a task for one poll. A Tokio stream is also pending when the
/// budget is used up, and its client would be taken for one that does not read.
pub(super) fn poll_unconstrained<T>(
    cx: &mut Context<'_>,
    poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    pin!(tokio::task::unconstrained(poll_fn(poll))).poll(cx)
}

/// Makes the task try its stream again after the runtime has polled the sockets.
pub(super) fn retry_after_look(core: &Arc<ConnectionCore>) {
    let waker = Waker::from(core.clone());
    // Tokio wakes a task that yields after it has polled the sockets, and reports that in no other way.
    let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
}

impl Wake for ConnectionCore {
    /// Notes that the runtime has polled the sockets.
    fn wake(self: Arc<Self>) {
        let mut outbox = self.outbox.lock();
        outbox.note_look();
        self.sender().wake(&outbox);
    }
}
