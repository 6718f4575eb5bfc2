//! The value of Sec-WebSocket-Accept, by which a server proves that it understood the request. `check` sends
//! it, and `client` compares it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use sha1::{Digest as _, Sha1};

/// Returns Sec-WebSocket-Accept for a key (RFC 6455 §4.2.2).
pub(super) fn accept_key(key: &[u8]) -> HeaderValue {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).expect("invariant: base64 is a valid header value")
}

/// The constant of RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
