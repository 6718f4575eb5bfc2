//! The byte stream of one connection. `Socket` is in the outbox, under its lock, so that shards can write;
//! `Io` is in the connection's task if only that may write. Never waits.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;

/// Who may write frames to the stream.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Every holder of the outbox's lock.
    Tcp(TcpStream),
    /// Only the connection's task.
    Task,
    /// Nobody yet, because the handshake is not answered.
    Unanswered,
    /// Nobody any more, because the connection is over; the socket is closed even while handles on the
    /// connection exist.
    Gone,
}

/// A byte stream that only the connection's task uses.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The byte stream of a new connection, and what was read beyond the handshake.
pub(crate) struct Link {
    pub(crate) socket: Socket,
    pub(crate) io: Option<Box<dyn Io>>,
    pub(crate) early: Vec<u8>,
}

impl Link {
    pub(crate) fn tcp(stream: TcpStream, early: Vec<u8>) -> Self {
        Self { socket: Socket::Tcp(stream), io: None, early }
    }

    pub(crate) fn other(io: Box<dyn Io>, early: Vec<u8>) -> Self {
        Self { socket: Socket::Task, io: Some(io), early }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Socket {
    /// Writes at once, whatever the runtime knows about the socket. Almost always the socket accepts
    /// everything, so that reading its readiness, a cache miss for each of ten thousand, would be wasted.
    /// When it does not, [`Socket::try_write_vectored`] notifies the runtime.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => loop {
                match system::send(stream, bytes) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    done => return done,
                }
            },
            Self::Task | Self::Unanswered => Err(io::ErrorKind::WouldBlock.into()),
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub(crate) fn try_write_vectored(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(bytes),
            Self::Task | Self::Unanswered => Err(io::ErrorKind::WouldBlock.into()),
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Does the same as [`Socket::try_write_vectored`], whatever the runtime knows about the socket: the
    /// runtime learns late that the peer has read, and the peer must not be judged by that.
    pub(crate) fn try_write_vectored_now(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => system::send_vectored(stream, bytes),
            Self::Task | Self::Unanswered => Err(io::ErrorKind::WouldBlock.into()),
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Task | Self::Unanswered => Poll::Pending,
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Reads what is available; 0 at the end of the stream.
    ///
    /// A read that does not fill the buffer has emptied the socket, so the readiness is cleared at once (as
    /// Tokio's own `poll_read` does) instead of by one more system call.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::Task | Self::Unanswered => return Poll::Pending,
            Self::Gone => return Poll::Ready(Ok(0)),
        };
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let mut short = None;
            let whole = stream.try_io(Interest::READABLE, || {
                let read = system::receive(stream, buffer)?;
                if read > 0 && read < buffer.len() {
                    short = Some(read);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(read)
            });
            match (short, whole) {
                (Some(read), _) | (None, Ok(read)) => return Poll::Ready(Ok(read)),
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                (None, Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Whether only the connection's task may write.
    pub(crate) fn is_of_task(&self) -> bool {
        matches!(self, Self::Task)
    }

    /// Tells the peer that nothing more follows. An error means that it knows already.
    pub(crate) fn shutdown(&self) {
        if let Self::Tcp(stream) = self {
            let _ = socket2::SockRef::from(stream).shutdown(Shutdown::Write);
        }
    }
}

/// The two system calls of every message. On Linux they are made without the C library, whose wrappers are
/// cancellation points and cost a tenth of our own time in a fan-out.
#[cfg(unix)]
mod system {
    use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send as send_flagged, sendmsg};
    use std::io::{self, IoSlice};
    use tokio::net::TcpStream;

    pub(super) fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        Ok(send_flagged(stream, bytes, FLAGS)?)
    }

    pub(super) fn send_vectored(stream: &TcpStream, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(sendmsg(stream, bytes, &mut SendAncillaryBuffer::default(), FLAGS)?)
    }

    pub(super) fn receive(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(stream, buffer, RecvFlags::empty())?.0)
    }

    /// A peer that has closed causes an error here, not a signal to the process.
    #[cfg(not(target_vendor = "apple"))]
    const FLAGS: SendFlags = SendFlags::NOSIGNAL;
    #[cfg(target_vendor = "apple")]
    const FLAGS: SendFlags = SendFlags::empty();
}

#[cfg(not(unix))]
mod system {
    use std::io::{self, IoSlice, Read};
    use tokio::net::TcpStream;

    pub(super) fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        socket2::SockRef::from(stream).send(bytes)
    }

    pub(super) fn send_vectored(stream: &TcpStream, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        socket2::SockRef::from(stream).send_vectored(bytes)
    }

    pub(super) fn receive(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        (&*socket2::SockRef::from(stream)).read(buffer)
    }
}
