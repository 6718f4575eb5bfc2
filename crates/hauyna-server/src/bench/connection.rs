//! One client connection on the codec of `hauyna_websocket`: connect and handshake, a reader that lends the
//! messages that arrive, and a writer that buffers what the socket did not accept. Single-threaded; all
//! workloads use it.

use super::target::Target;
use hauyna_websocket::handshake::{AnswerError, ClientRequest};
use hauyna_websocket::{CloseCode, Decoder, Event, Limits, OpCode, ProtocolError, Role, encode_into};
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

/// Both halves of an open WebSocket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) reader: Reader,
    pub(super) writer: Rc<Writer>,
}

/// Options of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    /// Maximum size of a received message, in bytes.
    pub(super) message: usize,
    /// Size of the socket's receive buffer in bytes; the system's default if `None`.
    pub(super) receive_buffer: Option<u32>,
}

/// Why connecting failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the connection broke in the handshake: {0}")]
    Handshake(io::Error),
    #[error("handshake refused: {0}")]
    Refused(#[from] AnswerError),
    #[error("the URL cannot be sent in a request")]
    Request,
    #[error("no answer within {} s", CONNECT.as_secs())]
    TimedOut,
}

impl Connection {
    /// Connects as a plain client.
    pub(super) async fn open(target: &Target, number: u32, setup: Setup) -> Result<Self, ConnectError> {
        let request = ClientRequest::new(&target.host, &target.path(number));
        Self::open_with(request, target, number, setup).await
    }

    /// Connects as a client with a session; with a `token` it offers to resume that session.
    pub(super) async fn open_session(
        target: &Target,
        number: u32,
        setup: Setup,
        token: Option<&str>,
    ) -> Result<Self, ConnectError> {
        let request = ClientRequest::new(&target.host, &target.path(number)).protocol("hauyna.v1.json");
        let request = match token {
            None => request,
            Some(token) => request.protocol(&format!("hauyna.resume.{token}")),
        };
        Self::open_with(request, target, number, setup).await
    }

    async fn open_with(
        request: ClientRequest,
        target: &Target,
        number: u32,
        setup: Setup,
    ) -> Result<Self, ConnectError> {
        match tokio::time::timeout(CONNECT, Self::handshake(request, target, number, setup)).await {
            Ok(done) => done,
            Err(_) => Err(ConnectError::TimedOut),
        }
    }

    async fn handshake(
        request: ClientRequest,
        target: &Target,
        number: u32,
        setup: Setup,
    ) -> Result<Self, ConnectError> {
        let mut stream = connect(target, number, setup).await.map_err(ConnectError::Connect)?;
        let (head, mut answer) = request.start().map_err(|_| ConnectError::Request)?;
        stream.write_all(&head).await.map_err(ConnectError::Handshake)?;
        let mut bytes = [0; 4096];
        let accepted = loop {
            let count = stream.read(&mut bytes).await.map_err(ConnectError::Handshake)?;
            if count == 0 {
                return Err(ConnectError::Handshake(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Some(accepted) = answer.push(&bytes[..count])? {
                break accepted;
            }
        };
        let limits = Limits { message: setup.message, frame: setup.message, ..Limits::default() };
        let (read, write) = stream.into_split();
        let writer = Rc::new(Writer {
            half: write,
            unsent: RefCell::default(),
            mask: Cell::new(number.wrapping_mul(0x9e37_79b9)),
        });
        let decoder = Decoder::new(Role::Client, limits);
        Ok(Self {
            reader: Reader { half: read, decoder, early: accepted.rest, writer: writer.clone() },
            writer,
        })
    }
}

async fn connect(target: &Target, number: u32, setup: Setup) -> io::Result<TcpStream> {
    let socket = if target.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(size) = setup.receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    if let Some(source) = target.source(number) {
        socket.bind(source)?;
    }
    let stream = socket.connect(target.address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct Reader {
    half: OwnedReadHalf,
    decoder: Decoder,
    /// Bytes that arrived in one read with the answer to the handshake.
    early: Vec<u8>,
    writer: Rc<Writer>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The server sent a close frame.
    Closed(CloseCode),
    /// The connection ended without a close frame.
    Lost,
    /// The server broke RFC 6455.
    Broken(ProtocolError),
}

impl End {
    /// Returns the close code that a browser would report.
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Closed(code) => code.as_u16(),
            Self::Lost => CloseCode::ABNORMAL.as_u16(),
            Self::Broken(error) => error.close_code().as_u16(),
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed(code) => write!(f, "the server closed with {code}"),
            Self::Lost => f.write_str("the connection was lost"),
            Self::Broken(error) => write!(f, "the server broke the protocol: {error}"),
        }
    }
}

impl Reader {
    /// Waits for one read and passes each complete message in it to `take`. Answers pings.
    ///
    /// `scratch` is borrowed while `take` runs.
    pub(super) async fn read(
        &mut self,
        scratch: &RefCell<Vec<u8>>,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), End> {
        if !self.early.is_empty() {
            let mut early = std::mem::take(&mut self.early);
            return decode(&mut self.decoder, &mut early, &self.writer, &mut take);
        }
        std::future::poll_fn(|cx| {
            let mut buffer = scratch.borrow_mut();
            let mut view = ReadBuf::new(&mut buffer);
            if ready!(Pin::new(&mut self.half).poll_read(cx, &mut view)).is_err() {
                return Poll::Ready(Err(End::Lost));
            }
            match view.filled_mut() {
                [] => Poll::Ready(Err(End::Lost)),
                bytes => Poll::Ready(decode(&mut self.decoder, bytes, &self.writer, &mut take)),
            }
        })
        .await
    }
}

fn decode(
    decoder: &mut Decoder,
    bytes: &mut [u8],
    writer: &Writer,
    take: &mut impl FnMut(&[u8]),
) -> Result<(), End> {
    let mut events = decoder.feed(bytes);
    while let Some(event) = events.next().map_err(End::Broken)? {
        match event {
            Event::Text(text) => take(text.as_bytes()),
            Event::Binary(bytes) => take(bytes),
            Event::Ping(payload) => {
                writer.queue(OpCode::Pong, payload);
                // The next flush sends the rest; a lost connection shows in the next read.
                let _ = writer.flush();
            }
            Event::Pong(_) => {}
            Event::Close(close) => {
                return Err(End::Closed(close.map_or(CloseCode::NO_STATUS, |(code, _)| code)));
            }
        }
    }
    Ok(())
}

/// The sending half. All frames go through its buffer, so a partial write never splits a frame.
#[derive(Debug)]
pub(super) struct Writer {
    half: OwnedWriteHalf,
    unsent: RefCell<Vec<u8>>,
    /// Last masking key. It is predictable, which RFC 6455 §5.3 forbids to protect proxies; there is none
    /// here.
    mask: Cell<u32>,
}

impl Writer {
    /// Queues a frame for the next flush.
    pub(super) fn queue(&self, opcode: OpCode, payload: &[u8]) {
        let mask = self.mask.get().wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        self.mask.set(mask);
        encode_into(&mut self.unsent.borrow_mut(), opcode, payload, Some(mask.to_be_bytes()));
    }

    /// Writes what the socket accepts now. Returns whether the buffer is empty.
    pub(super) fn flush(&self) -> io::Result<bool> {
        let mut unsent = self.unsent.borrow_mut();
        let mut done = 0;
        while done < unsent.len() {
            match self.half.try_write(&unsent[done..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        unsent.drain(..done);
        Ok(unsent.is_empty())
    }

    /// Writes everything that is queued.
    pub(super) async fn drain(&self) -> io::Result<()> {
        while !self.flush()? {
            self.half.writable().await?;
        }
        Ok(())
    }
}

const CONNECT: Duration = Duration::from_secs(20);
