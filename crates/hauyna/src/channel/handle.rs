//! The public handle on a channel, `Channel`, and the builder of a publication. Applications call it.

use super::{
    ChannelCore, PublishOptions, SubscribeReply, SubscribeRequest, Subscription, history, not_subscribed,
    publish_paced, subscribe, subscribed_message, unsubscribe,
};
use crate::broker::{HistoryPage, HistoryRange, Published};
use crate::connection::{Connection, ConnectionCore, frame};
use crate::error::Error;
use crate::hub::Hub;
use crate::presence::{self, PresenceEntry};
use crate::session;
use hauyna_broker::{BoxFuture, ChannelName, ConnectionId, Content, InvalidValue, PublicationKind, UserId};
use hauyna_protocol::{ErrorType, Message};
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A handle to a channel, by name. It is cheap to clone; the channel need not exist.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hauyna::Result {
/// use hauyna::{ChannelOptions, HistoryRange, Hub, json};
/// let hub = Hub::builder().channels("news", ChannelOptions::new()).build();
/// let news = hub.channel("news");
/// let published = news.broadcast(json!({ "headline": "It runs" })).await?;
/// assert_eq!(published.position.unwrap().offset, 1);
/// assert_eq!(news.history(HistoryRange::all()).await?.publications.len(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Channel {
    hub: Hub,
    name: Box<str>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("name", &self.name).finish()
    }
}

impl Channel {
    pub(crate) fn new(hub: Hub, name: &str) -> Self {
        Self { hub, name: name.into() }
    }

    fn checked(&self) -> Result<ChannelName, Error> {
        Ok(ChannelName::new(&self.name)?)
    }

    /// Returns the name of the channel.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Publishes a value to all subscribers. An object with a `type` of its own is sent as it is, with the
    /// channel's name and the position added. Anything else becomes the `content` of a `message`, as does an
    /// object whose `type` is reserved for the protocol
    /// ([`is_reserved_type`](hauyna_protocol::is_reserved_type)).
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad channel name or a value that cannot be represented as JSON;
    /// `unavailable`.
    pub fn broadcast(&self, value: impl Serialize) -> PublishBuilder {
        self.publish(value)
    }

    /// Returns a publication to set options on; await it to publish.
    pub fn publish(&self, value: impl Serialize) -> PublishBuilder {
        let prepared =
            ChannelName::new(&self.name).and_then(|name| Ok((name, Content::of_application(&value)?)));
        PublishBuilder::new(self.hub.clone(), PublicationKind::Application, prepared)
    }

    /// Returns the core of a connection, where it belongs to the channel's hub.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OtherHub`](crate::error::ErrorKind::OtherHub).
    fn connection_core<'a>(&self, connection: &'a Connection) -> Result<&'a Arc<ConnectionCore>, Error> {
        if connection.is_of(&self.hub) { Ok(connection.core()) } else { Err(Error::other_hub()) }
    }

    /// Subscribes a connection, independently of what the channel's options allow clients. `metadata` is an
    /// object that other subscribers see; `()` stands for none. Nothing happens before it is awaited.
    ///
    /// # Errors
    ///
    /// `already_subscribed`, `limit_exceeded`, `validation_error`, `unavailable`; also where the connection
    /// is closed, or [belongs to another hub](crate::error::ErrorKind::OtherHub).
    pub async fn subscribe(&self, connection: &Connection, metadata: impl Serialize) -> Result<(), Error> {
        let core = self.connection_core(connection)?;
        core.sender().let_task_write().await;
        let metadata = metadata_text(&metadata)?;
        let request = SubscribeRequest { metadata, recover: None, awaiting: None };
        let name = self.checked()?;
        // A client that speaks the protocol keeps the position, to recover from it later.
        let notify = |channel: &ChannelCore, reply: &SubscribeReply| {
            if core.is_negotiated() {
                core.sender()
                    .push_notice(frame(core, &Message::Subscribed(subscribed_message(channel, reply))));
            }
        };
        subscribe(&self.hub.0, core, &name, request, notify).await?;
        core.sender().check_bounds();
        Ok(())
    }

    /// Removes a connection from the channel. The session of a lost connection is kept without the channel. A
    /// subscription that still waits for its authoriser or the broker fails with `permission_denied`; other
    /// requests of the client that wait, such as a publication, fail with `not_subscribed`.
    ///
    /// # Errors
    ///
    /// `not_subscribed`; also where the connection [belongs to another
    /// hub](crate::error::ErrorKind::OtherHub).
    pub fn unsubscribe(&self, connection: &Connection) -> Result<(), Error> {
        let core = self.connection_core(connection)?;
        self.end_waiting_subscriptions(Some(core.id()));
        self.remove_subscription(core)
    }

    fn remove_subscription(&self, core: &Arc<ConnectionCore>) -> Result<(), Error> {
        // In the lane of `subscribed` and under the channel's lock, as `subscribed` is: the last of the two
        // that a client gets tells the present state.
        let notify = || {
            if core.is_negotiated() {
                core.sender().push_notice(frame(core, &Message::Unsubscribed { channel: &self.name }));
            }
        };
        let result = unsubscribe(&self.hub.0, core, &self.name, notify)
            .or_else(|error| if session::unsubscribe(core, &self.name) { Ok(()) } else { Err(error) })
            // Once more: a resume may have activated the subscription between the two.
            .or_else(|_| unsubscribe(&self.hub.0, core, &self.name, notify));
        self.hub.0.process_congested_inline();
        result
    }

    fn core(&self) -> Option<Arc<ChannelCore>> {
        self.hub.0.channels.find_str(&self.name)
    }

    /// Ends the subscriptions that are not live yet, of one connection or of all.
    fn end_waiting_subscriptions(&self, connection: Option<ConnectionId>) {
        self.hub.0.awaiting_subscriptions.end(&self.name, connection);
        if let Some(core) = self.core() {
            core.state.lock().end_waiting(connection);
        }
    }

    /// Returns the connections that are subscribed on this node, in no order.
    pub fn subscribers(&self) -> Vec<Connection> {
        let Some(core) = self.core() else { return Vec::new() };
        let state = core.state.lock();
        state
            .subscribers
            .values()
            .map(|subscription| Connection::new(subscription.connection.clone()))
            .collect()
    }

    /// Returns the number of connections that are subscribed on this node.
    pub fn subscription_count(&self) -> usize {
        self.core().map_or(0, |core| core.state.lock().subscribers.len())
    }

    /// Whether a connection of this node is subscribed.
    pub fn is_subscribed(&self, connection: &Connection) -> bool {
        self.subscription(connection).is_some()
    }

    fn subscription(&self, connection: &Connection) -> Option<Arc<Subscription>> {
        self.connection_core(connection).ok()?;
        self.core()?.subscription(connection.id())
    }

    /// Returns the metadata of a subscriber on this node, where it has given any.
    pub fn metadata(&self, connection: &Connection) -> Option<Value> {
        let text = self.subscription(connection)?.metadata.lock().clone()?;
        serde_json::from_str(&text).ok()
    }

    /// Replaces a subscriber's metadata; `()` removes it.
    ///
    /// # Errors
    ///
    /// `not_subscribed`; `validation_error` where it is not an object; also where the connection
    /// [belongs to another hub](crate::error::ErrorKind::OtherHub).
    pub fn update_metadata(&self, connection: &Connection, metadata: impl Serialize) -> Result<(), Error> {
        self.connection_core(connection)?;
        let metadata = metadata_text(&metadata)?;
        let subscription = self.subscription(connection).ok_or_else(not_subscribed)?;
        presence::set_subscription_metadata(&self.hub.0, &subscription, metadata);
        self.hub.0.process_congested_inline();
        Ok(())
    }

    /// Returns the users that are present in this channel, ordered by name; see
    /// [`Presence::list_in_channel`](crate::Presence::list_in_channel).
    pub fn presence(&self) -> impl Future<Output = Vec<PresenceEntry>> + Send + use<> {
        self.hub.presence().list_in_channel(&self.name)
    }

    /// Reads the channel's history.
    ///
    /// # Errors
    ///
    /// `validation_error` for a bad channel name; `unavailable`.
    pub async fn history(&self, range: HistoryRange) -> Result<HistoryPage, Error> {
        Ok(history(&self.hub.0, &self.checked()?, range).await?)
    }

    /// Removes every subscriber on this node from the channel, and the channel from the sessions of lost
    /// connections. Requests that wait fail, as for [`Channel::unsubscribe`]. Nothing happens before it is
    /// awaited.
    pub fn close(&self) -> impl Future<Output = ()> + Send + use<> {
        let channel = self.clone();
        async move { channel.remove_all_subscriptions() }
    }

    fn remove_all_subscriptions(&self) {
        self.end_waiting_subscriptions(None);
        // A client that resumes meanwhile must not find the channel in its session.
        session::unsubscribe_all(&self.hub.0, &self.name);
        // The second time for connections that were lost and resumed in between.
        for _ in 0..2 {
            for connection in self.subscribers() {
                // It fails only for a subscriber that has left in between.
                let _ = self.remove_subscription(connection.core());
            }
            // A connection that was lost in between is not a subscriber any more, but its session may have
            // the channel.
            session::unsubscribe_all(&self.hub.0, &self.name);
        }
    }
}

/// A publication and its options, from [`Channel::publish`] and the other methods that send to many; await it
/// to publish. [`PublishBuilder::conflate`] has an effect in channels only.
///
/// Each option can be set once: a second, different value is an
/// [`ErrorKind::Config`](crate::error::ErrorKind::Config) when the builder is awaited.
#[must_use = "nothing is published before it is awaited"]
pub struct PublishBuilder {
    hub: Hub,
    kind: PublicationKind,
    prepared: Result<(ChannelName, Content), Error>,
    options: PublishOptions,
    /// The publication on its way, from the first poll on.
    running: Option<BoxFuture<Result<Published, Error>>>,
}

impl fmt::Debug for PublishBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channel = self.prepared.as_ref().ok().map(|(channel, _)| channel);
        f.debug_struct("PublishBuilder").field("channel", &channel).field("kind", &self.kind).finish()
    }
}

impl PublishBuilder {
    /// Creates a publication of what `prepared` has, or one that fails with its error when it is awaited.
    pub(crate) fn new(
        hub: Hub,
        kind: PublicationKind,
        prepared: Result<(ChannelName, Content), InvalidValue>,
    ) -> Self {
        let prepared = prepared.map_err(Error::from);
        Self { hub, kind, prepared, options: PublishOptions::default(), running: None }
    }

    /// Sets the user that the publication comes from.
    pub fn from_user(mut self, user: &UserId) -> Self {
        let earlier = self.options.user.replace(user.clone());
        self.given_once("from_user", earlier.is_some_and(|earlier| earlier != *user))
    }

    /// Leaves one connection out, for example the device that the message comes from, and a connection that
    /// resumes its session. The channel's history has the publication for everybody.
    pub fn except(mut self, connection: ConnectionId) -> Self {
        let earlier = self.options.except.replace(connection);
        self.given_once("except", earlier.is_some_and(|earlier| earlier != connection))
    }

    /// Sets an idempotency key: a second publication with this key within 5 minutes is not published, and
    /// returns the position of the first.
    pub fn key(mut self, key: &str) -> Self {
        let earlier = self.options.key.replace(key.into());
        self.given_once("key", earlier.is_some_and(|earlier| *earlier != *key))
    }

    /// Sets the conflation key: the publication replaces waiting ones with the same key, where the channel's
    /// policy is [`SlowConsumer::Conflate`](crate::SlowConsumer::Conflate). Without a key, all publications
    /// of the channel replace each other.
    pub fn conflate(mut self, key: &str) -> Self {
        let earlier = self.options.conflate.replace(key.into());
        self.given_once("conflate", earlier.is_some_and(|earlier| *earlier != *key))
    }

    /// Refuses a second value, which would replace the first.
    fn given_once(mut self, method: &str, is_another: bool) -> Self {
        if is_another {
            let fault = format!("`{method}` is called twice with different values: set one value");
            self.prepared = Err(Error::config(fault));
        }
        self
    }
}

impl Future for PublishBuilder {
    type Output = Result<Published, Error>;

    /// Publishes when it is polled for the first time.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let running = this.running.get_or_insert_with(|| {
            let polled_again = Err(Error::config("a publication was polled after it was done"));
            let prepared = std::mem::replace(&mut this.prepared, polled_again);
            let (hub, kind, options) = (this.hub.clone(), this.kind, std::mem::take(&mut this.options));
            Box::pin(async move {
                let (name, content) = prepared?;
                Ok(publish_paced(&hub.0, name, kind, content, options).await?)
            })
        });
        let done = std::task::ready!(running.as_mut().poll(cx));
        this.running = None;
        Poll::Ready(done)
    }
}

/// Returns a subscriber's metadata as JSON text: an object, or `None` for `()` and `null`.
fn metadata_text(metadata: &impl Serialize) -> Result<Option<Arc<str>>, Error> {
    let value = serde_json::to_value(metadata)
        .map_err(|fault| Error::protocol(ErrorType::ValidationError, fault.to_string()))?;
    match value {
        Value::Null => Ok(None),
        Value::Object(_) => Ok(Some(value.to_string().into())),
        _ => Err(Error::protocol(ErrorType::ValidationError, "metadata must be an object")),
    }
}
