//! A WebSocket client for tests. It reads only when a method waits for something, so an unused client does
//! not read. A wait that times out panics with what was awaited and what arrived instead.

mod connect;
mod expect;
mod frame;
mod requests;

pub use connect::{Connect, Refused};
pub use frame::Frame;

use crate::clock::after;
use frame::Wire;
use hauyna_protocol::Encoding;
use hauyna_websocket::{CloseCode, Compression, FrameHead, OpCode};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// A byte stream that carries a client's connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connected WebSocket client.
///
/// It answers pings while it reads. Every wait has a timeout, 10 seconds unless [`Connect::timeout`] sets
/// another, and panics with what was awaited.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use hauyna::{Handler, Hub, json};
/// use hauyna_test::{Client, TestServer};
///
/// let server = TestServer::start(Hub::new(), Handler::new());
/// let mut client = Client::to(&server.url("/")).message_pack().connect().await;
/// let session = client.expect("session").await;
/// assert!(session["connection_id"].is_string());
///
/// let refused = client.request(json!({ "type": "nobody_knows_this" })).await.unwrap_err();
/// assert_eq!(refused["error_type"], "unknown_event");
///
/// server.hub().connections().all()[0].close(hauyna::CloseCode(4000), "enough");
/// assert_eq!(client.expect_close().await, (4000, "enough".to_owned()));
/// # }
/// ```
pub struct Client {
    wire: Wire,
    encoding: Encoding,
    protocol: Option<String>,
    headers: http::HeaderMap,
    local: Option<SocketAddr>,
    timeout: Duration,
    pongs: Pongs,
    next_id: u64,
    /// Messages that arrived while the client waited for another one.
    early: VecDeque<Value>,
}

/// Whether the client answers pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pongs {
    Answer,
    Withhold,
}

impl Client {
    /// Returns the options for a connection to `ws://host:port/path?query`.
    pub fn to(url: &str) -> Connect {
        Connect::new(url)
    }

    /// Connects as a plain client does.
    pub async fn connect(url: &str) -> Self {
        Self::to(url).connect().await
    }

    /// Returns the sub-protocol that the server chose.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Returns the headers of the server's answer to the handshake.
    #[must_use]
    pub fn headers(&self) -> &http::HeaderMap {
        &self.headers
    }

    /// Returns the client's local address, if the connection uses TCP.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.local
    }

    // Sending.

    /// Sends a message of the protocol.
    pub async fn send(&mut self, message: Value) {
        let (opcode, payload) = frame::encoded(self.encoding, &message);
        self.send_frame(FrameHead::of(opcode), &payload).await;
    }

    /// Sends a text frame with any content.
    pub async fn send_text(&mut self, text: &str) {
        self.send_frame(FrameHead::of(OpCode::Text), text.as_bytes()).await;
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.send_frame(FrameHead::of(OpCode::Binary), bytes).await;
    }

    /// Sends a WebSocket ping.
    pub async fn ping(&mut self, payload: &[u8]) {
        self.send_frame(FrameHead::of(OpCode::Ping), payload).await;
    }

    /// Sends a compressed message; the client must be connected with [`Connect::deflate`].
    ///
    /// # Panics
    ///
    /// Panics if compression was not negotiated.
    pub async fn send_deflated(&mut self, message: Value) {
        let (opcode, payload) = frame::encoded(self.encoding, &message);
        let deflated = self.wire.deflated(opcode, &payload);
        let head = FrameHead { compression: Compression::Deflated, ..FrameHead::of(opcode) };
        self.send_frame(head, &deflated).await;
    }

    /// Sends one frame with any head, and masks it.
    pub async fn send_frame(&mut self, head: FrameHead, payload: &[u8]) {
        let bytes = frame::masked(head, payload);
        self.send_raw(&bytes).await;
    }

    /// Sends bytes unchanged.
    ///
    /// # Panics
    ///
    /// Panics if the socket does not accept them in time. A lost connection shows when the client reads.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let sent = async {
            let _ = self.wire.stream.write_all(bytes).await;
            let _ = self.wire.stream.flush().await;
        };
        if tokio::time::timeout_at(after(self.timeout), sent).await.is_err() {
            panic!("the server did not take {} bytes in {:?}", bytes.len(), self.timeout);
        }
    }

    /// Sends a request with a new `id` and waits for its answer: the `data` of the `ack` (`null` if it has
    /// none), the `pong`, or the `error`. Keeps other messages for [`Client::next`].
    ///
    /// # Errors
    ///
    /// Returns the server's `error` message.
    ///
    /// # Panics
    ///
    /// Panics if no answer arrives in time.
    pub async fn request(&mut self, mut message: Value) -> Result<Value, Value> {
        self.next_id += 1;
        let id = json!(self.next_id);
        message["id"] = id.clone();
        self.send(message).await;
        self.answer(&id).await
    }

    /// Waits for the answer to the request that was sent with this `id`.
    ///
    /// # Errors
    ///
    /// Returns the server's `error` message.
    ///
    /// # Panics
    ///
    /// Panics if no answer arrives in time.
    pub async fn answer(&mut self, id: &Value) -> Result<Value, Value> {
        let is_answer = |message: &Value| {
            message["id"] == *id
                && ["ack", "pong", "error"].contains(&message["type"].as_str().unwrap_or_default())
        };
        let known = self.early.iter().position(&is_answer).and_then(|index| self.early.remove(index));
        let mut message = match known {
            Some(message) => message,
            None => loop {
                let message = self.receive(&format!("the answer to {id}")).await;
                if is_answer(&message) {
                    break message;
                }
                self.early.push_back(message);
            },
        };
        match message["type"].as_str() {
            Some("error") => Err(message),
            Some("pong") => Ok(message),
            _ => Ok(message["data"].take()),
        }
    }

    // Receiving.

    /// Waits for the next message of the protocol.
    ///
    /// # Panics
    ///
    /// Panics if none arrives in time, something else arrives, or the connection ends.
    pub async fn next(&mut self) -> Value {
        match self.early.pop_front() {
            Some(message) => message,
            None => self.receive("a message").await,
        }
    }

    /// Waits for the next message and checks its `type`.
    ///
    /// # Panics
    ///
    /// Panics as [`Client::next`] does, and if the message has another type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let message = match self.early.pop_front() {
            Some(message) => message,
            None => self.receive(kind).await,
        };
        assert_eq!(message["type"], kind, "expected `{kind}`, got {message}");
        message
    }

    /// Waits for the next message of this `type` and drops others.
    ///
    /// # Panics
    ///
    /// Panics if none arrives in time.
    pub async fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            let message = match self.early.pop_front() {
                Some(message) => message,
                None => self.receive(kind).await,
            };
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Waits for a text frame.
    ///
    /// # Panics
    ///
    /// Panics if none arrives in time, or something else arrives.
    pub async fn next_text(&mut self) -> String {
        match self.next_frame().await {
            Frame::Text(text) => text,
            other => panic!("expected a text frame, got {other:?}"),
        }
    }

    /// Waits for the next frame of any kind; [`Frame::End`] is the end of the stream.
    ///
    /// # Panics
    ///
    /// Panics if none arrives in time, or the server violates RFC 6455.
    pub async fn next_frame(&mut self) -> Frame {
        self.frame("a frame").await
    }

    /// Checks that nothing but pings arrives before the server's answer to a `ping`.
    ///
    /// # Panics
    ///
    /// Panics if anything else arrives.
    pub async fn expect_nothing(&mut self) {
        let pong = self.request(json!({ "type": "ping" })).await;
        assert!(pong.is_ok(), "a ping was refused: {pong:?}");
        assert!(self.early.is_empty(), "expected nothing, got {:?}", self.early);
    }

    /// Waits for the close frame and drops what arrives before it. Returns its code (1005 if it has none) and
    /// reason, or 1006 if the connection ends without a close frame.
    ///
    /// # Panics
    ///
    /// Panics if the connection does not end in time.
    pub async fn expect_close(&mut self) -> (u16, String) {
        loop {
            match self.frame("the close frame").await {
                Frame::Close(None) => return (1005, String::new()),
                Frame::Close(Some(close)) => return close,
                Frame::End => return (1006, String::new()),
                _ => {}
            }
        }
    }

    /// Waits for the end of the stream and drops what arrives before it.
    ///
    /// # Panics
    ///
    /// Panics if the connection does not end in time.
    pub async fn expect_end(&mut self) {
        while self.frame("the end of the stream").await != Frame::End {}
    }

    /// Closes properly: sends a close frame, waits for the server's answer and for the end of the stream.
    ///
    /// # Panics
    ///
    /// Panics if the server does not answer with the same code.
    pub async fn close(mut self, code: u16, reason: &str) {
        self.send_close(code, reason).await;
        assert_eq!(self.expect_close().await.0, code, "the server's answer to the close frame");
        self.expect_end().await;
    }

    /// Sends a close frame without waiting for the answer.
    pub async fn send_close(&mut self, code: u16, reason: &str) {
        let mut payload = CloseCode::new(code).as_u16().to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        self.send_frame(FrameHead::of(OpCode::Close), &payload).await;
    }

    /// Drops the connection without a close frame: the kernel closes the socket.
    pub fn vanish(self) {}

    async fn receive(&mut self, awaited: &str) -> Value {
        match self.frame(awaited).await {
            Frame::Text(text) if self.encoding == Encoding::Json => serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("the server sent invalid JSON ({error}): {text}")),
            Frame::Binary(bytes) if self.encoding == Encoding::MessagePack => frame::unpacked(&bytes),
            other => panic!("while waiting for {awaited}: got {other:?}"),
        }
    }

    /// Waits for the next frame that is not a ping, and answers pings.
    async fn frame(&mut self, awaited: &str) -> Frame {
        let frame = self.within(self.timeout).await;
        frame.unwrap_or_else(|| panic!("{awaited} did not arrive within {:?}", self.timeout))
    }

    fn answers_pings(&self) -> bool {
        self.pongs == Pongs::Answer
    }

    async fn pong(&mut self, payload: &[u8]) {
        self.send_frame(FrameHead::of(OpCode::Pong), payload).await;
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("encoding", &self.encoding)
            .field("local", &self.local)
            .field("early", &self.early)
            .finish_non_exhaustive()
    }
}
