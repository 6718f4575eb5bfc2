//! The beginning of a connection that takes over a session: it learns the client's positions, brings every
//! subscription up to date, tells the client, and only then goes live. Run as the connection's first work.

use super::store::KeptSubscription;
use super::takeover::{Claim, Positions, Takeover};
use crate::channel::{ChannelName, Prepared, Wish, go_on, prepare, told};
use crate::connection::{CloseReason, Connection, ConnectionCore, announce_session, frame};
use crate::error::Error;
use crate::event::{SystemEvent, SystemKind};
use crate::handler::Context;
use crate::presence;
use hauyna_protocol::close::CloseCode;
use hauyna_protocol::{Fault, Incoming, Message, Request, RequestId, Subscribed};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The first message of a client that comes back. Returns whether it is done with: any other than `resume` counts as one
/// without positions, and is handled after the session was told.
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

/// Takes over a session. Nothing is lost where it fails: the session waits on then.
///
/// # Errors
///
/// Those of `on_reconnect`.
pub(crate) async fn resume(
    core: Arc<ConnectionCore>,
    claim: Claim,
    expires_at: Option<SystemTime>,
) -> Result<(), Error> {
    let takeover = claim.takeover();
    let said = match tokio::time::timeout(PATIENCE, takeover.positions()).await {
        Ok(said) => said,
        Err(_) => {
            takeover.client_spoke(Positions::default());
            takeover.positions().await
        }
    };
    match said {
        Some(positions) => restore(&core, claim, expires_at, positions).await,
        None => Ok(()),
    }
}

async fn restore(
    core: &Arc<ConnectionCore>,
    claim: Claim,
    expires_at: Option<SystemTime>,
    Positions { id, positions }: Positions,
) -> Result<(), Error> {
    let positions: HashMap<_, _> = positions.into_iter().collect();
    let wish = |kept: &KeptSubscription| {
        let recover = positions.get(kept.channel.as_str()).copied();
        (kept.channel.clone(), Wish { metadata: kept.metadata.clone(), recover })
    };
    let wishes: Option<Vec<(ChannelName, Wish)>> =
        claim.takeover().with_session(|session| session.kept.subscriptions.iter().map(wish).collect());
    let hub = core.hub().clone();
    let mut prepared = Vec::new();
    for (channel, wish) in wishes.unwrap_or_default() {
        match prepare(&hub, core, (&channel, wish)).await {
            Ok(one) => prepared.push(one.resumed()),
            Err(error) => {
                tracing::debug!(
                    target: "hauyna::connection",
                    id = %core.id(),
                    error = %crate::log::fault(&error),
                    "cannot be resumed now",
                );
                core.close_with(CloseCode::POSITION_LOST, CloseReason::Lost);
                return Ok(());
            }
        }
    }
    let Some(session) = hub.sessions.take(claim.takeover()) else { return Ok(()) };
    let old = session.core;
    core.inherit(&old);
    tell(core, (&prepared, expires_at), id);
    for one in prepared {
        go_on(&hub, one, old.id());
    }
    presence::inherit(&hub, &old, core);
    presence::watch(&hub, core);
    claim.takeover().restored();
    hub.sessions.notify_settled();
    // Not before: a socket that fails here must not leave half a session behind.
    core.request_flush();
    core.take_state(&old, session.kept.state);
    hub.metrics.resumed.increment();
    let (new, old) = (Connection::new(core.clone()), Connection::new(old));
    hub.events.emit(SystemKind::Resumed, || SystemEvent::Resumed { connection: new, old: old.clone() });
    tracing::debug!(target: "hauyna::connection", id = %core.id(), old = %old.id(), "resumed");
    match core.endpoint().reconnected(&Context::new(core.clone()), old) {
        Some(reconnected) => reconnected.await,
        None => Ok(()),
    }
}

/// Queues the session message, before anything of its subscriptions, and the answer to `resume` behind it.
fn tell(
    core: &Arc<ConnectionCore>,
    (prepared, expires_at): (&[Prepared<'_>], Option<SystemTime>),
    id: Option<RequestId>,
) {
    let subscriptions: Vec<Subscribed<'_>> =
        prepared.iter().map(|one| told(one.name(), &one.welcome())).collect();
    announce_session(core, Some(&subscriptions), expires_at);
    if let Some(id) = id {
        core.push_reply(frame(core, &Message::Ack { id: &id, data: None }));
    }
}

/// How long the client's `resume` is awaited.
const PATIENCE: Duration = Duration::from_secs(5);
