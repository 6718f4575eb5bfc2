//! The head of an HTTP/1 message, collected from reads of any size. Each byte is examined once when it
//! arrives and once when the head is parsed. Size and number of headers are bounded. `check` and `client`
//! build on it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::Refusal;

/// A reader of the head of a request, of at most 16 KiB and 100 headers.
///
/// # Examples
///
/// ```
/// use hauyna_websocket::handshake::{ClientRequest, HeadReader, check};
///
/// let (request, mut answer) = ClientRequest::new("example.com", "/ws").protocol("hauyna.v1").start()?;
///
/// // The server reads until the head is complete, and answers.
/// let head = HeadReader::new().push(&request)?.expect("everything arrived at once");
/// let upgrade = check(&head.request.into_parts().0)?;
/// let mut response = Vec::new();
/// upgrade.write_response(upgrade.protocols().next(), None, &mut response);
///
/// let accepted = answer.push(&response)?.expect("everything arrived at once");
/// assert_eq!(accepted.protocol.as_deref(), Some("hauyna.v1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct HeadReader {
    buffer: HeadBuffer,
}

/// A complete head and its bytes, so that the request can be passed to another HTTP server.
#[derive(Debug)]
#[non_exhaustive]
pub struct Head {
    /// The request.
    pub request: Request<()>,
    /// Everything read so far: the head and the bytes after it.
    pub bytes: Vec<u8>,
    /// Length of the head in `bytes`; frames follow it.
    pub head_len: usize,
}

impl HeadReader {
    /// Creates an empty reader.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Processes bytes that were read. Returns `Ok(Some)` once the head is complete; the reader is then empty
    /// again.
    ///
    /// The preface of an HTTP/2 connection is a complete head, too: method `PRI`, version 2.
    ///
    /// # Errors
    ///
    /// Returns an error if the head is too big, has too many headers, or is not HTTP/1. The caller must close
    /// the connection.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Head>, Refusal> {
        let Some(head_len) = self.buffer.push(bytes)? else { return Ok(None) };
        let bytes = self.buffer.take();
        let request = parse_request(&bytes[..head_len])?;
        Ok(Some(Head { request, bytes, head_len }))
    }
}

/// The bytes of a head, and the progress of the search for its end.
#[derive(Debug, Default)]
pub(super) struct HeadBuffer {
    bytes: Vec<u8>,
    searched: usize,
    /// Start of the current line.
    line: usize,
    /// Whether a non-empty line was read.
    begun: bool,
}

impl HeadBuffer {
    /// Appends bytes. Returns the length of the head once its empty line has arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        self.bytes.extend_from_slice(bytes);
        let searched = std::mem::replace(&mut self.searched, self.bytes.len());
        for offset in memchr::memchr_iter(b'\n', &self.bytes[searched..]) {
            let newline = searched + offset;
            if newline >= MAX_HEAD {
                break;
            }
            // At a lone LF, two parsers could see two different messages.
            let Some(line) = self.bytes[self.line..newline].strip_suffix(b"\r") else {
                return Err(Refusal::Malformed);
            };
            let empty = line.is_empty();
            self.line = newline + 1;
            // Empty lines before the first line are ignored (RFC 9112 §2.2).
            if empty && self.begun {
                return Ok(Some(self.line));
            }
            self.begun |= !empty;
        }
        if self.bytes.len() >= MAX_HEAD { Err(Refusal::HeadTooLarge) } else { Ok(None) }
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(self).bytes
    }
}

fn parse_request(head: &[u8]) -> Result<Request<()>, Refusal> {
    if head == HTTP2_PREFACE {
        let mut request = Request::new(());
        *request.method_mut() = Method::from_bytes(b"PRI").map_err(|_| Refusal::Malformed)?;
        *request.version_mut() = Version::HTTP_2;
        return Ok(request);
    }
    let head = Bytes::copy_from_slice(head);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(&head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
        _ => return Err(Refusal::Malformed),
    }
    let (Some(method), Some(path)) = (parsed.method, parsed.path) else { return Err(Refusal::Malformed) };
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::Malformed)?;
    let path = head.slice_ref(path.as_bytes());
    *request.uri_mut() = Uri::from_maybe_shared(path).map_err(|_| Refusal::Malformed)?;
    *request.version_mut() = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    *request.headers_mut() = header_map(&head, parsed.headers)?;
    Ok(request)
}

/// Returns the headers that were parsed from `head`. Their values share its bytes.
pub(super) fn header_map(head: &Bytes, parsed: &[httparse::Header<'_>]) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Refusal::Malformed)?;
        let value = head.slice_ref(header.value);
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| Refusal::Malformed)?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Maximum size of a head in bytes, its empty line included.
pub(super) const MAX_HEAD: usize = 16 << 10;
/// Maximum number of headers.
pub(super) const MAX_HEADERS: usize = 100;
/// Preface of an HTTP/2 client, up to its empty line (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
