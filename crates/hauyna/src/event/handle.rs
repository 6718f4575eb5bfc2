//! The public handle on events, `Events`, and what a listener gets and returns.

use super::listeners::{Callbacks, Decoded};
use super::{ListenerId, Listeners, Outcome, SystemEvent, SystemKind};
use crate::connection::Connection;
use crate::error::Error;
use crate::handler::decode_input;
use crate::hub::Hub;
use hauyna_protocol::{Encoding, ErrorType, Raw};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// The events of a hub, from [`Hub::events`]: listeners for the application's events, by name, and for system
/// events, by [`SystemKind`].
///
/// The listeners of one event run one after the other: those of higher [`priority`](Events::priority) first,
/// among equals those that were registered first. A listener can stop those after it ([`Flow::Stop`]). A
/// listener that fails, panics or takes longer than
/// [`HubBuilder::listener_timeout`](crate::HubBuilder::listener_timeout) is logged, and the others still run.
///
/// A listener lives as long as the hub. It should not own a [`Hub`], because the hub would then never be
/// dropped: use [`Event::hub`] instead.
///
/// # Examples
///
/// ```
/// use hauyna::{Hub, json};
/// use hauyna::events::{Event, Flow};
///
/// #[derive(serde::Deserialize)]
/// struct Order { id: u64, total: u64 }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hauyna::Result {
/// let hub = Hub::new();
/// let events = hub.events();
/// events.on("order_placed", |event: Event, order: Order| async move {
///     event.hub().user("warehouse").send(json!({ "type": "pack", "order": order.id })).await?;
///     Ok(())
/// });
/// events.priority(10).on("order_placed", |_, order: Order| async move {
///     Ok(if order.total == 0 { Flow::Stop } else { Flow::Continue })
/// });
///
/// let outcome = events.trigger("order_placed", None, json!({ "id": 7, "total": 0 })).await?;
/// assert_eq!((outcome.ran, outcome.stopped), (1, true));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Events {
    hub: Hub,
    priority: i32,
}

/// Whether the listeners after this one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Flow {
    /// The listeners after this one run. `()` means the same.
    #[default]
    Continue,
    /// The listeners after this one do not run.
    Stop,
}

/// What a listener gets besides the data: the name, the connection and the hub.
#[derive(Clone)]
pub struct Event {
    name: Arc<str>,
    connection: Option<Connection>,
    pub(super) hub: Hub,
}

impl Events {
    pub(crate) fn new(hub: Hub) -> Self {
        Self { hub, priority: 0 }
    }

    fn listeners(&self) -> &Listeners {
        &self.hub.0.events
    }

    /// Returns a handle that registers listeners with this priority: higher ones run first. Default: 0.
    #[must_use]
    pub fn priority(&self, priority: i32) -> Self {
        Self { priority, ..self.clone() }
    }

    /// Registers a listener for an event of the application, with data of type `T`: any type that can be
    /// deserialized, or [`serde_json::Value`] for data of any kind. Where the data cannot be decoded into
    /// `T`, the listener is not called, and this counts as its failure.
    ///
    /// The listener returns `Ok(())` or a [`Flow`].
    pub fn on<T, F, Fut, R>(&self, event: &str, f: F) -> ListenerId
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Event, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Error>> + Send + 'static,
        R: Into<Flow>,
    {
        let f = Arc::new(f);
        let decode = move |event: Event, data: Raw<'_>| -> Decoded {
            let (f, data) = (f.clone(), decode_input::<T>(data)?);
            Ok(Box::pin(async move { f(event, data).await.map(Into::into) }))
        };
        self.listeners().add_named(event, self.priority, Box::new(decode))
    }

    /// Registers a listener for system events of these kinds. A separate task delivers them one after the
    /// other, in the order in which they happened: when a listener runs, the state of the hub may have
    /// changed again.
    ///
    /// The listener returns `Ok(())` or a [`Flow`]. Up to 16,384 events wait; where listeners are slower than
    /// that, further events are dropped, counted in
    /// [`Stats::events_dropped`](crate::inspect::Stats::events_dropped) and logged.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use hauyna::{Handler, Hub};
    /// use hauyna::events::{SystemEvent, SystemKind};
    /// use hauyna_test::TestServer;
    ///
    /// let (sender, mut opened) = tokio::sync::mpsc::channel(8);
    /// let hub = Hub::new();
    /// hub.events().on_system([SystemKind::Opened], move |_, event| {
    ///     let sender = sender.clone();
    ///     async move {
    ///         if let SystemEvent::Opened { connection, .. } = event {
    ///             sender.send(connection.id()).await.map_err(hauyna::Error::other)?;
    ///         }
    ///         Ok(())
    ///     }
    /// });
    /// let server = TestServer::start(hub.clone(), Handler::new());
    /// let _client = server.connect("/").await;
    /// assert_eq!(opened.recv().await, Some(hub.connections().all()[0].id()));
    /// # }
    /// ```
    pub fn on_system<F, Fut, R>(&self, kinds: impl IntoIterator<Item = SystemKind>, f: F) -> ListenerId
    where
        F: Fn(Event, SystemEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Error>> + Send + 'static,
        R: Into<Flow>,
    {
        let f = Arc::new(f);
        let erased = move |event, system_event| -> Callbacks {
            let f = f.clone();
            Box::pin(async move { f(event, system_event).await.map(Into::into) })
        };
        self.listeners().add_system(kinds, self.priority, Box::new(erased))
    }

    /// Removes a listener. It may still run for an event that was triggered before. Returns whether it was
    /// registered.
    pub fn remove(&self, listener: ListenerId) -> bool {
        self.listeners().remove(listener)
    }

    /// Runs the listeners of an event of the application, one after the other, and returns the [`Outcome`].
    /// `connection` is the connection that the event is about, if any. Nothing happens before it is awaited.
    ///
    /// # Errors
    ///
    /// `validation_error` where the data cannot be represented as JSON;
    /// [`ErrorKind::OtherHub`](crate::error::ErrorKind::OtherHub) where the connection belongs to another
    /// hub; [`ErrorKind::NoRuntime`](crate::error::ErrorKind::NoRuntime) outside of a Tokio runtime. In these
    /// cases no listener has run. The failures of listeners are in the [`Outcome`].
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped, the running listener is dropped with it, and those after it do not run.
    pub async fn trigger(
        &self,
        event: &str,
        connection: Option<&Connection>,
        data: impl Serialize,
    ) -> Result<Outcome, Error> {
        crate::clock::runtime()?;
        if connection.is_some_and(|connection| !connection.is_of(&self.hub)) {
            return Err(Error::other_hub());
        }
        let data = serde_json::to_vec(&data)
            .map_err(|fault| Error::protocol(ErrorType::ValidationError, fault.to_string()))?;
        let event = self.event_named(event, connection.cloned());
        Ok(self.listeners().trigger(&event, Raw::assume_valid(Encoding::Json, &data)).await)
    }

    /// Runs the listeners of an event with a client's message, as JSON.
    pub(crate) async fn trigger_by(&self, event: &str, connection: &Connection, message: &str) -> Outcome {
        let event = self.event_named(event, Some(connection.clone()));
        self.listeners().trigger(&event, Raw::assume_valid(Encoding::Json, message.as_bytes())).await
    }

    fn event_named(&self, name: &str, connection: Option<Connection>) -> Event {
        Event { name: name.into(), connection, hub: self.hub.clone() }
    }
}

impl Event {
    pub(super) fn of_system(hub: Hub, event: &SystemEvent) -> Self {
        Self { name: event.kind().name().into(), connection: event.connection().cloned(), hub }
    }

    /// Returns the name of the event; for a system event, [`SystemKind::name`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the connection that the event is about, if any.
    pub fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// Returns the hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }
}

impl From<()> for Flow {
    fn from((): ()) -> Self {
        Self::Continue
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("name", &self.name)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
