//! Handles what one connection receives, event by event: it answers control frames and passes messages to
//! `dispatch`. It also closes for faults and refusals, and announces the session. `driver` and `read_ahead`
//! call it.

use super::replies::flush_replies;
use crate::close::CloseReason;
use crate::connection::{ConnectionCore, close_frame_of};
use crate::dispatch::{self, Attempt, Pending};
use crate::error::Error;
use crate::handler::{Context, Mode};
use crate::outbox::Backlog;
use bytes::Bytes;
use hauyna_protocol::ErrorType;
use hauyna_protocol::close::CloseCode;
use hauyna_websocket::{Event, OpCode, ProtocolError, encode_into};
use std::sync::Arc;

/// The result of handling an event.
pub(super) enum Handled {
    Done,
    Later(Pending),
}

pub(super) fn handle(core: &Arc<ConnectionCore>, event: Event<'_>, replies: &mut Vec<u8>) -> Handled {
    if !core.is_open() && !matches!(event, Event::Close(_)) {
        return Handled::Done; // the connection is closing: only the peer's close frame counts
    }
    let later = match event {
        Event::Text(text) => message(core, OpCode::Text, text.as_bytes(), replies),
        Event::Binary(bytes) => message(core, OpCode::Binary, bytes, replies),
        Event::Ping(payload) => {
            pong(core, payload, replies);
            let pending = core.endpoint().call_on_ping(&Context::new(core.clone()), payload);
            pending.map(|pending| dispatch::with_recovery(core, || Attempt::Ping(payload.into()), pending))
        }
        Event::Pong(payload) => {
            let pending = core.endpoint().call_on_pong(&Context::new(core.clone()), payload);
            pending.map(|pending| dispatch::with_recovery(core, || Attempt::Pong(payload.into()), pending))
        }
        Event::Close(frame) => {
            closed_by_peer(core, frame.map(|(code, _)| code.as_u16()), replies);
            None
        }
    };
    later.map_or(Handled::Done, Handled::Later)
}

fn message(
    core: &Arc<ConnectionCore>,
    opcode: OpCode,
    payload: &[u8],
    replies: &mut Vec<u8>,
) -> Option<Pending> {
    core.traffic().requests.increment();
    match core.endpoint().mode {
        Mode::Echo => {
            match core.deflate() {
                None => encode_into(replies, opcode, payload, None),
                Some(deflate) => replies.extend_from_slice(&deflate.frame(opcode, payload)),
            }
            None
        }
        Mode::Protocol if opcode == core.wire().opcode() => dispatch::dispatch(core, payload, replies),
        Mode::Protocol => dispatch::unexpected_opcode(core, opcode, payload, replies),
    }
}

/// Takes a message that answers a client request; returns false for any other message.
pub(super) fn take_answer(core: &Arc<ConnectionCore>, opcode: OpCode, payload: &[u8]) -> bool {
    let is_answer = opcode == core.wire().opcode() && dispatch::take_answer(core, payload);
    if is_answer {
        core.traffic().requests.increment();
    }
    is_answer
}

/// Answers a ping. While the peer does not read, it keeps only the latest pong (RFC 6455 §5.5.3).
fn pong(core: &Arc<ConnectionCore>, payload: &[u8], replies: &mut Vec<u8>) {
    let mut outbox = core.outbox.lock();
    if outbox.blocked.is_none() {
        encode_into(replies, OpCode::Pong, payload, None);
    } else {
        outbox.push_pong(hauyna_websocket::encode(OpCode::Pong, payload));
    }
}

pub(super) fn closed_by_peer(core: &Arc<ConnectionCore>, code: Option<u16>, replies: &mut Vec<u8>) {
    core.sender().wait_for_ordered_replies();
    let mut outbox = core.outbox.lock();
    let _ = outbox.write_replies(replies, core.traffic());
    replies.clear();
    let answer = code.map_or_else(Bytes::new, |code| close_frame_of(CloseCode(code), ""));
    let answer = if answer.is_empty() { hauyna_websocket::encode(OpCode::Close, b"") } else { answer };
    outbox.close(answer, closed_cleanly(code), Backlog::Drop);
}

pub(super) fn closed_cleanly(code: Option<u16>) -> CloseReason {
    CloseReason::Client(code.unwrap_or(NO_STATUS))
}

/// Closes the connection for input that is not a valid message, behind the replies so far.
pub(super) fn close_for_fault(core: &Arc<ConnectionCore>, error: &ProtocolError, replies: &mut Vec<u8>) {
    reply_too_large(core, error, replies);
    flush_replies(core, replies);
    refuse(core, error);
}

/// Answers a message that is too large, before the connection is closed for it.
fn reply_too_large(core: &Arc<ConnectionCore>, error: &ProtocolError, replies: &mut Vec<u8>) {
    if core.endpoint().mode == Mode::Protocol && error.close_code() == hauyna_websocket::CloseCode::TOO_BIG {
        let limit = serde_json::json!({ "limit": core.endpoint().limits.message });
        let error =
            Error::protocol(ErrorType::PayloadTooLarge, "the message is too large").with_details(limit);
        core.hub().metrics.refuse(ErrorType::PayloadTooLarge);
        replies.extend_from_slice(&dispatch::error_frame(core, None, &error));
    }
}

/// Closes the connection because the peer broke RFC 6455.
fn refuse(core: &Arc<ConnectionCore>, error: &ProtocolError) {
    core.hub().metrics.protocol_errors.increment();
    tracing::debug!(target: "hauyna::connection", id = %core.id(), %error, "broke the protocol");
    let code = CloseCode(error.close_code().as_u16());
    core.sender().wait_for_ordered_replies();
    // A client whose message was too large may reconnect and go on without that message.
    let reason = match code {
        CloseCode::MESSAGE_TOO_BIG => CloseReason::MessageTooBig,
        _ => CloseReason::Protocol,
    };
    core.close(code, &error.to_string(), reason, Backlog::Drop);
}

/// Closes the connection because `on_open` refused it.
pub(super) fn refuse_open(core: &Arc<ConnectionCore>, error: &Error) {
    tracing::debug!(
        target: "hauyna::connection",
        id = %core.id(),
        error = %crate::log::error_text(error),
        "refused by on_open",
    );
    core.sender().push_reply(dispatch::error_frame(core, None, error));
    let code = error.close_code();
    core.close(code, code.name().unwrap_or_default(), CloseReason::Failed, Backlog::Write);
}

/// The code that stands for an absent status code (RFC 6455 §7.4.1).
const NO_STATUS: u16 = 1005;
