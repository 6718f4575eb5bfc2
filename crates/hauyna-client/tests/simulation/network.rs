//! The network between a client and the server: a simulated TCP stream that is sliced, and cut at a random
//! moment, with or without notice to the server. It also inserts the order to move that a draining node
//! sends.

use crate::plan::Random;
use hauyna_client::Endpoint;
use hauyna_websocket::{OpCode, encode};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use turmoil::net::TcpStream;

/// The state that the connections of one client share.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) random: Arc<Mutex<Random>>,
    pub(crate) cut_after: Option<Duration>,
    pub(crate) is_calm: Arc<AtomicBool>,
    /// Streams that the client has dropped without notice to the server.
    half_open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Network {
    pub(crate) fn new(seed: u64, cut_after: Option<Duration>, is_calm: Arc<AtomicBool>) -> Self {
        Self { random: Arc::new(Mutex::new(Random(seed))), cut_after, is_calm, half_open: Arc::default() }
    }

    pub(crate) async fn connect(self, endpoint: Endpoint) -> io::Result<FaultyStream> {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        let is_calm = self.is_calm.load(Ordering::Relaxed);
        let limit = self.cut_after.filter(|_| !is_calm);
        let mut random = self.random.lock().unwrap();
        let end = limit.map(|most| {
            Box::pin(tokio::time::sleep_until(Instant::now() + random.between(1, most.as_millis() as u64)))
        });
        let (is_silent, is_sliced) = (random.chance(40), random.chance(30));
        let order = (!is_calm && random.chance(50)).then(|| Order::after(2 + random.below(12)));
        drop(random);
        Ok(FaultyStream {
            stream: Some(stream),
            end,
            is_silent,
            is_sliced,
            order,
            read: VecDeque::new(),
            network: self,
        })
    }
}

pub(crate) struct FaultyStream {
    stream: Option<TcpStream>,
    end: Option<Pin<Box<Sleep>>>,
    is_silent: bool,
    is_sliced: bool,
    /// The order to move that is inserted into what the server sends. It is not inserted in the calm, because
    /// a client that moves then may miss what no history keeps.
    order: Option<Order>,
    /// Bytes that the client has not read yet.
    read: VecDeque<u8>,
    network: Network,
}

impl FaultyStream {
    /// Returns the stream, unless it was cut.
    fn live(&mut self, cx: &mut Context<'_>) -> io::Result<&mut TcpStream> {
        let is_calm = self.network.is_calm.load(Ordering::Relaxed);
        if !is_calm && self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            self.end = None;
            let gone = self.stream.take();
            if self.is_silent {
                self.network.half_open.lock().unwrap().extend(gone);
            }
        }
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }

    fn slice(&self) -> usize {
        if self.is_sliced { 1 + self.network.random.lock().unwrap().below(40) as usize } else { usize::MAX }
    }
}

/// Finds the end of a frame of the server, after which another one can be inserted.
struct Order {
    frames: u64,
    at: At,
}

enum At {
    /// In the answer to the handshake, this many bytes into its end.
    Handshake(usize),
    Head(Vec<u8>),
    Payload(usize),
}

impl Order {
    fn after(frames: u64) -> Self {
        Self { frames, at: At::Handshake(0) }
    }

    fn is_due_after(&mut self, byte: u8) -> bool {
        match &mut self.at {
            At::Handshake(matched) => {
                *matched =
                    if byte == b"\r\n\r\n"[*matched] { *matched + 1 } else { usize::from(byte == b'\r') };
                if *matched == 4 {
                    self.at = At::Head(Vec::new());
                }
                false
            }
            At::Head(head) => {
                head.push(byte);
                let payload = match head.as_slice() {
                    [_, short] if *short < 126 => usize::from(*short),
                    [_, 126, high, low] => usize::from(u16::from_be_bytes([*high, *low])),
                    [_, 127, length @ ..] if length.len() == 8 => {
                        u64::from_be_bytes(length.try_into().expect("eight")) as usize
                    }
                    _ => return false,
                };
                self.at = At::Payload(payload);
                self.is_end()
            }
            At::Payload(left) => {
                *left -= 1;
                self.is_end()
            }
        }
    }

    fn is_end(&mut self) -> bool {
        if !matches!(self.at, At::Payload(0)) {
            return false;
        }
        self.at = At::Head(Vec::new());
        self.frames = self.frames.saturating_sub(1);
        self.frames == 0
    }
}

/// The message of a draining node.
const RECONNECT: &[u8] = br#"{"type":"reconnect","after":[0,20],"reason":"drain"}"#;

impl AsyncRead for FaultyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = self.slice().min(buffer.remaining());
        let mut some = vec![0; most];
        let mut part = ReadBuf::new(&mut some);
        if self.read.is_empty() {
            ready!(Pin::new(self.live(cx)?).poll_read(cx, &mut part))?;
            if self.network.is_calm.load(Ordering::Relaxed) {
                self.order = None;
            }
            for byte in part.filled() {
                self.read.push_back(*byte);
                if let Some(order) = &mut self.order
                    && order.is_due_after(*byte)
                {
                    self.order = None;
                    self.read.extend(encode(OpCode::Text, RECONNECT));
                }
            }
        }
        let taken = most.min(self.read.len());
        for byte in self.read.drain(..taken) {
            buffer.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.slice().min(bytes.len());
        Pin::new(self.live(cx)?).poll_write(cx, &bytes[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.live(cx)?).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.live(cx)?).poll_shutdown(cx)
    }
}
