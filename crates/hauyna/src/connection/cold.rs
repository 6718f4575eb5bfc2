//! What few connections have, in one allocation that the others are spared. Each part has its own lock.

use super::ConnectionCore;
use super::client_requests::ClientRequests;
use super::expiry::CredentialsExpiry;
use super::extensions::Attachments;
use crate::channel::Subscription;
use crate::dispatch::{ClientEventRates, Meters};
use crate::rate::Bucket;
use crate::retry::RetryPolicy;
use crate::session::Takeover;
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};

/// Made when the first part of it is needed; see [`ConnectionCore::cold`](super::ConnectionCore::attached).
#[derive(Debug, Default)]
pub(crate) struct ColdState {
    pub(crate) extensions: Attachments,
    pub(crate) requests: Mutex<ClientRequests>,
    /// Where it differs from the handler's.
    pub(crate) retry: Mutex<Option<RetryPolicy>>,
    /// To the channels of its user's groups: the application's affair, so neither counted nor shown.
    pub(crate) groups: Mutex<Vec<Arc<Subscription>>>,
    /// What is left of the handler's limits.
    pub(crate) meters: Mutex<Option<Box<Meters>>>,
    /// What is left of the rates of its client events.
    pub(crate) event_rates: Mutex<Option<Box<ClientEventRates>>>,
    /// What is left of the error budget.
    pub(crate) errors: Mutex<Option<Bucket>>,
    /// What its session is bound to, where the handler says so.
    pub(super) session_key: OnceLock<Box<str>>,
    /// Of the session that it takes over, or has.
    pub(super) takeover: OnceLock<Arc<Takeover>>,
    /// Where the credentials end.
    pub(super) credentials_expiry: Mutex<Option<CredentialsExpiry>>,
    /// The identifier of the token it came with.
    pub(super) token: Mutex<Option<Box<str>>>,
}

impl Drop for ConnectionCore {
    /// What the application attached goes with the last handle.
    fn drop(&mut self) {
        if let Some(attached) = self.cold.take() {
            attached.extensions.discard(&self.hub);
        }
    }
}
