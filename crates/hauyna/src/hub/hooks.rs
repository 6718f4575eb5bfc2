//! The callbacks of a hub's builder: listeners for changes of state and for users who come and go. They are
//! registered when `builder` makes the hub.

use super::HubBuilder;
use crate::connection::Connection;
use crate::error::Error;
use crate::event::{Event, SystemEvent, SystemKind};
use crate::state::ConnectionState;
use hauyna_broker::UserId;
use std::sync::Arc;

impl HubBuilder {
    /// Runs a callback when the state of a connection has changed, with the old and the new state: one change
    /// after the other, in their order, beside the connections' own work. An error or a panic is logged and
    /// affects nothing else. May be called several times; the callback is a listener like those of
    /// [`Hub::events`](crate::Hub::events).
    pub fn on_state_change<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Connection, ConnectionState, ConnectionState) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let f = Arc::new(f);
        let hook = move |_, event| {
            let f = f.clone();
            async move {
                match event {
                    SystemEvent::StateChanged { connection, old, new } => f(connection, old, new).await,
                    _ => Ok(()),
                }
            }
        };
        self.hooks.push(Box::new(|events| {
            events.on_system([SystemKind::StateChanged], hook);
        }));
        self
    }

    /// Runs a callback when the first connection of a user opens; a lost connection counts as open until the
    /// [grace time](HubBuilder::presence_grace) is over. It runs beside the connections' own work, in order
    /// with [`HubBuilder::on_user_offline`], as a listener like those of [`Hub::events`](crate::Hub::events).
    ///
    /// ```
    /// use hauyna::Hub;
    /// let hub = Hub::builder()
    ///     .on_user_online(|event, user| async move {
    ///         event.hub().channel("lobby").broadcast(format!("{user} is here")).await?;
    ///         Ok(())
    ///     })
    ///     .on_user_offline(|_, user| async move { Ok(println!("{user} has gone")) })
    ///     .build();
    /// # drop(hub);
    /// ```
    pub fn on_user_online<F, Fut>(self, f: F) -> Self
    where
        F: Fn(Event, UserId) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.on_user(SystemKind::UserOnline, f)
    }

    /// Runs a callback when the last connection of a user is gone; see [`HubBuilder::on_user_online`].
    pub fn on_user_offline<F, Fut>(self, f: F) -> Self
    where
        F: Fn(Event, UserId) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.on_user(SystemKind::UserOffline, f)
    }

    fn on_user<F, Fut>(mut self, kind: SystemKind, f: F) -> Self
    where
        F: Fn(Event, UserId) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let f = Arc::new(f);
        let hook = move |event: Event, event_data| {
            let f = f.clone();
            async move {
                match event_data {
                    SystemEvent::UserOnline { user } | SystemEvent::UserOffline { user } => {
                        f(event, user).await
                    }
                    _ => Ok(()),
                }
            }
        };
        self.hooks.push(Box::new(move |events| {
            events.on_system([kind], hook);
        }));
        self
    }
}
