//! The channels that the application wants, who waits for them, and those that it has given up. Part of the
//! task.

use super::ClientTask;
use super::requests::{Answer, Purpose};
use crate::client::TokenSource;
use crate::clock::after;
use crate::error::{Error, Refusal};
use crate::session::SubscriptionState;
use crate::subscription::LiveSubscription;
use hauyna_protocol::{ErrorType, Position, Request};
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use tokio::sync::oneshot;
use tokio::time::Instant;

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
    shares: Shares,
    pub(super) waiters: Vec<Waiter<LiveSubscription>>,
    /// When to ask again after a refusal that may pass.
    pub(super) retry_at: Option<Instant>,
    /// The last refusal for rate, which is told to those who wait in vain.
    pub(super) refusal: Option<Refusal>,
}

/// The shares of one subscription. Those that last are one: a program that subscribes and keeps again and
/// again takes no more memory.
#[derive(Debug, Default)]
struct Shares {
    ending: BTreeSet<u64>,
    lasts: bool,
}

impl Shares {
    fn add(&mut self, share: u64) {
        self.ending.insert(share);
    }

    fn keep(&mut self, share: u64) {
        self.lasts |= self.ending.remove(&share);
    }

    /// Ends a share; `true` where it was the last.
    fn end(&mut self, share: u64) -> bool {
        self.ending.remove(&share) && self.ending.is_empty() && !self.lasts
    }
}

/// A call that is awaited. The task keeps its time: its caller may have no timer, as outside a
/// runtime.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    reply: Reply<T>,
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
    fn new(wish: SubscribeRequest, number: u64) -> Self {
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

impl Purpose {
    /// Whether it is a subscription to this channel that was given up, and whose answer is still awaited.
    pub(super) fn is_ending(&self, name: &str) -> bool {
        matches!(self, Self::Subscribe { channel, end: Some(_), .. } if channel == name)
    }

    /// The moment at which the answer is late.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Unsubscribe { waiter, .. } => waiter.as_ref().map(|waiter| waiter.answer_by),
            Self::Subscribe { answer_by, end, .. } => {
                let waiter = end.as_ref().and_then(|end| end.waiter.as_ref());
                waiter.map(|waiter| waiter.answer_by).into_iter().chain(*answer_by).min()
            }
            Self::Presence { answer_by, .. } => Some(*answer_by),
            _ => None,
        }
    }
}

impl ClientTask {
    pub(super) fn waiter<T>(&self, reply: Reply<T>) -> Waiter<T> {
        let wait = self.shared.ttl().saturating_add(self.shared.timeout);
        Waiter { reply, answer_by: after(Instant::now(), wait) }
    }

    /// Somebody wants a channel.
    pub(super) fn request(&mut self, wish: SubscribeRequest, share: u64, reply: Reply<LiveSubscription>) {
        // Who asked has taken it back, and said so before: see `end_share`.
        if reply.is_closed() {
            return;
        }
        if self.is_closed() {
            let _ = reply.send(Err(self.closed()));
            return;
        }
        let (channel, waiter, number) = (wish.channel.clone(), self.waiter(reply), self.id());
        self.given_up_requests.remove(&channel);
        let place = self.session.set_wanted(&channel, wish.since);
        let (standing, position, recoverable) = (place.state, place.position, place.is_recoverable);
        let kept = match self.subscriptions.entry(channel.clone()) {
            Entry::Vacant(entry) => entry.insert(WantedChannel::new(wish, number)),
            Entry::Occupied(entry) => {
                let kept = entry.into_mut();
                // What is not said again stays.
                kept.updated_metadata.take_if(|_| wish.metadata.is_some());
                kept.wish.metadata = wish.metadata.or_else(|| kept.wish.metadata.take());
                kept.wish.token = wish.token.or_else(|| kept.wish.token.take());
                kept
            }
        };
        kept.shares.add(share);
        if standing == SubscriptionState::Live {
            return waiter.answer(Ok(LiveSubscription { position, recoverable }));
        }
        keep_waiter(&mut kept.waiters, waiter);
        if standing == SubscriptionState::Absent && self.sockets.current.is_some() && kept.retry_at.is_none()
        {
            self.subscribe(&channel);
        }
    }

    /// Whether the wish for a channel is still this one.
    pub(super) fn is_current_request(&self, channel: &str, number: u64) -> bool {
        self.subscriptions.get(channel).is_some_and(|kept| kept.number == number)
    }

    pub(super) fn answer_waiters(&mut self, channel: &str, answer: &Result<LiveSubscription, Error>) {
        for waiter in self.subscriptions.get_mut(channel).into_iter().flat_map(|kept| kept.waiters.drain(..))
        {
            waiter.answer(answer.clone());
        }
    }

    /// A share of a subscription has ended. Shares of an earlier one say nothing: their numbers are others.
    pub(super) fn end_share(&mut self, channel: &str, share: u64, reply: Reply<()>) {
        let is_last = self.subscriptions.get_mut(channel).is_some_and(|kept| kept.shares.end(share));
        match is_last {
            true => self.unsubscribe(channel, reply),
            // Whoever asked may have gone.
            false => _ = reply.send(Ok(())),
        }
    }

    /// A share lasts from now on.
    pub(super) fn keep_share(&mut self, channel: &str, share: u64) {
        if let Some(kept) = self.subscriptions.get_mut(channel) {
            kept.shares.keep(share);
        }
    }

    pub(super) fn unsubscribe(&mut self, channel: &str, reply: Reply<()>) {
        let (waiter, number) = (self.waiter(reply), self.id());
        // A server that was never asked would refuse to end it, and count that as an error.
        let is_there = self.server_subscriptions.contains(channel);
        let asked = self.asked(channel).filter(|_| !is_there);
        let is_known = is_there || asked.is_some();
        self.answer_waiters(channel, &Err(Error::Unsubscribed));
        self.remove_channel(channel);
        // Where an earlier one is about to end, what the server says until then is about that.
        if let Some(number) = Some(number).filter(|_| is_known).or_else(|| self.pending_end(channel)) {
            self.given_up_requests.insert(channel.to_owned(), number);
        }
        let asked = asked.and_then(|id| self.requests.open.get_mut(&id));
        if let Some(Purpose::Subscribe { end, answer_by: Some(_), .. }) = asked {
            *end = Some(PendingEnd { number, waiter: Some(waiter) });
            return;
        }
        match is_known && self.sockets.current.is_some() {
            true => self.give_up_subscription(channel, number, Some(waiter)),
            // Where a session that is resumed shows the subscription, its server is told.
            false => waiter.answer(Ok(())),
        }
    }

    /// Returns the request for a channel by the wish that there is, if the server has not answered it.
    /// Earlier ones have ended, or will.
    fn asked(&self, channel: &str) -> Option<u64> {
        let number = self.subscriptions.get(channel)?.number;
        let is_asked =
            |purpose: &Purpose| matches!(purpose, Purpose::Subscribe { wish, .. } if *wish == number);
        self.requests.open.iter().find_map(|(id, purpose)| is_asked(purpose).then_some(*id))
    }

    /// A subscription that was given up before its answer has it: it ends where the server has it.
    pub(super) fn end_answered(&mut self, channel: &str, end: PendingEnd, answer: &Answer) {
        let PendingEnd { number, waiter } = end;
        let is_there = match answer {
            Ok(_) => true,
            Err(refusal) => {
                self.pause_subscriptions(refusal);
                refusal.error_type == ErrorType::AlreadySubscribed.as_str()
                    || self.server_subscriptions.contains(channel)
            }
        };
        if is_there {
            return self.give_up_subscription(channel, number, waiter);
        }
        self.given_up_requests.retain(|name, last| *name != channel || *last != number);
        if let Some(waiter) = waiter {
            waiter.answer(Ok(()));
        }
    }

    /// Returns the number of the last call for which the server was asked to end this channel and has not
    /// answered, or will be asked.
    pub(super) fn pending_end(&self, channel: &str) -> Option<u64> {
        self.requests.open.values().rev().find_map(|purpose| match purpose {
            Purpose::Unsubscribe { channel: name, number, .. } if name == channel => Some(*number),
            Purpose::Subscribe { channel: name, end: Some(end), .. } if name == channel => Some(end.number),
            _ => None,
        })
    }

    /// The server has made a subscription that is not wanted any more, unless it has been told so: its
    /// application had ended one of its own before, and with it the wish.
    pub(super) fn remove_subscription(&mut self, channel: &str) {
        if self.session.place_of(channel).is_some() || self.given_up_requests.contains_key(channel) {
            return;
        }
        let number = self.id();
        self.given_up_requests.insert(channel.to_owned(), number);
        self.give_up_subscription(channel, number, None);
    }

    /// A later subscription begins with the metadata that the server has taken last. Before the answer to a
    /// subscription, that was the metadata of an earlier one.
    pub(super) fn keep_metadata(&mut self, channel: &str, metadata: &RawValue) {
        let is_live = self.session.is_live(channel);
        if let Some(kept) = self.subscriptions.get_mut(channel).filter(|_| is_live) {
            kept.updated_metadata = Some(metadata.to_owned());
        }
    }

    /// Tells the server that a channel is not wanted any more.
    pub(super) fn give_up_subscription(&mut self, channel: &str, number: u64, waiter: Option<Waiter<()>>) {
        let purpose = Purpose::Unsubscribe { channel: channel.to_owned(), number, waiter };
        self.send_request(purpose, &Request::Unsubscribe { channel: channel.into() });
    }

    /// Tells those that nobody has answered in time.
    pub(super) fn expire_waiters(&mut self, now: Instant) {
        for kept in self.subscriptions.values_mut() {
            for waiter in kept.waiters.extract_if(.., |waiter| waiter.answer_by <= now) {
                waiter.answer(Err(kept.refusal.clone().map_or(Error::Timeout, Error::Refused)));
            }
        }
        for waiters in self.presence_lists.values_mut() {
            for waiter in waiters.extract_if(.., |waiter| waiter.answer_by <= now) {
                waiter.answer(Err(Error::Timeout));
            }
        }
        for purpose in self.requests.open.values_mut() {
            let (Purpose::Unsubscribe { waiter, .. }
            | Purpose::Subscribe { end: Some(PendingEnd { waiter, .. }), .. }) = purpose
            else {
                continue;
            };
            if let Some(waiter) = waiter.take_if(|waiter| waiter.answer_by <= now) {
                waiter.answer(Err(Error::Timeout));
            }
        }
    }

    /// Whoever waits for the end of a subscription has it when the connection ends.
    pub(super) fn forget_asked(&mut self) {
        for purpose in std::mem::take(&mut self.requests.open).into_values() {
            match purpose {
                // The session may have it.
                Purpose::Subscribe { channel, end, .. } => {
                    self.server_subscriptions.insert(channel);
                    if let Some(waiter) = end.and_then(|end| end.waiter) {
                        waiter.answer(Ok(()));
                    }
                }
                Purpose::Unsubscribe { channel, waiter, .. } => {
                    self.server_subscriptions.insert(channel);
                    if let Some(waiter) = waiter {
                        waiter.answer(Ok(()));
                    }
                }
                Purpose::Presence { channel, .. } => {
                    self.roster(&channel, |roster| roster.page(None).0);
                    self.end_list(&channel);
                }
                _ => {}
            }
        }
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
