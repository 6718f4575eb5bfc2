//! The receiving side of permessage-deflate: bounded inflation of one complete message at a time. A message
//! is inflated when its last byte has arrived, so a slow sender occupies its compressed bytes but no
//! decompressor. The output is checked against the limit after every step, and each step at most doubles it.

use std::fmt;
use std::sync::Arc;

use flate2::{Decompress, FlushDecompress, Status};

use super::compress::{Shared, TAIL};
use crate::ProtocolError;

/// The inflation of one peer's messages: a result of the negotiation, for
/// [`Decoder::with_inflate`](crate::Decoder::with_inflate).
///
/// Without context takeover it is two words and borrows a decompressor from the pool for each message. With
/// context takeover it owns a decompressor of 46 KiB for its lifetime.
pub struct Inflate {
    shared: Arc<Shared>,
    exclusive: Option<Box<Decompress>>,
}

impl Inflate {
    pub(super) fn pooled(shared: Arc<Shared>) -> Self {
        Self { shared, exclusive: None }
    }

    pub(super) fn with_takeover(shared: Arc<Shared>) -> Self {
        // A window of 15 bits covers the references of a stream with fewer bits, and zlib-rs needs no less
        // memory for those.
        Self { shared, exclusive: Some(Box::new(Decompress::new(false))) }
    }

    /// Replaces the content of `out` with the message, of at most `limit` bytes.
    pub(crate) fn inflate(
        &mut self,
        deflated: &[u8],
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        out.clear();
        // Some senders send nothing for the empty message, which is one zero byte by RFC 7692 §7.2.3.6.
        if deflated.is_empty() {
            return Ok(());
        }
        let mut run =
            Run { limit, ratio: self.shared.config.ratio_limit, deflated: deflated.len(), out, ends: 0 };
        match &mut self.exclusive {
            Some(inflater) => run.message(inflater, deflated, &TAIL),
            None => self.shared.inflaters.with(
                || Decompress::new(false),
                |pooled| pooled.reset(false),
                |pooled| run.message(pooled, deflated, &CLOSING_TAIL),
            ),
        }
    }
}

impl fmt::Debug for Inflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflate").field("takeover", &self.exclusive.is_some()).finish_non_exhaustive()
    }
}

/// The inflation of one message.
struct Run<'a> {
    limit: usize,
    ratio: Option<u32>,
    deflated: usize,
    out: &'a mut Vec<u8>,
    /// Number of times that the stream has ended.
    ends: u32,
}

/// State of a stream when its input is consumed.
#[derive(PartialEq, Eq)]
enum Stands {
    Open,
    Ended,
}

impl Run<'_> {
    /// Inflates the payload and the tail that its sender removed (RFC 7692 §7.2.2).
    fn message(
        &mut self,
        stream: &mut Decompress,
        deflated: &[u8],
        tail: &[u8],
    ) -> Result<(), ProtocolError> {
        // A sender that sets BFINAL on its last block (§7.2.3.4) and omits the byte after it needs no tail.
        if self.part(stream, deflated)? == Stands::Ended {
            return Ok(());
        }
        // The closing tail ends a stream that is between two blocks; inside a block it would be read as data.
        if self.part(stream, tail)? == Stands::Open && tail.len() > TAIL.len() {
            return Err(ProtocolError::CorruptDeflate);
        }
        Ok(())
    }

    fn part(&mut self, stream: &mut Decompress, mut input: &[u8]) -> Result<Stands, ProtocolError> {
        loop {
            self.make_room();
            let (read, room) = (stream.total_in(), self.out.capacity() - self.out.len());
            let before = self.out.len();
            let status = stream
                .decompress_vec(input, self.out, FlushDecompress::Sync)
                .map_err(|_| ProtocolError::CorruptDeflate)?;
            let taken = (stream.total_in() - read) as usize;
            input = &input[taken..];
            self.check()?;
            let written = self.out.len() - before;
            if status == Status::StreamEnd {
                stream.reset(false);
                self.ends += 1;
                if self.ends > MAX_ENDS {
                    return Err(ProtocolError::CorruptDeflate);
                }
                if input.is_empty() {
                    return Ok(Stands::Ended);
                }
            } else if written < room {
                return if input.is_empty() { Ok(Stands::Open) } else { Err(ProtocolError::CorruptDeflate) };
            }
        }
    }

    /// Doubles the output, up to one byte above the limit: that byte separates "too big" from "just fits". If
    /// less than another step would remain, all of it is reserved at once, since each step may copy
    /// everything.
    fn make_room(&mut self) {
        if self.out.len() < self.out.capacity() {
            return;
        }
        let remaining = self.limit.saturating_add(1).saturating_sub(self.out.len()).max(1);
        let step = match self.out.len() {
            0 => self.deflated.saturating_mul(4).clamp(FIRST_STEP, LARGEST_FIRST_STEP),
            held => held,
        };
        self.out.reserve_exact(if remaining.saturating_sub(step) < step { remaining } else { step });
    }

    fn check(&self) -> Result<(), ProtocolError> {
        let len = self.out.len();
        if len > self.limit {
            return Err(ProtocolError::MessageTooBig);
        }
        match self.ratio {
            Some(ratio) if len > RATIO_FROM && len / self.deflated > ratio as usize => {
                Err(ProtocolError::RatioTooHigh)
            }
            _ => Ok(()),
        }
    }
}

/// The tail and a final empty block, which prove that a message is complete and self-contained.
const CLOSING_TAIL: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];
/// Maximum number of stream ends in a message. RFC 7692 §7.2.3.4 allows them, but each costs us a reset and
/// the peer only two bytes.
const MAX_ENDS: u32 = 16;
/// Size in bytes from which the ratio of a message is checked.
const RATIO_FROM: usize = 64 << 10;
/// Bounds in bytes of the first step of output.
const FIRST_STEP: usize = 256;
const LARGEST_FIRST_STEP: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Deflate, DeflateConfig};

    #[test]
    fn a_bomb_takes_no_more_memory_than_the_limit() {
        let deflate = Deflate::new(DeflateConfig { level: 9, ..DeflateConfig::default() });
        let bomb = deflate.compress(&vec![0; 32 << 20]).unwrap();
        for limit in [0, 1, 1000, 64 << 10, 1 << 20] {
            let mut inflate = Inflate::pooled(Arc::clone(&deflate.shared));
            let mut out = Vec::new();
            assert_eq!(inflate.inflate(&bomb, limit, &mut out), Err(ProtocolError::MessageTooBig));
            assert!(out.capacity() <= limit + 1, "{} for {limit}", out.capacity());
        }
    }

    #[test]
    fn a_small_message_takes_little_memory_under_a_large_limit() {
        let deflate = Deflate::default();
        let deflated = deflate.compress(&[b'a'; 1000]).unwrap();
        let mut out = Vec::new();
        Inflate::pooled(Arc::clone(&deflate.shared)).inflate(&deflated, 64 << 20, &mut out).unwrap();
        assert_eq!(out, [b'a'; 1000]);
        assert!(out.capacity() <= 2048, "{}", out.capacity());
    }
}
