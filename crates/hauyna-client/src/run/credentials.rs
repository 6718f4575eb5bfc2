//! The credentials of the client: the token source of each attempt, renewals, and the change of the user.

use super::ClientTask;
use super::requests::BackgroundResult;
use crate::client::TokenSource;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

impl ClientTask {
    /// Fails the requests of the previous user if another user has signed in, so that none is sent as the new
    /// one. Guests, who show no credentials, have another name in each session.
    pub(super) fn handle_user_change(&mut self, user: &str) {
        let is_other = self.shared.session.lock().as_ref().is_some_and(|before| before.user != user);
        if is_other && self.options.token.is_some() {
            self.requests.first_of_user = self.shared.first_after_token.load(Ordering::Relaxed);
            self.requests.outbox.fail_asked_before(self.requests.first_of_user);
            self.subscriptions.forget_metadata();
        }
    }

    /// Returns the token source for an attempt. Calls that were made before the token was there may reach the
    /// task later, so calls are numbered where they are made.
    pub(super) fn numbered_token_source(&self) -> Option<TokenSource> {
        let (source, shared) = (self.options.token.clone()?, self.shared.clone());
        Some(Arc::new(move || {
            let (token, shared) = (source(), shared.clone());
            Box::pin(async move {
                let token = token.await;
                // Not earlier, because the source may wait for the next user to sign in. A call from before
                // that has a lower number.
                shared.first_after_token.store(shared.keys.load(Ordering::Relaxed), Ordering::Relaxed);
                token
            })
        }))
    }

    pub(super) fn fetch_renewed_token(&mut self) {
        let Some(source) = self.options.token.clone() else { return };
        let (generation, timeout) = (self.sockets.generation, self.token_timeout());
        self.requests.background.spawn(async move {
            BackgroundResult::Refresh { generation, token: fetch_token_within(source, timeout).await }
        });
    }

    /// Returns how long a token source may take before it counts as failed.
    pub(super) fn token_timeout(&self) -> Duration {
        self.options.connect_timeout.max(TOKEN_TIMEOUT)
    }

    /// Schedules the renewal of the credentials for when a tenth of their time is left. `expires_in` is the
    /// time left in milliseconds by the server's clock. An older server sends only `expires_at`, which the
    /// local clock may misjudge.
    pub(super) fn schedule_renewal(&mut self, expires_at: Option<u64>, expires_in: Option<u64>) {
        let by_clock = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let left = Duration::from_millis(expires_at?).saturating_sub(now);
            // The server accepts these credentials, so the local clock is wrong.
            Some(if left.is_zero() { DEFAULT_TOKEN_LIFETIME } else { left })
        };
        let left = expires_in.map(Duration::from_millis).or_else(by_clock);
        self.deadlines.renew_at = left
            .filter(|_| self.options.token.is_some())
            .map(|left| Instant::now() + left.min(MAX_TOKEN_LIFETIME).mul_f64(0.9).max(RENEWAL_MARGIN));
    }
}

/// Returns a token if the source gives one in time. A panic of the source counts as none.
pub(super) async fn fetch_token_within(source: TokenSource, timeout: Duration) -> Option<String> {
    let asked = tokio::spawn(async move { source().await });
    let given_up = asked.abort_handle();
    let token = tokio::time::timeout(timeout, asked).await;
    given_up.abort();
    token.ok()?.ok()?.ok()
}

/// The least time for a token source while there is a connection.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(60);
/// Credentials that live longer are renewed as if they lived this long.
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(86_400 * 365);
/// The least pause before a renewal.
const RENEWAL_MARGIN: Duration = Duration::from_secs(1);
/// The assumed lifetime of credentials that seem to have expired already.
const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(60);
