//! The end of a connection's credentials: its time, the token that they came from, and the close when they
//! end. Set when the connection opens, by `refresh` and by the application. The shard's sweep closes
//! connections that are due, and `Hub::revoke` those whose credentials are revoked.

use super::ConnectionCore;
use crate::auth::{Credentials, Expiry, Identity};
use crate::close::CloseReason;
use crate::error::Reject;
use crate::outbox::{Backlog, Phase};
use hauyna_protocol::close::CloseCode;
use std::sync::Arc;
use std::time::SystemTime;

/// When credentials end.
#[derive(Debug, Clone, Copy)]
pub(super) struct CredentialsExpiry {
    expiry: Expiry,
    /// The time of the check on the hub's clock, so that an adjusted wall clock ends nothing early.
    check_at: u64,
}

/// The credentials of a connection: their expiry, the token that they came from, and their end.
#[derive(Clone, Copy)]
pub(crate) struct ConnectionCredentials<'a> {
    core: &'a Arc<ConnectionCore>,
}

impl ConnectionCore {
    /// Returns the credentials of a connection.
    pub(crate) fn credentials(self: &Arc<Self>) -> ConnectionCredentials<'_> {
        ConnectionCredentials { core: self }
    }
}

impl ConnectionCredentials<'_> {
    /// Returns when the credentials end, by the wall clock.
    pub(crate) fn expires_at(self) -> Option<SystemTime> {
        self.core.existing_cold()?.credentials_expiry.lock().map(|lease| lease.expiry.at)
    }

    pub(crate) fn set_expiry(self, expiry: Option<Expiry>) {
        if expiry.is_none() && self.core.existing_cold().is_none() {
            return;
        }
        let new = expiry.map(|expiry| self.credentials_expiry(expiry));
        let mut lease = self.core.cold().credentials_expiry.lock();
        let old = std::mem::replace(&mut *lease, new);
        let shard = &self.core.hub.shards[self.core.shard()];
        shard.expiries.replace(self.core.id(), old.map(|old| old.check_at), new.map(|new| new.check_at));
        // `clear_expiry` may have run before this, and nothing runs afterwards.
        if self.core.outbox.lock().phase == Phase::Gone {
            shard.expiries.replace(self.core.id(), new.map(|new| new.check_at), None);
        } else if new.is_some() {
            shard.watch_expiries();
        }
    }

    fn credentials_expiry(self, expiry: Expiry) -> CredentialsExpiry {
        // Both times are cut to milliseconds; the sum is never early.
        let ms_left = u64::try_from(expiry.time_left().as_millis()).unwrap_or(u64::MAX).saturating_add(2);
        let check_at = self.core.hub.clock.millis().saturating_add(ms_left);
        CredentialsExpiry { expiry, check_at }
    }

    /// Removes the connection from the expiries of its shard: it is gone and need not be closed any more. The
    /// end of its credentials stays known, because it applies to its session, too.
    pub(crate) fn clear_expiry(self) {
        if let Some(cold) = self.core.existing_cold()
            && let Some(lease) = &*cold.credentials_expiry.lock()
        {
            self.core.hub.shards[self.core.shard()].expiries.replace(
                self.core.id(),
                Some(lease.check_at),
                None,
            );
        }
    }

    /// Returns the credentials that it was opened or refreshed with, without the user's name; `None` if they
    /// have ended or are revoked.
    pub(crate) fn valid(self) -> Option<Credentials> {
        let cold = self.core.existing_cold();
        let lease = cold.and_then(|cold| *cold.credentials_expiry.lock());
        let token = cold.and_then(|cold| cold.token.lock().clone());
        let expiry = lease.map(|lease| lease.expiry);
        let credentials = Credentials { expiry, token, revocations: self.core.hub.revocations.made() };
        let is_good =
            !self.has_ended() && self.core.hub.check_revoked(self.core.user(), &credentials).is_ok();
        is_good.then_some(credentials)
    }

    /// Checks that its credentials were not revoked since `revocations` revocations were made.
    /// # Errors
    ///
    /// `unauthorized`: the credentials were revoked since then.
    pub(crate) fn check_revoked_since(self, revocations: u64) -> Result<(), Reject> {
        if self.core.hub.revocations.made() == revocations {
            return Ok(());
        }
        let token = self.core.existing_cold().and_then(|cold| cold.token.lock().clone());
        self.core
            .hub
            .check_revoked(self.core.user(), &Credentials { token, revocations, ..Credentials::default() })
    }

    /// Whether its credentials have ended.
    pub(crate) fn has_ended(self) -> bool {
        let lease = self.core.existing_cold().and_then(|cold| *cold.credentials_expiry.lock());
        lease.is_some_and(|lease| lease.check_at <= self.core.hub.clock.millis())
    }

    /// Takes over the expiry and the token of the lost connection's credentials where its own credentials
    /// have none.
    pub(super) fn take_over(self, old: &Arc<ConnectionCore>) {
        let Some(of_session) = old.existing_cold() else { return };
        let expiry = of_session.credentials_expiry.lock().map(|lease| lease.expiry);
        if expiry.is_some() && self.expires_at().is_none() {
            self.set_expiry(expiry);
        }
        let token = of_session.token.lock().clone();
        let new = self.core.cold();
        if token.is_none() || new.token.lock().is_some() {
            return;
        }
        let credentials =
            Credentials { token, revocations: self.core.hub.revocations.made(), ..Credentials::default() };
        self.set_token(credentials.token.clone());
        if self.core.hub.check_revoked(self.core.user(), &credentials).is_err() {
            self.revoke(); // the revocation did not find the token on this connection
        }
    }

    /// Closes the connection unless it was refreshed at this moment. Nothing more is sent to the holder of
    /// the credentials.
    pub(crate) fn expire(self, now: u64) {
        let is_due = |lease: &CredentialsExpiry| lease.check_at <= now;
        if self
            .core
            .existing_cold()
            .is_some_and(|cold| cold.credentials_expiry.lock().as_ref().is_some_and(is_due))
        {
            self.core.close(CloseCode::EXPIRED, "expired", CloseReason::Expired, Backlog::Drop);
        }
    }

    /// Stores the identifier of its token, or that it has none.
    pub(crate) fn set_token(self, token: Option<Box<str>>) {
        if token.is_some() || self.core.existing_cold().is_some() {
            *self.core.cold().token.lock() = token;
        }
    }

    /// Whether it was opened or refreshed with this token.
    pub(crate) fn has_token(self, id: &str) -> bool {
        self.core.existing_cold().is_some_and(|cold| cold.token.lock().as_deref() == Some(id))
    }

    /// Closes the connection because its credentials are revoked; nothing more is sent to it.
    pub(crate) fn revoke(self) {
        self.core.close_with(CloseCode::REVOKED, CloseReason::Application(CloseCode::REVOKED.0));
    }

    /// Replaces its credentials by new ones. `revocations` is the number of revocations when these were
    /// checked.
    ///
    /// # Errors
    ///
    /// The credentials belong to another user, have ended, or are revoked.
    pub(crate) fn renew(self, identity: Identity, revocations: u64) -> Result<(), Reject> {
        if identity.user.as_deref().is_some_and(|user| user != self.core.user().as_str()) {
            return Err(Reject::unauthorized("these credentials belong to another user"));
        }
        if let Some(expiry) = &identity.expiry {
            expiry.check()?;
        }
        let credentials = Credentials { token: identity.token, revocations, ..Credentials::default() };
        self.core.hub.check_revoked(self.core.user(), &credentials)?;
        if !identity.attached.is_empty() || self.core.existing_cold().is_some() {
            self.core.cold().extensions.renew(identity.attached, &self.core.hub.metrics.panics);
        }
        self.set_expiry(identity.expiry);
        self.set_token(credentials.token.clone());
        if self.core.hub.check_revoked(self.core.user(), &credentials).is_err() {
            self.revoke(); // revoked after the check above, when the connection did not have this token yet
        }
        Ok(())
    }
}
