//! Brokers, which number, keep and distribute publications; and how to write one.
//
// The broker numbers publications, keeps their history, and passes each to every node that has subscribers.
// This file is the contract; `local` keeps everything in this process. `channel` calls it, through
// `hub::broker_calls`; it calls back only through `Relay`.

mod keys;
mod local;
mod stream;
mod streams;

pub use hauyna_broker::{
    Answer, AnswerFuture, BoxFuture, Broker, BrokerError, Continuity, Epoch, HistoryPage, HistoryRange,
    Order, Publish, Published, Relay, Repeat, Retention,
};
pub use local::{LocalBroker, LocalBrokerOptions};
