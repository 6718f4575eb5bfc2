//! One attempt to connect, and the socket that it opens: token, stream, handshake, then frames in both
//! directions. The socket answers pings and closes, but does not interpret messages. Only the task of the
//! client uses it.

use crate::client::TokenSource;
use crate::codec::Encoded;
use crate::connector::{Connector, Endpoint, Transport};
use crate::logger::{self, Direction};
use crate::random::Random;
use hauyna_protocol::{BEARER_PREFIX, Encoding, RESUME_PREFIX};
use hauyna_websocket::handshake::{AnswerError, ClientRequest, InvalidRequest};
use hauyna_websocket::{CloseCode, Decoder, Deflate, Event, Limits, OpCode, Role, encode_into};
use http::{HeaderName, HeaderValue, StatusCode};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

/// The options of one attempt.
pub(crate) struct SocketOptions {
    pub(crate) endpoint: Endpoint,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) token: Option<TokenSource>,
    pub(crate) resume: Option<String>,
    pub(crate) encoding: Encoding,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) deflate: Option<Deflate>,
    pub(crate) max_message: usize,
    pub(crate) timeout: Duration,
}

/// Why an attempt has opened no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptFailure {
    #[error("no token: {0}")]
    Token(String),
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error("{0}")]
    Request(#[from] InvalidRequest),
    #[error("{0}")]
    Answer(#[from] AnswerError),
    #[error("the server speaks no hauyna.v1")]
    Protocol,
    #[error("no answer in time")]
    Timeout,
    #[error("the server closed the connection before it began: {} {:?}", .0.code, .0.reason)]
    Ended(ConnectionLoss),
    #[error("a source of tokens or streams panicked")]
    Panic,
}

impl AttemptFailure {
    /// Returns the status of the answer if another attempt would get the same.
    pub(crate) fn permanent_status(&self, may_renew_token: bool) -> Option<u16> {
        let Self::Answer(AnswerError::Status(status)) = self else { return None };
        let lasting = match *status {
            StatusCode::UNAUTHORIZED => !may_renew_token,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => false,
            status => status.is_client_error(),
        };
        lasting.then_some(status.as_u16())
    }

    /// Returns the HTTP status of the answer, if it is the reason.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Answer(AnswerError::Status(status)) => Some(status.as_u16()),
            _ => None,
        }
    }

    /// Returns the code that the server closed with, if it is the reason.
    pub(crate) const fn code(&self) -> Option<u16> {
        match self {
            Self::Ended(loss) => Some(loss.code),
            _ => None,
        }
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionLoss {
    /// The close code; 1006 if no close frame came.
    pub(crate) code: u16,
    pub(crate) reason: String,
    /// Whether the reason is a message of the server that is invalid or larger than this client accepts.
    pub(crate) is_unreadable: bool,
}

impl ConnectionLoss {
    pub(crate) fn abnormal(reason: impl Into<String>) -> Self {
        Self { code: CloseCode::ABNORMAL.as_u16(), reason: reason.into(), is_unreadable: false }
    }
}

impl fmt::Display for ConnectionLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection was lost: {} {:?}", self.code, self.reason)
    }
}

/// An open connection.
pub(crate) struct Socket {
    stream: Box<dyn Transport>,
    decoder: Decoder,
    encoding: Encoding,
    /// Payloads of messages that were read and not taken.
    messages: VecDeque<Vec<u8>>,
    /// Whether bytes were read since the last call of [`take_has_read`](Self::take_has_read).
    has_read: bool,
    write_buffer: Vec<u8>,
    written: usize,
    /// Payload of the latest ping. Earlier ones need no answer (RFC 6455 §5.5.3).
    ping: Option<Vec<u8>>,
    end: Option<ConnectionLoss>,
    buffer: Box<[u8]>,
}

impl Socket {
    /// Makes one attempt.
    pub(crate) async fn open(options: SocketOptions) -> Result<Self, AttemptFailure> {
        let timeout = options.timeout;
        match tokio::time::timeout(timeout, Self::attempt(options)).await {
            Ok(result) => result,
            Err(_) => Err(AttemptFailure::Timeout),
        }
    }

    async fn attempt(options: SocketOptions) -> Result<Self, AttemptFailure> {
        let mut request = ClientRequest::new(&options.endpoint.authority, &options.endpoint.path)
            .protocol(options.encoding.subprotocol());
        if let Some(source) = options.token {
            let token = source().await.map_err(|error| AttemptFailure::Token(error.to_string()))?;
            request = request.protocol(&format!("{BEARER_PREFIX}{token}"));
        }
        if let Some(token) = options.resume {
            request = request.protocol(&format!("{RESUME_PREFIX}{token}"));
        }
        for (name, value) in options.headers {
            request = request.header(name, value);
        }
        if let Some(deflate) = &options.deflate {
            request = request.deflate(deflate);
        }
        let (bytes, mut answer) = request.start()?;
        let mut stream = options.connector.connect(options.endpoint).await?;
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        let mut buffer = vec![0; READ_BYTES].into_boxed_slice();
        let accepted = loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if let Some(accepted) = answer.push(&buffer[..read])? {
                break accepted;
            }
        };
        if accepted.protocol.as_deref() != Some(options.encoding.subprotocol()) {
            return Err(AttemptFailure::Protocol);
        }
        let limits = Limits { message: options.max_message, frame: options.max_message, ..Limits::default() };
        let mut decoder = Decoder::new(Role::Client, limits);
        if let Some(negotiated) = accepted.deflate {
            decoder = decoder.with_inflate(negotiated.inflate);
        }
        let mut socket = Self {
            stream,
            decoder,
            encoding: options.encoding,
            messages: VecDeque::new(),
            has_read: false,
            write_buffer: Vec::new(),
            written: 0,
            ping: None,
            end: None,
            buffer,
        };
        let mut rest = accepted.rest;
        socket.feed(&mut rest);
        Ok(socket)
    }

    pub(crate) const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Queues a message; it is written by [`poll`](Self::poll).
    pub(crate) fn send(&mut self, message: &Encoded, random: &mut Random) {
        logger::log_message(Direction::Sent, self.encoding(), &message.payload);
        encode_into(&mut self.write_buffer, message.opcode, &message.payload, Some(random.mask()));
    }

    /// Whether so little waits to be written that more may be queued. Everything else stays in the outbox,
    /// which is bounded.
    pub(crate) fn has_room(&self) -> bool {
        self.write_buffer.len() - self.written < MAX_WRITE_BYTES
    }

    /// Takes the next message that was read.
    pub(crate) fn message(&mut self) -> Option<Vec<u8>> {
        let payload = self.messages.pop_front()?;
        logger::log_message(Direction::Received, self.encoding(), &payload);
        Some(payload)
    }

    /// Whether bytes were read since the last call.
    pub(crate) fn take_has_read(&mut self) -> bool {
        std::mem::take(&mut self.has_read)
    }

    /// Returns how the connection ended, once every message before the end was taken.
    pub(crate) fn end(&self) -> Option<&ConnectionLoss> {
        self.end.as_ref().filter(|_| self.messages.is_empty())
    }

    /// Reads and writes. It is ready when there is a message, the end, or room to write again.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, random: &mut Random) -> Poll<()> {
        if !self.messages.is_empty() || self.end.is_some() {
            return Poll::Ready(());
        }
        // If the server does not read, the client stops reading: otherwise its answers would fill the buffer
        // without a bound.
        let read = if self.write_buffer.len() - self.written < READ_PAUSE_BYTES {
            self.poll_read(cx)
        } else {
            Poll::Pending
        };
        if let Some(payload) = self.ping.take() {
            encode_into(&mut self.write_buffer, OpCode::Pong, &payload, Some(random.mask()));
        }
        let had_room = self.has_room();
        let _ = self.poll_write(cx);
        let gained = !had_room && self.has_room();
        if read.is_ready() || gained || self.end.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Queues a close frame after everything that waits. [`poll`](Self::poll) or [`finish`](Self::finish)
    /// writes it.
    pub(crate) fn queue_close(&mut self, code: CloseCode, random: &mut Random) {
        encode_into(&mut self.write_buffer, OpCode::Close, &code.as_u16().to_be_bytes(), Some(random.mask()));
    }

    /// Writes what waits and waits for the peer to close, within `timeout`.
    pub(crate) async fn finish(mut self, timeout: Duration) {
        let written = async {
            self.stream.write_all(&self.write_buffer[self.written..]).await?;
            self.stream.flush().await?;
            // What the peer sends before its close frame or the end is not needed any more.
            while self.stream.read(&mut self.buffer).await? > 0 {}
            self.stream.shutdown().await
        };
        let _ = tokio::time::timeout(timeout, written).await;
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut read = ReadBuf::new(&mut buffer);
        let result = Pin::new(&mut *self.stream).poll_read(cx, &mut read);
        let filled = read.filled().len();
        if let Poll::Ready(result) = &result {
            match result {
                Ok(()) if filled > 0 => self.feed(&mut buffer[..filled]),
                Ok(()) => self.set_end(ConnectionLoss::abnormal("the stream ended")),
                Err(error) => self.set_end(ConnectionLoss::abnormal(error.to_string())),
            }
        }
        self.buffer = buffer;
        result.map(|_| ())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let written = ready!(self.poll_drain(cx));
        if let Err(error) = written {
            self.set_end(ConnectionLoss::abnormal(error.to_string()));
        }
        Poll::Ready(())
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.write_buffer.len() {
            let wrote =
                ready!(Pin::new(&mut *self.stream).poll_write(cx, &self.write_buffer[self.written..]))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += wrote;
            // Otherwise a stream that is always behind would keep what it has written. It moves no more bytes
            // than it frees.
            if self.written >= MAX_WRITE_BYTES.max(self.write_buffer.len() - self.written) {
                self.write_buffer.drain(..self.written);
                self.written = 0;
            }
        }
        self.write_buffer.clear();
        self.written = 0;
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn feed(&mut self, bytes: &mut [u8]) {
        self.has_read = true;
        let mut end = None;
        let mut events = self.decoder.feed(bytes);
        loop {
            match events.next() {
                Ok(None) => break,
                Ok(Some(Event::Text(text))) if self.encoding == Encoding::Json => {
                    self.messages.push_back(text.as_bytes().to_vec());
                }
                Ok(Some(Event::Binary(bytes))) if self.encoding == Encoding::MessagePack => {
                    self.messages.push_back(bytes.to_vec());
                }
                // Frames of the other kind belong to the application, which cannot read them with this
                // client.
                Ok(Some(Event::Text(_) | Event::Binary(_) | Event::Pong(_))) => {}
                Ok(Some(Event::Ping(payload))) => self.ping = Some(payload.to_vec()),
                Ok(Some(Event::Close(close))) => {
                    let (code, reason) = close.unwrap_or((CloseCode::NO_STATUS, ""));
                    end = Some(ConnectionLoss { code: code.as_u16(), ..ConnectionLoss::abnormal(reason) });
                }
                Err(error) => {
                    // The fault is that of the server or a proxy, so another connection may work.
                    let is_unreadable = error.close_code() == CloseCode::TOO_BIG;
                    end =
                        Some(ConnectionLoss { is_unreadable, ..ConnectionLoss::abnormal(error.to_string()) });
                    break;
                }
            }
        }
        if let Some(end) = end {
            self.set_end(end);
        }
    }

    fn set_end(&mut self, loss: ConnectionLoss) {
        self.end.get_or_insert(loss);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("encoding", &self.encoding)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// Bytes of one read.
const READ_BYTES: usize = 16 << 10;
/// Bytes that may wait for the socket before the outbox keeps the rest.
const MAX_WRITE_BYTES: usize = 64 << 10;
/// Bytes that may wait for the socket before reading pauses: more than all answers that may be open at once.
const READ_PAUSE_BYTES: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::io::AsyncRead as _;

    #[test]
    fn a_slow_stream_keeps_no_written_bytes() {
        let (near, mut far) = tokio::io::duplex(10_000);
        let mut socket = Socket {
            stream: Box::new(near),
            decoder: Decoder::new(Role::Client, Limits::default()),
            encoding: Encoding::Json,
            messages: VecDeque::new(),
            has_read: false,
            write_buffer: Vec::new(),
            written: 0,
            ping: None,
            end: None,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        };
        let mut random = Random::new(Some(7));
        let message = Encoded { opcode: OpCode::Text, payload: vec![b'x'; 8_000] };
        let mut context = Context::from_waker(Waker::noop());
        let (mut bytes, mut read) = ([0; 4_096], 0);
        for _ in 0..1_000 {
            while socket.has_room() {
                socket.send(&message, &mut random);
            }
            let _ = socket.poll(&mut context, &mut random);
            let mut buffer = ReadBuf::new(&mut bytes);
            let _ = Pin::new(&mut far).poll_read(&mut context, &mut buffer);
            read += buffer.filled().len();
        }
        assert!(read > 3_000_000, "{read}");
        assert!(
            socket.write_buffer.len() < 4 * MAX_WRITE_BYTES,
            "{} bytes are kept",
            socket.write_buffer.len()
        );
    }
}
