//! What applications on hauyna are tested with, and hauyna itself.
//!
//! A [`TestServer`] serves a hub on a free port of this machine, a [`MemoryServer`] over pipes in memory,
//! where [`advance`] lets hours pass in milliseconds; a [`Client`] is a real WebSocket client that says what
//! it expects and fails loudly. A [`FaultProxy`] is a network that fails, a [`WrappedBroker`] a broker that
//! does. [`broker_contract`] is the suite that every [`Broker`](hauyna::broker::Broker) must pass, and
//! [`alloc`] counts heap memory. The guide is `docs/testing.md`.
//!
//! ```
//! use hauyna::{ChannelOptions, Handler, Hub, json};
//! use hauyna_test::TestServer;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let hub = Hub::builder().channels("news", ChannelOptions::new()).build();
//! let server = TestServer::start(hub.clone(), Handler::new());
//! let mut reader = server.json("/").await;
//! reader.expect("session").await;
//!
//! assert_eq!(reader.subscribe("news").await["offset"], 0);
//! hub.channel("news").broadcast(json!({ "headline": "It runs" })).await.unwrap();
//! assert_eq!(reader.expect("message").await["content"]["headline"], "It runs");
//! reader.close(1000, "").await;
//! # }
//! ```

pub mod alloc;
pub mod broker_contract;
mod client;
mod clock;
pub mod directory_contract;
mod located;
mod memory;
mod memory_engine;
mod proxy;
mod random;
mod server;
mod wrapped_broker;

pub use client::{Client, Connect, Frame, Refused};
pub use clock::{advance, settle};
pub use memory::MemoryServer;
pub use memory_engine::{EngineFaults, MemoryBroker, MemoryEngine};
pub use proxy::{Behaviour, Cut, Direction, Fault, FaultProxy, Faults, Link, Schedule};
pub use random::Random;
pub use server::TestServer;
pub use wrapped_broker::WrappedBroker;
