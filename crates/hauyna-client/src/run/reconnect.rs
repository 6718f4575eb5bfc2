//! Opens, replaces and closes connections: attempts, sessions, losses, moves to another node, and the end of
//! the client.

use super::ClientTask;
use super::sockets::NextSocket;
use super::subscribe_queue::RESTORE_TIMEOUT;
use crate::client::{SessionInfo, State};
use crate::clock::after;
use crate::codec;
use crate::error::{Closed, Error};
use crate::logger;
use crate::socket::{AttemptFailure, ConnectionLoss, Socket};
use hauyna_protocol::close::{CloseCode, Reconnect, should_reconnect};
use hauyna_protocol::received::{Drain, Received, Session};
use std::time::Duration;
use tokio::time::Instant;

impl ClientTask {
    /// Starts an attempt.
    pub(super) fn start_attempt(&mut self) {
        let resume = self.subscriptions.session.resume.as_ref().map(|resume| resume.token.clone());
        *self.shared.retry_at.lock() = None;
        let token = self.numbered_token_source();
        self.sockets.open(&self.options, token, resume);
    }

    pub(super) fn handle_opened(&mut self, result: Result<Box<Socket>, AttemptFailure>) {
        let now = Instant::now();
        match result {
            Ok(socket) if self.sockets.is_connected() => {
                self.sockets.next = NextSocket::Opened(*socket, now + HANDOVER_TIMEOUT);
            }
            Ok(socket) => self.await_session_on(*socket, now),
            Err(failure) => self.attempt_failed(&failure),
        }
    }

    /// Sends the positions at once if the session is to be resumed, and waits for the `session` message.
    fn await_session_on(&mut self, socket: Socket, now: Instant) {
        let session = &mut self.subscriptions.session;
        // Not earlier, because the session records the positions as announced.
        let positions = self.sockets.is_resuming.then(|| session.positions());
        self.sockets.await_session(socket, positions, after(now, self.options.connect_timeout));
    }

    pub(super) fn read_next(&mut self) {
        let NextSocket::Greeting(socket, _) = &mut self.sockets.next else { return };
        while let Some(payload) = socket.message() {
            match codec::decode(socket.encoding(), &payload) {
                Ok(Received::Session(session)) => {
                    let NextSocket::Greeting(socket, _) = self.sockets.take_next() else {
                        return;
                    };
                    return self.session_received(socket, *session);
                }
                Ok(_) => {}
                Err(fault) => self.sockets.failure_log.log_unreadable(&fault),
            }
        }
        let Some(loss) = socket.end().cloned() else { return };
        self.sockets.next = NextSocket::Idle;
        if loss.code == CloseCode::MESSAGE_TOO_BIG.0 {
            // Only `resume` was sent. Without it, the next attempt opens a new session, and each subscription
            // recovers by itself.
            self.subscriptions.session.resume = None;
        }
        if !self.sockets.is_connected() && should_reconnect(loss.code) == Reconnect::StayAway {
            *self.shared.last_failure.lock() = Some(AttemptFailure::Ended(loss.clone()).to_string());
            return self.close(Closed::ByServer { code: loss.code, reason: loss.reason });
        }
        self.attempt_failed(&AttemptFailure::Ended(loss));
    }

    /// Takes a socket into use whose `session` message has arrived.
    fn session_received(&mut self, socket: Socket, session: Session) {
        let (now, info) = (Instant::now(), SessionInfo::of(&session));
        *self.shared.last_failure.lock() = None;
        if self.sockets.replace_current(socket, session.resumed, now + HANDOVER_TIMEOUT) {
            // Requests that the former socket has not answered are sent again.
            self.requests.outbox.connection_lost();
        }
        self.reset_connection();
        self.sockets.start_connection(&session, now);
        self.requests.start_connection(session.resumed, self.sockets.unread_resume);
        self.subscriptions.start_connection(&session);
        let window = session.resume.as_ref().map_or(0, |resume| resume.window);
        *self.shared.window.lock() = Duration::from_millis(window).max(MIN_TTL);
        self.subscriptions.session.resume = session.resume;
        self.schedule_renewal(session.expires_at, session.expires_in);
        self.handle_user_change(&info.user);
        *self.shared.session.lock() = Some(info);
        for entry in &session.subscriptions {
            self.subscription_live(entry);
        }
        for channel in self.subscriptions.session.absent_channels() {
            self.subscriptions.enqueue(&channel);
        }
        let failed: Vec<_> = session.failed.into_iter().map(|failed| failed.channel).collect();
        self.end_unrestored(|channel| failed.iter().any(|failed| failed == channel));
        self.deadlines.restore_by = Some(after(now, self.shared.timeout.max(RESTORE_TIMEOUT)));
        self.deadlines.restored_lapse_at = self.deadlines.restore_by;
        self.set_state(State::Connected);
    }

    /// Ends the subscriptions of the server that it has not restored in time.
    pub(super) fn end_all_unrestored(&mut self) {
        self.end_unrestored(|_| true);
    }

    fn end_unrestored(&mut self, is_over: impl Fn(&str) -> bool) {
        for channel in
            self.subscriptions.session.unrestored_channels().into_iter().filter(|channel| is_over(channel))
        {
            self.subscription_ended(&channel);
        }
    }

    /// Resets what belongs to one connection alone.
    fn reset_connection(&mut self) {
        self.end_open_requests();
        self.subscriptions.connection_lost();
        self.close_events();
        self.requests.is_restored = false;
        self.deadlines.clear();
    }

    /// Handles the loss of the connection.
    pub(super) fn connection_lost(&mut self, loss: &ConnectionLoss) {
        let now = Instant::now();
        logger::log_lost(loss);
        *self.shared.last_failure.lock() = Some(loss.to_string());
        // The server has moved the session to the socket whose `session` message is awaited, so the client is
        // not offline.
        let is_moving = loss.code == CloseCode::REPLACED.0 && self.sockets.awaits_session();
        self.sockets.drop_connection();
        if loss.code == CloseCode::MESSAGE_TOO_BIG.0 {
            self.give_up_largest();
        }
        self.reset_connection();
        let is_unreadable_again = self.sockets.note_lost(loss, now);
        // A socket whose session is awaited has received the positions, and its server replays from there.
        if is_unreadable_again && !self.sockets.awaits_session() {
            // The server replays the unreadable message, which would end each later connection, too. Without
            // positions, each channel reports a gap instead.
            self.subscriptions.session.forget_positions();
        }
        self.requests.outbox.connection_lost();
        if should_reconnect(loss.code) == Reconnect::StayAway {
            return self.close(Closed::ByServer { code: loss.code, reason: loss.reason.clone() });
        }
        match self.sockets.take_next() {
            NextSocket::Opened(socket, _) => self.await_session_on(socket, now),
            under_way @ (NextSocket::Opening(_) | NextSocket::Greeting(..) | NextSocket::Offline) => {
                self.sockets.next = under_way;
            }
            NextSocket::Idle | NextSocket::At(_) => {
                return match self.sockets.next_delay() {
                    Some(delay) => self.schedule_attempt(now, delay),
                    None => self.close(Closed::GaveUp),
                };
            }
        }
        if !is_moving {
            self.set_state(State::Reconnecting { attempt: self.sockets.backoff.next_attempt() });
        }
    }

    /// Handles a failed attempt.
    fn attempt_failed(&mut self, failure: &AttemptFailure) {
        self.sockets.next = NextSocket::Idle;
        if self.sockets.is_connected() {
            // It was an attempt to move: the client stays on its connection as long as it can.
            return logger::log_not_moved(failure);
        }
        *self.shared.last_failure.lock() = Some(failure.to_string());
        let closed = match (failure.permanent_status(self.options.token.is_some()), failure) {
            (Some(status), _) => Some(Closed::Refused { status }),
            // The token of the session may be the part that cannot be written. The next attempt starts a new
            // session.
            (None, AttemptFailure::Request(_)) if self.subscriptions.session.resume.take().is_some() => None,
            (None, AttemptFailure::Request(_)) => Some(Closed::InvalidRequest),
            _ => None,
        };
        let delay = if closed.is_some() { None } else { self.sockets.next_delay() };
        self.sockets.failure_log.log_failed(failure, delay);
        match delay {
            Some(delay) => self.schedule_attempt(Instant::now(), delay),
            None => self.close(closed.unwrap_or(Closed::GaveUp)),
        }
    }

    /// Schedules the next attempt.
    fn schedule_attempt(&mut self, now: Instant, delay: Duration) {
        let at = after(now, delay);
        self.sockets.next = NextSocket::At(at);
        *self.shared.retry_at.lock() = Some(at);
        if *self.shared.state.borrow() != State::Connecting {
            // The attempt was counted together with its delay.
            self.set_state(State::Reconnecting { attempt: self.sockets.backoff.last_attempt() });
        }
    }

    /// Advances the next connection and the former socket as far as their deadlines require.
    pub(super) fn advance_next_socket(&mut self, now: Instant) {
        if self.deadlines.move_at.is_some_and(|at| now >= at) {
            self.deadlines.move_at = None;
            // Without a session to resume, an early move gains nothing.
            if self.subscriptions.session.resume.is_some() && matches!(self.sockets.next, NextSocket::Idle) {
                self.sockets.backoff.note_moved(now);
                self.start_attempt();
            }
        }
        self.sockets.expire_former(now);
        match self.sockets.take_next() {
            NextSocket::At(at) if now >= at => self.start_attempt(),
            NextSocket::Opened(socket, at) if now >= at || !self.requests.outbox.has_sent() => {
                self.await_session_on(socket, now);
            }
            NextSocket::Greeting(_, at) if now >= at => self.attempt_failed(&AttemptFailure::Timeout),
            waiting => self.sockets.next = waiting,
        }
    }

    /// Schedules a move to another node at a random moment of the window, before the server closes this
    /// connection.
    pub(super) fn schedule_move(&mut self, drain: &Drain) {
        self.deadlines.move_at = Some(self.sockets.choose_move_time(drain, Instant::now()));
    }

    /// Handles [`Client::reconnect`](crate::Client::reconnect): tests the connection with a ping, or starts
    /// an attempt.
    pub(super) fn handle_reconnect(&mut self) {
        if self.sockets.doubt(Instant::now()) {
            if matches!(self.sockets.next, NextSocket::Offline) {
                self.sockets.next = NextSocket::Idle;
            }
            return self.ping();
        }
        if matches!(self.sockets.next, NextSocket::Idle | NextSocket::Offline | NextSocket::At(_)) {
            self.sockets.backoff.reset();
            self.start_attempt();
            self.set_state(State::Reconnecting { attempt: 1 });
        }
    }

    pub(super) fn handle_offline(&mut self) {
        // An open connection may survive. If it does not, no attempt follows its loss.
        if !self.is_closed() {
            self.sockets.next = NextSocket::Offline;
            *self.shared.retry_at.lock() = None;
        }
    }

    /// Closes the client. Only a call of `Client::reconnect` makes another attempt.
    pub(super) fn close(&mut self, closed: Closed) {
        self.sockets.failure_log.log_closed(&closed);
        self.sockets.drop_connection();
        self.sockets.next = NextSocket::Idle;
        *self.shared.retry_at.lock() = None;
        self.reset_connection();
        self.subscriptions.session.resume = None;
        let error = Error::from(closed.clone());
        self.requests.outbox.close(&error);
        self.set_state(State::Closed(closed));
        self.subscriptions.fail_waiters(&error);
    }
}

/// How long a move waits for answers on the current socket, and how long the former socket stays open. Less
/// than the 5 s for which the server waits for `resume`.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(2);
/// The least time that a request may wait for a connection, unless the application sets another.
const MIN_TTL: Duration = Duration::from_secs(30);
