//! The history of a channel as one answer to a client: read from the broker, and encoded up to a limit.
//! Called by `dispatch` and by `Channel::history`.

use crate::broker::{HistoryPage, HistoryRange};
use crate::hub::HubCore;
use hauyna_broker::{Answer, BrokerError, ChannelName, Publication};
use hauyna_protocol::Encoding;
use std::sync::Arc;

/// Reads a range of the history, up to the recovery limit of the hub.
///
/// # Errors
///
/// `unavailable` where the broker fails.
pub(crate) fn history(
    hub: &HubCore,
    name: &ChannelName,
    range: HistoryRange,
) -> Answer<Result<HistoryPage, BrokerError>> {
    let range = range.limit(range.limit.min(hub.config.recovery_limit));
    hub.with_broker(|broker| broker.history(name, range))
}

/// Encodes the publications of a page, up to the size limit of an answer, because an answer stays in memory
/// while the client does not read it. The client sees from the offsets that there is more, and asks from
/// there.
pub(crate) fn encoded(publications: &[Arc<Publication>], encoding: Encoding) -> Vec<Vec<u8>> {
    let mut bytes = 0;
    let mut messages = Vec::new();
    for publication in publications {
        let mut message = Vec::new();
        publication.encode(encoding, &mut message);
        bytes += message.len();
        if bytes > MAX_PAGE_BYTES && !messages.is_empty() {
            break;
        }
        messages.push(message);
    }
    messages
}

/// Maximum size of one answer with history, in bytes. A longer first message is sent alone.
const MAX_PAGE_BYTES: usize = 256 * 1024;
