//! A client that reads as fast as it can, at a pace, or not at all, and keeps the tally of received messages.
//! It parses as little of a message as possible, so that it is cheaper than the server.

use crate::tally::Tally;
use anyhow::{Context, Result, bail};
use hauyna_websocket::handshake::ClientRequest;
use hauyna_websocket::{CloseCode, Decoder, Event, Limits, OpCode, Role, encode_into};
use memchr::memmem;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Arc<TcpStream>,
    shared: Arc<Shared>,
    pace: watch::Sender<Pace>,
    is_slow: bool,
}

/// How fast a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    Fast,
    /// This many bytes every 50 ms.
    Slow(usize),
    Stalled,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

/// What a client has received.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) tally: Tally,
    /// Number of bytes read since the socket was last empty.
    backlog: usize,
    /// Number of bytes read since the backlog was last that of a full socket; `None` if it never was.
    since_full: Option<usize>,
    /// Greatest backlog so far, in bytes.
    pub(crate) greatest_backlog: usize,
    /// Number of gaps that arrived while the backlog was too small for a full socket.
    pub(crate) needless_gaps: u64,
    pub(crate) answers: u64,
    awaited: Option<Awaited>,
    pub(crate) errors: Vec<String>,
    pub(crate) last_answer: String,
    pub(crate) end: Option<End>,
}

/// A source whose first expected number is known from the next answer.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    source: u64,
    count: u64,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: u16,
    /// Whether the socket was full, as far as the reader can tell.
    pub(crate) was_lagging: bool,
}

impl Client {
    /// Connects as a plain client (JSON, no session). A slow client has a small receive buffer.
    ///
    /// # Errors
    ///
    /// Returns an error if the server does not answer with 101.
    pub(crate) async fn connect(address: SocketAddr, user: &str, pace: Pace) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if pace != Pace::Fast {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
        }
        let stream = timeout(TIMEOUT, socket.connect(address)).await??;
        stream.set_nodelay(true)?;
        let request = ClientRequest::new(&address.to_string(), &format!("/?user={user}"));
        let (request, mut answer) = request.start()?;
        write(&stream, &request).await?;
        let mut buffer = [0; 4096];
        let accepted = loop {
            timeout(TIMEOUT, stream.readable()).await??;
            match stream.try_read(&mut buffer) {
                Ok(0) => bail!("the connection ended within the handshake"),
                Ok(read) => {
                    if let Some(accepted) = answer.push(&buffer[..read])? {
                        break accepted;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        };
        let (sender, receiver) = watch::channel(pace);
        let (socket, shared) = (Arc::new(stream), Arc::<Shared>::default());
        let limits = Limits { message: 64 << 20, frame: 64 << 20, ..Limits::default() };
        let decoder = Decoder::new(Role::Client, limits);
        let mut reader = Reader { socket: socket.clone(), shared: shared.clone(), decoder, pace: receiver };
        let mut rest = accepted.rest;
        reader.feed(&mut rest);
        tokio::spawn(reader.run());
        Ok(Self { socket, shared, pace: sender, is_slow: pace != Pace::Fast })
    }

    /// Calls `look` with the state, which it may change.
    pub(crate) fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.shared.state.lock())
    }

    /// Expects the numbers of a source after the offset in the next answer, up to `count`.
    pub(crate) fn expect_from_answer(&self, source: u64, count: u64) {
        self.state(|state| state.awaited = Some(Awaited { source, count }));
    }

    /// Whether the client was connected as a slow one.
    pub(crate) fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Makes the client read as fast as it can from now on.
    pub(crate) fn release(&self) {
        self.pace.send_replace(Pace::Fast);
    }

    /// Writes one text frame.
    ///
    /// # Errors
    ///
    /// Returns an error if the server accepts nothing for a long time, or the connection has ended.
    pub(crate) async fn send(&self, text: &str) -> Result<()> {
        self.send_frames(&frames([text.to_owned()])).await
    }

    /// Writes encoded frames, which [`frames`] returns.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`Client::send`].
    pub(crate) async fn send_frames(&self, frames: &[u8]) -> Result<()> {
        write(&self.socket, frames).await
    }

    /// Sends a request and waits for the next answer.
    ///
    /// # Errors
    ///
    /// Returns an error if the server refuses or does not answer.
    pub(crate) async fn request(&self, text: &str) -> Result<String> {
        let (answers, errors) = self.state(|state| (state.answers, state.errors.len()));
        self.send(text).await?;
        let answered = async {
            loop {
                let changed = self.shared.changed.notified();
                let seen = self.state(|state| match &state.end {
                    Some(end) => Some(Err(anyhow::anyhow!("{text}: closed with {}", end.code))),
                    None if state.errors.len() > errors => {
                        Some(Err(anyhow::anyhow!("{text}: {}", state.errors[errors])))
                    }
                    None if state.answers > answers => Some(Ok(state.last_answer.clone())),
                    None => None,
                });
                match seen {
                    Some(seen) => return seen,
                    None => changed.await,
                }
            }
        };
        timeout(TIMEOUT, answered).await.with_context(|| format!("{text}: no answer"))?
    }

    /// Subscribes to a channel.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`Client::request`].
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<String> {
        self.request(&format!("{{\"type\":\"subscribe_channel\",\"id\":1,\"channel\":\"{channel}\"}}")).await
    }
}

/// Returns client frames, one after the other.
pub(crate) fn frames(texts: impl IntoIterator<Item = String>) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        encode_into(&mut out, OpCode::Text, text.as_bytes(), Some([7, 1, 9, 3]));
    }
    out
}

async fn write(socket: &TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        timeout(TIMEOUT, socket.writable()).await.context("the server accepts nothing")??;
        match socket.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The task that reads.
struct Reader {
    socket: Arc<TcpStream>,
    shared: Arc<Shared>,
    decoder: Decoder,
    pace: watch::Receiver<Pace>,
}

impl Reader {
    async fn run(mut self) {
        let mut buffer = vec![0; BUFFER];
        loop {
            let Some(max) = self.await_turn().await else { return };
            if self.socket.readable().await.is_err() {
                return self.end(1006);
            }
            match self.socket.try_read(&mut buffer[..max]) {
                Ok(0) => return self.end(1006),
                Ok(read) => {
                    self.count(read);
                    self.feed(&mut buffer[..read]);
                    if read < max {
                        self.shared.state.lock().backlog = 0;
                    }
                    self.shared.changed.notify_waiters();
                    if self.shared.state.lock().end.is_some() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.shared.state.lock().backlog = 0;
                }
                Err(_) => return self.end(1006),
            }
        }
    }

    /// Waits until it may read, and returns how many bytes. `None` if the client was dropped.
    async fn await_turn(&mut self) -> Option<usize> {
        loop {
            let pace = *self.pace.borrow_and_update();
            match pace {
                Pace::Fast => return Some(BUFFER),
                Pace::Slow(bytes) => {
                    let turn = tokio::time::sleep_until(Instant::now() + TICK);
                    tokio::select! {
                        () = turn => return Some(bytes.min(BUFFER)),
                        changed = self.pace.changed() => changed.ok()?,
                    }
                }
                Pace::Stalled => self.pace.changed().await.ok()?,
            }
        }
    }

    fn count(&self, read: usize) {
        let mut state = self.shared.state.lock();
        state.backlog += read;
        state.greatest_backlog = state.greatest_backlog.max(state.backlog);
        state.since_full = match state.since_full {
            _ if state.backlog >= LAG => Some(0),
            since => since.map(|since| since + read),
        };
    }

    fn end(&self, code: u16) {
        let mut state = self.shared.state.lock();
        state.finish(code);
        drop(state);
        self.shared.changed.notify_waiters();
    }

    fn feed(&mut self, bytes: &mut [u8]) {
        let mut state = self.shared.state.lock();
        let mut events = self.decoder.feed(bytes);
        loop {
            match events.next() {
                Ok(None) => return,
                Ok(Some(Event::Text(text))) => state.take(text),
                Ok(Some(Event::Ping(payload))) => {
                    let mut pong = Vec::new();
                    encode_into(&mut pong, OpCode::Pong, payload, Some([1, 2, 3, 4]));
                    // If the socket accepts nothing, the client answers the next ping.
                    let _ = self.socket.try_write(&pong);
                }
                Ok(Some(Event::Close(close))) => {
                    state.finish(close.map_or(1005, |(code, _): (CloseCode, _)| code.as_u16()));
                }
                Ok(Some(_)) => {}
                Err(error) => {
                    state.errors.push(error.to_string());
                    state.finish(1002);
                    return;
                }
            }
        }
    }
}

impl State {
    /// Whether the socket was full when the server queued the current message. The content of the outbox at
    /// that time arrives before it.
    fn is_lagging(&self) -> bool {
        self.since_full.is_some_and(|since| since <= QUEUED)
    }

    fn finish(&mut self, code: u16) {
        let was_lagging = self.is_lagging();
        self.end.get_or_insert(End { code, was_lagging });
    }

    fn take(&mut self, text: &str) {
        let is = |kind: &str| text.strip_prefix("{\"type\":\"").is_some_and(|rest| rest.starts_with(kind));
        if is("gap\"") {
            self.tally.note_gap(number_after(text, "\"missed\":").unwrap_or(0));
            self.needless_gaps += u64::from(!self.is_lagging());
        } else if is("error\"") {
            if self.errors.len() < KEPT_ERRORS {
                self.errors.push(text.to_owned());
            }
        } else if is("presence_change\"") {
            self.take_update(text);
        } else if is("client_event\"") {
            if let Some((source, number)) = sequence(text) {
                self.tally.note_event(source, number);
            }
        } else if !is("presence_state\"") {
            if is("ack\"") || is("pong\"") {
                self.answers += 1;
                let offset = number_after(text, "\"offset\":");
                if let (Some(Awaited { source, count }), Some(offset)) = (self.awaited.take(), offset) {
                    self.tally.expect_after(source, offset, count);
                }
                text.clone_into(&mut self.last_answer);
            }
            if let Some((source, number)) = sequence(text) {
                self.tally.note(source, number);
            }
        }
    }

    /// Records a presence change. The same change arrives in every channel, and each channel is a sequence.
    fn take_update(&mut self, text: &str) {
        let room = number_after(text, "\"channel\":\"room:");
        if let (Some((source, number)), Some(room)) = (sequence(text), room) {
            self.tally.note(source + room, number);
        }
    }
}

/// Returns source and number of a message.
fn sequence(text: &str) -> Option<(u64, u64)> {
    let at = memmem::find(text.as_bytes(), SEQUENCE)? + SEQUENCE.len();
    let (source, rest) = text[at..].split_once(',')?;
    let (number, _) = rest.split_once(']')?;
    Some((source.parse().ok()?, number.parse().ok()?))
}

pub(crate) fn number_after(text: &str, label: &str) -> Option<u64> {
    let at = memmem::find(text.as_bytes(), label.as_bytes())? + label.len();
    let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
    text[at..at + digits].parse().ok()
}

/// Text before source and number in every content.
const SEQUENCE: &[u8] = b"\"seq\":[";
/// Maximum bytes of one read.
const BUFFER: usize = 64 * 1024;
/// Size of the kernel's receive buffer of a slow reader.
const SMALL_BUFFER: u32 = 8 * 1024;
/// Interval of a slow reader's reads.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// Number of unread bytes from which a reader lags. A full loopback socket holds several times as much (the
/// send buffer alone begins at 2.5 MB), so the socket of a reader with a smaller backlog was not full.
pub(crate) const LAG: usize = 512 * 1024;
/// Maximum bytes between a full socket and the gap or close that follows from it: an outbox, and one read.
const QUEUED: usize = 256 * 1024 + 2 * BUFFER;
const TIMEOUT: Duration = Duration::from_secs(30);
const KEPT_ERRORS: usize = 8;
