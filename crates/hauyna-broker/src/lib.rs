//! What a broker of [hauyna](https://docs.rs/hauyna) is made of: the trait [`Broker`] with its contract, the
//! publications that it numbers, keeps and relays, and the names of channels and users; the trait
//! [`Directory`] of brokers that many nodes share; and [`Followers`], which make a relay that loses, repeats
//! or reorders exact.
//!
//! Applications find the same names in `hauyna::broker`; the authors of brokers depend on this crate alone.
//
// The lowest floor of the server: it knows the protocol and the frames, and neither hubs nor connections.

mod answer;
mod contract;
mod directory;
mod error;
mod follow;
mod followers;
pub mod name;
mod publication;
mod relay;

pub use answer::{Answer, AnswerFuture, BoxFuture};
pub use contract::{
    Broker, Continuity, HistoryPage, HistoryRange, Order, Publish, Published, Repeat, Retention,
};
pub use directory::{
    Beat, Change, Directory, Field, Lease, MapChange, MapPage, MapRange, MapVersion, NodeId, Nodes, Only,
    Put, Swept,
};
pub use error::{BrokerError, InvalidValue};
pub use follow::{Follower, MAX_HELD, MAX_HELD_BYTES};
pub use followers::{Followers, HistoryRead};
pub use hauyna_protocol::{Epoch, Position};
pub use name::{ChannelName, ConnectionId, MapName, Target, UserId};
pub use publication::{Content, Draft, Publication, PublicationKind, Wire, unix_ms};
pub use relay::Relay;
