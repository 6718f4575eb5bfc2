//! What a request may do with the token that it presents: resume a session if it is by the same user, to the
//! same route and to the same path or key; and get the name that the hub had generated. `router::admit` calls
//! it.

use super::Sessions;
use super::store::Lookup;
use super::takeover::Claim;
use crate::auth::Credentials;
use crate::connection::ConnectionCore;
use crate::driver::{close_replaced, evict};
use crate::handler::Endpoint;
use crate::hub::HubCore;
use hauyna_broker::{ConnectionId, UserId};
use std::sync::Arc;

/// The token of the session that a request wants to resume, and what the session is bound to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PresentedToken<'a> {
    pub(crate) token: &'a str,
    /// The route that the request came through.
    pub(crate) endpoint: &'a Arc<Endpoint>,
    /// The path of the request, or the key that the handler derives from it.
    pub(crate) scope: &'a str,
    pub(crate) expiry: OwnExpiry,
}

/// Whether the request has credentials that have an end. If it has not, the credentials apply with which the
/// session was opened.
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

/// The identity that a session proves.
pub(crate) struct RestoredIdentity {
    pub(crate) user: UserId,
    /// The credentials with which the session was opened.
    pub(crate) credentials: Credentials,
}

impl PresentedToken<'_> {
    /// Whether the session of a connection may be resumed by this request.
    fn is_bound_to(&self, core: &Arc<ConnectionCore>) -> bool {
        core.is_of(self.endpoint) && core.session_scope() == self.scope
    }

    /// Whether the credentials that apply to the resumed session are valid.
    fn is_in_time(&self, core: &Arc<ConnectionCore>) -> bool {
        self.expiry == OwnExpiry::Known || !core.credentials().has_ended()
    }
}

impl Sessions {
    /// Whether a token names a live connection, or one that is about to take over a session: the client with
    /// this token will replace it under the limits.
    pub(crate) fn is_live(&self, hub: &HubCore, token: &str) -> bool {
        let Some(presented) = self.key.read(token) else { return false };
        let id = self.current(presented);
        hub.registry.by_id(id).is_some() || self.store.lock().is_claimed(id)
    }

    /// Returns the identity of a client whose name the hub had generated and that has no credentials. A token
    /// cannot prove a name that the application gave: that needs the credentials it was given for.
    pub(crate) fn identity_of_session(
        &self,
        hub: &HubCore,
        presented: &PresentedToken<'_>,
    ) -> Option<RestoredIdentity> {
        let id = self.current(self.key.read(presented.token)?);
        let core = hub.registry.by_id(id).or_else(|| self.store.lock().core(id).cloned())?;
        // A client that was told to stay away has no session any more, even while its close handshake goes
        // on.
        let must_stay_away = core.reason().is_some_and(|reason| !reason.is_resumable());
        if must_stay_away || !core.connect_info().has_generated_name() || !presented.is_bound_to(&core) {
            return None;
        }
        Some(RestoredIdentity { user: core.user().clone(), credentials: core.credentials().valid()? })
    }

    /// Claims the session that a token names, either from the store or from a connection that still seems to
    /// be alive.
    pub(crate) async fn claim(
        &self,
        hub: &Arc<HubCore>,
        user: &UserId,
        presented: PresentedToken<'_>,
    ) -> Option<Claim> {
        let token = self.key.read(presented.token)?;
        let may_claim = |core: &Arc<ConnectionCore>| {
            core.user() == user && presented.is_bound_to(core) && presented.is_in_time(core)
        };
        loop {
            let settled = self.takeover_changed.notified();
            let id = self.current(token);
            if let Some(core) = hub.registry.by_id(id) {
                if !may_claim(&core) {
                    return None;
                }
                let decided = self.decision_made(id).notified();
                if core.is_undecided() {
                    decided.await; // a callback is about to decide whether the client may stay
                    continue;
                }
                if core.is_resuming() {
                    settled.await; // the connection is about to get the session
                    continue;
                }
                if !evict(&core) {
                    return None;
                }
            }
            let found = self.store.lock().claim(id, token, may_claim);
            match found {
                Lookup::Nothing => return None,
                Lookup::Leaving => settled.await,
                Lookup::Claimed(takeover) => {
                    // A connection that does not have the session yet returns it now.
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

    /// Returns the connection that a token stands for: the one that it was made for, or the one that took
    /// over its session, as long as the client has not shown that it knows the new token.
    fn current(&self, presented: ConnectionId) -> ConnectionId {
        let store = self.store.lock();
        let successor = store.successor(presented).filter(|takeover| takeover.is_unconfirmed());
        successor.and_then(|takeover| takeover.taker()).unwrap_or(presented)
    }
}
