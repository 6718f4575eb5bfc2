//! The subscriptions that wait to be asked for. A few are on their way at once, and a refusal for rate pauses
//! them all: a client with many channels comes back without a burst that its server would refuse. Part of the
//! task.

use super::ClientTask;
use super::catch_up::retry_delay;
use super::requests::{BackgroundResult, Purpose};
use super::send::request_settled;
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

/// The subscriptions that wait to be asked for, on one connection.
#[derive(Debug, Default)]
pub(super) struct SubscribeQueue {
    waiting: VecDeque<QueuedSubscribe>,
    paused_until: Option<Instant>,
    /// How many tokens of channels are being fetched.
    fetching: usize,
}

/// A subscription that waits.
#[derive(Debug)]
pub(super) struct QueuedSubscribe {
    pub(super) channel: String,
    /// The number of the wish for it.
    pub(super) number: u64,
    /// The token that was fetched for it, where it needs one.
    pub(super) token: Option<String>,
}

impl SubscribeQueue {
    /// A token is there, or will not come.
    pub(super) const fn fetched(&mut self) {
        self.fetching = self.fetching.saturating_sub(1);
    }

    pub(super) fn push_front(&mut self, queued: QueuedSubscribe) {
        self.waiting.push_front(queued);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The moment at which the next one may be asked for, where the queue is paused.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.paused_until.filter(|_| !self.waiting.is_empty())
    }

    /// Asks nothing before this moment.
    fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Takes the next one, unless the queue is paused. Those that need a token wait while enough of these are
    /// being fetched, and those of a channel whose earlier subscription is to end wait for that; both let the
    /// others go ahead.
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
    /// Asks for a channel that is wanted, behind those that wait already.
    pub(super) fn subscribe(&mut self, channel: &str) {
        let Some(state) = self.subscriptions.session.channel(channel) else { return };
        if state.subscription == SubscriptionState::Live {
            return; // The server has subscribed this client meanwhile.
        }
        state.subscription = SubscriptionState::Asked;
        let Some(wanted) = self.subscriptions.wanted.get(channel) else { return };
        let queued = QueuedSubscribe { channel: channel.to_owned(), number: wanted.number, token: None };
        self.subscriptions.queue.waiting.push_back(queued);
    }

    /// Asks for as many of those that wait as may be on their way at once.
    pub(super) fn send_queued(&mut self, now: Instant) {
        // Also where nothing more may be asked yet: a moment that stays in the past would keep the task
        // awake.
        self.subscriptions.queue.paused_until.take_if(|until| now >= *until);
        if self.subscriptions.queue.waiting.is_empty() {
            return;
        }
        // Counted again each time: one that is refused right here is not on its way.
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
        let (generation, patience) = (self.sockets.generation, self.token_timeout());
        self.subscriptions.queue.fetching += 1;
        self.requests.background.spawn(async move {
            let token = request_settled(source, patience).await;
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

    /// A channel was refused.
    pub(super) fn handle_subscribe_refusal(&mut self, channel: &str, refusal: &Refusal) {
        let Some(state) = self.subscriptions.session.channel(channel) else { return };
        if state.subscription == SubscriptionState::Live {
            return; // The server has subscribed this connection meanwhile, which no refusal ends.
        }
        if refusal.error_type == ErrorType::AlreadySubscribed.as_str() {
            self.subscriptions.on_server.insert(channel.to_owned());
            // The same, and its notice is on its way, unless it is one that was given up and that the server
            // has kept.
            let missed = state.join_unannounced();
            let subscription =
                LiveSubscription { position: state.position, recoverable: state.is_recoverable };
            self.subscriptions.answer_waiters(channel, &Ok(subscription));
            return self.handle_missed(channel, missed, None);
        }
        if refusal.error_type == ErrorType::RateLimited.as_str() {
            return self.retry_subscribe(channel, refusal);
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
            self.end_unwanted(channel); // An earlier one, whose end was refused.
        }
        if was_live {
            let reason = GapReason::Refused;
            self.report_gap(Gap { channel: channel.to_owned(), reason, from, to: None, missed: None });
        }
    }

    /// Asks for a channel once more, and for all that wait, when the server's limit allows it.
    fn retry_subscribe(&mut self, channel: &str, refusal: &Refusal) {
        let Some(wanted) = self.subscriptions.wanted.get_mut(channel) else { return };
        wanted.refusal = Some(refusal.clone());
        let queued = QueuedSubscribe { channel: channel.to_owned(), number: wanted.number, token: None };
        self.subscriptions.queue.push_front(queued);
        self.pause_queue(refusal);
    }

    /// A refusal for rate pauses all that wait, also where the channel has been given up since.
    pub(super) fn pause_queue(&mut self, refusal: &Refusal) {
        if refusal.error_type == ErrorType::RateLimited.as_str() {
            self.subscriptions.queue.pause(Instant::now() + retry_delay(refusal));
        }
    }

    /// By when a subscription is answered. One that was live is awaited for longer than servers wait for
    /// their application: asking for it again on another connection would begin the same wait.
    fn answer_by(&self, was_live: bool) -> Instant {
        let least = if was_live { MAX_UNANSWERED } else { RESTORE_TIMEOUT };
        after(Instant::now(), self.shared.timeout.max(least))
    }

    /// A server decides about one subscription after the other, and may have to wait for each: those that
    /// were asked for behind one that it has answered have their time again.
    pub(super) fn extend_later_subscribes(&mut self, answered: u64) {
        let (new, owed) = (self.answer_by(false), self.answer_by(true));
        for (_, purpose) in self.requests.open.range_mut(answered..) {
            if let Purpose::Subscribe { channel, answer_by: Some(at), .. } = purpose {
                *at = if self.subscriptions.session.is_channel_restoring(channel) { owed } else { new };
            }
        }
    }

    /// Gives up the connection where the server owes the answer to a subscription that it ended by losing its
    /// memory. Another subscription that is not answered in time makes room for the next one.
    pub(super) fn expire_subscribes(&mut self, now: Instant) {
        let (mut is_owed, mut ended) = (false, Vec::new());
        for purpose in self.requests.open.values_mut() {
            if let Purpose::Subscribe { channel, answer_by, end, .. } = purpose
                && answer_by.take_if(|by| now >= *by).is_some()
            {
                match end.take() {
                    Some(end) => ended.push((channel.clone(), end)),
                    None => is_owed |= self.subscriptions.session.is_channel_restoring(channel),
                }
            }
        }
        for (channel, end) in ended {
            self.send_unsubscribe(&channel, end.number, end.waiter);
        }
        if is_owed {
            self.connection_lost(&ConnectionLoss::abnormal("subscriptions were not answered"));
        }
    }
}

/// Subscriptions that may be on their way at once. The TypeScript client has the same bound.
const MAX_IN_FLIGHT: usize = 16;
/// The least time for a subscription to be answered, however little a request is given.
pub(super) const RESTORE_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for one that was live before the loss: twice what a server gives its application by default.
const MAX_UNANSWERED: Duration = Duration::from_secs(60);
