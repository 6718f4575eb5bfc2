//! A WebSocket client for tests. It reads only when a method waits for something, so an unused client does
//! not read. A wait that times out panics with what was awaited and what arrived instead, at the line of the
//! test that waits.

mod connect;
mod expect;
mod frame;
mod requests;
mod waits;

pub use connect::{Connect, Refused};
pub use frame::Frame;

use crate::located::Located;
use frame::Wire;
use hauyna_protocol::Encoding;
use hauyna_websocket::{Compression, FrameHead, OpCode};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use waits::check;

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
    ///
    /// # Panics
    ///
    /// Panics if it does not begin with `ws://`.
    #[track_caller]
    pub fn to(url: &str) -> Connect {
        Connect::new(url)
    }

    /// Connects as a plain client does.
    ///
    /// # Panics
    ///
    /// Panics as [`Connect::connect`] does.
    #[track_caller]
    pub fn connect(url: &str) -> impl Future<Output = Self> + Send + use<> {
        Self::to(url).connect()
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
    #[track_caller]
    pub fn send(&mut self, message: Value) -> impl Future<Output = ()> + Send {
        Located::new(async move {
            let (opcode, payload) = frame::encoded(self.encoding, &message);
            self.put_frame(FrameHead::of(opcode), &payload).await
        })
    }

    /// Sends a text frame with any content.
    #[track_caller]
    pub fn send_text(&mut self, text: &str) -> impl Future<Output = ()> + Send {
        Located::new(self.put_frame(FrameHead::of(OpCode::Text), text.as_bytes()))
    }

    /// Sends a binary frame.
    #[track_caller]
    pub fn send_binary(&mut self, bytes: &[u8]) -> impl Future<Output = ()> + Send {
        Located::new(self.put_frame(FrameHead::of(OpCode::Binary), bytes))
    }

    /// Sends a WebSocket ping.
    #[track_caller]
    pub fn ping(&mut self, payload: &[u8]) -> impl Future<Output = ()> + Send {
        Located::new(self.put_frame(FrameHead::of(OpCode::Ping), payload))
    }

    /// Sends a compressed message; the client must be connected with [`Connect::deflate`].
    ///
    /// # Panics
    ///
    /// Panics if compression was not negotiated.
    #[track_caller]
    pub fn send_deflated(&mut self, message: Value) -> impl Future<Output = ()> + Send {
        Located::new(async move {
            let (opcode, payload) = frame::encoded(self.encoding, &message);
            let deflated = self.wire.deflated(opcode, &payload)?;
            let head = FrameHead { compression: Compression::Deflated, ..FrameHead::of(opcode) };
            self.put_frame(head, &deflated).await
        })
    }

    /// Sends one frame with any head, and masks it.
    #[track_caller]
    pub fn send_frame(&mut self, head: FrameHead, payload: &[u8]) -> impl Future<Output = ()> + Send {
        Located::new(self.put_frame(head, payload))
    }

    /// Sends bytes unchanged.
    ///
    /// # Panics
    ///
    /// Panics if the socket does not accept them in time. A lost connection shows when the client reads.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) -> impl Future<Output = ()> + Send {
        Located::new(self.put(bytes))
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
    #[track_caller]
    pub fn request(&mut self, message: Value) -> impl Future<Output = Result<Value, Value>> + Send {
        Located::new(self.exchange(message))
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
    #[track_caller]
    pub fn answer(&mut self, id: &Value) -> impl Future<Output = Result<Value, Value>> + Send {
        Located::new(self.answer_to(id))
    }

    // Receiving.

    /// Waits for the next message of the protocol.
    ///
    /// # Panics
    ///
    /// Panics if none arrives in time, something else arrives, or the connection ends.
    #[expect(clippy::should_implement_trait, reason = "it waits, and no iterator does")]
    #[track_caller]
    pub fn next(&mut self) -> impl Future<Output = Value> + Send {
        Located::new(self.message("a message"))
    }

    /// Waits for the next message and checks its `type`.
    ///
    /// # Panics
    ///
    /// Panics as [`Client::next`] does, and if the message has another type.
    #[track_caller]
    pub fn expect(&mut self, kind: &str) -> impl Future<Output = Value> + Send {
        Located::new(self.expected(kind))
    }

    /// Waits for the next message of this `type` and drops others.
    ///
    /// # Panics
    ///
    /// Panics if none arrives in time.
    #[track_caller]
    pub fn wait_for(&mut self, kind: &str) -> impl Future<Output = Value> + Send {
        Located::new(async move {
            loop {
                let message = self.message(kind).await?;
                if message["type"] == kind {
                    return Ok(message);
                }
            }
        })
    }

    /// Waits for a text frame.
    ///
    /// # Panics
    ///
    /// Panics if none arrives in time, or something else arrives.
    #[track_caller]
    pub fn next_text(&mut self) -> impl Future<Output = String> + Send {
        Located::new(async move {
            match self.frame("a frame").await? {
                Frame::Text(text) => Ok(text),
                other => Err(format!("expected a text frame, got {other:?}")),
            }
        })
    }

    /// Waits for the next frame of any kind; [`Frame::End`] is the end of the stream.
    ///
    /// # Panics
    ///
    /// Panics if none arrives in time, or the server violates RFC 6455.
    #[track_caller]
    pub fn next_frame(&mut self) -> impl Future<Output = Frame> + Send {
        Located::new(self.frame("a frame"))
    }

    /// Checks that nothing but pings arrives before the server's answer to a `ping`.
    ///
    /// # Panics
    ///
    /// Panics if anything else arrives.
    #[track_caller]
    pub fn expect_nothing(&mut self) -> impl Future<Output = ()> + Send {
        Located::new(async move {
            let pong = self.exchange(json!({ "type": "ping" })).await?;
            check(pong.is_ok(), || format!("a ping was refused: {pong:?}"))?;
            check(self.early.is_empty(), || format!("expected nothing, got {:?}", self.early))
        })
    }

    /// Waits for the close frame and drops what arrives before it. Returns its code (1005 if it has none) and
    /// reason, or 1006 if the connection ends without a close frame.
    ///
    /// # Panics
    ///
    /// Panics if the connection does not end in time.
    #[track_caller]
    pub fn expect_close(&mut self) -> impl Future<Output = (u16, String)> + Send {
        Located::new(self.closed())
    }

    /// Waits for the end of the stream and drops what arrives before it.
    ///
    /// # Panics
    ///
    /// Panics if the connection does not end in time.
    #[track_caller]
    pub fn expect_end(&mut self) -> impl Future<Output = ()> + Send {
        Located::new(self.ended())
    }

    /// Closes properly: sends a close frame, waits for the server's answer and for the end of the stream.
    ///
    /// # Panics
    ///
    /// Panics if the server does not answer with the same code.
    #[track_caller]
    pub fn close(mut self, code: u16, reason: &str) -> impl Future<Output = ()> + Send {
        Located::new(async move {
            self.put_close(code, reason).await?;
            let (answer, _) = self.closed().await?;
            check(answer == code, || format!("the server answered the close frame {code} with {answer}"))?;
            self.ended().await
        })
    }

    /// Sends a close frame without waiting for the answer.
    #[track_caller]
    pub fn send_close(&mut self, code: u16, reason: &str) -> impl Future<Output = ()> + Send {
        Located::new(self.put_close(code, reason))
    }

    /// Drops the connection without a close frame: the kernel closes the socket.
    pub fn vanish(self) {}

    fn answers_pings(&self) -> bool {
        self.pongs == Pongs::Answer
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
