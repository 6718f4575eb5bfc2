//! What a connection takes over from the lost one whose session it resumes. `session::Takeover` holds the
//! progress.

use super::ConnectionCore;
use crate::dispatch::take_remainder;
use crate::handler::Endpoint;
use crate::outbox::SessionNotice;
use crate::session::Takeover;
use hauyna_broker::{ChannelName, Publication};
use std::ptr;
use std::sync::Arc;

/// Bytes of the reference counts of a shared value, and of the allocator's overhead.
const COUNTS_BYTES: usize = 32;
/// Bytes of an entry in the map of successors.
const SUCCESSION_BYTES: usize = 64;

impl ConnectionCore {
    /// Whether the connection was opened through this endpoint.
    pub(crate) fn is_of(&self, endpoint: &Arc<Endpoint>) -> bool {
        ptr::eq(self.endpoint(), &raw const **endpoint)
    }

    /// Returns what the session is bound to: the key that the handler derives from the request, else the
    /// path.
    pub(crate) fn session_scope(&self) -> &str {
        let key = self.existing_cold().and_then(|cold| cold.session_key.get());
        key.map_or(self.connect_info().path(), |key| key)
    }

    /// Whether the client negotiated a sub-protocol, and so gets the messages that only such clients get.
    pub(crate) fn is_negotiated(&self) -> bool {
        self.outbox.lock().session_notice != SessionNotice::Nothing
    }

    /// Begins a takeover: from now on the client's first message is awaited, and until it comes nothing is
    /// sent to it.
    pub(crate) fn begin_takeover(&self, takeover: Arc<Takeover>) {
        self.outbox.lock().session_notice = SessionNotice::Undecided;
        let _ = self.cold().takeover.set(takeover); // a connection takes over at most one session
    }

    /// Returns the takeover that is under way or complete.
    pub(crate) fn takeover(&self) -> Option<&Arc<Takeover>> {
        self.existing_cold()?.takeover.get()
    }

    /// Whether a publication excludes this connection, or a connection whose session it resumed.
    pub(crate) fn is_excluded_from(&self, publication: &Publication) -> bool {
        publication.except().is_some_and(|excluded| {
            excluded == self.id() || self.takeover().is_some_and(|takeover| takeover.follows(excluded))
        })
    }

    /// Returns how many subscriptions are reserved for it in the session that it takes over, and whether one
    /// of them is to this channel.
    pub(super) fn reserved(&self, channel: &ChannelName) -> (usize, bool) {
        self.takeover().map_or((0, false), |takeover| takeover.reserved(channel))
    }

    /// Whether it is to take over a session that it does not have yet.
    pub(crate) fn is_resuming(&self) -> bool {
        self.takeover().is_some_and(|takeover| takeover.is_under_way())
    }

    /// Returns the bytes of a lost connection, with everything attached to it.
    pub(crate) fn weight(&self) -> usize {
        let cold = self.existing_cold().map_or(0, |cold| {
            // The application holds this lock for as long as it changes the extensions.
            let extensions = cold.extensions.weight();
            let texts = cold.token.lock().as_ref().map_or(0, |token| token.len())
                + cold.session_key.get().map_or(0, |key| key.len());
            let meters = cold.meters.lock().as_ref().map_or(0, |meters| size_of_val(&**meters));
            let events = cold.event_rates.lock().as_ref().map_or(0, |rates| rates.weight());
            let takeover = cold.takeover.get().map_or(0, |takeover| takeover.weight() + SUCCESSION_BYTES);
            size_of_val(cold) + extensions + texts + meters + events + takeover
        });
        size_of_val(self) + COUNTS_BYTES + self.connect_info().weight() + cold
    }

    /// Takes over what belongs to the client and not to its socket: the extensions that callbacks attached,
    /// its retry policy, what remains of its limits, and what its credentials say. What came with the new
    /// request stays.
    pub(crate) fn take_over_session(self: &Arc<Self>, old: &Arc<Self>) {
        take_remainder(self, old.id());
        self.credentials().take_over(old);
        let Some(old) = old.existing_cold() else { return };
        let new = self.cold();
        new.extensions.take_over(&old.extensions, &self.hub.metrics.panics);
        let of_session = *old.retry.lock();
        let mut retry = new.retry.lock();
        *retry = retry.or(of_session); // one that was set during the resume is newer
        drop(retry);
        let rates = old.event_rates.lock().take();
        if rates.is_some() {
            *new.event_rates.lock() = rates;
        }
    }
}
