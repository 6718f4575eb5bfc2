//! Tokens and comma-separated lists of HTTP headers (RFC 9110 §5.6), for the handshake.

use http::HeaderMap;
use http::header::AsHeaderName;

/// Whether a byte is allowed in a token (RFC 9110 §5.6.2).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// Whether `text` is a token.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Whether a list header has an element. Empty elements do not count (RFC 9110 §5.6.1).
pub(crate) fn names_any(headers: &HeaderMap, name: impl AsHeaderName) -> bool {
    let is_empty = |byte: &u8| matches!(byte, b',' | b' ' | b'\t');
    !headers.get_all(name).iter().all(|line| line.as_bytes().iter().all(is_empty))
}

/// Whether a list header, possibly on several lines, contains `token`. Case does not matter.
pub(crate) fn lists(headers: &HeaderMap, name: impl AsHeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|entry| entry.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}
