//! Resumes a session on a new connection: gets the client's positions, brings every subscription up to date,
//! sends the client its session, and only then activates the subscriptions. It runs as the connection's first
//! callback.

use super::store::KeptSubscription;
use super::takeover::{Claim, Positions, Takeover};
use crate::channel::{Channel, Prepared, SubscribeRequest, activate_resumed, announce_removed, prepare};
use crate::close::CloseReason;
use crate::connection::{Connection, ConnectionCore, frame};
use crate::driver::{Resumed, announce_session};
use crate::error::Error;
use crate::event::emit;
use crate::handler::Context;
use crate::hub::{Hub, HubCore};
use crate::outbox::{Backlog, SessionNotice};
use crate::presence;
use hauyna_broker::ChannelName;
use hauyna_protocol::close::CloseCode;
use hauyna_protocol::{
    FailedSubscription, Fault, Incoming, Message, Position, Request, RequestId, Subscribed,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Handles the first message of a client that returns. Returns whether that is done: any message except
/// `resume` counts as a `resume` without positions, and is handled after the session was announced.
pub(crate) fn first_message(takeover: &Takeover, message: Result<Incoming<'_>, Fault>) -> bool {
    match message {
        Ok(Incoming { id, request: Request::Resume { positions } }) => {
            takeover.client_spoke(Positions { id, positions })
        }
        Ok(_) | Err(_) => {
            takeover.client_spoke(Positions::default());
            false
        }
    }
}

/// Takes over a session. If the connection fails before it has the session, the session returns to the store.
/// A subscription that cannot be resumed fails alone.
///
/// # Errors
///
/// The errors of `on_reconnect`.
pub(crate) async fn resume(core: Arc<ConnectionCore>, claim: Claim) -> Result<(), Error> {
    let takeover = claim.takeover();
    let message = match tokio::time::timeout(FIRST_MESSAGE_TIMEOUT, takeover.positions()).await {
        Ok(message) => message,
        Err(_) => {
            takeover.client_spoke(Positions::default());
            takeover.positions().await
        }
    };
    let Some(Positions { id, positions }) = message else {
        continue_without_session(&core, takeover);
        return Ok(());
    };
    let hub = core.hub().clone();
    let restoring = restore(&hub, &core, takeover, positions);
    let Ok(restored) = crate::clock::timeout(core.endpoint().callback_timeout, restoring).await else {
        reject_resume_for_now(&core);
        return Ok(());
    };
    if !core.is_open() {
        return Ok(());
    }
    // If the broker is unavailable for everybody, the session waits for it instead of losing its
    // subscriptions.
    if restored.failed.iter().any(|failed| failed.error.error_type().is_temporary()) && !hub.broker.is_ready()
    {
        reject_resume_for_now(&core);
        return Ok(());
    }
    if have_credentials_ended(&core, takeover) {
        core.close(CloseCode::EXPIRED, "expired", CloseReason::Expired, Backlog::Drop);
        return Ok(());
    }
    let Some(old) = activate_session(&core, &claim, restored, id) else {
        continue_without_session(&core, claim.takeover());
        return Ok(());
    };
    drop(claim);
    core.liveness_checks().restart_callback();
    match core.endpoint().call_on_reconnect(&Context::new(core.clone()), old) {
        Some(reconnected) => reconnected.await,
        None => Ok(()),
    }
}

/// Whether the credentials that apply to the resumed session have ended, perhaps since it was claimed: those
/// of the connection, or those of the session where the connection's have no end.
fn have_credentials_ended(core: &Arc<ConnectionCore>, takeover: &Takeover) -> bool {
    if core.credentials().expires_at().is_some() {
        return core.credentials().has_ended();
    }
    let lost = takeover.with_session(|session| session.core.clone());
    lost.is_some_and(|lost| lost.credentials().has_ended())
}

/// Closes a connection that cannot resume its session at present.
fn reject_resume_for_now(core: &Arc<ConnectionCore>) {
    tracing::debug!(target: "hauyna::connection", id = %core.id(), "no broker to resume with now");
    core.close_with(CloseCode::POSITION_LOST, CloseReason::Lost);
}

/// Closes a connection whose session was ended during the takeover; a client that may stay reconnects and
/// starts a new session.
fn continue_without_session(core: &Arc<ConnectionCore>, takeover: &Takeover) {
    if takeover.is_withdrawn() {
        core.close_with(CloseCode::POSITION_LOST, CloseReason::Lost);
    }
}

/// The subscriptions of a session: those that are ready to be activated, and those that failed.
struct RestoredSubscriptions<'a> {
    prepared: Vec<Prepared<'a>>,
    failed: Vec<FailedRestore>,
}

struct FailedRestore {
    channel: ChannelName,
    error: Error,
}

/// Brings the subscriptions of a session up to date.
async fn restore<'a>(
    hub: &'a HubCore,
    core: &Arc<ConnectionCore>,
    takeover: &Takeover,
    positions: Vec<(Box<str>, Position)>,
) -> RestoredSubscriptions<'a> {
    let positions: HashMap<_, _> = positions.into_iter().collect();
    let to_request = |kept: &KeptSubscription| {
        let recover = positions.get(kept.channel.as_str()).copied();
        (kept.channel.clone(), SubscribeRequest { metadata: kept.metadata.clone(), recover, awaiting: None })
    };
    let requests: Option<Vec<(ChannelName, SubscribeRequest)>> =
        takeover.with_session(|session| session.content.subscriptions.iter().map(to_request).collect());
    let mut restored = RestoredSubscriptions { prepared: Vec::new(), failed: Vec::new() };
    for (channel, request) in requests.unwrap_or_default() {
        match prepare(hub, core, &channel, request).await {
            Ok(one) => restored.prepared.push(one.resumed()),
            Err(error) => {
                tracing::debug!(
                    target: "hauyna::connection",
                    id = %core.id(),
                    channel = %crate::log::name(channel.as_str()),
                    error = %crate::log::error_text(&error),
                    "cannot be resumed",
                );
                restored.failed.push(FailedRestore { channel, error });
            }
        }
    }
    restored
}

/// Gives the session to the connection: announces it to the client, then activates everything. Returns the
/// lost connection, or `None` if the takeover does not have the session any more.
fn activate_session(
    core: &Arc<ConnectionCore>,
    claim: &Claim,
    RestoredSubscriptions { mut prepared, mut failed }: RestoredSubscriptions<'_>,
    id: Option<RequestId>,
) -> Option<Connection> {
    let hub = core.hub();
    let session = hub.sessions.take(claim.takeover())?;
    let old = session.core;
    // Subscriptions that the application has ended meanwhile are not resumed.
    prepared.retain(|one| session.content.has(one.name()));
    failed.retain(|one| session.content.has(&one.channel));
    core.take_over_session(&old);
    let subscriptions: Vec<Subscribed<'_>> = prepared.iter().map(Prepared::subscribed_message).collect();
    let failures: Vec<FailedSubscription<'_>> = failed.iter().map(FailedRestore::as_message).collect();
    let resumed = Resumed { subscriptions: &subscriptions, failed: &failures };
    announce_session(core, Some(resumed), core.credentials().expires_at());
    if core.endpoint().on_reconnect.is_some() {
        core.await_decision(SessionNotice::Reconnecting);
    }
    if let Some(id) = id {
        core.sender().push_reply(frame(core, &Message::Ack { id: &id, data: None }));
    }
    for one in prepared {
        activate_resumed(hub, one, old.id());
    }
    presence::take_over(hub, &old, core);
    presence::watch_user(hub, core);
    for one in session.content.subscriptions {
        if failed.iter().any(|failed| failed.channel == one.channel) {
            announce_removed(hub, &one.channel, core.user(), one.metadata.as_deref());
        }
    }
    for channel in hub.sessions.complete_takeover(claim.takeover(), old.id()) {
        // A subscription that failed is not there, so an error is expected.
        let _ = Channel::new(Hub(hub.clone()), channel.as_str()).unsubscribe(&Connection::new(core.clone()));
    }
    // The flush comes only now: a socket that fails here must not leave half a session behind.
    core.sender().request_flush();
    core.transitions().restore_state(&old, session.content.state);
    hub.metrics.resumed.increment();
    let old = Connection::new(old);
    emit!(hub.events, Resumed { connection: Connection::new(core.clone()), old: old.clone() });
    tracing::debug!(target: "hauyna::connection", id = %core.id(), old = %old.id(), "resumed");
    Some(old)
}

impl FailedRestore {
    fn as_message(&self) -> FailedSubscription<'_> {
        FailedSubscription {
            channel: self.channel.as_str(),
            error: self.error.error_type(),
            message: self.error.public_message(),
        }
    }
}

/// How long the connection waits for the client's first message.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
