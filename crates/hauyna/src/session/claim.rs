//! What a request may do with a token that it shows: go on with a session, where it is the same user's, of the same
//! route and of the same path or key; and be called what the hub had called it. Asked by `router::admit`.

use super::store::Lookup;
use super::takeover::Claim;
use super::{Sessions, is_resumable};
use crate::channel::UserId;
use crate::connection::{ConnectionCore, ConnectionId, close_replaced, evict};
use crate::handler::{Credentials, Endpoint};
use crate::hub::HubCore;
use std::sync::Arc;

/// What a request shows of the session that it wants to go on with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PresentedToken<'a> {
    pub(crate) token: &'a str,
    /// The route it came by.
    pub(crate) endpoint: &'a Arc<Endpoint>,
    /// Its path, or the key that the handler makes of it.
    pub(crate) scope: &'a str,
    pub(crate) expiry: OwnExpiry,
}

/// Whether the request has credentials of its own that say when they end. Where it has not, those hold that the session
/// was opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnExpiry {
    Known,
    SameAsSession,
}

impl OwnExpiry {
    pub(crate) fn of(credentials: &Credentials) -> Self {
        if credentials.expiry.is_some() { Self::Known } else { Self::SameAsSession }
    }
}

/// Whom a session vouches for.
pub(crate) struct RestoredIdentity {
    pub(crate) user: UserId,
    /// What the session was opened with.
    pub(crate) credentials: Credentials,
}

impl PresentedToken<'_> {
    /// Whether the session of a connection may go on where this was shown.
    fn is_bound_to(&self, core: &ConnectionCore) -> bool {
        core.is_of(self.endpoint) && core.session_scope() == self.scope
    }

    /// Whether credentials are good that let the session go on.
    fn is_in_time(&self, core: &ConnectionCore) -> bool {
        self.expiry == OwnExpiry::Known || !core.has_ended_credentials()
    }
}

impl Sessions {
    /// Whether a token names a live connection, or one that is about to take over: whoever shows it will take that
    /// one's place under the limits.
    pub(crate) fn is_live(&self, hub: &HubCore, token: &str) -> bool {
        let Some(shown) = self.key.read(token) else { return false };
        let id = self.current(shown);
        hub.registry.by_id(id).is_some() || self.store.lock().is_claimed(id)
    }

    /// The client whose name the hub had made up, and who has none of its own. A name that the application gave is
    /// nothing that a token could prove: it needs the credentials it was given for.
    pub(crate) fn identity_of_session(
        &self,
        hub: &HubCore,
        shown: &PresentedToken<'_>,
    ) -> Option<RestoredIdentity> {
        let id = self.current(self.key.read(shown.token)?);
        let core = hub.registry.by_id(id).or_else(|| self.store.lock().core(id).cloned())?;
        // One that is sent away has no session any more, though its close handshake goes on.
        let is_sent_away = core.reason().is_some_and(|reason| !is_resumable(reason));
        if is_sent_away || !core.connect_info().has_generated_name() || !shown.is_bound_to(&core) {
            return None;
        }
        Some(RestoredIdentity { user: core.user().clone(), credentials: core.valid_credentials()? })
    }

    /// Takes over the session that a token names, from its waiting or from a connection that still seems to live.
    pub(crate) async fn claim(
        &self,
        hub: &Arc<HubCore>,
        user: &UserId,
        shown: PresentedToken<'_>,
    ) -> Option<Claim> {
        let token = self.key.read(shown.token)?;
        let is_its =
            |core: &ConnectionCore| core.user() == user && shown.is_bound_to(core) && shown.is_in_time(core);
        loop {
            let settled = self.takeover_changed.notified();
            let id = self.current(token);
            if let Some(core) = hub.registry.by_id(id) {
                if !is_its(&core) {
                    return None;
                }
                let decided = self.decision_made(id).notified();
                if core.is_undecided() {
                    decided.await; // a callback says in a moment if the client may stay
                    continue;
                }
                if core.is_resuming() {
                    settled.await; // it has the session in a moment
                    continue;
                }
                if !evict(&core) {
                    return None;
                }
            }
            let found = self.store.lock().claim(id, token, is_its);
            match found {
                Lookup::Nothing => return None,
                Lookup::Leaving => settled.await,
                Lookup::Claimed(takeover) => {
                    // Where it does not have the session yet, it gives it back, now.
                    let taker = takeover.taker().and_then(|taker| hub.registry.by_id(taker));
                    match taker.filter(|_| takeover.superseded()) {
                        Some(taker) => close_replaced(&taker),
                        None => settled.await,
                    }
                }
                Lookup::Waiting(takeover) => return Some(Claim::new(hub, id, takeover)),
            }
        }
    }

    /// The connection that a token stands for: the one it was made for, or that which took over its session, as long
    /// as the client has not shown that it knows.
    fn current(&self, shown: ConnectionId) -> ConnectionId {
        let store = self.store.lock();
        let successor = store.successor(shown).filter(|takeover| takeover.is_unconfirmed());
        successor.and_then(|takeover| takeover.taker()).unwrap_or(shown)
    }
}
