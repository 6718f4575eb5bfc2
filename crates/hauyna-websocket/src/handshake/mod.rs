//! The opening handshake without I/O. A server collects the head of a request with [`HeadReader`], checks it
//! with [`check`] (or [`check_extended_connect`] on HTTP/2) and writes the answer of the [`Upgrade`] or of
//! the [`Refusal`]. A client sends the bytes of its [`ClientRequest`] and feeds the answer to its
//! [`ServerAnswer`].

mod accept_key;
mod check;
mod client;
mod head;
mod refusal;

pub use check::{Upgrade, check, check_extended_connect, wants_websocket, write_head};
pub use client::{Accepted, AnswerError, ClientRequest, InvalidRequest, ServerAnswer};
pub use head::{Head, HeadReader};
pub use refusal::Refusal;
