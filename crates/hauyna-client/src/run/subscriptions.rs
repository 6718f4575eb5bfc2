//! The subscriptions of the task: the session, the channels that the application wants, the calls that wait
//! for them, and the subscriptions that the server has.

use super::catch_up::HeldMessages;
use super::requests::retry_delay;
use super::subscribe_queue::{QueuedSubscribe, SubscribeQueue};
use crate::client::TokenSource;
use crate::error::{Error, Refusal};
use crate::session::{Session, SubscriptionState};
use crate::subscription::LiveSubscription;
use hauyna_protocol::{ErrorType, Position, received};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
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

impl Subscriptions {
    /// Returns the next moment at which a call is late, or something is to be requested again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let wanted = self.wanted.values().filter_map(WantedChannel::deadline);
        let held = self.held.values().filter_map(|held| held.retry_at.or(held.answer_by));
        let lists = self.list_waiters.values().flatten().map(|waiter| waiter.answer_by);
        wanted.chain(held).chain(lists).chain(self.queue.deadline()).min()
    }

    /// Returns the position of the last message that was received from a channel.
    pub(super) fn position(&mut self, channel: &str) -> Option<Position> {
        self.session.channel(channel)?.position
    }

    /// Whether a channel is wanted by the subscription of this number, and not by a later one.
    pub(super) fn is_current(&self, channel: &str, number: u64) -> bool {
        self.wanted.get(channel).is_some_and(|wanted| wanted.number == number)
    }

    pub(super) fn answer_waiters(&mut self, channel: &str, answer: &Result<LiveSubscription, Error>) {
        for waiter in self.wanted.get_mut(channel).into_iter().flat_map(|wanted| wanted.waiters.drain(..)) {
            waiter.answer(answer.clone());
        }
    }

    /// Fails every call that waits for a subscription, because the client is closed.
    pub(super) fn fail_waiters(&mut self, error: &Error) {
        for waiter in self.wanted.values_mut().flat_map(|wanted| wanted.waiters.drain(..)) {
            waiter.answer(Err(error.clone()));
        }
    }

    /// Fails the calls that wait for a subscription or a list and whose time is up.
    pub(super) fn expire_waiters(&mut self, now: Instant) {
        for wanted in self.wanted.values_mut() {
            for waiter in wanted.waiters.extract_if(.., |waiter| waiter.answer_by <= now) {
                waiter.answer(Err(wanted.refusal.clone().map_or(Error::Timeout, Error::Refused)));
            }
        }
        for waiters in self.list_waiters.values_mut() {
            for waiter in waiters.extract_if(.., |waiter| waiter.answer_by <= now) {
                waiter.answer(Err(Error::Timeout));
            }
        }
    }

    /// Answers the calls that wait for the list of a channel.
    pub(super) fn end_list(&mut self, channel: &str) {
        for waiter in self.list_waiters.remove(channel).unwrap_or_default() {
            waiter.answer(Ok(()));
        }
    }

    /// Lets a share last until the application unsubscribes.
    pub(super) fn keep_share(&mut self, channel: &str, share: u64) {
        if let Some(wanted) = self.wanted.get_mut(channel) {
            wanted.shares.keep(share);
        }
    }

    /// Ends a share; `true` if it was the last. The number of a share of an earlier subscription is unknown
    /// here, so that it ends nothing.
    pub(super) fn end_share(&mut self, channel: &str, share: u64) -> bool {
        self.wanted.get_mut(channel).is_some_and(|wanted| wanted.shares.end(share))
    }

    /// Keeps the metadata that the server accepted last for a later subscription. Before a subscription is
    /// live, it was the metadata of an earlier one.
    pub(super) fn keep_metadata(&mut self, channel: &str, metadata: &RawValue) {
        let is_live = self.session.is_live(channel);
        if let Some(wanted) = self.wanted.get_mut(channel).filter(|_| is_live) {
            wanted.updated_metadata = Some(metadata.to_owned());
        }
    }

    /// Forgets the metadata that the previous user has set.
    pub(super) fn forget_metadata(&mut self) {
        self.wanted.values_mut().for_each(|wanted| wanted.updated_metadata = None);
    }

    /// Forgets a channel that was given up by the call of this number, because the server has confirmed its
    /// end.
    pub(super) fn confirm_unsubscribed(&mut self, channel: &str, number: u64) {
        self.given_up.retain(|name, last| *name != channel || *last != number);
    }

    /// Returns the channels whose pause after a refusal is over.
    pub(super) fn take_due_retries(&mut self, now: Instant) -> Vec<String> {
        let is_due = |wanted: &mut WantedChannel| wanted.retry_at.take_if(|at| now >= *at).is_some();
        let due = self.wanted.values_mut();
        due.filter_map(|wanted| is_due(wanted).then(|| wanted.request.channel.clone())).collect()
    }

    /// Returns the channels whose history may be requested again after a refusal.
    pub(super) fn take_due_history_retries(&mut self, now: Instant) -> Vec<String> {
        let is_due = |held: &mut HeldMessages| held.retry_at.take_if(|at| now >= *at).is_some();
        self.held.iter_mut().filter_map(|(name, held)| is_due(held).then(|| name.clone())).collect()
    }

    /// Returns the channels whose history was not answered in time.
    pub(super) fn late_histories(&self, now: Instant) -> Vec<String> {
        let is_late = |held: &HeldMessages| held.answer_by.is_some_and(|by| now >= by);
        self.held.iter().filter(|(_, held)| is_late(held)).map(|(name, _)| name.clone()).collect()
    }

    /// Queues the subscription to a channel that is wanted.
    pub(super) fn enqueue(&mut self, channel: &str) {
        let Some(state) = self.session.channel(channel) else { return };
        if state.subscription == SubscriptionState::Live {
            return; // The server has subscribed this client meanwhile.
        }
        state.subscription = SubscriptionState::Requested;
        let Some(wanted) = self.wanted.get(channel) else { return };
        let queued = QueuedSubscribe { channel: channel.to_owned(), number: wanted.number, token: None };
        self.queue.push_back(queued);
    }

    /// Queues a subscription whose token source has answered.
    pub(super) fn queue_with_token(&mut self, queued: QueuedSubscribe) {
        if queued.token.is_some() {
            return self.queue.push_front(queued);
        }
        // Without a token the subscription is tried again later, unless the server has made it meanwhile.
        let state = self.session.channel(&queued.channel);
        let Some(state) = state.filter(|state| state.subscription == SubscriptionState::Requested) else {
            return;
        };
        state.subscription = SubscriptionState::Absent;
        if let Some(wanted) = self.wanted.get_mut(&queued.channel) {
            wanted.retry_at = Some(Instant::now() + Duration::from_secs(1));
        }
    }

    /// Requests a subscription once more when the rate limit of the server allows it, like all that wait.
    pub(super) fn retry_after_pause(&mut self, channel: &str, refusal: &Refusal) {
        let Some(wanted) = self.wanted.get_mut(channel) else { return };
        wanted.refusal = Some(refusal.clone());
        let queued = QueuedSubscribe { channel: channel.to_owned(), number: wanted.number, token: None };
        self.queue.push_front(queued);
        self.pause_queue(refusal);
    }

    /// Pauses the queue after a refusal because of the rate, even if the channel was given up since.
    pub(super) fn pause_queue(&mut self, refusal: &Refusal) {
        if refusal.error_type == ErrorType::RateLimited.as_str() {
            self.queue.pause(Instant::now() + retry_delay(refusal));
        }
    }

    /// Prepares for the connection that a `session` message has started.
    pub(super) fn start_connection(&mut self, session: &received::Session) {
        self.on_server.clear();
        let is_there = |channel: &str| session.subscriptions.iter().any(|entry| *entry.channel == *channel);
        self.given_up.retain(|channel, _| session.resumed && is_there(channel));
    }

    /// Forgets what belongs to one connection.
    pub(super) fn connection_lost(&mut self) {
        self.session.connection_lost();
        self.held.clear();
        self.queue.clear();
        self.events_due.clear();
        for wanted in self.wanted.values_mut() {
            wanted.retry_at = None;
        }
    }
}

/// The sender that returns an answer to its caller.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// The options of a subscription, which apply to each request for it.
pub(crate) struct SubscribeRequest {
    pub(crate) channel: String,
    pub(crate) metadata: Option<Box<RawValue>>,
    pub(crate) since: Option<Position>,
    pub(crate) token: Option<TokenSource>,
}

/// A channel that the application wants.
pub(super) struct WantedChannel {
    pub(super) request: SubscribeRequest,
    /// The metadata that the server accepted last, in place of that of the request. It belongs to the current
    /// user.
    pub(super) updated_metadata: Option<Box<RawValue>>,
    /// A number that differs from those of earlier subscriptions to the channel.
    pub(super) number: u64,
    /// Its shares. The channel is given up together with the last one.
    pub(super) shares: Shares,
    pub(super) waiters: Vec<Waiter<LiveSubscription>>,
    /// The moment of the next request after a temporary refusal.
    pub(super) retry_at: Option<Instant>,
    /// The last refusal because of the rate, for callers whose time is up.
    pub(super) refusal: Option<Refusal>,
}

/// The shares of one subscription. All that are kept count as one, so a program that subscribes and keeps
/// repeatedly needs no more memory.
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

    /// Ends a share; `true` if it was the last.
    pub(super) fn end(&mut self, share: u64) -> bool {
        self.ending.remove(&share) && self.ending.is_empty() && !self.lasts
    }
}

/// A call that waits for its answer. The task keeps its deadline, because a caller outside a runtime has no
/// timer.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    pub(super) reply: Reply<T>,
    pub(super) answer_by: Instant,
}

impl<T> Waiter<T> {
    pub(super) fn answer(self, answer: Result<T, Error>) {
        // The caller may have dropped its future.
        let _ = self.reply.send(answer);
    }
}

/// The end of a subscription that waits for the answer to it. A server that refuses the subscription would
/// also refuse its end, and count that as an error of the client.
#[derive(Debug)]
pub(super) struct PendingEnd {
    pub(super) number: u64,
    pub(super) waiter: Option<Waiter<()>>,
}

/// Adds a call that waits. Calls whose futures were dropped are removed whenever the list has doubled.
pub(super) fn keep_waiter<T>(waiters: &mut Vec<Waiter<T>>, waiter: Waiter<T>) {
    if waiters.len().is_power_of_two() {
        waiters.retain(|waiter| !waiter.reply.is_closed());
    }
    waiters.push(waiter);
}

impl WantedChannel {
    pub(super) fn new(request: SubscribeRequest, number: u64) -> Self {
        let (shares, waiters) = (Shares::default(), Vec::new());
        Self { request, updated_metadata: None, number, shares, waiters, retry_at: None, refusal: None }
    }

    /// Returns the metadata of the next request.
    pub(super) fn metadata(&self) -> Option<&RawValue> {
        self.updated_metadata.as_deref().or(self.request.metadata.as_deref())
    }

    /// Returns the next moment at which a call is late or the request is to be repeated.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiters.iter().map(|waiter| waiter.answer_by).chain(self.retry_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_calls_take_no_memory() {
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
    fn kept_shares_take_no_memory_and_outlive_the_others() {
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
