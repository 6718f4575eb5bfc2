//! A channel as the application sees it: subscribe, publish, streams of what happens in it, who is there. Handles are cheap;
//! all of one name share one subscription. The work is the task's.

use crate::call::Call;
use crate::client::{Client, TokenSource, boxed};
use crate::error::{Error, StreamError};
use crate::gap::{Gap, read_gap};
use crate::outbox::Draft;
use crate::presence::{Member, Presence, Roster};
use crate::run::{Command, Wish};
use crate::stream::{Feed, Interest, Note, Stream};
use hauyna_protocol::received::{self, ChannelEvent, History, PresenceKind, Received};
use hauyna_protocol::{Direction, Position};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A handle on a channel whose publications have contents of type `M`.
pub struct Channel<M = serde_json::Value> {
    client: Client,
    shared: Arc<ChannelShared>,
    content: PhantomData<fn() -> M>,
}

/// What the handles of a channel and the task share.
#[derive(Debug)]
pub(crate) struct ChannelShared {
    pub(crate) name: String,
    pub(crate) feed: Feed,
    pub(crate) roster: Mutex<Roster>,
    pub(crate) position: Mutex<Option<Position>>,
}

impl<M> Channel<M> {
    pub(crate) fn new(client: Client, shared: Arc<ChannelShared>) -> Self {
        Self { client, shared, content: PhantomData }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Subscribes, now and after every reconnect, until [`unsubscribe`](Self::unsubscribe). Await what it returns.
    ///
    /// What the server subscribes this client to is there without it.
    pub fn subscribe(&self) -> Subscribing {
        let wish = Wish { channel: self.shared.name.clone(), metadata: None, since: None, token: None };
        Subscribing { client: self.client.clone(), wish: Ok(wish) }
    }

    /// Ends the subscription, also one that the session would bring back after a reconnect. What was received waits in the
    /// streams still.
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

    /// Returns where this client stands: the last publication it has received, which may wait in the streams still. What the
    /// application has dealt with, and goes on from in another life, is told by [`Publication::position`].
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        *self.shared.position.lock()
    }

    /// Returns who is present, as far as the server has told.
    #[must_use]
    pub fn presence(&self) -> Presence {
        self.shared.roster.lock().presence()
    }

    /// Streams who comes, goes and changes. A reconnect within the session shows nobody leaving.
    #[must_use]
    pub fn presence_updates(&self) -> Stream<PresenceUpdate> {
        self.reader(Interest::Presence, |note| match note {
            Note::Presence(update) => Ok(Arc::unwrap_or_clone(update)),
            _ => Err(StreamError::Unreadable(String::new())),
        })
    }

    /// Streams the application messages of one `type` that come through this channel, as whole objects.
    #[must_use]
    pub fn events<T: DeserializeOwned>(&self, kind: &str) -> Stream<T> {
        self.reader(Interest::Events(kind.into()), read_event)
    }

    /// Streams the announcements of subscribers, where the channel makes such.
    #[must_use]
    pub fn subscribers(&self) -> Stream<ChannelEvent> {
        self.reader(Interest::Subscribers, |note| match note {
            Note::Subscriber(event) => Ok(Arc::unwrap_or_clone(event)),
            _ => Err(StreamError::Unreadable(String::new())),
        })
    }

    /// Streams the places where messages of this channel may be missing. [`messages`](Self::messages) has them too.
    #[must_use]
    pub fn gaps(&self) -> Stream<Gap> {
        self.reader(Interest::Gaps, read_gap)
    }

    fn reader<T>(&self, interest: Interest, read: fn(Note) -> Result<T, StreamError>) -> Stream<T> {
        self.shared.feed.reader(interest, self.client.bounds(), read)
    }
}

impl<M: DeserializeOwned> Channel<M> {
    /// Streams the publications from now on, each once and in order; a [`StreamError::Gap`] stands where that cannot be
    /// proved.
    #[must_use]
    pub fn messages(&self) -> Stream<Publication<M>> {
        self.reader(Interest::Messages, |note| match note {
            Note::Publication(publication, position) => Publication::read(&publication, position),
            Note::Gap(gap) => Err(StreamError::Gap(Arc::unwrap_or_clone(gap))),
            _ => Err(StreamError::Unreadable(String::new())),
        })
    }

    /// Asks for publications of the past, oldest first. Await what it returns.
    pub fn history(&self) -> HistoryCall<M> {
        let channel = self.shared.name.clone();
        let draft = Draft::History { channel, since: None, limit: None, direction: Direction::Forward };
        HistoryCall(Call::new(self.client.clone(), Ok(draft), Past::read))
    }
}

impl<M: Serialize> Channel<M> {
    /// Publishes. Await what it returns: the position, or `None` where the channel does not number its publications.
    ///
    /// It is done once, however often the connection is lost meanwhile; where that cannot be known, the error is
    /// [`Error::OutcomeUnknown`].
    pub fn publish(&self, content: &M) -> Call<Option<Position>> {
        let channel = self.shared.name.clone();
        let key = self.client.key();
        let draft = raw(content).map(|content| Draft::Publish { channel, content, key });
        Call::new(self.client.clone(), draft, crate::client::read_position)
    }
}

impl<M> Clone for Channel<M> {
    fn clone(&self) -> Self {
        Self::new(self.client.clone(), self.shared.clone())
    }
}

impl<M> fmt::Debug for Channel<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// A subscription that is about to be asked for; see [`Channel::subscribe`].
#[must_use = "nothing is sent before it is awaited"]
pub struct Subscribing {
    client: Client,
    wish: Result<Wish, Error>,
}

impl Subscribing {
    /// Gives an object along, which others see where the channel announces its subscribers or shows presence.
    pub fn metadata(mut self, metadata: &impl Serialize) -> Self {
        let metadata = object(metadata);
        self.wish = self.wish.and_then(|wish| Ok(Wish { metadata: Some(metadata?), ..wish }));
        self
    }

    /// Recovers from a position that was kept: what was published since follows.
    pub fn since(mut self, position: Position) -> Self {
        self.wish = self.wish.map(|wish| Wish { since: Some(position), ..wish });
        self
    }

    /// Asks for a token that allows this channel, before every subscription.
    pub fn token<F, R, E>(mut self, source: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let source: TokenSource = boxed(source);
        self.wish = self.wish.map(|wish| Wish { token: Some(source), ..wish });
        self
    }
}

impl IntoFuture for Subscribing {
    type Output = Result<Subscription, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// # Errors
    ///
    /// The server refuses, and the client does not ask again; or there is no answer in time. Then the subscription is wanted still:
    /// an answer that is late counts, and the client asks again with its next connection.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let wish = self.wish?;
            let (reply, answer) = oneshot::channel();
            self.client.command(Command::Subscribe { wish, reply }).await?;
            self.client.answer(answer).await
        })
    }
}

impl fmt::Debug for Subscribing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribing").finish_non_exhaustive()
    }
}

/// A subscription is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// Where it stands; `None` where the channel does not number its publications.
    pub position: Option<Position>,
    /// Whether the channel keeps a history to recover from.
    pub recoverable: bool,
}

impl Subscription {
    pub(crate) const fn new(position: Option<Position>, recoverable: bool) -> Self {
        Self { position, recoverable }
    }
}

/// One publication.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Publication<M> {
    /// The channel.
    pub channel: String,
    /// Who published; `None` when the application did.
    pub user: Option<String>,
    /// What was published.
    pub content: M,
    /// In ms since the Unix epoch.
    pub timestamp: u64,
    /// The number in the channel's stream, where it keeps one.
    pub offset: Option<u64>,
    /// Where it stands, if that is known: whoever has dealt with it goes on from there in another life ([`Subscribing::since`]).
    pub position: Option<Position>,
}

impl<M: DeserializeOwned> Publication<M> {
    /// Reads a publication; `place` is a position in the epoch that it was published in.
    fn read(raw: &received::Publication, place: Option<Position>) -> Result<Self, StreamError> {
        let content = serde_json::from_str(raw.content.get())
            .map_err(|error| StreamError::Unreadable(error.to_string()))?;
        let (channel, user) = (raw.channel.clone(), raw.user.clone());
        let position = place.zip(raw.offset).map(|(place, offset)| Position { offset, ..place });
        Ok(Self { channel, user, content, timestamp: raw.timestamp, offset: raw.offset, position })
    }
}

/// A question for the past; see [`Channel::history`].
#[derive(Debug)]
#[must_use = "nothing is sent before it is awaited"]
pub struct HistoryCall<M>(Call<Past<M>>);

impl<M> HistoryCall<M> {
    /// Asks for what came after a position; with [`reverse`](Self::reverse) for what came before it.
    pub fn since(self, position: Position) -> Self {
        self.start_at(position)
    }

    /// Asks for what came before a position, newest first: the page that a reader sees next who scrolls back.
    pub fn before(self, position: Position) -> Self {
        self.start_at(position).reverse()
    }

    /// Starts at a position, and fails where it starts at another one.
    fn start_at(mut self, position: Position) -> Self {
        let mut earlier = None;
        self = self.with(|since, _, _| earlier = since.replace(position));
        if earlier.is_some_and(|earlier| earlier != position) {
            self.0.refuse(Error::Unsendable("a page of the history starts at one position".to_owned()));
        }
        self
    }

    /// Asks for so many at most.
    pub fn limit(self, most: u32) -> Self {
        self.with(|_, limit, _| *limit = Some(most))
    }

    /// Asks for the newest first.
    pub fn reverse(self) -> Self {
        self.with(|_, _, direction| *direction = Direction::Backward)
    }

    fn with(mut self, set: impl FnOnce(&mut Option<Position>, &mut Option<u32>, &mut Direction)) -> Self {
        if let Ok(Draft::History { since, limit, direction, .. }) = self.0.draft() {
            set(since, limit, direction);
        }
        self
    }
}

impl<M: 'static> IntoFuture for HistoryCall<M> {
    type Output = Result<Past<M>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        self.0.into_future()
    }
}

/// Publications of the past.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Past<M> {
    /// In the order that was asked for. Messages of the application that are no publications are left out.
    pub messages: Vec<Publication<M>>,
    /// The end of the stream.
    pub position: Position,
    /// The offset of the oldest publication that the server keeps, or the one after the end where it keeps none. Where it
    /// is not 1, older ones are gone.
    pub oldest: u64,
    /// The position of the last message of the page, also where that is left out: the next page starts there.
    pub last: Option<Position>,
}

impl<M: DeserializeOwned> Past<M> {
    fn read(data: Option<Box<RawValue>>) -> Result<Self, Error> {
        let unreadable = |error: String| Error::Unreadable(error);
        let data = data.ok_or_else(|| unreadable("no data".into()))?;
        let history: History =
            serde_json::from_str(data.get()).map_err(|error| unreadable(error.to_string()))?;
        let mut messages = Vec::with_capacity(history.messages.len());
        let last = last_of(&history);
        for message in &history.messages {
            match Received::read(message.get()) {
                Ok(Received::Publication(publication)) => {
                    messages.push(
                        Publication::read(&publication, Some(history.position))
                            .map_err(|error| unreadable(error.to_string()))?,
                    );
                }
                Ok(_) => {}
                Err(fault) => return Err(unreadable(fault.to_string())),
            }
        }
        Ok(Self { messages, position: history.position, oldest: history.oldest, last })
    }
}

fn last_of(history: &History) -> Option<Position> {
    #[derive(serde::Deserialize)]
    struct Numbered {
        offset: u64,
    }
    let last: Numbered = serde_json::from_str(history.messages.last()?.get()).ok()?;
    Some(Position { offset: last.offset, ..history.position })
}

/// Somebody came, went or changed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PresenceUpdate {
    /// What happened.
    pub kind: PresenceKind,
    /// To whom.
    pub user: String,
    /// As they are now, or were last.
    pub member: Member,
}

pub(crate) fn read_event<T: DeserializeOwned>(note: Note) -> Result<T, StreamError> {
    let Note::Application(application) = note else { return Err(StreamError::Unreadable(String::new())) };
    serde_json::from_str(application.body.get()).map_err(|error| StreamError::Unreadable(error.to_string()))
}

pub(crate) fn raw(value: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>, Error> {
    serde_json::value::to_raw_value(value).map_err(|error| Error::Unsendable(error.to_string()))
}

/// Writes what has to be an object; nothing is an empty one.
pub(crate) fn object(value: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>, Error> {
    let raw = raw(value)?;
    match raw.get() {
        "null" => Ok(serde_json::value::to_raw_value(&serde_json::Map::new()).unwrap_or(raw)),
        text if text.starts_with('{') => Ok(raw),
        _ => Err(Error::Unsendable("not an object".into())),
    }
}
