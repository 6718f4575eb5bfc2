//! Chooses the request that fails when a connection ends with code 1009, because a message was too large for
//! the server or a proxy.

use super::ClientTask;
use super::requests::Purpose;
use crate::error::{Error, Refusal};
use crate::outbox::LargestFrame;

impl ClientTask {
    /// Fails the largest request in flight, so that the others can continue. If another message was larger,
    /// such as a client event, nothing fails: the requests may have been done.
    pub(super) fn give_up_largest(&mut self) {
        let size = |purpose: &Purpose| match purpose {
            Purpose::Subscribe { channel, number, bytes, .. } => Some((*bytes, channel.clone(), *number)),
            _ => None,
        };
        let subscription = self.requests.open.values().filter_map(size).max();
        let (refusal, bytes) =
            (Refusal::too_large(None), subscription.as_ref().map_or(0, |largest| largest.0));
        match (self.requests.outbox.fail_largest_sent(bytes, Error::Refused(refusal.clone())), subscription) {
            (LargestFrame::Subscription, Some((_, channel, number)))
                if self.subscriptions.is_current(&channel, number) =>
            {
                self.handle_subscribe_refusal(&channel, &refusal);
            }
            // A server that does not know the session answers without reading `resume`, which would end each
            // later connection, too.
            (LargestFrame::Other(largest), _) if self.sockets.unread_resume == Some(largest) => {
                self.subscriptions.session.resume = None;
            }
            _ => {}
        }
    }
}
