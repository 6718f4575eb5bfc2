//! permessage-deflate (RFC 7692): one [`Deflate`] serves all connections of an endpoint and owns the pools of
//! compressors and decompressors. What we send never relies on earlier messages, so that one compressed frame
//! serves every subscriber of a broadcast; `negotiate` agrees on it and `inflate` undoes the peer's.

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

/// How an endpoint compresses and what it lets its peers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateConfig {
    /// The compression level, 1 (fast) to 9 (small); 2 by default. Others are taken as the nearest of these.
    ///
    /// JSON of 4 KiB becomes 1,539 bytes in 10 µs at level 1, 1,027 in 18 at level 2 and 936 in 27 at level 6
    /// (`cargo bench -p hauyna-websocket`); one compression serves a whole broadcast.
    pub level: u32,
    /// Payloads of fewer bytes are sent plain; 256 by default.
    ///
    /// A compressor has to clear its tables for each message whatever its length, and every receiver pays for
    /// an inflation; below this, what is saved seldom spares a segment on the wire.
    pub threshold: usize,
    /// The largest LZ77 window the peer is asked to compress with, as a power of two, 9–15; 15 by default.
    /// Others are taken as the nearest of these: RFC 7692 §7.1.2 allows 8, which zlib cannot do.
    ///
    /// It spares the peer's memory. Ours is the same for every window, and a client that does not offer
    /// `client_max_window_bits` cannot be asked.
    pub max_window_bits: u8,
    /// Whether the peer may refer to its earlier messages; [`Takeover::None`] by default.
    pub takeover: Takeover,
    /// Refuses messages that inflate beyond 64 KiB by more than this factor; `None`, the default, leaves it to
    /// [`Limits::message`](crate::Limits::message) alone. Deflate reaches 1,032; honest logs reach 50.
    pub ratio_limit: Option<u32>,
}

impl Default for DeflateConfig {
    fn default() -> Self {
        Self { level: 2, threshold: 256, max_window_bits: 15, takeover: Takeover::None, ratio_limit: None }
    }
}

/// Whether the peer may compress a message with references into its earlier ones (RFC 7692 §7.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Takeover {
    /// It may not: decompressors are taken from the pool for the time of one message, and an idle connection
    /// costs nothing.
    None,
    /// It may: each connection that negotiated it keeps a decompressor of 46 KiB (measured; most of it is the
    /// window of 32 KiB), and length oracles across messages (RFC 7692 §8) are the application's to avoid.
    Allowed,
}

/// The compression of an endpoint, shared by all its connections; clones are handles on the same pools.
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
    /// Makes the pools; they are empty and keep at most as many states as there are processors.
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

    /// Compresses a payload by itself, with a window of 32 KiB, into what follows RSV1 (RFC 7692 §7.2.1).
    ///
    /// `None` means that it is better sent plain: it is below the threshold, or does not shrink.
    #[must_use]
    pub fn compress(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.compress_onto(payload, &mut out).then_some(out)
    }

    /// Encodes a whole unmasked frame, compressed where that is worth it.
    ///
    /// Whether a peer takes compressed frames of this length is up to its [`PeerWindow`].
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

    /// Appends the compressed payload and tells whether it did; `false` leaves `out` in any state.
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

/// Deflates `payload` up to a sync flush and cuts the flush's tail off; `false` when that would not shrink it.
fn run(compressor: &mut Compress, payload: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    // What is not smaller than the payload once its tail is cut off is of no use.
    let most = payload.len() + TAIL.len();
    let mut rest = payload;
    out.reserve_exact((payload.len() / 4).max(256).min(most));
    loop {
        let before = compressor.total_in();
        let Ok(status) = compressor.compress_vec(rest, out, FlushCompress::Sync) else { return false };
        rest = &rest[(compressor.total_in() - before) as usize..];
        let written = out.len() - start;
        if written >= most {
            return false;
        }
        if status == Status::BufError || out.len() < out.capacity() {
            break;
        }
        out.reserve_exact(written.min(most - written));
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

/// The end of a sync flush, which does not travel (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
