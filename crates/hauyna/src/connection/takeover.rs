//! What a connection takes over from the lost one whose session it goes on with. `session::Takeover` says how far it
//! is with that.

use super::ConnectionCore;
use super::outbox::SessionNotice;
use crate::channel::{ChannelName, Publication};
use crate::dispatch::take_remainder;
use crate::handler::Endpoint;
use crate::session::Takeover;
use std::ptr;
use std::sync::Arc;

/// Bytes of the counts of a shared value, and of what the allocator adds.
const COUNTS_BYTES: usize = 32;
/// Bytes of a place in the map of successors.
const SUCCESSION_BYTES: usize = 64;

impl ConnectionCore {
    /// Whether it came by this endpoint.
    pub(crate) fn is_of(&self, endpoint: &Arc<Endpoint>) -> bool {
        ptr::eq(self.endpoint(), &raw const **endpoint)
    }

    /// What its session is bound to: the key that the handler makes of the request, else the path.
    pub(crate) fn session_scope(&self) -> &str {
        let key = self.existing_cold().and_then(|attached| attached.session_key.get());
        key.map_or(self.connect_info().path(), |key| key)
    }

    /// Its client gets the messages that only those who negotiated a sub-protocol get.
    pub(crate) fn is_negotiated(&self) -> bool {
        self.outbox.lock().session_notice != SessionNotice::Nothing
    }

    /// From now on the client's first message is awaited, and until then it is told nothing.
    pub(crate) fn begin_takeover(&self, takeover: Arc<Takeover>) {
        self.outbox.lock().session_notice = SessionNotice::Undecided;
        let _ = self.cold().takeover.set(takeover); // a connection takes over one session
    }

    /// The way to the session that it takes over, or has taken over.
    pub(crate) fn takeover(&self) -> Option<&Arc<Takeover>> {
        self.existing_cold()?.takeover.get()
    }

    /// Whether a publication leaves it out: it, or a connection whose session it goes on with.
    pub(crate) fn is_unsubscribed_meanwhile(&self, publication: &Publication) -> bool {
        publication.except().is_some_and(|left_out| {
            left_out == self.id() || self.takeover().is_some_and(|takeover| takeover.follows(left_out))
        })
    }

    /// How many subscriptions stand for it in the session that it takes over, and whether one is to this channel.
    pub(super) fn reserved(&self, channel: &ChannelName) -> (usize, bool) {
        self.takeover().map_or((0, false), |takeover| takeover.reserved(channel))
    }

    /// Whether it was to take over a session, and does not have it.
    pub(crate) fn is_resuming(&self) -> bool {
        self.takeover().is_some_and(|takeover| takeover.is_under_way())
    }

    /// Bytes of the connection, once it is lost, with all that is attached to it.
    pub(crate) fn weight(&self) -> usize {
        let attached = self.existing_cold().map_or(0, |attached| {
            // Whoever changes them just now holds the lock for as long as it likes.
            let extensions = attached.extensions.weight();
            let texts = attached.token.lock().as_ref().map_or(0, |token| token.len())
                + attached.session_key.get().map_or(0, |key| key.len());
            let meters = attached.meters.lock().as_ref().map_or(0, |meters| size_of_val(&**meters));
            let events = attached.event_rates.lock().as_ref().map_or(0, |rates| rates.weight());
            let takeover = attached.takeover.get().map_or(0, |takeover| takeover.weight() + SUCCESSION_BYTES);
            size_of_val(attached) + extensions + texts + meters + events + takeover
        });
        size_of_val(self) + COUNTS_BYTES + self.connect_info().weight() + attached
    }

    /// What is the client's, whatever its socket: what callbacks attached, its retry policy, what is left of its
    /// limits, what its credentials say. What came with its own request stays.
    pub(crate) fn take_over_session(self: &Arc<Self>, old: &Self) {
        take_remainder(self, old.id());
        self.take_over_credentials(old);
        let Some(old) = old.existing_cold() else { return };
        let own = self.cold();
        own.extensions.take_over(&old.extensions, &self.hub.metrics.panics);
        *own.retry.lock() = *old.retry.lock();
        let rates = old.event_rates.lock().take();
        if rates.is_some() {
            *own.event_rates.lock() = rates;
        }
    }
}
