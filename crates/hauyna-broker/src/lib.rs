//! What a broker of [hauyna](https://docs.rs/hauyna) is made of: the trait [`Broker`] with its contract, the
//! publications that it numbers, keeps and relays, and the names of channels and users.
//!
//! Applications find the same names in `hauyna::broker`; the authors of brokers depend on this crate alone.
//
// The lowest floor of the server: it knows the protocol and the frames, and neither hubs nor connections.

mod answer;
mod contract;
mod error;
mod follow;
pub mod name;
mod publication;
mod relay;

pub use answer::{Answer, AnswerFuture, BoxFuture};
pub use contract::{
    Broker, Continuity, HistoryPage, HistoryRange, Order, Publish, Published, Repeat, Retention,
};
pub use error::{BrokerError, InvalidValue};
pub use follow::{Follower, MAX_HELD, MAX_HELD_BYTES};
pub use hauyna_protocol::{Epoch, Position};
pub use name::{ChannelName, ConnectionId, Target, UserId};
pub use publication::{Content, Draft, Publication, PublicationKind, Wire, unix_ms};
pub use relay::Relay;
