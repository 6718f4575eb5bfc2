//! Bounded streams. The task of the client puts items into a queue per reader, which drops the oldest beyond
//! its bounds and counts them. The task never waits for a reader, and never runs code of the application.

use crate::channel::PresenceUpdate;
use crate::client::State;
use crate::error::{Refusal, StreamError};
use crate::gap::Gap;
use hauyna_protocol::Position;
use hauyna_protocol::received::{Application, ChannelEvent, ClientEvent, Direct, Publication};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

/// The items of one kind that the client receives while it lives. An item is an error where something is
/// missing.
///
/// It is a [`futures_core::Stream`]; [`next`](Self::next) needs no further crate. A reader that is too slow
/// loses the oldest items, and receives [`StreamError::Missed`] in their place.
pub struct Stream<T> {
    queue: Arc<Queue>,
    read: fn(Notification) -> Result<T, StreamError>,
}

impl<T> Stream<T> {
    /// Waits for the next item; `None` once the client is closed by [`Client::close`](crate::Client::close),
    /// or its task has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<T, StreamError>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        let mut state = self.queue.state.lock();
        if state.missed > 0 {
            let missed = std::mem::take(&mut state.missed);
            return Poll::Ready(Some(Err(StreamError::Missed(missed))));
        }
        match state.notifications.pop_front() {
            Some(notification) => {
                state.bytes -= notification.weight();
                drop(state);
                Poll::Ready(Some((self.read)(notification)))
            }
            None if state.is_closed => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> futures_core::Stream for Stream<T> {
    type Item = Result<T, StreamError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx)
    }
}

impl<T> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("waiting", &self.queue.state.lock().notifications.len())
            .finish_non_exhaustive()
    }
}

/// An item, as it waits for its readers.
#[derive(Clone, Debug)]
pub(crate) enum Notification {
    /// A publication, with its position once it is delivered.
    Publication(Arc<Publication>, Option<Position>),
    Application(Arc<Application>),
    Direct(Arc<(DirectKind, Direct)>),
    Subscriber(Arc<ChannelEvent>),
    ClientEvent(Arc<ClientEvent>),
    Presence(Arc<PresenceUpdate>),
    Gap(Arc<Gap>),
    State(State),
    /// An error of the server that answers no request.
    Refused(Arc<Refusal>),
}

/// The addressee of a direct message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectKind {
    Private,
    Group,
    Broadcast,
}

impl Notification {
    /// Returns the approximate number of bytes that it keeps.
    pub(crate) fn weight(&self) -> usize {
        const ENTRY_BYTES: usize = 128;
        ENTRY_BYTES
            + match self {
                Self::Publication(publication, _) => publication.content.get().len(),
                Self::Application(application) => application.body.get().len(),
                Self::Direct(direct) => direct.1.message.get().len(),
                Self::Subscriber(event) => event.metadata.get().len(),
                Self::ClientEvent(event) => event.data.as_ref().map_or(0, |data| data.get().len()),
                Self::Refused(refusal) => {
                    refusal.message.len() + refusal.details.as_ref().map_or(0, |details| details.get().len())
                }
                Self::Presence(_) | Self::Gap(_) | Self::State(_) => 0,
            }
    }
}

/// The items that a reader receives.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    Messages,
    Events(Box<str>),
    /// Client events of one kind.
    ClientEvents(Box<str>),
    Directs,
    Subscribers,
    Presence,
    Gaps,
    States,
    Errors,
}

impl Filter {
    fn matches(&self, notification: &Notification) -> bool {
        match (self, notification) {
            (Self::Messages, Notification::Publication(..) | Notification::Gap(_))
            | (Self::Directs, Notification::Direct(_))
            | (Self::Subscribers, Notification::Subscriber(_))
            | (Self::Presence, Notification::Presence(_))
            | (Self::Gaps, Notification::Gap(_))
            | (Self::States, Notification::State(_))
            | (Self::Errors, Notification::Refused(_)) => true,
            (Self::Events(kind), Notification::Application(application)) => **kind == application.kind,
            (Self::ClientEvents(kind), Notification::ClientEvent(event)) => **kind == event.event,
            _ => false,
        }
    }
}

/// The readers of one channel, or of the client.
#[derive(Debug, Default)]
pub(crate) struct Broadcaster {
    readers: Mutex<Readers>,
}

#[derive(Debug, Default)]
struct Readers {
    queues: Vec<Weak<Queue>>,
    is_closed: bool,
}

impl Broadcaster {
    pub(crate) fn reader<T>(
        &self,
        filter: Filter,
        bounds: BufferBounds,
        read: fn(Notification) -> Result<T, StreamError>,
    ) -> Stream<T> {
        let mut readers = self.readers.lock();
        let state = QueueState { is_closed: readers.is_closed, ..QueueState::default() };
        let queue = Arc::new(Queue { filter, bounds, state: Mutex::new(state) });
        readers.queues.retain(|queue| queue.strong_count() > 0);
        readers.queues.push(Arc::downgrade(&queue));
        Stream { queue, read }
    }

    pub(crate) fn push(&self, notification: &Notification) {
        let mut readers = self.readers.lock();
        readers.queues.retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            if queue.filter.matches(notification) {
                queue.push(notification.clone());
            }
            true
        });
    }

    /// Ends the streams after their waiting items.
    pub(crate) fn close(&self) {
        let mut readers = self.readers.lock();
        readers.is_closed = true;
        for queue in readers.queues.drain(..).filter_map(|queue| queue.upgrade()) {
            let mut state = queue.state.lock();
            state.is_closed = true;
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether no further items will come.
    pub(crate) fn is_closed(&self) -> bool {
        self.readers.lock().is_closed
    }

    /// Whether there is no reader.
    pub(crate) fn is_idle(&self) -> bool {
        self.readers.lock().queues.iter().all(|queue| queue.strong_count() == 0)
    }
}

/// Bounds of the queue of one reader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferBounds {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct Queue {
    filter: Filter,
    bounds: BufferBounds,
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    notifications: VecDeque<Notification>,
    bytes: usize,
    missed: u64,
    waker: Option<Waker>,
    is_closed: bool,
}

impl Queue {
    fn push(&self, notification: Notification) {
        let mut state = self.state.lock();
        state.bytes += notification.weight();
        state.notifications.push_back(notification);
        while state.notifications.len() > self.bounds.items
            || (state.bytes > self.bounds.bytes && state.notifications.len() > 1)
        {
            let Some(oldest) = state.notifications.pop_front() else { break };
            state.bytes -= oldest.weight();
            state.missed += 1;
        }
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: BufferBounds = BufferBounds { items: 3, bytes: 1 << 20 };

    fn states(broadcaster: &Broadcaster) -> Stream<State> {
        broadcaster.reader(Filter::States, BOUNDS, |notification| match notification {
            Notification::State(state) => Ok(state),
            _ => unreachable!("not of this filter"),
        })
    }

    #[tokio::test]
    async fn a_slow_reader_receives_the_missed_count_and_the_newest_items() {
        let broadcaster = Broadcaster::default();
        let mut slow = states(&broadcaster);
        for attempt in 1..=5 {
            broadcaster.push(&Notification::State(State::Reconnecting { attempt }));
        }
        assert!(matches!(slow.next().await, Some(Err(StreamError::Missed(2)))));
        for expected in 3..=5 {
            let next = slow.next().await;
            assert!(matches!(next, Some(Ok(State::Reconnecting { attempt })) if attempt == expected));
        }
    }

    #[tokio::test]
    async fn a_closed_broadcaster_ends_its_streams_after_waiting_items() {
        let broadcaster = Broadcaster::default();
        let mut reader = states(&broadcaster);
        broadcaster.push(&Notification::State(State::Connected));
        broadcaster.close();
        assert!(matches!(reader.next().await, Some(Ok(State::Connected))));
        assert!(reader.next().await.is_none());
        assert!(states(&broadcaster).next().await.is_none(), "nor does a late one wait for ever");
    }

    #[test]
    fn a_dropped_reader_is_removed() {
        let broadcaster = Broadcaster::default();
        drop(states(&broadcaster));
        broadcaster.push(&Notification::State(State::Connected));
        assert!(broadcaster.is_idle() && broadcaster.readers.lock().queues.is_empty());
    }

    #[tokio::test]
    async fn bytes_are_bounded() {
        let broadcaster = Broadcaster::default();
        let bounds = BufferBounds { items: 100, bytes: 1_000 };
        let mut reader = broadcaster.reader(Filter::Messages, bounds, |_| Ok(()));
        let content = serde_json::value::to_raw_value(&"x".repeat(600)).unwrap();
        let text = format!(r#"{{"type":"message","channel":"a","content":{content},"timestamp":1}}"#);
        let hauyna_protocol::received::Received::Publication(publication) =
            hauyna_protocol::received::Received::read(&text).unwrap()
        else {
            panic!("a publication")
        };
        let publication = Arc::new(publication);
        for _ in 0..3 {
            broadcaster.push(&Notification::Publication(publication.clone(), None));
        }
        assert!(matches!(reader.next().await, Some(Err(StreamError::Missed(2)))));
        assert!(matches!(reader.next().await, Some(Ok(()))));
    }
}
