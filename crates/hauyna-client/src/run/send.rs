//! Sends requests: the outbox while the socket has room, and the client's own requests – subscriptions,
//! lists, pings, renewals – whose answers it handles, too.

use super::ClientTask;
use super::requests::{Answer, BackgroundResult, Purpose, retry_delay};
use super::subscribe_queue::QueuedSubscribe;
use crate::clock::Moment;
use crate::codec;
use crate::error::{Error, Refusal};
use crate::outbox::ServerMemory;
use crate::socket::ConnectionLoss;
use hauyna_protocol::received::{Question, Subscribed};
use hauyna_protocol::{ErrorType, Request, RequestId};
use serde_json::value::RawValue;
use tokio::time::Instant;

impl ClientTask {
    /// Sends everything that may be sent, while the socket has room.
    pub(super) fn send_pending(&mut self) {
        let Some(encoding) = self.sockets.encoding() else { return };
        self.send_queued(Instant::now());
        self.send_events(Instant::now());
        if !self.requests.is_restored && !self.subscriptions.session.is_restoring() {
            self.finish_restoring();
        }
        if self.requests.is_restored && self.requests.needs_judgement {
            self.judge_session();
        }
        // During a move, new requests wait for the new socket.
        if !self.requests.is_restored || self.sockets.is_moving() {
            return;
        }
        let now = Moment::now();
        while self.sockets.has_room() {
            let is_held = |channel: &str| self.subscriptions.session.is_awaited(channel);
            let Some((id, draft)) = self.requests.outbox.next(now, is_held) else { return };
            let message = codec::encode(encoding, Some(id), &draft.request());
            let bytes = message.payload.len();
            if bytes <= self.sockets.max_message {
                self.requests.outbox.note_size(bytes);
                self.sockets.send(&message);
                continue;
            }
            let may_be_done = self.requests.outbox.may_be_done(id);
            if let Some(entry) = self.requests.outbox.take_back() {
                let refused = Error::Refused(Refusal::too_large(Some(self.sockets.max_message)));
                entry.fail(if may_be_done { Error::OutcomeUnknown } else { refused });
            }
        }
    }

    /// Lets requests of the application be sent from now on.
    pub(super) fn finish_restoring(&mut self) {
        (self.requests.is_restored, self.deadlines.restore_by) = (true, None);
        self.judge_session();
    }

    /// Judges the requests that a loss interrupted, and again those of a channel that is restored later.
    fn judge_session(&mut self) {
        // A resumed session knows what was sent in it, and nothing of the sessions before it.
        let (session, knows_all) = (&self.subscriptions.session, !self.requests.needs_judgement);
        self.requests.needs_judgement = self.requests.outbox.session_restored(|channel| match channel {
            _ if knows_all => ServerMemory::Kept,
            Some(name) if session.is_awaited(name) => ServerMemory::Unknown,
            Some(name) if session.has_same_epoch(name) => ServerMemory::Kept,
            _ => ServerMemory::Lost,
        });
        self.subscriptions.session.note_judged();
    }

    /// Sends a request of the client's own. Without a connection nothing is lost, because the next one makes
    /// the request necessary again. A request that is too large for the server fails here: it would end this
    /// connection and each later one.
    pub(super) fn send_request(&mut self, mut purpose: Purpose, request: &Request<'_>) {
        let id = self.requests.next_id();
        let Some(encoding) = self.sockets.encoding() else { return };
        let message = codec::encode(encoding, Some(id), request);
        if message.payload.len() > self.sockets.max_message {
            return self.handle_own_answer(purpose, Err(Refusal::too_large(Some(self.sockets.max_message))));
        }
        match &mut purpose {
            Purpose::Subscribe { bytes, .. } => *bytes = message.payload.len(),
            _ => self.requests.outbox.note_other_frame(message.payload.len()),
        }
        if let Purpose::Unsubscribe { channel, .. } = &purpose {
            self.subscriptions.on_server.remove(channel);
        }
        self.sockets.send(&message);
        self.requests.open.insert(id, purpose);
    }

    /// Handles the answer to a request of the client's own.
    pub(super) fn handle_own_answer(&mut self, purpose: Purpose, answer: Answer) {
        match (purpose, answer) {
            (Purpose::Subscribe { channel, end: Some(end), .. }, answer) => {
                self.finish_given_up(&channel, end, &answer);
            }
            (Purpose::Subscribe { channel, number, .. }, answer)
                if !self.subscriptions.is_current(&channel, number) =>
            {
                match answer {
                    Ok(_) => self.end_unwanted(&channel),
                    Err(refusal) => self.subscriptions.pause_queue(&refusal),
                }
            }
            (Purpose::Subscribe { channel, .. }, Ok(data)) => {
                let entry = data.and_then(|data| serde_json::from_str::<Subscribed>(data.get()).ok());
                match entry.filter(|entry| entry.channel == channel) {
                    Some(entry) => self.subscription_live(&entry),
                    // Nothing tells whether the server has subscribed the client.
                    None => self.connection_lost(&ConnectionLoss::abnormal("an answer could not be read")),
                }
            }
            (Purpose::Subscribe { channel, .. }, Err(refusal)) => {
                self.handle_subscribe_refusal(&channel, &refusal);
            }
            (Purpose::Unsubscribe { channel, number, waiter }, answer) => {
                match &answer {
                    Err(refusal) if refusal.temporary => {
                        self.subscriptions.on_server.insert(channel.clone());
                        self.send_unsubscribe_later(&channel, number, refusal);
                    }
                    _ => self.subscriptions.confirm_unsubscribed(&channel, number),
                }
                if let Some(waiter) = waiter {
                    waiter.answer(unsubscribe_result(answer));
                }
            }
            (Purpose::CatchUp(channel), answer) => self.take_history_answer(&channel, answer),
            (Purpose::Presence { channel, .. }, answer) => self.handle_list_answer(&channel, answer),
            (Purpose::Refresh, Ok(data)) => {
                #[derive(serde::Deserialize)]
                struct Data {
                    expires_at: Option<u64>,
                    expires_in: Option<u64>,
                }
                let data: Option<Data> = data.and_then(|data| serde_json::from_str(data.get()).ok());
                let (at, left) = data.map_or((None, None), |data| (data.expires_at, data.expires_in));
                self.schedule_renewal(at, left);
            }
            // After a failed renewal, the connection ends with the credentials, and the next attempt brings
            // new ones.
            (Purpose::Refresh | Purpose::Ping, _) => {}
        }
    }

    pub(super) fn ping(&mut self) {
        // An earlier ping that the server has never answered is not awaited any more.
        self.requests.remove_pings();
        self.send_request(Purpose::Ping, &Request::Ping);
    }

    /// Answers a request of the server with a callback of the application, in a task of its own, because the
    /// callback may wait or panic.
    pub(super) fn run_responder(&mut self, question: Question) {
        let Question { id, event, data, .. } = question;
        let responder =
            self.options.responders.get(&event).filter(|_| self.requests.running_responders < MAX_RESPONDERS);
        let Some(responder) = responder.cloned() else {
            return self.answer(&id, &Err("nobody answers this here".to_owned()));
        };
        let generation = self.sockets.generation;
        self.requests.running_responders += 1;
        self.requests.background.spawn(async move {
            let answered = tokio::spawn(async move { responder(data).await }).await;
            let answer = answered.unwrap_or_else(|_| Err("the handler failed".to_owned()));
            BackgroundResult::Answer { generation, id, answer }
        });
    }

    fn answer(&mut self, id: &RequestId, answer: &Result<Box<RawValue>, String>) {
        if let Some(encoding) = self.sockets.encoding() {
            let message = codec::answer(encoding, id, answer, self.sockets.max_message);
            self.requests.outbox.note_other_frame(message.payload.len());
            self.sockets.send(&message);
        }
    }

    /// Sends the end of a subscription again after the server has refused it temporarily.
    fn send_unsubscribe_later(&mut self, channel: &str, number: u64, refusal: &Refusal) {
        let (generation, wait, channel) = (self.sockets.generation, retry_delay(refusal), channel.to_owned());
        self.requests.background.spawn(async move {
            tokio::time::sleep(wait).await;
            BackgroundResult::UnsubscribeDue { generation, channel, number }
        });
    }

    pub(super) fn handle_background_result(&mut self, result: BackgroundResult) {
        match result {
            BackgroundResult::Answer { generation, id, answer } if generation == self.sockets.generation => {
                self.requests.running_responders = self.requests.running_responders.saturating_sub(1);
                self.answer(&id, &answer);
            }
            BackgroundResult::ChannelToken { generation, channel, number, token }
                if generation == self.sockets.generation =>
            {
                self.subscriptions.queue.fetched();
                if self.subscriptions.is_current(&channel, number) {
                    self.subscriptions.queue_with_token(QueuedSubscribe { channel, number, token });
                }
            }
            BackgroundResult::Refresh { generation, token: Some(token) }
                if generation == self.sockets.generation =>
            {
                self.send_request(Purpose::Refresh, &Request::Refresh { token: token.into() });
            }
            BackgroundResult::UnsubscribeDue { generation, channel, number }
                if generation == self.sockets.generation
                    && self.subscriptions.given_up.get(&channel) == Some(&number) =>
            {
                self.send_unsubscribe(&channel, number, None);
            }
            _ => {}
        }
    }
}

/// Returns the result for a caller that has unsubscribed.
fn unsubscribe_result(answer: Answer) -> Result<(), Error> {
    match answer {
        // The server refused the subscription before, or never received it.
        Err(refusal) if refusal.error_type != ErrorType::NotSubscribed.as_str() => {
            Err(Error::Refused(refusal))
        }
        _ => Ok(()),
    }
}

/// Requests of the server that may be open at once.
const MAX_RESPONDERS: usize = 64;
