//! Tokens and comma-separated lists of HTTP headers (RFC 9110 §5.6), as the handshake needs them.

use http::HeaderMap;
use http::header::AsHeaderName;

/// Tells whether a byte may stand in a token (RFC 9110 §5.6.2).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// Tells whether `text` is a token.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Tells whether a list header has an element: empty ones are none (RFC 9110 §5.6.1).
pub(crate) fn names_any(headers: &HeaderMap, name: impl AsHeaderName) -> bool {
    let is_empty = |byte: &u8| matches!(byte, b',' | b' ' | b'\t');
    !headers.get_all(name).iter().all(|line| line.as_bytes().iter().all(is_empty))
}

/// Tells whether a list header, possibly on several lines, names `token` in any case.
pub(crate) fn lists(headers: &HeaderMap, name: impl AsHeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|entry| entry.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}
