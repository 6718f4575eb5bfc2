//! A subscription before its request, and the handle on a live one. `Channel::subscribe` makes it.

use crate::channel::object;
use crate::client::{Client, TokenSource, boxed_error};
use crate::error::Error;
use crate::run::{Command, SubscribeRequest, WakeUp};
use hauyna_protocol::Position;
use serde::Serialize;
use std::fmt;
use std::pin::Pin;
use tokio::sync::oneshot;

/// A subscription before its request; see [`Channel::subscribe`](crate::Channel::subscribe).
#[must_use = "nothing is sent before it is awaited"]
pub struct SubscribeBuilder {
    client: Client,
    request: Result<SubscribeRequest, Error>,
}

impl SubscribeBuilder {
    pub(crate) const fn new(client: Client, request: SubscribeRequest) -> Self {
        Self { client, request: Ok(request) }
    }

    /// Adds metadata, an object. Others see it if the channel announces its subscribers or has presence.
    pub fn metadata(mut self, metadata: &impl Serialize) -> Self {
        let metadata = object(metadata);
        self.request =
            self.request.and_then(|request| Ok(SubscribeRequest { metadata: Some(metadata?), ..request }));
        self
    }

    /// Recovers from a position that the application has kept: the publications since then follow.
    pub fn since(mut self, position: Position) -> Self {
        self.request = self.request.map(|request| SubscribeRequest { since: Some(position), ..request });
        self
    }

    /// Sets the source of tokens for this channel, which is called before every request for the subscription.
    pub fn token<F, R, E>(mut self, source: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let source: TokenSource = boxed_error(source);
        self.request = self.request.map(|request| SubscribeRequest { token: Some(source), ..request });
        self
    }
}

impl IntoFuture for SubscribeBuilder {
    type Output = Result<Subscription, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// # Errors
    ///
    /// The server refuses, and the client does not repeat the request; or no answer came in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes its share of the subscription back.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let request = self.request?;
            let (channel, number) = (request.channel.clone(), self.client.next_number());
            // The share ends when the future ends or is dropped, unless the handle takes it over.
            let share = Share { client: self.client.clone(), channel, number: Some(number) };
            let (reply, answer) = oneshot::channel();
            self.client.command(Command::Subscribe { request, share: number, reply }).await?;
            let LiveSubscription { position, recoverable } = self.client.answer(answer).await?;
            Ok(Subscription { position, recoverable, share })
        })
    }
}

impl fmt::Debug for SubscribeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribing").finish_non_exhaustive()
    }
}

/// One share of a live subscription. Each call of `subscribe` returns one, and the client stays subscribed
/// until the last share has ended. So two parts of a program can use one channel independently.
///
/// The share ends with [`unsubscribe`](Self::unsubscribe) or when the handle is dropped, unless
/// [`keep`](Self::keep) was called.
///
/// ```
/// use hauyna::{ChannelOptions, Handler, Hub};
/// use hauyna_client::Client;
/// use hauyna_test::TestServer;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub = Hub::builder().channels("room:{id}", ChannelOptions::new()).build();
/// # let server = TestServer::start(hub, Handler::new());
/// # let client = Client::builder(&server.url("/")).connect()?;
/// let room = client.channel::<u32>("room:1");
/// let list = room.subscribe().await?;
/// let counter = room.subscribe().await?;
/// drop(counter); // the list gets its messages still
/// list.unsubscribe().await?; // now the server sends nothing more
/// # Ok(()) }
/// ```
///
/// Keep the handle in a variable that lives as long as you want messages: `_subscription` does, `_` does not.
/// A call on a handle that is dropped at once does not compile:
///
/// ```compile_fail,E0716
/// # async fn run(room: hauyna_client::Channel) -> Result<(), hauyna_client::Error> {
/// let position = room.subscribe().await?.position(); // the handle is dropped here, and the subscription with it
/// println!("begins at {position:?}");
/// # Ok(()) }
/// ```
#[must_use = "the subscription ends when its last handle is dropped; `keep` lets it last until `Channel::unsubscribe`"]
pub struct Subscription {
    position: Option<Position>,
    recoverable: bool,
    share: Share,
}

impl Subscription {
    /// Returns the position at which the subscription started; `None` if the channel does not number its
    /// publications. It is borrowed, so that the handle must outlive it.
    #[must_use]
    pub const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Returns whether the channel keeps a history to recover from.
    #[must_use]
    pub const fn is_recoverable(&self) -> bool {
        self.recoverable
    }

    /// Ends this share, and with the last one the subscription. Items that were received still wait in the
    /// streams.
    ///
    /// # Errors
    ///
    /// No answer came in time. The client does not subscribe again in any case.
    ///
    /// # Cancel safety
    ///
    /// The share ends even if the future is dropped.
    pub async fn unsubscribe(mut self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.share.end(reply);
        self.share.client.answer(answer).await
    }

    /// Keeps this share until [`Channel::unsubscribe`](crate::Channel::unsubscribe) or the end of the client.
    pub fn keep(mut self) {
        if let Some(share) = self.share.number.take() {
            self.share.client.wake_task(WakeUp::Kept { channel: self.share.channel.clone(), share });
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("channel", &self.share.channel)
            .field("position", &self.position)
            .field("recoverable", &self.recoverable)
            .finish_non_exhaustive()
    }
}

/// One share of a subscription. It ends when it is dropped.
struct Share {
    client: Client,
    channel: String,
    /// Number of the share; `None` once it has ended or is kept.
    number: Option<u64>,
}

impl Share {
    fn end(&mut self, reply: oneshot::Sender<Result<(), Error>>) {
        match self.number.take() {
            Some(share) => {
                self.client.wake_task(WakeUp::Ended { channel: self.channel.clone(), share, reply });
            }
            None => _ = reply.send(Ok(())),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.number.is_some() {
            crate::logger::log_dropped(&self.channel);
            self.end(oneshot::channel().0);
        }
    }
}

/// The state of a live subscription, as the task reports it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveSubscription {
    pub(crate) position: Option<Position>,
    pub(crate) recoverable: bool,
}
