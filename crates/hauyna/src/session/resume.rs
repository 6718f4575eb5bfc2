//! The beginning of a connection that takes over a session: it learns the client's positions, brings every
//! subscription up to date, tells the client, and only then goes live. Run as the connection's first work.

use super::Claim;
use crate::channel::{ChannelName, Prepared, Wish, go_on, prepare, told};
use crate::connection::{CloseReason, Connection, ConnectionCore, announce_session, frame};
use crate::error::Error;
use crate::event::{SystemEvent, SystemKind};
use crate::handler::Context;
use crate::presence;
use hauyna_protocol::close::CloseCode;
use hauyna_protocol::{Message, Position, RequestId, Subscribed};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

/// What a client says with `resume`.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    pub(crate) id: Option<RequestId>,
    pub(crate) positions: Vec<(Box<str>, Position)>,
}

/// What a client that comes back does first.
#[derive(Debug)]
pub(crate) enum First {
    /// It says where it stands.
    Stands(Positions),
    Closes(CloseReason),
}

/// How far the beginning of a resumed connection is.
#[derive(Debug, Default)]
pub(crate) enum Resuming {
    /// It is done, or was never needed.
    #[default]
    Not,
    /// The client's first message is awaited.
    Awaiting(oneshot::Sender<First>),
    /// Nothing is told to the client yet.
    Restoring,
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
    first: oneshot::Receiver<First>,
) -> Result<(), Error> {
    let answer = match tokio::time::timeout(PATIENCE, first).await {
        Ok(Ok(First::Stands(positions))) => positions,
        Ok(Ok(First::Closes(reason))) => {
            claim.give_back(reason);
            return Ok(());
        }
        // It is gone again, and may not have got what it would be told now.
        Ok(Err(_)) => return Ok(()),
        Err(_) => {
            core.set_resuming(Resuming::Restoring);
            Positions::default()
        }
    };
    restore(&core, claim, expires_at, answer).await
}

async fn restore(
    core: &Arc<ConnectionCore>,
    claim: Claim,
    expires_at: Option<SystemTime>,
    Positions { id, positions }: Positions,
) -> Result<(), Error> {
    let positions: HashMap<_, _> = positions.into_iter().collect();
    let wishes: Vec<(ChannelName, Wish)> = claim.kept().map_or_else(Vec::new, |kept| {
        let wish = |(channel, metadata): &(ChannelName, Option<Arc<str>>)| {
            let recover = positions.get(channel.as_str()).copied();
            (channel.clone(), Wish { metadata: metadata.clone(), recover })
        };
        kept.subscriptions.iter().map(wish).collect()
    });
    let hub = core.hub().clone();
    let mut prepared = Vec::with_capacity(wishes.len());
    for (channel, wish) in wishes {
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
    let shown = claim.shown;
    let Some(waiting) = claim.take() else { return Ok(()) };
    let (old, kept) = (waiting.core, waiting.kept);
    core.inherit(&old);
    hub.sessions.move_on(shown, &old, core);
    tell(core, (&prepared, expires_at), id);
    for one in prepared {
        go_on(&hub, one, old.id());
    }
    presence::inherit(&hub, &old, core);
    presence::watch(&hub, core);
    core.set_resuming(Resuming::Not);
    hub.sessions.tell_moved();
    // Not before: a socket that fails here must not leave half a session behind.
    core.request_flush();
    core.take_state(&old, kept.state);
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
