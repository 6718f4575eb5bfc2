//! The negotiation of permessage-deflate (RFC 7692 §7): a server's answer to offers, a client's offer and its
//! judgement of the answer. What we send never refers to earlier messages, and we say so whenever we may.

use std::fmt::Write as _;
use std::sync::Arc;

use http::HeaderMap;
use http::header::SEC_WEBSOCKET_EXTENSIONS;

use super::parameters::{ClientBits, Entries, Entry, Parameters};
use super::{Deflate, Inflate, Takeover};

/// What both ends agreed on.
#[derive(Debug)]
pub struct Negotiated {
    /// The value of Sec-WebSocket-Extensions in the server's answer.
    pub response: String,
    /// What inflates the peer's messages.
    pub inflate: Inflate,
    /// Which of our compressed frames the peer can inflate.
    pub window: PeerWindow,
}

/// The LZ77 window a peer inflates with, which decides whether a shared compressed frame may be sent to it.
///
/// We compress each message by itself, so no reference in it reaches further back than the payload is long:
/// a peer with a window of 2^n bytes can inflate any of our frames whose payload is at most that long. That is
/// also how a window of 8 bits is honoured, which zlib cannot compress for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerWindow {
    bits: u8,
}

impl PeerWindow {
    /// Tells whether the compressed frame of a payload of so many bytes may be sent to this peer; otherwise it
    /// gets the plain one.
    #[must_use]
    pub const fn fits(self, payload: usize) -> bool {
        self.bits >= 15 || payload <= 1 << self.bits
    }
}

/// A server's answer to our offer is not one that RFC 7692 §7.1 allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer to the compression offer is invalid")]
pub struct DeflateRefused;

impl Deflate {
    /// Answers the first offer of a client that can be accepted; `None` leaves the connection uncompressed.
    ///
    /// A header that breaks the grammar is declined as a whole. Takes time linear in the headers' length.
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

    /// Every valid offer can be accepted: see [`PeerWindow`] for small windows.
    fn answer(&self, offer: &Parameters) -> Negotiated {
        let config = &self.shared.config;
        // Our own promise, which lets the client do without a window between messages (§7.1.1.1).
        let mut response = String::from("permessage-deflate; server_no_context_takeover");
        if let Some(bits) = offer.server_max_window_bits {
            let _ = write!(response, "; server_max_window_bits={bits}");
        }
        // A client that did not offer the parameter must not be sent it (§7.1.2.2).
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

    /// The offer of a client: the value of Sec-WebSocket-Extensions in its request.
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

    /// Judges the answer to [`offer`](Self::offer); `Ok(None)` when the server declined by silence.
    ///
    /// # Errors
    ///
    /// The server accepts something else than was offered, or twice, or breaks the grammar; the client is to
    /// fail the connection (RFC 7692 §7.1, RFC 6455 §9.1).
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
            // An answer must come with a value (§7.1.2.2).
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
