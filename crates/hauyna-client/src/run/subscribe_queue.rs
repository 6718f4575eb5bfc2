//! The queue of subscriptions that wait for their request. Few are in flight at once, and a refusal because
//! of the rate pauses all: a client with many channels reconnects without a burst that its server would
//! refuse.

use super::ClientTask;
use super::credentials::fetch_token_within;
use super::requests::{BackgroundResult, Purpose, retry_delay};
use crate::clock::after;
use crate::error::{Error, Refusal};
use crate::gap::{Gap, GapReason};
use crate::session::SubscriptionState;
use crate::socket::ConnectionLoss;
use crate::subscription::LiveSubscription;
use hauyna_protocol::{Encoding, ErrorType, Raw, Request};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// The subscriptions that wait for their request on one connection.
#[derive(Debug, Default)]
pub(super) struct SubscribeQueue {
    waiting: VecDeque<QueuedSubscribe>,
    paused_until: Option<Instant>,
    /// Number of channel tokens that are being fetched.
    fetching: usize,
}

/// A subscription that waits for its request.
#[derive(Debug)]
pub(super) struct QueuedSubscribe {
    pub(super) channel: String,
    /// The number of the wanted channel.
    pub(super) number: u64,
    /// The token that was fetched for it, if it needs one.
    pub(super) token: Option<String>,
}

impl SubscribeQueue {
    /// Notes that a token source has answered or failed.
    pub(super) const fn fetched(&mut self) {
        self.fetching = self.fetching.saturating_sub(1);
    }

    pub(super) fn push_back(&mut self, queued: QueuedSubscribe) {
        self.waiting.push_back(queued);
    }

    pub(super) fn push_front(&mut self, queued: QueuedSubscribe) {
        self.waiting.push_front(queued);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the moment at which a pause ends, if a subscription waits for it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.paused_until.filter(|_| !self.waiting.is_empty())
    }

    /// Pauses the queue until this moment.
    pub(super) fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Takes the next subscription, unless the queue is paused. A subscription that needs a token waits while
    /// the maximum of tokens is being fetched. One whose channel has an earlier subscription about to end
    /// waits for that. Both let others overtake them.
    fn next(
        &mut self,
        needs_token: impl Fn(&QueuedSubscribe) -> bool,
        is_ending: impl Fn(&str) -> bool,
    ) -> Option<QueuedSubscribe> {
        if self.paused_until.is_some() {
            return None;
        }
        let may_fetch = self.fetching < MAX_IN_FLIGHT;
        let may_go =
            |queued: &QueuedSubscribe| (may_fetch || !needs_token(queued)) && !is_ending(&queued.channel);
        let at = self.waiting.iter().position(may_go)?;
        self.waiting.remove(at)
    }
}

impl ClientTask {
    /// Requests as many of the waiting subscriptions as may be in flight at once.
    pub(super) fn send_queued(&mut self, now: Instant) {
        // A pause that is over ends even if nothing is sent: as a deadline in the past it would keep the task
        // awake.
        self.subscriptions.queue.paused_until.take_if(|until| now >= *until);
        if self.subscriptions.queue.waiting.is_empty() {
            return;
        }
        // The count is taken each time, because a request that fails at once is not in flight.
        while self.requests.subscribes_in_flight() < MAX_IN_FLIGHT {
            let wanted = &self.subscriptions.wanted;
            let has_source =
                |channel: &str| wanted.get(channel).is_some_and(|wanted| wanted.request.token.is_some());
            let needs_token =
                |queued: &QueuedSubscribe| queued.token.is_none() && has_source(&queued.channel);
            let requests = &self.requests;
            let is_ending = |channel: &str| requests.awaits_given_up(channel);
            let Some(queued) = self.subscriptions.queue.next(needs_token, is_ending) else { return };
            let needs_token = needs_token(&queued);
            let QueuedSubscribe { channel, number, token } = queued;
            if !self.subscriptions.is_current(&channel, number)
                || self.subscriptions.session.is_live(&channel)
            {
                continue; // It was given up meanwhile, or the server has made the subscription.
            }
            match needs_token {
                true => self.fetch_token(channel, number),
                false => self.send_subscribe(&channel, token),
            }
        }
    }

    fn fetch_token(&mut self, channel: String, number: u64) {
        let Some(source) =
            self.subscriptions.wanted.get(&channel).and_then(|wanted| wanted.request.token.clone())
        else {
            return;
        };
        let (generation, timeout) = (self.sockets.generation, self.token_timeout());
        self.subscriptions.queue.fetching += 1;
        self.requests.background.spawn(async move {
            let token = fetch_token_within(source, timeout).await;
            BackgroundResult::ChannelToken { generation, channel, number, token }
        });
    }

    fn send_subscribe(&mut self, channel: &str, token: Option<String>) {
        let Some(state) = self.subscriptions.session.channel(channel) else { return };
        let recover = state.recover_position();
        let Some(wanted) = self.subscriptions.wanted.get(channel) else { return };
        let (metadata, number) = (wanted.metadata().map(RawValue::to_owned), wanted.number);
        let request = Request::Subscribe {
            channel: channel.into(),
            metadata: metadata.as_ref().map(|raw| Raw::assume_valid(Encoding::Json, raw.get().as_bytes())),
            recover,
            token: token.map(Into::into),
        };
        let answer_by = Some(self.answer_by(self.subscriptions.session.is_channel_restoring(channel)));
        self.send_request(
            Purpose::Subscribe { channel: channel.to_owned(), number, answer_by, bytes: 0, end: None },
            &request,
        );
    }

    /// Handles the refusal of a subscription.
    pub(super) fn handle_subscribe_refusal(&mut self, channel: &str, refusal: &Refusal) {
        let Some(state) = self.subscriptions.session.channel(channel) else { return };
        if state.subscription == SubscriptionState::Live {
            // The server has subscribed this connection meanwhile, and no refusal ends that.
            return;
        }
        if refusal.error_type == ErrorType::AlreadySubscribed.as_str() {
            self.subscriptions.on_server.insert(channel.to_owned());
            // The server has made this subscription and is about to say so, or it has kept one that was given
            // up.
            let missed = state.join_unannounced();
            let subscription =
                LiveSubscription { position: state.position, recoverable: state.is_recoverable };
            self.subscriptions.answer_waiters(channel, &Ok(subscription));
            self.handle_missed(channel, missed, None);
            if let Some(held) = self.subscriptions.held.get_mut(channel) {
                // Until the history has proved the epoch, no offset of a live message shows a duplicate.
                held.note_numbering_went_back();
            }
            return;
        }
        if refusal.error_type == ErrorType::RateLimited.as_str() {
            return self.subscriptions.retry_after_pause(channel, refusal);
        }
        let (was_live, from) = (state.was_live(), state.position);
        state.subscription = SubscriptionState::Absent;
        let Some(wanted) = self.subscriptions.wanted.get_mut(channel) else { return };
        if was_live && refusal.temporary {
            wanted.retry_at = Some(Instant::now() + retry_delay(refusal));
            return;
        }
        self.subscriptions.answer_waiters(channel, &Err(Error::Refused(refusal.clone())));
        self.remove_channel(channel);
        if self.subscriptions.on_server.contains(channel) {
            // The server has an earlier one, whose end it has refused.
            self.end_unwanted(channel);
        }
        if was_live {
            let reason = GapReason::Refused;
            self.report_gap(Gap { channel: channel.to_owned(), reason, from, to: None, missed: None });
        }
    }

    /// Returns the moment at which the answer to a subscription is late. One that was live before has more
    /// time than a server gives its application: a request on another connection would only start the same
    /// wait again.
    fn answer_by(&self, was_live: bool) -> Instant {
        let least = if was_live { MAX_UNANSWERED } else { RESTORE_TIMEOUT };
        after(Instant::now(), self.shared.timeout.max(least))
    }

    /// Extends the deadlines of the subscriptions after one that was answered: a server decides about them
    /// one after the other, and each decision may take time.
    pub(super) fn extend_later_subscribes(&mut self, answered: u64) {
        let (for_new, for_restored) = (self.answer_by(false), self.answer_by(true));
        for (_, purpose) in self.requests.open.range_mut(answered..) {
            if let Purpose::Subscribe { channel, answer_by: Some(at), .. } = purpose {
                let is_restoring = self.subscriptions.session.is_channel_restoring(channel);
                *at = if is_restoring { for_restored } else { for_new };
            }
        }
    }

    /// Gives up the connection if a subscription that was live before is not answered in time. A new
    /// subscription that is not answered makes room for the next one.
    pub(super) fn expire_subscribes(&mut self, now: Instant) {
        let (mut is_restoring_late, mut given_up) = (false, Vec::new());
        for purpose in self.requests.open.values_mut() {
            if let Purpose::Subscribe { channel, answer_by, end, .. } = purpose
                && answer_by.take_if(|by| now >= *by).is_some()
            {
                match end.take() {
                    Some(end) => given_up.push((channel.clone(), end)),
                    None => is_restoring_late |= self.subscriptions.session.is_channel_restoring(channel),
                }
            }
        }
        for (channel, end) in given_up {
            self.send_unsubscribe(&channel, end.number, end.waiter);
        }
        if is_restoring_late {
            self.connection_lost(&ConnectionLoss::abnormal("subscriptions were not answered"));
        }
    }
}

/// Subscriptions that may be in flight at once. The TypeScript client has the same bound.
const MAX_IN_FLIGHT: usize = 16;
/// The least time for the answer to a subscription, however short the timeout of requests is.
pub(super) const RESTORE_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for a subscription that was live before the loss: twice the time that a server gives its
/// application by default.
const MAX_UNANSWERED: Duration = Duration::from_secs(60);
