//! The types of `hauyna.v1` that users of this crate need: codes, kinds of error, positions. All of them are
//! re-exported from `hauyna_protocol`.

pub use hauyna_protocol::close::CloseCode;
pub use hauyna_protocol::received::{ChannelEvent, PresenceKind};
pub use hauyna_protocol::{Encoding, Epoch, ErrorType, HeartbeatTerms, Position, RetryTerms};
