//! The public handle on a connection. Cheap to clone; it may outlive the socket, then its verbs answer
//! that the connection is closed.

use super::{Backlog, CloseReason, ConnectionCore, ConnectionId, Extensions};
use crate::channel::UserId;
use crate::error::Error;
use crate::retry::RetryPolicy;
use hauyna_protocol::Message;
use hauyna_protocol::close::CloseCode;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

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

    /// Sends a message to this connection alone. It is queued; a connection that does not read fast enough
    /// is closed as a slow consumer.
    ///
    /// # Errors
    ///
    /// The connection is closed, or the message is not representable as JSON.
    pub fn send(&self, message: impl Serialize) -> Result<(), Error> {
        let content = crate::channel::content(&message)?;
        self.0.send(super::reader::value_frame(&self.0, content.bytes()))
    }

    /// Closes the connection: what is queued is written first. `code` says whether the client comes back
    /// (3000…3499, 4000…4499) or stays away (3500…3999, 4500…4999); the reason is cut to 123 bytes.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.0.close(code, reason, (CloseReason::Application(code.0), Backlog::Write));
    }

    /// How the client comes back after a loss: its own policy, else its handler's, else the hub's.
    pub fn retry_policy(&self) -> RetryPolicy {
        self.0.retry_policy()
    }

    /// Sets how this client comes back after a loss, and tells it at once with a `retry_policy` message.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a value out of its range, and then nothing is changed;
    /// or the connection is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::{Handler, RetryPolicy};
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
        // Under the lock, so that the last one told is the one that counts.
        let mut own = self.0.attached().retry.lock();
        *own = Some(policy);
        self.0.tell(&Message::RetryPolicy(policy.terms()))
    }

    /// The names of the channels it is subscribed to.
    pub fn channels(&self) -> Vec<String> {
        let own = self.0.subscriptions.lock();
        own.iter().map(|subscription| subscription.channel.name.as_str().to_owned()).collect()
    }

    /// Gives access to the values attached to the connection. Do not call into the hub from inside.
    pub fn with_extensions<R>(&self, f: impl FnOnce(&mut Extensions) -> R) -> R {
        f(&mut self.0.attached().extensions.lock())
    }

    /// Bytes that wait to be written.
    pub fn backlog(&self) -> usize {
        self.0.backlog()
    }
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
