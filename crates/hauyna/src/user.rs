//! A handle to a user: all connections that were identified by one name. Created by `Hub::user`.

use crate::channel::PublishBuilder;
use crate::close::{CloseReason, sendable};
use crate::cluster;
use crate::connection::Connection;
use crate::hub::Hub;
use crate::outbox::Backlog;
use crate::session;
use hauyna_broker::{ChannelName, Content, PublicationKind, UserId};
use hauyna_protocol::close::{CloseCode, Reconnect, should_reconnect};
use serde::Serialize;
use std::fmt;

/// A handle to a user, by name, from [`Hub::user`]. It is cheap to clone; the user need not be connected.
#[derive(Clone)]
pub struct User {
    hub: Hub,
    name: Box<str>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish()
    }
}

impl User {
    pub(crate) fn new(hub: Hub, name: &str) -> Self {
        Self { hub, name: name.into() }
    }

    /// Returns a message to every connection of the user, to set options on; await it to send it. An object
    /// with a `type` of its own is sent as it is; anything else becomes the `message` of a `private`.
    ///
    /// # Errors
    ///
    /// When awaited: `validation_error` for a bad name or a value that cannot be represented as JSON;
    /// `unavailable`.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn note(cx: hauyna::Context, text: String) -> hauyna::Result {
    /// // To the other devices of the user whose callback this is.
    /// cx.hub().user(cx.user()).send(text).except(cx.connection().id()).await?;
    /// # Ok(()) }
    /// ```
    pub fn send(&self, message: impl Serialize) -> PublishBuilder {
        let prepared = UserId::new(&self.name)
            .and_then(|user| Ok((ChannelName::of_user(user.as_str()), Content::of_application(&message)?)));
        PublishBuilder::new(self.hub.clone(), PublicationKind::Private, prepared)
    }

    /// Returns the names of the groups that the user is a member of, in no order.
    pub fn groups(&self) -> impl Future<Output = Vec<String>> + Send + use<> {
        self.hub.groups().groups_of(&self.name)
    }

    /// Returns the user's connections on this node.
    pub fn connections(&self) -> Vec<Connection> {
        self.hub.connections().of_user(&self.name)
    }

    /// Closes the user's connections; queued messages are not sent. The code says whether the clients
    /// reconnect. [`CloseCode::REVOKED`] is for rights that were revoked. Returns the number of connections
    /// on this node. Nothing happens before it is awaited.
    ///
    /// Where the broker connects several nodes, the others do the same as soon as the broker has told them.
    /// One that cannot be reached at that moment does not learn of it; a failure to publish it is logged.
    ///
    /// It does not wait for the clients: one that does not answer the close frame counts as connected, for
    /// [`User::is_connected`] and presence, until the close timeout of 5 s is over and the sweep, which runs
    /// every second or two, has seen that. It can do nothing meanwhile.
    ///
    /// Where the code tells clients not to reconnect, the sessions of connections that were lost before end
    /// as well. This does not prevent the user from connecting again: the code that identifies users decides
    /// that.
    pub fn disconnect(&self, code: CloseCode, reason: &str) -> impl Future<Output = usize> + Send + use<> {
        let (user, reason) = (self.clone(), Box::<str>::from(reason));
        async move {
            let code = sendable(code);
            let count = user.close_connections(code, &reason);
            cluster::announce_disconnect(&user.hub.0, &user.name, code, &reason).await;
            count
        }
    }

    fn close_connections(&self, code: CloseCode, reason: &str) -> usize {
        let close = || self.close_open(code, reason);
        if should_reconnect(code.0) == Reconnect::ComeBack {
            return close();
        }
        let name = self.name.clone();
        session::end_matching(&self.hub.0, move |core| core.user().as_str() == &*name, close)
    }

    /// Closes the live connections on this node, and returns how many there were.
    pub(crate) fn close_open(&self, code: CloseCode, reason: &str) -> usize {
        let connections = self.connections();
        for connection in &connections {
            connection.core().close(code, reason, CloseReason::Application(code.0), Backlog::Drop);
        }
        connections.len()
    }

    /// Whether the user has a connection. Where the broker connects several nodes, this includes the others,
    /// as they have told the broker: a moment after a connection has come or gone, and until its lease ends
    /// for a node that was lost. If the broker cannot be asked, only this node counts.
    pub fn is_connected(&self) -> impl Future<Output = bool> + Send + use<> {
        let user = self.clone();
        async move {
            let hub = &user.hub.0;
            hub.registry.connection_count(&user.name) > 0
                || cluster::is_connected_elsewhere(hub, &user.name).await.unwrap_or_default()
        }
    }
}
