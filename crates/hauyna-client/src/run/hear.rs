//! What the server says: publications to the streams, answers to whoever waits, presence to the lists. Part of the task.

use super::Run;
use super::ask::Purpose;
use super::held::{Held, mark};
use super::travel::Former;
use crate::channel::PresenceUpdate;
use crate::client::read_position;
use crate::codec;
use crate::error::{Error, Refusal};
use crate::gap::{Gap, GapReason};
use crate::outbox::Draft;
use crate::presence::{Applied, Roster};
use crate::session::{Missed, Verdict};
use crate::socket::Loss;
use crate::stream::{DirectKind, Note};
use crate::subscription::Live;
use hauyna_protocol::received::{self, Received, Subscribed};
use hauyna_protocol::{Position, RequestId};
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio::time::Instant;

impl Run {
    pub(super) fn read_current(&mut self) {
        while let Some(socket) = &mut self.current {
            if socket.take_heard()
                && let Some(liveness) = &mut self.liveness
            {
                liveness.heard(Instant::now());
            }
            let Some(payload) = socket.message() else {
                let Some(loss) = socket.end().cloned() else { return };
                return self.lost(&loss);
            };
            let encoding = socket.encoding();
            match codec::decode(encoding, &payload) {
                Ok(message) => self.hear(message),
                Err(fault) => {
                    self.failure_log.unreadable(&fault);
                    if !codec::is_of_application(encoding, &payload) {
                        // What was in it cannot be known, so this connection proves nothing any more.
                        let loss = Loss::abnormal("a message could not be read");
                        self.lost(&Loss { is_unreadable: true, ..loss });
                    }
                }
            }
        }
    }

    /// The old socket of a hand-over may hold answers and direct messages still. What is about a channel is the new one's alone: it
    /// comes there anew, perhaps in another epoch, or is part of the gap that has been told.
    pub(super) fn read_former(&mut self) {
        while let Some(Former { socket, is_heard, .. }) = &mut self.former {
            let _ = socket.take_heard();
            let Some(payload) = socket.message() else {
                if socket.end().is_some() {
                    self.former = None;
                }
                return;
            };
            if !*is_heard {
                continue;
            }
            match codec::decode(socket.encoding(), &payload) {
                Ok(Received::Application(application)) if application.channel.is_some() => {}
                Ok(
                    message @ (Received::Ack(_)
                    | Received::Pong { .. }
                    | Received::Error(_)
                    | Received::Private(_)
                    | Received::Group(_)
                    | Received::Broadcast(_)
                    | Received::Application(_)),
                ) => self.hear(message),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn hear(&mut self, message: Received) {
        match message {
            Received::Ack(ack) => self.answered(&ack.id, Ok(ack.data)),
            Received::Pong { id: Some(RequestId::Number(id)) } => {
                if matches!(self.asked.get(&id), Some(Purpose::Ping)) {
                    self.asked.remove(&id);
                }
            }
            Received::Pong { .. } => {}
            Received::Error(refused) => match refused.id.clone() {
                Some(id) => self.answered(&id, Err(Refusal::from(*refused))),
                None => {
                    self.failure_log.unasked(&refused.error_type);
                    self.shared.feed.push(&Note::Refused(Arc::new(Refusal::from(*refused))));
                }
            },
            Received::Publication(publication) => {
                let offset = publication.offset;
                self.arrive(offset, Note::Publication(Arc::new(publication), None));
            }
            Received::Application(application) => {
                let offset = application.offset;
                self.arrive(offset, Note::Application(Arc::new(application)));
            }
            Received::Private(direct) => self.direct(DirectKind::Private, direct),
            Received::Group(direct) => self.direct(DirectKind::Group, direct),
            Received::Broadcast(direct) => self.direct(DirectKind::Broadcast, direct),
            Received::ChannelEvent(event) => {
                if let Some(channel) = self.channel(&event.channel) {
                    channel.feed.push(&Note::Subscriber(Arc::new(event)));
                }
            }
            Received::ClientEvent(event) => {
                // Else it is left of a subscription that was given up.
                let channel = self.channel(&event.channel).filter(|_| self.session.is_live(&event.channel));
                if let Some(channel) = channel {
                    channel.feed.push(&Note::ClientEvent(Arc::new(event)));
                }
            }
            // Of a subscription that goes on or is about to end: one that is asked for since is answered by
            // itself.
            Received::Subscribed(entry) if self.is_of_earlier(&entry) => {
                if entry.recovered.is_some() {
                    self.outbox.forget_keys(&entry.channel);
                }
            }
            Received::Subscribed(entry) => self.live(&entry),
            Received::Unsubscribed { channel } if self.session.is_live(&channel) => self.taken_out(&channel),
            Received::Unsubscribed { .. } => {}
            Received::Gap(gap) => {
                let missed = self.session.gap(&gap.channel, gap.position, gap.missed);
                self.make_up_for(&gap.channel, missed, gap.position);
                self.refresh_presence(&gap.channel);
            }
            Received::Question(question) => self.question(question),
            Received::RetryPolicy(terms) => self.backoff.set_server_terms(terms),
            Received::Reconnect(drain) => self.drain(&drain),
            message => self.hear_presence(message),
        }
    }

    /// Whether what the server says is about a subscription that was given up, while the channel is wanted
    /// again: the epoch has turned for it, or its end, which the server has not answered, ends this one of
    /// the application's, too.
    fn is_of_earlier(&self, entry: &Subscribed) -> bool {
        let is_its_end = |purpose: &Purpose| matches!(purpose, Purpose::Unsubscribe { channel, .. } if *channel == entry.channel);
        let is_ending = || self.asked.values().any(is_its_end);
        self.session.is_awaited(&entry.channel) && (entry.recovered.is_some() || is_ending())
    }

    fn hear_presence(&mut self, message: Received) {
        let channel = match &message {
            Received::PresenceState(state) => &state.channel,
            Received::PresenceDiff(diff) => &diff.channel,
            Received::PresenceChange(change) => &change.channel,
            Received::Occupancy { channel, .. } => channel,
            _ => return,
        };
        // Else it is left of a subscription that was given up.
        if !self.session.is_live(channel) {
            return;
        }
        match message {
            Received::PresenceState(state) => {
                let channel = state.channel.clone();
                self.roster(&channel, |roster| roster.state(state));
            }
            Received::PresenceDiff(diff) => {
                let (channel, mut is_miscounted) = (diff.channel.clone(), false);
                self.roster(&channel, |roster| {
                    let updates = roster.diff(diff);
                    is_miscounted = roster.is_miscounted();
                    updates
                });
                if is_miscounted {
                    self.ask_presence(&channel);
                }
            }
            Received::PresenceChange(change) => {
                let (channel, mut skipped) = (change.channel.clone(), false);
                self.roster(&channel, |roster| match roster.change(change) {
                    Applied::Updates(updates) => updates,
                    Applied::Skipped => {
                        skipped = true;
                        Vec::new()
                    }
                });
                if skipped {
                    self.ask_presence(&channel);
                }
            }
            Received::Occupancy { channel, count } => self.roster(&channel, |roster| {
                roster.occupancy(count);
                Vec::new()
            }),
            _ => {}
        }
    }

    /// Changes the list of a channel, and tells what that changed.
    pub(super) fn roster(&self, channel: &str, change: impl FnOnce(&mut Roster) -> Vec<PresenceUpdate>) {
        let Some(shared) = self.channel(channel) else { return };
        let updates = change(&mut shared.roster.lock());
        for update in updates {
            shared.feed.push(&Note::Presence(Arc::new(update)));
        }
    }

    fn direct(&self, kind: DirectKind, direct: received::Direct) {
        self.shared.feed.push(&Note::Direct(Arc::new((kind, direct))));
    }

    /// A message of a channel, live or replayed by the server.
    fn arrive(&mut self, offset: Option<u64>, note: Note) {
        let channel = match &note {
            Note::Publication(publication, _) => Some(&publication.channel),
            Note::Application(application) => application.channel.as_ref(),
            _ => None,
        };
        let Some(channel) = channel.cloned() else { return self.give(None, &note) };
        match self.session.admit(&channel, offset, || mark(&note)) {
            Verdict::Deliver => self.give(Some(&channel), &note),
            // An application's message without a number may have been sent to this connection alone.
            Verdict::Stray if offset.is_none() && matches!(note, Note::Application(_)) => {
                self.give(Some(&channel), &note);
            }
            Verdict::Stray | Verdict::Drop => {}
            verdict @ (Verdict::Hold | Verdict::WentBack) => {
                if verdict == Verdict::WentBack {
                    self.doubt(&channel);
                }
                let held = self.held.entry(channel.clone()).or_insert_with(Held::new);
                if !held.keep(offset, note) {
                    self.give_up_catching(&channel, GapReason::Dropped);
                }
            }
        }
    }

    /// Gives a message to its readers.
    pub(super) fn give(&mut self, channel: Option<&str>, note: &Note) {
        if let Some(shared) = channel.and_then(|name| self.channel(name)) {
            let position = self.session.place(&shared.name).and_then(|place| place.position);
            *shared.position.lock() = position;
            match note {
                Note::Publication(publication, _) => {
                    shared.feed.push(&Note::Publication(publication.clone(), position));
                }
                note => shared.feed.push(note),
            }
        }
        if let Note::Application(_) = note {
            self.shared.feed.push(note);
        }
    }

    /// A subscription is live, as its answer, the session or a notice says.
    pub(super) fn live(&mut self, entry: &Subscribed) {
        if let Some(number) = self.given_up.get(&entry.channel) {
            return self.give_up(&entry.channel, *number, None);
        }
        if self.session.is_turned_by(entry) {
            self.outbox.forget_keys(&entry.channel);
            while entry.recovered == Some(true) && self.session.is_catching(&entry.channel) {
                // What was missed before cannot be fetched any more: it was of the old epoch.
                self.give_up_catching(&entry.channel, GapReason::EpochChanged);
            }
        }
        let missed = self.session.live(entry);
        if !self.session.is_catching(&entry.channel) {
            self.stop_catching(&entry.channel);
        }
        let position = self.session.place(&entry.channel).and_then(|place| place.position);
        if let Some(kept) = self.wishes.get_mut(&entry.channel) {
            kept.retry_at = None;
        }
        let shared = self.shared.channels.open(&entry.channel);
        *shared.position.lock() = position;
        shared.events.lock().open(&entry.client_events);
        shared.roster.lock().refuse_until(None);
        if self.is_restored && !self.is_unjudged {
            self.session.judged(); // Nothing of this channel waits to be judged.
        }
        self.answer_waiters(&entry.channel, &Ok(Live { position, recoverable: entry.recoverable }));
        self.make_up_for(&entry.channel, missed, None);
    }

    /// Does what is to be done about what was missed, after a position where the server has named one.
    pub(super) fn make_up_for(&mut self, channel: &str, missed: Missed, before: Option<Position>) {
        match missed {
            Missed::Nothing => {}
            Missed::InHistory => self.catch_up(channel, before),
            Missed::Gap(gap) => self.tell(gap),
            Missed::GapThenHistory(gap) => {
                self.tell(gap);
                self.stop_catching(channel);
                self.catch_up(channel, before);
            }
        }
    }

    /// The application on the server has ended a subscription, or does not take it up again.
    pub(super) fn taken_out(&mut self, channel: &str) {
        let from = self.session.place(channel).and_then(|place| place.position);
        self.forget(channel);
        let gap =
            Gap { channel: channel.to_owned(), reason: GapReason::Refused, from, to: None, missed: None };
        self.tell(gap);
    }

    /// Nothing of a subscription is left.
    pub(super) fn forget(&mut self, channel: &str) {
        self.session.forget(channel);
        self.stop_catching(channel);
        self.list_ends(channel);
        self.wishes.remove(channel);
        if let Some(shared) = self.channel(channel) {
            *shared.position.lock() = None;
            *shared.roster.lock() = Roster::default();
            shared.events.lock().close();
            self.shared.channels.release(&shared);
        }
    }

    /// The server has done what the application asked for.
    fn done_as_asked(&mut self, draft: &Draft, data: Option<&RawValue>) {
        match draft {
            Draft::Publish { channel, echo: false, .. } => {
                let at = data.and_then(|data| read_position(Some(data.to_owned())).ok().flatten());
                if let Some(at) = at.filter(|at| self.session.publishes(channel, *at))
                    && let Some(shared) = self.channel(channel)
                {
                    *shared.position.lock() = Some(at);
                }
            }
            Draft::UpdatePresence { channel, metadata } => self.keep_metadata(channel, metadata),
            _ => {}
        }
    }

    fn answered(&mut self, id: &RequestId, answer: Result<Option<Box<RawValue>>, Refusal>) {
        let RequestId::Number(id) = *id else { return };
        if let Some(purpose) = self.asked.remove(&id) {
            if matches!(purpose, Purpose::Subscribe { .. }) {
                self.extend_subscriptions_behind(id);
            }
            return self.serve(purpose, answer);
        }
        let may_be_done = answer.is_err() && self.outbox.may_be_done(id);
        if let Some(entry) = self.outbox.answered(id) {
            if let Ok(data) = &answer {
                self.done_as_asked(&entry.draft, data.as_deref());
            }
            let refused = |refusal| if may_be_done { Error::OutcomeUnknown } else { Error::Refused(refusal) };
            // Whoever asked may have gone.
            let _ = entry.reply.send(answer.map_err(refused));
        }
    }
}
