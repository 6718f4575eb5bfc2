//! What the client tells the log, by `tracing`: the target is `hauyna_client`, and no line holds a payload, a token, or a
//! text of the peer's that is not escaped.

use crate::error::Closed;
use crate::socket::{Failure, Loss};
use std::time::Duration;

pub(crate) fn connected(connection: &str, resumed: bool) {
    tracing::info!(target: TARGET, connection, resumed, "connected");
}

pub(crate) fn lost(loss: &Loss) {
    tracing::info!(target: TARGET, code = loss.code, reason = ?loss.reason, "connection lost");
}

pub(crate) fn waiting(attempt: u32, delay: Duration) {
    tracing::debug!(target: TARGET, attempt, delay_ms = delay.as_millis() as u64, "waiting to reconnect");
}

pub(crate) fn failed(failure: &Failure) {
    tracing::info!(target: TARGET, error = %failure, "attempt to connect failed");
}

pub(crate) fn closed(closed: &Closed) {
    tracing::info!(target: TARGET, reason = ?closed, "client closed");
}

pub(crate) fn gap(gap: &crate::gap::Gap) {
    tracing::warn!(target: TARGET, channel = ?gap.channel, reason = gap.reason.as_str(), "messages may be missing");
}

pub(crate) fn unreadable(fault: &hauyna_protocol::Fault) {
    tracing::warn!(target: TARGET, error = %fault, "the server sent what is no message");
}

pub(crate) fn unasked(error_type: &str) {
    tracing::warn!(target: TARGET, error_type = ?error_type, "the server reports an error");
}

const TARGET: &str = "hauyna_client";
