//! All live connections of a hub: queries, and messages that go to several of them.

use super::{Backlog, CloseReason, ConnectInfo, Connection, ConnectionId, ConnectionState};
use super::{ConnectionParts, Opening, SessionAnnouncement, register, sendable};
use crate::broker::Published;
use crate::channel::{self, ChannelName, Content, PublicationKind, PublishOptions, UserId, Wire};
use crate::error::Error;
use crate::handler::{Credentials, SharedHandler};
use crate::hub::Hub;
use crate::session;
use crate::transport::Link;
use hauyna_protocol::close::{CloseCode, Reconnect, should_reconnect};
use hauyna_protocol::{Encoding, ErrorType};
use serde::Serialize;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// The connections of a hub, from [`Hub::connections`].
#[derive(Debug, Clone)]
pub struct Connections(Hub);

impl Connections {
    pub(crate) fn new(hub: Hub) -> Self {
        Self(hub)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.0.registry.count()
    }

    /// One by its identifier.
    pub fn by_id(&self, id: ConnectionId) -> Option<Connection> {
        self.0.connection(id)
    }

    /// All connections of a user, one per device or tab.
    pub fn of_user(&self, user: impl AsRef<str>) -> Vec<Connection> {
        self.0.0.registry.of_user(user.as_ref()).into_iter().map(Connection::new).collect()
    }

    /// Those in a state, in no order. Walks over all of them; to count them there is
    /// [`Stats::states`](crate::inspect::Stats::states).
    pub fn in_state(&self, state: ConnectionState) -> Vec<Connection> {
        let mut all = self.all();
        all.retain(|connection| connection.state() == state);
        all
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Connection> {
        self.0.0.registry.all().into_iter().map(Connection::new).collect()
    }

    /// Takes over a socket that was made elsewhere and has its WebSocket handshake behind it, for example one
    /// that another server has upgraded, or an in-memory stream. From now on it is a connection of `user`
    /// like any other, with the callbacks of `handler`; its client counts as a plain one.
    /// [`Handler::identify`] is not asked.
    ///
    /// Limits hold for it, too, except those by address: none is known.
    ///
    /// [`Handler::identify`]: crate::Handler::identify
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad name; `limit_exceeded` or `unavailable` where a limit refuses it or the
    /// hub is shut down; [`ErrorKind::NoRuntime`](crate::error::ErrorKind::NoRuntime) outside of a Tokio runtime.
    /// The socket is dropped then.
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
        let particulars = ConnectionParts {
            id: place.id(),
            shard: hub.choose_shard(place.id().number()),
            user,
            wire: Wire::new(Encoding::Json, false),
            arrival: ConnectInfo::new(None, None, "/"),
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

    /// Closes a connection with 1000; what is queued is written first. Returns whether there was one.
    pub fn unregister(&self, id: ConnectionId) -> bool {
        let connection = self.by_id(id).filter(Connection::is_open);
        connection.is_some_and(|connection| {
            connection.close(CloseCode::NORMAL, "");
            true
        })
    }

    /// Closes all connections with a code and a reason; see [`Connection::close`]. Returns how many. Where
    /// the code means to stay away, the sessions of those who were lost end, too.
    pub fn clear(&self, code: CloseCode, reason: &str) -> usize {
        let close = || self.close_silent(Duration::ZERO, |connection| connection.close(code, reason));
        match should_reconnect(sendable(code).0) {
            Reconnect::ComeBack => close(),
            Reconnect::StayAway => session::end_matching(&self.0.0, |_| true, close),
        }
    }

    /// Closes the connections from which nothing was heard for so long, be it a pong, with 3012 (come back)
    /// and [`CloseReason::Heartbeat`]. Returns how many. Silence is known to about a second, and counted up
    /// to 24 days.
    ///
    /// Heartbeats do this by themselves; it is for handlers without one, or for once in a while less
    /// patience.
    pub fn cleanup_inactive(&self, older_than: Duration) -> usize {
        let ending = (CloseReason::Heartbeat, Backlog::Drop);
        self.close_silent(older_than, |connection| {
            connection.core().close(CloseCode::HEARTBEAT_TIMEOUT, "inactive", ending);
        })
    }

    fn close_silent(&self, longer_than: Duration, close: impl Fn(&Connection)) -> usize {
        let mut all = self.all();
        all.retain(|connection| connection.is_open() && connection.core().silent_for() >= longer_than);
        all.iter().for_each(close);
        all.len()
    }

    /// Sends to everybody: an object with a `type` of its own as it is, anything else as the `message` of a
    /// `broadcast`.
    ///
    /// # Errors
    ///
    /// `validation_error` where JSON cannot hold the value; `unavailable`.
    pub async fn broadcast(&self, message: impl Serialize) -> Result<Published, Error> {
        self.publish(&message, PublishOptions::default()).await
    }

    /// As [`Connections::broadcast`], to everybody but one connection.
    ///
    /// # Errors
    ///
    /// As [`Connections::broadcast`].
    pub async fn broadcast_except(
        &self,
        message: impl Serialize,
        except: ConnectionId,
    ) -> Result<Published, Error> {
        self.publish(&message, PublishOptions { except: Some(except), ..PublishOptions::default() }).await
    }

    async fn publish(&self, message: &impl Serialize, extras: PublishOptions) -> Result<Published, Error> {
        let content = Content::of_application(message)?;
        let answer = channel::publish_paced(
            &self.0.0,
            ChannelName::everybody(),
            PublicationKind::Broadcast,
            content,
            extras,
        );
        Ok(answer.await?)
    }

    /// Sends to every connection of one user; see [`User::send`](crate::User::send).
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad name or value; `unavailable`.
    pub async fn send_to_one(
        &self,
        user: impl AsRef<str>,
        message: impl Serialize,
    ) -> Result<Published, Error> {
        self.0.user(user).send(message).await
    }

    /// Sends to every connection of a group's members; see [`Groups::send`](crate::Groups::send).
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad name or value; `unavailable`.
    pub async fn send_to_group(
        &self,
        group: impl AsRef<str>,
        message: impl Serialize,
    ) -> Result<Published, Error> {
        self.0.groups().send(group, message).await
    }

    /// As [`Connections::send_to_group`], to all of these connections but one.
    ///
    /// # Errors
    ///
    /// As [`Connections::send_to_group`].
    pub async fn send_to_group_except(
        &self,
        group: impl AsRef<str>,
        message: impl Serialize,
        except: ConnectionId,
    ) -> Result<Published, Error> {
        self.0.groups().send(group, message).except(except).await
    }

    /// Sends to every connection of one user but one of them: the device that it is from.
    ///
    /// # Errors
    ///
    /// As [`Connections::send_to_one`].
    pub async fn send_to_one_except(
        &self,
        user: impl AsRef<str>,
        message: impl Serialize,
        except: ConnectionId,
    ) -> Result<(), Error> {
        self.send_to_many_except([user], message, except).await
    }

    /// Sends to every connection of several users.
    ///
    /// # Errors
    ///
    /// As [`Connections::send_to_one`], from the first user it fails for.
    pub async fn send_to_many<U: AsRef<str>>(
        &self,
        users: impl IntoIterator<Item = U>,
        message: impl Serialize,
    ) -> Result<(), Error> {
        self.send_each(users, message, None).await
    }

    /// Sends to every connection of several users but one connection.
    ///
    /// # Errors
    ///
    /// As [`Connections::send_to_many`].
    pub async fn send_to_many_except<U: AsRef<str>>(
        &self,
        users: impl IntoIterator<Item = U>,
        message: impl Serialize,
        except: ConnectionId,
    ) -> Result<(), Error> {
        self.send_each(users, message, Some(except)).await
    }

    async fn send_each<U: AsRef<str>>(
        &self,
        users: impl IntoIterator<Item = U>,
        message: impl Serialize,
        except: Option<ConnectionId>,
    ) -> Result<(), Error> {
        let content = Content::of_application(&message)?;
        for user in users {
            let user = UserId::new(user.as_ref())?;
            let channel = ChannelName::of_user(user.as_str());
            channel::publish_paced(
                &self.0.0,
                channel,
                PublicationKind::Private,
                content.clone(),
                PublishOptions { except, ..PublishOptions::default() },
            )
            .await?;
        }
        Ok(())
    }
}
