//! Brokers, which number publications, keep their history and distribute them; and how to write one.
//!
//! Every hub has a [`LocalBroker`], which keeps everything in this process, within [`LocalBrokerOptions`].
//! Another one implements [`Broker`], is set by [`HubBuilder::broker`](crate::HubBuilder::broker), and is
//! tested by the suite `hauyna_test::broker_contract`. The guide is [History and
//! recovery](crate::guide::channels#history-and-recovery).
//
// The broker numbers publications, keeps their history, and passes each to every node that has subscribers.
// This file is the contract; `local` keeps everything in this process. `channel` calls it, through
// `hub::broker_calls`; it calls back only through `Relay`.

mod keys;
mod local;
mod stream;
mod streams;

pub use hauyna_broker::{
    Answer, AnswerFuture, Beat, BoxFuture, Broker, BrokerError, Change, Continuity, Directory, Epoch, Field,
    Follower, Followers, HistoryPage, HistoryRange, HistoryRead, InvalidValue, Lease, MapChange, MapName,
    MapPage, MapRange, MapVersion, NodeId, Nodes, Only, Order, Publish, Published, Put, Relay, Repeat,
    Retention, Swept,
};
pub use local::{LocalBroker, LocalBrokerOptions};
