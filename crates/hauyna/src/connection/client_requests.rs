//! Client requests, `Connection::request`: each is sent as `request` and answered by the client's `ack` or
//! `error` with the same `id`. The open ones are in `cold`; `dispatch` and `read_ahead` deliver the answers.

use super::ConnectionCore;
use crate::close::CloseReason;
use crate::connection::message_frame;
use crate::error::Error;
use hauyna_broker::{BoxFuture, Content};
use hauyna_protocol::{Encoding, ErrorType, Message, Raw, RequestId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A request to one client, from [`Connection::request`](super::Connection::request). It is sent when it is
/// awaited.
#[must_use = "a client request is sent only when it is awaited"]
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

/// The requests that one client has not answered.
#[derive(Debug, Default)]
pub(super) struct ClientRequests {
    /// The `id` of the last request. Identifiers count from 1 on each connection, which alone can answer
    /// them.
    last: u64,
    /// Whether no answer can arrive any more.
    has_ended: bool,
    open: Vec<(u64, oneshot::Sender<Answer>)>,
}

/// JSON text of the answer, or why there is none.
type Answer = Result<Box<str>, Error>;

impl<T> ClientRequest<T> {
    pub(super) fn new(core: Arc<ConnectionCore>, event: &str, data: &impl Serialize) -> Self {
        let prepared = Content::inner(data).map_err(Error::from);
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
            let data = self.prepared?;
            let answer = ask(&self.core, &self.event, &data, self.timeout).await?;
            let answer = Raw::assume_valid(Encoding::Json, answer.as_bytes());
            Ok(answer.decode().map_err(|fault| fault.within("data"))?)
        })
    }
}

async fn ask(core: &Arc<ConnectionCore>, event: &str, data: &Content, timeout: Duration) -> Answer {
    crate::clock::runtime()?;
    if !core.is_open() {
        return Err(Error::closed());
    }
    let (id, answer) = core.cold().requests.lock().add()?;
    let _open = OpenRequest { core, id };
    let data = Raw::assume_valid(Encoding::Json, data.bytes());
    let message = Message::Request { id: &RequestId::Number(id), event, data };
    core.sender().send(message_frame(core, &message))?;
    // The task may be waiting for a callback, and has to read ahead from now on.
    core.sender().wake(&core.outbox.lock());
    match crate::clock::timeout(timeout, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Error::closed()),
        Err(elapsed) => {
            Err(elapsed.error(|| Error::protocol(ErrorType::Timeout, "the client did not answer in time")))
        }
    }
}

/// Removes a request when nothing waits for its answer any more.
struct OpenRequest<'a> {
    core: &'a Arc<ConnectionCore>,
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
            let error =
                Error::protocol(ErrorType::LimitExceeded, "too many unanswered requests to this client");
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

/// Delivers the client's answer to a request. Returns false for a request that is not open, or not any
/// more.
pub(crate) fn deliver_answer(
    core: &ConnectionCore,
    id: &RequestId,
    answer: Result<Option<Raw<'_>>, Option<&str>>,
) -> bool {
    let (RequestId::Number(id), Some(cold)) = (id, core.existing_cold()) else { return false };
    let Some(sender) = cold.requests.lock().take(*id) else { return false };
    let answer = match answer {
        Ok(data) => Ok(data.unwrap_or(Raw::NULL).as_json().into()),
        Err(reason) => Err(Error::refused(reason)),
    };
    let _ = sender.send(answer); // fails if the request was dropped at this moment
    true
}

/// Whether something waits for an answer of this client.
pub(crate) fn awaits_answer(core: &ConnectionCore) -> bool {
    core.existing_cold().is_some_and(|cold| {
        let is_awaiting = cold.takeover.get().is_some_and(|takeover| takeover.is_awaiting());
        is_awaiting || !cold.requests.lock().open.is_empty()
    })
}

/// Ends all open requests: those that wait for an answer fail now, and later requests fail at once.
pub(crate) fn end_requests(core: &ConnectionCore) {
    let Some(cold) = core.existing_cold() else { return };
    if let Some(takeover) = cold.takeover.get() {
        takeover.client_closed(core.reason().unwrap_or(CloseReason::Lost));
    }
    let mut requests = cold.requests.lock();
    requests.has_ended = true;
    let open = std::mem::take(&mut requests.open);
    drop(requests);
    for (_, sender) in open {
        let _ = sender.send(Err(Error::closed()));
    }
}

/// How long a client has to answer unless the request sets another timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Open requests to one connection, at most.
const MAX_OPEN_REQUESTS: usize = 64;
