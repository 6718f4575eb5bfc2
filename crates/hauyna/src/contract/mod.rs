//! Contracts: the types of messages, written down for clients in other languages.
//!
//! A [`Contract`] names the events, client requests and channels of an application with their Rust types. It
//! writes JSON Schema, AsyncAPI and TypeScript, and [`Contract::check`] compares it with a handler. Nothing
//! of it runs while messages are served. The guide is [contract](crate::guide::contract).
//
// Contracts: the types of the messages between clients and the application. An application declares a
// `Contract` beside its handlers. `channel` is the part for one pattern and `client_request` that for one
// client request; `declared` holds a type with its schema, and `definitions` merges the named types.
// `document` writes and reads JSON Schema, `typescript` (with `types`) and `async_api` generate their
// formats from it, and `check` compares a contract with a handler. Nothing here runs while messages are
// served.

mod async_api;
mod builder;
mod channel;
mod check;
mod client_request;
mod declared;
mod definitions;
mod document;
mod types;
mod typescript;

#[cfg(test)]
mod tests;

pub use builder::Contract;
pub use channel::ChannelContract;
pub use client_request::ClientRequestType;

use builder::{ChannelTerms, ContractTerms, Exchange, agreed};
