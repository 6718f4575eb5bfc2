//! The sockets of the task: the current one, the former one that a move has replaced, and the next
//! one. They know the state of the connection: backoff, liveness, size limit.

use crate::backoff::Backoff;
use crate::builder::Options;
use crate::client::TokenSource;
use crate::codec::{self, Encoded};
use crate::connector::{Connector, Endpoint};
use crate::liveness::{Liveness, LivenessCheck};
use crate::logger::FailureLog;
use crate::random::Random;
use crate::socket::{AttemptFailure, ConnectionLoss, Socket, SocketOptions};
use hauyna_protocol::received::{Drain, Session};
use hauyna_protocol::{Encoding, Position, Request, RetryTerms};
use hauyna_websocket::CloseCode;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The address and the network that a client connects by.
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) connector: Arc<dyn Connector>,
}

/// The sockets of one client, and the state of its connection.
pub(super) struct Sockets {
    target: Target,
    /// Source of masks, delays and the moments of moves.
    random: Random,
    pub(super) backoff: Backoff,
    pub(super) failure_log: FailureLog,
    current: Option<Socket>,
    /// The socket that a move has replaced. It stays until the server closes it or its deadline passes.
    former: Option<FormerSocket>,
    pub(super) next: NextSocket,
    /// Liveness of the current connection; `None` without one.
    liveness: Option<Liveness>,
    /// Number of the current connection. An answer is never sent on another connection than its request came
    /// in on.
    pub(super) generation: u64,
    /// Size limit of the server for one message, in bytes.
    pub(super) max_message: usize,
    /// Whether the attempt under way shows the token of the session.
    pub(super) is_resuming: bool,
    /// Bytes of the `resume` request on the socket whose session is awaited.
    next_resume: Option<usize>,
    /// Bytes of the `resume` request on the current socket, if its server may have answered without reading
    /// it.
    pub(super) unread_resume: Option<usize>,
    /// Whether an unreadable message ended the last connection.
    was_unreadable: bool,
}

/// The stages of the next connection.
pub(super) enum NextSocket {
    /// No attempt is planned.
    Idle,
    /// The application has said that there is no network.
    Offline,
    /// An attempt is planned for this moment.
    At(Instant),
    /// An attempt is under way.
    Opening(Pin<Box<dyn Future<Output = Result<Socket, AttemptFailure>> + Send>>),
    /// The socket is open. It takes over when the current one has answered everything, at this moment at the
    /// latest.
    Opened(Socket, Instant),
    /// The socket is open, and its `session` message is awaited until this moment.
    Greeting(Socket, Instant),
}

/// The socket that a move has replaced.
struct FormerSocket {
    socket: Socket,
    /// The moment at which it is dropped.
    until: Instant,
    /// Whether its messages are read. They are if the session was resumed; otherwise the new connection
    /// receives the same messages.
    is_read: bool,
}

impl Sockets {
    pub(super) fn new(target: Target, retry: Option<RetryTerms>, random: Random) -> Self {
        let failure_log = FailureLog::new(&target.endpoint);
        Self {
            target,
            random,
            backoff: Backoff::new(retry),
            failure_log,
            current: None,
            former: None,
            next: NextSocket::Idle,
            liveness: None,
            generation: 0,
            max_message: usize::MAX,
            is_resuming: false,
            next_resume: None,
            unread_resume: None,
            was_unreadable: false,
        }
    }

    pub(super) const fn is_connected(&self) -> bool {
        self.current.is_some()
    }

    /// Whether the current socket takes more; `false` without one.
    pub(super) fn has_room(&self) -> bool {
        self.current.as_ref().is_some_and(Socket::has_room)
    }

    /// Whether another socket is about to replace the current one: new requests wait for it.
    pub(super) const fn is_moving(&self) -> bool {
        matches!(self.next, NextSocket::Opened(..) | NextSocket::Greeting(..))
    }

    pub(super) fn poll_current(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        poll_socket(self.current.as_mut(), cx, &mut self.random)
    }

    pub(super) fn poll_former(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        poll_socket(self.former.as_mut().map(|former| &mut former.socket), cx, &mut self.random)
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<NextSocketEvent> {
        match &mut self.next {
            NextSocket::Greeting(socket, _) => {
                socket.poll(cx, &mut self.random).map(|()| NextSocketEvent::Readable)
            }
            NextSocket::Opening(attempt) => {
                // The attempt runs the application's token source and connector: a panic of theirs fails it.
                let polled = catch_unwind(AssertUnwindSafe(|| attempt.as_mut().poll(cx)));
                polled
                    .unwrap_or(Poll::Ready(Err(AttemptFailure::Panic)))
                    .map(|opened| NextSocketEvent::Opened(opened.map(Box::new)))
            }
            _ => Poll::Pending,
        }
    }

    /// Queues a message on the current socket, if there is one.
    pub(super) fn send(&mut self, message: &Encoded) {
        if let Some(socket) = &mut self.current {
            socket.send(message, &mut self.random);
        }
    }

    /// Returns the encoding of the current socket, if there is one.
    pub(super) fn encoding(&self) -> Option<Encoding> {
        self.current.as_ref().map(Socket::encoding)
    }

    /// Takes the next message of the current socket, or its end after the last message.
    pub(super) fn take_message(&mut self, now: Instant) -> Option<Incoming> {
        let socket = self.current.as_mut()?;
        if socket.take_has_read()
            && let Some(liveness) = &mut self.liveness
        {
            liveness.note_read(now);
        }
        match socket.message() {
            Some(payload) => Some(Incoming::Message(payload, socket.encoding())),
            None => socket.end().cloned().map(Incoming::End),
        }
    }

    /// Takes the next message of the former socket that is to be read, and drops the socket at its end.
    pub(super) fn take_former_message(&mut self) -> Option<(Vec<u8>, Encoding)> {
        while let Some(FormerSocket { socket, is_read, .. }) = &mut self.former {
            let _ = socket.take_has_read();
            match socket.message() {
                Some(payload) if *is_read => return Some((payload, socket.encoding())),
                Some(_) => {}
                None => {
                    self.former.take_if(|former| former.socket.end().is_some());
                    return None;
                }
            }
        }
        None
    }

    /// Starts an attempt. `token` gives the credentials, `resume` is the token of the session.
    pub(super) fn open(&mut self, options: &Options, token: Option<TokenSource>, resume: Option<String>) {
        self.is_resuming = resume.is_some();
        self.failure_log.log_attempt();
        let socket_options = SocketOptions {
            endpoint: self.target.endpoint.clone(),
            connector: self.target.connector.clone(),
            token,
            resume,
            encoding: options.encoding,
            headers: options.headers.clone(),
            deflate: options.deflate.clone(),
            max_message: options.max_message,
            timeout: options.connect_timeout,
        };
        self.next = NextSocket::Opening(Box::pin(Socket::open(socket_options)));
    }

    /// Awaits the `session` message of an open socket until `until`. With positions, it sends them first in a
    /// `resume` request.
    pub(super) fn await_session(&mut self, mut socket: Socket, positions: Option<Positions>, until: Instant) {
        let resume =
            positions.map(|positions| codec::encode(socket.encoding(), None, &Request::Resume { positions }));
        if let Some(message) = &resume {
            socket.send(message, &mut self.random);
        }
        self.next_resume = resume.map(|message| message.payload.len());
        self.next = NextSocket::Greeting(socket, until);
    }

    /// Returns the next moment at which something is to be done about a socket.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let next = match &self.next {
            NextSocket::At(at) | NextSocket::Opened(_, at) | NextSocket::Greeting(_, at) => Some(*at),
            NextSocket::Idle | NextSocket::Offline | NextSocket::Opening(_) => None,
        };
        let former = self.former.as_ref().map(|former| former.until);
        let liveness = self.liveness.as_ref().map(Liveness::deadline);
        [next, former, liveness].into_iter().flatten().min()
    }

    pub(super) fn check_liveness(&mut self, now: Instant) -> LivenessCheck {
        self.liveness.as_mut().map_or(LivenessCheck::Alive, |liveness| liveness.check(now))
    }

    /// Whether an open socket waits for its `session` message.
    pub(super) const fn awaits_session(&self) -> bool {
        matches!(self.next, NextSocket::Greeting(..))
    }

    /// Prepares for the connection that a `session` message has started.
    pub(super) fn start_connection(&mut self, session: &Session, now: Instant) {
        self.failure_log.log_connected(&session.connection_id, session.resumed);
        // Also where the session is resumed: the server waits five seconds for `resume`, and no longer.
        self.unread_resume = self.next_resume.take();
        self.generation += 1;
        self.liveness = Some(Liveness::new(session.heartbeat, now));
        if let Some(terms) = session.retry {
            self.backoff.set_server_terms(terms);
        }
        self.backoff.note_connected(now);
        let max_message = session.limits.as_ref().map(|limits| limits.max_message);
        self.max_message = max_message.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
    }

    /// Notes the loss of the connection. Returns whether an unreadable message has ended it like the one
    /// before.
    pub(super) fn note_lost(&mut self, loss: &ConnectionLoss, now: Instant) -> bool {
        self.backoff.note_lost(now);
        std::mem::replace(&mut self.was_unreadable, loss.is_unreadable) && loss.is_unreadable
    }

    /// Starts to doubt the connection. Returns `false` without one.
    pub(super) fn doubt(&mut self, now: Instant) -> bool {
        let Some(liveness) = &mut self.liveness else { return false };
        liveness.expect_answer(now);
        true
    }

    /// Puts a socket in the place of the current one, which stays as the former one until `until`. Returns
    /// whether there was one.
    pub(super) fn replace_current(&mut self, socket: Socket, is_resumed: bool, until: Instant) -> bool {
        let Some(mut socket) = self.current.replace(socket) else { return false };
        // The server closes a former socket whose session was resumed. Nobody needs any other one.
        if !is_resumed {
            socket.queue_close(CloseCode::NORMAL, &mut self.random);
        }
        self.former = Some(FormerSocket { socket, until, is_read: is_resumed });
        true
    }

    /// Drops the former socket once its deadline has passed.
    pub(super) fn expire_former(&mut self, now: Instant) {
        self.former.take_if(|former| now >= former.until);
    }

    /// Drops the current and the former socket.
    pub(super) fn drop_connection(&mut self) {
        (self.current, self.former, self.liveness) = (None, None, None);
    }

    /// Counts an attempt and returns the pause before it; `None` if the retry policy grants no more.
    pub(super) fn next_delay(&mut self) -> Option<Duration> {
        self.backoff.next_delay(self.random.fraction())
    }

    /// Takes the next socket, and leaves [`NextSocket::Idle`] in its place.
    pub(super) const fn take_next(&mut self) -> NextSocket {
        std::mem::replace(&mut self.next, NextSocket::Idle)
    }

    /// Returns a random moment within the window of a drain, but not before the pause between two moves is
    /// over.
    pub(super) fn choose_move_time(&mut self, drain: &Drain, now: Instant) -> Instant {
        let (min, max) = drain.after;
        let window = Duration::from_millis(max.saturating_sub(min));
        let wait = Duration::from_millis(min).saturating_add(window.mul_f64(self.random.fraction()));
        (now + wait.min(MAX_DRAIN)).max(self.backoff.next_move(now))
    }

    /// Closes the current socket and the one whose `session` message is awaited, because either may have the
    /// session.
    pub(super) async fn close(&mut self) {
        let mut current = self.current.take();
        let mut next = match self.take_next() {
            NextSocket::Greeting(socket, _) => Some(socket),
            _ => None,
        };
        for socket in [&mut next, &mut current].into_iter().flatten() {
            socket.queue_close(CloseCode::NORMAL, &mut self.random);
        }
        // They do not run in tasks of their own: a runtime that shuts down cancels those, and awaiting a
        // cancelled task may panic.
        let finish = async |socket: Option<Socket>| {
            if let Some(socket) = socket {
                socket.finish(CLOSE_TIMEOUT).await;
            }
        };
        tokio::join!(finish(next), finish(current));
    }
}

/// The positions of the subscriptions, for the server that resumes the session.
type Positions = Vec<(Box<str>, Position)>;

/// What the current socket has received.
pub(super) enum Incoming {
    Message(Vec<u8>, Encoding),
    End(ConnectionLoss),
}

/// What happened to the next socket.
pub(super) enum NextSocketEvent {
    Opened(Result<Box<Socket>, AttemptFailure>),
    /// The socket whose session is awaited has received something, or has ended.
    Readable,
}

fn poll_socket(socket: Option<&mut Socket>, cx: &mut Context<'_>, random: &mut Random) -> Poll<()> {
    socket.map_or(Poll::Pending, |socket| socket.poll(cx, random))
}

/// How long the closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest window of a drain. A longer one is a fault of the server.
const MAX_DRAIN: Duration = Duration::from_secs(3_600);
