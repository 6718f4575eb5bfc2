//! A scripted server over pipes in memory, with real handshakes and frames. Everything runs in the runtime of
//! the test, so its clock may be paused.

use hauyna_client::{Builder, Channel, Client, Endpoint, Publication, Stream};
use hauyna_websocket::handshake::{HeadReader, check};
use hauyna_websocket::{CloseCode, Decoder, Event, Limits, OpCode, Role, close_frame, encode};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

/// The server of a test, which accepts the attempts of clients.
pub(crate) struct Script {
    attempts: mpsc::Receiver<DuplexStream>,
}

/// One connection, on the side of the server.
pub(crate) struct Peer {
    stream: DuplexStream,
    decoder: Decoder,
    messages: VecDeque<Value>,
    pub(crate) protocols: Vec<String>,
    closed: bool,
    /// Code of the close frame that the client sent.
    pub(crate) closed_with: Option<u16>,
}

/// Returns a script, and a builder of clients that connect to it.
pub(crate) fn script() -> (Script, Builder) {
    script_of("ws://script.test/chat")
}

/// Like [`script`], with a URL.
pub(crate) fn script_of(url: &str) -> (Script, Builder) {
    let (dial, attempts) = mpsc::channel(16);
    let connector = move |_: Endpoint| {
        let dial = dial.clone();
        async move {
            let (near, far) = tokio::io::duplex(1 << 16);
            dial.send(far).await.map_err(|_| std::io::Error::other("the script is over"))?;
            Ok(near)
        }
    };
    (Script { attempts }, Client::builder(url).connector(connector).seed(7))
}

impl Script {
    /// Accepts the next attempt, with its handshake.
    pub(crate) async fn accept(&mut self) -> Peer {
        let stream = self.raw().await;
        self.shake(stream).await.expect("a handshake")
    }

    /// Takes an attempt, if the client has made one.
    pub(crate) fn attempt(&mut self) -> Option<DuplexStream> {
        self.attempts.try_recv().ok()
    }

    /// Does the handshake; `None` if the client has gone.
    pub(crate) async fn shake(&self, mut stream: DuplexStream) -> Option<Peer> {
        let mut head = HeadReader::new();
        let mut buffer = [0; 4096];
        let request = loop {
            let read = stream.read(&mut buffer).await.unwrap();
            if read == 0 {
                return None;
            }
            if let Some(head) = head.push(&buffer[..read]).unwrap() {
                break head.request;
            }
        };
        let upgrade = check(&request.into_parts().0).unwrap();
        let protocols: Vec<_> = upgrade.protocols().map(str::to_owned).collect();
        let mut answer = Vec::new();
        upgrade.write_response(Some(&protocols[0]), None, &mut answer);
        stream.write_all(&answer).await.ok()?;
        let decoder = Decoder::new(Role::Server, Limits::default());
        Some(Peer { stream, decoder, messages: VecDeque::new(), protocols, closed: false, closed_with: None })
    }

    /// Takes the next attempt without a handshake.
    pub(crate) async fn raw(&mut self) -> DuplexStream {
        self.attempts.recv().await.expect("an attempt")
    }

    /// Whether no client tries to connect for this time.
    pub(crate) async fn is_idle(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.attempts.recv()).await.is_err()
    }

    /// Accepts the next attempt, and starts a session that can be resumed with `token`.
    pub(crate) async fn greet(&mut self, token: &str) -> Peer {
        let mut peer = self.accept().await;
        peer.send(session(token)).await;
        peer
    }
}

impl Peer {
    pub(crate) async fn send(&mut self, message: Value) {
        self.stream.write_all(&encode(OpCode::Text, message.to_string().as_bytes())).await.unwrap();
    }

    pub(crate) async fn close(&mut self, code: u16) {
        self.stream.write_all(&close_frame(CloseCode::new(code), "")).await.unwrap();
    }

    /// Waits for the next message of the client; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Some(message);
            }
            let read = if self.closed { 0 } else { self.stream.read(&mut buffer).await.unwrap_or(0) };
            if read == 0 {
                return None;
            }
            let mut events = self.decoder.feed(&mut buffer[..read]);
            while let Some(event) = events.next().unwrap() {
                match event {
                    Event::Text(text) => self.messages.push_back(serde_json::from_str(text).unwrap()),
                    Event::Close(close) => {
                        self.closed = true;
                        self.closed_with = close.map(|(code, _)| code.as_u16());
                    }
                    _ => {}
                }
            }
        }
    }

    /// Returns the next message, if it has come.
    pub(crate) fn poll(&mut self) -> Option<Value> {
        let polled = {
            let next = std::pin::pin!(self.next());
            next.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
        };
        self.closed |= matches!(polled, std::task::Poll::Ready(None));
        match polled {
            std::task::Poll::Ready(message) => message,
            std::task::Poll::Pending => None,
        }
    }

    /// Whether the client has closed the connection or has gone.
    pub(crate) const fn is_over(&self) -> bool {
        self.closed
    }

    /// Sends, unless the client has gone.
    pub(crate) async fn try_send(&mut self, message: &Value) {
        let _ = self.stream.write_all(&encode(OpCode::Text, message.to_string().as_bytes())).await;
    }

    /// Closes, unless the client has gone.
    pub(crate) async fn try_close(&mut self, code: u16) {
        let _ = self.stream.write_all(&close_frame(CloseCode::new(code), "")).await;
    }

    /// Ends the connection without a close frame, after what was sent.
    pub(crate) fn cut(&mut self) {
        self.stream = tokio::io::duplex(1).0;
    }

    /// Waits for the next message, and checks its type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let message =
            self.next().await.unwrap_or_else(|| panic!("the client went, but `{kind}` was expected"));
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// Answers a request.
    pub(crate) async fn ack(&mut self, request: &Value, data: Value) {
        self.send(json!({ "type": "ack", "id": request["id"], "data": data })).await;
    }

    /// Answers the subscription to a channel whose last offset is `offset`.
    pub(crate) async fn subscribe(&mut self, channel: &str, offset: u64) {
        let request = self.expect("subscribe_channel").await;
        assert_eq!(request["channel"], channel);
        self.ack(
            &request,
            json!({ "channel": channel, "epoch": EPOCH, "offset": offset, "recoverable": true }),
        )
        .await;
    }

    /// Refuses a request for the history with this reason.
    pub(crate) async fn refuse_history(&mut self, request: &Value, reason: &str) {
        self.send(json!({ "type": "error", "error_type": "validation_error", "message": "", "timestamp": 1,
            "id": request["id"], "temporary": false, "details": { "path": "since", "reason": reason } }))
            .await;
    }

    pub(crate) async fn publication(&mut self, channel: &str, offset: u64) {
        let message = publication(channel, offset);
        self.send(message).await;
    }
}

pub(crate) fn publication(channel: &str, offset: u64) -> Value {
    json!({ "type": "message", "channel": channel, "content": offset, "timestamp": 1, "offset": offset })
}

pub(crate) fn session(token: &str) -> Value {
    json!({ "type": "session", "connection_id": format!("c-{token}"), "user": "ana", "resumed": false,
        "resume": { "token": token, "window": 60_000 }, "heartbeat": { "interval": 25_000, "timeout": 60_000 } })
}

/// Returns a client that has subscribed to `a` at an offset, and the server's side of its connection.
pub(crate) async fn subscribed(offset: u64) -> Subscribed {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let messages = room.messages();
    let mut peer = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), peer.subscribe("a", offset));
    subscribed.unwrap().keep();
    Subscribed { script, peer, client, room, messages }
}

pub(crate) struct Subscribed {
    pub(crate) script: Script,
    pub(crate) peer: Peer,
    pub(crate) client: Client,
    pub(crate) room: Channel<u64>,
    pub(crate) messages: Stream<Publication<u64>>,
}

pub(crate) const EPOCH: &str = "ASNFZ4mrze8";
pub(crate) const NEXT_EPOCH: &str = "AAAAAAAAAAE";
