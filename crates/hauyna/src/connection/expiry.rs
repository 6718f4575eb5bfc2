//! The end of a connection's credentials: when it is, which token it is about, and what happens then. Set at the
//! opening, by `refresh` and by the application; the shard's sweep closes what is due, `Hub::revoke` what is revoked.

use super::{Backlog, CloseReason, ConnectionCore, Phase};
use crate::error::Reject;
use crate::handler::{Credentials, Expiry, Identity};
use hauyna_protocol::close::CloseCode;
use std::sync::Arc;
use std::time::SystemTime;

/// Credentials that end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CredentialsExpiry {
    expiry: Expiry,
    /// On the hub's clock, so that an adjusted wall clock ends nothing early.
    check_at: u64,
}

impl ConnectionCore {
    /// When the credentials end, by the wall clock.
    pub(crate) fn expires_at(&self) -> Option<SystemTime> {
        self.existing_cold()?.credentials_expiry.lock().map(|lease| lease.expiry.at)
    }

    pub(crate) fn set_expiry(&self, expiry: Option<Expiry>) {
        if expiry.is_none() && self.existing_cold().is_none() {
            return;
        }
        let new = expiry.map(|expiry| self.credentials_expiry(expiry));
        let mut lease = self.cold().credentials_expiry.lock();
        let old = std::mem::replace(&mut *lease, new);
        let shard = &self.hub.shards[self.shard()];
        shard.expiries.replace(self.id(), old.map(|old| old.check_at), new.map(|new| new.check_at));
        // `forget_expiry` may have been before us, and nobody comes after.
        if self.outbox.lock().phase == Phase::Gone {
            shard.expiries.replace(self.id(), new.map(|new| new.check_at), None);
        } else if new.is_some() {
            shard.watch_expiries();
        }
    }

    fn credentials_expiry(&self, expiry: Expiry) -> CredentialsExpiry {
        // Both are cut to milliseconds: never early.
        let left = u64::try_from(expiry.time_left().as_millis()).unwrap_or(u64::MAX).saturating_add(2);
        let due = self.hub.clock.millis().saturating_add(left);
        CredentialsExpiry { expiry, check_at: due }
    }

    /// The connection is gone, and need not be closed any more. When its credentials end stays known: it holds for its
    /// session, too.
    pub(super) fn clear_expiry(&self) {
        if let Some(attached) = self.existing_cold()
            && let Some(lease) = &*attached.credentials_expiry.lock()
        {
            self.hub.shards[self.shard()].expiries.replace(self.id(), Some(lease.check_at), None);
        }
    }

    /// The credentials it came with or was refreshed with, without the user's name; `None` where they have ended or are
    /// revoked.
    pub(crate) fn valid_credentials(&self) -> Option<Credentials> {
        let attached = self.existing_cold();
        let lease = attached.and_then(|attached| *attached.credentials_expiry.lock());
        let token = attached.and_then(|attached| attached.token.lock().clone());
        let expiry = lease.map(|lease| lease.expiry);
        let credentials = Credentials { expiry, token, revocations: self.hub.revocations.made() };
        let is_good =
            !self.has_ended_credentials() && self.hub.check_revoked(self.user(), &credentials).is_ok();
        is_good.then_some(credentials)
    }

    /// # Errors
    ///
    /// `unauthorized`: its credentials were revoked after there had been so many revocations.
    pub(crate) fn check_revoked_since(&self, revocations: u64) -> Result<(), Reject> {
        if self.hub.revocations.made() == revocations {
            return Ok(());
        }
        let token = self.existing_cold().and_then(|attached| attached.token.lock().clone());
        self.hub.check_revoked(self.user(), &Credentials { token, revocations, ..Credentials::default() })
    }

    /// Whether the end of its credentials is past.
    pub(crate) fn has_ended_credentials(&self) -> bool {
        let lease = self.existing_cold().and_then(|attached| *attached.credentials_expiry.lock());
        lease.is_some_and(|lease| lease.check_at <= self.hub.clock.millis())
    }

    /// Takes over what the credentials say that its session was opened with, where its own say nothing of that.
    pub(super) fn take_over_credentials(self: &Arc<Self>, old: &Self) {
        let Some(of_session) = old.existing_cold() else { return };
        let expiry = of_session.credentials_expiry.lock().map(|lease| lease.expiry);
        if expiry.is_some() && self.expires_at().is_none() {
            self.set_expiry(expiry);
        }
        let token = of_session.token.lock().clone();
        let own = self.cold();
        if token.is_none() || own.token.lock().is_some() {
            return;
        }
        let credentials =
            Credentials { token, revocations: self.hub.revocations.made(), ..Credentials::default() };
        self.set_token(credentials.token.clone());
        if self.hub.check_revoked(self.user(), &credentials).is_err() {
            self.revoke(); // whoever revoked it has not found it here
        }
    }

    /// Closes the connection, unless it was refreshed just now. Nothing more is sent to whoever had the credentials.
    pub(crate) fn expire(self: &Arc<Self>, now: u64) {
        let is_due = |lease: &CredentialsExpiry| lease.check_at <= now;
        if self
            .existing_cold()
            .is_some_and(|attached| attached.credentials_expiry.lock().as_ref().is_some_and(is_due))
        {
            self.close(CloseCode::EXPIRED, "expired", (CloseReason::Expired, Backlog::Drop));
        }
    }

    /// Keeps the identifier of its token, or that it has none.
    pub(super) fn set_token(&self, token: Option<Box<str>>) {
        if token.is_some() || self.existing_cold().is_some() {
            *self.cold().token.lock() = token;
        }
    }

    /// Whether it came with this token.
    pub(crate) fn has_token(&self, id: &str) -> bool {
        self.existing_cold().is_some_and(|attached| attached.token.lock().as_deref() == Some(id))
    }

    /// Closes the connection: its credentials are worth nothing any more, and nothing more is sent to it.
    pub(crate) fn revoke(self: &Arc<Self>) {
        self.close_with(CloseCode::REVOKED, CloseReason::Application(CloseCode::REVOKED.0));
    }

    /// Takes new credentials instead of the old. `revocations` is how many there had been before these were looked at.
    ///
    /// # Errors
    ///
    /// They are another user's, have ended, or are revoked.
    pub(crate) fn renew(self: &Arc<Self>, identity: Identity, revocations: u64) -> Result<(), Reject> {
        if identity.user.as_deref().is_some_and(|user| user != self.user().as_str()) {
            return Err(Reject::unauthorized("these credentials are another user's"));
        }
        if let Some(expiry) = &identity.expiry {
            expiry.check()?;
        }
        let credentials = Credentials { token: identity.token, revocations, ..Credentials::default() };
        self.hub.check_revoked(self.user(), &credentials)?;
        if !identity.attached.is_empty() || self.existing_cold().is_some() {
            self.cold().extensions.renew(identity.attached, &self.hub.metrics.panics);
        }
        self.set_expiry(identity.expiry);
        self.set_token(credentials.token.clone());
        if self.hub.check_revoked(self.user(), &credentials).is_err() {
            self.revoke(); // since the check above, when it did not have this token yet
        }
        Ok(())
    }
}
