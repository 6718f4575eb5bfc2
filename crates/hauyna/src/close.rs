//! Why a connection closed, and whether its client may come back: `CloseReason`, read by everything that ends
//! connections, presence and sessions.

use hauyna_protocol::close::{CloseCode, Reconnect, should_reconnect};

/// Why a connection ended; `on_close` gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed it, with this code (1005 where it gave none).
    Client(u16),
    /// The socket broke, or the client disconnected without a close frame.
    Lost,
    /// A ping was not answered in time.
    Heartbeat,
    /// The client did not read fast enough, and its outbox was full.
    SlowConsumer,
    /// The socket accepted no data for longer than the write timeout.
    WriteTimeout,
    /// The application closed it, with this code.
    Application(u16),
    /// The hub was shut down.
    Shutdown,
    /// The hub drains: the client reconnects to another node.
    Drain,
    /// The client violated the protocol.
    Protocol,
    /// The client sent a message larger than [`Handler::max_message`](crate::Handler::max_message).
    MessageTooBig,
    /// More of the client's requests were refused than its error budget allows.
    TooManyErrors,
    /// A newer connection replaced this one under a connection limit.
    Replaced,
    /// The credentials have expired.
    Expired,
    /// A callback failed or panicked while the connection was opened.
    Failed,
    /// The client returned with another connection, which took over the session.
    Resumed,
}

impl CloseReason {
    /// The names of the reasons in metrics and the log, by [`CloseReason::index`].
    pub(crate) const NAMES: [&'static str; 15] = [
        "client",
        "lost",
        "heartbeat",
        "slow_consumer",
        "write_timeout",
        "application",
        "shutdown",
        "protocol",
        "replaced",
        "failed",
        "too_many_errors",
        "expired",
        "drain",
        "resumed",
        "message_too_big",
    ];

    /// Returns the reason for a close by the application with this code, or with the code that is sent in its
    /// place.
    pub(crate) fn application(code: CloseCode) -> Self {
        Self::Application(sendable(code).0)
    }

    /// Returns whether a connection that closed for this reason may come back.
    pub(crate) fn departure(self) -> DepartureKind {
        match self {
            // A page calls `close()` without a code on purpose.
            Self::Client(1005) => DepartureKind::Gone,
            Self::Client(code) | Self::Application(code) => match should_reconnect(code) {
                Reconnect::ComeBack => DepartureKind::Lost,
                Reconnect::StayAway => DepartureKind::Gone,
            },
            Self::Protocol | Self::Replaced | Self::Failed => DepartureKind::Gone,
            _ => DepartureKind::Lost,
        }
    }

    /// Whether a connection that ended for this reason can be resumed: its client means to return, is not a
    /// page that was left, and was not told to stay away. No client can resume on a hub that shuts down.
    pub(crate) fn is_resumable(self) -> bool {
        let must_not_return =
            matches!(self, Self::Client(1001) | Self::Drain | Self::Shutdown | Self::TooManyErrors);
        !must_not_return && self.departure() == DepartureKind::Lost
    }

    /// Whether the client has lost its rights: its credentials have expired, or the application has told it
    /// to stay away.
    pub(crate) fn ends_rights(self) -> bool {
        match self {
            Self::Expired => true,
            Self::Application(code) => should_reconnect(code) == Reconnect::StayAway,
            _ => false,
        }
    }

    /// Whether this reason ends a session that was to be taken over, because its client, the application, or
    /// a limit ended it. A failed or broken attempt does not.
    pub(crate) fn ends_session(self) -> bool {
        !self.is_resumable() && !matches!(self, Self::Failed | Self::Protocol)
    }

    /// Returns the index in [`CloseReason::NAMES`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Client(_) => 0,
            Self::Lost => 1,
            Self::Heartbeat => 2,
            Self::SlowConsumer => 3,
            Self::WriteTimeout => 4,
            Self::Application(_) => 5,
            Self::Shutdown => 6,
            Self::Protocol => 7,
            Self::Replaced => 8,
            Self::Failed => 9,
            Self::TooManyErrors => 10,
            Self::Expired => 11,
            Self::Drain => 12,
            Self::Resumed => 13,
            Self::MessageTooBig => 14,
        }
    }

    /// Returns the name of the reason in metrics and the log: `client`, `lost`, `heartbeat`, `slow_consumer`,
    /// `write_timeout`, `application`, `shutdown`, `protocol`, `replaced`, `failed`, `too_many_errors`,
    /// `expired`, `drain`, `resumed`, `message_too_big`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self.index()]
    }
}

/// How a connection leaves, and whether it may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DepartureKind {
    /// It closed and will not come back.
    Gone,
    /// It may come back within the grace time.
    Lost,
    /// It may come back as long as its session is kept.
    Kept,
}

/// Returns the code that is sent for `code`: the same, or 1011 where RFC 6455 §7.4 forbids sending it.
pub(crate) fn sendable(code: CloseCode) -> CloseCode {
    let sent = CloseCode(hauyna_websocket::CloseCode::new(code.0).sendable().as_u16());
    if sent != code {
        crate::log::limited("close code", || {
            tracing::warn!(target: "hauyna::connection", code = code.0, "a close code that may not be sent");
        });
    }
    sent
}
