//! The WebSocket protocol without I/O: RFC 6455 and permessage-deflate (RFC 7692), for servers and clients.
//!
//! Bytes go in, events come out; frames are made as bytes. Nothing here reads, writes, waits or spawns, so
//! the same code runs under any runtime, in tests and in fuzzers.
//!
//! ```
//! use hauyna_websocket::{Decoder, Event, Limits, OpCode, ProtocolError, Role, encode, encode_into};
//!
//! /// Answers what a client sent: an echo over two byte buffers.
//! fn echo(decoder: &mut Decoder, received: &mut [u8], reply: &mut Vec<u8>) -> Result<(), ProtocolError> {
//!     let mut events = decoder.feed(received);
//!     while let Some(event) = events.next()? {
//!         match event {
//!             Event::Text(text) => encode_into(reply, OpCode::Text, text.as_bytes(), None),
//!             Event::Binary(bytes) => encode_into(reply, OpCode::Binary, bytes, None),
//!             Event::Ping(bytes) => encode_into(reply, OpCode::Pong, bytes, None),
//!             Event::Pong(_) | Event::Close(_) => {}
//!         }
//!     }
//!     Ok(())
//! }
//!
//! let mut received = Vec::new();
//! encode_into(&mut received, OpCode::Text, b"hello", Some([1, 2, 3, 4])); // a client masks
//! let mut decoder = Decoder::new(Role::Server, Limits::default());
//! let mut reply = Vec::new();
//! let (start, end) = received.split_at_mut(4); // reads may be cut anywhere
//! echo(&mut decoder, start, &mut reply)?;
//! assert!(decoder.is_mid_message());
//! echo(&mut decoder, end, &mut reply)?;
//! assert_eq!(reply, encode(OpCode::Text, b"hello"));
//! # Ok::<(), ProtocolError>(())
//! ```
//!
//! # Design
//!
//! - **Lending.** [`Decoder::feed`] takes the read buffer by `&mut`, unmasks in it and lends payloads from
//!   it. Only what is incomplete when the input ends is copied. An idle [`Decoder`] holds no heap memory, so
//!   one read buffer per thread serves any number of connections.
//! - **Strict and early.** A fault is reported at the first byte that shows it, limits are applied to the
//!   length a header claims, and memory follows the bytes that arrive. After a fault or a close frame nothing
//!   is parsed.
//! - **Encode once.** [`encode`], [`FrameBuilder`] and [`Deflate::frame`] give [`bytes::Bytes`], which a
//!   broadcast shares. Compression never refers to earlier messages, so that holds for compressed frames too;
//!   which peers take them is the [`PeerWindow`] of each.
//! - **Pools.** zlib states are borrowed for one message from the endpoint's [`Deflate`] and reset before
//!   they are given back. Context takeover for the receiving direction is there for those who pay its memory.
//! - **Not here.** Deadlines (see [`Decoder::is_mid_message`]), answering pings, Origin and authorisation.

mod close;
mod decoder;
mod deflate;
mod encode;
mod error;
mod frame;
pub mod handshake;
mod mask;
mod message;
mod token;

pub use close::CloseCode;
pub use decoder::{Decoder, Event, Events};
pub use deflate::{Deflate, DeflateConfig, DeflateRefused, Inflate, Negotiated, PeerWindow, Takeover};
pub use encode::{FrameBuilder, FrameHead, close_frame, encode, encode_into};
pub use error::ProtocolError;
pub use frame::{Compression, Fragment, Limits, OpCode, Role};
