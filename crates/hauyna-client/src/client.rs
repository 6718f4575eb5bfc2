//! The public handle on a client, its states and its methods. The task of the client (`run`) does the work.

use crate::builder::Builder;
use crate::call::Call;
use crate::channel::{Channel, raw, read_event, request_fields};
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

/// A connection to a hauyna server that reconnects by itself.
///
/// Clones are handles on the same client. The client closes when the last handle is dropped. Channels hold
/// one each, streams do not.
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

/// The state of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The client makes its first connection.
    Connecting,
    /// There is a connection.
    Connected,
    /// The connection was lost, and the client makes the next one.
    Reconnecting {
        /// Number of the attempt that comes next or is under way, from 1.
        attempt: u32,
    },
    /// There is no connection, and the client makes no attempt.
    Closed(Closed),
}

/// The session of the current connection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Id that the server gave the connection.
    pub connection_id: String,
    /// The user that the server has authenticated.
    pub user: String,
    /// Whether it resumes the session of the connection before.
    pub resumed: bool,
    /// Retry policy of the server.
    pub retry: Option<RetryTerms>,
    /// The moment at which the credentials expire, in ms since the Unix epoch by the server's clock.
    pub expires_at: Option<u64>,
    /// Time until the credentials expire, in ms from the start of the session.
    pub expires_in: Option<u64>,
    /// The largest message that the server accepts, in encoded bytes.
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
    /// Returns the options of a client for a `ws://` or `wss://` URL; [`Builder::connect`] starts it.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    pub(crate) fn new(commands: mpsc::Sender<Command>, shared: Arc<Shared>) -> Self {
        Self { commands, shared }
    }

    /// Waits until there is a connection. The client connects by itself, even without this call.
    ///
    /// # Errors
    ///
    /// The client is closed for one of these reasons: the server answered the handshake with a status that
    /// another attempt will not change (401 without a token source, 403, 404 …), it closed the connection
    /// with a code after which clients stay away, or the attempts are used up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing: the client continues to connect. A timeout around it bounds the
    /// wait, and [`last_failure`](Self::last_failure) then returns the obstacle; [`close`](Self::close) ends
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

    /// Returns the session of the last connection; `None` before the first one.
    #[must_use]
    pub fn session(&self) -> Option<SessionInfo> {
        self.shared.session.lock().clone()
    }

    /// Returns why the last connection or attempt ended, as a text for people; `None` while there is a
    /// connection.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.shared.last_failure.lock().clone()
    }

    /// Returns the moment of the next attempt to connect; `None` while one is under way, while the client is
    /// offline, and if none is planned. It is set when the state changes to [`State::Reconnecting`].
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
        // The client is closed, so nothing else would end the streams of this channel.
        if self.shared.broadcaster.is_closed() {
            shared.broadcaster.close();
        }
        Channel::new(self.clone(), shared)
    }

    /// Sends a request to the application: the event `name` with the fields of `data`, an object without
    /// `id` and `type`, which belong to the request. Returns what its handler returns.
    ///
    /// Without [`repeatable`](Call::repeatable), a request whose answer was lost fails with
    /// [`Error::OutcomeUnknown`].
    pub fn request<R: DeserializeOwned>(&self, name: &str, data: &(impl Serialize + ?Sized)) -> Call<R> {
        let body = request_fields(name, data);
        let draft = body.map(|body| Draft::Event { name: name.to_owned(), body, repeat: Repeat::Never });
        Call::new(self.clone(), draft, |data| {
            let text = data.as_ref().map_or("null", |data| data.get());
            serde_json::from_str(text).map_err(|error| Error::Unreadable(error.to_string()))
        })
    }

    /// Sends a message to every connection of a user, if the application permits it.
    pub fn send_to_user(&self, user: &str, message: &(impl Serialize + ?Sized)) -> Call<Option<Position>> {
        let (to, key) = (user.to_owned(), self.key());
        self.direct(raw(message).map(|message| Draft::Private { to, message, key }))
    }

    /// Sends a message to every member of a group, if the application permits it.
    pub fn send_to_group(&self, group: &str, message: &(impl Serialize + ?Sized)) -> Call<Option<Position>> {
        let (room, key) = (group.to_owned(), self.key());
        self.direct(raw(message).map(|message| Draft::Group { room, message, key }))
    }

    /// Sends a message to everybody, if the application permits it.
    pub fn broadcast(&self, message: &(impl Serialize + ?Sized)) -> Call<Option<Position>> {
        let key = self.key();
        self.direct(raw(message).map(|message| Draft::Broadcast { message, key }))
    }

    fn direct(&self, draft: Result<Draft, Error>) -> Call<Option<Position>> {
        Call::new(self.clone(), draft, read_position)
    }

    /// Changes the status of this user. The fields of `fields`, an object without `id` and `type`, are
    /// merged into the user's metadata.
    pub fn update_status(&self, status: &str, fields: &(impl Serialize + ?Sized)) -> Call<()> {
        let status = status.to_owned();
        let draft = request_fields("update_status", fields).map(|body| Draft::UpdateStatus { status, body });
        Call::new(self.clone(), draft, |_| Ok(()))
    }

    /// Streams the messages that are sent to this user, to its groups and to everybody.
    #[must_use]
    pub fn directs<M: DeserializeOwned>(&self) -> Stream<Direct<M>> {
        self.reader(Filter::Directs, Direct::read)
    }

    /// Streams the messages of one `type` that the protocol does not define, from any channel, as whole
    /// objects. `connection_state` is among them.
    #[must_use]
    pub fn events<T: DeserializeOwned>(&self, kind: &str) -> Stream<T> {
        self.reader(Filter::Events(kind.into()), read_event)
    }

    /// Streams the gaps of all channels, where messages may be missing.
    #[must_use]
    pub fn gaps(&self) -> Stream<Gap> {
        self.reader(Filter::Gaps, read_gap)
    }

    /// Streams the errors of the server that answer no request, such as the refusal of a client event.
    #[must_use]
    pub fn errors(&self) -> Stream<Refusal> {
        self.reader(Filter::Errors, |notification| match notification {
            Notification::Refused(refusal) => Ok(Arc::unwrap_or_clone(refusal)),
            _ => Err(StreamError::Unreadable(String::new())),
        })
    }

    /// Tells the client that the network is back, or that the connection is in doubt. An open connection has
    /// five seconds to answer a ping. Without one, the client makes an attempt at once, even if it had given
    /// up.
    ///
    /// # Errors
    ///
    /// The client was closed by [`close`](Self::close).
    pub async fn reconnect(&self) -> Result<(), Error> {
        self.command_done(Command::Reconnect).await
    }

    /// Tells the client that there is no network. It makes and counts no attempts until
    /// [`reconnect`](Self::reconnect). An open connection stays until it is lost.
    ///
    /// # Errors
    ///
    /// The client was closed by [`close`](Self::close).
    pub async fn offline(&self) -> Result<(), Error> {
        self.command_done(Command::Offline).await
    }

    /// Waits until the task has handled a command, so that the state is the one that follows.
    async fn command_done(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> Result<(), Error> {
        let (reply, done) = oneshot::channel();
        self.command(command(reply)).await?;
        done.await.map_err(|_| self.closed())
    }

    /// Closes the connection, the session and the client. Without a connection the server is not told, and
    /// keeps the session for its window. Requests without an answer fail, and streams end after the items
    /// that wait in them.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Close(reply)).await.is_ok() {
            // An error means that the task has ended already.
            let _ = done.await;
        }
    }

    /// Notifies the task without waiting.
    pub(crate) fn wake_task(&self, wake_up: WakeUp) {
        self.shared.wake_ups.push(wake_up);
    }

    /// Returns a number that this client uses for one key, call or share only.
    pub(crate) fn next_number(&self) -> u64 {
        self.shared.keys.fetch_add(1, Ordering::Relaxed)
    }

    /// Releases a channel when a handle on it is dropped.
    pub(crate) fn release_channel(&self, channel: &Arc<ChannelShared>) {
        self.shared.channels.release(channel);
    }

    pub(crate) async fn command(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| self.closed())
    }

    /// Waits for an answer. The task keeps the deadline, and answers every call.
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

/// Reads the position from the answer to a publication.
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

/// A source of tokens, which is called before every attempt.
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
