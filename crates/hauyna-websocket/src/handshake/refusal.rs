//! Why a handshake is refused, and the fixed answers. They contain no bytes of the request and no internal
//! details, and the connection is closed after each. `check` and `head` return them.

use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

/// Why a request does not become a WebSocket connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The head is not HTTP/1, or violates its grammar: 400.
    #[error("malformed request")]
    Malformed,
    /// The head is above 16 KiB: 431.
    #[error("request head too large")]
    HeadTooLarge,
    /// The head has more than 100 headers: 431.
    #[error("too many headers")]
    TooManyHeaders,
    /// The method is not GET (RFC 6455 §4.2.1): 405.
    #[error("method not allowed")]
    Method,
    /// The version is not HTTP/1.1, or not HTTP/2 for extended CONNECT: 400.
    #[error("unsupported HTTP version")]
    HttpVersion,
    /// The Host header is missing, empty or repeated (RFC 9112 §3.2): 400.
    #[error("invalid host header")]
    Host,
    /// The request has, or announces, a body: 400.
    #[error("a handshake has no body")]
    Body,
    /// The request does not ask for an upgrade to WebSocket (RFC 6455 §4.2.1): 426.
    #[error("websocket upgrade required")]
    NotAnUpgrade,
    /// Sec-WebSocket-Version is not 13 (RFC 6455 §4.4): 426.
    #[error("unsupported websocket version")]
    WebSocketVersion,
    /// Sec-WebSocket-Key is missing, repeated or not 16 bytes of base64 (RFC 6455 §4.2.1): 400.
    #[error("invalid sec-websocket-key")]
    Key,
    /// Sec-WebSocket-Protocol is not a list of distinct tokens (RFC 6455 §4.1): 400.
    #[error("invalid sec-websocket-protocol")]
    Protocols,
    /// A header that may occur once occurs more often: 400.
    #[error("repeated header")]
    RepeatedHeader,
}

impl Refusal {
    /// Returns the status of the answer: 400, 405, 426 or 431.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::HeadTooLarge | Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAnUpgrade | Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the answer.
    #[must_use]
    pub fn response(&self) -> Response<&'static str> {
        let body = self.body();
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        for (name, value) in self.headers() {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response.headers_mut().insert(CONTENT_LENGTH, body.len().into());
        response
    }

    /// Appends the answer as HTTP/1.1 to `out`. The caller must close the connection after it.
    pub fn write_response(&self, out: &mut Vec<u8>) {
        super::check::write_head(&self.response(), out);
        out.extend_from_slice(self.body().as_bytes());
    }

    fn headers(self) -> impl Iterator<Item = (HeaderName, &'static str)> {
        let common = [
            (CONTENT_TYPE, "application/json"),
            (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (http::header::CACHE_CONTROL, "no-store"),
        ];
        let special: &[_] = match self {
            Self::Method => &[(ALLOW, "GET"), (CONNECTION, "close")],
            // Upgrade is a header of the connection, so Connection must name it (RFC 9110 §7.8).
            Self::NotAnUpgrade | Self::WebSocketVersion => {
                &[(UPGRADE, "websocket"), (SEC_WEBSOCKET_VERSION, "13"), (CONNECTION, "upgrade, close")]
            }
            _ => &[(CONNECTION, "close")],
        };
        common.into_iter().chain(special.iter().cloned())
    }

    /// Returns the body, in the format and with the types of the errors after the upgrade.
    const fn body(self) -> &'static str {
        match self {
            Self::Malformed => r#"{"error_type":"parse_error","message":"malformed request"}"#,
            Self::HeadTooLarge => {
                r#"{"error_type":"limit_exceeded","message":"request head above 16 KiB","details":{"limit":16384}}"#
            }
            Self::TooManyHeaders => {
                r#"{"error_type":"limit_exceeded","message":"more than 100 headers","details":{"limit":100}}"#
            }
            Self::Method => {
                r#"{"error_type":"validation_error","message":"a websocket handshake is a GET request"}"#
            }
            Self::HttpVersion => r#"{"error_type":"validation_error","message":"unsupported HTTP version"}"#,
            Self::Host => r#"{"error_type":"validation_error","message":"invalid host header"}"#,
            Self::Body => {
                r#"{"error_type":"validation_error","message":"a websocket handshake has no body"}"#
            }
            Self::NotAnUpgrade => {
                r#"{"error_type":"validation_error","message":"this is a websocket endpoint"}"#
            }
            Self::WebSocketVersion => {
                r#"{"error_type":"validation_error","message":"websocket version 13 required"}"#
            }
            Self::Key => r#"{"error_type":"validation_error","message":"invalid sec-websocket-key"}"#,
            Self::Protocols => {
                r#"{"error_type":"validation_error","message":"invalid sec-websocket-protocol"}"#
            }
            Self::RepeatedHeader => r#"{"error_type":"validation_error","message":"repeated header"}"#,
        }
    }
}
