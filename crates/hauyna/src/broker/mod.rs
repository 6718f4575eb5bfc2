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

mod contract;
mod keys;
mod local;
mod relay;
mod stream;
mod streams;

pub use crate::answer::{Answer, AnswerFuture, BoxFuture};
pub use crate::error::BrokerError;
pub use contract::{
    Broker, Continuity, HistoryPage, HistoryRange, Order, Publish, Published, Repeat, Retention,
};
pub use hauyna_protocol::Epoch;
pub use local::{LocalBroker, LocalBrokerOptions};
pub use relay::Relay;
