//! The opening handshake without I/O. A server collects the head of a request with [`HeadReader`], checks it
//! with [`check`] (or [`check_extended_connect`] on HTTP/2) and writes the answer of the [`Upgrade`] or of
//! the [`Refusal`]. A client sends the bytes of its [`ClientRequest`] and feeds the answer to its
//! [`ServerAnswer`].

mod check;
mod client;
mod head;
mod refusal;

pub use check::{Upgrade, check, check_extended_connect, wants_websocket, write_head};
pub use client::{Accepted, AnswerError, ClientRequest, InvalidRequest, ServerAnswer};
pub use head::{Head, HeadReader};
pub use refusal::Refusal;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use sha1::{Digest as _, Sha1};

/// Returns Sec-WebSocket-Accept for a key (RFC 6455 §4.2.2).
fn accept_key(key: &[u8]) -> HeaderValue {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).expect("invariant: base64 is a valid header value")
}

/// The constant of RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
