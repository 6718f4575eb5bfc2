//! The sockets of the task: the current one, the one that a move has replaced, and the way to the next one;
//! with them what is known of the connection itself.

use crate::backoff::Backoff;
use crate::connector::{Connector, Endpoint};
use crate::liveness::Liveness;
use crate::logger::FailureLog;
use crate::random::Random;
use crate::socket::{AttemptFailure, Socket};
use hauyna_protocol::RetryTerms;
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::Instant;

/// The address and the network that a client connects by.
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) connector: Arc<dyn Connector>,
}

/// The sockets of one client, and the state of its connection.
pub(super) struct Sockets {
    pub(super) target: Target,
    /// The source of masks, delays and moments of a move.
    pub(super) random: Random,
    pub(super) backoff: Backoff,
    pub(super) failure_log: FailureLog,
    pub(super) current: Option<Socket>,
    /// The socket that a move has replaced, until the server closes it or its deadline passes.
    pub(super) former: Option<FormerSocket>,
    pub(super) next: NextSocket,
    /// The silence of the current connection; `None` without one.
    pub(super) liveness: Option<Liveness>,
    /// The number of the current connection. An answer is never sent on another connection than the one that
    /// its question came in on.
    pub(super) generation: u64,
    /// Size limit of the server for one message, in bytes.
    pub(super) max_message: usize,
    /// Whether the attempt under way shows the token of the session.
    pub(super) is_resuming: bool,
    /// Bytes of the `resume` request on the socket whose session is awaited.
    pub(super) next_resume: Option<usize>,
    /// Bytes of the `resume` request on the current socket, if its server may have answered without reading it.
    pub(super) unread_resume: Option<usize>,
    /// Whether an unreadable message ended the last connection.
    pub(super) was_unreadable: bool,
}

/// The way to the next connection.
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
pub(super) struct FormerSocket {
    pub(super) socket: Socket,
    /// The moment at which it is dropped.
    pub(super) until: Instant,
    /// Whether its messages are read. They are if the session was resumed; otherwise the new connection
    /// receives the same messages.
    pub(super) is_read: bool,
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
}
