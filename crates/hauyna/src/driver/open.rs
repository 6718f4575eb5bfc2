//! Opens a connection: registers what a handshake has decided as a connection, and gives it its socket and
//! its task once the handshake is answered. The router calls it once for each upgrade.

use super::announce::announce_session;
use super::callback::PendingCallback;
use super::close::take_back_session;
use super::task::Driver;
use crate::auth::Credentials;
use crate::close::CloseReason;
use crate::connection::{ConnectionCore, ConnectionParts};
use crate::contain::Contained;
use crate::dispatch::{open_with_recovery, take_remainder};
use crate::handler::{Context, Endpoint};
use crate::hub::{HubCore, Place};
use crate::outbox::{Outbox, Phase, SessionNotice};
use crate::presence;
use crate::session::{self, Claim};
use crate::transport::{Link, Socket};
use hauyna_protocol::close::CloseCode;
use hauyna_websocket::{Decoder, Inflate, Role};
use std::sync::Arc;

/// What a handshake has decided about a new connection.
pub(crate) struct Opening {
    pub(crate) hub: Arc<HubCore>,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) particulars: ConnectionParts,
    pub(crate) limit_place: Place,
    pub(crate) inflate: Option<Inflate>,
    pub(crate) session: SessionAnnouncement,
    pub(crate) credentials: Credentials,
    /// The session that the connection takes over.
    pub(crate) claim: Option<Claim>,
}

/// Whether the client negotiated a sub-protocol and gets the `session` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionAnnouncement {
    Announce,
    Plain,
}

/// A registered connection whose handshake is not answered yet. Messages to it are queued. Where it is
/// dropped before [`UnopenedConnection::start`], it is removed again.
pub(crate) struct UnopenedConnection {
    core: Arc<ConnectionCore>,
    pending: Option<Pending>,
}

/// What the connection needs when its handshake is answered.
struct Pending {
    inflate: Option<Inflate>,
    claim: Option<Claim>,
}

/// Registers the connection. This happens before its client gets the answer to the handshake, so that a
/// client that has the answer is always found.
pub(crate) fn register(opening: Opening) -> UnopenedConnection {
    let Opening { hub, endpoint, particulars, limit_place: place, inflate, session, credentials, claim } =
        opening;
    hub.background.remember_runtime();
    hub.background.adopt();
    let shard = &hub.shards[usize::from(particulars.shard)];
    shard.sweep_every(endpoint.sweep_period());
    let core =
        Arc::new(ConnectionCore::new(hub.clone(), endpoint, particulars, Outbox::new(Socket::Unanswered)));
    // Nothing is read before the handshake is answered, so silence means nothing until then.
    core.liveness.set_busy(true);
    let expires_at = credentials.expiry.map(|expiry| expiry.at);
    let claim = claim.map(|mut claim| {
        claim.begin(&core);
        claim
    });
    if session == SessionAnnouncement::Announce && claim.is_none() {
        announce_session(&core, None, expires_at);
        if core.endpoint().on_open.is_some() {
            core.await_decision(SessionNotice::Opening);
        }
    }
    hub.register(&core);
    place.keep();
    core.credentials().set_expiry(credentials.expiry);
    core.credentials().set_token(credentials.token.clone());
    hub.metrics.opened.increment();
    core.endpoint().connections.increment();
    if let Some((code, reason)) = hub.lifecycle.close_for_newcomers() {
        core.close_with(code, reason);
    } else if hub.check_revoked(core.user(), &credentials).is_err() {
        // The credentials were revoked after the handshake was checked, when there was no connection to close
        // yet.
        core.credentials().revoke();
    } else if !hub.limits.holds(&core) {
        // A newer handshake finished earlier and did not find this connection to close it.
        core.close_with(CloseCode::CONNECTION_LIMIT, CloseReason::Replaced);
    }
    UnopenedConnection { core, pending: Some(Pending { inflate, claim }) }
}

impl UnopenedConnection {
    /// Starts the connection's task on the socket, now that the handshake is answered.
    pub(crate) fn start(mut self, link: Link) -> Arc<ConnectionCore> {
        let core = self.core.clone();
        let Link { socket, io, early } = link;
        core.liveness.restart(core.hub().clock.tick());
        let Pending { inflate, claim } = self.pending.take().expect("invariant: started once");
        // A connection that takes over a session is watched once it has the session; until then the lost
        // connection is.
        if claim.is_none() {
            presence::watch_user(core.hub(), &core);
            take_remainder(&core, core.id());
        }
        let is_unopened = claim.is_none() && core.is_closed_unopened();
        let mut decoder = Decoder::new(Role::Server, core.endpoint().limits);
        if let Some(inflate) = inflate {
            decoder = decoder.with_inflate(inflate);
        }
        let callback = match claim {
            Some(claim) => {
                let resumed = Box::pin(session::resume(core.clone(), claim));
                Some(PendingCallback::Open(Contained::new(&core.hub().metrics.panics, resumed)))
            }
            None => {
                let opened =
                    (!is_unopened).then(|| core.endpoint().call_on_open(&Context::new(core.clone())));
                let opened = opened.flatten().map(|opened| open_with_recovery(&core, opened));
                opened.map(|opened| PendingCallback::Open(Contained::new(&core.hub().metrics.panics, opened)))
            }
        };
        {
            // The socket is set only now: a client that has its session token may return with it at the same
            // moment.
            let mut outbox = core.outbox.lock();
            // A connection that has ended already does not need the socket.
            if outbox.phase != Phase::Gone {
                outbox.socket = socket;
            }
        }
        core.liveness.set_busy(callback.is_some());
        core.traffic().received.add(early.len() as u64);
        let rest = (!early.is_empty()).then(|| early.into_boxed_slice());
        tracing::debug!(
            target: "hauyna::connection",
            id = %core.id(),
            user = %crate::log::name(core.user()),
            route = core.endpoint().route,
            "opened",
        );
        let driver = Driver::new(core.clone(), decoder, io, rest, callback);
        tokio::spawn(if is_unopened { driver.unopened() } else { driver });
        core
    }
}

impl ConnectionCore {
    /// Notes that a callback is about to decide whether the client may stay. Until it has decided, no client
    /// can take over the session with its token.
    pub(crate) fn await_decision(&self, notice: SessionNotice) {
        let mut outbox = self.outbox.lock();
        if outbox.session_notice == SessionNotice::Token {
            outbox.session_notice = notice;
        }
    }

    /// Whether the callback that decides about the client is running.
    pub(crate) fn is_undecided(&self) -> bool {
        let outbox = self.outbox.lock();
        outbox.session_notice.is_undecided() && outbox.phase == Phase::Open
    }

    /// Notes the decision of the callback. With `Token` the session of the client can be resumed from now on;
    /// with `Session` there is none to resume, even if the connection is closed with a code to come back.
    pub(crate) fn end_decision(&self, notice: SessionNotice) {
        {
            let mut outbox = self.outbox.lock();
            if !outbox.session_notice.is_undecided() {
                return;
            }
            outbox.session_notice = notice;
        }
        self.hub().sessions.notify_decided(self.id());
    }

    /// Whether the connection was closed before it was opened. Then neither `on_open` nor `on_close` runs,
    /// and no session is kept.
    fn is_closed_unopened(&self) -> bool {
        let mut outbox = self.outbox.lock();
        let is_closed = outbox.phase != Phase::Open;
        if is_closed {
            outbox.session_notice = SessionNotice::Nothing;
        }
        is_closed
    }
}

impl Drop for UnopenedConnection {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            drop(pending); // the session that it was to take over waits for its client again
            take_back_session(&self.core);
        }
    }
}
