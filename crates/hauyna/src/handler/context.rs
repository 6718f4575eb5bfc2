//! What a callback gets: its connection, and the methods of the hub that callbacks need most.

use crate::auth::Claims;
use crate::channel::Channel;
use crate::connection::{ClientRequest, Connection, ConnectionCore};
use crate::error::{Error, Reject};
use crate::group::Groups;
use crate::hub::Hub;
use crate::presence::Presence;
use crate::request;
#[cfg(doc)]
use crate::request::ConnectRequest;
use crate::user::User;
use hauyna_broker::UserId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

/// The connection that a callback runs for. A handle that is cheap to clone; it may be kept and moved to
/// other tasks.
#[derive(Clone)]
pub struct Context {
    core: Arc<ConnectionCore>,
}

impl Context {
    pub(crate) fn new(core: Arc<ConnectionCore>) -> Self {
        Self { core }
    }

    /// Returns the user, as `identify` named them.
    pub fn user(&self) -> &UserId {
        self.core.user()
    }

    /// Returns the connection.
    pub fn connection(&self) -> Connection {
        Connection::new(self.core.clone())
    }

    /// Returns the hub.
    pub fn hub(&self) -> Hub {
        Hub(self.core.hub().clone())
    }

    /// Returns a channel by its name.
    pub fn channel(&self, name: impl AsRef<str>) -> Channel {
        self.hub().channel(name)
    }

    /// Returns another user, to send to directly.
    pub fn user_named(&self, user: impl AsRef<str>) -> User {
        self.hub().user(user)
    }

    /// Subscribes this connection to a channel, whatever its options say about clients. `metadata` is shown
    /// to other subscribers; `()` for none. Nothing happens before it is awaited.
    ///
    /// # Errors
    ///
    /// `already_subscribed`, `limit_exceeded`, `validation_error` for an invalid name or metadata that is no
    /// object, `unavailable`, or the connection is closed.
    pub async fn subscribe(&self, channel: impl AsRef<str>, metadata: impl Serialize) -> Result<(), Error> {
        self.channel(channel).subscribe(&self.connection(), metadata).await
    }

    /// Unsubscribes this connection from a channel.
    ///
    /// # Errors
    ///
    /// `not_subscribed`.
    pub fn unsubscribe(&self, channel: impl AsRef<str>) -> Result<(), Error> {
        self.channel(channel).unsubscribe(&self.connection())
    }

    /// Sends a message to this connection alone.
    ///
    /// # Errors
    ///
    /// The errors of [`Connection::send`].
    pub fn send(&self, message: impl Serialize) -> Result<(), Error> {
        self.connection().send(message)
    }

    /// Sends a request to this connection's client and waits for its answer; see [`Connection::request`].
    pub fn request<T>(&self, event: &str, data: impl Serialize) -> ClientRequest<T> {
        self.connection().request(event, data)
    }

    /// Returns the presence of this connection, to change it. Its queries, such as
    /// [`Presence::count`](crate::Presence::count), are about all users of the hub.
    pub fn presence(&self) -> Presence {
        Presence::of_connection(self.hub(), self.core.clone())
    }

    /// Returns the groups of users, with roles and permissions.
    pub fn groups(&self) -> Groups {
        self.hub().groups()
    }

    /// Returns a query parameter of the request, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        request::query(self.core.connect_info().target(), name)
    }

    /// Returns a path parameter of the route, decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        request::path_param(&self.core.endpoint().route, self.core.connect_info().target(), name)
    }

    /// Returns all query parameters of the request, decoded into `T`; see [`ConnectRequest::query_as`].
    ///
    /// # Errors
    ///
    /// [`Reject::invalid`], with the parameter in `details.path`.
    pub fn query_as<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        request::query_as(self.core.connect_info().target())
    }

    /// Returns all path parameters of the route, decoded into `T`; see [`ConnectRequest::path`].
    ///
    /// # Errors
    ///
    /// [`Reject::invalid`], with the parameter in `details.path`.
    pub fn path<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        request::path_as(&self.core.endpoint().route, self.core.connect_info().target())
    }

    /// Returns a value attached to the connection by a callback, by `identify`, a middleware or a tower
    /// layer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hauyna::{ConnectRequest, Context, Handler};
    /// # use hauyna::middleware::Next;
    /// #[derive(Clone)]
    /// struct Tenant(String);
    ///
    /// let handler = Handler::new()
    ///     .middleware(async |mut request: ConnectRequest, next: Next| {
    ///         let tenant = request.header("host").unwrap_or("none").to_owned();
    ///         request.extensions_mut().insert(Tenant(tenant));
    ///         next.run(request).await
    ///     })
    ///     .on("tenant", async |cx: Context, _: hauyna::Value| {
    ///         Ok(cx.extension::<Tenant>().map(|tenant| tenant.0))
    ///     });
    /// # drop(handler);
    /// ```
    pub fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.connection().with_extensions(|extensions| extensions.get::<T>().cloned())
    }

    /// Returns the claims of this connection's token, decoded into `T`; after a `refresh`, those of the new
    /// token. See [`Handler::authenticate`](super::Handler::authenticate).
    ///
    /// # Errors
    ///
    /// `unauthorized`: there is no token, or its claims do not fit the type.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let claims = self.extension::<Claims>();
        claims.ok_or_else(|| Reject::unauthorized("there is no token"))?.read()
    }

    /// Returns the value given to [`Handler::state`](super::Handler::state).
    ///
    /// # Panics
    ///
    /// If no value of this type was given.
    #[track_caller]
    pub fn state<S: Send + Sync + 'static>(&self) -> Arc<S> {
        let state = self.core.endpoint().state.get(&TypeId::of::<S>());
        let state = state.and_then(|state| state.clone().downcast().ok());
        let Some(state) = state else {
            panic!("the handler has no state of type {}", std::any::type_name::<S>());
        };
        state
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("connection", &self.core).finish()
    }
}
