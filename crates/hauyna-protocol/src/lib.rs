//! The wire protocol `hauyna.v1`, as `PROTOCOL.md` describes it, in JSON and in MessagePack.
//!
//! - A frame comes in: [`decode`] gives an [`Incoming`] request, validated and borrowed, or a [`Fault`].
//! - A [`Message`] goes out: [`Message::encode`] appends it to a buffer.
//! - A client's way is the other one: [`Request::encode`], and [`received::Received`] for what comes back.
//! - Payloads stay [`Raw`] in between. They are checked once and spliced, never parsed and written again.
//!
//! What is read from a peer ([`received`]) and sums of cases that later versions extend are
//! `#[non_exhaustive]`. The structs that are written are not: who writes a message fills in each field, and
//! the compiler names a new one.
//!
//! No I/O, no async, no state between two calls.

#![doc = include_str!("../README.md")]

mod application;
pub mod close;
mod encode;
mod encoding;
mod error_type;
mod fault;
mod fields;
mod id;
mod json;
mod limits;
mod message;
mod msgpack;
mod position;
mod presence;
mod raw;
pub mod received;
mod request;
mod reserved;
mod write;

pub use application::{Application, OwnFields, Shape};
pub use encoding::{BEARER_PREFIX, Encoding, RESUME_PREFIX, SUBPROTOCOL_JSON, SUBPROTOCOL_MESSAGE_PACK};
pub use error_type::{ErrorType, UnknownErrorType};
pub use fault::Fault;
pub use id::RequestId;
pub use limits::Limits;
pub use message::{
    AckData, ChannelEvent, ChannelEventMessage, ClientEvent, Direct, ErrorMessage, FailedSubscription,
    HeartbeatTerms, Message, Publication, Recovery, ResumeTerms, RetryTerms, Session, SessionLimits,
    Subscribed,
};
pub use position::{Epoch, Position, RecoveryFailure};
pub use presence::{
    PresenceChange, PresenceConnection, PresenceDiff, PresenceEntry, PresenceEvent, PresencePage,
    PresenceState,
};
pub use raw::Raw;
pub use request::{Direction, Incoming, Request, decode};
pub use reserved::is_reserved_type;
