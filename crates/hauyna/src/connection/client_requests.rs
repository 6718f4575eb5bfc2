//! Questions to one client, `Connection::request`: sent as `request`, answered by the client's `ack` or `error`
//! with the same `id`. Those still open are in `attached`; `dispatch` and `ahead` hand answers in.

use super::{CloseReason, ConnectionCore};
use crate::broker::BoxFuture;
use crate::channel::Content;
use crate::error::Error;
use hauyna_protocol::{Encoding, ErrorType, Message, Raw, RequestId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A question to one client that is being put together; await it. From
/// [`Connection::request`](super::Connection::request).
#[must_use = "nothing is asked before it is awaited"]
pub struct ClientRequest<T> {
    core: Arc<ConnectionCore>,
    event: Box<str>,
    prepared: Result<Content, Error>,
    timeout: Duration,
    answer: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for ClientRequest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRequest")
            .field("connection", &self.core.id())
            .field("event", &self.event)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// The questions that one client has not answered.
#[derive(Debug, Default)]
pub(crate) struct ClientRequests {
    /// The `id` of the last one. They count from 1 on each connection, which alone can answer them.
    last: u64,
    /// No answer can come any more.
    has_ended: bool,
    open: Vec<(u64, oneshot::Sender<Answer>)>,
}

/// JSON text, or why there is none.
type Answer = Result<Box<str>, Error>;

impl<T> ClientRequest<T> {
    pub(super) fn new(core: Arc<ConnectionCore>, event: &str, data: &impl Serialize) -> Self {
        let prepared = Content::inner(data);
        Self { core, event: event.into(), prepared, timeout: DEFAULT_TIMEOUT, answer: PhantomData }
    }

    /// Sets how long the client has to answer. Default: 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<T: DeserializeOwned + 'static> IntoFuture for ClientRequest<T> {
    type Output = Result<T, Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let question = self.prepared?;
            let answer = ask(&self.core, (&self.event, &question), self.timeout).await?;
            Ok(Raw::assume_valid(Encoding::Json, answer.as_bytes()).decode()?)
        })
    }
}

async fn ask(core: &Arc<ConnectionCore>, question: (&str, &Content), timeout: Duration) -> Answer {
    crate::clock::runtime()?;
    if !core.is_open() {
        return Err(Error::closed());
    }
    let (id, answer) = core.cold().requests.lock().add()?;
    let _open = OpenRequest { core, id };
    let (event, data) = question;
    let data = Raw::assume_valid(Encoding::Json, data.bytes());
    let message = Message::Request { id: &RequestId::Number(id), event, data };
    core.send(super::reader::message_frame(core, &message))?;
    // The task may be waiting for a callback, and read only what comes after it.
    core.wake(&core.outbox.lock());
    match crate::clock::timeout(timeout, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Error::closed()),
        Err(late) => {
            Err(late.error(|| Error::protocol(ErrorType::Timeout, "the client did not answer in time")))
        }
    }
}

/// Takes a question out when nobody waits for its answer any more.
struct OpenRequest<'a> {
    core: &'a ConnectionCore,
    id: u64,
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        drop(self.core.cold().requests.lock().take(self.id));
    }
}

impl ClientRequests {
    fn add(&mut self) -> Result<(u64, oneshot::Receiver<Answer>), Error> {
        if self.has_ended {
            return Err(Error::closed());
        }
        if self.open.len() >= MAX_OPEN_REQUESTS {
            let error = Error::protocol(
                ErrorType::LimitExceeded,
                "too many requests that this client has not answered",
            );
            return Err(error.with_details(serde_json::json!({ "limit": MAX_OPEN_REQUESTS })));
        }
        let (sender, answer) = oneshot::channel();
        self.last += 1;
        self.open.push((self.last, sender));
        Ok((self.last, answer))
    }

    fn take(&mut self, id: u64) -> Option<oneshot::Sender<Answer>> {
        let index = self.open.iter().position(|(open, _)| *open == id)?;
        Some(self.open.swap_remove(index).1)
    }
}

impl ConnectionCore {
    /// Hands in what the client said to a question; false for one that is not open, or no longer.
    pub(crate) fn answer(&self, id: &RequestId, answer: Result<Option<Raw<'_>>, Option<&str>>) -> bool {
        let (RequestId::Number(id), Some(attached)) = (id, self.existing_cold()) else { return false };
        let Some(sender) = attached.requests.lock().take(*id) else { return false };
        let answer = match answer {
            Ok(data) => Ok(data.unwrap_or(Raw::NULL).as_json().into()),
            Err(reason) => Err(Error::refused(reason)),
        };
        let _ = sender.send(answer); // dropped in the same moment
        true
    }

    /// Whether something waits for this client to answer.
    pub(super) fn awaits_answer(&self) -> bool {
        self.existing_cold().is_some_and(|attached| {
            let is_awaiting = attached.takeover.get().is_some_and(|takeover| takeover.is_awaiting());
            is_awaiting || !attached.requests.lock().open.is_empty()
        })
    }

    /// No answer comes any more: who waits for one is told, and so is who asks later.
    pub(super) fn end_requests(&self) {
        let Some(attached) = self.existing_cold() else { return };
        if let Some(takeover) = attached.takeover.get() {
            takeover.client_closed(self.reason().unwrap_or(CloseReason::Lost));
        }
        let mut requests = attached.requests.lock();
        requests.has_ended = true;
        let open = std::mem::take(&mut requests.open);
        drop(requests);
        for (_, sender) in open {
            let _ = sender.send(Err(Error::closed()));
        }
    }
}

/// How long a client has to answer, unless the question says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Open questions to one connection.
const MAX_OPEN_REQUESTS: usize = 64;
