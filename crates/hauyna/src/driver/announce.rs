//! The first message to a client that negotiated a sub-protocol: `session`. `open` and `session::resume` send
//! it.

use crate::connection::{ConnectionCore, frame};
use crate::outbox::SessionNotice;
use hauyna_protocol::{
    FailedSubscription, HeartbeatTerms, Message, ResumeTerms, Session, SessionLimits, Subscribed,
};
use std::sync::Arc;
use std::time::SystemTime;

/// What became of the subscriptions of a resumed session.
#[derive(Clone, Copy)]
pub(crate) struct Resumed<'a> {
    pub(crate) subscriptions: &'a [Subscribed<'a>],
    pub(crate) failed: &'a [FailedSubscription<'a>],
}

/// Queues the first message to a client that negotiated a sub-protocol, with the subscriptions of a resumed
/// session. From now on the session can be resumed.
pub(crate) fn announce_session(
    core: &Arc<ConnectionCore>,
    resumed: Option<Resumed<'_>>,
    expires_at: Option<SystemTime>,
) {
    let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let heartbeat = core.endpoint().heartbeat.map(|heartbeat| HeartbeatTerms {
        interval: ms(heartbeat.interval),
        // The time of silence after which the connection counts as lost: the client's own ping is due after
        // the interval, and its answer after the timeout.
        timeout: ms(heartbeat.interval.saturating_add(heartbeat.timeout)),
    });
    let sessions = &core.hub().sessions;
    let token = sessions.is_enabled().then(|| sessions.token(core.id()));
    let terms = |token| ResumeTerms { token, window: ms(sessions.window(core)) };
    let session = Session {
        connection_id: &core.id().to_string(),
        user: core.user().as_str(),
        resumed: resumed.is_some(),
        resume: token.as_deref().map(terms),
        heartbeat,
        retry: Some(core.retry_policy().terms()),
        subscriptions: resumed.map_or(&[], |resumed| resumed.subscriptions),
        failed: resumed.map_or(&[], |resumed| resumed.failed),
        expires_at: expires_at.map(crate::clock::to_unix_ms),
        expires_in: expires_at.map(crate::clock::ms_until),
        limits: Some(SessionLimits::new(core.endpoint().limits.message as u64)),
    };
    let frame = frame(core, &Message::Session(session));
    let mut outbox = core.outbox.lock();
    outbox.push_session(frame, if token.is_some() { SessionNotice::Token } else { SessionNotice::Session });
}
