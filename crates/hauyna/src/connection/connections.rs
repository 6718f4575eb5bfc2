//! The handle on the live connections of this node: queries, and messages to several connections. The
//! application calls it.

use super::{ConnectInfo, Connection, ConnectionParts, SendToManyBuilder};
use crate::auth::Credentials;
use crate::channel::PublishBuilder;
use crate::close::{CloseReason, sendable};
use crate::driver::{Opening, SessionAnnouncement, register};
use crate::error::Error;
use crate::handler::SharedHandler;
use crate::hub::Hub;
use crate::outbox::Backlog;
use crate::session;
use crate::state::ConnectionState;
use crate::transport::Link;
use hauyna_broker::{ChannelName, ConnectionId, Content, PublicationKind, UserId, Wire};
use hauyna_protocol::close::{CloseCode, Reconnect, should_reconnect};
use hauyna_protocol::{Encoding, ErrorType};
use serde::Serialize;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// The connections of this node, from [`Hub::connections`].
#[derive(Debug, Clone)]
pub struct Connections(Hub);

impl Connections {
    pub(crate) fn new(hub: Hub) -> Self {
        Self(hub)
    }

    /// Returns the number of connections of this node.
    pub fn count(&self) -> usize {
        self.0.0.registry.count()
    }

    /// Returns the connection of this node with this identifier.
    pub fn by_id(&self, id: ConnectionId) -> Option<Connection> {
        self.0.connection(id)
    }

    /// Returns all connections of a user on this node, one per device or tab.
    pub fn of_user(&self, user: impl AsRef<str>) -> Vec<Connection> {
        self.0.0.registry.of_user(user.as_ref()).into_iter().map(Connection::new).collect()
    }

    /// Returns the connections of this node in a state, in no particular order. This visits every connection;
    /// to count them, use [`Stats::states`](crate::inspect::Stats::states).
    pub fn in_state(&self, state: ConnectionState) -> Vec<Connection> {
        let mut all = self.all();
        all.retain(|connection| connection.state() == state);
        all
    }

    /// Returns all connections of this node, in no particular order.
    pub fn all(&self) -> Vec<Connection> {
        self.0.0.registry.all().into_iter().map(Connection::new).collect()
    }

    /// Registers a socket that was created elsewhere and has completed its WebSocket handshake, for example
    /// one that another server has upgraded, or an in-memory stream. From now on it is a connection of `user`
    /// like any other, with the callbacks of `handler`; its client counts as one without a sub-protocol.
    /// [`Handler::identify`] is not called.
    ///
    /// Limits apply to it, too, except those by address, because no address is known. Where the broker
    /// connects several nodes, what others send to the user arrives as soon as the broker relays it, a moment
    /// later.
    ///
    /// [`Handler::identify`]: crate::Handler::identify
    ///
    /// # Errors
    ///
    /// `validation_error` for an invalid name; `limit_exceeded` or `unavailable` where a limit refuses the
    /// connection or the hub is shut down; [`ErrorKind::NoRuntime`](crate::error::ErrorKind::NoRuntime)
    /// outside of a Tokio runtime. The socket is dropped in each of these cases.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> hauyna::Result {
    /// use hauyna::{Handler, Hub, json};
    /// use tokio::io::AsyncReadExt;
    ///
    /// let (socket, mut peer) = tokio::io::duplex(1024);
    /// let hub = Hub::new();
    /// let connection = hub.connections().register(socket, "alice", &Handler::new().share())?;
    /// connection.send(json!({ "hello": "alice" }))?;
    ///
    /// let mut frame = [0; 19];
    /// peer.read_exact(&mut frame).await?;
    /// assert_eq!(&frame[2..], br#"{"hello":"alice"}"#);
    /// # Ok(()) }
    /// ```
    pub fn register<S>(
        &self,
        socket: S,
        user: impl AsRef<str>,
        handler: &SharedHandler,
    ) -> Result<Connection, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        crate::clock::timers()?;
        let (hub, user) = (&self.0.0, UserId::new(user.as_ref())?);
        if self.0.is_stopping() {
            return Err(Error::protocol(ErrorType::Unavailable, "the hub is shutting down"));
        }
        let place = hub.take_place(&user, None).map_err(|limit| Error::from(hub.limits.refusal(limit)))?;
        let share = hub.share_user(&user);
        share.iter().for_each(|share| share.relay_soon());
        let place = place.with_share(share);
        let particulars = ConnectionParts {
            id: place.id(),
            shard: hub.choose_shard(place.id().number()),
            user,
            wire: Wire::new(Encoding::Json, false),
            connect_info: ConnectInfo::new(None, None, "/"),
            attached: None,
            session_key: None,
        };
        let opening = Opening {
            hub: hub.clone(),
            endpoint: handler.0.clone(),
            particulars,
            limit_place: place,
            inflate: None,
            credentials: Credentials { revocations: hub.revocations.made(), ..Credentials::default() },
            session: SessionAnnouncement::Plain,
            claim: None,
        };
        Ok(Connection::new(register(opening).start(Link::other(Box::new(socket), Vec::new()))))
    }

    /// Closes a connection with 1000; queued messages are written first. Returns whether there was one that
    /// was not closing yet. One that was closing leaves no session either.
    pub fn unregister(&self, id: ConnectionId) -> bool {
        self.by_id(id).is_some_and(|connection| {
            let was_open = connection.is_open();
            connection.close(CloseCode::NORMAL, "");
            was_open
        })
    }

    /// Closes all connections of this node with a code and a reason; see [`Connection::close`]. Returns how
    /// many it closed. Where the code tells clients not to reconnect, the sessions of lost connections end,
    /// too.
    pub fn clear(&self, code: CloseCode, reason: &str) -> usize {
        // One that is closing already may be meant to return, so it is closed, too, and not counted.
        let was_open = |connection: &Connection| {
            let was_open = connection.is_open();
            connection.close(code, reason);
            was_open
        };
        let close = || self.all().into_iter().filter(was_open).count();
        match should_reconnect(sendable(code).0) {
            Reconnect::ComeBack => close(),
            Reconnect::StayAway => session::end_matching(&self.0.0, |_| true, close),
        }
    }

    /// Closes the connections of this node from which nothing was read for so long, pongs included, with 3012
    /// (reconnect) and [`CloseReason::Heartbeat`]. Returns how many it closed. Silence is measured to about a
    /// second, and counted up to 24 days.
    ///
    /// Heartbeats do this by themselves. This method is for handlers without a heartbeat, or for a single
    /// check with a shorter time.
    pub fn cleanup_inactive(&self, older_than: Duration) -> usize {
        self.close_silent(older_than, |connection| {
            let core = connection.core();
            core.close(CloseCode::HEARTBEAT_TIMEOUT, "inactive", CloseReason::Heartbeat, Backlog::Drop);
        })
    }

    fn close_silent(&self, longer_than: Duration, close: impl Fn(&Connection)) -> usize {
        let mut all = self.all();
        all.retain(|connection| {
            connection.is_open() && connection.core().liveness_checks().silent_for() >= longer_than
        });
        all.iter().for_each(close);
        all.len()
    }

    /// Returns a message to every connection, to set options on; await it to send it. An object with a `type`
    /// of its own is sent as it is; anything else becomes the `message` of a `broadcast`.
    ///
    /// # Errors
    ///
    /// When awaited: `validation_error` where JSON cannot represent the value; `unavailable`.
    pub fn broadcast(&self, message: impl Serialize) -> PublishBuilder {
        let content = Content::of_application(&message).map(|content| (ChannelName::everybody(), content));
        PublishBuilder::new(self.0.clone(), PublicationKind::Broadcast, content)
    }

    /// Returns a message to every connection of several users, to set options on; await it to send it. It is
    /// sent to one user after the other, each time as by [`User::send`](crate::User::send); its value is
    /// encoded once.
    ///
    /// # Errors
    ///
    /// When awaited: the same as for [`User::send`](crate::User::send), from the first user for which it
    /// fails.
    pub fn send_to_many<U: AsRef<str>>(
        &self,
        users: impl IntoIterator<Item = U>,
        message: impl Serialize,
    ) -> SendToManyBuilder {
        let users = users.into_iter().map(|user| UserId::new(user.as_ref())).collect();
        SendToManyBuilder::new(self.0.clone(), users, Content::of_application(&message))
    }
}
