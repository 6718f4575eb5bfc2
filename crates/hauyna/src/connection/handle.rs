//! The public handle on a connection, which is cheap to clone. It may outlive the socket; then its methods
//! return that the connection is closed. Applications get it from contexts, events and `Connections`.

use super::{ClientRequest, ConnectionCore, Extensions};
use crate::auth::Expiry;
use crate::close::CloseReason;
use crate::connection::content_frame;
use crate::error::Error;
use crate::hub::Hub;
use crate::outbox::Backlog;
use crate::retry::RetryPolicy;
use crate::session;
use crate::state::ConnectionState;
use hauyna_broker::{ConnectionId, Content, UserId};
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

    /// Whether it is a connection of this hub, as a program may have several hubs.
    pub(crate) fn is_of(&self, hub: &Hub) -> bool {
        Arc::ptr_eq(self.0.hub(), &hub.0)
    }

    /// Returns the identifier, which is unique on this node.
    pub fn id(&self) -> ConnectionId {
        self.0.id()
    }

    /// Returns the user, as `identify` named it.
    pub fn user(&self) -> &UserId {
        self.0.user()
    }

    /// Whether messages can still be sent.
    pub fn is_open(&self) -> bool {
        self.0.is_open()
    }

    /// Sends a message to this connection alone. It is sent as it is; only an object whose `type` the
    /// protocol reserves becomes the `message` of a `private`. A client without a sub-protocol gets any
    /// value; the clients of Hauyna pass on only an object with a `type`. The message is queued; a connection
    /// that does not read fast enough is closed as a slow consumer.
    ///
    /// # Errors
    ///
    /// The connection is closed; `validation_error` where JSON cannot represent the message; `unavailable`
    /// where too many messages are queued for a stream that only the connection's task writes to (TLS, in
    /// memory), until that task has run.
    pub fn send(&self, message: impl Serialize) -> Result<(), Error> {
        let content = Content::of_application(&message)?;
        self.0.sender().send(content_frame(&self.0, &content))
    }

    /// Returns when the connection's credentials end, if they do.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.credentials().expires_at()
    }

    /// Sets when the connection's credentials end: the connection is closed then with 3005 unless they are
    /// renewed. With `None` they do not end. The time also applies to a connection that resumes the session,
    /// unless its own credentials have an end; after it has passed, a client without such credentials starts
    /// a new session.
    pub fn set_expiry(&self, at: Option<SystemTime>) {
        self.0.credentials().set_expiry(at.map(|at| Expiry { at, grace: Duration::ZERO }));
    }

    /// Sends a client request and waits for its answer: `{"type":"request","id":…,"event":…,"data":…}`, which
    /// the client answers with an `ack` of that `id`. The answer is the `data` of the `ack`, decoded into
    /// `T`; without `data` it is `null`. The request may be sent from anywhere, also from a callback of the
    /// same connection: what the client sends before its answer is handled after the callback, in order, up
    /// to 64 KiB.
    ///
    /// # Errors
    ///
    /// - `timeout`: no answer arrived in time, see [`ClientRequest::timeout`].
    /// - [`ErrorKind::Refused`](crate::error::ErrorKind::Refused): the client answered with `error`.
    /// - [`ErrorKind::Closed`](crate::error::ErrorKind::Closed): the connection is closed, or was closed
    ///   before the answer.
    /// - `validation_error`: the answer does not decode into `T`, or JSON cannot represent `data`.
    /// - `limit_exceeded`: the client has 64 unanswered requests already.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the client may have got the request already; its answer is ignored.
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
    ///     let question = json!({ "text": "Really?", "what": what["name"] });
    ///     let is_sure: bool = cx.request("confirm", question).await?;
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

    /// Closes the connection; queued messages are written first. `code` says whether the client reconnects
    /// (3000…3499, 4000…4499) or not (3500…3999, 4500…4999); the reason is cut to 123 bytes. If the
    /// connection is lost already and the code tells its client not to reconnect, its session ends. A code
    /// that must not be sent (RFC 6455 §7.4: below 1000, 1004…1006, 1015…2999, from 5000) is logged, and 1011
    /// is sent in its place.
    pub fn close(&self, code: CloseCode, reason: &str) {
        let closing = CloseReason::application(code);
        self.0.close(code, reason, closing, Backlog::Write);
        if !closing.is_resumable() {
            session::end_session_of(&self.0);
        }
    }

    /// Returns the state. A connection that has ended is [`Disconnected`](ConnectionState::Disconnected).
    pub fn state(&self) -> ConnectionState {
        self.0.state()
    }

    /// Returns when it entered its state, accurate to about the interval of the heartbeat; at most 24 days
    /// ago.
    pub fn state_since(&self) -> SystemTime {
        time_since(self.0.time_in_state())
    }

    /// Changes the state and notifies the client with a `connection_state` message. Does nothing if it is in
    /// this state already.
    ///
    /// States have no effect of their own: a connection that is set to `Disconnected` stays open. An `Idle`
    /// connection becomes `Connected` with its next activity.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Transition`](crate::error::ErrorKind::Transition) if neither the table of
    /// [`ConnectionState`] nor [`HubBuilder::allow_transition`](crate::HubBuilder::allow_transition) allows
    /// it; [`ErrorKind::Closed`](crate::error::ErrorKind::Closed) if the connection is closed or closing;
    /// `unavailable` as for [`Connection::send`]. Nothing is changed in these cases.
    pub fn set_state(&self, state: ConnectionState) -> Result<(), Error> {
        self.0.transitions().set_state(state)?;
        self.0.hub.process_congested_inline();
        Ok(())
    }

    /// Returns the address of the other end of its socket: the client, or the proxy before it. It is unknown
    /// if a tower service does not get it.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.connect_info().peer()
    }

    /// Returns the address that limits count it by. It is that of [`Connection::peer`], without the port,
    /// unless the application determines another one.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.connect_info().address()
    }

    /// Returns when it was opened.
    pub fn connected_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.connect_info().at())
    }

    /// Returns when something was last read from it, pongs included; accurate to about a second, and at most
    /// 24 days ago.
    pub fn last_heard(&self) -> SystemTime {
        time_since(self.0.liveness_checks().silent_for())
    }

    /// Returns how the client reconnects after a loss: its own policy, else its handler's, else the hub's.
    pub fn retry_policy(&self) -> RetryPolicy {
        self.0.retry_policy()
    }

    /// Sets how this client reconnects after a loss, and sends it a `retry_policy` message at once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config) for a value out of its range; the connection is
    /// closed; `unavailable` as for [`Connection::send`]. Nothing is changed in these cases.
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
            // The lock is held, so that the last policy sent is the one that is stored.
            let mut stored = self.0.cold().retry.lock();
            self.0.sender().send_message(&Message::RetryPolicy(policy.terms()))?;
            *stored = Some(policy);
        }
        self.0.hub.process_congested_inline();
        Ok(())
    }

    /// Returns the names of the channels that it is subscribed to.
    pub fn channels(&self) -> Vec<String> {
        let subscriptions = self.0.subscriptions.lock();
        subscriptions.iter().map(|subscription| subscription.channel.name.as_str().to_owned()).collect()
    }

    /// Gives access to the values attached to the connection, behind a lock: keep the call short, and do not
    /// block inside it. The values are dropped with the last handle on the connection; a panic in a
    /// destructor is contained and counted.
    ///
    /// # Panics
    ///
    /// If it is called inside itself for the same connection, also through
    /// [`Context::extension`](crate::Context::extension); use the values passed to `f` instead.
    pub fn with_extensions<R>(&self, f: impl FnOnce(&mut Extensions) -> R) -> R {
        self.0.cold().extensions.with(f)
    }

    /// Returns the bytes that are queued for writing.
    pub fn backlog(&self) -> usize {
        self.0.sender().backlog()
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
