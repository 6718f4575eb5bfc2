//! The words of `hauyna.v1` that users of this crate meet: codes, kinds of error, positions. All of them are
//! `hauyna_protocol`'s; nothing is defined here.

pub use hauyna_protocol::close::CloseCode;
pub use hauyna_protocol::received::{ChannelEvent, PresenceKind};
pub use hauyna_protocol::{Encoding, Epoch, ErrorType, HeartbeatTerms, Position, RetryTerms};
