//! Coming and going: attempts, greetings, losses, hand-overs to another node, and the end. Part of the task.

use super::ClientTask;
use super::subscribe_queue::RESTORE_TIMEOUT;
use crate::client::{SessionInfo, State};
use crate::clock::after;
use crate::codec;
use crate::error::{Closed, Error};
use crate::liveness::Liveness;
use crate::logger;
use crate::socket::{AttemptFailure, ConnectionLoss, Socket, SocketOptions};
use hauyna_protocol::close::{CloseCode, Reconnect, should_reconnect};
use hauyna_protocol::received::{Drain, Received, Session};
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The way to the next connection.
pub(super) enum Next {
    /// Nothing is planned.
    Idle,
    /// There is no network.
    Offline,
    /// An attempt at this moment.
    At(Instant),
    /// An attempt.
    Opening(Pin<Box<dyn Future<Output = Result<Socket, AttemptFailure>> + Send>>),
    /// A socket that takes over once what is on its way on the other is answered, or at this moment.
    Opened(Socket, Instant),
    /// A socket whose `session` has not come, and has to by this moment.
    Greeting(Socket, Instant),
}

/// The socket that a hand-over has replaced.
pub(super) struct Former {
    pub(super) socket: Socket,
    /// When it is given up.
    pub(super) until: Instant,
    /// Whether its messages count: it has resumed. If not, the new connection gets the same messages.
    pub(super) is_heard: bool,
}

impl ClientTask {
    /// Begins an attempt.
    pub(super) fn attempt(&mut self) {
        let resume = self.session.resume.as_ref().map(|resume| resume.token.clone());
        self.is_resuming = resume.is_some();
        self.failure_log.log_attempt();
        *self.shared.retry_at.lock() = None;
        let plan = SocketOptions {
            endpoint: self.endpoint.clone(),
            connector: self.connector.clone(),
            token: self.numbered_token(),
            resume,
            encoding: self.options.encoding,
            headers: self.options.headers.clone(),
            deflate: self.options.deflate.clone(),
            max_message: self.options.max_message,
            timeout: self.options.connect_timeout,
        };
        self.next = Next::Opening(Box::pin(Socket::open(plan)));
    }

    pub(super) fn socket_opened(&mut self, result: Result<Socket, AttemptFailure>) {
        let now = Instant::now();
        match result {
            Ok(socket) if self.current.is_some() => self.next = Next::Opened(socket, now + HANDOVER_TIMEOUT),
            Ok(socket) => self.await_greeting(socket, now),
            Err(failure) => self.attempt_failed(&failure),
        }
    }

    /// Says where this client stands, at once, and waits for the session.
    fn await_greeting(&mut self, mut socket: Socket, now: Instant) {
        self.next_resume = None;
        if self.is_resuming {
            let resume = hauyna_protocol::Request::Resume { positions: self.session.positions() };
            let message = codec::encode(socket.encoding(), None, &resume);
            self.next_resume = Some(message.payload.len());
            socket.send(&message, &mut self.random);
        }
        self.next = Next::Greeting(socket, after(now, self.options.connect_timeout));
    }

    pub(super) fn read_greeting(&mut self) {
        let Next::Greeting(socket, _) = &mut self.next else { return };
        while let Some(payload) = socket.message() {
            match codec::decode(socket.encoding(), &payload) {
                Ok(Received::Session(session)) => {
                    let Next::Greeting(socket, _) = std::mem::replace(&mut self.next, Next::Idle) else {
                        return;
                    };
                    return self.session_received(socket, *session);
                }
                Ok(_) => {}
                Err(fault) => self.failure_log.log_unreadable(&fault),
            }
        }
        let Some(loss) = socket.end().cloned() else { return };
        self.next = Next::Idle;
        if loss.code == CloseCode::MESSAGE_TOO_BIG.0 {
            // Nothing but `resume` was sent: the next attempt opens a new session, and each subscription
            // recovers by itself.
            self.session.resume = None;
        }
        if self.current.is_none() && should_reconnect(loss.code) == Reconnect::StayAway {
            *self.shared.last_failure.lock() = Some(AttemptFailure::Ended(loss.clone()).to_string());
            return self.close(Closed::ByServer { code: loss.code, reason: loss.reason });
        }
        self.attempt_failed(&AttemptFailure::Ended(loss));
    }

    /// A connection is there.
    fn session_received(&mut self, socket: Socket, session: Session) {
        let (now, info) = (Instant::now(), SessionInfo::of(&session));
        self.failure_log.log_connected(&session.connection_id, session.resumed);
        *self.shared.last_failure.lock() = None;
        if let Some(mut socket) = self.current.replace(socket) {
            // Where its session is here, the server closes it; else nothing is left there to come back for.
            let is_heard = session.resumed;
            if !is_heard {
                socket.close_and_drop(hauyna_websocket::CloseCode::NORMAL, &mut self.random);
            }
            self.former = Some(Former { socket, until: now + HANDOVER_TIMEOUT, is_heard });
            // What it has not answered is asked again.
            self.outbox.connection_lost();
        }
        self.forget_connection();
        // Also where the session is resumed: the server waits five seconds for `resume`, and no longer.
        self.unread_resume = self.next_resume.take();
        self.outbox.note_other(self.unread_resume.unwrap_or(0));
        self.generation += 1;
        self.running_responders = 0;
        self.needs_judgement |= !session.resumed;
        self.server_subscriptions.clear();
        let is_there = |channel: &str| session.subscriptions.iter().any(|entry| *entry.channel == *channel);
        self.given_up_requests.retain(|channel, _| session.resumed && is_there(channel));
        let window = session.resume.as_ref().map_or(0, |resume| resume.window);
        *self.shared.window.lock() = Duration::from_millis(window).max(MIN_TTL);
        self.session.resume = session.resume;
        self.liveness = Some(Liveness::new(session.heartbeat, now));
        if let Some(terms) = session.retry {
            self.backoff.set_server_terms(terms);
        }
        self.backoff.note_connected(now);
        self.set_renewal(session.expires_at, session.expires_in);
        let max_message = info.max_message.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        self.max_message = max_message.unwrap_or(usize::MAX);
        self.leave_user_before(&info.user);
        *self.shared.session.lock() = Some(info);
        for entry in &session.subscriptions {
            self.subscription_live(entry);
        }
        for channel in self.session.set_absent() {
            self.subscribe(&channel);
        }
        let failed: Vec<_> = session.failed.into_iter().map(|failed| failed.channel).collect();
        self.end_lapsed(|channel| failed.iter().any(|failed| failed == channel));
        self.restore_by = Some(after(now, self.shared.timeout.max(RESTORE_TIMEOUT)));
        self.restored_lapse_at = self.restore_by;
        self.set_state(State::Connected);
    }

    /// Subscriptions of the server's that it has had the time to take up again, and has not, are over.
    pub(super) fn give_up_lapsed(&mut self) {
        self.end_lapsed(|_| true);
    }

    fn end_lapsed(&mut self, is_over: impl Fn(&str) -> bool) {
        for channel in self.session.end_restored().into_iter().filter(|channel| is_over(channel)) {
            self.subscription_ended(&channel);
        }
    }

    /// What belonged to one connection alone.
    fn forget_connection(&mut self) {
        self.session.connection_lost();
        self.forget_asked();
        self.catching_up.clear();
        self.subscribe_queue.clear();
        self.forget_events();
        self.is_restored = false;
        (self.restore_by, self.restored_lapse_at) = (None, None);
        (self.refresh_at, self.drain_at) = (None, None);
        for kept in self.subscriptions.values_mut() {
            kept.retry_at = None;
        }
    }

    /// The connection is gone.
    pub(super) fn connection_lost(&mut self, loss: &ConnectionLoss) {
        let now = Instant::now();
        logger::log_lost(loss);
        *self.shared.last_failure.lock() = Some(loss.to_string());
        // The server has moved the session to the socket whose greeting is on its way: nobody is offline.
        let is_moving = loss.code == CloseCode::REPLACED.0 && matches!(self.next, Next::Greeting(..));
        (self.current, self.former, self.liveness) = (None, None, None);
        if loss.code == CloseCode::MESSAGE_TOO_BIG.0 {
            self.give_up_largest();
        }
        self.forget_connection();
        let is_unreadable_again =
            std::mem::replace(&mut self.was_unreadable, loss.is_unreadable) && loss.is_unreadable;
        // A socket whose greeting is on its way was told the positions, and replays from there.
        if is_unreadable_again && !matches!(self.next, Next::Greeting(..)) {
            // It is replayed, and would end each later connection, too: from here on there is a gap.
            self.session.lose_positions();
        }
        self.outbox.connection_lost();
        self.backoff.note_lost(now);
        if should_reconnect(loss.code) == Reconnect::StayAway {
            return self.close(Closed::ByServer { code: loss.code, reason: loss.reason.clone() });
        }
        match std::mem::replace(&mut self.next, Next::Idle) {
            Next::Opened(socket, _) => self.await_greeting(socket, now),
            under_way @ (Next::Opening(_) | Next::Greeting(..) | Next::Offline) => self.next = under_way,
            Next::Idle | Next::At(_) => {
                return match self.backoff.next(self.random.fraction()) {
                    Some(delay) => self.schedule(now, delay),
                    None => self.close(Closed::GaveUp),
                };
            }
        }
        if !is_moving {
            self.set_state(State::Reconnecting { attempt: self.backoff.next_delay() });
        }
    }

    /// An attempt came to nothing.
    fn attempt_failed(&mut self, failure: &AttemptFailure) {
        self.next = Next::Idle;
        if self.current.is_some() {
            return logger::log_not_moved(failure); // It was to be a hand-over: we stay as long as we may.
        }
        *self.shared.last_failure.lock() = Some(failure.to_string());
        let closed = match (failure.is_permanent(self.options.token.is_some()), failure) {
            (Some(status), _) => Some(Closed::Refused { status }),
            // It may be the server's own token that cannot be written: without it, the next attempt begins
            // again.
            (None, AttemptFailure::Request(_)) if self.session.resume.take().is_some() => None,
            (None, AttemptFailure::Request(_)) => Some(Closed::InvalidRequest),
            _ => None,
        };
        let delay = if closed.is_some() { None } else { self.backoff.next(self.random.fraction()) };
        self.failure_log.log_failed(failure, delay);
        match delay {
            Some(delay) => self.schedule(Instant::now(), delay),
            None => self.close(closed.unwrap_or(Closed::GaveUp)),
        }
    }

    /// Plans the next attempt after this delay.
    fn schedule(&mut self, now: Instant, delay: Duration) {
        let at = after(now, delay);
        self.next = Next::At(at);
        *self.shared.retry_at.lock() = Some(at);
        if *self.shared.state.borrow() != State::Connecting {
            // Its number was counted with its delay.
            self.set_state(State::Reconnecting { attempt: self.backoff.current() });
        }
    }

    /// Does what the way to the next connection needs by now.
    pub(super) fn continue_attempt(&mut self, now: Instant) {
        if self.drain_at.is_some_and(|at| now >= at) {
            self.drain_at = None;
            // Without a session to take along there is nothing to gain by going early.
            if self.session.resume.is_some() && matches!(self.next, Next::Idle) {
                self.backoff.note_moved(now);
                self.attempt();
            }
        }
        self.former.take_if(|former| now >= former.until);
        match std::mem::replace(&mut self.next, Next::Idle) {
            Next::At(at) if now >= at => self.attempt(),
            Next::Opened(socket, at) if now >= at || !self.outbox.mark_sent() => {
                self.await_greeting(socket, now);
            }
            Next::Greeting(_, at) if now >= at => self.attempt_failed(&AttemptFailure::Timeout),
            waiting => self.next = waiting,
        }
    }

    /// Moves to another node at a random moment of the window, before this connection is closed.
    pub(super) fn drain(&mut self, drain: &Drain) {
        let (min, max) = drain.after;
        let part = self.random.fraction();
        let wait = Duration::from_millis(min)
            .saturating_add(Duration::from_millis(max.saturating_sub(min)).mul_f64(part));
        let now = Instant::now();
        self.drain_at = Some((now + wait.min(MAX_DRAIN)).max(self.backoff.next_move(now)));
    }

    /// The network is back, or the connection is in doubt.
    pub(super) fn reconnect(&mut self) {
        let now = Instant::now();
        if let Some(liveness) = &mut self.liveness {
            liveness.expect_answer(now);
            if matches!(self.next, Next::Offline) {
                self.next = Next::Idle;
            }
            return self.ping();
        }
        if matches!(self.next, Next::Idle | Next::Offline | Next::At(_)) {
            self.backoff.reset();
            self.attempt();
            self.set_state(State::Reconnecting { attempt: 1 });
        }
    }

    pub(super) fn offline(&mut self) {
        // A connection that is there may outlive it. Where it does not, nothing follows its loss.
        if !self.is_closed() {
            self.next = Next::Offline;
            *self.shared.retry_at.lock() = None;
        }
    }

    /// There will be no connection, unless somebody asks for one.
    pub(super) fn close(&mut self, closed: Closed) {
        self.failure_log.log_closed(&closed);
        (self.current, self.former, self.liveness) = (None, None, None);
        self.next = Next::Idle;
        *self.shared.retry_at.lock() = None;
        self.forget_connection();
        self.session.resume = None;
        let error = Error::from(closed.clone());
        self.outbox.close(&error);
        self.set_state(State::Closed(closed));
        for kept in self.subscriptions.values_mut() {
            for waiter in kept.waiters.drain(..) {
                waiter.answer(Err(error.clone()));
            }
        }
    }

    /// Closes the connection, and the next one during a move: either may have the session.
    pub(super) async fn leave(&mut self) {
        let mut current = self.current.take();
        let mut greeting = match std::mem::replace(&mut self.next, Next::Idle) {
            Next::Greeting(socket, _) => Some(socket),
            _ => None,
        };
        for socket in [&mut greeting, &mut current].into_iter().flatten() {
            socket.close_and_drop(hauyna_websocket::CloseCode::NORMAL, &mut self.random);
        }
        // Not in tasks of their own: where the runtime ends it cancels them, and waiting for a cancelled task
        // may panic.
        let ended = async |socket: Option<Socket>| {
            if let Some(socket) = socket {
                socket.ended(CLOSE_TIMEOUT).await;
            }
        };
        tokio::join!(ended(greeting), ended(current));
    }

    /// Plans the renewal of the credentials, when a tenth of their time is left. `expires_in` is the time
    /// left in milliseconds as the server counts it; an older server tells only the moment, which the own
    /// clock may misjudge.
    pub(super) fn set_renewal(&mut self, expires_at: Option<u64>, expires_in: Option<u64>) {
        let by_clock = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let left = Duration::from_millis(expires_at?).saturating_sub(now);
            // The server takes these credentials, so it is the own clock that is wrong.
            Some(if left.is_zero() { DEFAULT_TOKEN_LIFETIME } else { left })
        };
        let left = expires_in.map(Duration::from_millis).or_else(by_clock);
        self.refresh_at = left
            .filter(|_| self.options.token.is_some())
            .map(|left| Instant::now() + left.min(MAX_TOKEN_LIFETIME).mul_f64(0.9).max(RENEWAL_MARGIN));
    }
}

/// How long a hand-over waits for answers on the old socket, and the old socket for its end. Less than the
/// time for which the server waits for `resume`, 5 s.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(2);
/// The least time that a request may wait for a connection, unless the application says otherwise.
const MIN_TTL: Duration = Duration::from_secs(30);
/// How long the closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Credentials that live longer are renewed as if they lived so long.
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(86_400 * 365);
/// The least pause before a renewal.
const RENEWAL_MARGIN: Duration = Duration::from_secs(1);
/// How long credentials are taken to live that seem to have ended already.
const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// A window that is longer is a fault of the server's.
const MAX_DRAIN: Duration = Duration::from_secs(3_600);
