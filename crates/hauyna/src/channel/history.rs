//! The past of a channel, as one answer to a client.

use super::{ChannelName, Publication};
use crate::broker::{Answer, HistoryPage, HistoryRange};
use crate::error::BrokerError;
use crate::hub::HubCore;
use hauyna_protocol::Encoding;
use std::sync::Arc;

/// The part of the history that a client asked for.
///
/// # Errors
///
/// `unavailable` where the broker fails.
pub(crate) fn history(
    hub: &HubCore,
    name: &ChannelName,
    range: HistoryRange,
) -> Answer<Result<HistoryPage, BrokerError>> {
    let range = HistoryRange { limit: range.limit.min(hub.config.recovery_limit), ..range };
    hub.with_broker(|broker| broker.history(name, range))
}

/// Encodes a page, one message each, as far as an answer may be long: a client that does not read it pins it.
/// It sees from the offsets that there is more, and asks from there.
pub(crate) fn encoded(publications: &[Arc<Publication>], encoding: Encoding) -> Vec<Vec<u8>> {
    let mut bytes = 0;
    let mut messages = Vec::new();
    for publication in publications {
        let mut message = Vec::new();
        publication.encode(encoding, &mut message);
        bytes += message.len();
        if bytes > PAGE && !messages.is_empty() {
            break;
        }
        messages.push(message);
    }
    messages
}

/// Bytes of one answer with history, unless its first message is longer.
const PAGE: usize = 256 * 1024;
