//! A broker around another one, whose methods a test replaces or delays one by one. Tests of an application
//! use it to see what their code does when the broker fails, hangs or is far away.

use hauyna::broker::{
    Answer, Broker, BrokerError, Directory, HistoryPage, LocalBroker, Publish, Published, Relay,
};
use hauyna::channel::Publication;
use hauyna::{ChannelName, HistoryRange};
use std::fmt;
use std::sync::Arc;

/// A [`Broker`] that passes every call to another broker, except where the test replaces a method.
///
/// Each closure gets the wrapped broker first. It can call it, at once or in a future, or leave it out. A
/// method without a closure is passed on unchanged. `WrappedBroker::default()` wraps a new [`LocalBroker`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use hauyna::broker::{Answer, BrokerError};
/// use hauyna::{ChannelOptions, ErrorType, Hub};
/// use hauyna_test::WrappedBroker;
/// use std::sync::Arc;
/// use tokio::sync::Notify;
///
/// let arrived = Arc::new(Notify::new());
/// let gate = arrived.clone();
/// let broker = WrappedBroker::default()
///     // Fails for one channel.
///     .on_publish(|broker, publish| match publish.draft.channel().as_str() {
///         "broken" => Answer::now(Err(BrokerError::new("connection refused"))),
///         _ => broker.publish(publish),
///     })
///     // Answers later, as a broker elsewhere does.
///     .on_history(move |broker, channel, range| {
///         let (page, gate) = (broker.history(channel, range), gate.clone());
///         Answer::later(async move {
///             gate.notified().await;
///             page.await
///         })
///     });
/// let hub = Hub::builder().channels("{*any}", ChannelOptions::new()).broker(broker).build();
///
/// hub.channel("news").broadcast("stored").await.unwrap();
/// let refused = hub.channel("broken").broadcast("lost").await.unwrap_err();
/// assert_eq!(refused.error_type(), ErrorType::Unavailable);
///
/// arrived.notify_one();
/// let page = hub.channel("news").history(hauyna::HistoryRange::all()).await.unwrap();
/// assert_eq!(page.publications.len(), 1);
/// # }
/// ```
pub struct WrappedBroker {
    inner: Arc<dyn Broker>,
    publish: Box<OnPublish>,
    subscribe: Box<OnSubscribe>,
    unsubscribe: Box<OnUnsubscribe>,
    history: Box<OnHistory>,
    sweep: Box<OnSweep>,
    is_ready: Box<OnIsReady>,
    relay: Arc<OnRelay>,
}

type Outcome<T> = Answer<Result<T, BrokerError>>;
type OnPublish = dyn Fn(&Arc<dyn Broker>, Publish) -> Outcome<Published> + Send + Sync;
type OnSubscribe = dyn Fn(&Arc<dyn Broker>, &ChannelName) -> Outcome<()> + Send + Sync;
type OnUnsubscribe = dyn Fn(&Arc<dyn Broker>, &ChannelName) + Send + Sync;
type OnHistory = dyn Fn(&Arc<dyn Broker>, &ChannelName, HistoryRange) -> Outcome<HistoryPage> + Send + Sync;
type OnSweep = dyn Fn(&Arc<dyn Broker>) + Send + Sync;
type OnIsReady = dyn Fn(&Arc<dyn Broker>) -> bool + Send + Sync;
type OnRelay = dyn Fn(&Relay, &Arc<Publication>) + Send + Sync;

impl WrappedBroker {
    /// Creates a broker that passes every call to `inner`.
    #[must_use]
    pub fn new(inner: impl Broker) -> Self {
        Self {
            inner: Arc::new(inner),
            publish: Box::new(|inner, publish| inner.publish(publish)),
            subscribe: Box::new(|inner, channel| inner.subscribe(channel)),
            unsubscribe: Box::new(|inner, channel| inner.unsubscribe(channel)),
            history: Box::new(|inner, channel, range| inner.history(channel, range)),
            sweep: Box::new(|inner| inner.sweep()),
            is_ready: Box::new(|inner| inner.is_ready()),
            relay: Arc::new(Relay::relay),
        }
    }

    /// Replaces [`Broker::publish`].
    #[must_use]
    pub fn on_publish(
        self,
        publish: impl Fn(&Arc<dyn Broker>, Publish) -> Answer<Result<Published, BrokerError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { publish: Box::new(publish), ..self }
    }

    /// Replaces [`Broker::subscribe`].
    #[must_use]
    pub fn on_subscribe(
        self,
        subscribe: impl Fn(&Arc<dyn Broker>, &ChannelName) -> Answer<Result<(), BrokerError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { subscribe: Box::new(subscribe), ..self }
    }

    /// Replaces [`Broker::unsubscribe`].
    #[must_use]
    pub fn on_unsubscribe(
        self,
        unsubscribe: impl Fn(&Arc<dyn Broker>, &ChannelName) + Send + Sync + 'static,
    ) -> Self {
        Self { unsubscribe: Box::new(unsubscribe), ..self }
    }

    /// Replaces [`Broker::history`].
    #[must_use]
    pub fn on_history(
        self,
        history: impl Fn(&Arc<dyn Broker>, &ChannelName, HistoryRange) -> Answer<Result<HistoryPage, BrokerError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { history: Box::new(history), ..self }
    }

    /// Replaces [`Broker::sweep`].
    #[must_use]
    pub fn on_sweep(self, sweep: impl Fn(&Arc<dyn Broker>) + Send + Sync + 'static) -> Self {
        Self { sweep: Box::new(sweep), ..self }
    }

    /// Replaces [`Broker::is_ready`].
    #[must_use]
    pub fn on_is_ready(self, is_ready: impl Fn(&Arc<dyn Broker>) -> bool + Send + Sync + 'static) -> Self {
        Self { is_ready: Box::new(is_ready), ..self }
    }

    /// Replaces what happens when the wrapped broker relays a publication. The closure gets the relay of the
    /// hub. To relay later, it stores both and calls [`Relay::relay`] then; the hub expects the publications
    /// of one channel in the order of their offsets.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use hauyna::{ChannelOptions, Handler, Hub};
    /// use hauyna_test::{MemoryServer, WrappedBroker};
    /// use std::sync::{Arc, Mutex};
    ///
    /// let waiting = Arc::new(Mutex::new(Vec::new()));
    /// let queue = waiting.clone();
    /// let broker = WrappedBroker::default().on_relay(move |relay, publication| {
    ///     queue.lock().unwrap().push((relay.clone(), publication.clone()));
    /// });
    /// let hub = Hub::builder().channels("news", ChannelOptions::new()).broker(broker).build();
    /// let server = MemoryServer::start(hub.clone(), Handler::new());
    /// let mut reader = server.connect("/").await;
    /// reader.subscribe("news").await;
    ///
    /// hub.channel("news").broadcast("late").await.unwrap();
    /// reader.expect_nothing().await;
    /// for (relay, publication) in waiting.lock().unwrap().drain(..) {
    ///     relay.relay(&publication);
    /// }
    /// assert_eq!(reader.expect_message("news").await["content"], "late");
    /// # }
    /// ```
    #[must_use]
    pub fn on_relay(self, relay: impl Fn(&Relay, &Arc<Publication>) + Send + Sync + 'static) -> Self {
        Self { relay: Arc::new(relay), ..self }
    }
}

impl Default for WrappedBroker {
    fn default() -> Self {
        Self::new(LocalBroker::default())
    }
}

impl fmt::Debug for WrappedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrappedBroker").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Broker for WrappedBroker {
    fn start(&self, relay: Relay) {
        let (on_relay, to) = (self.relay.clone(), relay.clone());
        self.inner.start(relay.on_publication(move |publication| on_relay(&to, publication)));
    }

    fn publish(&self, publish: Publish) -> Answer<Result<Published, BrokerError>> {
        (self.publish)(&self.inner, publish)
    }

    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), BrokerError>> {
        (self.subscribe)(&self.inner, channel)
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        (self.unsubscribe)(&self.inner, channel);
    }

    fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Answer<Result<HistoryPage, BrokerError>> {
        (self.history)(&self.inner, channel, range)
    }

    fn directory(&self) -> Option<Arc<dyn Directory>> {
        self.inner.directory()
    }

    fn sweep(&self) {
        (self.sweep)(&self.inner);
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }

    fn is_ready(&self) -> bool {
        (self.is_ready)(&self.inner)
    }
}
