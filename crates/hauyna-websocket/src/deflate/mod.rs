//! permessage-deflate (RFC 7692): one [`Deflate`] serves all connections of an endpoint and owns the pools of
//! compressors and decompressors. Our frames never refer to earlier messages, so one compressed frame serves
//! all subscribers of a broadcast. `negotiate` does the handshake, and `inflate` decompresses the peer's
//! messages.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use flate2::{Compress, Decompress, FlushCompress, Status};

use crate::{Compression, FrameBuilder, OpCode, encode};

mod inflate;
mod negotiate;
mod parameters;
mod pool;

pub use inflate::Inflate;
pub use negotiate::{DeflateRefused, Negotiated, PeerWindow};

use pool::Pool;

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

/// The compression of an endpoint, shared by all its connections. Clones share the same pools.
///
/// # Examples
///
/// ```
/// use hauyna_websocket::{Decoder, Deflate, Event, Limits, OpCode, Role};
/// use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};
///
/// let (server, client) = (Deflate::default(), Deflate::default());
/// let mut request = HeaderMap::new();
/// request.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::try_from(client.offer())?);
/// let agreed = server.negotiate(&request).expect("the offer can be accepted");
/// let mut answer = HeaderMap::new();
/// answer.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::try_from(agreed.response)?);
/// let accepted = client.accept(&answer)?.expect("the server did not decline");
///
/// let news = "breaking news, ".repeat(100);
/// let frame = server.frame(OpCode::Text, news.as_bytes()); // once, for all subscribers
/// assert!(agreed.window.fits(news.len()) && frame.len() < 50);
/// let mut decoder = Decoder::new(Role::Client, Limits::default()).with_inflate(accepted.inflate);
/// let mut received = frame.to_vec();
/// assert_eq!(decoder.feed(&mut received).next()?, Some(Event::Text(&news)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Deflate {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    config: DeflateConfig,
    compressors: Pool<Compress>,
    inflaters: Pool<Decompress>,
}

impl Deflate {
    /// Creates empty pools, which keep at most as many states as there are processors.
    #[must_use]
    pub fn new(config: DeflateConfig) -> Self {
        let config = DeflateConfig {
            level: config.level.clamp(1, 9),
            max_window_bits: config.max_window_bits.clamp(9, 15),
            ..config
        };
        let shared = Shared { config, compressors: Pool::new(), inflaters: Pool::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Compresses a self-contained payload, with a window of 32 KiB, for a frame with RSV1 (RFC 7692 §7.2.1).
    ///
    /// Returns `None` if it should be sent plain, because it is below the threshold or does not shrink.
    #[must_use]
    pub fn compress(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.compress_onto(payload, &mut out).then_some(out)
    }

    /// Encodes a complete unmasked frame, compressed if that makes it smaller.
    ///
    /// [`PeerWindow`] says whether a peer can inflate compressed frames of this length.
    #[must_use]
    pub fn frame(&self, opcode: OpCode, payload: &[u8]) -> Bytes {
        if opcode.is_control() || payload.len() < self.shared.config.threshold {
            return encode(opcode, payload);
        }
        let mut frame = FrameBuilder::with_capacity(0);
        if self.compress_onto(payload, frame.payload()) {
            frame.payload().shrink_to_fit();
            return frame.finish_with(opcode, Compression::Deflated);
        }
        encode(opcode, payload)
    }

    /// Appends the compressed payload and returns whether it succeeded. After `false` the content of `out` is
    /// undefined.
    fn compress_onto(&self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        if payload.len() < self.shared.config.threshold || payload.is_empty() {
            return false;
        }
        let level = flate2::Compression::new(self.shared.config.level);
        self.shared.compressors.with(
            || Compress::new(level, false),
            Compress::reset,
            |compressor| run(compressor, payload, out),
        )
    }
}

/// Deflates `payload` up to a sync flush and removes the flush's tail. Returns `false` if that would not
/// shrink it.
fn run(compressor: &mut Compress, payload: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    // The result without its tail must be smaller than the payload.
    let max = payload.len() + TAIL.len();
    let mut rest = payload;
    out.reserve_exact((payload.len() / 4).max(256).min(max));
    loop {
        let before = compressor.total_in();
        let Ok(status) = compressor.compress_vec(rest, out, FlushCompress::Sync) else { return false };
        rest = &rest[(compressor.total_in() - before) as usize..];
        let written = out.len() - start;
        if written >= max {
            return false;
        }
        if status == Status::BufError || out.len() < out.capacity() {
            break;
        }
        out.reserve_exact(written.min(max - written));
    }
    if !rest.is_empty() || !out[start..].ends_with(&TAIL) {
        return false;
    }
    out.truncate(out.len() - TAIL.len());
    true
}

impl Default for Deflate {
    fn default() -> Self {
        Self::new(DeflateConfig::default())
    }
}

impl fmt::Debug for Deflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflate").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// The end of a sync flush, which is not sent (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
