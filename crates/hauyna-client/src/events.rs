//! Client events: messages that are outdated a moment later, such as the position of a cursor. It has the
//! queue of events that wait to be sent into a channel, and the events of others as the application reads
//! them. Pure: the task sends from the queue.

use crate::error::StreamError;
use crate::stream::Notification;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// An event that another subscriber has sent; see [`Channel::client_events`](crate::Channel::client_events).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientEvent<T> {
    /// Name of the channel.
    pub channel: String,
    /// The kind of event.
    pub event: String,
    /// The sender.
    pub user: String,
    /// The data of the event; read from `null` if it has none.
    pub data: T,
}

impl<T: DeserializeOwned> ClientEvent<T> {
    pub(crate) fn read(notification: Notification) -> Result<Self, StreamError> {
        let Notification::ClientEvent(raw) = notification else {
            return Err(StreamError::Unreadable(String::new()));
        };
        let data = raw.data.as_ref().map_or("null", |data| data.get());
        let data = serde_json::from_str(data).map_err(|error| StreamError::Unreadable(error.to_string()))?;
        Ok(Self { channel: raw.channel.clone(), event: raw.event.clone(), user: raw.user.clone(), data })
    }
}

/// The events of this client that wait to be sent into one channel: the latest of each kind, no more often
/// than the channel allows.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    /// The kinds that the channel allows; `None` without a subscription on a connection.
    kinds: Option<BTreeMap<String, EventKind>>,
    /// Whether the task knows that an event waits.
    is_task_notified: bool,
}

/// One kind of event.
#[derive(Debug)]
struct EventKind {
    interval: Duration,
    /// The moment at which the next event may be sent.
    next_at: Option<Instant>,
    waiting: Option<Data>,
}

/// The data of an event, if it has any.
pub(crate) type Data = Option<Box<RawValue>>;

/// The result of adding an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PutResult {
    /// It was dropped, because there is no subscription or no connection.
    Dropped,
    /// The channel does not allow this kind.
    Undeclared,
    /// It waits, and the task knows that an event waits.
    Queued,
    /// It waits, and the task has to be notified.
    Notify,
}

impl EventQueue {
    /// Allows these kinds, each up to so many times per second, because a subscription is live. Events that
    /// wait stay.
    pub(crate) fn open(&mut self, rates: &BTreeMap<String, u32>) {
        let mut old = self.kinds.take().unwrap_or_default();
        let kinds = rates.iter().map(|(name, per_second)| {
            let interval = Duration::from_secs(1) / (*per_second).max(1);
            let (next_at, waiting) =
                old.remove(name).map_or((None, None), |kind| (kind.next_at, kind.waiting));
            (name.clone(), EventKind { interval, next_at, waiting })
        });
        self.kinds = Some(kinds.collect());
    }

    /// Drops what waits, because the subscription or the connection has ended.
    pub(crate) fn close(&mut self) {
        (self.kinds, self.is_task_notified) = (None, false);
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.kinds.is_some()
    }

    /// Adds an event in place of an older one of its kind.
    pub(crate) fn put(&mut self, name: &str, data: Data) -> PutResult {
        let Some(kinds) = &mut self.kinds else { return PutResult::Dropped };
        let Some(kind) = kinds.get_mut(name) else { return PutResult::Undeclared };
        kind.waiting = Some(data);
        match std::mem::replace(&mut self.is_task_notified, true) {
            true => PutResult::Queued,
            false => PutResult::Notify,
        }
    }

    /// Takes the events that may be sent now. The task has to be notified again of later ones.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<(String, Data)> {
        self.is_task_notified = false;
        let mut taken = Vec::new();
        for (name, kind) in self.kinds.iter_mut().flatten() {
            if kind.next_at.is_some_and(|at| now < at) {
                continue;
            }
            if let Some(data) = kind.waiting.take() {
                kind.next_at = Some(now + kind.interval);
                taken.push((name.clone(), data));
            }
        }
        taken
    }

    /// Returns the next moment at which a waiting event may be sent.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.kinds.iter().flatten().filter(|(_, kind)| kind.waiting.is_some());
        waiting.filter_map(|(_, kind)| kind.next_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(value: u32) -> Data {
        Some(serde_json::value::to_raw_value(&value).unwrap())
    }

    fn taken(queue: &mut EventQueue) -> Vec<(String, String)> {
        let text = |data: Data| data.map_or_else(String::new, |data| data.get().to_owned());
        queue.take(Instant::now()).into_iter().map(|(name, data)| (name, text(data))).collect()
    }

    fn queue() -> EventQueue {
        let mut queue = EventQueue::default();
        queue.open(&[("cursor".to_owned(), 20), ("typing".to_owned(), 1)].into());
        queue
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_event_is_sent_at_once_and_then_the_latest() {
        let mut queue = queue();
        assert_eq!(queue.put("cursor", data(1)), PutResult::Notify);
        assert_eq!(taken(&mut queue), [("cursor".to_owned(), "1".to_owned())]);
        for n in 2..=9 {
            queue.put("cursor", data(n));
        }
        assert_eq!(queue.put("typing", None), PutResult::Queued);
        assert_eq!(taken(&mut queue), [("typing".to_owned(), String::new())], "each kind has its own rate");
        let next = queue.deadline().unwrap();
        assert_eq!((next - Instant::now()).as_millis(), 50);
        tokio::time::advance(Duration::from_millis(50)).await;
        assert_eq!(taken(&mut queue), [("cursor".to_owned(), "9".to_owned())]);
        assert_eq!(queue.deadline(), None);
    }

    #[test]
    fn undeclared_events_and_events_without_a_subscription_are_dropped() {
        let mut queue = queue();
        assert_eq!(queue.put("wave", None), PutResult::Undeclared);
        queue.put("cursor", data(1));
        queue.close();
        assert_eq!(queue.put("cursor", data(2)), PutResult::Dropped);
        queue.open(&[("cursor".to_owned(), 20)].into());
        assert_eq!(taken(&mut queue), [], "what was to be sent before is outdated");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_events_survive_a_repeated_confirmation_of_the_subscription() {
        let mut queue = queue();
        queue.put("cursor", data(1));
        taken(&mut queue);
        queue.put("cursor", data(2));
        queue.open(&[("cursor".to_owned(), 20), ("wave".to_owned(), 5)].into());
        assert_eq!(taken(&mut queue), [], "the rate counts still");
        tokio::time::advance(Duration::from_millis(50)).await;
        assert_eq!(taken(&mut queue).len(), 1);
        assert_eq!(queue.put("wave", None), PutResult::Notify);
    }
}
