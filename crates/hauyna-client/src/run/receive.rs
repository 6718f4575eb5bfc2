//! Distributes what the server sends: publications to the streams, answers to their callers, presence to the
//! lists.

use super::ClientTask;
use super::catch_up::{HeldMessages, fingerprint};
use super::requests::{Answer, Purpose};
use super::sockets::Incoming;
use crate::channel::PresenceUpdate;
use crate::client::read_position;
use crate::codec;
use crate::error::{Error, Refusal};
use crate::gap::{Gap, GapReason};
use crate::outbox::Draft;
use crate::presence::{ApplyResult, Roster};
use crate::session::{MissedMessages, Verdict};
use crate::socket::ConnectionLoss;
use crate::stream::{DirectKind, Notification};
use crate::subscription::LiveSubscription;
use hauyna_protocol::received::{self, Received, Subscribed};
use hauyna_protocol::{Position, RequestId};
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio::time::Instant;

impl ClientTask {
    pub(super) fn read_current(&mut self) {
        while let Some(incoming) = self.sockets.take_message(Instant::now()) {
            let (payload, encoding) = match incoming {
                Incoming::Message(payload, encoding) => (payload, encoding),
                Incoming::End(loss) => return self.connection_lost(&loss),
            };
            match codec::decode(encoding, &payload) {
                Ok(message) => self.receive(message),
                Err(fault) => {
                    self.sockets.failure_log.log_unreadable(&fault);
                    if !codec::is_of_application(encoding, &payload) {
                        // Its content is unknown, so this connection proves nothing any more.
                        let loss = ConnectionLoss::abnormal("a message could not be read");
                        self.connection_lost(&ConnectionLoss { is_unreadable: true, ..loss });
                    }
                }
            }
        }
    }

    /// Reads the former socket of a move, which may still hold answers and direct messages. Messages of
    /// channels are read from the new socket alone: it repeats them, perhaps in another epoch, or they are
    /// part of a gap that was reported.
    pub(super) fn read_former(&mut self) {
        while let Some((payload, encoding)) = self.sockets.take_former_message() {
            match codec::decode(encoding, &payload) {
                Ok(Received::Application(application)) if application.channel.is_some() => {}
                Ok(
                    message @ (Received::Ack(_)
                    | Received::Pong { .. }
                    | Received::Error(_)
                    | Received::Private(_)
                    | Received::Group(_)
                    | Received::Broadcast(_)
                    | Received::Application(_)),
                ) => self.receive(message),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn receive(&mut self, message: Received) {
        match message {
            Received::Ack(ack) => self.receive_answer(&ack.id, Ok(ack.data)),
            Received::Pong { id: Some(RequestId::Number(id)) } => {
                if matches!(self.requests.open.get(&id), Some(Purpose::Ping)) {
                    self.requests.open.remove(&id);
                }
            }
            Received::Pong { .. } => {}
            Received::Error(refused) => match refused.id.clone() {
                Some(id) => self.receive_answer(&id, Err(Refusal::from(*refused))),
                None => {
                    self.sockets.failure_log.log_unsolicited_error(&refused.error_type);
                    self.shared.broadcaster.push(&Notification::Refused(Arc::new(Refusal::from(*refused))));
                }
            },
            Received::Publication(publication) => {
                let offset = publication.offset;
                self.receive_publication(offset, Notification::Publication(Arc::new(publication), None));
            }
            Received::Application(application) => {
                let offset = application.offset;
                self.receive_publication(offset, Notification::Application(Arc::new(application)));
            }
            Received::Private(direct) => self.push_direct(DirectKind::Private, direct),
            Received::Group(direct) => self.push_direct(DirectKind::Group, direct),
            Received::Broadcast(direct) => self.push_direct(DirectKind::Broadcast, direct),
            Received::ChannelEvent(event) => {
                if let Some(channel) = self.channel(&event.channel) {
                    channel.broadcaster.push(&Notification::Subscriber(Arc::new(event)));
                }
            }
            Received::ClientEvent(event) => {
                // Otherwise it belongs to a subscription that was given up.
                let channel = self
                    .channel(&event.channel)
                    .filter(|_| self.subscriptions.session.is_live(&event.channel));
                if let Some(channel) = channel {
                    channel.broadcaster.push(&Notification::ClientEvent(Arc::new(event)));
                }
            }
            // It belongs to a subscription that continues or is about to end. A later request for one has an
            // answer of its own.
            Received::Subscribed(entry) if self.belongs_to_given_up(&entry) => {
                self.subscriptions.on_server.insert(entry.channel.clone());
                if entry.recovered.is_some() {
                    self.requests.outbox.forget_keys(&entry.channel);
                }
            }
            Received::Subscribed(entry) => self.subscription_live(&entry),
            Received::Unsubscribed { channel } if self.subscriptions.session.is_live(&channel) => {
                self.subscription_ended(&channel);
            }
            Received::Unsubscribed { channel } => _ = self.subscriptions.on_server.remove(&channel),
            Received::Gap(gap) => {
                let missed = self.subscriptions.session.note_gap(&gap.channel, gap.position, gap.missed);
                self.handle_missed(&gap.channel, missed, gap.position);
                self.refresh_list(&gap.channel);
            }
            Received::Question(question) => self.run_responder(question),
            Received::RetryPolicy(terms) => self.sockets.backoff.set_server_terms(terms),
            Received::Reconnect(drain) => self.schedule_move(&drain),
            message => self.receive_presence(message),
        }
    }

    /// Whether a `subscribed` message is about a subscription that was given up, while the channel is wanted
    /// again. Either that subscription continues in another epoch, or the server has yet to confirm its end,
    /// which ends this one, too.
    fn belongs_to_given_up(&self, entry: &Subscribed) -> bool {
        let is_ending = || self.requests.pending_unsubscribe(&entry.channel).is_some();
        self.subscriptions.session.is_awaited(&entry.channel) && (entry.recovered.is_some() || is_ending())
    }

    fn receive_presence(&mut self, message: Received) {
        let channel = match &message {
            Received::PresenceState(state) => &state.channel,
            Received::PresenceDiff(diff) => &diff.channel,
            Received::PresenceChange(change) => &change.channel,
            Received::Occupancy { channel, .. } => channel,
            _ => return,
        };
        // Otherwise it belongs to a subscription that was given up.
        if !self.subscriptions.session.is_live(channel) {
            return;
        }
        match message {
            Received::PresenceState(state) => {
                let channel = state.channel.clone();
                self.update_roster(&channel, |roster| roster.apply_state(state));
            }
            Received::PresenceDiff(diff) => {
                let (channel, mut is_miscounted) = (diff.channel.clone(), false);
                self.update_roster(&channel, |roster| {
                    let updates = roster.apply_diff(diff);
                    is_miscounted = roster.is_miscounted();
                    updates
                });
                if is_miscounted {
                    self.request_list(&channel);
                }
            }
            Received::PresenceChange(change) => {
                let (channel, mut skipped) = (change.channel.clone(), false);
                self.update_roster(&channel, |roster| match roster.apply_change(change) {
                    ApplyResult::Updates(updates) => updates,
                    ApplyResult::Skipped => {
                        skipped = true;
                        Vec::new()
                    }
                });
                if skipped {
                    self.request_list(&channel);
                }
            }
            Received::Occupancy { channel, count } => self.update_roster(&channel, |roster| {
                roster.apply_occupancy(count);
                Vec::new()
            }),
            _ => {}
        }
    }

    /// Changes the list of a channel, and notifies its readers of the updates.
    pub(super) fn update_roster(
        &self,
        channel: &str,
        change: impl FnOnce(&mut Roster) -> Vec<PresenceUpdate>,
    ) {
        let Some(shared) = self.channel(channel) else { return };
        let updates = change(&mut shared.roster.lock());
        for update in updates {
            shared.broadcaster.push(&Notification::Presence(Arc::new(update)));
        }
    }

    fn push_direct(&self, kind: DirectKind, direct: received::Direct) {
        self.shared.broadcaster.push(&Notification::Direct(Arc::new((kind, direct))));
    }

    /// Handles a message of a channel, which is live or replayed by the server.
    fn receive_publication(&mut self, offset: Option<u64>, notification: Notification) {
        let channel = match &notification {
            Notification::Publication(publication, _) => Some(&publication.channel),
            Notification::Application(application) => application.channel.as_ref(),
            _ => None,
        };
        let Some(channel) = channel.cloned() else { return self.deliver(None, &notification) };
        match self.subscriptions.session.admit(&channel, offset, || fingerprint(&notification)) {
            Verdict::Deliver => self.deliver(Some(&channel), &notification),
            // The application may have sent a message without an offset to this connection alone.
            Verdict::Unexpected
                if offset.is_none() && matches!(notification, Notification::Application(_)) =>
            {
                self.deliver(Some(&channel), &notification);
            }
            Verdict::Unexpected | Verdict::Drop => {}
            verdict @ (Verdict::Hold | Verdict::NumberingRestarted) => {
                if verdict == Verdict::NumberingRestarted {
                    self.check_numbering(&channel);
                }
                let held = self.subscriptions.held.entry(channel.clone()).or_insert_with(HeldMessages::new);
                if !held.keep(offset, notification) {
                    self.give_up_catch_up(&channel, GapReason::Dropped);
                }
            }
        }
    }

    /// Delivers a message to its readers.
    pub(super) fn deliver(&mut self, channel: Option<&str>, notification: &Notification) {
        if let Some(shared) = channel.and_then(|name| self.channel(name)) {
            let position = self.subscriptions.position(&shared.name);
            *shared.position.lock() = position;
            match notification {
                Notification::Publication(publication, _) => {
                    shared.broadcaster.push(&Notification::Publication(publication.clone(), position));
                }
                notification => shared.broadcaster.push(notification),
            }
        }
        if let Notification::Application(_) = notification {
            self.shared.broadcaster.push(notification);
        }
    }

    /// Handles a subscription that is live, as its answer, the session or a `subscribed` message says.
    pub(super) fn subscription_live(&mut self, entry: &Subscribed) {
        self.subscriptions.on_server.insert(entry.channel.clone());
        if let Some(number) = self.subscriptions.given_up.get(&entry.channel) {
            return self.send_unsubscribe(&entry.channel, *number, None);
        }
        if self.subscriptions.session.has_other_epoch(entry) {
            self.requests.outbox.forget_keys(&entry.channel);
            while entry.recovered == Some(true) && self.subscriptions.session.is_catching_up(&entry.channel) {
                // The messages that were missed before belong to the old epoch and cannot be fetched any
                // more.
                self.give_up_catch_up(&entry.channel, GapReason::EpochChanged);
            }
        }
        let missed = self.subscriptions.session.set_live(entry);
        if !self.subscriptions.session.is_catching_up(&entry.channel) {
            self.stop_catch_up(&entry.channel);
        }
        let position = self.subscriptions.position(&entry.channel);
        if let Some(wanted) = self.subscriptions.wanted.get_mut(&entry.channel) {
            wanted.retry_at = None;
        }
        let shared = self.shared.channels.open(&entry.channel);
        *shared.position.lock() = position;
        shared.events.lock().open(&entry.client_events);
        shared.roster.lock().refuse_until(None);
        if self.requests.is_restored && !self.requests.needs_judgement {
            // No request of this channel waits for a judgement.
            self.subscriptions.session.note_judged();
        }
        self.subscriptions.answer_waiters(
            &entry.channel,
            &Ok(LiveSubscription { position, recoverable: entry.recoverable }),
        );
        self.handle_missed(&entry.channel, missed, None);
    }

    /// Reports or fetches what was missed, after `before` if the server has named it.
    pub(super) fn handle_missed(&mut self, channel: &str, missed: MissedMessages, before: Option<Position>) {
        match missed {
            MissedMessages::Nothing => {}
            MissedMessages::InHistory => self.catch_up(channel, before),
            MissedMessages::Gap(gap) => self.report_gap(gap),
            MissedMessages::GapThenHistory(gap) => {
                self.report_gap(gap);
                self.stop_catch_up(channel);
                self.catch_up(channel, before);
            }
        }
    }

    /// Ends a subscription that the application on the server has ended or has not restored.
    pub(super) fn subscription_ended(&mut self, channel: &str) {
        let from = self.subscriptions.position(channel);
        self.subscriptions.on_server.remove(channel);
        self.remove_channel(channel);
        let gap =
            Gap { channel: channel.to_owned(), reason: GapReason::Refused, from, to: None, missed: None };
        self.report_gap(gap);
    }

    /// Removes everything that belongs to a subscription.
    pub(super) fn remove_channel(&mut self, channel: &str) {
        self.subscriptions.session.forget(channel);
        self.stop_catch_up(channel);
        self.subscriptions.end_list(channel);
        self.subscriptions.wanted.remove(channel);
        if let Some(shared) = self.channel(channel) {
            *shared.position.lock() = None;
            *shared.roster.lock() = Roster::default();
            shared.events.lock().close();
            self.shared.channels.release(&shared);
        }
    }

    /// Updates the client's state after a request of the application has succeeded.
    fn note_done(&mut self, draft: &Draft, data: Option<&RawValue>) {
        match draft {
            Draft::Publish { channel, echo: false, .. } => {
                let at = data.and_then(|data| read_position(Some(data.to_owned())).ok().flatten());
                if let Some(at) =
                    at.filter(|at| self.subscriptions.session.note_own_publication(channel, *at))
                    && let Some(shared) = self.channel(channel)
                {
                    *shared.position.lock() = Some(at);
                }
            }
            Draft::UpdatePresence { channel, metadata } => {
                self.subscriptions.keep_metadata(channel, metadata);
            }
            _ => {}
        }
    }

    fn receive_answer(&mut self, id: &RequestId, answer: Answer) {
        let RequestId::Number(id) = *id else { return };
        if let Some(purpose) = self.requests.open.remove(&id) {
            if matches!(purpose, Purpose::Subscribe { .. }) {
                self.extend_later_subscribes(id);
            }
            return self.handle_own_answer(purpose, answer);
        }
        let may_be_done = answer.is_err() && self.requests.outbox.may_be_done(id);
        if let Some(entry) = self.requests.outbox.take_answered(id) {
            if let Ok(data) = &answer {
                self.note_done(&entry.draft, data.as_deref());
            }
            let refused = |refusal| if may_be_done { Error::OutcomeUnknown } else { Error::Refused(refusal) };
            // The caller may have dropped its future.
            let _ = entry.reply.send(answer.map_err(refused));
        }
    }
}
