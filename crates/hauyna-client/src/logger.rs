//! The log of the client, written with `tracing` under the target `hauyna_client`. No line contains a
//! payload, a token, or an unescaped text of the peer.

use crate::connector::Endpoint;
use crate::error::Closed;
use crate::socket::{AttemptFailure, ConnectionLoss};
use hauyna_protocol::{Encoding, Limits, Raw};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Logs events that may come in series. The first failed attempt and the one that closes the client are
/// warnings, and the connection that ends the series is logged at info level. All other lines about attempts
/// are debug lines.
#[derive(Debug)]
pub(crate) struct FailureLog {
    /// The address without its query, which may contain secrets.
    url: String,
    /// Whether a warning was logged since the last connection.
    has_warned: bool,
    /// The kinds of error that the server has reported on this connection.
    unsolicited: BTreeSet<String>,
    /// Whether the server has sent an invalid message on this connection.
    was_unreadable: bool,
}

impl FailureLog {
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        let scheme = if endpoint.is_secure { "wss" } else { "ws" };
        let path = endpoint.path.split(['?', '#']).next().unwrap_or_default();
        let url = format!("{scheme}://{}{path}", endpoint.authority);
        Self { url, has_warned: false, unsolicited: BTreeSet::new(), was_unreadable: false }
    }

    /// Logs the start of an attempt.
    pub(crate) fn log_attempt(&self) {
        tracing::debug!(target: TARGET, url = self.url, "connecting");
    }

    /// Logs a failed attempt. Without a next delay, it closes the client.
    pub(crate) fn log_failed(&mut self, failure: &AttemptFailure, next: Option<Duration>) {
        let (code, status) = (failure.code(), failure.status());
        let retry_in_ms = next.map(|next| next.as_millis() as u64);
        let (url, error) = (&self.url, failure);
        if next.is_none() || !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!(target: TARGET, url, %error, code, status, retry_in_ms, "cannot connect");
        } else {
            tracing::debug!(target: TARGET, url, %error, code, status, retry_in_ms, "cannot connect");
        }
    }

    /// Logs a connection, which ends the series.
    pub(crate) fn log_connected(&mut self, connection: &str, resumed: bool) {
        self.unsolicited.clear();
        self.was_unreadable = false;
        if std::mem::take(&mut self.has_warned) {
            tracing::info!(target: TARGET, url = self.url, connection, resumed, "connected again");
        } else {
            tracing::debug!(target: TARGET, url = self.url, connection, resumed, "connected");
        }
    }

    /// Logs an error that answers no request. Each kind is a warning once per connection, because refusals of
    /// client events may be frequent.
    pub(crate) fn log_unsolicited_error(&mut self, error_type: &str) {
        // The text of a peer may be long, and may differ each time.
        let error_type: String = error_type.chars().take(MAX_TEXT_CHARS).collect();
        if self.unsolicited.len() >= MAX_KINDS || self.unsolicited.contains(&error_type) {
            tracing::debug!(target: TARGET, ?error_type, "the server reports an error");
        } else {
            tracing::warn!(target: TARGET, ?error_type, "the server reports an error");
            self.unsolicited.insert(error_type);
        }
    }

    /// Logs an invalid message. The first on a connection is a warning; an application may send them all the
    /// time.
    pub(crate) fn log_unreadable(&mut self, fault: &hauyna_protocol::Fault) {
        if std::mem::replace(&mut self.was_unreadable, true) {
            tracing::debug!(target: TARGET, error = %fault, "the server sent what is no message");
        } else {
            tracing::warn!(target: TARGET, error = %fault, "the server sent what is no message");
        }
    }

    /// Logs the end of the client.
    pub(crate) fn log_closed(&mut self, closed: &Closed) {
        self.has_warned = false;
        match closed {
            // The application has closed it, or the failed attempt was logged.
            Closed::ByUs | Closed::Refused { .. } | Closed::InvalidRequest | Closed::GaveUp => {
                tracing::debug!(target: TARGET, url = self.url, reason = ?closed, "client closed");
            }
            _ => tracing::warn!(target: TARGET, url = self.url, reason = ?closed, "client closed"),
        }
    }
}

pub(crate) fn log_lost(loss: &ConnectionLoss) {
    tracing::debug!(target: TARGET, code = loss.code, reason = ?loss.reason, "connection lost");
}

pub(crate) fn log_not_moved(failure: &AttemptFailure) {
    tracing::debug!(target: TARGET, error = %failure, "not moved to another node");
}

pub(crate) fn log_gap(gap: &crate::gap::Gap) {
    tracing::warn!(target: TARGET, channel = ?gap.channel, reason = gap.reason.as_str(), "messages may be missing");
}

pub(crate) fn log_too_large_event(channel: &str, event: &str) {
    tracing::warn!(target: TARGET, channel = ?channel, event = ?event, "a client event is larger than the server takes");
}

/// Logs that a share of a subscription ends with its handle.
pub(crate) fn log_dropped(channel: &str) {
    tracing::debug!(target: TARGET, ?channel, "a share of a subscription is dropped, and ends");
}

/// Logs the head of a message at debug level; otherwise nothing of it is read. Texts of the application in it
/// are cut to the length of a name.
pub(crate) fn log_message(direction: Direction, encoding: Encoding, payload: &[u8]) {
    #[derive(Default, serde::Deserialize)]
    struct Head {
        r#type: Option<Short>,
        channel: Option<Short>,
        id: Option<Short>,
        offset: Option<Short>,
    }

    if !tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
        return;
    }
    let read = |raw: Raw<'_>| serde_json::from_str(&raw.as_json()).ok();
    let head = Raw::parse(encoding, payload, &Limits::default()).ok().and_then(read);
    let Head { r#type: kind, channel, id, offset } = head.unwrap_or_default();
    let kind = kind.as_ref().and_then(Short::as_str);
    let channel = channel.as_ref().and_then(Short::as_str).map(tracing::field::debug);
    let (id, offset) = (id.map(tracing::field::debug), offset.map(tracing::field::debug));
    let bytes = payload.len();
    match direction {
        Direction::Sent => tracing::debug!(target: TARGET, r#type = kind, channel, id, bytes, "sent"),
        Direction::Received => {
            tracing::debug!(target: TARGET, r#type = kind, channel, id, offset, bytes, "received");
        }
    }
}

/// A number or the start of a text. Other values are ignored.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Short {
    Number(u64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Short {
    fn as_str(&self) -> Option<&str> {
        let Self::Text(text) = self else { return None };
        Some(text.char_indices().nth(MAX_TEXT_CHARS).map_or(text, |(end, _)| &text[..end]))
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.as_str()) {
            (Self::Number(number), _) => number.fmt(f),
            (_, Some(text)) => text.fmt(f),
            _ => f.write_str("?"),
        }
    }
}

/// The direction of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    Sent,
    Received,
}

const TARGET: &str = "hauyna_client";
/// The most characters of a text of the peer, and kinds of error per connection, that are logged.
const MAX_TEXT_CHARS: usize = 64;
const MAX_KINDS: usize = 16;
