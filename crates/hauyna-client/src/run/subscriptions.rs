//! The subscriptions of the task: the session, the channels that the application wants with the calls that
//! wait for them, and what the server has of them.

use super::catch_up::HeldMessages;
use super::subscribe_queue::SubscribeQueue;
use crate::client::TokenSource;
use crate::error::{Error, Refusal};
use crate::session::Session;
use crate::subscription::LiveSubscription;
use hauyna_protocol::Position;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The subscriptions of one client.
#[derive(Default)]
pub(super) struct Subscriptions {
    pub(super) session: Session,
    /// The channels that the application has subscribed to.
    pub(super) wanted: BTreeMap<String, WantedChannel>,
    pub(super) queue: SubscribeQueue,
    /// The channels from which the application has unsubscribed, until the server has confirmed it, with the
    /// number of the last such call. They outlive connections.
    pub(super) given_up: BTreeMap<String, u64>,
    /// The channels to which the server has a subscription of this client, or may have one: those that it has
    /// named, those that were requested on a lost connection, and those whose end it has refused. They stay
    /// until the next session starts.
    pub(super) on_server: BTreeSet<String>,
    /// Live messages of the channels whose history is being fetched.
    pub(super) held: BTreeMap<String, HeldMessages>,
    /// The calls that wait for the list of a channel.
    pub(super) list_waiters: BTreeMap<String, Vec<Waiter<()>>>,
    /// The channels in which client events wait, with the moment of the next one.
    pub(super) events_due: BTreeMap<String, Instant>,
}

/// Where the answer of a call goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// How a channel is subscribed to, every time.
pub(crate) struct SubscribeRequest {
    pub(crate) channel: String,
    pub(crate) metadata: Option<Box<RawValue>>,
    pub(crate) since: Option<Position>,
    pub(crate) token: Option<TokenSource>,
}

/// A wish that the task keeps.
pub(super) struct WantedChannel {
    pub(super) wish: SubscribeRequest,
    /// The metadata that the server has taken last, in place of that of the wish. It is of the user who was
    /// there.
    pub(super) updated_metadata: Option<Box<RawValue>>,
    /// Differs from that of an earlier wish for the same channel.
    pub(super) number: u64,
    /// The shares of it; it is given up with the last.
    pub(super) shares: Shares,
    pub(super) waiters: Vec<Waiter<LiveSubscription>>,
    /// When to ask again after a refusal that may pass.
    pub(super) retry_at: Option<Instant>,
    /// The last refusal for rate, which is told to those who wait in vain.
    pub(super) refusal: Option<Refusal>,
}

/// The shares of one subscription. Those that last are one: a program that subscribes and keeps again and
/// again takes no more memory.
#[derive(Debug, Default)]
pub(super) struct Shares {
    ending: BTreeSet<u64>,
    lasts: bool,
}

impl Shares {
    pub(super) fn add(&mut self, share: u64) {
        self.ending.insert(share);
    }

    pub(super) fn keep(&mut self, share: u64) {
        self.lasts |= self.ending.remove(&share);
    }

    /// Ends a share; `true` where it was the last.
    pub(super) fn end(&mut self, share: u64) -> bool {
        self.ending.remove(&share) && self.ending.is_empty() && !self.lasts
    }
}

/// A call that is awaited. The task keeps its time: its caller may have no timer, as outside a
/// runtime.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    pub(super) reply: Reply<T>,
    pub(super) answer_by: Instant,
}

impl<T> Waiter<T> {
    pub(super) fn answer(self, answer: Result<T, Error>) {
        // Whoever asked may have gone.
        let _ = self.reply.send(answer);
    }
}

/// The end of a subscription that waits for the answer to it: a server that refuses the subscription would
/// refuse its end, too, and count that as an error of the client.
#[derive(Debug)]
pub(super) struct PendingEnd {
    pub(super) number: u64,
    pub(super) waiter: Option<Waiter<()>>,
}

/// Keeps a call that is awaited. Those that nobody awaits any more go whenever there are twice as many.
pub(super) fn keep_waiter<T>(waiters: &mut Vec<Waiter<T>>, waiter: Waiter<T>) {
    if waiters.len().is_power_of_two() {
        waiters.retain(|waiter| !waiter.reply.is_closed());
    }
    waiters.push(waiter);
}

impl WantedChannel {
    pub(super) fn new(wish: SubscribeRequest, number: u64) -> Self {
        let (shares, waiters) = (Shares::default(), Vec::new());
        Self { wish, updated_metadata: None, number, shares, waiters, retry_at: None, refusal: None }
    }

    /// The metadata that the next subscription begins with.
    pub(super) fn metadata(&self) -> Option<&RawValue> {
        self.updated_metadata.as_deref().or(self.wish.metadata.as_deref())
    }

    /// The next moment at which something is to be done about it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiters.iter().map(|waiter| waiter.answer_by).chain(self.retry_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_nobody_awaits_any_more_take_no_memory() {
        let mut waiters = Vec::new();
        let mut awaited = Vec::new();
        for n in 0..10_000 {
            let (reply, answer) = oneshot::channel::<Result<(), Error>>();
            keep_waiter(&mut waiters, Waiter { reply, answer_by: Instant::now() });
            if n % 1_000 == 0 {
                awaited.push(answer);
            }
        }
        assert!(waiters.len() <= 4 * awaited.len(), "{} are kept", waiters.len());
        let is_awaited = |waiter: &&Waiter<()>| !waiter.reply.is_closed();
        assert_eq!(waiters.iter().filter(is_awaited).count(), awaited.len());
    }

    #[test]
    fn shares_that_last_take_no_memory_and_the_last_of_the_others_ends_nothing() {
        let mut shares = Shares::default();
        shares.add(0);
        for share in 1..=1_000 {
            shares.add(share);
            shares.keep(share);
        }
        shares.keep(2_000);
        assert_eq!(shares.ending.len(), 1);
        assert!(!shares.end(0) && !shares.end(1));
        let mut shares = Shares::default();
        shares.keep(1);
        shares.add(2);
        assert!(!shares.end(1) && shares.end(2) && !shares.end(2));
    }
}
