//! Distributes what the server sends: publications to the streams, answers to their callers, presence to the
//! lists. Part of the task.

use super::ClientTask;
use super::catch_up::{HeldMessages, mark};
use super::requests::Purpose;
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
                        // Nobody knows what it said, so the connection proves nothing any more.
                        let loss = ConnectionLoss::abnormal("a message could not be read");
                        self.connection_lost(&ConnectionLoss { is_unreadable: true, ..loss });
                    }
                }
            }
        }
    }

    /// The old socket of a hand-over may hold answers and direct messages still. What is about a channel is
    /// the new one's alone: it comes there again, perhaps in another epoch, or is part of the gap that has
    /// been told.
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
                // Else it is left of a subscription that was given up.
                let channel = self
                    .channel(&event.channel)
                    .filter(|_| self.subscriptions.session.is_live(&event.channel));
                if let Some(channel) = channel {
                    channel.broadcaster.push(&Notification::ClientEvent(Arc::new(event)));
                }
            }
            // Of a subscription that goes on or is about to end: one that is asked for since is answered by
            // itself.
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

    /// Whether what the server says is about a subscription that was given up, while the channel is wanted
    /// again: the epoch has turned for it, or its end, which the server has not answered, ends this one of
    /// the application's, too.
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
        // Else it is left of a subscription that was given up.
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

    /// Changes the list of a channel, and tells what that changed.
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

    /// A message of a channel, live or replayed by the server.
    fn receive_publication(&mut self, offset: Option<u64>, notification: Notification) {
        let channel = match &notification {
            Notification::Publication(publication, _) => Some(&publication.channel),
            Notification::Application(application) => application.channel.as_ref(),
            _ => None,
        };
        let Some(channel) = channel.cloned() else { return self.deliver(None, &notification) };
        match self.subscriptions.session.admit(&channel, offset, || mark(&notification)) {
            Verdict::Deliver => self.deliver(Some(&channel), &notification),
            // An application's message without a number may have been sent to this connection alone.
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

    /// Gives a message to its readers.
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

    /// A subscription is live, as its answer, the session or a notice says.
    pub(super) fn subscription_live(&mut self, entry: &Subscribed) {
        self.subscriptions.on_server.insert(entry.channel.clone());
        if let Some(number) = self.subscriptions.given_up.get(&entry.channel) {
            return self.send_unsubscribe(&entry.channel, *number, None);
        }
        if self.subscriptions.session.has_other_epoch(entry) {
            self.requests.outbox.forget_keys(&entry.channel);
            while entry.recovered == Some(true) && self.subscriptions.session.is_catching_up(&entry.channel) {
                // What was missed before cannot be fetched any more: it was of the old epoch.
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
            self.subscriptions.session.note_judged(); // Nothing of this channel waits to be judged.
        }
        self.subscriptions.answer_waiters(
            &entry.channel,
            &Ok(LiveSubscription { position, recoverable: entry.recoverable }),
        );
        self.handle_missed(&entry.channel, missed, None);
    }

    /// Does what is to be done about what was missed, after a position where the server has named one.
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

    /// The application on the server has ended a subscription, or does not take it up again.
    pub(super) fn subscription_ended(&mut self, channel: &str) {
        let from = self.subscriptions.position(channel);
        self.subscriptions.on_server.remove(channel);
        self.remove_channel(channel);
        let gap =
            Gap { channel: channel.to_owned(), reason: GapReason::Refused, from, to: None, missed: None };
        self.report_gap(gap);
    }

    /// Nothing of a subscription is left.
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

    /// The server has done what the application asked for.
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
                self.subscriptions.keep_metadata(channel, metadata)
            }
            _ => {}
        }
    }

    fn receive_answer(&mut self, id: &RequestId, answer: Result<Option<Box<RawValue>>, Refusal>) {
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
            // Whoever asked may have gone.
            let _ = entry.reply.send(answer.map_err(refused));
        }
    }
}
