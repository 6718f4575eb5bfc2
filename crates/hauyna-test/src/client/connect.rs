//! How a test client connects: the options of the handshake, the socket, and the answer of a server that
//! refuses.

use super::frame::{self, Wire};
use super::waits::check;
use super::{Client, Pongs, Stream};
use crate::clock::after;
use crate::located::{Checked, Located};
use crate::memory::MemoryConnector;
use hauyna_protocol::Encoding;
use hauyna_websocket::handshake::{AnswerError, ClientRequest};
use hauyna_websocket::{Decoder, Deflate, DeflateConfig, FrameHead, Limits, Role};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// Options of a connection, from [`Client::to`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use hauyna::{Handler, Hub, Reject};
/// use hauyna_test::TestServer;
///
/// let handler = Handler::new()
///     .identify(|request| request.query("name").ok_or(Reject::unauthorized("a name is required")));
/// let server = TestServer::start(Hub::new(), handler);
/// let refused = server.client("/").try_connect().await.unwrap_err();
/// assert_eq!((refused.status.as_u16(), refused.json()["error_type"].as_str()), (401, Some("unauthorized")));
///
/// let mut client = server.client("/?name=ada").json().header("x-request-id", "7").connect().await;
/// assert_eq!(client.expect("session").await["user"], "ada");
/// # }
/// ```
#[must_use = "nothing is connected before `connect`"]
pub struct Connect {
    host: String,
    path: String,
    request: ClientRequest,
    encoding: Encoding,
    deflate: Option<Deflate>,
    timeout: Duration,
    pongs: Pongs,
    receive_buffer: Option<usize>,
    source: Option<IpAddr>,
    first: Vec<u8>,
    memory: Option<MemoryConnector>,
}

/// A server's answer that refuses the handshake.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Refused {
    /// Status code.
    pub status: StatusCode,
    /// Head of the answer, as text.
    pub head: String,
    /// Body of the answer.
    pub body: String,
}

impl Refused {
    /// Returns the body as JSON.
    ///
    /// # Panics
    ///
    /// Panics if it is invalid.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("the body is not JSON ({error}): {}", self.body),
        }
    }
}

impl Connect {
    #[track_caller]
    pub(super) fn new(url: &str) -> Self {
        let Some(rest) = url.strip_prefix("ws://") else { panic!("`{url}` does not begin with ws://") };
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        Self {
            host: host.to_owned(),
            path: path.to_owned(),
            request: ClientRequest::new(host, path),
            encoding: Encoding::Json,
            deflate: None,
            timeout: DEFAULT_TIMEOUT,
            pongs: Pongs::Answer,
            receive_buffer: None,
            source: None,
            first: Vec::new(),
            memory: None,
        }
    }

    /// Offers `hauyna.v1.json`.
    pub fn json(self) -> Self {
        self.protocol(hauyna_protocol::SUBPROTOCOL_JSON)
    }

    /// Offers `hauyna.v1.msgpack` and sends MessagePack.
    pub fn message_pack(mut self) -> Self {
        self.encoding = Encoding::MessagePack;
        self.protocol(hauyna_protocol::SUBPROTOCOL_MESSAGE_PACK)
    }

    /// Offers the sub-protocol of an encoding and uses it.
    pub fn encoding(self, encoding: Encoding) -> Self {
        match encoding {
            Encoding::Json => self.json(),
            Encoding::MessagePack => self.message_pack(),
        }
    }

    /// Offers another sub-protocol, after those offered before.
    pub fn protocol(mut self, protocol: &str) -> Self {
        self.request = self.request.protocol(protocol);
        self
    }

    /// Adds a header to the handshake.
    ///
    /// # Panics
    ///
    /// Panics if it is invalid.
    #[track_caller]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header name");
        self.request = self.request.header(name, HeaderValue::from_str(value).expect("a header value"));
        self
    }

    /// Offers permessage-deflate.
    pub fn deflate(self) -> Self {
        self.deflate_with(DeflateConfig { threshold: 0, ..DeflateConfig::default() })
    }

    /// Offers permessage-deflate with these options.
    pub fn deflate_with(mut self, config: DeflateConfig) -> Self {
        let deflate = Deflate::new(config);
        self.request = self.request.deflate(&deflate);
        self.deflate = Some(deflate);
        self
    }

    /// Sets the maximum length of every wait. Default: 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Leaves pings unanswered and returns them as frames.
    pub fn without_pongs(mut self) -> Self {
        self.pongs = Pongs::Withhold;
        self
    }

    /// Asks the kernel for a receive buffer of about this many bytes, so that the server soon cannot write to
    /// a client that does not read.
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Connects from this local address; all of 127.0.0.0/8 is local.
    pub fn source(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Sends a message in the same segment as the handshake, after those added before.
    pub fn first(mut self, message: &Value) -> Self {
        let (opcode, payload) = frame::encoded(self.encoding, message);
        self.first.extend_from_slice(&frame::masked(FrameHead::of(opcode), &payload));
        self
    }

    /// Connects in memory instead of over TCP.
    pub(crate) fn through(mut self, memory: MemoryConnector) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Connects.
    ///
    /// # Panics
    ///
    /// Panics if the server refuses or cannot be reached.
    #[track_caller]
    pub fn connect(self) -> impl Future<Output = Client> + Send {
        Located::new(async move {
            let url = format!("ws://{}{}", self.host, self.path);
            self.attempt().await?.map_err(|refused| format!("{url} was refused: {refused:?}"))
        })
    }

    /// Connects, or returns the server's refusal.
    ///
    /// # Errors
    ///
    /// Returns the server's answer if it is not 101.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached, or does not answer in time.
    #[track_caller]
    pub fn try_connect(self) -> impl Future<Output = Result<Client, Refused>> + Send {
        Located::new(self.attempt())
    }

    async fn attempt(self) -> Checked<Result<Client, Refused>> {
        if let Some(memory) = &self.memory {
            let stream = memory.open(self.receive_buffer);
            return self.attempt_over(Box::new(stream)).await;
        }
        let stream = self.dial().await?;
        let local = stream.local_addr().ok();
        let client = self.attempt_over(Box::new(stream)).await?;
        Ok(client.map(|client| Client { local, ..client }))
    }

    async fn dial(&self) -> Checked<TcpStream> {
        let address = lookup_host(&self.host).await.ok().and_then(|mut found| found.next());
        let address = address.ok_or_else(|| format!("`{}` has no address", self.host))?;
        let socket = self.socket(address).map_err(|error| format!("no socket for {address}: {error}"))?;
        match tokio::time::timeout_at(after(self.timeout), socket.connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true); // an error means it is closed
                Ok(stream)
            }
            Ok(Err(error)) => Err(format!("cannot connect to {address}: {error}")),
            Err(_) => Err(format!("cannot connect to {address} within {:?}", self.timeout)),
        }
    }

    fn socket(&self, address: SocketAddr) -> std::io::Result<TcpSocket> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(source) = self.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.set_nonblocking(true)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }

    /// Connects over an existing stream, such as one in memory or with TLS.
    ///
    /// # Errors
    ///
    /// Returns the server's answer if it is not 101.
    ///
    /// # Panics
    ///
    /// Panics if the server does not answer in time.
    #[track_caller]
    pub fn over(
        self,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    ) -> impl Future<Output = Result<Client, Refused>> + Send {
        Located::new(self.attempt_over(Box::new(stream)))
    }

    async fn attempt_over(self, stream: Box<dyn Stream>) -> Checked<Result<Client, Refused>> {
        let timeout = self.timeout;
        match tokio::time::timeout_at(after(timeout), self.shake_hands(stream)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer to the handshake within {timeout:?}")),
        }
    }

    async fn shake_hands(self, mut stream: Box<dyn Stream>) -> Checked<Result<Client, Refused>> {
        let request = self.request.start();
        let (mut request, mut answer) =
            request.map_err(|error| format!("a request that cannot be sent: {error}"))?;
        request.extend_from_slice(&self.first);
        let not_taken = |error| format!("the server does not take the handshake: {error}");
        stream.write_all(&request).await.map_err(not_taken)?;
        stream.flush().await.map_err(not_taken)?;
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
        let accepted = loop {
            let read = stream.read(&mut buffer).await;
            let read = read.map_err(|error| format!("no answer to the handshake: {error}"))?;
            check(read > 0, || "the connection ended within the handshake".to_owned())?;
            seen.extend_from_slice(&buffer[..read]);
            match answer.push(&buffer[..read]) {
                Ok(None) => {}
                Ok(Some(accepted)) => break accepted,
                Err(AnswerError::Status(status)) => return Ok(Err(refusal(stream, seen, status).await)),
                Err(error) => return Err(format!("{error}: {}", String::from_utf8_lossy(&seen))),
            }
        };
        let limits = Limits { message: 64 << 20, frame: 64 << 20, ..Limits::default() };
        let mut decoder = Decoder::new(Role::Client, limits);
        let is_deflated = accepted.deflate.is_some();
        if let Some(negotiated) = accepted.deflate {
            decoder = decoder.with_inflate(negotiated.inflate);
        }
        let deflate = self.deflate.filter(|_| is_deflated);
        let mut wire = Wire { stream, decoder, deflate, frames: VecDeque::new() };
        let mut early = accepted.rest;
        wire.feed(&mut early)?;
        Ok(Ok(Client {
            wire,
            encoding: self.encoding,
            protocol: accepted.protocol,
            headers: accepted.headers,
            local: None,
            timeout: self.timeout,
            pongs: self.pongs,
            next_id: 0,
            early: VecDeque::new(),
        }))
    }
}

/// Reads the rest of an answer, whose body ends at its content length or at the end of the stream.
async fn refusal(mut stream: Box<dyn Stream>, mut seen: Vec<u8>, status: StatusCode) -> Refused {
    let split = |seen: &[u8]| seen.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        let body = split(&seen).unwrap_or(text.len()).min(text.len());
        let (head, body) = text.split_at(body);
        if length(head).is_some_and(|length| body.len() >= length) {
            return Refused { status, head: head.to_owned(), body: body.to_owned() };
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return Refused { status, head: head.to_owned(), body: body.to_owned() },
            Ok(read) => seen.extend_from_slice(&buffer[..read]),
        }
    }
}

fn length(head: &str) -> Option<usize> {
    let line = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().to_owned())
    });
    line?.parse().ok()
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("host", &self.host).field("path", &self.path).finish_non_exhaustive()
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
