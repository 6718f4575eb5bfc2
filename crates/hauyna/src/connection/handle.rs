//! The public handle on a connection. Cheap to clone; it may outlive the socket, then its verbs answer
//! that the connection is closed.

use super::{Backlog, ClientRequest, CloseReason, ConnectionCore, ConnectionId, ConnectionState, Extensions};
use crate::channel::{Content, UserId};
use crate::error::Error;
use crate::handler::Expiry;
use crate::hub::Hub;
use crate::retry::RetryPolicy;
use crate::session;
use hauyna_protocol::Message;
use hauyna_protocol::close::CloseCode;
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One live WebSocket connection.
#[derive(Clone)]
pub struct Connection(Arc<ConnectionCore>);

impl Connection {
    pub(crate) fn new(core: Arc<ConnectionCore>) -> Self {
        Self(core)
    }

    pub(crate) fn core(&self) -> &Arc<ConnectionCore> {
        &self.0
    }

    /// Whether it is a connection of this hub: a program may have several.
    pub(crate) fn is_of(&self, hub: &Hub) -> bool {
        Arc::ptr_eq(self.0.hub(), &hub.0)
    }

    /// The identifier, unique on this node.
    pub fn id(&self) -> ConnectionId {
        self.0.id()
    }

    /// The user, as `identify` named them.
    pub fn user(&self) -> &UserId {
        self.0.user()
    }

    /// Whether messages can still be sent.
    pub fn is_open(&self) -> bool {
        self.0.is_open()
    }

    /// Sends a message to this connection alone, as it is; one with a `type` that the protocol has for itself as the
    /// `message` of a `private`. Plain clients hear any value, ours only an object with a `type`. It is queued; a connection
    /// that does not read fast enough is closed as a slow consumer.
    ///
    /// # Errors
    ///
    /// The connection is closed; `validation_error` where JSON cannot hold the message; `unavailable` where too many wait
    /// on a stream that only the connection's task writes to (TLS, in memory), until that task has run.
    pub fn send(&self, message: impl Serialize) -> Result<(), Error> {
        let content = Content::of_application(&message)?;
        self.0.send(super::reader::content_frame(&self.0, &content))
    }

    /// When the connection's credentials end, where they do.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.expires_at()
    }

    /// Sets when the connection's credentials end: it is closed then with 3005, unless they are renewed. `None`: they
    /// do not end. It holds for the connection that goes on with the session, too, unless its own credentials have an
    /// end; when it is past, a client without such credentials begins anew.
    pub fn set_expiry(&self, at: Option<SystemTime>) {
        self.0.set_expiry(at.map(|at| Expiry { at, grace: Duration::ZERO }));
    }

    /// Asks this client, and waits for its answer: `{"type":"request","id":…,"event":…,"data":…}`, which the client
    /// answers with an `ack` of that `id`. The answer is the `data` of the `ack`, decoded into `T`; without `data`
    /// it is `null`. It may be asked from anywhere, from a callback of the same connection as well: what the client
    /// sends before its answer is handled after the callback, in its order, as far as 64 KiB reach.
    ///
    /// # Errors
    ///
    /// - `timeout`: no answer in time, see [`ClientRequest::timeout`].
    /// - [`ErrorKind::Refused`](crate::error::ErrorKind::Refused): the client answered with `error`.
    /// - [`ErrorKind::Closed`](crate::error::ErrorKind::Closed): the connection is closed, or was before the answer.
    /// - `validation_error`: the answer is no `T`, or `data` is not representable as JSON.
    /// - `limit_exceeded`: 64 requests wait for this client already.
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped, the client may have been asked already; its answer is ignored.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use hauyna::{Context, Handler, Hub, json};
    /// use hauyna_test::TestServer;
    /// use serde_json::Value;
    ///
    /// async fn delete(cx: Context, what: Value) -> hauyna::Result<&'static str> {
    ///     let is_sure: bool = cx.request("confirm", json!({ "text": "Really?", "what": what["name"] })).await?;
    ///     Ok(if is_sure { "deleted" } else { "kept" })
    /// }
    ///
    /// let server = TestServer::start(Hub::new(), Handler::new().on("delete", delete));
    /// let mut client = server.connect("/").await;
    /// client.send(json!({ "type": "delete", "id": 1, "name": "photo.jpg" })).await;
    /// let question = client.expect("request").await;
    /// assert_eq!(question["data"]["what"], "photo.jpg");
    /// client.send(json!({ "type": "ack", "id": question["id"], "data": true })).await;
    /// assert_eq!(client.expect("ack").await["data"], "deleted");
    /// # }
    /// ```
    pub fn request<T>(&self, event: &str, data: impl Serialize) -> ClientRequest<T> {
        ClientRequest::new(self.0.clone(), event, &data)
    }

    /// Closes the connection: what is queued is written first. `code` says whether the client comes back
    /// (3000…3499, 4000…4499) or stays away (3500…3999, 4500…4999); the reason is cut to 123 bytes. Where the connection
    /// was lost and its client is to stay away, its session ends.
    /// A code that nobody may send (RFC 6455 §7.4: below 1000, 1004…1006, 1015…2999, from 5000) is logged, and 1011 is
    /// sent in its place.
    pub fn close(&self, code: CloseCode, reason: &str) {
        let closing = CloseReason::application(code);
        self.0.close(code, reason, (closing, Backlog::Write));
        if !session::is_resumable(closing) {
            session::end_session_of(&self.0);
        }
    }

    /// The state. A connection that has ended is [`Disconnected`](ConnectionState::Disconnected).
    pub fn state(&self) -> ConnectionState {
        self.0.state()
    }

    /// When it came into its state, to about the pace of the heartbeat; at most 24 days ago.
    pub fn state_since(&self) -> SystemTime {
        time_since(self.0.time_in_state())
    }

    /// Changes the state, and tells the client with a `connection_state` message. Nothing happens where it is in
    /// this state already.
    ///
    /// States do not do anything: a connection that is set to `Disconnected` is still there. An `Idle` one becomes
    /// `Connected` with the next sign of life.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Transition`](crate::error::ErrorKind::Transition) where the table of [`ConnectionState`] and
    /// [`HubBuilder::allow_transition`](crate::HubBuilder::allow_transition) do not allow it;
    /// [`ErrorKind::Closed`](crate::error::ErrorKind::Closed) where the connection is closed or about to be; `unavailable` as
    /// [`Connection::send`]. Then nothing is changed.
    pub fn set_state(&self, state: ConnectionState) -> Result<(), Error> {
        self.0.set_state(state)?;
        self.0.hub.process_congested_inline();
        Ok(())
    }

    /// The other end of its socket: the client, or the proxy before it. Unknown where a tower service is not told.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.connect_info().peer()
    }

    /// The address that limits count it by: that of [`Connection::peer`], without the port.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.connect_info().address()
    }

    /// When it was opened.
    pub fn connected_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.connect_info().at())
    }

    /// When something was last read from it, be it a pong; to about a second, and at most 24 days ago.
    pub fn last_heard(&self) -> SystemTime {
        time_since(self.0.silent_for())
    }

    /// How the client comes back after a loss: its own policy, else its handler's, else the hub's.
    pub fn retry_policy(&self) -> RetryPolicy {
        self.0.retry_policy()
    }

    /// Sets how this client comes back after a loss, and tells it at once with a `retry_policy` message.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config) for a value out of its range; the connection is closed;
    /// `unavailable` as [`Connection::send`]. Then nothing is changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::Handler;
    /// use hauyna::connection::RetryPolicy;
    ///
    /// let handler = Handler::new().on_open(|cx| async move {
    ///     let is_critical = cx.query("plan").as_deref() == Some("gold");
    ///     let policy = if is_critical { RetryPolicy::aggressive() } else { RetryPolicy::conservative() };
    ///     cx.connection().set_retry_policy(policy)
    /// });
    /// ```
    pub fn set_retry_policy(&self, policy: RetryPolicy) -> Result<(), Error> {
        policy.validate()?;
        if !self.is_open() {
            return Err(Error::closed());
        }
        {
            // Under the lock, so that the last one told is the one that counts.
            let mut own = self.0.cold().retry.lock();
            self.0.send_message(&Message::RetryPolicy(policy.terms()))?;
            *own = Some(policy);
        }
        self.0.hub.process_congested_inline();
        Ok(())
    }

    /// The names of the channels it is subscribed to.
    pub fn channels(&self) -> Vec<String> {
        let own = self.0.subscriptions.lock();
        own.iter().map(|subscription| subscription.channel.name.as_str().to_owned()).collect()
    }

    /// Gives access to the values attached to the connection, behind a lock: keep it short, and do not block inside. The
    /// values are dropped with the last handle on the connection; a destructor that panics is contained and counted.
    ///
    /// # Panics
    ///
    /// Where it is called inside itself, as by [`Context::extension`](crate::Context::extension), for the same
    /// connection: the values are at hand there.
    pub fn with_extensions<R>(&self, f: impl FnOnce(&mut Extensions) -> R) -> R {
        self.0.cold().extensions.with(f)
    }

    /// Bytes that wait to be written.
    pub fn backlog(&self) -> usize {
        self.0.backlog()
    }
}

fn time_since(time: Duration) -> SystemTime {
    SystemTime::now().checked_sub(time).unwrap_or(UNIX_EPOCH)
}

impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
