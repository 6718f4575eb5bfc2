//! permessage-deflate (RFC 7692): one [`Deflate`] serves all connections of an endpoint and owns the pools of
//! compressors and decompressors. `compress` compresses our frames, `negotiate` does the handshake, and
//! `inflate` decompresses the peer's messages.

mod compress;
mod config;
mod inflate;
mod negotiate;
mod parameters;
mod pool;

pub use compress::Deflate;
pub use config::{DeflateConfig, Takeover};
pub use inflate::Inflate;
pub use negotiate::{DeflateRefused, Negotiated, PeerWindow};
