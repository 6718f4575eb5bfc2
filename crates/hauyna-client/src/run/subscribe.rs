//! Subscribes and unsubscribes for the application, and gives up subscriptions that nobody wants any more.

use super::ClientTask;
use super::requests::{Answer, Purpose};
use super::subscriptions::{PendingEnd, Reply, SubscribeRequest, Waiter, WantedChannel, keep_waiter};
use crate::clock::after;
use crate::error::Error;
use crate::session::SubscriptionState;
use crate::subscription::LiveSubscription;
use hauyna_protocol::{ErrorType, Request};
use std::collections::btree_map::Entry;
use tokio::time::Instant;

impl ClientTask {
    pub(super) fn new_waiter<T>(&self, reply: Reply<T>) -> Waiter<T> {
        let wait = self.shared.ttl().saturating_add(self.shared.timeout);
        Waiter { reply, answer_by: after(Instant::now(), wait) }
    }

    /// Wants a channel for one more share of its subscription.
    pub(super) fn request_subscription(
        &mut self,
        request: SubscribeRequest,
        share: u64,
        reply: Reply<LiveSubscription>,
    ) {
        // The caller has dropped its future, and `end_share` has already taken the share back.
        if reply.is_closed() {
            return;
        }
        if self.is_closed() {
            let _ = reply.send(Err(self.closed()));
            return;
        }
        let (channel, waiter, number) =
            (request.channel.clone(), self.new_waiter(reply), self.requests.next_id());
        self.subscriptions.given_up.remove(&channel);
        let state = self.subscriptions.session.set_wanted(&channel, request.since);
        let (state, position, recoverable) = (state.subscription, state.position, state.is_recoverable);
        let wanted = match self.subscriptions.wanted.entry(channel.clone()) {
            Entry::Vacant(entry) => entry.insert(WantedChannel::new(request, number)),
            Entry::Occupied(entry) => {
                let wanted = entry.into_mut();
                // An option that this call omits keeps its earlier value.
                wanted.updated_metadata.take_if(|_| request.metadata.is_some());
                wanted.request.metadata = request.metadata.or_else(|| wanted.request.metadata.take());
                wanted.request.token = request.token.or_else(|| wanted.request.token.take());
                wanted
            }
        };
        wanted.shares.add(share);
        if state == SubscriptionState::Live {
            return waiter.answer(Ok(LiveSubscription { position, recoverable }));
        }
        keep_waiter(&mut wanted.waiters, waiter);
        if state == SubscriptionState::Absent && self.sockets.is_connected() && wanted.retry_at.is_none() {
            self.subscriptions.enqueue(&channel);
        }
    }

    /// Ends a share of a subscription, and with the last one the subscription.
    pub(super) fn end_share(&mut self, channel: &str, share: u64, reply: Reply<()>) {
        match self.subscriptions.end_share(channel, share) {
            true => self.unsubscribe(channel, reply),
            // The caller may have dropped its future.
            false => _ = reply.send(Ok(())),
        }
    }

    pub(super) fn unsubscribe(&mut self, channel: &str, reply: Reply<()>) {
        let (waiter, number) = (self.new_waiter(reply), self.requests.next_id());
        // A server that has no such subscription refuses to end it, and counts the request as an error.
        let is_there = self.subscriptions.on_server.contains(channel);
        let wanted = self.subscriptions.wanted.get(channel).filter(|_| !is_there);
        let open_request = wanted.and_then(|wanted| self.requests.subscribe_id(wanted.number));
        let is_known = is_there || open_request.is_some();
        self.subscriptions.answer_waiters(channel, &Err(Error::Unsubscribed));
        self.remove_channel(channel);
        // If an earlier subscription is about to end, messages of the server are about that one until it has
        // ended.
        if let Some(number) =
            Some(number).filter(|_| is_known).or_else(|| self.requests.pending_unsubscribe(channel))
        {
            self.subscriptions.given_up.insert(channel.to_owned(), number);
        }
        let open_request = open_request.and_then(|id| self.requests.open.get_mut(&id));
        if let Some(Purpose::Subscribe { end, answer_by: Some(_), .. }) = open_request {
            *end = Some(PendingEnd { number, waiter: Some(waiter) });
            return;
        }
        match is_known && self.sockets.is_connected() {
            true => self.send_unsubscribe(channel, number, Some(waiter)),
            // A session that is resumed and still has the subscription triggers the request to end it.
            false => waiter.answer(Ok(())),
        }
    }

    /// Ends a subscription that was given up before its answer came, if the server has made it.
    pub(super) fn finish_given_up(&mut self, channel: &str, end: PendingEnd, answer: &Answer) {
        let PendingEnd { number, waiter } = end;
        let is_there = match answer {
            Ok(_) => true,
            Err(refusal) => {
                self.subscriptions.pause_queue(refusal);
                refusal.error_type == ErrorType::AlreadySubscribed.as_str()
                    || self.subscriptions.on_server.contains(channel)
            }
        };
        if is_there {
            return self.send_unsubscribe(channel, number, waiter);
        }
        self.subscriptions.confirm_unsubscribed(channel, number);
        if let Some(waiter) = waiter {
            waiter.answer(Ok(()));
        }
    }

    /// Ends a subscription of the server that nobody wants any more, unless its end was requested already.
    /// The application on the server has ended an earlier one, and with it the channel was no longer wanted.
    pub(super) fn end_unwanted(&mut self, channel: &str) {
        if self.subscriptions.session.channel(channel).is_some()
            || self.subscriptions.given_up.contains_key(channel)
        {
            return;
        }
        let number = self.requests.next_id();
        self.subscriptions.given_up.insert(channel.to_owned(), number);
        self.send_unsubscribe(channel, number, None);
    }

    /// Requests the end of a subscription.
    pub(super) fn send_unsubscribe(&mut self, channel: &str, number: u64, waiter: Option<Waiter<()>>) {
        let purpose = Purpose::Unsubscribe { channel: channel.to_owned(), number, waiter };
        self.send_request(purpose, &Request::Unsubscribe { channel: channel.into() });
    }

    /// Finishes the open requests of a connection that has ended. It has ended the subscriptions, too, so
    /// calls that wait for that succeed.
    pub(super) fn end_open_requests(&mut self) {
        for purpose in std::mem::take(&mut self.requests.open).into_values() {
            match purpose {
                // The session may have this subscription.
                Purpose::Subscribe { channel, end, .. } => {
                    self.subscriptions.on_server.insert(channel);
                    if let Some(waiter) = end.and_then(|end| end.waiter) {
                        waiter.answer(Ok(()));
                    }
                }
                Purpose::Unsubscribe { channel, waiter, .. } => {
                    self.subscriptions.on_server.insert(channel);
                    if let Some(waiter) = waiter {
                        waiter.answer(Ok(()));
                    }
                }
                Purpose::Presence { channel, .. } => {
                    self.update_roster(&channel, |roster| roster.take_page(None).0);
                    self.subscriptions.end_list(&channel);
                }
                _ => {}
            }
        }
    }
}
