//! Asking for a subscription, and the handle that comes of it. Made by `Channel::subscribe`.

use crate::channel::object;
use crate::client::{Client, TokenSource, boxed};
use crate::error::Error;
use crate::run::{Command, Wish};
use hauyna_protocol::Position;
use serde::Serialize;
use std::fmt;
use std::pin::Pin;
use tokio::sync::oneshot;

/// A subscription that is about to be asked for; see [`Channel::subscribe`](crate::Channel::subscribe).
#[must_use = "nothing is sent before it is awaited"]
pub struct Subscribing {
    client: Client,
    wish: Result<Wish, Error>,
}

impl Subscribing {
    pub(crate) const fn new(client: Client, wish: Wish) -> Self {
        Self { client, wish: Ok(wish) }
    }

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
