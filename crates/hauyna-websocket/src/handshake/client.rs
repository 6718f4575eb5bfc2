//! The client's side of the handshake (RFC 6455 §4.1): the request, and the check of the server's answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::accept_key::accept_key;
use super::check::write_headers;
use super::head::{HeadBuffer, MAX_HEADERS, header_map};
use crate::token::{is_token, lists, names_any};
use crate::{Deflate, Negotiated};

/// A client's request for a WebSocket connection.
#[derive(Debug, Clone)]
pub struct ClientRequest {
    host: String,
    path: String,
    protocols: Vec<String>,
    headers: HeaderMap,
    deflate: Option<Deflate>,
}

impl ClientRequest {
    /// Creates a request to `host` (with its port, unless it is the scheme's default) for `path` (with its
    /// query).
    #[must_use]
    pub fn new(host: &str, path: &str) -> Self {
        Self {
            host: host.to_owned(),
            path: path.to_owned(),
            protocols: Vec::new(),
            headers: HeaderMap::new(),
            deflate: None,
        }
    }

    /// Offers a sub-protocol, after those offered before.
    #[must_use]
    pub fn protocol(mut self, protocol: &str) -> Self {
        self.protocols.push(protocol.to_owned());
        self
    }

    /// Adds a header, for example Origin or Authorization. Headers of the handshake itself are ignored.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Offers permessage-deflate.
    #[must_use]
    pub fn deflate(mut self, deflate: &Deflate) -> Self {
        self.deflate = Some(deflate.clone());
        self
    }

    /// Returns the bytes to send and the reader of the answer, with a new random key.
    ///
    /// # Errors
    ///
    /// Returns an error if the host, the path or a sub-protocol is not valid in a request, or the system
    /// provides no randomness.
    pub fn start(self) -> Result<(Vec<u8>, ServerAnswer), InvalidRequest> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|_| InvalidRequest)?;
        let key = STANDARD.encode(nonce);
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if self.host.is_empty() || !visible(&self.host) || !self.path.starts_with('/') || !visible(&self.path)
        {
            return Err(InvalidRequest);
        }
        if !self.protocols.iter().all(|protocol| is_token(protocol)) {
            return Err(InvalidRequest);
        }
        let mut headers = self.headers;
        headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        headers.remove(SEC_WEBSOCKET_PROTOCOL);
        let mut set = |name: HeaderName, value: &str| {
            HeaderValue::from_str(value).map(|value| headers.insert(name, value)).map_err(|_| InvalidRequest)
        };
        set(HOST, &self.host)?;
        set(CONNECTION, "Upgrade")?;
        set(UPGRADE, "websocket")?;
        set(SEC_WEBSOCKET_VERSION, "13")?;
        set(SEC_WEBSOCKET_KEY, &key)?;
        if let Some(deflate) = &self.deflate {
            set(SEC_WEBSOCKET_EXTENSIONS, &deflate.offer())?;
        }
        if !self.protocols.is_empty() {
            set(SEC_WEBSOCKET_PROTOCOL, &self.protocols.join(", "))?;
        }
        let mut out = format!("GET {} HTTP/1.1\r\n", self.path).into_bytes();
        write_headers(&headers, &mut out);
        out.extend_from_slice(b"\r\n");
        let answer = ServerAnswer {
            accept: accept_key(key.as_bytes()),
            protocols: self.protocols,
            deflate: self.deflate,
            buffer: HeadBuffer::default(),
        };
        Ok((out, answer))
    }
}

/// The error of a request that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("host, path or sub-protocol cannot stand in a request")]
pub struct InvalidRequest;

/// A reader of the server's answer to one request.
#[derive(Debug)]
pub struct ServerAnswer {
    accept: HeaderValue,
    protocols: Vec<String>,
    deflate: Option<Deflate>,
    buffer: HeadBuffer,
}

/// The accepted handshake.
#[derive(Debug)]
#[non_exhaustive]
pub struct Accepted {
    /// Sub-protocol, one of those offered.
    pub protocol: Option<String>,
    /// Compression, if it was offered and accepted.
    pub deflate: Option<Negotiated>,
    /// Headers of the answer.
    pub headers: HeaderMap,
    /// Bytes after the answer: the server's first frames.
    pub rest: Vec<u8>,
}

/// Why a server's answer does not open a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The answer is not HTTP/1.1, violates its grammar, or has more than 16 KiB or 100 headers.
    #[error("malformed answer")]
    Malformed,
    /// The server answered with another status than 101.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// Upgrade, Connection or Sec-WebSocket-Accept is missing, repeated or wrong (RFC 6455 §4.1).
    #[error("the server did not accept the upgrade")]
    NotUpgraded,
    /// The server chose a sub-protocol that was not offered (RFC 6455 §4.1).
    #[error("the server chose a sub-protocol that was not offered")]
    Protocol,
    /// The server chose an extension, or parameters, that were not offered (RFC 6455 §4.1).
    #[error("the server chose an extension that was not offered")]
    Extensions,
}

impl ServerAnswer {
    /// Processes bytes that were read. Returns `Ok(Some)` once the answer is complete and opens the
    /// connection.
    ///
    /// # Errors
    ///
    /// Returns an error if the answer does not open a connection. The caller must drop the socket.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Accepted>, AnswerError> {
        let Some(head_len) = self.buffer.push(bytes).map_err(|_| AnswerError::Malformed)? else {
            return Ok(None);
        };
        let mut bytes = self.buffer.take();
        let rest = bytes.split_off(head_len);
        let bytes = Bytes::from(bytes);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        match parsed.parse(&bytes) {
            Ok(httparse::Status::Complete(length)) if length == head_len && parsed.version == Some(1) => {}
            _ => return Err(AnswerError::Malformed),
        }
        let status =
            parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(AnswerError::Malformed)?;
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(AnswerError::Status(status));
        }
        let headers = header_map(&bytes, parsed.headers).map_err(|_| AnswerError::Malformed)?;
        self.judge(headers, rest).map(Some)
    }

    fn judge(&self, headers: HeaderMap, rest: Vec<u8>) -> Result<Accepted, AnswerError> {
        let mut accepts = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
        let accepted = accepts.next().is_some_and(|accept| *accept == self.accept);
        if !accepted
            || accepts.next().is_some()
            || !lists(&headers, UPGRADE, "websocket")
            || !lists(&headers, CONNECTION, "upgrade")
        {
            return Err(AnswerError::NotUpgraded);
        }
        let mut chosen = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let protocol = match (chosen.next(), chosen.next()) {
            (None, _) => None,
            (Some(chosen), None) if self.protocols.iter().any(|offered| chosen == offered) => {
                chosen.to_str().ok().map(str::to_owned)
            }
            _ => return Err(AnswerError::Protocol),
        };
        let deflate = match &self.deflate {
            Some(deflate) => deflate.accept(&headers).map_err(|_| AnswerError::Extensions)?,
            None if names_any(&headers, SEC_WEBSOCKET_EXTENSIONS) => return Err(AnswerError::Extensions),
            None => None,
        };
        Ok(Accepted { protocol, deflate, headers, rest })
    }
}
