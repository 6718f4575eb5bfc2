//! State that few connections need, in one allocation that the others are spared. Each part has its own lock.

use super::ConnectionCore;
use super::client_requests::ClientRequests;
use super::credentials::CredentialsExpiry;
use super::extensions::Attachments;
use crate::channel::Subscription;
use crate::dispatch::{ClientEventRates, Meters};
use crate::rate::Bucket;
use crate::retry::RetryPolicy;
use crate::session::Takeover;
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};

/// The rarely used state, created when the first part of it is needed; see
/// [`ConnectionCore::cold`](super::ConnectionCore::cold).
#[derive(Debug, Default)]
pub(crate) struct ColdState {
    pub(super) extensions: Attachments,
    pub(super) requests: Mutex<ClientRequests>,
    /// The retry policy, where it differs from the handler's.
    pub(super) retry: Mutex<Option<RetryPolicy>>,
    /// Subscriptions to the channels of its user's groups. The application manages them, so they are neither
    /// counted nor shown.
    pub(crate) groups: Mutex<Vec<Arc<Subscription>>>,
    /// What remains of the handler's limits.
    pub(crate) meters: Mutex<Option<Box<Meters>>>,
    /// What remains of the rates of its client events.
    pub(crate) event_rates: Mutex<Option<Box<ClientEventRates>>>,
    /// What remains of the error budget.
    pub(crate) errors: Mutex<Option<Bucket>>,
    /// The key that its session is bound to, where the handler gives one.
    pub(super) session_key: OnceLock<Box<str>>,
    /// The takeover of a lost session, under way or complete.
    pub(super) takeover: OnceLock<Arc<Takeover>>,
    /// The end of the credentials.
    pub(super) credentials_expiry: Mutex<Option<CredentialsExpiry>>,
    /// The identifier of the token that it was opened with.
    pub(super) token: Mutex<Option<Box<str>>>,
}

impl Drop for ConnectionCore {
    /// Drops what the application attached, with the last handle.
    fn drop(&mut self) {
        if let Some(cold) = self.cold.take() {
            cold.extensions.discard(&self.hub);
        }
    }
}
