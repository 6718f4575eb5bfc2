//! All live connections of a hub: queries, and messages that go to several of them.

use super::{Connection, ConnectionId, ConnectionState};
use crate::broker::Published;
use crate::channel::{self, ChannelName, Extras, Kind, UserId};
use crate::error::Error;
use crate::hub::Hub;
use serde::Serialize;

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
    /// [`Stats::states`](crate::Stats::states).
    pub fn in_state(&self, state: ConnectionState) -> Vec<Connection> {
        let mut all = self.all();
        all.retain(|connection| connection.state() == state);
        all
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Connection> {
        self.0.0.registry.all().into_iter().map(Connection::new).collect()
    }

    /// Sends a `broadcast` to everybody.
    ///
    /// # Errors
    ///
    /// `validation_error` where JSON cannot hold the value; `unavailable`.
    pub async fn broadcast(&self, message: impl Serialize) -> Result<Published, Error> {
        self.publish(&message, Extras::default()).await
    }

    /// Sends a `broadcast` to everybody but one connection.
    ///
    /// # Errors
    ///
    /// As [`Connections::broadcast`].
    pub async fn broadcast_except(
        &self,
        message: impl Serialize,
        except: ConnectionId,
    ) -> Result<Published, Error> {
        self.publish(&message, Extras { except: Some(except), ..Extras::default() }).await
    }

    async fn publish(&self, message: &impl Serialize, extras: Extras) -> Result<Published, Error> {
        let content = channel::content(message)?;
        let answer =
            channel::publish(&self.0.0, ChannelName::everybody(), (Kind::Broadcast, content), extras);
        Ok(answer.await?)
    }

    /// Sends a `private` message to every connection of one user.
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

    /// Sends a `group` message to every connection of a group's members.
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

    /// Sends a `private` message to every connection of several users.
    ///
    /// # Errors
    ///
    /// As [`Connections::send_to_one`], from the first user it fails for.
    pub async fn send_to_many<U: AsRef<str>>(
        &self,
        users: impl IntoIterator<Item = U>,
        message: impl Serialize,
    ) -> Result<(), Error> {
        let content = channel::content(&message)?;
        for user in users {
            let user = UserId::new(user.as_ref())?;
            let channel = ChannelName::of_user(user.as_str());
            let message = (Kind::Private, content.clone());
            channel::publish(&self.0.0, channel, message, Extras::default()).await?;
        }
        Ok(())
    }
}
