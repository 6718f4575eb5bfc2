//! One client connection on the project's own codec: connect and handshake, a reader that lends what arrives, and
//! a writer that keeps what the socket did not take. Single-threaded; every workload is built from these.

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

/// Both ends of an open WebSocket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) reader: Reader,
    pub(super) writer: Rc<Writer>,
}

/// How to connect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    /// The longest message that is taken.
    pub(super) message: usize,
    /// The socket's receive buffer; the system's choice if `None`.
    pub(super) receive_buffer: Option<u32>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the connection broke in the handshake: {0}")]
    Handshake(io::Error),
    #[error("handshake refused: {0}")]
    Refused(#[from] AnswerError),
    #[error("the URL cannot stand in a request")]
    Request,
    #[error("no answer within {} s", CONNECT.as_secs())]
    TimedOut,
}

impl Connection {
    /// As a plain client.
    pub(super) async fn open(target: &Target, number: u32, setup: Setup) -> Result<Self, ConnectError> {
        let request = ClientRequest::new(&target.host, &target.path(number));
        Self::open_by(request, target, (number, setup)).await
    }

    /// As a client that has a session, or wants the one that `token` is for.
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
        Self::open_by(request, target, (number, setup)).await
    }

    async fn open_by(
        request: ClientRequest,
        target: &Target,
        who: (u32, Setup),
    ) -> Result<Self, ConnectError> {
        match tokio::time::timeout(CONNECT, Self::handshake(request, target, who)).await {
            Ok(done) => done,
            Err(_) => Err(ConnectError::TimedOut),
        }
    }

    async fn handshake(
        request: ClientRequest,
        target: &Target,
        (number, setup): (u32, Setup),
    ) -> Result<Self, ConnectError> {
        let mut stream = connect(target, number, setup).await.map_err(ConnectError::Connect)?;
        let (head, mut answer) = request.start().map_err(|_| ConnectError::Request)?;
        stream.write_all(&head).await.map_err(ConnectError::Handshake)?;
        let mut bytes = [0; 4096];
        let accepted = loop {
            let got = stream.read(&mut bytes).await.map_err(ConnectError::Handshake)?;
            if got == 0 {
                return Err(ConnectError::Handshake(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Some(accepted) = answer.push(&bytes[..got])? {
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
    /// What came in one piece with the handshake's answer.
    early: Vec<u8>,
    writer: Rc<Writer>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By a close frame.
    Closed(CloseCode),
    /// Without one.
    Lost,
    /// The server broke RFC 6455.
    Broken(ProtocolError),
}

impl End {
    /// The code a browser would report.
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
    /// Waits for one read and gives every whole message in it to `take`. Pings are answered.
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
                // What it does not take, the next flush sends; a lost connection shows in the next read.
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

/// The sending half. All frames go through its buffer, so a partial write never tears one.
#[derive(Debug)]
pub(super) struct Writer {
    half: OwnedWriteHalf,
    unsent: RefCell<Vec<u8>>,
    /// Predictable, which RFC 6455 §5.3 forbids for the sake of proxies: there is none here to protect.
    mask: Cell<u32>,
}

impl Writer {
    /// Adds a frame to what is sent with the next flush.
    pub(super) fn queue(&self, opcode: OpCode, payload: &[u8]) {
        let mask = self.mask.get().wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        self.mask.set(mask);
        encode_into(&mut self.unsent.borrow_mut(), opcode, payload, Some(mask.to_be_bytes()));
    }

    /// Writes what the socket takes now; `true` if that was everything.
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

    /// Writes everything.
    pub(super) async fn drain(&self) -> io::Result<()> {
        while !self.flush()? {
            self.half.writable().await?;
        }
        Ok(())
    }
}

const CONNECT: Duration = Duration::from_secs(20);
