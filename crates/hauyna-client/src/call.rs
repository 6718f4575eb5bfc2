//! A request before it is sent: its options, and the wait for its answer.

use crate::client::Client;
use crate::clock::after;
use crate::error::Error;
use crate::outbox::{Draft, Entry, Repeat};
use crate::run::Command;
use serde_json::value::RawValue;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A request. It is sent when it is awaited.
///
/// # Cancel safety
///
/// Dropping the future before the request is sent takes it back. Afterwards the request may be done.
#[must_use = "nothing is sent before it is awaited"]
pub struct Call<T> {
    client: Client,
    draft: Result<Draft, Error>,
    read: fn(Option<Box<RawValue>>) -> Result<T, Error>,
    ttl: Duration,
    timeout: Duration,
    wait_policy: WaitPolicy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitPolicy {
    /// The request waits for a connection.
    Queue,
    /// The request fails without a connection.
    Volatile,
}

impl<T> Call<T> {
    pub(crate) fn new(
        client: Client,
        draft: Result<Draft, Error>,
        read: fn(Option<Box<RawValue>>) -> Result<T, Error>,
    ) -> Self {
        let (ttl, timeout) = client.request_timeout();
        Self { client, draft, read, ttl, timeout, wait_policy: WaitPolicy::Queue }
    }

    /// Sets how long the request may wait for a connection. Default: that of the client.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how long the answer may take after the request was sent. Default: that of the client, which is 10
    /// s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes the request fail at once with [`Error::NotConnected`] if there is no connection. It is never
    /// sent on a later connection: if it is lost together with the connection, the error is the same or
    /// [`Error::OutcomeUnknown`].
    pub fn volatile(mut self) -> Self {
        self.wait_policy = WaitPolicy::Volatile;
        self
    }

    /// Sets the idempotency key of a publication, in place of a generated one. Other requests have no key.
    pub fn key(mut self, new_key: impl Into<String>) -> Self {
        if let Ok(
            Draft::Publish { key, .. }
            | Draft::Private { key, .. }
            | Draft::Group { key, .. }
            | Draft::Broadcast { key, .. },
        ) = &mut self.draft
        {
            *key = new_key.into();
        }
        self
    }

    /// Sets whether this connection receives its own publication live. Default: it does. With `false`, a page
    /// that shows its publication at once need not recognise it later. The answer has its position, and the
    /// history contains it. A recovery after a loss contains it only if other publications just before it
    /// were lost. The option affects publications in channels only.
    pub fn echo(mut self, wanted: bool) -> Self {
        if let Ok(Draft::Publish { echo, .. }) = &mut self.draft {
            *echo = wanted;
        }
        self
    }

    /// Declares that an event may be done twice, so that it is sent again if its answer was lost.
    /// Publications always are.
    pub fn repeatable(mut self) -> Self {
        if let Ok(Draft::Event { repeat, .. }) = &mut self.draft {
            *repeat = Repeat::Harmless;
        }
        self
    }

    /// Makes the request fail when it is awaited.
    pub(crate) fn refuse(&mut self, error: Error) {
        self.draft = Err(error);
    }

    pub(crate) const fn draft(&mut self) -> Result<&mut Draft, &mut Error> {
        self.draft.as_mut()
    }
}

impl<T: 'static> IntoFuture for Call<T> {
    type Output = Result<T, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { client, draft, read, ttl, timeout, wait_policy } = self;
        Box::pin(async move {
            let draft = draft?;
            let is_volatile = wait_policy == WaitPolicy::Volatile;
            if is_volatile && !client.is_connected() {
                return Err(Error::NotConnected);
            }
            let (reply, answer) = oneshot::channel();
            let (number, expires) = (client.next_number(), after(Instant::now(), ttl));
            let entry = Entry { number, draft, reply, expires, timeout, is_volatile };
            client.command(Command::Request(entry)).await?;
            read(client.answer(answer).await?)
        })
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("draft", &self.draft).finish_non_exhaustive()
    }
}
