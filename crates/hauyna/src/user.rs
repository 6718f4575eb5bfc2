//! A user: all connections that were identified by one name. `Hub::user` makes the handle.

use crate::broker::Published;
use crate::channel::{self, ChannelName, Content, PublicationKind, PublishOptions, UserId};
use crate::connection::{Backlog, CloseReason, Connection, sendable};
use crate::error::Error;
use crate::hub::Hub;
use crate::session;
use hauyna_protocol::close::{CloseCode, Reconnect, should_reconnect};
use serde::Serialize;

/// A user, by name, from [`Hub::user`]. A handle that is cheap to clone; the user need not be connected.
#[derive(Debug, Clone)]
pub struct User {
    hub: Hub,
    name: Box<str>,
}

impl User {
    pub(crate) fn new(hub: Hub, name: &str) -> Self {
        Self { hub, name: name.into() }
    }

    /// Sends to every connection of the user: an object with its own `type` unchanged, anything else as the
    /// `message` of a `private`.
    ///
    /// # Errors
    ///
    /// `validation_error` for an invalid name or a value that JSON cannot represent; `unavailable`.
    pub async fn send(&self, message: impl Serialize) -> Result<Published, Error> {
        let user = UserId::new(&self.name)?;
        let message = (PublicationKind::Private, Content::of_application(&message)?);
        let channel = ChannelName::of_user(user.as_str());
        Ok(channel::publish_paced(&self.hub.0, channel, message, PublishOptions::default()).await?)
    }

    /// Returns the names of the groups the user is a member of, in no particular order.
    pub fn groups(&self) -> Vec<String> {
        self.hub.groups().groups_of(&self.name)
    }

    /// Returns the user's connections on this node.
    pub fn connections(&self) -> Vec<Connection> {
        self.hub.connections().of_user(&self.name)
    }

    /// Closes the user's connections on this node; queued messages are not sent. Returns how many there were.
    /// The code says whether the clients reconnect; [`CloseCode::REVOKED`] is for revoked credentials.
    ///
    /// If the code means to stay away, the sessions of lost connections end, too. It does not keep the user
    /// from connecting again: that is up to the handler's `identify`.
    pub fn disconnect(&self, code: CloseCode, reason: &str) -> usize {
        let code = sendable(code);
        let close = || {
            let connections = self.connections();
            for connection in &connections {
                let ending = (CloseReason::Application(code.0), Backlog::Drop);
                connection.core().close(code, reason, ending);
            }
            connections.len()
        };
        if should_reconnect(code.0) == Reconnect::ComeBack {
            return close();
        }
        let name = self.name.clone();
        session::end_matching(&self.hub.0, move |core| core.user().as_str() == &*name, close)
    }

    /// Whether the user has a connection on this node.
    pub fn is_connected(&self) -> bool {
        self.hub.0.registry.connection_count(&self.name) > 0
    }
}
