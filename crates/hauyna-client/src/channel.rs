//! The public handle on a channel: subscribe, publish, streams, presence. Handles are cheap, and all handles
//! of one name share a subscription. The task of the client (`run`) does the work.

use crate::call::Call;
use crate::client::Client;
use crate::error::{Error, StreamError};
use crate::events::{ClientEvent, PutResult};
use crate::gap::{Gap, read_gap};
use crate::history::{HistoryRequest, OlderPages};
use crate::outbox::Draft;
use crate::presence::{ChannelPresence, Member};
use crate::publication::Publication;
use crate::run::{Command, SubscribeRequest, WakeUp};
use crate::shared::ChannelShared;
use crate::stream::{Filter, Notification, Stream};
use crate::subscription::SubscribeBuilder;
use hauyna_protocol::Position;
use hauyna_protocol::received::{ChannelEvent, PresenceKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A handle on a channel whose publications have contents of type `M`.
pub struct Channel<M = serde_json::Value> {
    client: Client,
    shared: Arc<ChannelShared>,
    content: PhantomData<fn() -> M>,
}

impl<M> Channel<M> {
    pub(crate) fn new(client: Client, shared: Arc<ChannelShared>) -> Self {
        Self { client, shared, content: PhantomData }
    }

    /// Returns the name of the channel.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Subscribes now and after every reconnect, until [`unsubscribe`](Self::unsubscribe). Await what it
    /// returns.
    ///
    /// A subscription that the server makes for this client needs no call.
    pub fn subscribe(&self) -> SubscribeBuilder {
        let request =
            SubscribeRequest { channel: self.shared.name.clone(), metadata: None, since: None, token: None };
        SubscribeBuilder::new(self.client.clone(), request)
    }

    /// Ends the subscription, even if the session would restore it after a reconnect. Items that were
    /// received still wait in the streams.
    ///
    /// # Errors
    ///
    /// The client is closed, or no answer came in time. The client does not subscribe again in any case.
    pub async fn unsubscribe(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let channel = self.shared.name.clone();
        self.client.command(Command::Unsubscribe { channel, reply }).await?;
        self.client.answer(answer).await.map(|_| ())
    }

    /// Returns the position of the last publication that was received, which may still wait in the streams.
    /// [`Publication::position`] returns that of a publication that the application has handled, to continue
    /// from after a restart.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        *self.shared.position.lock()
    }

    /// Returns the members that the server has named: a snapshot, with methods that change what this
    /// connection shows.
    #[must_use]
    pub fn presence(&self) -> ChannelPresence {
        let snapshot = self.shared.roster.lock().presence();
        ChannelPresence::new(self.client.clone(), self.shared.name.clone(), snapshot)
    }

    /// Streams joins, leaves and updates of members. A reconnect within the session reports no leave.
    #[must_use]
    pub fn presence_updates(&self) -> Stream<PresenceUpdate> {
        self.reader(Filter::Presence, |notification| match notification {
            Notification::Presence(update) => Ok(Arc::unwrap_or_clone(update)),
            _ => Err(StreamError::Unreadable(String::new())),
        })
    }

    /// Streams the messages of one `type` that the application sends through this channel, as whole objects.
    #[must_use]
    pub fn events<T: DeserializeOwned>(&self, kind: &str) -> Stream<T> {
        self.reader(Filter::Events(kind.into()), read_event)
    }

    /// Sends a client event to the other subscribers: a message that is outdated a moment later, such as the
    /// position of a cursor. It has no answer, is not in the history, and does not come back to this
    /// connection.
    ///
    /// Without a subscription or a connection the event is dropped. Events are sent no more often than the
    /// channel allows. Only the latest of each kind waits, so the last one is always sent.
    ///
    /// # Errors
    ///
    /// The data cannot be encoded as JSON, or the channel does not declare this kind of event
    /// ([`Error::Unsendable`]).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use hauyna_client::{Channel, Error};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize)]
    /// struct Cursor {
    ///     x: f64,
    ///     y: f64,
    /// }
    ///
    /// # async fn run(board: Channel) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut cursors = board.client_events::<Cursor>("cursor");
    /// board.send("cursor", &Cursor { x: 1.0, y: 2.5 })?;
    /// while let Some(cursor) = cursors.next().await {
    ///     let cursor = cursor?;
    ///     println!("{} points at {}, {}", cursor.user, cursor.data.x, cursor.data.y);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn send(&self, event: &str, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        let data = raw(data)?;
        let data = (data.get() != "null").then_some(data);
        match self.shared.events.lock().put(event, data) {
            PutResult::Dropped | PutResult::Queued => {}
            PutResult::Notify => self.client.wake_task(WakeUp::Events(self.shared.clone())),
            PutResult::Undeclared => {
                let channel = &self.shared.name;
                let text = format!("channel {channel:?} declares no client event {event:?}");
                return Err(Error::Unsendable(text));
            }
        }
        Ok(())
    }

    /// Streams the client events of one kind that other subscribers [`send`](Self::send), with their data
    /// read into `T`.
    #[must_use]
    pub fn client_events<T: DeserializeOwned>(&self, event: &str) -> Stream<ClientEvent<T>> {
        self.reader(Filter::ClientEvents(event.into()), ClientEvent::read)
    }

    /// Streams the announcements of subscribers, if the channel makes them.
    #[must_use]
    pub fn subscribers(&self) -> Stream<ChannelEvent> {
        self.reader(Filter::Subscribers, |notification| match notification {
            Notification::Subscriber(event) => Ok(Arc::unwrap_or_clone(event)),
            _ => Err(StreamError::Unreadable(String::new())),
        })
    }

    /// Streams the gaps of this channel, where messages may be missing. [`messages`](Self::messages) contains
    /// them, too.
    #[must_use]
    pub fn gaps(&self) -> Stream<Gap> {
        self.reader(Filter::Gaps, read_gap)
    }

    fn reader<T>(&self, filter: Filter, read: fn(Notification) -> Result<T, StreamError>) -> Stream<T> {
        self.shared.broadcaster.reader(filter, self.client.bounds(), read)
    }
}

impl<M: DeserializeOwned> Channel<M> {
    /// Streams the publications from now on, each once and in order. Where messages may be missing, the item
    /// is a [`StreamError::Gap`].
    #[must_use]
    pub fn messages(&self) -> Stream<Publication<M>> {
        self.reader(Filter::Messages, |notification| match notification {
            Notification::Publication(publication, position) => Publication::read(&publication, position),
            Notification::Gap(gap) => Err(StreamError::Gap(Arc::unwrap_or_clone(gap))),
            _ => Err(StreamError::Unreadable(String::new())),
        })
    }

    /// Requests earlier publications, oldest first. Await what it returns.
    pub fn history(&self) -> HistoryRequest<M> {
        HistoryRequest::new(self.client.clone(), self.shared.name.clone())
    }

    /// Streams earlier publications, newest first, back to the oldest: what a reader sees who scrolls back.
    /// It requests a page whenever the last one is used up.
    ///
    /// ```
    /// use hauyna::{ChannelOptions, Handler, Hub};
    /// use hauyna_client::Client;
    /// use hauyna_test::TestServer;
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let rooms = ChannelOptions::new().history(100, Duration::from_secs(60));
    /// # let hub = Hub::builder().channels("room:{id}", rooms).build();
    /// # let server = TestServer::start(hub, Handler::new());
    /// # let client = Client::builder(&server.url("/")).connect()?;
    /// let room = client.channel::<u32>("room:1");
    /// let _subscription = room.subscribe().await?;
    /// for n in 1..=5 {
    ///     room.publish(&n).await?;
    /// }
    /// let mut older = room.older().limit(2); // a page has two
    /// let mut contents = Vec::new();
    /// while let Some(publication) = older.next().await {
    ///     contents.push(publication?.content);
    /// }
    /// assert_eq!(contents, [5, 4, 3, 2, 1]);
    /// # Ok(()) }
    /// ```
    pub fn older(&self) -> OlderPages<M> {
        OlderPages::new(self.client.clone(), self.shared.name.clone())
    }
}

impl<M: Serialize> Channel<M> {
    /// Publishes. Await what it returns: the position, or `None` if the channel does not number its
    /// publications.
    ///
    /// The publication is made once, however often the connection is lost. If the client cannot know that,
    /// the error is [`Error::OutcomeUnknown`].
    pub fn publish(&self, content: &M) -> Call<Option<Position>> {
        let channel = self.shared.name.clone();
        let key = self.client.key();
        let draft = raw(content).map(|content| Draft::Publish { channel, content, key, echo: true });
        Call::new(self.client.clone(), draft, crate::client::read_position)
    }
}

impl<M> Clone for Channel<M> {
    fn clone(&self) -> Self {
        Self::new(self.client.clone(), self.shared.clone())
    }
}

impl<M> Drop for Channel<M> {
    fn drop(&mut self) {
        self.client.release_channel(&self.shared);
    }
}

impl<M> fmt::Debug for Channel<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// A join, leave or update of a member.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PresenceUpdate {
    /// The kind of change.
    pub kind: PresenceKind,
    /// The user that it concerns.
    pub user: String,
    /// The member after the change, or before a leave.
    pub member: Arc<Member>,
}

pub(crate) fn read_event<T: DeserializeOwned>(notification: Notification) -> Result<T, StreamError> {
    let Notification::Application(application) = notification else {
        return Err(StreamError::Unreadable(String::new()));
    };
    serde_json::from_str(application.body.get()).map_err(|error| StreamError::Unreadable(error.to_string()))
}

pub(crate) fn raw(value: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>, Error> {
    serde_json::value::to_raw_value(value).map_err(|error| Error::Unsendable(error.to_string()))
}

/// Encodes a value that must be an object; `null` becomes an empty one.
pub(crate) fn object(value: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>, Error> {
    let raw = raw(value)?;
    match raw.get() {
        "null" => Ok(serde_json::value::to_raw_value(&serde_json::Map::new()).unwrap_or(raw)),
        text if text.starts_with('{') => Ok(raw),
        _ => Err(Error::Unsendable("not an object".into())),
    }
}

/// Encodes the fields of a request, an object. The request would replace its `id`, and another `type`.
pub(crate) fn request_fields(
    request: &str,
    value: &(impl Serialize + ?Sized),
) -> Result<Box<RawValue>, Error> {
    let raw = object(value)?;
    let fields: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(raw.get()).map_err(|error| Error::Unsendable(error.to_string()))?;
    let is_request =
        |kind: &&RawValue| serde_json::from_str(kind.get()).is_ok_and(|kind: String| kind == request);
    if fields.contains_key("id") || fields.get("type").is_some_and(|kind| !is_request(kind)) {
        return Err(Error::Unsendable("the fields `id` and `type` belong to the request itself".into()));
    }
    Ok(raw)
}
