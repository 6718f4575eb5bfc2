//! The sending side of permessage-deflate, and the pools that one endpoint shares. Our frames never refer to
//! earlier messages, so one compressed frame serves all subscribers of a broadcast.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use flate2::{Compress, Decompress, FlushCompress, Status};

use super::DeflateConfig;
use super::pool::Pool;
use crate::{Compression, FrameBuilder, OpCode, encode};

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
    pub(super) shared: Arc<Shared>,
}

/// The options and the pools of one endpoint, shared by all its connections.
pub(super) struct Shared {
    pub(super) config: DeflateConfig,
    compressors: Pool<Compress>,
    pub(super) inflaters: Pool<Decompress>,
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
    /// [`PeerWindow`](super::PeerWindow) says whether a peer can inflate compressed frames of this length.
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
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
