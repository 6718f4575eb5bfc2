//! The options of permessage-deflate for one endpoint. `Deflate` keeps them within their ranges.

/// Options of an endpoint's compression, and what its peers may do.
///
/// Exhaustive: `..DeflateConfig::default()` takes the defaults of the fields that are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateConfig {
    /// Compression level, 1 (fast) to 9 (small); 2 by default. Other values become the nearest of these.
    ///
    /// 4 KiB of JSON become 1,539 bytes in 10 µs at level 1, 1,027 in 18 µs at level 2 and 936 in 27 µs at
    /// level 6 (`cargo bench -p hauyna-websocket`). One compression serves a whole broadcast.
    pub level: u32,
    /// Minimum size of a compressed payload in bytes; 256 by default. Smaller ones are sent plain.
    ///
    /// A compressor has to clear its tables for each message whatever its length, and each receiver has to
    /// inflate it. Below the threshold, the saved bytes seldom save a segment on the wire.
    pub threshold: usize,
    /// Largest LZ77 window that the peer is asked to compress with, as a power of two, 9–15; 15 by default.
    /// Other values become the nearest of these: RFC 7692 §7.1.2 allows 8, which zlib does not support.
    ///
    /// It saves the peer's memory. Ours is the same for every window, and a client that does not offer
    /// `client_max_window_bits` cannot be asked.
    pub max_window_bits: u8,
    /// Whether the peer may refer to its earlier messages; [`Takeover::None`] by default.
    pub takeover: Takeover,
    /// Maximum ratio of messages that inflate beyond 64 KiB. `None`, the default, leaves the limit to
    /// [`Limits::message`](crate::Limits::message). Deflate reaches a ratio of 1,032; ordinary logs reach 50.
    pub ratio_limit: Option<u32>,
}

impl Default for DeflateConfig {
    fn default() -> Self {
        Self { level: 2, threshold: 256, max_window_bits: 15, takeover: Takeover::None, ratio_limit: None }
    }
}

/// Whether the peer may compress a message with references to its earlier ones (RFC 7692 §7.1.1).
///
/// Exhaustive: the extension knows only these two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Takeover {
    /// It may not. A decompressor is borrowed from the pool for one message, and an idle connection costs
    /// nothing.
    None,
    /// It may. Each connection that negotiated it keeps a decompressor of 46 KiB (measured; max of it is the
    /// window of 32 KiB), and the application has to avoid length oracles across messages (RFC 7692 §8).
    Allowed,
}
