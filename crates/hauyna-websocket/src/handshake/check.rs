//! The server's check of a request (RFC 6455 §4.2.1, RFC 8441 §5) and the answer that accepts it. The
//! application checks origin and authorisation.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    AsHeaderName, CONNECTION, CONTENT_LENGTH, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};

use super::Refusal;
use super::accept_key::accept_key;
use crate::token::{is_token, lists};

/// Whether a request asks for an upgrade to WebSocket, valid or not. Other requests are plain HTTP.
#[must_use]
pub fn wants_websocket(request: &Parts) -> bool {
    lists(&request.headers, UPGRADE, "websocket")
}

/// Checks a request for an upgrade over HTTP/1.1 (RFC 6455 §4.2.1).
///
/// # Errors
///
/// Returns the first violated rule.
pub fn check(request: &Parts) -> Result<Upgrade, Refusal> {
    let headers = &request.headers;
    if request.method != Method::GET {
        return Err(Refusal::Method);
    }
    if request.version != Version::HTTP_11 {
        return Err(Refusal::HttpVersion);
    }
    // A body in front of the first frame could smuggle requests past a proxy.
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::Body);
    }
    if !matches!(single(headers, HOST, Refusal::Host)?, Some(host) if !host.is_empty()) {
        return Err(Refusal::Host);
    }
    if !wants_websocket(request) || !lists(headers, CONNECTION, "upgrade") {
        return Err(Refusal::NotAnUpgrade);
    }
    check_version(headers)?;
    single(headers, ORIGIN, Refusal::RepeatedHeader)?;
    let key = single(headers, SEC_WEBSOCKET_KEY, Refusal::Key)?.ok_or(Refusal::Key)?;
    let mut nonce = [0; 18]; // what a decoder wants as room for 24 characters
    if key.len() != 24 || STANDARD.decode_slice(key, &mut nonce) != Ok(16) {
        return Err(Refusal::Key);
    }
    Ok(Upgrade { protocols: protocols(headers)?, accept: Some(accept_key(key.as_bytes())) })
}

/// Checks an extended CONNECT of HTTP/2 (RFC 8441 §5), whose `:protocol` is passed separately.
///
/// # Errors
///
/// Returns the first violated rule.
pub fn check_extended_connect(request: &Parts, protocol: &str) -> Result<Upgrade, Refusal> {
    let headers = &request.headers;
    if request.method != Method::CONNECT {
        return Err(Refusal::Method);
    }
    if request.version != Version::HTTP_2 {
        return Err(Refusal::HttpVersion);
    }
    if protocol != "websocket" {
        return Err(Refusal::NotAnUpgrade);
    }
    check_version(headers)?;
    single(headers, ORIGIN, Refusal::RepeatedHeader)?;
    Ok(Upgrade { protocols: protocols(headers)?, accept: None })
}

fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    match single(headers, SEC_WEBSOCKET_VERSION, Refusal::RepeatedHeader)? {
        Some(version) if version == "13" => Ok(()),
        _ => Err(Refusal::WebSocketVersion),
    }
}

/// Returns the only value of a header, or the error `repeated`.
fn single(
    headers: &HeaderMap,
    name: impl AsHeaderName,
    repeated: Refusal,
) -> Result<Option<&HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(repeated) } else { Ok(first) }
}

/// Returns the sub-protocols, joined by commas. They must be distinct tokens (RFC 6455 §4.1). Empty elements
/// of the list are ignored (RFC 9110 §5.6.1), but the list must have one element.
fn protocols(headers: &HeaderMap) -> Result<String, Refusal> {
    let mut joined = String::new();
    let mut seen = HashSet::new();
    for line in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        for protocol in line.to_str().map_err(|_| Refusal::Protocols)?.split(',').map(str::trim) {
            if protocol.is_empty() {
                continue;
            }
            if !is_token(protocol) || !seen.insert(protocol) {
                return Err(Refusal::Protocols);
            }
            if !joined.is_empty() {
                joined.push(',');
            }
            joined.push_str(protocol);
        }
    }
    if joined.is_empty() && headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Err(Refusal::Protocols);
    }
    Ok(joined)
}

/// A valid handshake.
#[derive(Debug, Clone)]
pub struct Upgrade {
    /// Sub-protocols: distinct tokens, joined by commas.
    protocols: String,
    /// Value of Sec-WebSocket-Accept; `None` for extended CONNECT.
    accept: Option<HeaderValue>,
}

impl Upgrade {
    /// Returns the sub-protocols that the client offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.protocols.split(',').filter(|protocol| !protocol.is_empty())
    }

    /// Returns the answer: 101, or 200 for extended CONNECT (RFC 8441 §5).
    ///
    /// A `protocol` that the client did not offer is left out, as the client would fail (RFC 6455 §4.1).
    /// `extensions` that are no valid header value are left out, too.
    #[must_use]
    pub fn response(&self, protocol: Option<&str>, extensions: Option<&str>) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        if let Some(accept) = &self.accept {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept.clone());
        }
        let protocol = protocol.filter(|chosen| self.protocols().any(|offered| offered == *chosen));
        if let Some(Ok(protocol)) = protocol.map(HeaderValue::from_str) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if let Some(Ok(extensions)) = extensions.map(HeaderValue::from_str) {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, extensions);
        }
        if self.accept.is_some() {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        response
    }

    /// Appends the answer as HTTP/1.1 to `out`.
    pub fn write_response(&self, protocol: Option<&str>, extensions: Option<&str>, out: &mut Vec<u8>) {
        write_head(&self.response(protocol, extensions), out);
    }
}

/// Appends the head of a response as HTTP/1.1 to `out`, its empty line included.
///
/// Nothing can be injected, since `HeaderValue` refuses CR and LF.
pub fn write_head<B>(response: &Response<B>, out: &mut Vec<u8>) {
    let status = response.status();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    write_headers(response.headers(), out);
    out.extend_from_slice(b"\r\n");
}

/// Writes one line for each header.
pub(super) fn write_headers(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}
