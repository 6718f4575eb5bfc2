//! The public face: the handle on a client, its states, and its verbs. The work is done by the client's one
//! task.

use crate::builder::Builder;
use crate::call::Call;
use crate::channel::{Channel, object, raw, read_event};
use crate::direct::Direct;
use crate::error::{Closed, Error, Refusal, StreamError};
use crate::gap::{Gap, read_gap};
use crate::outbox::{Draft, Repeat};
use crate::run::{Command, WakeUp};
use crate::shared::{ChannelShared, Shared};
use crate::stream::{BufferBounds, Filter, Notification, Stream};
use hauyna_protocol::received::Session;
use hauyna_protocol::{Epoch, Position, RetryTerms};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// A connection to a hauyna server that comes back by itself.
///
/// Clones are handles on the same client. When the last one is gone – channels hold one each, streams do not
/// – the client closes.
///
/// ```
/// use hauyna::{ChannelOptions, Handler, Hub};
/// use hauyna_client::Client;
/// use hauyna_test::TestServer;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::builder().channels("room:{id}", ChannelOptions::new()).build();
/// let server = TestServer::start(hub, Handler::new());
///
/// let client = Client::builder(&server.url("/")).connect()?;
/// let room = client.channel::<String>("room:1");
/// let mut messages = room.messages();
/// let _subscription = room.subscribe().await?;
/// room.publish(&"hello".to_owned()).await?;
/// assert_eq!(messages.next().await.unwrap()?.content, "hello");
/// client.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// What state a client is in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The first connection is being made.
    Connecting,
    /// There is a connection.
    Connected,
    /// The connection was lost, and the next one is on its way.
    Reconnecting {
        /// The number of the attempt that comes next, or is under way; from 1.
        attempt: u32,
    },
    /// There is no connection, and no attempt to make one.
    Closed(Closed),
}

/// The session of the current connection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The connection, as the server calls it.
    pub connection_id: String,
    /// Who the server takes this client for.
    pub user: String,
    /// Whether it goes on where the connection before it ended.
    pub resumed: bool,
    /// The server's retry policy.
    pub retry: Option<RetryTerms>,
    /// When the credentials end, in ms since the Unix epoch by the server's clock.
    pub expires_at: Option<u64>,
    /// In how many ms that was when the session began.
    pub expires_in: Option<u64>,
    /// Bytes of the largest message that the server takes, as it is encoded.
    pub max_message: Option<u64>,
}

impl SessionInfo {
    pub(crate) fn of(session: &Session) -> Self {
        Self {
            connection_id: session.connection_id.clone(),
            user: session.user.clone(),
            resumed: session.resumed,
            retry: session.retry,
            expires_at: session.expires_at,
            expires_in: session.expires_in,
            max_message: session.limits.as_ref().map(|limits| limits.max_message),
        }
    }
}

impl Client {
    /// Begins a client of a `ws://` or `wss://` URL; its options come before [`Builder::connect`].
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    pub(crate) fn new(commands: mpsc::Sender<Command>, shared: Arc<Shared>) -> Self {
        Self { commands, shared }
    }

    /// Waits until there is a connection. The client connects by itself, also without a call of this.
    ///
    /// # Errors
    ///
    /// The client is closed, with the reason: the server answered with a status that another attempt will not
    /// change, such as 401 without a source of tokens, 403 or 404; it closed with a code that means to stay
    /// away; or the attempts are used up.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing: the client goes on to connect. So a time-out around it is how long you
    /// wait, and [`last_failure`](Self::last_failure) says what stood in the way; [`close`](Self::close) ends
    /// the attempts.
    ///
    /// ```
    /// use hauyna_client::{Client, Endpoint};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), hauyna_client::InvalidUrl> {
    /// # let refuse = |_: Endpoint| async { Err::<tokio::io::DuplexStream, _>(std::io::Error::other("nobody listens")) };
    /// # let builder = Client::builder("ws://nowhere.test/").connector(refuse);
    /// let client = builder.connect()?;
    /// if tokio::time::timeout(Duration::from_secs(5), client.connected()).await.is_err() {
    ///     let why = client.last_failure().unwrap_or_default();
    ///     assert_eq!(why, "cannot connect: nobody listens");
    ///     client.close().await;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn connected(&self) -> Result<SessionInfo, Closed> {
        let mut state = self.shared.state.subscribe();
        let reached = |state: &State| matches!(state, State::Connected | State::Closed(_));
        let reached = state.wait_for(reached).await.map(|state| state.clone());
        match (reached, self.session()) {
            (Ok(State::Connected), Some(session)) => Ok(session),
            (Ok(State::Closed(closed)), _) => Err(closed),
            _ => Err(Closed::ByUs),
        }
    }

    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.state.borrow().clone()
    }

    /// Returns the session of the last connection, once there was one.
    #[must_use]
    pub fn session(&self) -> Option<SessionInfo> {
        self.shared.session.lock().clone()
    }

    /// Returns why the last connection or attempt ended, for people; `None` while there is a connection.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.shared.last_failure.lock().clone()
    }

    /// Returns when the next attempt to connect is made; `None` while one is under way, without a network,
    /// and where none is planned. It is known when the state changes to [`State::Reconnecting`].
    #[must_use]
    pub fn retry_at(&self) -> Option<Instant> {
        *self.shared.retry_at.lock()
    }

    /// Streams the changes of the state.
    #[must_use]
    pub fn states(&self) -> Stream<State> {
        self.reader(Filter::States, |notification| match notification {
            Notification::State(state) => Ok(state),
            _ => Err(StreamError::Unreadable(String::new())),
        })
    }

    /// Returns the handle on a channel whose publications have contents of type `M`. Nothing is sent.
    #[must_use]
    pub fn channel<M>(&self, name: &str) -> Channel<M> {
        let shared = self.shared.channels.open(name);
        // Nobody would end its streams later.
        if self.shared.broadcaster.is_closed() {
            shared.broadcaster.close();
        }
        Channel::new(self.clone(), shared)
    }

    /// Asks the application: sends the event `name` with the fields of `data`, an object, and gives what its
    /// handler returns.
    ///
    /// Without [`repeatable`](Call::repeatable), one whose answer was lost fails with
    /// [`Error::OutcomeUnknown`].
    pub fn request<R: DeserializeOwned>(&self, name: &str, data: &(impl Serialize + ?Sized)) -> Call<R> {
        let draft =
            object(data).map(|body| Draft::Event { name: name.to_owned(), body, repeat: Repeat::Never });
        Call::new(self.clone(), draft, |data| {
            let text = data.as_ref().map_or("null", |data| data.get());
            serde_json::from_str(text).map_err(|error| Error::Unreadable(error.to_string()))
        })
    }

    /// Sends to every connection of a user, as the application allows.
    pub fn send_to_user(&self, user: &str, message: &(impl Serialize + ?Sized)) -> Call<Option<Position>> {
        let (to, key) = (user.to_owned(), self.key());
        self.direct(raw(message).map(|message| Draft::Private { to, message, key }))
    }

    /// Sends to every member of a group, as the application allows.
    pub fn send_to_group(&self, group: &str, message: &(impl Serialize + ?Sized)) -> Call<Option<Position>> {
        let (room, key) = (group.to_owned(), self.key());
        self.direct(raw(message).map(|message| Draft::Group { room, message, key }))
    }

    /// Sends to everybody, as the application allows.
    pub fn broadcast(&self, message: &(impl Serialize + ?Sized)) -> Call<Option<Position>> {
        let key = self.key();
        self.direct(raw(message).map(|message| Draft::Broadcast { message, key }))
    }

    fn direct(&self, draft: Result<Draft, Error>) -> Call<Option<Position>> {
        Call::new(self.clone(), draft, read_position)
    }

    /// Changes this user's status; the fields of `fields`, an object, are merged into its metadata.
    pub fn update_status(&self, status: &str, fields: &(impl Serialize + ?Sized)) -> Call<()> {
        let status = status.to_owned();
        let draft = object(fields).map(|body| Draft::UpdateStatus { status, body });
        Call::new(self.clone(), draft, |_| Ok(()))
    }

    /// Streams what is sent to this user, to its groups and to everybody.
    #[must_use]
    pub fn directs<M: DeserializeOwned>(&self) -> Stream<Direct<M>> {
        self.reader(Filter::Directs, Direct::read)
    }

    /// Streams the messages of one `type` that the protocol itself does not know, through whatever channel
    /// they come, as whole objects. `connection_state` is among them.
    #[must_use]
    pub fn events<T: DeserializeOwned>(&self, kind: &str) -> Stream<T> {
        self.reader(Filter::Events(kind.into()), read_event)
    }

    /// Streams the places where messages may be missing, of all channels.
    #[must_use]
    pub fn gaps(&self) -> Stream<Gap> {
        self.reader(Filter::Gaps, read_gap)
    }

    /// Streams the errors of the server that answer no request, such as a client event that it refuses.
    #[must_use]
    pub fn errors(&self) -> Stream<Refusal> {
        self.reader(Filter::Errors, |notification| match notification {
            Notification::Refused(refusal) => Ok(Arc::unwrap_or_clone(refusal)),
            _ => Err(StreamError::Unreadable(String::new())),
        })
    }

    /// Says that the network is back, or that there is reason to doubt the connection: one that lives has
    /// five seconds to show it, and one that does not is attempted at once, after giving up too.
    ///
    /// # Errors
    ///
    /// The client was closed by [`close`](Self::close).
    pub async fn reconnect(&self) -> Result<(), Error> {
        self.command_done(Command::Reconnect).await
    }

    /// Says that there is no network: no attempts are made, nor counted, until
    /// [`reconnect`](Self::reconnect). A connection that is there stays until it is lost.
    ///
    /// # Errors
    ///
    /// The client was closed by [`close`](Self::close).
    pub async fn offline(&self) -> Result<(), Error> {
        self.command_done(Command::Offline).await
    }

    /// Waits until the task has done it, so that the state is the one that follows.
    async fn command_done(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> Result<(), Error> {
        let (reply, done) = oneshot::channel();
        self.command(command(reply)).await?;
        done.await.map_err(|_| self.closed())
    }

    /// Ends the connection, the session and the client. What was not answered fails; streams end behind what
    /// waits in them.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Close(reply)).await.is_ok() {
            // An error says that the task is gone already.
            let _ = done.await;
        }
    }

    /// Tells the task something without waiting.
    pub(crate) fn wake_task(&self, wake_up: WakeUp) {
        self.shared.wake_ups.push(wake_up);
    }

    /// Returns a number that no other key, and no other share of a subscription, of this client has.
    pub(crate) fn next_number(&self) -> u64 {
        self.shared.keys.fetch_add(1, Ordering::Relaxed)
    }

    /// A handle on a channel is dropped.
    pub(crate) fn release_channel(&self, channel: &Arc<ChannelShared>) {
        self.shared.channels.release(channel);
    }

    pub(crate) async fn command(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| self.closed())
    }

    /// Waits for an answer. The task keeps the time, and answers every call.
    pub(crate) async fn answer<T>(&self, answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        answer.await.unwrap_or_else(|_| Err(self.closed()))
    }

    pub(crate) fn is_connected(&self) -> bool {
        *self.shared.state.borrow() == State::Connected
    }

    pub(crate) fn closed(&self) -> Error {
        match self.state() {
            State::Closed(closed) => Error::from(closed),
            _ => Error::Closed(Closed::ByUs),
        }
    }

    pub(crate) fn request_timeout(&self) -> (Duration, Duration) {
        (self.shared.ttl(), self.shared.timeout)
    }

    pub(crate) fn bounds(&self) -> BufferBounds {
        self.shared.bounds
    }

    pub(crate) fn key(&self) -> String {
        format!("{:016x}-{:x}", self.shared.key_prefix, self.next_number())
    }

    fn reader<T>(&self, filter: Filter, read: fn(Notification) -> Result<T, StreamError>) -> Stream<T> {
        self.shared.broadcaster.reader(filter, self.shared.bounds, read)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// Reads the data of an answer to a publication.
pub(crate) fn read_position(data: Option<Box<RawValue>>) -> Result<Option<Position>, Error> {
    #[derive(Deserialize)]
    struct EndpointOptions {
        epoch: String,
        offset: u64,
    }
    let Some(data) = data else { return Ok(None) };
    let place: EndpointOptions =
        serde_json::from_str(data.get()).map_err(|error| Error::Unreadable(error.to_string()))?;
    Ok(Some(Position { epoch: Epoch::parse(&place.epoch), offset: place.offset }))
}

/// Where tokens come from: asked before every attempt.
pub(crate) type TokenSource = Arc<dyn Fn() -> TokenFuture + Send + Sync>;
pub(crate) type TokenFuture = Pin<Box<dyn Future<Output = Result<String, Fault>> + Send>>;
type Fault = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn boxed_error<F, R, E>(source: F) -> TokenSource
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<String, E>> + Send + 'static,
    E: Into<Fault>,
{
    Arc::new(move || {
        let token = source();
        Box::pin(async move { token.await.map_err(Into::into) })
    })
}
