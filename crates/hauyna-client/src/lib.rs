//! The Rust client of [hauyna](https://github.com/hauyna/hauyna): channels, presence and requests over a
//! connection that reconnects by itself.
//!
//! [`Client`] is the handle, [`Channel`] a handle on one channel, [`Stream`] what happens in either, and
//! [`Call`] a request before it is sent. One task does the work (`run`): it connects (`socket`, `backoff`,
//! `liveness`), keeps what survives a socket (`session`, `outbox`, `presence`: pure data), and distributes
//! what it receives (`stream`).

#![doc = include_str!("../README.md")]

mod backoff;
mod builder;
mod call;
mod channel;
mod client;
mod clock;
mod codec;
mod connector;
mod direct;
mod error;
mod events;
mod gap;
mod history;
mod liveness;
mod logger;
mod outbox;
mod presence;
pub mod protocol;
mod publication;
mod random;
mod run;
mod session;
mod shared;
mod socket;
mod stream;
mod subscription;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/client-rust.md")]
struct Guide;

pub use builder::Builder;
pub use call::Call;
pub use channel::{Channel, PresenceUpdate};
pub use client::{Client, SessionInfo, State};
pub use connector::{Connecting, Connector, Endpoint, Transport};
pub use direct::{Direct, DirectMessage};
pub use error::{Closed, Error, InvalidUrl, Refusal, StreamError};
pub use events::ClientEvent;
pub use gap::{Gap, GapReason};
pub use history::{HistoryMessages, HistoryRequest, OlderPages};
pub use presence::{ChannelPresence, Device, Member, Presence};
pub use publication::Publication;
pub use stream::Stream;
pub use subscription::{SubscribeBuilder, Subscription};
