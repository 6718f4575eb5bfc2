//! The negotiation of permessage-deflate (RFC 7692 §7): a server's answer to offers, a client's offer and its
//! check of the answer. Our messages never refer to earlier ones, and we announce that whenever the RFC
//! allows it.

use std::fmt::Write as _;
use std::sync::Arc;

use http::HeaderMap;
use http::header::SEC_WEBSOCKET_EXTENSIONS;

use super::parameters::{ClientBits, Entries, Entry, Parameters};
use super::{Deflate, Inflate, Takeover};

/// The result of a negotiation.
#[derive(Debug)]
#[non_exhaustive]
pub struct Negotiated {
    /// Value of Sec-WebSocket-Extensions in the server's answer.
    pub response: String,
    /// Inflation of the peer's messages.
    pub inflate: Inflate,
    /// Window of the peer: which of our compressed frames it can inflate.
    pub window: PeerWindow,
}

/// The LZ77 window of a peer, which decides whether a shared compressed frame may be sent to it.
///
/// We compress each message by itself, so no reference in it reaches further back than the length of the
/// payload: a peer with a window of 2^n bytes can inflate any of our frames whose payload is at most that
/// long. This also covers a window of 8 bits, for which zlib cannot compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerWindow {
    bits: u8,
}

impl PeerWindow {
    /// Whether the compressed frame of a payload of this many bytes may be sent to this peer. Otherwise it
    /// gets the plain frame.
    #[must_use]
    pub const fn fits(self, payload: usize) -> bool {
        self.bits >= 15 || payload <= 1 << self.bits
    }
}

/// The error of a server's answer that RFC 7692 §7.1 does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer to the compression offer is invalid")]
pub struct DeflateRefused;

impl Deflate {
    /// Answers the first acceptable offer of a client. `None` leaves the connection uncompressed.
    ///
    /// A header that violates the grammar is declined as a whole. The time is linear in the length of the
    /// headers.
    #[must_use]
    pub fn negotiate(&self, headers: &HeaderMap) -> Option<Negotiated> {
        for line in headers.get_all(SEC_WEBSOCKET_EXTENSIONS) {
            let mut entries = Entries::new(line.as_bytes());
            while let Some(entry) = entries.next().ok()? {
                if let Entry::Deflate(offer) = entry {
                    return Some(self.answer(&offer));
                }
            }
        }
        None
    }

    /// Returns the answer to an offer. Every valid offer can be accepted; see [`PeerWindow`] for small
    /// windows.
    fn answer(&self, offer: &Parameters) -> Negotiated {
        let config = &self.shared.config;
        // This promise lets the client drop its window between messages (§7.1.1.1).
        let mut response = String::from("permessage-deflate; server_no_context_takeover");
        if let Some(bits) = offer.server_max_window_bits {
            let _ = write!(response, "; server_max_window_bits={bits}");
        }
        // The parameter must not be sent to a client that did not offer it (§7.1.2.2).
        let limited = match offer.client_max_window_bits {
            None => None,
            Some(ClientBits::Any) => Some(config.max_window_bits),
            Some(ClientBits::AtMost(bits)) => Some(bits.min(config.max_window_bits)),
        };
        let takeover = if offer.client_no_context_takeover { Takeover::None } else { config.takeover };
        if takeover == Takeover::None {
            response.push_str("; client_no_context_takeover");
        }
        if let Some(bits) = limited.filter(|bits| *bits < 15) {
            let _ = write!(response, "; client_max_window_bits={bits}");
        }
        let window = PeerWindow { bits: offer.server_max_window_bits.unwrap_or(15) };
        Negotiated { response, inflate: self.inflate(takeover), window }
    }

    /// Returns the offer of a client: the value of Sec-WebSocket-Extensions in its request.
    #[must_use]
    pub fn offer(&self) -> String {
        let config = &self.shared.config;
        let mut offer =
            String::from("permessage-deflate; client_no_context_takeover; client_max_window_bits");
        if config.takeover == Takeover::None {
            offer.push_str("; server_no_context_takeover");
        }
        if config.max_window_bits < 15 {
            let _ = write!(offer, "; server_max_window_bits={}", config.max_window_bits);
        }
        offer
    }

    /// Checks the answer to [`offer`](Self::offer). Returns `Ok(None)` if the server does not mention the
    /// extension.
    ///
    /// # Errors
    ///
    /// Returns an error if the server accepts what was not offered, accepts twice, or violates the grammar.
    /// The client must then fail the connection (RFC 7692 §7.1, RFC 6455 §9.1).
    pub fn accept(&self, headers: &HeaderMap) -> Result<Option<Negotiated>, DeflateRefused> {
        let config = &self.shared.config;
        let mut answer = None;
        for line in headers.get_all(SEC_WEBSOCKET_EXTENSIONS) {
            let mut entries = Entries::new(line.as_bytes());
            while let Some(entry) = entries.next().map_err(|_| DeflateRefused)? {
                match entry {
                    Entry::Deflate(parameters) if answer.is_none() => answer = Some((parameters, line)),
                    _ => return Err(DeflateRefused),
                }
            }
        }
        let Some((answer, line)) = answer else { return Ok(None) };
        let server_bits = answer.server_max_window_bits.unwrap_or(15);
        let takeover = if answer.server_no_context_takeover { Takeover::None } else { Takeover::Allowed };
        if server_bits > config.max_window_bits
            || (takeover == Takeover::Allowed && config.takeover == Takeover::None)
        {
            return Err(DeflateRefused);
        }
        let bits = match answer.client_max_window_bits {
            None => 15,
            Some(ClientBits::AtMost(bits)) => bits,
            // An answer must have a value (§7.1.2.2).
            Some(ClientBits::Any) => return Err(DeflateRefused),
        };
        let response = line.to_str().map_err(|_| DeflateRefused)?.to_owned();
        Ok(Some(Negotiated { response, inflate: self.inflate(takeover), window: PeerWindow { bits } }))
    }

    fn inflate(&self, takeover: Takeover) -> Inflate {
        let shared = Arc::clone(&self.shared);
        match takeover {
            Takeover::None => Inflate::pooled(shared),
            Takeover::Allowed => Inflate::with_takeover(shared),
        }
    }
}
